"""What several processes need to know to train what the process that starts them would train: a file of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny

import schemas.preference_recipe
import schemas.recipes
import schemas.steerlm_recipe  # noqa: F401  (the recipes that a job may name, in processes that load no part)
from schemas.adapter_part import Recipe, read_recipe
from schemas.digest import digest_json
from schemas.spec import Spec
from schemas.specs import BenchSpec, GoalSpec, MethodSpec, ModelSpec
from steer_core import extensions
from steer_core.adapters.books import Failure
from steer_core.adapters.ranks import Ranks
from steer_core.adapters.recipe import Training, follows, recipe_module
from steer_core.adapters.rewards import Ruler, Target
from steer_core.adapters.run import RunFolder
from steer_core.generation.journalled import printable
from steer_core.goals.measure import measure
from steer_core.goals.ruler import ruler_by
from steer_core.goals.scorer import load_scorer
from steer_core.goals.space import GoalSpace
from steer_core.methods.cleaning import clean_answer
from steer_core.methods.driver import failure_of
from steer_core.methods.fitting import FitContext
from steer_core.methods.load import code_digest, load_method
from steer_core.methods.part import Composed
from steer_core.methods.protocol import Method
from steer_core.models.loading import fingerprint_of, load_model
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

#: Raised when the same recipe and pool give other adapters, or other trials.
VERSION = "1"
#: Texts that rulers are compared on.
_PROOFS = 4


class Asked(Spec):
    """What a training request asks for; null where a goal is inactive."""

    source: str
    z0: tuple[float, ...]
    z_star: tuple[float | None, ...]


class Axis(Spec):
    """A goal of the space: its scorer with version, and its bounds."""

    scorer_id: str
    lower: float
    upper: float


class Job(Spec):
    """A run of training, as one process hands it to several."""

    recipe: Annotated[SerializeAsAny[Recipe], BeforeValidator(read_recipe)]
    model: ModelSpec
    method: MethodSpec
    part: str = Field(description="Label of the adapter part that is trained")
    bench: BenchSpec
    goals: Mapping[str, GoalSpec]
    space: Mapping[str, Axis] = Field(description="Axes of the goal space by goal, in their order")
    targets: Mapping[str, Asked] = Field(description="By request")
    plans: Mapping[str, str] = Field(description="Request -> its prompt, as `Plan.to_json` writes it")
    also: Mapping[str, Mapping[str, str]] = Field(description="Strategy -> the prompts under it")
    folder: str = Field(description="Of the run")
    data: str = Field(description="Digest of what is trained on")
    known: str = Field(description="Digest that the run is known by")
    written: Mapping[str, Any] = Field(description="What other models it follows from (`written_by`)")
    code: str = Field(description="Digest of the code that reads answers")
    proofs: Mapping[str, Mapping[str, float | None]] = Field(description="Texts, and where the ruler has them")
    extensions: tuple[str, ...] = Field(description="Folders in which extensions are looked for")
    on_cpu: bool = Field(description="Whether the processes share the CPU")

    def training(self, ranks: Ranks) -> Training:
        """What each of the processes trains; nobody is told of it.

        Raises:
            SteerworksError: this code, or these files, would train something else than the process that wrote the job.
        """
        extensions.add_folders(map(Path, self.extensions))
        space = GoalSpace(
            tuple(self.space),
            tuple(axis.scorer_id for axis in self.space.values()),
            np.array([axis.lower for axis in self.space.values()]),
            np.array([axis.upper for axis in self.space.values()]),
        )
        ruler = self._ruler(space)
        for what in self._differences(space, ruler):
            raise SteerworksError(
                f"the processes that train would train something else than what started them has planned: {what} "
                "differs. Were files or packages changed meanwhile? Start it again"
            )
        method = load_method(self.method, self.model, self.bench, self.goals)
        on = self.model if self.on_cpu else self.model.model_copy(update={"device": f"cuda:{ranks.rank}"})
        return Training(
            load=lambda: load_model(on),
            plans={r: Plan.from_json(p) for r, p in self.plans.items()},
            targets={r: _target(a) for r, a in self.targets.items()},
            goals=space.goals,
            ruler=ruler,
            failure=failures(cast(Composed, method).before(self.part), {r: a.source for r, a in self.targets.items()}),
            run=RunFolder(Path(self.folder), ranks),
            base=self.model.source,
            also={name: {r: Plan.from_json(p) for r, p in plans.items()} for name, plans in self.also.items()},
            comparatives=comparatives(self.goals),
            name=self.model.name,
        )

    def _ruler(self, space: GoalSpace) -> Ruler:
        scorers = [load_scorer(goal) for goal in self.goals.values()]
        return ruler_by(lambda texts: measure(texts, scorers), space)

    def _differences(self, space: GoalSpace, ruler: Ruler) -> Iterator[str]:
        if run_digest(self.recipe, self.model, self.data, self.written) != self.known:
            yield "the recipe's code, or the model"
        if code_digest(self.method) != self.code:
            yield "the code that words prompts and reads answers"
        if tuple(load_scorer(self.goals[g]).scorer_id for g in space.goals) != space.scorer_ids:
            yield "the version of a scorer"
        if ruler(list(self.proofs)) != list(self.proofs.values()):
            yield "what the ruler measures"


def job_of(
    label: str,
    cell: FitContext,
    recipe: Recipe,
    training: Training,
    space: GoalSpace,
    data: str,
    known: str,
    written: Mapping[str, Any],
    *,
    on_cpu: bool,
) -> Job:
    """The job of several processes that are to train what one would.

    Args:
        label: of the part.
        cell: where.
        recipe: how is trained.
        training: what one process would be given.
        space: the goal space.
        data: digest of what is trained on.
        known: digest that the run is known by.
        written: what other models it follows from.
        on_cpu: whether the processes share the CPU.
    """
    sources = {t.source for t in training.targets.values()} or {_words_of(p) for p in training.plans.values()}
    texts = sorted(sources)[:_PROOFS]
    axes = zip(space.goals, space.scorer_ids, space.lower.tolist(), space.upper.tolist(), strict=True)
    return Job(
        recipe=recipe,
        model=cell.model,
        method=cell.spec,
        part=label,
        bench=cell.bench,
        goals=cell.goals,
        space={g: Axis(scorer_id=s, lower=low, upper=high) for g, s, low, high in axes},
        targets={r: _asked(t) for r, t in training.targets.items()},
        plans={r: p.to_json() for r, p in training.plans.items()},
        also={name: {r: p.to_json() for r, p in plans.items()} for name, plans in training.also.items()},
        folder=str(training.run.path.absolute()),
        data=data,
        known=known,
        written=dict(written),
        code=code_digest(cell.spec),
        proofs=dict(zip(texts, training.ruler(texts), strict=True)),
        extensions=tuple(map(str, extensions.folders())),
        on_cpu=on_cpu,
    )


def settings_of(recipe: Recipe, written: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's settings, and what of other models it follows from."""
    settings: dict[str, Any] = recipe.model_dump(mode="json")
    return settings | dict(written)


def run_digest(recipe: Recipe, model: ModelSpec, data: str, written: Mapping[str, Any]) -> str:
    """What a run is known by: the recipe with its code and scorers, the models, and what is trained on."""
    code = recipe_module(recipe.kind).VERSION
    versions = follows(recipe)
    said = [settings_of(recipe, written), code, VERSION, fingerprint_of(model), data]
    return digest_json([*said, *([versions] if versions else [])])


def comparatives(goals: Mapping[str, GoalSpec]) -> dict[str, tuple[str, str]]:
    """Goal -> (less, more) of it in words."""
    return {name: (goal.less, goal.more) for name, goal in goals.items()}


def failures(method: Method, sources: Mapping[str, str]) -> Failure:
    """How answers of a method to requests are cleaned, and why one is none.

    Args:
        method: under whose prompt is trained.
        sources: request -> its text; a prompt that is no request has none, and its answer no form of the method's.
    """

    def failure(request_id: str, raw: str, finish_reason: str) -> tuple[str, str | None]:
        text, parsed = method.clean(raw) if request_id in sources else (clean_answer(raw), True)
        text = printable(text)
        return text, failure_of(text, finish_reason, parsed, sources.get(request_id, ""))

    return failure


def _words_of(plan: Plan) -> str:
    return str(plan.text) if plan.messages is None else plan.messages[-1].content


def _target(asked: Asked) -> Target:
    ends = [np.nan if z is None else z for z in asked.z_star]
    return Target(asked.source, np.array(asked.z0), np.array(ends, dtype=np.float64))


def _asked(target: Target) -> Asked:
    ends = [None if np.isnan(z) else z for z in target.z_star.tolist()]
    return Asked(source=target.source, z0=tuple(target.z0.tolist()), z_star=tuple(ends))
