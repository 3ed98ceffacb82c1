"""Points of the frontier: effect and cost of the same setting, and which of them nothing beats."""

import polars as pl
import pytest

from schemas import Frontier, ProfileArms, ProfileChanges, SteerabilitySummary
from steer_core.evaluation.profiles.frontier import frontier_of
from steer_core.tables import check

CELL = {"model": pl.String, "method": pl.String}


def typed(rows, contract):
    schema = {**CELL, **contract.dtypes()}
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def errors(**by_cell):
    """Mean steering errors: method -> arm -> error."""
    rows = []
    for method, arms in by_cell.items():
        for arm, error in arms.items():
            body = {
                "model": "m", "method": method, "arm_id": arm, "probe": "main", "goal_space_id": "g", "measure": "error",
                "goal": "overall", "reading": "worst", "statistic": "mean", "value": error, "low": error - 0.1,
                "high": error + 0.1,
            }  # fmt: skip
            rows += [body, body | {"reading": "complete", "value": 9.0}, body | {"statistic": "median", "value": 9.0}]
            rows.append(body | {"goal": "formality", "value": 9.0})
    return typed(rows, SteerabilitySummary)


def arms(**by_cell):
    """Settings: method -> profile arm -> probe arm."""
    rows = []
    for method, of in by_cell.items():
        for arm, probe_arm in {"plain": None, **of}.items():
            role = "plain" if arm == "plain" else "request" if probe_arm == "headline" else "arm"
            rows.append(
                {
                    "model": "m", "method": method, "arm_id": arm, "label": f"{arm} of {method}", "role": role,
                    "asked": "{}", "axis": "", "interventions": "[]", "extensions": "[]", "probe_arm": probe_arm,
                }
            )  # fmt: skip
    return typed(rows, ProfileArms)


def change(method, arm, difference, p=0.5, metric="right answers", profile="facts"):
    low, high = (None, None) if difference is None else (difference - 0.05, difference + 0.02)
    return {
        "model": "m", "method": method, "arm_id": arm, "profile": profile, "metric": metric, "difference": difference,
        "low": low, "high": high, "asked": "", "p_adjusted": p, "different": p is not None and p <= 0.05, "n": 10, "n_clusters": 10, "missing": 0.0,
        "plain_missing": 0.0,
    }  # fmt: skip


def changes(*rows):
    return typed(rows, ProfileChanges)


def points(errors_, arms_, changes_, **options):
    options = {"profile": "facts", "metric": "right answers"} | options
    return check(frontier_of(errors_, arms_, changes_, **options), Frontier)


def one(table, **of):
    return table.filter(**of).row(0, named=True)


TWO = (
    errors(pushed={"headline": 0.4, "s1": 0.3}, direct={"headline": 0.5}),
    arms(pushed={"a": "headline", "b": "s1"}, direct={"a": "headline"}),
    changes(change("pushed", "a", -0.1), change("pushed", "b", -0.3), change("direct", "a", -0.2)),
)


def test_a_point_has_the_error_and_the_cost_of_the_same_setting():
    found = points(*TWO)
    assert found.height == 3
    strong = one(found, method="pushed", arm_id="b")
    assert (strong["error"], strong["cost"], strong["headline"]) == (0.3, pytest.approx(0.3), False)
    # ends change places with the sign
    assert (strong["cost_low"], strong["cost_high"]) == (pytest.approx(0.28), pytest.approx(0.35))
    assert found["error"].to_list() == sorted(found["error"])
    assert set(found["headline"].filter(found["arm_id"] == "a")) == {True}


def test_best_is_what_nothing_beats_on_one_side_without_losing_on_the_other():
    best = {(r["method"], r["arm_id"]): r["best"] for r in points(*TWO).iter_rows(named=True)}
    assert best == {("pushed", "a"): True, ("pushed", "b"): True, ("direct", "a"): False}


def test_equal_points_are_both_best_and_one_without_a_cost_is_none():
    found = points(
        errors(x={"headline": 0.4}, y={"headline": 0.4}, z={"headline": 0.1}),
        arms(x={"a": "headline"}, y={"a": "headline"}, z={"a": "headline"}),
        changes(change("x", "a", -0.1), change("y", "a", -0.1), change("z", "a", None)),
    )
    assert dict(found.select("method", "best").iter_rows()) == {"x": True, "y": True, "z": False}
    assert one(found, method="z")["cost"] is None


def test_where_less_is_better_a_rise_is_the_cost():
    found = points(errors(x={"headline": 0.4}), arms(x={"a": "headline"}), changes(change("x", "a", 0.1)), better=-1)
    row = one(found, method="x")
    assert (row["cost"], row["cost_low"], row["cost_high"]) == pytest.approx((0.1, 0.05, 0.12))


def test_what_a_cell_says_of_a_profile_that_was_edited_since_counts_for_nothing_and_is_named():
    of = {"facts": "new", "free": "same"}
    rows = [
        change("pushed", "a", -0.1, p=1e-6) | {"asked": "old"},
        change("pushed", "a", 1.0, p=1e-6, metric="words", profile="free") | {"asked": "same"},
        change("direct", "a", -0.2, p=1e-6) | {"asked": "new"},
        change("direct", "a", 1.0, p=1e-6, metric="words", profile="free") | {"asked": "same"},
    ]
    found = points(*TWO[:2], changes(*rows), digests=of)
    old, new = one(found, method="pushed", arm_id="a"), one(found, method="direct", arm_id="a")
    assert (old["cost"], old["n_different"], old["n_metrics"], old["best"]) == (None, 1, 1, False)
    assert (new["cost"], new["n_different"], new["n_metrics"], new["best"]) == (pytest.approx(0.2), 2, 2, True)
    assert (old["outdated"], new["outdated"]) == ("facts", "")
    # a profile that the cell was never asked, and one that the bench no longer has
    grown = points(*TWO[:2], changes(*rows), digests={"free": "same", "more": "x", "facts": "old"})
    assert dict(grown.filter(arm_id="a").select("method", "outdated").iter_rows()) == {
        "pushed": "more", "direct": "facts, more",
    }  # fmt: skip
    shrunk = points(*TWO[:2], changes(*rows), digests={"free": "same"})
    assert set(shrunk["outdated"]) == {"facts"}


def test_the_plain_row_is_there_only_where_nothing_is_steered():
    found = points(
        errors(rewrite={"headline": 0.6}, pushed={"headline": 0.4}),
        arms(rewrite={}, pushed={"a": "headline"}),
        changes(change("pushed", "a", -0.1)),
    )
    plain = found.filter(arm_id="plain")
    assert plain["method"].to_list() == ["rewrite"]
    assert plain.select("cost", "cost_low", "cost_high", "error").row(0) == (0.0, 0.0, 0.0, 0.6)
    assert plain["best"][0]  # it costs nothing


def test_several_requests_of_a_method_are_points_of_one_error():
    found = points(
        errors(x={"headline": 0.4}),
        arms(x={"up": "headline", "down": "headline"}),
        changes(change("x", "up", -0.1), change("x", "down", 0.0)),
    )
    assert found["error"].to_list() == [0.4, 0.4]
    # nobody chooses the request: what is asked cheaply is no rival of what is asked dearly
    assert dict(found.select("arm_id", "best").iter_rows()) == {"up": True, "down": True}


@pytest.mark.parametrize(("others", "counted"), [(0, 1), (1, 1), (4, 0)])
def test_what_differs_is_corrected_for_the_number_of_cells(others, counted):
    names = [f"other{k}" for k in range(others)]
    found = points(
        errors(x={"headline": 0.4}),
        arms(x={"a": "headline"}, **{n: {"a": "headline"} for n in names}),
        changes(
            change("x", "a", -0.1, p=0.02),
            change("x", "a", 5.0, p=0.2, metric="n_words", profile="style"),
            # without a pair nothing was looked at
            change("x", "a", None, p=None, metric="dependency_distance_mean", profile="style"),
            *[change(n, "a", 0.0) for n in names],
        ),
    )
    row = one(found, method="x")
    assert (row["n_different"], row["n_metrics"]) == (counted, 2)


def test_without_a_capability_there_is_no_cost_and_no_best():
    found = points(*TWO, profile="", metric="")
    assert found["cost"].null_count() == 3
    assert not found["best"].any()


def test_a_setting_that_the_probe_was_not_measured_at_is_no_point():
    found = points(errors(x={"headline": 0.4}), TWO[1], TWO[2])
    assert found.height == 0
