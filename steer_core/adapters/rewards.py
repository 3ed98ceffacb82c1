"""Rewards from the goal space (Chang et al. 2025): errors as the ruler has them, and what is watched beside them.

With starts z0, targets z* (z* := z0 where nothing is asked) and reached zh, the error of a goal is err = |z* - zh|:

* steering_error: -sqrt(sum err^2); `square`: -sum err^2; `rescale`: 1 - sqrt(sum err^2 / d), or 1 - sum err^2 / d
* miscalibration, orthogonality: the negatives of `evaluation.steerability`
* goal:NAME: -err of that goal
* meaning: overlap of content words with the source, in [0, 1]
* english_only: 0 where the answer has an ideograph of Chinese, Japanese or Korean, else 1
* think_format: 1 where the raw answer opens with a block of thinking, else 0

An answer that is none has the worst value that each of them can take, as on the probe, or none at all. Nothing that
cannot be measured counts as 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.adapter_part import Recipe
from schemas.recipes import GrpoRecipe
from steer_core.evaluation.controls import worst_miscalibration
from steer_core.evaluation.meaning import content_f1_pairs
from steer_core.evaluation.steerability import decompose, fill_inactive, moves
from steer_core.tables.errors import ConfigError

Floats = NDArray[np.float64]
#: Texts to positions, goal by goal.
Ruler = Callable[[Sequence[str]], list[dict[str, float | None]]]
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_THINKS = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.S)


def unknown_goals(recipe: Recipe, goals: Collection[str]) -> Iterator[str]:
    """What a recipe names and a goal space lacks, in words."""
    for what, name in recipe.named():
        if name.startswith("goal:") and name[5:] not in goals:
            yield f"{what} {name!r}: the goal space has {', '.join(goals)}"


@dataclass(frozen=True)
class Target:
    """What a request asks for.

    Attributes:
        source: its text.
        z0: start, shape [d].
        z_star: target, shape [d]; NaN where inactive.
    """

    source: str
    z0: Floats
    z_star: Floats


@dataclass(frozen=True)
class Answer:
    """A completion that is to be rewarded.

    Attributes:
        request_id: what it answers.
        raw: as it was written.
        text: cleaned.
        finish_reason: `stop` or `length`.
        failure: why it is no answer; None where it is one.
    """

    request_id: str
    raw: str
    text: str
    finish_reason: str
    failure: str | None


@dataclass(frozen=True)
class Scored:
    """Rewards of n answers.

    Attributes:
        rewards: name -> shape [n]; NaN in every one of them for an answer that has none.
        z: positions, shape [n, d]; NaN where undefined.
        watched: what is looked at and never optimised: name -> shape [n]; NaN where undefined.
    """

    rewards: Mapping[str, Floats]
    z: Floats
    watched: Mapping[str, Floats]


def joined(parts: Sequence[Scored]) -> Scored:
    """Rewards of all answers, from those of some each, in order."""
    if len(parts) == 1:
        return parts[0]
    return Scored(
        {name: np.concatenate([p.rewards[name] for p in parts]) for name in parts[0].rewards},
        np.concatenate([p.z for p in parts]),
        {name: np.concatenate([p.watched[name] for p in parts]) for name in parts[0].watched},
    )


@dataclass(frozen=True)
class Rewarder:
    """Scores completions of known requests.

    Attributes:
        recipe: which rewards, and their shape.
        goals: axes, in order.
        targets: request id -> what it asks for.
        ruler: measures texts, all of a step at once.
    """

    recipe: GrpoRecipe
    goals: tuple[str, ...]
    targets: Mapping[str, Target]
    ruler: Ruler

    def __post_init__(self) -> None:
        """Look whether rewards name goals that there are.

        Raises:
            ConfigError: one does not.
        """
        for wrong in unknown_goals(self.recipe, self.goals):
            raise ConfigError(wrong)

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Rewards, positions, and what is watched."""
        targets = [self.targets[a.request_id] for a in answers]
        z0 = np.stack([t.z0 for t in targets])
        z_star = np.stack([t.z_star for t in targets])
        texts = [a.text for a in answers]
        known = sorted({t for t in texts if t.strip()})
        places = dict(zip(known, self.ruler(known) if known else [], strict=True))
        nowhere = dict.fromkeys(self.goals)
        z = np.array([[places.get(t, nowhere)[g] for g in self.goals] for t in texts], dtype=np.float64)
        failed = np.array([a.failure is not None for a in answers]) | np.isnan(z).any(axis=1)
        sources = [t.source for t in targets]
        overlap = content_f1_pairs(sources, texts)
        rewards = self._rewards(z0, z_star, z, failed, overlap, answers)
        if self.recipe.failures == "left_out":
            rewards = {name: np.where(failed, np.nan, value) for name, value in rewards.items()}
        words = np.array([len(t.split()) for t in texts]) / np.maximum([len(s.split()) for s in sources], 1)
        return Scored(
            rewards,
            z,
            {
                "meaning": np.where(failed, np.nan, overlap),
                "length": np.where(failed, np.nan, words),
                "copied": np.array([t.split() == s.split() for t, s in zip(texts, sources, strict=True)], dtype=float),
                "failed": failed.astype(float),
                "refused": np.array([a.failure == "refused" for a in answers], dtype=float),
            },
        )

    def _rewards(
        self,
        z0: Floats,
        z_star: Floats,
        z: Floats,
        failed: NDArray[np.bool_],
        overlap: Floats,
        answers: Sequence[Answer],
    ) -> dict[str, Floats]:
        target = fill_inactive(z0, z_star)
        worst = np.maximum(target, 1.0 - target)
        errors = self._shaped(np.where(failed[:, None], worst, np.abs(target - np.where(np.isnan(z), 0.0, z))))
        made = moves(z0, z_star, np.where(failed[:, None], np.nan, z))
        _, miscalibration, orthogonality = decompose(made.e, made.r, made.m)
        found: dict[str, Floats] = {}
        for name in self.recipe.rewards:
            if name == "steering_error":
                found[name] = self._steering(errors)
            elif name == "miscalibration":
                found[name] = -np.where(failed, worst_miscalibration(z0, z_star), miscalibration)
            elif name == "orthogonality":
                found[name] = -np.where(failed, 1.0, orthogonality)
            elif name == "meaning":
                found[name] = np.where(failed, 0.0, overlap)
            elif name == "english_only":
                found[name] = np.array([0.0 if _IDEOGRAPH.search(a.raw) else 1.0 for a in answers])
            elif name == "think_format":
                found[name] = np.array([1.0 if _THINKS.match(a.raw) else 0.0 for a in answers])
            else:
                found[name] = -errors[:, self.goals.index(name[5:])]
        return found

    def _shaped(self, errors: Floats) -> Floats:
        if self.recipe.shape == "decile":
            errors = np.ceil(np.round(errors * 10.0, 9)) / 10.0
        shaped: Floats = np.clip(errors, self.recipe.good_enough, self.recipe.too_bad)
        return shaped

    def _steering(self, errors: Floats) -> Floats:
        squares: Floats = (errors**2).sum(axis=1)
        if self.recipe.shape == "square":
            return 1.0 - squares / errors.shape[1] if self.recipe.rescale else -squares
        length: Floats = np.sqrt(squares / errors.shape[1]) if self.recipe.rescale else np.sqrt(squares)
        return 1.0 - length if self.recipe.rescale else -length

    def total(self, scored: Scored) -> Floats:
        """Weighted sum of the rewards, shape [n]; NaN for an answer that has none."""
        total: Floats = np.sum([w * scored.rewards[name] for name, w in self.recipe.rewards.items() if w], axis=0)
        return total
