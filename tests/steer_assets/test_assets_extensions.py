"""A kind of part from another package through Dagster: its node, its tables, its plans; nothing where it is not used."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from schemas import Artifacts, PartTensors
from steer_assets.assets import nodes_of
from steer_assets.settings import registry
from steer_core import extensions
from steer_core.methods.fitting import tensors_from
from steer_core.tables.errors import ConfigError
from steer_core.tables.snapshot import read_table

FOLDER = Path(__file__).parents[1] / "fixtures" / "extensions"
PART = {"kind": "logit-bias", "goal": "formality", "scale": 4.0}
METHODS = {"biased": {"parts": [{"kind": "prompt", "strategy": "direct"}, PART]}}
SHARED, GRID, BIASED = "group:small_shared", "group:small_cells", "biased|embedded"


@pytest.fixture
def extended(workplace, monkeypatch):
    """The small bench with the toy part's folder among its extensions; gone afterwards."""
    monkeypatch.setattr(extensions, "_FOLDERS", [])
    extensions.available.cache_clear()
    shutil.copytree(FOLDER, workplace.folder / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    (workplace.folder / "extensions.yaml").write_text("folders: [mine]\n")
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "biased"], "goals": ["formality", "text_length"]}
    workplace.configure(methods=METHODS)
    yield workplace
    monkeypatch.undo()
    extensions.available.cache_clear()


def test_a_part_of_another_package_gets_its_node_is_fitted_and_steers(extended):
    names = [n.name for n in nodes_of(registry().bench("small")).all]
    assert names[names.index("fit_responses") + 1] == "logit_biases"
    assert "vectors" not in names
    extended.materialize(SHARED)
    status, _ = extended.materialize(GRID, BIASED)
    assert {status[t] for t in ("logit_biases", "logit_biases_tensors", "artifacts", "responses")} == {"written"}
    (item,) = read_table(str(extended.table("logit_biases", BIASED)), Artifacts).to_dicts()
    ((digest, bias),) = tensors_from(
        read_table(str(extended.table("logit_biases_tensors", BIASED)), PartTensors)
    ).items()
    assert json.loads(item["body"]) == {"tensor": digest}
    assert bias.std() > 0
    # every plan of a request that asks for the goal carries the rule, and refers to what was learnt
    responses = pl.read_parquet(extended.table("responses", BIASED), hive_partitioning=False)
    rules = [json.loads(plan).get("extensions") for plan in responses["plan"]]
    assert any(rules)
    assert all(r[0]["tensors"] == {"bias": digest} for r in rules if r)
    page = (extended.root / "small/report/model=embedded/method=biased/report.html").read_text()
    assert "<html" in page
    # nothing is learnt twice, and only what follows from the part is made again when its settings change
    assert set(extended.materialize(GRID, BIASED)[0].values()) == {"unchanged"}


def test_a_cell_without_the_part_makes_nothing_for_it_and_a_bench_without_it_has_no_node(extended):
    extended.materialize(SHARED)
    status, _ = extended.materialize(GRID, "rewrite|embedded")
    assert not {"logit_biases", "logit_biases_tensors", "artifacts"} & set(status)
    extended.bench = {**extended.bench, "methods": ["rewrite"]}
    extended.configure()
    assert "logit_biases" not in [n.name for n in nodes_of(registry().bench("small")).all]


def test_an_engine_of_another_package_runs_cells_holds_no_device_and_is_asked_only_what_it_can(extended, monkeypatch):
    from steer_assets import compute, devices
    from steer_assets.partitions import all_cells

    (extended.folder / "models.yaml").write_text("echo: {source: embedded, engine: echo}\n")
    extended.bench = {
        **extended.bench,
        "models": ["echo"],
        "methods": ["rewrite", "direct", "biased", "direct-with-vector"],
    }
    extended.configure(methods=METHODS)
    assert compute.device_of(registry().model("echo")) is None
    why = {c.method.name: c.why_impossible() for c in all_cells(registry().bench("small"))}
    assert why["direct"] is None
    assert why["biased"] == "biased on echo: echo backend cannot carry out the extension 'logit-bias'"
    assert why["direct-with-vector"] == (
        "direct-with-vector on echo: echo backend cannot apply interventions; use transformers or vllm"
    )
    # nobody waits for a device
    monkeypatch.setattr(devices.Devices, "_wait", lambda *_: pytest.fail("a remote engine needs no lease"))
    extended.materialize(SHARED)
    status, _ = extended.materialize(GRID, "direct|echo")
    assert status["responses"] == status["report"] == "written"
    responses = pl.read_parquet(extended.table("responses", "direct|echo"), hive_partitioning=False)
    assert set(responses["execution"]) == {"echo 1"}
    compute.let_go()


def test_a_vector_after_the_part_is_tried_under_it_and_cells_without_either_stay_up_to_date(extended):
    from steer_assets.partitions import all_cells
    from steer_assets.settings import storage_root
    from steer_assets.status import State, status_of

    extended.bench = {**extended.bench, "methods": ["rewrite"]}
    extended.configure(methods=METHODS)
    extended.materialize(SHARED)
    extended.materialize(GRID, "rewrite|embedded")
    vector = {"kind": "vector", "estimator": "mean-difference", "unit": "residual_fraction", "strengths": [-0.3, 0.3]}
    both = {"parts": [{"kind": "prompt", "strategy": "direct"}, PART, vector]}
    probes = [
        {"name": "main", "n_texts": 4, "n_goals_per_text": 2, "active": 2, "weighting": "none"},
        {"name": "pool", "split": "train", "n_texts": 24, "n_goals_per_text": 4, "active": 1, "weighting": "none"},
    ]
    extended.bench = {**extended.bench, "methods": ["rewrite", "biased", "both"]}
    extended.configure(methods={**METHODS, "both": both})
    bench = registry().bench("small")
    nodes = nodes_of(bench)
    names = [n.name for n in nodes.all]
    assert names.index("logit_biases") < names.index("vectors")
    assert "logit_biases" in nodes.upstream(next(n for n in nodes.all if n.name == "vectors"))
    # two kinds have come to the bench, and a cell that has neither follows from neither
    states = {c.method.name: status_of(c, nodes, storage_root()) for c in all_cells(bench)}
    assert states["rewrite"].state is State.CURRENT, states["rewrite"]
    extended.configure(
        methods={**METHODS, "both": both}, probes=probes, decoding={"max_new_tokens": 120},
        corpus={"sources": [{"kind": "grammar", "n_texts": 200, "seed": 3}], "min_words": 10},
    )  # fmt: skip
    extended.materialize(SHARED)
    extended.materialize(GRID, "rewrite|embedded")
    status, _ = extended.materialize(GRID, "both|embedded")
    assert status["dose_response"] == status["responses"] == "written"
    plans = [json.loads(p) for p in pl.read_parquet(extended.table("responses", "both|embedded"))["plan"]]
    assert any(p.get("extensions") and p.get("interventions") for p in plans)


def test_two_methods_that_order_kinds_differently_are_refused(extended):
    vector = {"kind": "vector", "estimator": "mean-difference", "unit": "raw"}
    one, other = {"parts": [PART, vector]}, {"parts": [vector, PART]}
    extended.bench = {**extended.bench, "methods": ["rewrite", "one", "other"]}
    extended.configure(methods={"one": one, "other": other})
    with pytest.raises(ConfigError, match="in different orders, and one node fits a kind for all of them"):
        nodes_of(registry().bench("small"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("fit_outcomes", "fit_outcomez"), "step 'logit_biases' needs table 'fit_outcomez', which nothing"),
        (('NODE = "logit_biases"', 'NODE = "outcomes"'), "both make a table 'outcomes'"),
        (('NODE = "logit_biases"', 'NODE = "plans"'), "two nodes are called 'plans'"),
    ],
)
def test_a_kind_whose_tables_do_not_fit_the_bench_is_refused_in_words(extended, change, message, monkeypatch):
    import sys

    file = extended.folder / "mine" / "parts" / "logit_bias.py"
    file.write_text(file.read_text().replace(*change))
    monkeypatch.delitem(sys.modules, "steerworks_extension_parts_logit_bias", raising=False)
    extensions.available.cache_clear()
    with pytest.raises(ConfigError, match=message):
        nodes_of(registry().bench("small"))
    monkeypatch.delitem(sys.modules, "steerworks_extension_parts_logit_bias", raising=False)
