"""Conditional steering (CAST, Lee et al. 2024, arXiv 2409.05907): which prompts a vector is meant for.

A gate opens where the cosine of a prompt's mean activation with a condition vector reaches a threshold. Here the vector
is fitted, and layer and threshold are searched, on prompts that meet the condition and prompts that do not. The search
looks at prompts that the direction was not fitted on: with fewer prompts than dimensions a direction parts its own
prompts at nearly every layer, and would say nothing of which layer to take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steer_core.steering.intervention import Gate
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.evidence import Evidence, Point
from steer_core.vectors.linalg import agree, as_rows
from steer_core.vectors.moments import Doubles, Moments

Criterion = Literal["f1", "balanced_accuracy"]
Rows = Mapping[int, NDArray[Any]]


@dataclass(frozen=True)
class Condition:
    """A fitted condition.

    Attributes:
        vector: the condition vector; hand it to the backend beside the steering vectors.
        gate: what an intervention carries.
        criterion: what was searched for.
        score: its value at the gate's layer and threshold, on prompts that the direction was not fitted on.
        scores: the best value at each layer looked at.
    """

    vector: SteeringVector
    gate: Gate
    criterion: Criterion
    score: float
    scores: Mapping[int, float]


def fit_condition(
    positive: Rows,
    negative: Rows,
    *,
    concept: str,
    model: str,
    method: Literal["mean_difference", "pca"] = "mean_difference",
    criterion: Criterion = "balanced_accuracy",
    layer: int | None = None,
    threshold: float | None = None,
    above: bool = True,
    folds: int = 5,
    seed: int = 0,
    template: str = "",
) -> Condition:
    """Fit a condition vector, and search layer and threshold.

    Args:
        positive: 0-based layer -> mean activation of each prompt that meets the condition, residual stream after the
            layer, mean over the prompt's tokens, shape [n, d].
        negative: the same for prompts that do not.
        concept: behavior that the condition stands for.
        model: fingerprint of the model.
        method: difference of the class means, or the first principal component of all prompts about the middle of the
            two means (as published), with the sign of the difference.
        criterion: F1 of the prompts that meet the condition, or the mean of both classes' accuracies.
        layer: the layer; None: the best of those given.
        threshold: cosine from which the condition holds; None: searched with the layer.
        above: what the gate says; False: steer where the condition does not hold. The search is the same.
        folds: groups that the prompts are dealt into; each is scored by a direction fitted on the others.
        seed: seed of the deal.
        template: digest of the chat template.

    Raises:
        ConfigError: the method or criterion is unknown, or the layer was not read.
        SteerworksError: the two sides have other layers, or fewer than two prompts, or the same mean.
    """
    if method not in ("mean_difference", "pca") or criterion not in ("f1", "balanced_accuracy"):
        raise ConfigError(
            f"condition {concept!r}: method {method!r} and criterion {criterion!r} must be mean_difference or pca, and "
            "f1 or balanced_accuracy"
        )
    _check_rows(positive, negative, concept, layer)
    found: dict[int, _Found] = {}
    for candidate in sorted(positive) if layer is None else [layer]:
        sides = positive[candidate].astype(np.float64), negative[candidate].astype(np.float64)
        cosines, labels = _held_out_cosines(*sides, Point(candidate), concept, method, folds, seed)
        found[candidate] = _search(cosines, labels, criterion, threshold)
    # equal scores, as when every layer parts the classes: the one that parts them furthest
    best = max(found, key=lambda at: (found[at].score, found[at].separation, -at))
    p, n = positive[best].astype(np.float64), negative[best].astype(np.float64)
    everything = np.concatenate([p, n])
    vector = SteeringVector(
        concept=concept,
        operator="add",
        layer=best,
        tensors={"direction": as_rows(_direction(p, n, Point(best), concept, method))},
        scalars={
            "positive_share": len(p) / len(everything),
            "residual_norm": float(np.linalg.norm(everything, axis=1).mean()),
        },
        model=model,
        estimator=f"condition-{method.replace('_', '-')}",
        read="prompt",
        template=template,
        n_positive=len(p),
        n_negative=len(n),
        lineage={"threshold": found[best].threshold, criterion: found[best].score, "folds": folds, "seed": seed},
    )
    return Condition(
        vector,
        Gate(vector.id, best, found[best].threshold, above),
        criterion,
        found[best].score,
        {at: f.score for at, f in found.items()},
    )


@dataclass(frozen=True)
class _Found:
    threshold: float
    score: float
    separation: float


def _check_rows(positive: Rows, negative: Rows, concept: str, layer: int | None) -> None:
    if set(positive) != set(negative) or not positive:
        raise SteerworksError(
            f"condition {concept!r}: prompts that meet it were read at layers {sorted(positive)}, the others at "
            f"{sorted(negative)}; read both at the same"
        )
    if layer is not None and layer not in positive:
        raise ConfigError(f"condition {concept!r}: layer {layer} was not read; layers {sorted(positive)} were")
    for at in positive:
        if len(positive[at]) < 2 or len(negative[at]) < 2:
            raise SteerworksError(
                f"condition {concept!r}: {len(positive[at])} prompts meet it and {len(negative[at])} do not; give at "
                "least two of each"
            )


def _direction(positive: Doubles, negative: Doubles, point: Point, concept: str, method: str) -> Doubles:
    sides = Moments(positive.shape[1]), Moments(negative.shape[1])
    sides[0].update(positive)
    sides[1].update(negative)
    difference = Evidence(concept, point, sides[0], sides[1]).mean_difference
    if method == "mean_difference":
        return difference
    middle = (positive.mean(axis=0) + negative.mean(axis=0)) / 2.0
    _, _, basis = np.linalg.svd(np.concatenate([positive, negative]) - middle, full_matrices=False)
    return agree(basis[0], difference)


def _held_out_cosines(
    positive: Doubles, negative: Doubles, point: Point, concept: str, method: str, folds: int, seed: int
) -> tuple[Doubles, NDArray[np.bool_]]:
    """Cosine of every prompt with the direction of the other groups, positives first; and which ones are positive."""
    k = max(2, min(folds, len(positive), len(negative)))
    rng = np.random.default_rng(seed)
    groups = [rng.permutation(len(rows)) % k for rows in (positive, negative)]
    cosines = [np.zeros(len(positive)), np.zeros(len(negative))]
    for g in range(k):
        rest = [rows[group != g] for rows, group in zip((positive, negative), groups, strict=True)]
        direction = _direction(rest[0], rest[1], point, concept, method)
        for rows, group, out in zip((positive, negative), groups, cosines, strict=True):
            held = rows[group == g]
            norms = np.linalg.norm(held, axis=1) * np.linalg.norm(direction)
            out[group == g] = held @ direction / np.maximum(norms, np.finfo(np.float64).tiny)
    return np.concatenate(cosines), np.arange(len(positive) + len(negative)) < len(positive)


def _search(cosines: Doubles, labels: NDArray[np.bool_], criterion: Criterion, threshold: float | None) -> _Found:
    """The threshold of the best score; among equals the middle of the widest gap."""
    a, b = cosines[labels], cosines[~labels]
    spread = np.sqrt((a.var() + b.var()) / 2.0)
    separation = float((a.mean() - b.mean()) / max(float(spread), np.finfo(np.float64).tiny))
    if threshold is not None:
        return _Found(threshold, float(_score(cosines[None] >= threshold, labels, criterion)[0]), separation)
    values = np.unique(cosines)
    # between any two neighbours, and below them all: holding always is a choice too, never holding is none
    candidates = np.concatenate([[values[0] - 1e-6], (values[1:] + values[:-1]) / 2.0])
    gaps = np.concatenate([[0.0], np.diff(values)])
    scores = _score(cosines[None] >= candidates[:, None], labels, criterion)
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    at = best[int(gaps[best].argmax())]
    return _Found(float(candidates[at]), float(scores[at]), separation)


def _score(holds: NDArray[np.bool_], labels: NDArray[np.bool_], criterion: Criterion) -> Doubles:
    """Score of each candidate, holds of shape [candidates, prompts]."""
    hits = holds[:, labels].sum(axis=1)
    alarms = holds[:, ~labels].sum(axis=1)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if criterion == "f1":
        return np.asarray(2.0 * hits / (hits + alarms + positives))
    return np.asarray((hits / positives + 1.0 - alarms / negatives) / 2.0)
