"""Texts that nobody labelled, read by a detector: a conversation turn by turn, a training set row by row.

Persona vectors (Chen et al. 2025, arXiv:2507.21509) watch fine-tuning with such projections. Their screening takes the
difference to the model's own answer to the same prompt, so that a topic which lies near the trait counts for nothing:
`screen` with `own`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.contrasts import ContrastExamples
from schemas.digest import canonical_json, digest_json
from steer_core.models.loading import LoadedModel
from steer_core.steering.plan import messages_of
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.detection import Detector, activations_of
from steer_core.vectors.evidence import Point

Floats = NDArray[np.float64]


def scores_of(loaded: LoadedModel, detector: Detector, messages: Sequence[str], answers: Sequence[str]) -> Floats:
    """Scores of answers, shape [n].

    Args:
        loaded: the model that the detector was found on.
        detector: what reads.
        messages: the turns before each answer, as JSON.
        answers: the answers.

    Raises:
        SteerworksError: another model, or an answer that cannot be read.
    """
    if loaded.fingerprint != detector.model:
        raise SteerworksError(
            f"the detector of {detector.concept!r} was found on another model ({detector.model[:12]}) than this one "
            f"({loaded.fingerprint[:12]}): activations of two models are not of one space"
        )
    ids = [digest_json([k, m, a]) for k, (m, a) in enumerate(zip(messages, answers, strict=True))]
    rows = pl.DataFrame(
        {
            "example_id": ids, "concept": detector.concept, "kind": "read", "split": "test", "pair_id": ids, "label": 1,
            "messages": list(messages), "answer": list(answers), "letter": None, "source": "read",
            "row": list(range(len(ids))),
        },
        schema=ContrastExamples.dtypes(),
    )  # fmt: skip
    point = Point(detector.layer)
    return detector.score(activations_of(loaded, rows, [point], detector.read)[point])


def watch(loaded: LoadedModel, detector: Detector, conversations: pl.DataFrame) -> pl.DataFrame:
    """A conversation turn by turn: how far each of the assistant's turns shows the trait.

    Args:
        loaded: the model.
        detector: what reads.
        conversations: columns `conversation_id` and `messages` (turns as JSON).

    Returns:
        `conversation_id`, `turn` (0-based among the assistant's), `score`, `probability`, `drift` (score less that of
        the first turn), in the order of the conversations.

    Raises:
        SteerworksError: a conversation is none, or has no turn of the assistant.
    """
    asked, answers, keys = [], [], []
    for name, said in conversations.select("conversation_id", "messages").iter_rows():
        turns = messages_of(said)
        own = [k for k, turn in enumerate(turns) if turn.role == "assistant"]
        if not own:
            raise SteerworksError(f"conversation {name!r} has no turn of the assistant: there is nothing to read")
        for place, k in enumerate(own):
            asked.append(canonical_json([{"role": t.role, "content": t.content} for t in turns[:k]]))
            answers.append(turns[k].content)
            keys.append((name, place))
    scores = scores_of(loaded, detector, asked, answers)
    found = pl.DataFrame(
        {
            "conversation_id": [name for name, _ in keys],
            "turn": [place for _, place in keys],
            "score": scores,
            "probability": detector.probability(scores),
        }
    )
    return found.with_columns(drift=pl.col("score") - pl.col("score").first().over("conversation_id"))


def screen(
    loaded: LoadedModel, detector: Detector, rows: pl.DataFrame, own: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """A training set row by row: what it would teach of the trait, the most first.

    Args:
        loaded: the model that is to be trained.
        detector: what reads.
        rows: columns `messages` (turns before the answer, as JSON) and `answer`.
        own: `messages` -> the model's own answer to it, whose score is taken off (projection difference).

    Returns:
        `row` (0-based place), `score`, `probability`, and `difference` where `own` is given, sorted from the highest.

    Raises:
        SteerworksError: a row has no own answer, or cannot be read.
    """
    scores = scores_of(loaded, detector, rows["messages"].to_list(), rows["answer"].to_list())
    found = pl.DataFrame(
        {"row": list(range(rows.height)), "score": scores, "probability": detector.probability(scores)}
    )
    if own is None:
        return found.sort("score", descending=True)
    if lacking := [k for k, m in enumerate(rows["messages"]) if m not in own]:
        raise SteerworksError(
            f"row {lacking[0]} (0-based) of {len(lacking)}: no answer of the model's own to its prompt"
        )
    asked = list(dict.fromkeys(rows["messages"]))
    base = dict(zip(asked, scores_of(loaded, detector, asked, [own[m] for m in asked]), strict=True))
    beside = np.array([base[m] for m in rows["messages"]])
    return found.with_columns(difference=pl.col("score") - pl.Series(beside)).sort("difference", descending=True)


def score_along(vector: SteeringVector, activations: Floats) -> Floats:
    """Activations along a steering vector of unit length: the vector that writes, read.

    Args:
        vector: one with a `direction`.
        activations: shape [n, width].
    """
    direction = vector.direction.reshape(-1).astype(np.float64)
    return np.asarray(activations @ (direction / max(float(np.linalg.norm(direction)), 1e-30)))
