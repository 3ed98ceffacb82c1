"""How good is a judge? Its verdicts on answers whose label is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas.digest import digest_json
from schemas.sweeps import JudgeCalibration
from steer_core.evaluation.behaviors.findings import NEUTRAL
from steer_core.evaluation.judges.judge import Case, Judge, judge_cases
from steer_core.generation.run import Progress
from steer_core.statistics import auroc, auroc_interval
from steer_core.steering.plan import messages_of

#: Bumped when the same judge and items give other figures.
VERSION = "2"


@dataclass(frozen=True)
class Known:
    """A case whose label is known.

    Attributes:
        case: what is judged.
        positive: whether it shows the behavior.
    """

    case: Case
    positive: bool


@dataclass(frozen=True)
class Calibration:
    """A judge beside the truth. Complete cases leave unparsed verdicts out; the worst reading counts them as wrong.

    Attributes:
        accuracy: share of verdicts on the right side of the middle of the scale; one on the middle counts half. None
            without a verdict.
        accuracy_worst: the same with unparsed verdicts as wrong.
        auroc: chance that a positive case is graded above a negative one, ties half (Mann-Whitney); None unless both
            labels have verdicts. 1: the order is right, whatever the level.
        auroc_low, auroc_high: its 95 % interval over items (percentiles of `DRAWS` resamples of items).
        bias: mean of (verdict - truth) in widths of the scale, the truth being the scale's ends; both labels weigh the
            same. Above 0: the judge sees the behavior where it is not. None unless both labels have verdicts.
        spread: mean over cases of the standard deviation between repeats, in widths of the scale; None with one repeat.
        n: cases with a verdict.
        unparsed: share of cases without one.
    """

    accuracy: float | None
    accuracy_worst: float
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    bias: float | None
    spread: float | None
    n: int
    unparsed: float


def known_cases(items: pl.DataFrame) -> list[Known]:
    """Two cases of each item that has both answers: the one that shows the behavior, and the one that does not.

    The item's answers are taken off the case, so that a rubric does not show the judge what it is to grade.

    Args:
        items: rows of `behavior_items`. Letters (form `ab`) say nothing by themselves, and the answers of a neutral set
            differ in something else: both are left aside.
    """
    rows = items.filter(
        pl.col("positive").is_not_null()
        & pl.col("negative").is_not_null()
        & (pl.col("form") != "ab")
        & (pl.col("group") != NEUTRAL)
    )
    found = []
    for item in rows.iter_rows(named=True):
        for positive in (True, False):
            text = item["positive"] if positive else item["negative"]
            response_id = digest_json(["known", item["item_id"], positive])
            found.append(Known(Case(response_id, item["item_id"], messages_of(item["messages"]), text), positive))
    return found


def calibrate(
    judge: Judge,
    known: Sequence[Known],
    *,
    done: pl.DataFrame | None = None,
    keep: Callable[[pl.DataFrame], None] | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Calibration:
    """A judge's verdicts on cases of known label.

    Args:
        judge: who is tested.
        known: cases with their labels.
        done: rows of `judgements` so far, of any judges; what is there is not asked again.
        keep: given new rows batch by batch.
        batch_size: cases put to the judge together.
        progress: told after each batch.

    Raises:
        ValueError: there are no cases.
    """
    if not known:
        raise ValueError("no cases of known label: give items that have a positive and a negative answer")
    cases = [k.case for k in known]
    rows = judge_cases(judge, cases, done, keep=keep, batch_size=batch_size, progress=progress)
    verdicts = rows.group_by("response_id", "item_id").agg(
        pl.col("value").mean(), spread=pl.col("value").std(ddof=1), parsed=pl.col("value").count()
    )
    by_key = {(r["response_id"], r["item_id"]): r for r in verdicts.iter_rows(named=True)}
    found = [by_key[k.case.response_id, k.case.item_id] for k in known]
    bottom, top = judge.scale
    values = np.array([np.nan if r["value"] is None else (r["value"] - bottom) / (top - bottom) for r in found])
    labels = np.array([k.positive for k in known])
    parsed = ~np.isnan(values)
    right = np.where(values == 0.5, 0.5, (values > 0.5) == labels)[parsed]
    spreads = [r["spread"] / (top - bottom) for r in found if r["parsed"] > 1]
    positive, negative = values[parsed & labels], values[parsed & ~labels]
    both = len(positive) > 0 and len(negative) > 0
    low, high = auroc_interval(values, labels, [k.case.item_id for k in known])
    return Calibration(
        accuracy=float(right.mean()) if len(right) else None,
        accuracy_worst=float(right.sum()) / len(known),
        auroc=auroc(positive, negative) if both else None,
        auroc_low=low,
        auroc_high=high,
        bias=float(((positive - 1.0).mean() + negative.mean()) / 2.0) if both else None,
        spread=float(np.mean(spreads)) if spreads else None,
        n=int(parsed.sum()),
        unparsed=float(1.0 - parsed.mean()),
    )


def calibration_table(
    behavior: str, judge: Judge, known: Sequence[Known], *, batch_size: int = 64, progress: Progress | None = None
) -> pl.DataFrame:
    """The row of `judge_calibration` of a behavior; none where no case of known label is there."""
    if not known:
        return JudgeCalibration.empty()
    c = calibrate(judge, known, batch_size=batch_size, progress=progress)
    row = (behavior, judge.judge_id, c.auroc, c.auroc_low, c.auroc_high, c.accuracy, c.bias, c.unparsed, c.n)
    return pl.DataFrame([row], schema=JudgeCalibration.empty().schema, orient="row")
