"""A bench in memory: its texts, goal space and a probe of the size asked for, ready to measure on."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.digest import digest_text
from schemas.specs import BenchSpec, GoalSpec
from steer_core.goals.scorer import Scorer
from steer_core.goals.space import GoalSpace
from steer_core.probes import Probe
from steer_core.registry import Registry, load_registry, shipped_config


@dataclass(frozen=True)
class Bench:
    """What cells are measured on.

    Attributes:
        registry: what is configured.
        spec: the bench.
        goals: goal specs by name.
        scorers: goal -> scorer.
        space: rows of `goal_space`.
        probe: requests of the headline probe.
    """

    registry: Registry
    spec: BenchSpec
    goals: Mapping[str, GoalSpec]
    scorers: Mapping[str, Scorer]
    space: pl.DataFrame
    probe: Probe

    def values_of(self, texts: pl.DataFrame) -> pl.DataFrame:
        """`goal_values` of texts (columns text_id, text)."""
        from steer_core.goals.measure import measure

        return measure(
            texts.select("text_id", "text").unique("text_id", maintain_order=True), list(self.scorers.values())
        )

    def ruler(self, texts: Sequence[str]) -> list[dict[str, float | None]]:
        """Positions of texts in goal space."""
        space = GoalSpace.from_table(self.space)
        frame = pl.DataFrame(
            {"text_id": [digest_text(t) for t in texts], "text": list(texts)},
            schema={"text_id": pl.String, "text": pl.String},
        )
        z, _ = space.locate(space.matrix(self.values_of(frame), frame["text_id"]))
        return [{g: (v if v == v else None) for g, v in zip(space.goals, row, strict=True)} for row in z.tolist()]


@functools.lru_cache(maxsize=4)
def open_bench(name: str, texts: int | None, requests: int | None, config: tuple[str, ...]) -> Bench:
    """The bench of that name with a probe of `texts` texts and `requests` requests each; None: as it is configured.

    Raises:
        ConfigError: no such bench; lists those there are.
    """
    from steer_core.corpus import build_corpus, candidate_texts
    from steer_core.goals.measure import measure
    from steer_core.goals.scorer import load_scorer
    from steer_core.goals.space import fit_goal_space
    from steer_core.probes import draw_probes

    registry = load_registry([shipped_config(), *config])
    spec = registry.bench(name)
    goals = registry.goals_of(spec)
    scorers = {g: load_scorer(goal) for g, goal in goals.items()}
    corpus = build_corpus(spec.corpus)
    values = measure(corpus, list(scorers.values()))
    space = fit_goal_space(values, {g: s.scorer_id for g, s in scorers.items()}, spec.bounds)
    size: dict[str, Any] = {k: v for k, v in (("n_texts", texts), ("n_goals_per_text", requests)) if v is not None}
    probe = spec.probe(spec.test_probes[0]).model_copy(update=size)
    drawn = draw_probes([probe], candidate_texts(corpus, [probe]), values, GoalSpace.from_table(space))
    return Bench(registry, spec, goals, scorers, space, drawn)
