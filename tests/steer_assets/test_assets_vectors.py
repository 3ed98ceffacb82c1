"""A vector cell through Dagster: one materialization fits, sweeps, judges and reports a behavior."""

import json

import polars as pl
import pytest
import yaml

from steer_core.generation.receipts import check_receipts

SHARED = "group:small_shared"
GRID = "group:small_cells"
CELL = "pushed|embedded"
FITS = 'key:"small/fit_responses" or key:"small/vectors"'
PART = {
    "kind": "vector",
    "estimator": "mean-difference",
    "unit": "residual_fraction",
    "strengths": [-0.4, -0.2, 0.2, 0.4],
}
CHEERFUL = {
    "source": {
        "kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": 32, "n_validation": 8,
        "n_items": 6,
    },
    "positive_prompt": "You are a cheerful person.",
}  # fmt: skip


@pytest.fixture
def vector_bench(workplace):
    def configure(part=PART, behavior=CHEERFUL, **changes):
        (workplace.folder / "behaviors.yaml").write_text(yaml.safe_dump({"cheerful": behavior}))
        workplace.bench = {**workplace.bench, "methods": ["rewrite", "pushed"]}
        workplace.configure(
            methods={"pushed": {"parts": [part]}},
            **{
                "corpus": {"sources": [{"kind": "grammar", "n_texts": 200, "seed": 3}], "min_words": 10},
                "probes": [
                    {"name": "main", "n_texts": 4, "n_goals_per_text": 2, "active": 2, "weighting": "none"},
                    {
                        "name": "pool", "split": "train", "n_texts": 24, "n_goals_per_text": 2, "active": 1,
                        "weighting": "none",
                    },
                ],
                "goals": ["reading_difficulty", "formality"],
                "behaviors": ["cheerful"],
                "sweep": {"random_directions": 2, "shuffled": 1, "max_new_tokens": 48},
                "decoding": {"max_new_tokens": 96},
                "batch_size": 32,
            } | changes,
        )  # fmt: skip

    configure()
    return configure


def read(path) -> pl.DataFrame:
    return pl.read_parquet(path, hive_partitioning=False)


def test_one_materialization_fits_sweeps_judges_and_reports_and_a_new_scale_costs_no_generation(
    workplace, vector_bench
):
    workplace.materialize(SHARED)
    workplace.materialize(GRID, "rewrite|embedded")
    status, result = workplace.materialize(GRID, CELL)
    assert set(status.values()) == {"written"}
    checks = {(e.asset_key.path[-1], e.check_name): e.passed for e in result.get_asset_check_evaluations()}
    assert checks["behaviors", "receipts"]
    assert checks["responses", "receipts"]

    fitted = read(workplace.table("vectors", CELL))
    assert set(fitted.filter(pl.col("control") == "")["concept"]) == {"cheerful", "reading_difficulty", "formality"}
    arms = read(workplace.table("sweep_arms", CELL))
    assert dict(arms["role"].value_counts().iter_rows()) == {
        "off": 1, "vector": 4, "random": 4, "shuffled": 2, "prompt": 1,
    }  # fmt: skip
    swept = read(workplace.table("sweep_responses", CELL))
    counted = check_receipts(swept)
    assert counted.ok
    assert counted.steered == counted.receipts > 40
    findings = read(workplace.table("sweep_findings", CELL))
    effect = findings.filter((pl.col("measure") == "judged") & pl.col("finding").str.starts_with("effect"))
    assert effect.filter(pl.col("finding") == "effect_low")["value"][0] < 0
    outcomes = read(workplace.table("responses", CELL))
    assert check_receipts(outcomes).steered > 0
    page = (workplace.root / "small/report/model=embedded/method=pushed/report.html").read_text()
    assert "cheerful" in page

    # the whole cell again, one node of it, and that node with all that it reads: nothing is fitted again
    for select in (GRID, 'key:"small/vectors"', '+key:"small/vectors"', '+key:"small/behaviors"'):
        status, _ = workplace.materialize(select, CELL)
        assert set(status.values()) == {"unchanged"}, select

    # another scale of the judge: verdicts, figures and page; nothing is written or scored by the model
    vector_bench(behavior={**CHEERFUL, "scale": [1.0, 4.0]})
    status, _ = workplace.materialize(GRID, CELL)
    for name in ("vectors", "dose_response", "responses", "sweep_responses", "arm_answers", "arm_measures"):
        assert status[name] == "unchanged", name
    for name in ("judgements", "arm_scores", "arm_summary", "report"):
        assert status[name] == "written", name
    assert read(workplace.table("judgements", CELL))["value"].max() <= 4.0

    # other doses: tried, and asked for; neither fitted nor swept again
    vector_bench(part={**PART, "doses": [-0.3, 0.3]}, behavior={**CHEERFUL, "scale": [1.0, 4.0]})
    status, _ = workplace.materialize(GRID, CELL)
    assert {status[n] for n in ("dose_response", "artifacts", "responses")} == {"written"}
    assert {status[n] for n in ("vectors", "sweep_responses", "arm_measures")} == {"unchanged"}

    # one more strength: only its arm is generated
    before = set(swept["response_id"])
    vector_bench(part={**PART, "strengths": [-0.4, -0.2, 0.2, 0.3, 0.4]})
    workplace.materialize(GRID, CELL)
    after = read(workplace.table("sweep_responses", CELL))
    assert before < set(after["response_id"])
    new = after.filter(~pl.col("response_id").is_in(list(before)))
    assert new.height <= 6


def test_a_budget_of_kl_is_calibrated_and_a_gate_without_contrasting_prompts_is_refused(workplace, vector_bench):
    vector_bench(part={**PART, "unit": "kl", "strengths": [-0.05, 0.05]}, sweep={"random_directions": 0, "shuffled": 0})
    workplace.materialize(SHARED)
    workplace.materialize(FITS, CELL)
    doses = read(workplace.table("dose_response", CELL))
    assert set(doses["unit"]) == {"kl"}
    assert doses.filter(pl.col("strength").is_not_null())["coefficient"].abs().min() > 0

    # a sweep of positions that the budget was not measured at is refused, also where the vectors were there
    sweep = {"random_directions": 0, "shuffled": 0, "positions": ["prompt"]}
    vector_bench(part={**PART, "unit": "kl", "strengths": [-0.05, 0.05]}, sweep=sweep)
    _, result = workplace.materialize(FITS, CELL, raise_on_error=False)
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert (
        "a KL budget is measured at the part's own positions" in failure.step_failure_data.user_failure_data.description
    )

    vector_bench(part={**PART, "gate": {"condition": "cheerful"}}, sweep={"random_directions": 0, "shuffled": 0})
    _, result = workplace.materialize(FITS, CELL, raise_on_error=False)
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    said = failure.step_failure_data.user_failure_data.description
    assert "gate condition 'cheerful'" in said
    assert "share prompts" in said


def test_two_vectors_of_one_method_each_have_their_rows_their_doses_and_their_section(workplace, vector_bench):
    second = {**PART, "layers": [1], "strengths": [-0.3, 0.3]}
    workplace.configure(methods={"pushed": {"parts": [PART, second]}})
    workplace.materialize(SHARED)
    status, _ = workplace.materialize(GRID, CELL)
    assert set(status.values()) == {"written"}
    vectors, doses = (read(workplace.table(name, CELL)) for name in ("vectors", "dose_response"))
    layers = {p: set(vectors.filter(part=p, control="")["layer"]) for p in ("vector", "vector-2")}
    assert layers == {"vector": {2}, "vector-2": {1}}
    assert set(doses.filter(part="vector-2")["strength"].drop_nulls()) == {-0.3, 0.3}
    # both answer what was asked: their interventions stand in one plan, in order
    plans = read(workplace.table("responses", CELL))["plan"].to_list()
    steered = [[i["layer"] for i in json.loads(p).get("interventions", [])] for p in plans]
    assert any(set(found) == {1, 2} for found in steered)
    # behaviors are swept over the first of them, and only its vectors are among the arms
    arms = read(workplace.table("sweep_arms", CELL))
    assert set(arms.filter(role="vector")["layers"]) == {"[2]"}
    page = (workplace.root / "small/report/model=embedded/method=pushed/report.html").read_text()
    assert "The vectors of vector-2" in page
    assert 'href="#dose_2"' in page
