"""Behaviors on the leaderboard: ordered by what moves, with its price, and claimed only where intervals say so."""

import polars as pl
import pytest
from fixture_sweeps import behaviors_of_cells
from fixture_tables import leaderboard_table
from page_reader import read

import schemas
from steer_core.reports import build_leaderboard
from steer_core.reports.behavior_ranking import behavior_table, verdict


@pytest.fixture(scope="module")
def findings():
    few = {"behaviors": ("cheerfulness",), "n_items": 8, "draws": 60, "n_random": 5}
    return behaviors_of_cells(
        {
            ("embedded", "vector-mean-difference"): few
            | {"lift": 0.8, "behaviors": ("cheerfulness", "formal-register")},
            ("embedded", "vector-bipo"): few | {"lift": 1.3, "layer": 1, "layers": ()},
            ("embedded", "vector-random"): few | {"lift": 0.0},
            ("small-chat", "vector-leace"): few | {"lift": 0.5, "n_random": 0},
        }
    )


@pytest.fixture(scope="module")
def leaderboard(findings):
    return build_leaderboard(
        leaderboard_table(),
        bench="b",
        controls=["copy", "rewrite", "vector-random"],
        cell_reports={("embedded", "vector-bipo"): "model=embedded/method=vector-bipo/report.html"},
        behaviors=findings,
    )


def test_behaviors_on_the_leaderboard_go_by_what_they_move(findings, leaderboard):
    table = behavior_table(findings).filter(behavior="cheerfulness")
    assert table["rank"].to_list() == [1, 2, 3, 4]
    assert table["swing"].is_sorted(descending=True)
    assert table.filter(method="vector-bipo")["layers"][0] == "[1]"
    assert table.filter(method="vector-mean-difference")["settings"][0] == 4
    page = read(leaderboard.files["report.html"])
    assert page.unbalanced == []
    best = table.row(0, named=True)
    assert f"{best['method']} on {best['model']} has the widest swing" in page.said
    assert "1 cell was not held against random directions" in page.said
    assert "figures/behavior_1.svg" in leaderboard.files
    assert {"behavior-1", "behavior-2"} <= set(page.ids)
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and not str(attrs["href"]).startswith("#")]
    assert links == ["model=embedded/method=vector-bipo/report.html"]


def test_a_control_is_never_said_to_move_a_behavior_most(findings):
    only = findings.filter(pl.col("method") == "vector-random")
    page = build_leaderboard(leaderboard_table(), bench="b", controls=["copy", "vector-random"], behaviors=only)
    assert "No method has an effect to report yet" in read(page.files["report.html"]).said


def test_a_leaderboard_without_behaviors_has_no_such_section():
    none = build_leaderboard(leaderboard_table(), bench="b")
    empty = build_leaderboard(leaderboard_table(), bench="b", behaviors=schemas.SweepFindings.empty())
    assert none.files["report.html"] == empty.files["report.html"]
    assert "behaviors" not in read(none.files["report.html"]).ids


@pytest.mark.parametrize(
    ("p", "n", "words"),
    [
        (None, None, "not run"),
        (1 / 3, 2, "too few"),
        (1 / 19, 18, "too few"),
        (1 / 21, 20, "yes (0.048)"),
        (2 / 21, 20, "no (0.095)"),
    ],
)
def test_beyond_random_is_claimed_only_where_so_many_directions_can_carry_it(p, n, words):
    assert verdict(p, n) == words
