"""What A/B examples say before their letter is written: the activation there, and which letter the model leans to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from steer_core.models.loading import LoadedModel
from steer_core.steering.sites import find_sites
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.activations import letter_logits
from steer_core.vectors.encoding import Encoded, encode_examples
from steer_core.vectors.evidence import Evidence, Point
from steer_core.vectors.gather import Sides
from steer_core.vectors.moments import Moments


def letter_evidence(
    loaded: LoadedModel, examples: pl.DataFrame, points: Sequence[Point], *, halves: bool = True
) -> dict[Point, tuple[Evidence, ...]]:
    """Evidence of the positives of one concept, read at the token that the letter is predicted from.

    The two sides of a pair are one question, so only the positives are run; `logits` is the logit of the matching
    letter minus that of the other one.

    Args:
        loaded: the model.
        examples: rows of `schemas.ContrastExamples` of one concept, A/B data in pairs.
        points: layers and sites.
        halves: give the evidence of both halves of the pairs too.

    Returns:
        Point -> evidence of all pairs, then of each half.

    Raises:
        SteerworksError: an example has no letter or no other side, or the sides differ before the letter.
    """
    encoded = encode_examples(loaded, examples, ["before_letter"])["before_letter"]
    positives = [one for one in encoded if one.label == 1]
    negatives = {one.pair_id: one for one in encoded if one.label == 0}
    letters = np.array([_letters(one, negatives.get(one.pair_id)) for one in positives], dtype=np.int64).reshape(-1, 2)
    rows = {p: np.zeros((len(positives), find_sites(loaded.model).width), dtype=np.float32) for p in points}
    leaning = np.zeros(len(positives))
    for batch in letter_logits(loaded, positives, points, letters):
        assert batch.logits is not None
        leaning[batch.indices] = batch.logits[:, 0].astype(np.float64) - batch.logits[:, 1]
        for point in points:
            rows[point][batch.indices] = batch.rows[point]
    half = Sides.of(examples).halves[(examples["label"] == 1).to_numpy()]
    parts = [np.ones(len(positives), dtype=bool), *((half == h) for h in ((0, 1) if halves else ()))]
    concept = str(examples["concept"][0])
    found = {}
    for point in points:
        evidence = []
        for part in parts:
            moments = Moments(rows[point].shape[1])
            moments.update(rows[point][part])
            none = Moments(rows[point].shape[1])
            evidence.append(
                Evidence(concept, point, moments, none, positive_rows=rows[point][part], logits=leaning[part])
            )
        found[point] = tuple(evidence)
    return found


def _letters(positive: Encoded, negative: Encoded | None) -> tuple[int, int]:
    """Token ids of the matching letter and of the other one."""
    where = f"contrast example {positive.example_id} ({positive.concept!r})"
    if negative is None:
        raise SteerworksError(f"{where} has no other side: letters are compared within a pair")
    if not np.array_equal(positive.tokens, negative.tokens):
        raise SteerworksError(
            f"{where} and its other side differ before the letter, so their letters cannot be compared"
        )
    assert positive.letter_token is not None
    assert negative.letter_token is not None
    if positive.letter_token == negative.letter_token:
        raise SteerworksError(f"{where} and its other side have the same letter token ({positive.letter_token})")
    return positive.letter_token, negative.letter_token
