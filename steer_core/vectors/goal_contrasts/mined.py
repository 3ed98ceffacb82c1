"""Pairs of answers to one text: asked for on purpose, or whatever answers there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from steer_core.steering.plan import Message
from steer_core.vectors.goal_contrasts.pairs import (
    Answers,
    Doubles,
    Found,
    Limits,
    Pair,
    Source,
    as_messages,
    best_disjoint,
    example_rows,
)


def pair_answers(
    answers: Answers,
    goal: str,
    axis: int,
    *,
    messages_of: Callable[[Source], Sequence[Message]],
    asked_only: bool = False,
    limits: Limits | None = None,
) -> Found:
    """Contrast pairs of a goal among answers to one text.

    A pair's score is its gap on the goal minus `weight` times the root mean square of its gaps on the other goals, but
    for goals that are undefined for one of the answers. Pairs are taken by falling score; an answer serves in one pair.

    Args:
        answers: what there is.
        goal: the goal.
        axis: its axis in z.
        messages_of: turns before the answer, for a source text; the same for both sides.
        asked_only: only answers that were asked for this goal, of which the one asked for more must have more.
        limits: which pairs serve.
    """
    limits = limits or Limits()
    own = answers.take([i for i, a in enumerate(answers.asked) if not asked_only or (a is not None and a[0] == goal)])
    texts = [s.text_id for s in own.sources]
    found = list(_candidates(own.z, texts, axis, limits))
    if asked_only:
        found = [p for p in found if (own.asked[p.high] or ("", 0))[1] > (own.asked[p.low] or ("", 0))[1]]
    pairs = best_disjoint(found, limits.max_pairs)
    messages = {s.text_id: s for s in own.sources}
    written: dict[str, str] = {}

    def before(pair: Pair) -> str:
        key = texts[pair.high]
        if key not in written:
            written[key] = as_messages(messages_of(messages[key]))
        return written[key]

    kind = "asked" if asked_only else "mined"
    rows = tuple(example_rows(goal, kind, pairs, own.texts, before, f"answers, {kind}"))
    return Found(pairs, rows, len(found), _said(own, axis, limits, len(found)))


def _candidates(z: Doubles, texts: Sequence[str], axis: int, limits: Limits) -> Iterator[Pair]:
    """Pairs of answers to one source that part on the goal and not on the others."""
    members: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        if np.isfinite(z[i, axis]):
            members.setdefault(text, []).append(i)
    for answers in members.values():
        for i, k in combinations(answers, 2):
            high, low = (i, k) if z[i, axis] > z[k, axis] else (k, i)
            gap = float(z[high, axis] - z[low, axis])
            others = np.delete(np.abs(z[high] - z[low]), axis)
            others = others[np.isfinite(others)]
            if gap >= limits.min_gap and not (others > limits.max_other).any():
                cost = float(np.sqrt((others**2).mean())) if others.size else 0.0
                yield Pair(high, low, gap, gap - limits.weight * cost)


def _said(answers: Answers, axis: int, limits: Limits, n_candidates: int) -> str:
    """What there was to choose from."""
    texts = [s.text_id for s in answers.sources]
    several = sum(count > 1 for count in Counter(texts).values())
    alone = len(list(_candidates(answers.z[:, axis : axis + 1], texts, 0, Limits(limits.min_gap, 1.0, 0.0))))
    return (
        f"{len(texts)} answers to {len(set(texts))} texts, {several} of them with several; {alone} pairs lie "
        f"{limits.min_gap:g} apart on the goal, {n_candidates} of them close on the others"
    )
