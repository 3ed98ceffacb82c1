"""Which of several answers to a request is trained on: the best by what is wanted, or one by chance.

1. An answer that failed, or that lacks a metric which is asked for, is unscorable: never chosen, and counted.
2. The reward of a scorable one is, by one objective, its metric (`max`), the negative of it (`min`), or the negative of
   its distance from the value (`target`). Of several objectives it is the sum of these, each divided by its standard
   deviation in the pool and times its weight, so that no unit of measurement decides.
3. Floors come before rewards: what misses one is dropped, whatever its reward.
4. Equal rewards are ordered by log-likelihood (none is least), then by sample.
5. A text that repeats one which was chosen for another request is passed over for the next best (`duplicates`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from schemas.digest import digest_text
from schemas.objectives import Floor, Objective
from schemas.recipes import InheritanceRecipe
from steer_core.adapters.inheritance.duplicates import Chosen
from steer_core.statistics.best_of import Pool
from steer_core.tables.errors import SteerworksError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """An answer that may be trained on.

    Attributes:
        request_id: what it answers.
        sample: its place among the answers of its source.
        source: which model wrote it.
        text: cleaned.
        metrics: by name; a metric that is missing or NaN is undefined.
        log_likelihood: nats, by whatever model; only compared within a request. None where it is not known.
        failure: why it is no answer; None where it is one.
        missing: metric -> why it has no value, where that is known.
    """

    request_id: str
    sample: int
    source: str
    text: str
    metrics: Mapping[str, float]
    log_likelihood: float | None = None
    failure: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def has(self, metric: str) -> bool:
        """Whether a metric is defined."""
        return math.isfinite(self.metrics.get(metric, math.nan))


@dataclass(frozen=True)
class Selection:
    """What was chosen of n candidates.

    Attributes:
        chosen: request id -> index of its candidate; requests without one are not in it.
        ranked: request id -> indices of what can be chosen, the best first, whatever `select` says.
        rewards: shape [n]; NaN for what is unscorable.
        counts: `candidates`, `failed`, `undefined`, `below_floor`, `repeats` (passed over as near-duplicates),
            `requests`, `without_candidate`, `without_text` (all that could be chosen were near-duplicates), `flat`
            (requests whose choosable candidates, two or more, have one reward: chance chose there).
        reasons: `METRIC: why` -> answers that did not fail and lack the metric for that reason, most first.
    """

    chosen: Mapping[str, int]
    ranked: Mapping[str, tuple[int, ...]]
    rewards: Floats
    counts: Mapping[str, int]
    reasons: Mapping[str, int] = field(default_factory=dict)

    def state(self, index: int) -> str:
        """`kept`, `dropped` or `unscorable`, as in `training_samples`."""
        if np.isnan(self.rewards[index]):
            return "unscorable"
        return "kept" if index in self._kept else "dropped"

    @cached_property
    def _kept(self) -> set[int]:
        return set(self.chosen.values())


def select(candidates: Sequence[Candidate], recipe: InheritanceRecipe) -> Selection:
    """Choose one candidate a request.

    Args:
        candidates: of all requests, in any order; what is chosen does not depend on it.
        recipe: objectives, floors, near-duplicates, and whether the best is chosen or one by chance (with its seed).

    Raises:
        SteerworksError: there is no candidate, none can be scored or none passes the floors, or an objective has one
            value for all that can be chosen, so that it prefers nothing.
    """
    if not candidates:
        raise SteerworksError("there is no candidate to choose from")
    failed = np.array([c.failure is not None for c in candidates])
    wanted = {name for _, name in recipe.named()}
    undefined = ~failed & np.array([not all(c.has(m) for m in wanted) for c in candidates])
    scorable = ~(failed | undefined)
    reasons = _reasons([c for c in candidates if c.failure is None], sorted(wanted))
    if not scorable.any():
        why = "".join(f"; {n} have no {reason}" for reason, n in reasons.items())
        raise SteerworksError(
            f"none of {len(candidates)} candidates can be scored: {failed.sum()} failed, and {undefined.sum()} have no "
            f"value of {', '.join(sorted(wanted))}{why}"
        )
    passing = scorable & np.array([all(_passes(f, c) for f in recipe.floors) for c in candidates])
    if not passing.any():
        raise SteerworksError(f"none of {scorable.sum()} scorable candidates passes the floors: lower them")
    rewards = _rewards(candidates, recipe.objectives, scorable, passing)
    of: dict[str, list[int]] = {c.request_id: [] for c in candidates}
    for i, able in enumerate(passing.tolist()):
        if able:
            of[candidates[i].request_id].append(i)
    ranked = {
        r: tuple(sorted(own, key=lambda i: _rank(candidates[i], float(rewards[i])))) for r, own in sorted(of.items())
    }
    chosen, repeats = _choose(candidates, ranked, recipe)
    without = sum(not own for own in ranked.values())
    counts = {
        "candidates": len(candidates),
        "failed": int(failed.sum()),
        "undefined": int(undefined.sum()),
        "below_floor": int(scorable.sum() - passing.sum()),
        "repeats": repeats,
        "requests": len(ranked),
        "without_candidate": without,
        "without_text": len(ranked) - without - len(chosen),
        "flat": sum(len(own) > 1 and bool(np.ptp(rewards[list(own)]) == 0.0) for own in ranked.values()),
    }
    return Selection(chosen, ranked, rewards, counts, reasons)


def _reasons(answers: Sequence[Candidate], metrics: Sequence[str]) -> dict[str, int]:
    lacking = ((m, c.missing.get(m, "not defined")) for c in answers for m in metrics if not c.has(m))
    return dict(Counter(f"{metric}: {why}" for metric, why in lacking).most_common())


def _passes(floor: Floor, candidate: Candidate) -> bool:
    value = candidate.metrics.get(floor.metric, math.nan)
    return (floor.least is None or value >= floor.least) and (floor.most is None or value <= floor.most)


def _rewards(
    candidates: Sequence[Candidate],
    objectives: Sequence[Objective],
    scorable: NDArray[np.bool_],
    passing: NDArray[np.bool_],
) -> Floats:
    total = np.where(scorable, 0.0, np.nan)
    for aim in objectives:
        values = np.array([c.metrics.get(aim.metric, np.nan) for c in candidates], dtype=np.float64)
        if aim.direction == "target":
            values = np.abs(values - float(aim.value or 0.0))
        own = values if aim.direction == "max" else -values
        spread = float(np.std(own[passing]))
        if np.ptp(own[passing]) == 0.0:
            raise SteerworksError(
                f"objective {aim.metric!r} has one value for all {passing.sum()} candidates that can be chosen: it "
                "prefers nothing. Draw more, raise `temperature`, or choose another"
            )
        total += own if len(objectives) == 1 else aim.weight * own / spread
    return total


def _rank(candidate: Candidate, reward: float) -> tuple[float, float, int, str]:
    likely = -math.inf if candidate.log_likelihood is None else candidate.log_likelihood
    return (-reward, -likely, candidate.sample, candidate.source)


def _choose(
    candidates: Sequence[Candidate], ranked: Mapping[str, tuple[int, ...]], recipe: InheritanceRecipe
) -> tuple[dict[str, int], int]:
    taken = None if recipe.duplicates is None else Chosen(recipe.duplicates)
    chosen, repeats = {}, 0
    for request, own in ranked.items():
        order = own if recipe.select == "best" else sorted(own, key=lambda i: _lot(candidates[i], recipe.seed))
        for i in order:
            if taken is not None and taken.has(candidates[i].text):
                repeats += 1
                continue
            if taken is not None:
                taken.add(candidates[i].text)
            chosen[request] = i
            break
    return chosen, repeats


def _lot(candidate: Candidate, seed: int) -> str:
    return lot(seed, f"{candidate.request_id}:{candidate.source}:{candidate.sample}")


def lot(seed: int, name: str) -> str:
    """What a name draws: sorted by it, names stand in an order by chance."""
    return digest_text(f"random:{seed}:{name}")


def shares(candidates: Sequence[Candidate], chosen: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Source -> its share of the candidates, and of what was chosen; the two differ where one source is preferred."""
    sources = [c.source for c in candidates]
    kept = [sources[i] for i in chosen.values()]
    return {s: (sources.count(s) / len(sources), kept.count(s) / max(len(kept), 1)) for s in sorted(set(sources))}


def correlations(candidates: Sequence[Candidate], metrics: Sequence[str]) -> Floats:
    """Pearson correlation of metrics within requests, shape [m, m]: what else selection by one of them moves.

    Over answers that did not fail and have both metrics, each less the mean of its request. NaN where one of the two
    does not vary within any request.
    """
    able = [c for c in candidates if c.failure is None]
    found = np.full((len(metrics), len(metrics)), np.nan)
    for a, one in enumerate(metrics):
        for b, other in enumerate(metrics):
            both = [c for c in able if c.has(one) and c.has(other)]
            if not both:
                continue
            owner = np.unique([c.request_id for c in both], return_inverse=True)[1]
            x, y = (_centred(np.array([c.metrics[m] for c in both]), owner) for m in (one, other))
            scale = float(np.sqrt((x @ x) * (y @ y)))
            # what rounding leaves of a constant is no variation
            if scale > 1e-12:
                found[a, b] = float(x @ y) / scale
    return found


def _centred(values: Floats, owner: NDArray[np.intp]) -> Floats:
    means = np.bincount(owner, weights=values) / np.bincount(owner)
    centred: Floats = values - means[owner]
    return centred


def pools(candidates: Sequence[Candidate], selection: Selection, metric: str, cluster: Mapping[str, str]) -> list[Pool]:
    """The ranked candidates of each request by one metric, for `statistics.best_of_curve`.

    With the metric of the objective the curve says what more draws buy; with another one what they cost elsewhere.

    Args:
        candidates: as they were selected from.
        selection: what came of it.
        metric: a metric that every candidate which can be chosen has.
        cluster: request id -> its source text.

    Raises:
        ValueError: one that can be chosen lacks the metric.
    """
    drawn: dict[str, int] = {}
    for c in candidates:
        drawn[c.request_id] = drawn.get(c.request_id, 0) + 1
    return [
        Pool(np.array([candidates[i].metrics.get(metric, np.nan) for i in own]), drawn[r], cluster[r])
        for r, own in selection.ranked.items()
    ]
