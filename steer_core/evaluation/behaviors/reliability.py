"""How far a sweep's figures hold: for other items, and for other seeds of the fit.

* `transfer`: mean slope of the items of a set less that of the main set (Tan et al. 2024 compare the two): items with
  other prompts, or from elsewhere. Welch's t interval; 0 is a vector that carries over as it is.
* `seeds_high`, `seeds_low`: standard deviation, over seeds of the fit, of the effect at an end of the strengths. An
  interval over items says nothing of it: it is what another training would give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def transfer(slopes: Floats, main: Floats, measure: str, group: str) -> Iterator[dict[str, Any]]:
    """How much less, or more, the items of a set move for 1 of strength than those of the main set.

    Args:
        slopes: of the set's items; NaN where undefined.
        main: of the main set's.
        measure: what moves.
        group: name of the set.
    """
    from scipy.special import stdtrit

    one, other = slopes[~np.isnan(slopes)], main[~np.isnan(main)]
    if not len(one) or not len(other):
        return
    value = float(one.mean() - other.mean())
    low = high = None
    if len(one) > 1 and len(other) > 1:
        parts = one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)
        if sum(parts) > 0.0:
            freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(one) - 1) + parts[1] ** 2 / (len(other) - 1))
            width = float(stdtrit(freedom, 0.975)) * float(np.sqrt(sum(parts)))
            low, high = value - width, value + width
    detail = (
        f"{measure} of {group} items changes by {value:+.3g} more for 1 of strength than that of the main ones "
        f"({one.mean():+.3g} against {other.mean():+.3g})"
    )
    yield {"finding": "transfer", "value": value, "low": low, "high": high, "n": len(one), "detail": detail}


def seed_spread(rows: pl.DataFrame, off: str, measure: str) -> Iterator[dict[str, Any]]:
    """Spread of the effect over seeds of the fit, at both ends of the strengths; nothing with one seed.

    Args:
        rows: rows of `arm_scores` with `role`, `strength` and `seed` of the arm, of one setting and set of items.
        off: id of the unsteered arm.
        measure: whose effect.
    """
    own = rows.filter(pl.col("measure") == measure)
    steered = own.filter(pl.col("role") == "vector")
    if steered["seed"].n_unique() < 2:
        return
    plain = own.filter(pl.col("arm_id") == off).group_by("item_id").agg(pl.col("value").mean().alias("plain"))
    strengths = sorted(set(steered["strength"]))
    ends = [("low", strengths[0]), ("high", strengths[-1])] if len(strengths) > 1 else [("high", strengths[0])]
    for end, strength in ends:
        at = steered.filter(pl.col("strength") == strength)
        # samples of an item first, so that each item counts once with every seed
        items = at.group_by("seed", "item_id").agg(pl.col("value").mean()).join(plain, on="item_id", how="inner")
        effects = items.group_by("seed").agg((pl.col("value") - pl.col("plain")).mean().alias("effect")).sort("seed")
        known = effects.drop_nulls()
        if known.height < 2:
            continue
        told: Sequence[str] = [f"{_signed(e)} (seed {s})" for s, e in effects.select("seed", "effect").iter_rows()]
        spread = float(known["effect"].to_numpy().std(ddof=1))
        detail = f"effects of fits with other seeds at strength {strength:g}: {', '.join(told)}"
        yield {
            "finding": f"seeds_{end}", "value": spread, "low": None, "high": None, "n": known.height, "detail": detail,
        }  # fmt: skip


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.3g}"
