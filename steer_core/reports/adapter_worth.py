"""What an adapter is worth and what it costs: the same method with and without it, paired by request, on the probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from schemas.evaluation import HEADLINE
from steer_core.evaluation.columns import to_array
from steer_core.reports.inputs import filled
from steer_core.reports.numbers import number, plural, signed, span
from steer_core.statistics import PairedContrast, paired_contrast

#: Label of the arm without the adapter (`methods.parts.adapter`).
BARE = "without the adapter"
#: Measure -> its figure with the adapter beside that without it.
Pairs = Mapping[str, PairedContrast]


class Cost(NamedTuple):
    """A measure that an adapter may cost.

    Attributes:
        measure: its name.
        words: what it is.
        worse: whether more is worse; None: neither is.
        digits: that it is written with.
        answered: whether it is defined only where both answered.
    """

    measure: str
    words: str
    worse: bool | None
    digits: int = 3
    answered: bool = True


COSTS = (
    Cost("orthogonality", "share of the move that is off the road", True),
    Cost("meaning_content", "content words shared with the source", False),
    Cost("meaning_chrf", "characters shared with the source (chrF)", False),
    Cost("failed", "share of requests without an answer", True, answered=False),
    Cost("words", "words of an answer", None, digits=1),
)


def beside_bare(
    arms: pl.DataFrame | None, scores: pl.DataFrame | None, outcomes: pl.DataFrame | None, label: str
) -> dict[str, PairedContrast]:
    """The method less the same method without the adapter; empty where that was not measured.

    Args:
        arms: rows of `probe_arms`.
        scores: rows of `steerability` of one probe, all arms.
        outcomes: rows of `outcomes`, likewise.
        label: of the part that wears the adapter.
    """
    arms, scores, outcomes = filled(arms), filled(scores), filled(outcomes)
    if arms is None or scores is None or outcomes is None:
        return {}
    bare = arms.filter(pl.col("part") == label, pl.col("label") == BARE)["arm_id"]
    if not bare.len():
        return {}
    columns = ["error_worst", *(c.measure for c in COSTS)]
    failed = pl.col("failure").is_not_null()
    written = outcomes.select(
        "arm_id",
        "request_id",
        failed=failed,
        words=pl.when(~failed).then(pl.col("text").str.count_matches(r"\S+")),
    )
    known = scores.join(written, on=["arm_id", "request_id"])
    both = known.filter(arm_id=HEADLINE).join(
        known.filter(arm_id=bare[0]).select("request_id", *(pl.col(c).alias(f"{c}_bare") for c in columns)),
        on="request_id",
    )
    texts = both["text_id"].to_numpy()
    # the claim is one; of the costs there are several, and one false one in twenty pages is meant for all of them
    levels = {"error_worst": 0.95}
    return {
        c: paired_contrast(
            to_array(both[c]), to_array(both[f"{c}_bare"]), texts, level=levels.get(c, 1.0 - 0.05 / len(COSTS))
        )
        for c in columns
    }


def claim(pairs: Pairs) -> str:
    """What the probe says of the adapter, as a sentence; empty where that was not measured."""
    pair = pairs.get("error_worst")
    if pair is None or pair.difference is None:
        return ""
    size = f"{signed(pair.difference, 3)} {span(pair.low, pair.high, 3)} of error, {plural(pair.n, 'request')} on "
    size += f"{plural(pair.n_clusters, 'text')}"
    if pair.low is None or pair.high is None:
        return f"Too few texts to say what the adapter is worth ({size})."
    if pair.high < 0:
        return f"With the adapter the model steers better than without it, under the same prompt: {size}."
    if pair.low > 0:
        return f"With the adapter the model steers worse than without it, under the same prompt: {size}."
    return f"With and without the adapter cannot be told apart under the same prompt: {size}."


def costs(pairs: Pairs) -> list[str]:
    """What else differs beyond its interval; and what does not, named."""
    found, same = [], []
    for cost in COSTS:
        pair = pairs.get(cost.measure)
        if pair is None or pair.difference is None or pair.low is None or pair.high is None:
            continue
        if pair.low <= 0.0 <= pair.high:
            same.append(cost.words)
            continue
        verb = "changes" if cost.worse is None else "costs" if (pair.difference > 0) == cost.worse else "gains"
        where = "; where both answered" if cost.answered else ""
        found.append(
            f"It {verb}: {cost.words} {number(pair.control_value, cost.digits)} → {number(pair.value, cost.digits)} "
            f"({signed(pair.difference, cost.digits)} {span(pair.low, pair.high, cost.digits)}{where})."
        )
    return [*found, *([f"No difference was found in: {', '.join(same)}."] if same else [])]
