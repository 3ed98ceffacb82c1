"""Adapters as cells: trained, taken up after a kill, measured state by state; and those from elsewhere in one line."""

import json
import re
import shutil

import polars as pl
import pytest

from schemas import (
    Adapters,
    CheckpointTrials,
    Outcomes,
    ProbeArms,
    TrainingLog,
    TrainingMeasures,
    TrainingSamples,
)
from schemas.specs import MethodSpec
from steer_assets import compute
from steer_assets.__main__ import main
from steer_assets.partitions import all_cells
from steer_assets.planned import plan_cells
from steer_assets.preflight import check_bench
from steer_assets.settings import registry
from steer_core.tables.errors import ConfigError
from steer_core.tables.snapshot import read_table

SHARED, GRID, CELL = "group:small_shared", "group:small_cells", "tuned|embedded"
RECIPE = {
    "kind": "grpo",
    "preset": "embedded",
    "steps": 4,
    "checkpoints": 2,
    "prompts_per_step": 2,
    "completions": 4,
    "max_new_tokens": 64,
    "learning_rate": 0.01,
    "warmup": 0.0,
    "lora": {"rank": 4},
}
PROMPT = {"kind": "prompt", "strategy": "direct"}


def tuned(**more):
    return {"parts": [PROMPT, {"kind": "adapter", "recipe": {**RECIPE, **more}, "trial_texts": 3}]}


@pytest.fixture
def place(workplace):
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "direct", "tuned"]}
    workplace.configure(methods={"tuned": tuned()})
    workplace.materialize(SHARED)
    yield workplace
    compute.let_go()


def read(place, name, contract, cell=CELL):
    return read_table(str(place.table(name, cell)), contract)


def test_an_adapter_is_trained_tried_and_measured_at_every_state_and_a_rerun_does_nothing(place):
    status, result = place.materialize(GRID, CELL)
    assert status["adapters"] == status["checkpoint_trials"] == status["report"] == "written"
    rows = read(place, "adapters", Adapters)
    assert rows["step"].to_list() == [2, 4]
    assert rows["adapter"].n_unique() == 2
    assert rows["folder"].str.starts_with("adapter_states/").all()
    # what is named is there, says nothing of this machine, and is all there is
    for folder in rows["folder"]:
        files = {p.name for p in (place.root / "small" / folder).iterdir()}
        assert files == {"adapter_config.json", "adapter_model.safetensors"}
        settings = json.loads((place.root / "small" / folder / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == "embedded"
    log = read(place, "training_log", TrainingLog)
    assert set(log["step"]) == {1, 2, 3, 4}
    assert log.filter(measure="drift")["value"].max() < 1e-4
    samples = read(place, "training_samples", TrainingSamples)
    assert samples.height == 4 * 2 * 4
    # no text of the test probe, and none that states are tried on
    requests = pl.read_parquet(place.table("requests"), hive_partitioning=False)
    text_of = dict(requests.select("request_id", "text_id").iter_rows())
    tested = set(requests.filter(probe="main")["text_id"])
    trials = read(place, "checkpoint_trials", CheckpointTrials)
    assert set(trials["step"]) == {-1, 2, 4}
    tried = set(trials["text_id"])
    assert len(tried) == 3
    assert not {text_of[r] for r in samples["request_id"]} & (tested | tried)
    # every state is an arm of the probe, and the picked one the headline
    outcomes = read(place, "outcomes", Outcomes)
    assert outcomes["arm_id"].n_unique() == 4
    arms = read(place, "probe_arms", ProbeArms)
    assert arms["label"].to_list() == ["as it is used", "without the adapter", "step 2", "step 4"]
    bare = arms.filter(label="without the adapter")["arm_id"][0]
    means = trials.filter(pl.col("step") > 0).group_by("step").agg(pl.col("error").mean()).sort("error", "step")
    responses = pl.read_parquet(place.table("responses", CELL), hive_partitioning=False)
    plans = {r: json.loads(p) for r, p in responses.select("response_id", "plan").iter_rows()}
    assert all("adapter" not in plans[r] for r in outcomes.filter(arm_id=bare)["response_id"])
    worn = {plans[r]["adapter"] for r in outcomes.filter(arm_id="headline")["response_id"]}
    assert worn == {dict(rows.select("step", "adapter").iter_rows())[means["step"][0]]}
    # steps of training are observations: the interface draws them
    seen = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    assert [int(e.asset_observation_data.asset_observation.metadata["step"].value) for e in seen] == [1, 2, 3, 4]
    assert set(place.materialize(GRID, CELL)[0].values()) == {"unchanged"}


def test_an_adapter_from_elsewhere_is_a_method_in_one_line(place, tmp_path):
    place.materialize(GRID, CELL)
    rows = read(place, "adapters", Adapters)
    elsewhere = tmp_path / "elsewhere"
    for step, folder in rows.select("step", "folder").iter_rows():
        shutil.copytree(place.root / "small" / folder, elsewhere / f"checkpoint-{step}")
    place.bench = {**place.bench, "methods": ["direct", "found"]}
    place.configure(
        methods={"found": {"parts": [PROMPT, {"kind": "adapter", "folder": str(elsewhere), "trial_texts": 3}]}}
    )
    status, _ = place.materialize(GRID, "found|embedded")
    assert status["adapters"] == status["responses"] == "written"
    found = read(place, "adapters", Adapters, "found|embedded")
    assert found["adapter"].to_list() == rows["adapter"].to_list()
    assert found["recipe_hash"].to_list() == ["", ""]
    # the same adapters under the same prompt answer as those that were trained here
    ours, theirs = read(place, "outcomes", Outcomes), read(place, "outcomes", Outcomes, "found|embedded")
    assert sorted(ours["text_id"]) == sorted(theirs["text_id"])
    # prompt, adapter and vector are one method: doses are tried under prompt and adapter, rows carry both
    vector = {"kind": "vector", "estimator": "mean-difference", "layers": [1], "strengths": [-0.2, 0.2]}
    worn = {"kind": "adapter", "folder": str(elsewhere), "trial_texts": 3, "checkpoints_on_probe": False}
    place.bench = {**place.bench, "methods": ["direct", "pushed"]}
    place.configure(methods={"pushed": {"parts": [PROMPT, worn, vector]}})
    status, _ = place.materialize(GRID, "pushed|embedded")
    assert status["adapters"] == status["vectors"] == status["dose_response"] == status["report"] == "written"
    assert read(place, "outcomes", Outcomes, "pushed|embedded")["arm_id"].unique().to_list() == ["headline"]
    responses = pl.read_parquet(place.table("responses", "pushed|embedded"), hive_partitioning=False)
    both = [json.loads(p) for p in responses["plan"]]
    assert {p["adapter"] for p in both} <= set(rows["adapter"])
    doses = pl.read_parquet(place.table("dose_response", "pushed|embedded"), hive_partitioning=False)
    assert doses.height > 0
    # an adapter of another base is refused by name
    place.bench = {**place.bench, "methods": ["direct", "found"]}
    place.configure(
        methods={"found": {"parts": [PROMPT, {"kind": "adapter", "folder": str(elsewhere), "trial_texts": 3}]}}
    )
    config = elsewhere / "checkpoint-2" / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 8'))
    _, result = place.materialize(GRID, "found|embedded", raise_on_error=False)
    assert not result.success
    said = str(next(e for e in result.all_events if e.is_step_failure).event_specific_data.error)
    assert "checkpoint-2" in said


INHERITED = {
    "kind": "inheritance",
    "preset": "embedded",
    "samples": 4,
    "max_new_tokens": 48,
    "objectives": [{"metric": "length", "direction": "min"}],
    "floors": [{"metric": "meaning", "least": 0.1}],
    "epochs": 2,
    "batch": 4,
    "checkpoints": 2,
    "lora": {"rank": 4},
}


def test_active_inheritance_is_trained_tried_and_measured_and_its_control_draws_the_same(place):
    recipes = {"inherited": INHERITED, "by-chance": {**INHERITED, "select": "random"}}
    place.bench = {**place.bench, "methods": ["direct", *recipes]}
    place.configure(
        methods={n: {"parts": [PROMPT, {"kind": "adapter", "recipe": r, "trial_texts": 3}]} for n, r in recipes.items()}
    )
    kept, texts = {}, {}
    for name in recipes:
        cell = f"{name}|embedded"
        status, _ = place.materialize(GRID, cell)
        assert status["adapters"] == status["checkpoint_trials"] == status["report"] == "written"
        rows, log = read(place, "adapters", Adapters, cell), read(place, "training_log", TrainingLog, cell)
        assert rows.height == 2
        assert rows["step"].max() == log["step"].max()
        samples = read(place, "training_samples", TrainingSamples, cell)
        trials = read(place, "checkpoint_trials", CheckpointTrials, cell)
        assert set(trials["step"]) == {-1, *rows["step"]}
        # four answers to each request of the pool, none of a text that states are tried on
        assert samples.group_by("request_id").len()["len"].unique().to_list() == [4]
        assert not set(samples["request_id"]) & set(trials["request_id"])
        kept[name], texts[name] = samples.filter(state="kept"), samples["raw"].to_list()
        assert kept[name]["request_id"].is_unique().all()
        measures = read(place, "training_measures", TrainingMeasures, cell).filter(measure="metric:meaning")
        meant = dict(measures.select("sample", "value").iter_rows())
        assert all(meant[k] >= 0.1 for k in kept[name]["sample"])
        assert read(place, "probe_arms", ProbeArms, cell)["label"].to_list()[:2] == [
            "as it is used",
            "without the adapter",
        ]
        page = place.table("report", cell).with_name("report.html").read_text()
        best = [log.filter(measure=f"best_of:length:4{end}")["value"][0] for end in ("", ":low", ":high")]
        assert best[1] < best[0] < best[2]
        said = f"the best of 4 has {best[0]:.2f} [{best[1]:.2f} to {best[2]:.2f}]"
        assert said in page
        assert ("by chance: this is the control" in page) == (name == "by-chance")
        assert "is a trick, not steering" not in page
        assert set(place.materialize(GRID, cell)[0].values()) == {"unchanged"}
    assert texts["inherited"] == texts["by-chance"]
    # rewards are words, negated: the best are shorter than those of chance
    assert kept["inherited"]["reward"].mean() > kept["by-chance"]["reward"].mean()


LABELLED = {
    "kind": "steerlm",
    "preset": "embedded",
    "max_new_tokens": 96,
    "round_share": 1.0,
    "epochs": 1,
    "batch": 4,
    "iterations": 1,
    "iteration_share": 0.5,
    "answers": 2,
    "prompts_per_step": 2,
    "lora": {"rank": 4},
}


def test_steerlm_is_trained_under_labels_tried_and_measured_and_its_first_answers_are_those_of_another_prompt(place):
    labels = {"kind": "prompt", "strategy": "labels", "options": {"wording": "words"}}
    place.bench = {**place.bench, "methods": ["labelled", "by-labels"]}
    worn = {"kind": "adapter", "recipe": LABELLED, "trial_texts": 3}
    place.configure(methods={"by-labels": {"parts": [labels, worn]}})
    cell = "by-labels|embedded"
    status, _ = place.materialize(GRID, cell)
    assert status["adapters"] == status["checkpoint_trials"] == status["report"] == "written"
    rows, log = read(place, "adapters", Adapters, cell), read(place, "training_log", TrainingLog, cell)
    # conditioned training, a round, an iteration
    assert rows.height == 3
    assert rows["step"].max() == log["step"].max()
    samples = read(place, "training_samples", TrainingSamples, cell)
    assert samples["step"].unique().sort().to_list() == [1, *(s + 1 for s in rows["step"].sort()[:2])]
    measures = read(place, "training_measures", TrainingMeasures, cell)
    asked = measures.filter(pl.col("measure").str.starts_with("asked:"))
    assert asked.height
    assert asked["step"].min() > 1
    assert asked["value"].is_between(0, 5).all()
    trials = read(place, "checkpoint_trials", CheckpointTrials, cell)
    assert set(trials["step"]) == {-1, *rows["step"]}
    assert read(place, "probe_arms", ProbeArms, cell)["label"].to_list()[:2] == ["as it is used", "without the adapter"]
    responses = pl.read_parquet(place.table("responses", cell), hive_partitioning=False)
    plans = [json.loads(p) for p in responses["plan"]]
    assert any(p.get("adapter") in set(rows["adapter"]) for p in plans)
    assert all("<extra_id_2>" not in p["messages"][0]["content"] for p in plans)
    assert set(place.materialize(GRID, cell)[0].values()) == {"unchanged"}


def checked():
    bench = registry().bench("small")
    check_bench(bench, all_cells(bench))


def test_what_training_draws_is_in_the_plan(place):
    bench = registry().bench("small")
    cells = [c for c in all_cells(bench) if c.method.name == "tuned"]
    rows, _ = plan_cells(bench, cells)
    of = {r["of"]: r for r in rows.iter_rows(named=True)}["fit, adapters of adapter"]
    # four steps of two requests with four completions each, 64 tokens at most
    assert (of["calls at most"], of["new tokens at most"]) == (4 * 2 * 4, 4 * 2 * 4 * 64)
    place.configure(methods={"tuned": {"parts": [PROMPT, {"kind": "adapter", "recipe": INHERITED, "trial_texts": 3}]}})
    bench = registry().bench("small")
    rows, _ = plan_cells(bench, [c for c in all_cells(bench) if c.method.name == "tuned"])
    of = {r["of"]: r for r in rows.iter_rows(named=True)}["fit, adapters of adapter"]
    pool = bench.probe(bench.train_probe)
    answers = 4 * (pool.n_texts - 3) * pool.n_goals_per_text
    assert (of["calls at most"], of["new tokens at most"]) == (answers, answers * 48)


@pytest.mark.parametrize(
    ("prompt", "recipe", "said"),
    [
        ({"strategy": "direct"}, {}, "levels = 6 in words, and the method's is `direct`: give it this strategy"),
        (None, {}, "levels = 6 in words, and the method's is none"),
        ({"strategy": "labels"}, {}, "levels = 6 in words, and the method's strategy has levels = 10 in digits"),
        (
            {"strategy": "labels", "options": {"levels": 8}},
            {"wording": "digits", "levels": 10},
            "levels = 10 in digits, and the method's strategy has levels = 8 in digits",
        ),
    ],
)
def test_a_recipe_that_does_not_go_with_its_prompt_is_said_by_the_plan(
    workplace, capsys, monkeypatch, prompt, recipe, said
):
    monkeypatch.chdir(workplace.folder)
    parts = [] if prompt is None else [{"kind": "prompt", **prompt}]
    labelled = {"parts": [*parts, {"kind": "adapter", "recipe": {**LABELLED, **recipe}}]}
    workplace.configure(methods={"labelled": labelled})
    # whatever is planned: the configuration as a whole is not read
    assert main(["plan", "direct", "--bench", "small"]) == 2
    shown = " ".join("".join(capsys.readouterr()).split())
    assert "recipe 'steerlm' trains under the prompt strategy `labels` with " + said in shown
    assert "methods.yaml" in shown
    assert "labelled" in shown


def test_a_recipe_that_goes_with_its_prompt_is_nothing_to_say():
    for options, recipe in (
        ({"wording": "words"}, {"preset": "embedded"}),
        ({}, {}),
        ({"levels": 4, "keep": True}, {"levels": 4}),
        ({"levels": 6, "wording": "words"}, {"preset": "embedded"}),
    ):
        prompt = {"kind": "prompt", "strategy": "labels", "options": options}
        worn = {"kind": "adapter", "recipe": {"kind": "steerlm", **recipe}}
        MethodSpec.model_validate({"name": "m", "parts": [prompt, worn]})
        MethodSpec.model_validate({"name": "m", "parts": [worn, prompt]})


def test_what_cannot_be_trained_is_said_by_the_plan(place):
    why = {c.method.name: c.why_impossible() for c in all_cells(registry().bench("small"))}
    assert why["tuned"] is None
    place.configure(
        methods={
            "tuned": {"parts": [{"kind": "prompt", "strategy": "best-of-n", "options": {"n": 2}}, tuned()["parts"][1]]},
        }
    )
    with pytest.raises(ConfigError, match="one prompt and one answer"):
        [c.why_impossible() for c in all_cells(registry().bench("small"))]
    here = {"parts": [PROMPT, {"kind": "adapter", "folder": "runs/my-lora"}]}
    place.configure(methods={"tuned": here})
    with pytest.raises(ConfigError, match="'runs/my-lora' is relative"):
        checked()
    place.configure(methods={"tuned": tuned()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ConfigError, match=re.escape("needs trl: pip install 'steerworks[train]'")):
            checked()
    for wrong, said in (
        ({"rewards": {"goal:nonsense": 1.0}}, "reward 'goal:nonsense': the goal space has"),
        ({"rewards": {"happiness": 1.0}}, "unknown reward 'happiness'"),
        ({"preset": "huge"}, "unknown preset 'huge'"),
        ({"trl": {"beta": 0.1}}, "`trl` may not set beta"),
        ({"drawn": 2}, "draw more"),
        ({"kind": "magic"}, "unknown recipe 'magic'"),
    ):
        place.configure(methods={"tuned": tuned(**wrong)})
        with pytest.raises(ConfigError, match=re.escape(said)):
            checked()
    aim = {"metric": "length", "direction": "max"}
    for wrong, said in (
        ({"objectives": [{**aim, "metric": "goal:nonsense"}]}, "objective 'goal:nonsense': the goal space has"),
        ({"floors": [{"metric": "goal:nonsense", "least": 0.1}]}, "floor 'goal:nonsense': the goal space has"),
        ({"objectives": [{**aim, "metric": "happiness"}]}, "unknown metric 'happiness'"),
        ({"objectives": [{**aim, "direction": "target"}]}, "`value` belongs to `direction: target`"),
        ({"objectives": [{**aim, "value": 3.0}]}, "`value` belongs to `direction: target`"),
        ({"objectives": [aim, aim]}, "two objectives by length"),
        ({"floors": [{"metric": "length"}]}, "give `least`, `most` or both"),
        ({"floors": [{"metric": "length", "least": 2.0, "most": 1.0}]}, "is above most"),
        ({"samples": 1}, "nothing to choose from"),
        ({"trl": {"packing": True}}, "`trl` may not set packing"),
    ):
        recipe = {"kind": "adapter", "recipe": {"kind": "inheritance", **wrong}}
        place.configure(methods={"tuned": {"parts": [PROMPT, recipe]}})
        with pytest.raises(ConfigError, match=re.escape(said)):
            checked()
