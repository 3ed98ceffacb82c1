"""Pairs of texts from the corpus: both ends of a goal, matched on the other goals. They cost no answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steer_core.steering.plan import Message
from steer_core.vectors.goal_contrasts.pairs import Doubles, Found, Limits, Pair, as_messages, example_rows

#: What the texts are read after: no text of the corpus was asked for, so the prompt says nothing of any.
PROMPT = (Message("user", "Write a short text."),)
#: Texts at each end that are matched with one another.
MOST_ENDS = 512
#: What a pair that does not serve costs: more than any that does.
FORBIDDEN = 1e6


def match_texts(texts: Sequence[str], z: Doubles, goal: str, axis: int, *, limits: Limits | None = None) -> Found:
    """Contrast pairs of a goal: the texts in its upper and in its lower third, assigned at the least cost.

    The cost of a pair is the root mean square of its gaps on the other goals (an optimal matching, Rosenbaum 1989).
    Texts with an undefined goal are left out.

    Args:
        texts: texts of the training side.
        z: where they lie, shape [n, goals].
        goal: the goal.
        axis: its axis in z.
        limits: which pairs serve.
    """
    from scipy.optimize import linear_sum_assignment

    limits = limits or Limits()
    whole = np.flatnonzero(np.isfinite(z).all(axis=1))
    order = whole[np.argsort(z[whole, axis], kind="stable")]
    n = min(len(order) // 3, MOST_ENDS)
    if n == 0:
        return Found((), (), 0, f"{len(whole)} texts of the training side have every goal defined")
    low, high = order[:n], order[-n:]
    gaps = z[high, None, axis] - z[None, low, axis]  # [high, low]
    others = np.abs(np.delete(z[high], axis, axis=1)[:, None] - np.delete(z[low], axis, axis=1)[None])
    cost = np.sqrt((others**2).mean(axis=2)) if others.shape[2] else np.zeros_like(gaps)
    serves = (gaps >= limits.min_gap) & (others <= limits.max_other).all(axis=2)
    rows, columns = linear_sum_assignment(np.where(serves, cost, FORBIDDEN))
    found = [
        Pair(int(high[i]), int(low[k]), float(gaps[i, k]), float(gaps[i, k] - limits.weight * cost[i, k]))
        for i, k in zip(rows, columns, strict=True)
        if serves[i, k]
    ]
    pairs = tuple(sorted(found, key=lambda p: (-p.score, p.high, p.low))[: limits.max_pairs])
    before = as_messages(PROMPT)
    made = tuple(example_rows(goal, "corpus", pairs, texts, lambda pair: before, "corpus, matched"))
    said = f"{n} texts at each end of the goal; {len(found)} pairs of them are close on the other goals"
    return Found(pairs, made, int(serves.sum()), said + _left(z, pairs, axis))


def _left(z: Doubles, pairs: Sequence[Pair], axis: int) -> str:
    """What the sides still differ in on average, on the other goal where it is most: pairing cannot take that away."""
    others = np.delete(z, axis, axis=1)
    if not (pairs and others.shape[1]):
        return ""
    high, low = ([getattr(p, end) for p in pairs] for end in ("high", "low"))
    apart = float(np.abs((others[high] - others[low]).mean(axis=0)).max())
    return f"; on one of them the two sides still lie {apart:.2f} apart on average"
