"""A search in a cell: the bench's settings as a space, one study a behavior, and what its choices come to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.digest import canonical_json, digest_json
from schemas.search import SearchResults, Trials
from schemas.search_spec import SearchSpec
from schemas.specs import BehaviorSpec, Decoding
from schemas.vector_part import VectorPart
from steer_core.evaluation.arms import measures
from steer_core.evaluation.behaviors import as_items
from steer_core.evaluation.judges import load as judges
from steer_core.evaluation.judges.judge import Judge
from steer_core.generation.run import Run
from steer_core.methods.search.measuring import MISSING, Measurer, validation_items
from steer_core.methods.search.report import STRETCHES, Searched, beside, search, tell, values_of
from steer_core.methods.search.space import Setting, Space, params_of
from steer_core.methods.search.study import Objective, Sampler, Study
from steer_core.steering.intervention import Gate
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError
from steer_core.tables.journal import Journal

#: Bumped when the same settings give other trials or results.
VERSION = "3"


def versions() -> list[str]:
    """Versions of what trials and results follow from."""
    return [VERSION, measures.VERSION, as_items.VERSION, judges.VERSION]


def layer_sets(spec: SearchSpec, n_layers: int) -> tuple[tuple[int, ...], ...]:
    """Sets of layers that a search chooses from.

    Raises:
        ConfigError: the model has no such layer.
    """
    if not isinstance(spec.layers, str):
        if wrong := sorted({k for own in spec.layers for k in own if k >= n_layers}):
            raise ConfigError(f"the search names layer {wrong[0]}, and the model has layers 0 to {n_layers - 1}")
        return spec.layers
    alone = tuple((k,) for k in range(n_layers))
    return alone if spec.layers == "each" else (*alone, *((k, k + 1) for k in range(n_layers - 1)))


def every_layer(spec: SearchSpec, n_layers: int) -> tuple[int, ...]:
    """All layers that a search may steer: vectors are fitted there."""
    return tuple(sorted({k for own in layer_sets(spec, n_layers) for k in own}))


def space_of(spec: SearchSpec, part: VectorPart, n_layers: int, gate: Gate | None = None) -> Space:
    """What may be tried with a vector part.

    Args:
        spec: the search.
        part: the part.
        n_layers: of the model.
        gate: of the part, fitted; None: it has none.

    Raises:
        ConfigError: the model has no such layer, an operator does not know the part's unit, or there are thresholds
            and no gate.
    """
    return Space(
        layer_sets(spec, n_layers),
        spec.strength,
        positions=spec.positions,
        sites=(part.site,),
        estimators=(part.estimator.replace("-", "_"),),
        unit=part.unit,
        profiles=spec.profiles,
        operators=tuple(name.replace("-", "_") for name in spec.operators),
        gate=gate,
        thresholds=spec.thresholds,
    )


@dataclass(frozen=True)
class Asking:
    """Who answers in a search, and what of it is kept.

    Attributes:
        run: answers; its backend knows the vectors.
        decoding: of open answers.
        trials: journal of `trials`.
        judge: of open answers; None where nothing is judged.
        verdicts: journal of `judgements`; None keeps none.
        progress: told trials done and wanted.
        model: what answers follow from.
    """

    run: Run
    decoding: Decoding
    trials: Journal
    judge: Judge | None = None
    verdicts: Journal | None = None
    progress: Callable[[int, int], None] | None = None
    model: Any = None


def search_behavior(
    behavior: BehaviorSpec,
    spec: SearchSpec,
    part: VectorPart,
    space: Space,
    vectors: Sequence[SteeringVector],
    preferences: pl.DataFrame,
    items: pl.DataFrame,
    asking: Asking,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Search for one behavior, and tell what was chosen.

    Args:
        behavior: what is looked for.
        spec: how.
        part: the vector part.
        space: what may be tried.
        vectors: of the behavior, at every layer of the space.
        preferences: rows of `preference_pairs`.
        items: rows of `behavior_items`.
        asking: who answers.

    Returns:
        Rows of `trials` and of `search_results`.

    Raises:
        ConfigError: a measure that the items do not have, or an operator that cannot apply a vector.
        SteerworksError: no pair is kept for validation, no trial is complete, or the engine cannot do what is tried.
    """
    objectives = tuple(Objective(name, 1 if better == "max" else -1) for name, better in spec.objectives.items())
    wanted = tuple(o.name for o in objectives)
    own = [v for v in vectors if v.concept == behavior.name]
    space.check(own)
    chosen_by = _questions(validation_items(behavior.name, preferences), spec)
    tested = items.filter(pl.col("behavior") == behavior.name, pl.col("group") == "main")
    measurers = [
        Measurer(
            behavior.name, rows, asking.run, asking.decoding, wanted, asking.judge, asking.verdicts,
            {o.name: o.better for o in objectives},
        )
        for rows in (chosen_by, tested)
    ]  # fmt: skip
    follows = [asking.model, sorted(chosen_by["item_id"]), asking.decoding.model_dump(mode="json")]
    follows += [sorted(v.id for v in own), None if asking.judge is None else asking.judge.judge_id]
    follows += [asking.run.seed, list(STRETCHES), *versions()]

    def study(sampler: Sampler) -> Study:
        return Study(space, objectives, asking.trials, sampler, spec.seed, follows, spec.trials)

    told = _Told(behavior.name, spec, part, measurers[1], own)
    made = search(study(spec.sampler), measurers[0], own, spec.trials, progress=asking.progress)
    chance = None
    if spec.random_search and spec.sampler != "random":
        chance = search(study("random"), measurers[0], own, spec.trials, progress=asking.progress)
    trials = [made.trials] if chance is None else [made.trials, chance.trials]
    return pl.concat(trials), told.results(made, chance)


def _questions(items: pl.DataFrame, spec: SearchSpec) -> pl.DataFrame:
    """Items of at most so many questions, drawn by hash."""
    asked = sorted(items["messages"].unique().to_list(), key=lambda m: digest_json(["search", spec.seed, m]))
    return items.filter(pl.col("messages").is_in(asked[: spec.questions]))


@dataclass(frozen=True)
class _Told:
    """Choices of studies as rows."""

    behavior: str
    spec: SearchSpec
    part: VectorPart
    tested: Measurer
    vectors: Sequence[SteeringVector]

    def results(self, study: Study, chance: Study | None) -> pl.DataFrame:
        first, best = study.objectives[0].name, study.best()
        by_chance = None if chance is None else chance.best()
        rows = []
        beside_it = None
        if chance is not None and by_chance is not None:
            params = params_of(by_chance["params"])
            beside_it = values_of(chance, self.tested, self.vectors, params)
            rows.append(self._row(chance, by_chance, "random", None))
        rows.insert(0, self._nothing(study) if best is None else self._row(study, best, "chosen", beside_it))
        if len(study.objectives) > 1 and best is not None:
            front = [r for r in study.front().to_dicts() if r["number"] != best["number"]]
            # spread over the first objective
            front.sort(key=lambda r: json.loads(r["values"])[first])
            step = max(1, -(-len(front) // max(1, self.spec.told - 1)))
            rows += [self._row(study, r, "front", None) for r in front[::step][: self.spec.told - 1]]
        return pl.DataFrame(rows, schema=SearchResults.dtypes(), orient="row")

    def _nothing(self, study: Study) -> dict[str, Any]:
        """That no trial was complete."""
        notes = study.trials["note"].value_counts(sort=True)["note"].to_list()
        return dict.fromkeys(SearchResults.names()) | {
            "behavior": self.behavior, "name": f"{self.behavior}:none", "study": study.name, "number": 0,
            "role": "none",
            "label": notes[0] if notes and notes[0] else "no trial was complete", "part": "{}",
            "objective": study.objectives[0].name, "n_random": 0, "missing": 0.0, "others": "{}", "n": 0,
            "trials": len(study), "answers": int(study.trials["answers"].sum()),
        }  # fmt: skip

    def _row(self, study: Study, trial: Mapping[str, Any], role: str, beside_it: pl.DataFrame | None) -> dict[str, Any]:
        params, values = params_of(trial["params"]), json.loads(trial["values"])
        first = study.objectives[0].name
        found: Searched = tell(
            study, self.tested, self.vectors, params=params, validation=values[first],
            random_directions=self.spec.random_directions if role == "chosen" else 0, seed=self.spec.seed,
        )  # fmt: skip
        over = None
        if beside_it is not None:
            over = beside(values_of(study, self.tested, self.vectors, params), beside_it)
        whole = self.tested.measure(study.space.steps(found.setting, self.vectors))
        others = {o.name: whole.mean(o.name) for o in study.objectives[1:]}
        middle = "random:" if role == "random" else ""
        return {
            "behavior": self.behavior, "name": f"{self.behavior}:{middle}{trial['number']}", "study": study.name,
            "number": trial["number"], "role": role, "label": found.setting.label,
            "part": canonical_json(part_of(self.part, found.setting)), "objective": first,
            "validation": found.validation, "test": found.test.value, "low": found.test.low, "high": found.test.high,
            "effect": found.effect.difference, "effect_low": found.effect.low, "effect_high": found.effect.high,
            "p_random": found.random, "n_random": found.n_random,
            "over_random": None if over is None else over.difference,
            "over_random_low": None if over is None else over.low,
            "over_random_high": None if over is None else over.high,
            "missing": whole.mean(MISSING) or 0.0, "others": canonical_json(others), "n": found.test.n,
            "trials": len(study),
            "answers": int(study.trials["answers"].sum()),
        }  # fmt: skip


def part_of(part: VectorPart, setting: Setting) -> dict[str, Any]:
    """Settings of a vector part that is a setting of a search; none where its layers do not share one strength."""
    weights = set(setting.weights)
    if len(weights) > 1:
        return {}
    told = part.model_dump(mode="json", exclude_defaults=True)
    strength = setting.strength * weights.pop()
    if setting.operator:
        told["operator"] = setting.operator
    if setting.gate is not None:
        told["gate"] = {**told["gate"], "layer": setting.gate.layer, "threshold": round(setting.gate.threshold, 6)}
    return {
        **told, "kind": "vector", "layers": list(setting.layers), "positions": setting.positions, "unit": part.unit,
        "strengths": [round(strength, 6)], "doses": None, "on_probe": [],
    }  # fmt: skip


def no_trials() -> tuple[pl.DataFrame, pl.DataFrame]:
    """No rows of `trials` and `search_results`."""
    return Trials.empty(), SearchResults.empty()
