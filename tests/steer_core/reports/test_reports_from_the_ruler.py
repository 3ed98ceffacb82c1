"""The page is made from what the evaluation writes, not from the invented summaries of the other tests."""

from dataclasses import replace

import polars as pl
import pytest
from fixture_tables import PROBE, cell_tables
from page_reader import read

from schemas.digest import digest_text
from steer_core.evaluation import compare, evaluate, side_effects, summarise
from steer_core.reports import build_cell_report


def scored(method, strength):
    """Tables of a cell with scores and movements made by the evaluation from texts and raw values."""
    tables = cell_tables(n_texts=12, per_text=4, method=method, strength=strength)
    text = (
        pl.when(pl.col("copied") | (pl.col("text") == "")).then("text").otherwise(pl.col("text") + pl.col("request_id"))
    )
    outcomes = tables.outcomes.with_columns(text=text).with_columns(
        text_id=pl.col("text").map_elements(digest_text, return_dtype=pl.String)
    )
    scorer = pl.format("{}@1", "goal").alias("scorer_id")
    values = (
        tables.movements.join(outcomes.filter(~pl.col("copied")).select("request_id", "text_id"), on="request_id")
        .select("text_id", scorer, "value")
        .unique(["text_id", "scorer_id"])
        .with_columns(state=pl.when(pl.col("value").is_null()).then(pl.lit("undefined")).otherwise(pl.lit("ok")))
    )
    steerability, movements = evaluate(tables.requests, tables.request_goals, outcomes, values, tables.goal_space)
    return replace(tables, outcomes=outcomes, steerability=steerability, movements=movements)


@pytest.fixture(scope="module")
def tables():
    own = scored("direct", 1.0)
    controls = {name: scored(name, strength).steerability for name, strength in (("copy", 0.0), ("rewrite", 0.05))}
    return replace(
        own,
        summary=summarise(own.steerability, own.movements, draws=200, seed=0),
        comparisons=compare(own.steerability, own.movements, controls, permutations=99, seed=0),
        side_effects=side_effects(own.movements, own.steerability),
        control_steerability=controls,
    )


def test_the_page_says_what_the_ruler_measured(tables):
    report = build_cell_report(tables)
    page = read(report.files["report.html"])
    row = tables.comparisons.filter(probe=PROBE, control="copy", measure="error", reading="worst").row(0, named=True)
    assert report.headline["share_of_copy"] == pytest.approx(1 + row["relative"])
    assert f"direct leaves {100 * (1 + row['relative']):.0f} % of the error of doing nothing" in page.said
    assert "undefined" not in page.said
    assert "is missing" not in page.said
    binned = tables.control_steerability["copy"]["error_binned"].median()
    assert f"copy {binned:.3f}" in page.said
