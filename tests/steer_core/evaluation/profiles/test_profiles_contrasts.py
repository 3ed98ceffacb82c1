"""Cells beside each other: of equal ones hardly any table says more, and only what both were asked is compared."""

import numpy as np
import polars as pl
import pytest
from test_profiles_changes import equal_settings, items_table, values_table

from schemas import ProfileContrasts
from schemas.profiles import PLAIN
from steer_core.evaluation.profiles.changes import changes_between, changes_of
from steer_core.evaluation.profiles.contrasts import contrasts_of
from steer_core.tables import check

NOW = {"p": "now"}
UP, DOWN = '{"formality":0.4}', '{"formality":-0.4}'


def of_cell(method, values, requests, digests=NOW):
    """A cell's values, settings and changes: `requests` are arm -> what it is asked for."""
    arms = [
        {"model": "m", "method": method, "arm_id": a, "role": "request", "asked": asked}
        for a, asked in requests.items()
    ]
    named = [pl.lit("m").alias("model"), pl.lit(method).alias("method")]
    changes = changes_of(values, items_table(range(30)), draws=100, cells=1, digests=digests)
    plain = {"model": "m", "method": method, "arm_id": PLAIN, "role": PLAIN, "asked": "{}"}
    return values.with_columns(named), pl.DataFrame([plain, *arms]), changes.with_columns(named)


def beside(*cells, pairs=None, seed=0, **options):
    tables = [pl.concat(rows) for rows in zip(*cells, strict=True)]
    methods = [rows["method"][0] for rows, *_ in cells]
    every = [("m", a, b) for k, a in enumerate(methods) for b in methods[k + 1 :]]
    found = contrasts_of(
        *tables, items_table(range(30)), every if pairs is None else pairs, digests=NOW, seed=seed, **options
    )
    return check(found, ProfileContrasts)


def shifted(by, seed=0):
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=30)
    noise = np.random.default_rng(seed + 100).normal(0.0, 0.1, 30)
    return values_table({PLAIN: {"m0": plain}, "a": {"m0": plain + by + noise}})


def test_of_cells_that_do_the_same_hardly_any_table_says_that_one_differs():
    wrong, alone = 0, []
    for world in range(200):
        rows = equal_settings(world, n_metrics=10)
        cells = [
            of_cell(name, rows.filter(pl.col("arm_id").is_in([PLAIN, name])), {name: UP}) for name in ("a", "b", "c")
        ]
        found = beside(*cells, seed=world)
        assert found.height == 3 * 10
        wrong += bool(found["different"].any())
        alone.append(found["p"].to_numpy()[:5])
    # 5 % of 200 are 10; the chance of more than 16 at a true 5 % is .02
    assert wrong <= 16
    assert np.mean(np.array(alone) <= 0.05) == pytest.approx(0.05, abs=0.02)


def test_a_pair_is_the_two_cells_in_the_setting_of_the_same_request_and_says_which_way():
    one, two = of_cell("one", shifted(1.0), {"a": UP}), of_cell("two", shifted(0.0), {"a": UP})
    (row,) = beside(one, two).to_dicts()
    direct = changes_between(one[0], "a", two[0], "a", items_table(range(30))).to_dicts()[0]
    assert (row["method"], row["other_method"], row["request"], row["arm_id"]) == ("one", "two", UP, "a")
    for name, theirs in (("difference", "difference"), ("low", "low"), ("other_value", "plain_value"), ("n", "n")):
        assert row[name] == pytest.approx(direct[theirs])
    assert row["difference"] == pytest.approx(1.0, abs=0.1)
    assert row["different"]
    (turned,) = beside(one, two, pairs=[("m", "two", "one")]).to_dicts()
    assert turned["difference"] == pytest.approx(-row["difference"])


def test_other_requests_are_no_pair_and_each_shared_one_is():
    values = pl.concat([shifted(1.0), shifted(1.0).filter(arm_id="a").with_columns(arm_id=pl.lit("b"))])
    one = of_cell("one", values, {"a": UP, "b": DOWN})
    assert beside(one, of_cell("two", shifted(0.0), {"a": DOWN}))["arm_id"].to_list() == ["b"]
    assert beside(one, of_cell("two", values, {"a": DOWN, "b": UP})).select("arm_id", "other_arm_id").rows() == [
        ("a", "b"), ("b", "a"),
    ]  # fmt: skip
    assert beside(one, of_cell("two", shifted(0.0), {"a": '{"sentiment":0.4}'})).height == 0
    # a pair of which one does not exist
    assert beside(one, pairs=[("m", "one", "nobody")]).height == 0


def test_a_cell_that_was_asked_an_earlier_form_of_a_profile_is_not_compared_by_it():
    old = of_cell("two", shifted(0.0), {"a": UP}, digests={"p": "before"})
    assert beside(of_cell("one", shifted(1.0), {"a": UP}), old).height == 0


def test_a_metric_that_only_one_has_is_no_comparison():
    more = pl.concat([shifted(0.0), shifted(0.0).with_columns(metric=pl.lit("m1"))])
    found = beside(of_cell("one", more, {"a": UP}), of_cell("two", shifted(0.0), {"a": UP}))
    assert found["metric"].to_list() == ["m0"]
