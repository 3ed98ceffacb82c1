"""SteerLM on the goal space: conditioned training in hindsight, bootstrapping, and the weights of SteerLM 2.0.

A run is a row of phases (`SteerlmRecipe.phases`), each in a folder of its own with its answers, annotations, weights
and checkpoints; a phase goes on from the last state of the one before it. Steps are counted through. A run that is
taken up again draws, labels and trains what is missing, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm_recipe import SteerlmRecipe
from steer_core.adapters.inheritance.candidates import Drawn, draw_under
from steer_core.adapters.recipe import Training
from steer_core.adapters.rewards import unknown_goals
from steer_core.adapters.run import RunFolder, kept_steps
from steer_core.adapters.sft import fine_tune
from steer_core.adapters.steerlm.annotating import Annotated, Annotator, annotate, attribute_annotator, ruler_of
from steer_core.adapters.steerlm.asking import LabelPrompt, phrases_of
from steer_core.adapters.steerlm.demonstrations import demonstrations
from steer_core.adapters.steerlm.hindsight import Layout, Pair, asked_of, laid, pairs_of, some_of
from steer_core.adapters.steerlm.noting import figures_of, rows_of
from steer_core.adapters.training import with_room
from steer_core.generation.adapters import Adapter
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models.loading import LoadedModel
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError, SteerworksError

SPEC = SteerlmRecipe
#: Raised when the same recipe and data give other weights.
VERSION = "1"
#: Rows that say how many steps each phase has, once all are done.
_DONE = "done"

Floats = NDArray[np.float64]
#: Request, and which of its answers.
Key = tuple[str, int]


def train(recipe: SteerlmRecipe, training: Training) -> dict[int, Path]:
    """Run all phases, or go on where a run of the same folder stopped; returns the states that are kept.

    Raises:
        ConfigError: a goal that there is not, a prompt strategy that does not ask by labels, no request that leaves
            room for an answer, or an option that trl does not have.
        SteerworksError: no answer could be labelled, or none weighted.
    """
    for wrong in unknown_goals(recipe, training.goals):
        raise ConfigError(wrong)
    training.run.path.mkdir(parents=True, exist_ok=True)
    if done := training.run.rows(_DONE):
        return _states(recipe, training.run, [int(row["steps"]) for row in done])
    run = _Run(recipe, training, _label_prompt(recipe, training))
    return _states(recipe, training.run, run.all_phases())


def _label_prompt(recipe: SteerlmRecipe, training: Training) -> LabelPrompt:
    """How labels are written.

    Raises:
        ConfigError: in words, and a goal has none.
    """
    phrases = {g: phrases_of(*words) for g, words in training.comparatives.items()} if recipe.wording == "words" else {}
    if recipe.wording == "words" and set(phrases) != set(training.goals):
        raise ConfigError("labels in words need the comparatives (`less`, `more`) of every goal")
    try:
        return LabelPrompt(training.goals, recipe.levels, phrases=phrases)
    except SteerworksError as error:
        raise ConfigError(f"recipe 'steerlm': {error}") from error


def _folder(run: RunFolder, phase: int) -> RunFolder:
    return RunFolder(run.path / f"phase-{phase}")


def _states(recipe: SteerlmRecipe, run: RunFolder, steps: Sequence[int]) -> dict[int, Path]:
    found, before = dict[int, Path](), 0
    for phase, n in enumerate(steps):
        kept = kept_steps(n, recipe.checkpoints)
        found |= {before + s: p for s, p in _folder(run, phase).checkpoints().items() if s in kept}
        before += n
    return found


@dataclass
class _Run:
    """A run under way: what its phases have left so far."""

    recipe: SteerlmRecipe
    training: Training
    prompt: LabelPrompt

    def all_phases(self) -> list[int]:
        """Steps of each phase, all of them done."""
        self.requested = _requested(self.training, self.prompt)
        self.sources = {r: t.source for r, t in self.training.targets.items()}
        self.first: list[Drawn] = []
        self.pairs: list[Pair] = []
        self.seen: list[Mapping[str, int]] = []
        self.start: Path | None = None
        steps: list[int] = []
        rows: dict[str, list[dict[str, Any]]] = {"log": [], "samples": [], "measures": []}
        for phase, name in enumerate(self.recipe.phases):
            before = sum(steps)
            run = _folder(self.training.run, phase)
            run.begin()
            own = replace(self.training, run=run, observe=_later(self.training, before))
            n, found = self._phase(phase, name, own)
            logged = run.rows("log")
            if name.startswith("iteration"):
                # its loss has the gradient of a divergence, and its value means nothing
                logged = [row for row in logged if row["measure"] != "loss"]
            for key, held in (found | {"log": logged}).items():
                rows[key] += [{**row, "step": before + int(row["step"])} for row in held]
                self.training.run.put(key, rows[key])
            steps.append(n)
            self.start = run.checkpoints()[n]
        self.training.run.put(_DONE, [{"step": 0, "steps": n} for n in steps])
        return steps

    def _phase(self, phase: int, name: str, own: Training) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        """Steps of a phase, which is trained to its end, and its rows."""
        own.say(f"phase {name!r}")
        asked, annotated = self._answers(phase, name, own)
        pairs = pairs_of(annotated, self.prompt)
        if not any(pairs):
            failed = sum(a.failure is not None for a in annotated)
            raise SteerworksError(
                f"none of {len(annotated)} answers could be labelled: {failed} failed, and {len(annotated) - failed} "
                f"have no value of {', '.join(self.prompt.goals)}"
            )
        if phase == 0:
            self.first = [a.drawn for a in annotated]
        self.seen += [p.labels for p in pairs if p is not None]
        train_on = self._weighted if name.startswith("iteration") else self._conditioned
        steps, used, further = train_on(phase, own, pairs, annotated, asked)
        measure = "z" if self.recipe.annotator == "ruler" else "predicted"
        samples, measures = rows_of(annotated, asked, used, self.sources, self.prompt, measure, further)
        return steps, {"samples": samples, "measures": measures}

    def _answers(self, phase: int, name: str, own: Training) -> tuple[list[Mapping[str, int]], list[Annotated]]:
        """What each answer of a phase was drawn for, and the answers with what they are."""
        recipe, loaded = self.recipe, own.load()
        backend = TransformersBackend(loaded)
        if phase == 0 and recipe.demonstrations is not None:
            drawn, sources = demonstrations(Path(recipe.demonstrations), loaded.tokenizer)
            self.sources |= sources
            # they are answers, whatever the method's prompt would make of them
            given = replace(own, failure=lambda request, raw, finish: (raw.strip(), None))
            return [{} for _ in drawn], annotate(drawn, given, self._annotator_of(drawn), len(self.prompt.goals))
        if phase == 0:
            plans = own.plans if recipe.draw_under is None else own.also.get(recipe.draw_under, {})
            if set(plans) != set(own.plans):
                raise ConfigError(f"recipe 'steerlm' draws under {recipe.draw_under!r}, and was not given its prompts")
            able = sorted(with_room(plans, backend, recipe.max_new_tokens, own.say))
            asked = (
                {} if recipe.draw_under else {(r, k): self.requested[r] for r in able for k in range(recipe.samples)}
            )
            wanted = {(r, k): plans[r] for r in able for k in range(recipe.samples)}
        else:
            asked, wanted = self._asking(phase, name, own, backend)
        if not wanted:
            raise ConfigError("no request can be trained on: give the bench other texts, or lower `max_new_tokens`")
        drawn = draw_under(recipe, own, wanted, backend, f"steerlm:{phase}")
        annotated = annotate(drawn, own, self._annotator_of(drawn), len(self.prompt.goals))
        return [asked.get(key, {}) for key in wanted], annotated

    def _asking(
        self, phase: int, name: str, own: Training, backend: TransformersBackend
    ) -> tuple[dict[Key, dict[str, int]], dict[Key, Plan]]:
        """What is asked for, and the prompts, under the state before; requests without room for all are left out."""
        recipe = self.recipe
        adapter = Adapter.of(str(self.start))
        backend.add_adapters([adapter])
        once = name.startswith("iteration")
        share = recipe.iteration_share if once else recipe.round_share
        some = some_of(sorted(own.plans), share, recipe.seed, phase)
        keys = [(r, k) for r in some for k in range(1 if once else recipe.round_samples)]
        asked = asked_of(keys, recipe, phase, self.seen, self.requested, self.prompt)
        if once:
            asked = {(r, k): asked[r, 0] for r, _ in keys for k in range(recipe.answers)}
        plans = {
            f"{r} {k}": replace(own.plans[r], messages=self.prompt.messages(a, self.sources[r]), adapter=adapter.digest)
            for (r, k), a in asked.items()
        }
        able = with_room(plans, backend, recipe.max_new_tokens, own.say)
        wanted = {(r, k): plans[f"{r} {k}"] for r, k in asked if f"{r} {k}" in able}
        return asked, wanted

    def _annotator_of(self, drawn: Sequence[Drawn]) -> Annotator:
        if self.recipe.annotator == "ruler":
            return ruler_of(self.training, self.prompt)
        if not self.first:
            self.first = list(drawn)
        # trained when it is first asked: a run that is taken up again may need it no more
        return lambda texts: self._learnt[0](texts)

    @cached_property
    def _learnt(self) -> tuple[Annotator, dict[str, float]]:
        """The attribute model, and how far it is right."""
        return attribute_annotator(self.recipe, self.training, self.prompt, self.first, self.sources)

    def _conditioned(
        self,
        phase: int,
        own: Training,
        pairs: Sequence[Pair | None],
        annotated: Sequence[Annotated],
        asked: Sequence[Mapping[str, int]],
    ) -> tuple[int, NDArray[np.bool_], dict[str, Floats]]:
        """Steps of the phase, which answers are trained on, and nothing else of them."""
        recipe, loaded = self.recipe, own.load()
        layout, room = self._layout(loaded), loaded.info.max_context
        used = np.array([p is not None and layout.fits(p, room) for p in pairs])
        if (long := int(sum(p is not None for p in pairs) - used.sum())) > 0:
            own.say(f"{long} answers are left out: with all of their labels they do not fit the context of {room}")
        chosen = [p for p, u in zip(pairs, used, strict=True) if u and p is not None]
        if not chosen:
            raise ConfigError(f"none of {len(pairs)} answers fits the context of {room} tokens with its labels")
        learnt = [*self.pairs, *chosen] if phase and recipe.keep_earlier else chosen
        self.pairs += chosen
        epochs = recipe.round_epochs if phase else recipe.epochs
        steps = -(-epochs * len(learnt) // recipe.batch)
        if steps not in own.run.checkpoints():
            rows, places = laid(learnt, layout, recipe, epochs, _seed(recipe, phase))
            further = figures_of(annotated, asked, used, self.prompt) | {"answers:trained_on": float(len(learnt))}
            if phase == 0 and recipe.annotator == "attribute_model":
                further |= self._learnt[1]
            rate = recipe.round_rate if phase else recipe.learning_rate
            settings = recipe.model_copy(update={"epochs": epochs, "learning_rate": rate})
            fine_tune(settings, rows, own, loaded, further, schedule=places, start=self.start)
        return steps, used, {}

    def _weighted(
        self,
        phase: int,
        own: Training,
        pairs: Sequence[Pair | None],
        annotated: Sequence[Annotated],
        asked: Sequence[Mapping[str, int]],
    ) -> tuple[int, NDArray[np.bool_], dict[str, Floats]]:
        """Steps of an iteration, which answers are trained on, and their weights with what they are made of."""
        from steer_core.adapters.steerlm.iteration import figures_of_weights, iterate, steps_of, weights_of

        assert self.start is not None  # iterations come after the first phase
        loaded = own.load()
        layout = self._layout(loaded)
        weights, parts = weights_of(self.recipe, own, loaded, self.start, layout, annotated, asked)
        there = ~np.isnan(weights.weight) & ~np.isnan(weights.log_attributes)
        steps = steps_of(self.recipe, weights)
        if steps not in own.run.checkpoints():
            further = figures_of(annotated, asked, there, self.prompt) | figures_of_weights(weights)
            iterate(
                self.recipe,
                _seed(self.recipe, phase),
                own,
                own.load(),
                self.start,
                layout,
                annotated,
                asked,
                weights,
                parts["log_sampler"],
                further,
            )
        return steps, there, {"weight": np.where(there, weights.weight, np.nan), **parts}

    def _layout(self, loaded: LoadedModel) -> Layout:
        some, backend = next(iter(self.training.plans.values())), TransformersBackend(loaded)
        return Layout(self.prompt, self.sources, lambda m: backend.encode(replace(some, messages=tuple(m))))


def _seed(recipe: SteerlmRecipe, phase: int) -> int:
    """Phases drop labels and order rows apart from each other."""
    return recipe.seed + 1_000_003 * phase


def _later(training: Training, before: int) -> Callable[[int, Mapping[str, float]], None]:
    return lambda step, figures: training.observe(before + step, figures)


def _requested(training: Training, prompt: LabelPrompt) -> dict[str, dict[str, int]]:
    """What each training request asks for by labels.

    Raises:
        ConfigError: the method's prompt does not ask by labels of these levels.
    """
    found = {}
    for request, plan in training.plans.items():
        target = training.targets[request]
        try:
            labels = prompt.read(plan.messages or (), target.source)
            wanted = np.where(np.isnan(target.z_star), target.z0, target.z_star)
            right = {g: prompt.level(g, float(wanted[training.goals.index(g)])) for g in labels}
        except SteerworksError as error:
            raise ConfigError(_not_by_labels(prompt, str(error))) from error
        if labels != right:
            raise ConfigError(_not_by_labels(prompt, f"request {request} asks for {labels}, and means {right}"))
        found[request] = labels
    return found


def _not_by_labels(prompt: LabelPrompt, why: str) -> str:
    wording = "words" if prompt.phrases else "digits"
    return (
        f"recipe 'steerlm' trains under the prompt strategy `labels` with levels = {prompt.levels} in {wording}: "
        f"{why}; give the method this strategy, and both the same levels and `wording`"
    )
