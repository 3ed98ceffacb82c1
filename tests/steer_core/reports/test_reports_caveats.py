"""What the page knows against its own claims stands on the first screen."""

from dataclasses import replace

import polars as pl
import pytest
from fixture_sweeps import sweep_tables
from fixture_tables import PROBE, cell_tables, typed

import schemas
from steer_core.reports.caveats import cell_caveats, sweep_caveats
from steer_core.reports.inputs import of_probe
from steer_core.reports.sweeps import sweeps


@pytest.fixture(scope="module")
def tables():
    plain = of_probe(cell_tables(n_texts=8, per_text=4), PROBE)
    swept = sweep_tables(behaviors=("cheerfulness",), n_items=8, draws=60, n_random=20)
    return replace(plain, **{k: v for k, v in swept.items() if k in plain.__dataclass_fields__})


def said(tables):
    return " ".join(cell_caveats(tables))


def of_sweep(tables):
    return " ".join(sweep_caveats(tables, sweeps(tables)[0]))


def test_many_failures_are_said_by_kind(tables):
    cut = tables.steerability.with_columns(failure=pl.when(pl.int_range(pl.len()) < 12).then(pl.lit("truncated")))
    assert "12 answers of 32 were cut off at the token limit." in said(replace(tables, steerability=cut))


def test_a_vector_that_points_the_wrong_way_is_said(tables):
    goal = tables.fitted["dose_response"]["goal"][0]
    own = (pl.col("goal") == goal) & (pl.col("observed_goal") == goal)
    turned = tables.fitted["dose_response"].with_columns(
        pl.when(own).then(-pl.col("move")).otherwise("move").alias("move"),
        pl.when(own).then(-pl.col("high")).otherwise("low").alias("low"),
        pl.when(own).then(-pl.col("low")).otherwise("high").alias("high"),
    )
    assert "points the wrong way" not in said(tables)
    assert f"The vector of {goal.replace('_', ' ')} points the wrong way" in said(
        replace(tables, fitted={**tables.fitted, "dose_response": turned})
    )


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (
            0.3,
            0.6,
            "The judge cannot be told from chance on answers of known label (AUROC 0.45 [0.30 to 0.60], 32 answers)",
        ),
        (0.2, 0.45, "The judge grades answers of known label the wrong way round"),
        (0.55, 0.9, None),
    ],
)
def test_what_a_judge_is_worth_is_said_before_what_it_says(tables, low, high, words):
    row = ("cheerfulness", "j", 0.45, low, high, 0.5, 0.0, 0.0, 32)
    known = pl.DataFrame([row], schema=schemas.JudgeCalibration.empty().schema, orient="row")
    text = of_sweep(replace(tables, judge_calibration=known))
    assert (words in text) if words else ("The judge" not in text)
    assert "The judge" not in of_sweep(tables)


def test_a_goal_without_contrasts_is_said_to_be_left_to_the_prompt(tables):
    sources = tables.fitted["contrast_sources"]
    goal = sources["goal"][0]
    none = sources.with_columns(
        used=pl.col("used") & (pl.col("goal") != goal),
        pairs=pl.when(pl.col("goal") == goal).then(3).otherwise("pairs"),
    )
    assert "has no vector" not in said(tables)
    assert (
        f"{goal.replace('_', ' ')} has no vector and is left to the prompt: at least 8 contrast pairs are needed; asked: 3 "
        "(120 answers to 60 texts)." in said(replace(tables, fitted={**tables.fitted, "contrast_sources": none}))
    )


def test_a_goal_whose_doses_do_not_help_is_said_to_be_left_to_the_prompt(tables):
    doses = tables.fitted["dose_response"]
    idle = doses.filter(pl.col("share") == 0)["goal"].unique().to_list()
    text = said(tables)
    assert idle
    names = " and ".join(goal.replace("_", " ") for goal in idle)
    assert f"No dose took error away on the training pool for {names}: it is left to the prompt." in text
    none = doses.with_columns(share=pl.lit(0.0))
    text = said(replace(tables, fitted={**tables.fitted, "dose_response": none}))
    assert ", " in text.split("No dose took error away on the training pool for ")[1].split(" and ")[0]
    assert "they are left to the prompt." in text


def test_a_direction_that_is_none_is_said_beside_the_behavior(tables):
    weak = tables.fitted["vectors"].with_columns(reliability=pl.lit(-0.05))
    assert "There is hardly a direction of cheerfulness" in of_sweep(
        replace(tables, fitted={**tables.fitted, "vectors": weak})
    )
    assert "−0.05" in of_sweep(replace(tables, fitted={**tables.fitted, "vectors": weak}))


def test_a_start_near_the_end_of_the_scale_is_said(tables):
    near = tables.arm_summary.with_columns(
        mean=pl.when((pl.col("role") == "off") & (pl.col("measure") == "judged")).then(7.9).otherwise("mean")
    )
    assert "It starts at 7.9, near the end of the scale at 10: it can rise by 2.1 at most." in of_sweep(
        replace(tables, arm_summary=near)
    )


def test_answers_that_were_cut_off_are_said(tables):
    cut = tables.arm_summary.with_columns(mean=pl.when(pl.col("measure") == "truncated").then(1.0).otherwise("mean"))
    assert "100\u00a0% of its answers were cut off at the token limit" in of_sweep(replace(tables, arm_summary=cut))


def test_an_end_that_random_directions_reach_is_said(tables):
    like = tables.sweep_findings.with_columns(
        value=pl.when(pl.col("finding") == "p_random_high").then(2 / 21).otherwise("value")
    )
    text = of_sweep(replace(tables, sweep_findings=like))
    assert "At its highest strength it cannot be told from random directions of equal size (rank p = 0.095)." in text
    assert "lowest" not in text


def test_a_page_without_vectors_has_nothing_of_them_to_say():
    plain = of_probe(cell_tables(n_texts=8, per_text=4), PROBE)
    assert (
        cell_caveats(replace(plain, steerability=plain.steerability.with_columns(failure=pl.lit(None, pl.String))))
        == ()
    )
    assert typed([], schemas.Vectors).is_empty()


def test_a_weak_part_is_named_beside_a_strong_one(tables):
    vectors = tables.fitted["vectors"]
    weak = vectors.with_columns(reliability=pl.when(pl.col("control") == "").then(0.05))
    strong = vectors.with_columns(part=pl.lit("vector-2"))
    both = replace(tables, fitted={**tables.fitted, "vectors": pl.concat([weak, strong])})
    (sweep,) = sweeps(both)[:1]
    said = " ".join(sweep_caveats(both, sweep))
    assert "There is hardly a direction of cheerfulness (vector): " in said
    assert "(vector-2)" not in said
