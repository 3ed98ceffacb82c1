"""Items with given continuations: how likely each of them is in every arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from schemas.specs import Decoding
from steer_core.evaluation.arms.items import Asked, Item
from steer_core.evaluation.arms.measures import score_rows
from steer_core.generation.forced import score_all
from steer_core.generation.run import Run

#: From an item and the log-probabilities (nats) of each token of each of its continuations to (measure, value)s.
ChoiceMeasure = Callable[[Item, Sequence[Sequence[float]]], Sequence[tuple[str, float | None]]]


def score(asked: Sequence[Asked], run: Run, decoding: Decoding, measure: ChoiceMeasure) -> pl.DataFrame:
    """Rows of `arm_scores` of the items with continuations among them.

    Args:
        asked: items in their arms; open ones are left aside.
        run: who scores.
        decoding: written into the plans; it plays no part in a score.
        measure: what is said of the log-probabilities.

    Raises:
        SteerworksError: the backend cannot score, or cannot do what an arm asks for.

    Returns:
        Null measures for an item of which a continuation does not fit the model's context.
    """
    given = [one for one in asked if not one.item.open]
    if not given:
        return score_rows([])
    backend = run.asking
    plans = [one.plan(backend.model_identity, decoding) for one in given for _ in one.item.continuations]
    texts = [text for one in given for text in one.item.continuations]
    scored = iter(score_all(plans, texts, backend, run.batch_size, run.progress))
    rows: list[tuple[str, str, int, str, str, float | None]] = []
    for one in given:
        own = [next(scored) for _ in one.item.continuations]
        head = (one.arm.arm_id, one.item.item_id, 0, one.item.group)
        fits = all(own)
        measured = measure(one.item, own if fits else [[0.0]] * len(own))
        rows += [(*head, name, value if fits else None) for name, value in measured]
    return score_rows(rows)
