"""Whether a sweep holds elsewhere: slopes of other items beside the main ones, and effects over seeds of the fit."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from steer_core.evaluation.behaviors.reliability import seed_spread, transfer


def test_transfer_is_welchs_interval_of_the_difference_of_slopes():
    rng = np.random.default_rng(0)
    one, main = rng.normal(0.5, 1.0, 20), rng.normal(1.0, 2.0, 40)
    (row,) = transfer(np.append(one, np.nan), main, "judged", "other")
    expected = stats.ttest_ind(one, main, equal_var=False).confidence_interval(0.95)
    assert (row["value"], row["low"], row["high"]) == pytest.approx((one.mean() - main.mean(), *expected))
    assert row["n"] == 20
    assert "of other items" in row["detail"]
    assert list(transfer(np.full(3, np.nan), main, "judged", "other")) == []
    # nothing varies: no interval is better than a point
    (row,) = transfer(np.ones(3), np.ones(4), "judged", "other")
    assert (row["value"], row["low"], row["high"]) == (0.0, None, None)


def rows_of(effects):
    rows = [("off", "off", None, 0, f"i{k}", float(k)) for k in range(4)]
    for (seed, strength), effect in effects.items():
        rows += [(f"{seed}:{strength}", "vector", strength, seed, f"i{k}", k + effect) for k in range(4)]
    schema = {"arm_id": pl.String, "role": pl.String, "strength": pl.Float64, "seed": pl.Int64, "item_id": pl.String,
              "value": pl.Float64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(measure=pl.lit("judged"))


def test_the_spread_over_seeds_is_that_of_their_effects():
    rows = rows_of({(0, 1.0): 1.0, (1, 1.0): 3.0, (2, 1.0): 2.0, (0, -1.0): -1.0, (1, -1.0): -1.0})
    found = {r["finding"]: r for r in seed_spread(rows, "off", "judged")}
    assert found["seeds_high"]["value"] == pytest.approx(1.0)
    assert found["seeds_high"]["n"] == 3
    assert "+1 (seed 0), +3 (seed 1), +2 (seed 2)" in found["seeds_high"]["detail"]
    assert found["seeds_low"]["value"] == 0.0
    assert list(seed_spread(rows_of({(0, 1.0): 1.0}), "off", "judged")) == []
