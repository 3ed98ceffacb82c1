"""How well a scorer tells texts that have an attribute from those that do not: AUC on labelled texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import polars as pl

from steer_core.evaluation.profiles.scorer import Scorer, score_texts
from steer_core.evaluation.profiles.value import Missing
from steer_core.statistics import auroc


@dataclass(frozen=True)
class LabelledText:
    """A text, and what it is labelled with.

    Attributes:
        text: the text.
        labels: attributes that it has; none where it has none.
    """

    text: str
    labels: frozenset[str]


def discrimination(scorer: Scorer, labelled: Sequence[LabelledText], *, level: float = 0.95) -> pl.DataFrame:
    """AUC of each attribute: the chance that a text with it scores above one without, ties half.

    The interval takes texts for independent (see `auc_interval`).

    Args:
        scorer: who scores.
        labelled: texts with known attributes.
        level: coverage asked of the intervals.

    Returns:
        Columns `scorer`, `scorer_version`, `attribute`, `auc` (null unless there are texts with and without it), `low`,
        `high`, `n_positive`, `n_negative` (texts that were scored), `n_missing` (texts that were not).
    """
    marks = score_texts(scorer, [t.text for t in labelled])
    rows = []
    for attribute in scorer.attributes:
        known = [(v, attribute in t.labels) for t in labelled if not isinstance(v := marks[t.text][attribute], Missing)]
        with_it = np.array([v for v, positive in known if positive], dtype=np.float64)
        without = np.array([v for v, positive in known if not positive], dtype=np.float64)
        value, low, high = None, None, None
        if len(with_it) and len(without):
            value = auroc(with_it, without)
            low, high = auc_interval(value, len(with_it), len(without), level=level)
        name = {"scorer": scorer.name, "scorer_version": scorer.version, "attribute": attribute}
        counts = {"n_positive": len(with_it), "n_negative": len(without), "n_missing": len(labelled) - len(known)}
        rows.append({**name, "auc": value, "low": low, "high": high, **counts})
    texts, figures = ("scorer", "scorer_version", "attribute"), ("auc", "low", "high")
    schema = dict.fromkeys(texts, pl.String) | dict.fromkeys(figures, pl.Float64)
    return pl.DataFrame(rows, schema={**schema, **dict.fromkeys(("n_positive", "n_negative", "n_missing"), pl.Int64)})


def auc_interval(auc: float, n_positive: int, n_negative: int, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of an AUC: the values A with |auc - A| <= z sqrt(V(A)) (Newcombe 2006, part 2, method 5).

    V(A) = A (1 - A) (1 + (N - 1) ((1 - A) / (2 - A) + A / (1 + A))) / (n m), N = (n + m) / 2: the variance of Hanley
    and McNeil (1982) at A itself, so the interval stays within [0, 1] and is no point where the AUC is 1.

    Args:
        auc: what was found, in [0, 1].
        n_positive: texts with the attribute, at least 1.
        n_negative: texts without it, at least 1.
        level: coverage asked of it.

    Raises:
        ValueError: a count below 1, or an AUC outside [0, 1].
    """
    if min(n_positive, n_negative) < 1 or not 0.0 <= auc <= 1.0:
        raise ValueError(f"an AUC of {auc} from {n_positive} and {n_negative} texts has no interval")
    z, half = NormalDist().inv_cdf(0.5 + level / 2.0), (n_positive + n_negative) / 2.0 - 1.0

    def inside(a: float) -> bool:
        spread = a * (1.0 - a) * (1.0 + half * ((1.0 - a) / (2.0 - a) + a / (1.0 + a))) / (n_positive * n_negative)
        return abs(auc - a) <= z * float(spread**0.5)

    def end(outer: float) -> float:
        held = auc
        for _ in range(60):
            middle = (held + outer) / 2.0
            held, outer = (middle, outer) if inside(middle) else (held, middle)
        return held

    return end(0.0), end(1.0)
