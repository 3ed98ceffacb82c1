"""The page says of the vectors what their tables say: norms, angles, doses, receipts, and what is left to the tables."""

import json
from dataclasses import replace

import polars as pl
import pytest
from fixture_sweeps import sweep_tables
from fixture_tables import cell_tables

import schemas
from steer_core.reports.drawing import render
from steer_core.reports.sections.vector import vector_section
from steer_core.reports.sweeps import sweeps
from steer_core.reports.vector_plots import activations_figure, cosines_figure, dose_figure


@pytest.fixture(scope="module")
def tables():
    base = cell_tables(n_texts=3, per_text=2, goals=("formality", "sentiment"), active=1, method="vector-x")
    behaviors = ("cheerfulness", "formal-register")
    return replace(base, **sweep_tables(behaviors=behaviors, n_items=4, draws=20, n_random=2, layers=(0, 1)))


def test_receipts_are_counted_and_a_wrong_one_is_a_notice(tables):
    steered = tables.sweep_responses.filter(pl.col("receipt").is_not_null()).height
    whole, _ = vector_section(tables, ())
    assert [(r.where, r.steered, r.receipts, r.wrong) for r in whole.receipts] == [("behaviors", steered, steered, 0)]
    lost = tables.sweep_responses.with_row_index().with_columns(
        receipt=pl.when(pl.col("index") == pl.col("index").filter(pl.col("receipt").is_not_null()).min())
        .then(None)
        .otherwise("receipt")
    )
    broken = replace(tables, sweep_responses=lost.drop("index"))
    section, _ = vector_section(broken, ())
    assert [(r.where, r.steered, r.receipts, r.wrong) for r in section.receipts] == [
        ("behaviors", steered, steered - 1, 1)
    ]


def test_steered_answers_of_which_nothing_was_touched_are_said(tables):
    def emptied(receipt):
        body = json.loads(receipt)
        return json.dumps(body | {"touches": [t | {"expected": 0, "observed": 0} for t in body["touches"]]})

    rows = tables.sweep_responses
    chosen = rows.filter(pl.col("receipt").is_not_null())["response_id"][:3].to_list()
    beyond = [emptied(r["receipt"]) if r["response_id"] in chosen else r["receipt"] for r in rows.iter_rows(named=True)]
    found = replace(tables, sweep_responses=rows.with_columns(receipt=pl.Series(beyond, dtype=pl.String)))
    section, _ = vector_section(found, ())
    assert [(r.wrong, r.untouched) for r in section.receipts] == [(0, 3)]
    assert [r.untouched for r in vector_section(tables, ())[0].receipts] == [0]


def test_the_vectors_of_steered_layers_come_first_and_the_rest_is_folded_away(tables):
    section, _ = vector_section(tables, sweeps(tables))
    assert {row["layer"] for row in section.rows} == {2}
    assert {row["layer"] for row in section.more_rows} == {0, 1}
    assert section.rows[0]["relative"] == pytest.approx(section.rows[0]["norm"] / section.rows[0]["residual_norm"])
    assert section.how == "Fitted by mean difference, read at answer, applied by add."
    assert "vectors fitted on shuffled labels" in section.controls


def test_figures_of_vectors_leave_controls_out_and_say_what_is_not_drawn(tables):
    cosines = tables.fitted["vector_cosines"]
    control = cosines.with_columns(left=pl.col("left") + " shuffled:0")
    assert len(cosines_figure(pl.concat([cosines, control])).panels) == cosines["layer"].n_unique()
    concepts = tables.fitted["activation_map"]["concept"].unique(maintain_order=True).to_list()
    figure = activations_figure(tables.fitted["activation_map"], concepts, [2])
    assert len(figure.panels) == 12
    assert {panel.title.split("\n")[0] for panel in figure.panels} == {c.replace("_", " ") for c in concepts}
    section, _ = vector_section(tables, sweeps(tables))
    assert "Activations show 12 of 18 maps" in section.left_out[0]
    for empty in (cosines_figure(None), activations_figure(None, []), dose_figure(None)):
        assert empty.panels == ()
        assert empty.note.startswith("Nothing to draw")


def test_doses_name_the_strengths_that_may_not_be_asked_for(tables):
    assert len(dose_figure(tables.fitted["dose_response"]).panels) == 4
    section, _ = vector_section(tables, ())
    last = section.doses[-1]
    assert (last.goal, last.strengths, last.unusable) == ("sentiment", "−0.3 to +0.3", "−0.5, +0.5")
    own = tables.fitted["dose_response"].filter(goal="sentiment", observed_goal="sentiment")
    assert last.highest == own["fitted"].max()


def test_a_dose_response_in_which_nothing_was_usable_is_drawn_as_that(tables):
    unknown = [pl.lit(None, pl.Float64).alias(name) for name in ("move", "low", "high", "fitted")]
    empty = schemas.DoseResponse.validate(tables.fitted["dose_response"].with_columns(unknown, usable=pl.lit(False)))
    section, _ = vector_section(replace(tables, fitted={**tables.fitted, "dose_response": empty}), ())
    assert {(d.strengths, d.lowest) for d in section.doses} == {("none", None)}
    assert len(dose_figure(empty).panels) == 4
    assert render(dose_figure(empty)).still
