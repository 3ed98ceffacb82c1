"""Multiple choice: how often a model is right, and whether it is as sure as it is right.

Everything follows from one table of option scores: a second look makes no forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from steer_core.evaluation.profiles.options import NORMALISATIONS, Normalisation, accuracy, decided
from steer_core.evaluation.profiles.sets import load_set
from steer_core.statistics import Estimate

VERSION = "1"
ASKS = "scored"
CORRECT, SURE = "right answers", "confidence"
METRICS: Mapping[str, Metric] = {
    CORRECT: Metric("share of right answers", 1, capability=True),
    SURE: Metric("mean probability of the answer that is chosen"),
    "gold_probability": Metric("mean probability of the right answer", 1),
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


def items(spec: ChoicesProfile) -> pl.DataFrame:
    """The questions with their options."""
    return load_set(spec.set)


def options_of(found: Found, arm_id: str) -> pl.DataFrame:
    """The option table of an arm, as `options.COLUMNS` has it; an option that was not scored counts one token."""
    own = found.options.filter(pl.col("arm_id") == arm_id)
    asked = found.items.select("item_id", "cluster", right="gold")
    return (
        own.join(asked, on="item_id", how="inner", maintain_order="left")
        .filter(pl.col("right").is_not_null())
        .select(
            "item_id", "cluster", "option", "log_likelihood", pl.col("tokens").clip(1), "bytes", "unconditional",
            gold=pl.col("option") == pl.col("right"),
        )
    )  # fmt: skip


def measure(spec: ChoicesProfile, found: Found) -> pl.DataFrame:
    """Whether each item was answered rightly, and how surely."""
    rows: list[tuple[str, str, int, str, float | None, str | None]] = []
    for arm in found.arms:
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
        table = options_of(found, arm)
        groups = [g for g in found.items["group"].unique(maintain_order=True) if g]
        for group in ["", *(groups if len(groups) > 1 else [])]:
            own = table.join(of_group.filter(pl.col("group") == group), on="item_id", how="semi") if group else table
            # a category by the scores that answers are chosen by, all items by the others, too
            for name in normalisations(spec) if not group else (spec.normalisation,):
                right = accuracy(own, name, level=how.level)
                tied = f"{right.n_tied} tied" if right.n_tied else ""
                estimate = right.estimate
                yield Figure(arm, "accuracy", estimate, group or "all", name, right.n_unscored, tied)
        yield from _calibration(spec, arm, table, how)


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
    return row["group"] == "all" and (row["metric"], row["setting"]) in wanted
