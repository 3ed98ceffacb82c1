"""Multiple choice: how often a model is right, and whether it is as sure as it is right.

Everything follows from one table of option scores: a second look makes no forward pass.

An item with several right options (`facts.labels`) has the two measures of TruthfulQA (Lin, Hilton and Evans 2022,
section 3.2), over sums of log-probabilities as published:

* `mc1`: 1 where the first right option is likelier than every wrong one; other right options are left aside, and a tie
  with m wrong ones counts 1 / (1 + m).
* `mc2`: probability of the right options, all options of the item together being 1.

Such items have no one right answer to be sure of: they are in no calibration error. A right answer is any of the right
ones being chosen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

import numpy as np
import polars as pl
from pydantic import Field

from schemas.profile_sets import ChoicesSet
from schemas.profile_spec import ProfileSpec
from schemas.spec import EACH_ONCE
from steer_core.evaluation.profiles.calibration import (
    BINS,
    BrierKind,
    CalibrationError,
    Confidence,
    Scheme,
    brier,
    calibration_error,
    confidences,
)
from steer_core.evaluation.profiles.kind import Figure, Found, How, Metric, value_rows
from steer_core.evaluation.profiles.kinds.text import means
from steer_core.evaluation.profiles.options import NORMALISATIONS, Normalisation, accuracy, decided, normalised
from steer_core.evaluation.profiles.sets import ItemSet, read_set
from steer_core.statistics import Estimate

VERSION = "2"
ASKS = "scored"
CORRECT, SURE = "right answers", "confidence"
MC1, MC2 = "mc1", "mc2"
METRICS: Mapping[str, Metric] = {
    CORRECT: Metric("share of right answers", 1, capability=True),
    SURE: Metric("mean probability of the answer that is chosen"),
    "gold_probability": Metric("mean probability of the right answer", 1),
    MC1: Metric("share of questions where the first right answer is likelier than every wrong one", 1),
    MC2: Metric("mean probability of all right answers together", 1),
}
UNSCORED = "an option was not scored"


class ChoicesProfile(ProfileSpec):
    """Accuracy and calibration on a table of multiple choice."""

    kind: Literal["choices"] = "choices"
    set: ChoicesSet = Field(default_factory=lambda: ChoicesSet.model_validate({}), description="What is asked")
    normalisation: Normalisation = Field(
        "sum", description="Of the scores by which an answer is chosen; `sum`: the model's own probabilities"
    )
    also: Annotated[tuple[Normalisation, ...], EACH_ONCE] = Field(
        NORMALISATIONS, description="Normalisations that are reported beside it"
    )
    bins: Annotated[tuple[Annotated[int, Field(gt=0)], ...], EACH_ONCE] = Field(
        BINS, min_length=1, description="Numbers of bins of the calibration errors"
    )


SPEC = ChoicesProfile


def normalisations(spec: ChoicesProfile) -> tuple[Normalisation, ...]:
    """All that are reported, the one that answers are chosen by first."""
    return tuple(dict.fromkeys((spec.normalisation, *spec.also)))


def bare(spec: ChoicesProfile) -> bool:
    """Whether options are also scored with nothing before them."""
    return "unconditional" in normalisations(spec)


def items(spec: ChoicesProfile) -> ItemSet:
    """The questions with their options."""
    return read_set(spec.set)


def options_of(found: Found, arm_id: str) -> pl.DataFrame:
    """The option table of an arm, as `options.COLUMNS` has it, of the items with one right option.

    An option that was not scored counts one token.
    """
    own = found.options.filter(pl.col("arm_id") == arm_id, ~pl.col("item_id").is_in(list(labels_of(found))))
    asked = found.items.select("item_id", "cluster", right="gold")
    return (
        own.join(asked, on="item_id", how="inner", maintain_order="left")
        .filter(pl.col("right").is_not_null())
        .select(
            "item_id", "cluster", "option", "log_likelihood", pl.col("tokens").clip(1), "bytes", "unconditional",
            gold=pl.col("option") == pl.col("right"),
        )
    )  # fmt: skip


def labels_of(found: Found) -> dict[str, list[int]]:
    """Item with several right options -> 1 for each that is right, 0 for the others."""
    facts = found.items.filter(pl.col("facts").str.contains("labels", literal=True)).select("item_id", "facts")
    labels = {item: json.loads(own).get("labels") for item, own in facts.iter_rows()}
    return {item: own for item, own in labels.items() if own is not None}


def mass(scores: Sequence[float], labels: Sequence[int]) -> tuple[float, float] | None:
    """`mc1` and `mc2` of an item (see above).

    Args:
        scores: log-probability of each option.
        labels: 1 for each that is right, 0 for the others; one right option at least.

    Returns:
        None where every option has probability 0.

    Raises:
        ValueError: scores and labels differ in number, or no option is right.
    """
    if len(scores) != len(labels) or 1 not in labels:
        raise ValueError(f"{len(scores)} scores with labels {list(labels)}: one each, and a right one among them")
    top = max(scores)
    if top == -math.inf:
        return None
    wrong = [s for s, label in zip(scores, labels, strict=True) if not label]
    first = scores[list(labels).index(1)]
    mc1 = 0.0 if any(s > first for s in wrong) else 1.0 / (1 + sum(s == first for s in wrong))
    shares = [math.exp(s - top) for s in scores]
    right = sum(p for p, label in zip(shares, labels, strict=True) if label)
    return mc1, right / sum(shares)


def _of_several(spec: ChoicesProfile, found: Found, arm: str) -> Iterator[tuple[str, str, float | None]]:
    """Item, metric and value of the items with several right options."""
    labels = labels_of(found)
    own = found.options.filter(pl.col("arm_id") == arm, pl.col("item_id").is_in(list(labels))).sort("item_id", "option")
    if not own.height:
        return
    # each has one gold for whoever counts scores: which it is decides nothing here
    table = own.join(found.items.select("item_id", "cluster"), on="item_id", maintain_order="left").with_columns(
        pl.col("tokens").clip(1), gold=pl.col("option") == pl.col("option").min().over("item_id")
    )
    chosen = dict(decided(table, spec.normalisation).select("item_id", "chosen").iter_rows())
    scored = normalised(table, "sum").group_by("item_id", maintain_order=True).agg("score")
    for item, scores in scored.iter_rows():
        right, best = labels[item], chosen[item]
        both = None if None in scores else mass(scores, right)
        yield item, CORRECT, None if best is None else sum(right[k] for k in best) / len(best)
        yield item, MC1, None if both is None else both[0]
        yield item, MC2, None if both is None else both[1]


def measure(spec: ChoicesProfile, found: Found) -> pl.DataFrame:
    """Whether each item was answered rightly, and how surely."""
    rows: list[tuple[str, str, int, str, float | None, str | None]] = []
    for arm in found.arms:
        for item, metric, value in _of_several(spec, found, arm):
            rows.append((arm, item, 0, metric, value, UNSCORED if value is None else None))
        table = options_of(found, arm)
        answers = decided(table, spec.normalisation)
        sure = {n: confidences(table, spec.normalisation, n) for n in get_args(Confidence)}
        probability = {n: dict(f.select("item_id", "confidence").iter_rows()) for n, f in sure.items()}
        for item, right in answers.select("item_id", "correct").iter_rows():
            for metric, value in (
                (CORRECT, right),
                (SURE, probability["max"].get(item)),
                ("gold_probability", probability["gold"].get(item)),
            ):
                rows.append((arm, item, 0, metric, value, UNSCORED if value is None else None))
    return value_rows(rows)


def figures(spec: ChoicesProfile, found: Found, values: pl.DataFrame, how: How) -> Iterator[Figure]:
    """Accuracy by category; every calibration error and Brier score, each with all that it depends on."""
    of_group = found.items.select("item_id", "group")
    for arm in found.arms:
        several = values.filter(pl.col("arm_id") == arm, pl.col("item_id").is_in(list(labels_of(found))))
        yield from _means(spec, found, several, how)
        table = options_of(found, arm)
        if not table.height and several.height:
            continue
        groups = [g for g in found.items["group"].unique(maintain_order=True) if g]
        for group in ["", *(groups if len(groups) > 1 else [])]:
            own = table.join(of_group.filter(pl.col("group") == group), on="item_id", how="semi") if group else table
            # a category by the scores that answers are chosen by, all items by the others, too
            for name in normalisations(spec) if not group else (spec.normalisation,):
                right = accuracy(own, name, level=how.level)
                tied = f"{right.n_tied} tied" if right.n_tied else ""
                estimate = right.estimate
                yield Figure(arm, "accuracy", estimate, _named(group), name, right.n_unscored, tied)
        yield from _calibration(spec, arm, table, how)


def _means(spec: ChoicesProfile, found: Found, several: pl.DataFrame, how: How) -> Iterator[Figure]:
    """Of items with several right options: the share of right answers, and the two measures of TruthfulQA."""
    called = {CORRECT: ("accuracy, any right answer", spec.normalisation), MC1: (MC1, "sum"), MC2: (MC2, "sum")}
    for figure in means(found, several, how):
        metric, setting = called[figure.metric]
        yield replace(figure, metric=metric, setting=setting)


def _calibration(spec: ChoicesProfile, arm: str, table: pl.DataFrame, how: How) -> Iterator[Figure]:
    n_items = table["item_id"].n_unique()
    for name in normalisations(spec):
        for confidence in get_args(Confidence):
            sure = confidences(table, name, confidence)
            columns = [sure[c].to_numpy() for c in ("confidence", "correct", "cluster")]
            for bins in spec.bins:
                for scheme in get_args(Scheme) if bins > 1 else ("width",):
                    # the same draws for all: figures differ by what they are, not by chance
                    rng = np.random.default_rng(how.seed)
                    found = calibration_error(
                        *columns, bins=bins, scheme=scheme, draws=how.draws, rng=rng, level=how.level,
                        kind=confidence, normalisation=name,
                    )  # fmt: skip
                    setting = f"{name}, {confidence}, {bins} bins" + (f" of equal {scheme}" if bins > 1 else "")
                    yield from _errors(arm, found, setting, n_items - sure.height)
        for kind in get_args(BrierKind):
            score = brier(table, name, kind, level=how.level)
            yield Figure(arm, "brier", score.estimate, setting=f"{name}, {kind}", left_out=n_items - score.estimate.n)


def _errors(arm: str, found: CalibrationError, setting: str, left_out: int) -> Iterator[Figure]:
    """The plug-in with its interval; the debiased one and the p of a calibrated model, which have none."""
    estimate = found.estimate
    yield Figure(arm, "ece", estimate, setting=setting, left_out=left_out)
    for metric, value in (("ece_debiased", found.debiased), ("ece_p", found.p)):
        if metric == "ece_p" and found.p is None:
            continue  # no model is calibrated in the sense of p(gold)
        why = "a bin holds a single item" if value is None else ""
        alone = Estimate(value, None, None, estimate.n, estimate.n_clusters)
        yield Figure(arm, metric, alone, setting=setting, left_out=left_out, why=why)


def shown(spec: ChoicesProfile, row: Mapping[str, Any]) -> bool:
    """Accuracy, one calibration error and the Brier score, by the scores that answers are chosen by."""
    name = spec.normalisation
    bins = max((b for b in spec.bins if b <= 10), default=spec.bins[0])
    error = f"{name}, max, {bins} bins" + (" of equal mass" if bins > 1 else "")
    wanted = {("accuracy", name), ("ece", error), ("ece_p", error), ("brier", f"{name}, all")}
    wanted |= {("accuracy, any right answer", name), (MC1, "sum"), (MC2, "sum")}
    return row["group"] == "all" and (row["metric"], row["setting"]) in wanted


def _named(group: str) -> str:
    """A category as figures call it; one that is called as all of them together is told apart."""
    return "all" if not group else "all (category)" if group == "all" else group
