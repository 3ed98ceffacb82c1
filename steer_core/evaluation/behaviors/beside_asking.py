"""A vector beside asking for the same: a system prompt, or examples, at equal KL from the model as it is.

For each `prompt` arm, towards the end that it asks for (`high`: the behavior, `low`: its opposite):

* `asked_high`, `shown_high`: paired difference of the prompt, or of the examples, to the unsteered arm.
* `over_asked_high`, `over_shown_high`: the vector less that, item by item, at the strength where both are as many nats
  away from the model as it is. Between two strengths that were run each item's score is interpolated in a line over the
  square root of the arms' mean KL, which for small steps grows with the strength; the jackknife's interval moves that
  place along with the items. Items without a vector's answer are left out, and counted in words.
* `nearest_asked_high`, ...: in its place where the vector was not run at that cost: the nearest that was.
* `wins_asked_high`, ...: share of items on which the vector goes further that way, ties half, at the strongest
  strength that costs no more; none where all cost more.
* `tokens_asked_high`, ...: tokens that the prompt adds to each call; a vector adds none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.statistics import clustered_mean, clustered_share
from steer_core.steering.operators import load_operator

Floats = NDArray[np.float64]
#: Findings that this makes, without their ends.
FINDINGS = tuple(f"{what}{how}" for how in ("asked", "shown") for what in ("", "over_", "nearest_", "wins_", "tokens_"))


@dataclass(frozen=True)
class Ladder:
    """A vector's arms towards one end, the weakest first, item by item.

    Attributes:
        strengths: of the arms, shape [k]; the first is 0 where that is the unsteered arm.
        values: score of each item, shape [items, k].
        kl: nats a token of each item, shape [items, k].
    """

    strengths: Floats
    values: Floats
    kl: Floats

    def at(self, nats: float, rows: NDArray[np.int64]) -> tuple[Floats, float, bool]:
        """Scores of items where these items' mean KL is so much, the strength there, and whether it was reached."""
        means = np.sqrt([_mean(column) for column in self.kl[rows].T])
        wanted = float(np.sqrt(nats))
        for j in range(len(means) - 1):
            low, high = means[j], means[j + 1]
            if low <= wanted <= high and high > low:
                w = (wanted - low) / (high - low)
                found = (1.0 - w) * self.values[rows, j] + w * self.values[rows, j + 1]
                return found, float((1.0 - w) * self.strengths[j] + w * self.strengths[j + 1]), True
        # cheaper than the weakest that was run, or dearer than the strongest
        known = np.where(np.isfinite(means), np.abs(means - wanted), np.inf)
        j = int(np.argmin(known))
        return self.values[rows, j], float(self.strengths[j]), False

    def affordable(self, nats: float, rows: NDArray[np.int64]) -> int | None:
        """The strongest steered arm whose mean KL over these items is no more; None where all cost more."""
        means = [_mean(column) for column in self.kl[rows].T]
        able = [j for j, s in enumerate(self.strengths) if s != 0.0 and means[j] <= nats]
        return able[-1] if able else None


def _mean(values: Floats) -> float:
    """Mean of what is defined; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def beside_asking(rows: pl.DataFrame, off: str, measure: str) -> Iterator[dict[str, Any]]:
    """Findings of one behavior, setting, set of items and measure; none where nothing was asked in words.

    Args:
        rows: rows of `arm_scores` with `role`, `strength`, `side`, `system`, `turns` and `interventions` of the arm: of
            the vector's arms at one setting, of the unsteered arm, and of `prompt` arms.
        off: id of the unsteered arm.
        measure: what is looked at.
    """
    items = sorted(set(rows.filter(pl.col("measure") == measure)["item_id"]))
    table = {
        (arm, name): _by_item(own, items)
        for (arm, name), own in rows.filter(pl.col("measure").is_in([measure, "kl", "prompt_tokens"])).group_by(
            "arm_id", "measure"
        )
    }
    plain = table.get((off, measure))
    if plain is None:
        return
    for arm in _prompts(rows):
        end, how = ("high" if arm["side"] > 0 else "low"), ("shown" if arm["turns"] is not None else "asked")
        own = table.get((arm["arm_id"], measure))
        if own is None:
            continue
        words = "examples" if how == "shown" else "a system prompt"
        effect = clustered_mean(own - plain, np.arange(len(items)))
        yield _row(f"{how}_{end}", effect, f"{measure} under {words} minus unsteered: {_signed(effect.value)}")
        read = [table.get((a, "prompt_tokens")) for a in (arm["arm_id"], off)]
        if read[0] is not None and read[1] is not None:
            more = clustered_mean(read[0] - read[1], np.arange(len(items)))
            yield _row(f"tokens_{how}_{end}", more, f"{words} adds {_signed(more.value)} tokens to each call")
        ladder = _ladder(rows, table, off, measure, arm["side"])
        nats = table.get((arm["arm_id"], "kl"))
        if ladder is not None and nats is not None and np.isfinite(nats).any():
            yield from _compared(ladder, own, nats, arm["side"], f"{how}_{end}", words)


def _prompts(rows: pl.DataFrame) -> list[dict[str, Any]]:
    own = rows.filter(pl.col("role") == "prompt", pl.col("side").is_not_null())
    # of several of a kind and side the first: a behavior has one prompt of its own each way
    first = own.select("arm_id", "side", "turns").unique("arm_id", maintain_order=True)
    return (
        first.with_columns(kind=pl.col("turns").is_null())
        .unique(["side", "kind"], keep="first", maintain_order=True)
        .to_dicts()
    )


def _by_item(rows: pl.DataFrame, items: Sequence[str]) -> Floats:
    means = dict(rows.drop_nulls("value").group_by("item_id").agg(pl.col("value").mean()).iter_rows())
    return np.array([means.get(i, np.nan) for i in items], dtype=np.float64)


def _ladder(
    rows: pl.DataFrame, table: Mapping[tuple[Any, ...], Floats], off: str, measure: str, side: int
) -> Ladder | None:
    """The vector's arms towards a side; None where KL was not measured, or strengths have no sides."""
    own = rows.filter(pl.col("role") == "vector", pl.col("unit").is_in(["raw", "residual_fraction", "kl"]))
    own = own.filter(pl.col("strength").sign() == side).unique("arm_id", maintain_order=True)
    arms = own.select("arm_id", "strength", "interventions").unique("arm_id", maintain_order=True)
    columns: list[tuple[float, Floats, Floats]] = []
    idle = True
    for (strength,), of in arms.sort(pl.col("strength").abs()).group_by("strength", maintain_order=True):
        # seeds of the fit are averaged item by item, as everywhere
        both = [
            (table[a, measure], table[a, "kl"]) for a in of["arm_id"] if (a, measure) in table and (a, "kl") in table
        ]
        both = [(v, k) for v, k in both if np.isfinite(k).any() and np.isfinite(v).any()]
        if both:
            columns.append((float(strength), *(_over_seeds([pair[k] for pair in both]) for k in (0, 1))))  # type: ignore[arg-type]
        steps = [i for text in of["interventions"] for i in json.loads(text)]
        idle &= all(load_operator(i["operator"]).idle_at_zero or load_operator(i["operator"]).additive for i in steps)
    if not columns:
        return None
    if idle:
        columns.insert(0, (0.0, table[off, measure], np.zeros(len(columns[0][1]))))
    return Ladder(np.array([c[0] for c in columns]), *(np.column_stack([c[k] for c in columns]) for k in (1, 2)))


def _over_seeds(values: Sequence[Floats]) -> Floats:
    """Mean of each item over seeds that have it."""
    table = np.vstack(values)
    known = np.isfinite(table)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, table, 0.0).sum(axis=0) / known.sum(axis=0))


def _compared(ladder: Ladder, own: Floats, nats: Floats, side: int, name: str, words: str) -> Iterator[dict[str, Any]]:
    asked = np.flatnonzero(np.isfinite(own) & np.isfinite(nats))
    if len(asked) < 2:
        return
    values, _, _ = ladder.at(float(nats[asked].mean()), asked)
    known = asked[np.isfinite(values)]
    if len(known) < 2:
        return
    cost = float(nats[known].mean())

    def statistic(kept: NDArray[np.int64]) -> float:
        return _mean(ladder.at(float(nats[kept].mean()), kept)[0] - own[kept])

    value = statistic(known)
    _, strength, reached = ladder.at(cost, known)
    low, high = _jackknife(known, statistic, value)
    where = f"at {cost:.3g} nats a token, strength {strength:.3g}"
    if not reached:
        where = f"which was not run at {cost:.3g} nats a token, at strength {strength:.3g}"
    detail = f"the vector less {words}, {where}: {_signed(value)}"
    if lost := len(asked) - len(known):
        detail += f"; {lost} items are left out, for the vector has no answer to them"
    yield _finding(f"{'over' if reached else 'nearest'}_{name}", value, low, high, len(known), detail)
    j = ladder.affordable(cost, known)
    if j is None:
        return
    gaps = side * (ladder.values[known, j] - own[known])
    won = np.where(np.isnan(gaps), np.nan, np.where(np.abs(gaps) < 1e-9, 0.5, (gaps > 0).astype(np.float64)))
    share = clustered_share(won, np.arange(len(won)))
    said = "-" if share.value is None else f"{share.value:.0%}"
    at = f"strength {ladder.strengths[j]:.3g}"
    yield _row(
        f"wins_{name}", share, f"on {said} of the items the vector goes further than {words}, ties half, at {at}"
    )


def _jackknife(rows: NDArray[np.int64], statistic: Any, value: float) -> tuple[float | None, float | None]:
    """The delete-one jackknife's t interval (Efron and Tibshirani 1993, ch. 11)."""
    from scipy.special import stdtrit

    n = len(rows)
    without = np.array([statistic(np.delete(rows, k)) for k in range(n)])
    if not (np.isfinite(value) and np.isfinite(without).all()):
        return None, None
    error = float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    width = float(stdtrit(n - 1, 0.975)) * error
    return value - width, value + width


def _row(finding: str, found: Any, detail: str) -> dict[str, Any]:
    return _finding(finding, found.value, found.low, found.high, found.n, detail)


def _finding(
    finding: str, value: float | None, low: float | None, high: float | None, n: int, detail: str
) -> dict[str, Any]:
    defined = value is not None and np.isfinite(value)
    return {"finding": finding, "value": value if defined else None, "low": low, "high": high, "n": n, "detail": detail}


def _signed(value: float | None) -> str:
    return "undefined" if value is None or not np.isfinite(value) else f"{value:+.3g}"
