"""A prompt with vectors: the vectors make up for what the prompt leaves of a request.

For each active goal with requested move r of a text at z0, the prompt by itself moves a + b r + c z0 (fitted on the
training pool); the vector is asked for a share of the rest, picked there too (`doses.policy`), and the goal's
dose-response curve says which strength gives it. Goals without contrasts, or whose doses do not help, are left to the
prompt.
Vector-only methods have the unsteered rewrite as their prompt, so b is near 0 there and the vector does all the work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from schemas.specs import BenchSpec, ModelSpec
from schemas.sweeps import SweepArms
from schemas.vector_part import VectorPart
from steer_core.generation.backend import Backend, Capabilities
from steer_core.methods.doses import DoseCurve, Policy
from steer_core.methods.doses.curve import left_by_prompt
from steer_core.methods.fitting import FitContext
from steer_core.methods.part import Arm, Part, PlainPart
from steer_core.methods.parts._vector_doses import at, clipped, with_doses
from steer_core.methods.parts._vector_fits import FITS, gate_of_part, vectors_of_goals
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, Item, Method, Request, Setting
from steer_core.methods.search.cell import space_of
from steer_core.methods.search.space import Space
from steer_core.methods.sweeps.arms import examples_of, plan_arms, seed_of, with_random
from steer_core.models.info import layers_of
from steer_core.steering.compose import CONDITION, gate_of
from steer_core.steering.intervention import Intervention
from steer_core.steering.operators import load_operator
from steer_core.steering.plan import Plan
from steer_core.steering.vector import SteeringVector, from_tables
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.estimator import available_estimators, load_estimator
from steer_core.vectors.goal_contrasts.choice import left_to_the_prompt
from steer_core.vectors.layers import resolve_layers

#: Strategy whose answers to the training pool contrasts are mined from.
POOL_STRATEGY = "direct"
#: Strengths smaller than this share of the largest usable one are left off: they would change nothing but tokens.
LEAST = 0.02


__all__ = ["DESCRIPTION", "FITS", "GIVES", "NODE", "SPEC", "Doses", "build", "with_doses"]

SPEC = VectorPart
NODE = "vectors"
#: Tables that the engine is given from, and sweeps are planned from.
GIVES = ("vectors", "vector_tensors")
DESCRIPTION = "Vectors of the bench's goals and behaviors, and how far each strength of them moves each goal"


@dataclass(frozen=True)
class Doses(PlainPart):
    """The vector part of a method: interventions at the strengths that a request takes.

    Attributes:
        spec: its settings.
        label: its name in the artifact.
        strength: one for all requests; None: what each request takes.
    """

    spec: VectorPart
    label: str = "vector"
    strength: float | None = None
    pool = True
    sweeps = True
    searches = True

    @property
    def fits_on(self) -> str | None:  # type: ignore[override]
        """Answers to mine in; those that are asked for on purpose serve as well, so then no others are needed."""
        return POOL_STRATEGY if "mined" in self.spec.contrasts and "asked" not in self.spec.contrasts else None

    def combine(self, base: Method, before: Sequence[Part]) -> None:
        """A vector goes with strategies of one prompt and one answer: doses are tried under that.

        Raises:
            ConfigError: the strategy asks several times, the estimator needs what goals do not have, or another vector
                of the method has its contrasts from elsewhere.
        """
        if not isinstance(base, SinglePrompt):
            raise ConfigError(
                "a vector's doses are measured under one prompt and one answer, and this strategy asks several times"
            )
        if "logits" in load_estimator(self.spec.estimator).needs:
            raise ConfigError(
                f"estimator {self.spec.estimator!r} is fitted on answer letters, which the goals of a bench have none "
                "of; fit it with steer_core.vectors.fit on A/B data"
            )

        for other in before:
            if isinstance(other, Doses) and other.spec.contrasts != self.spec.contrasts:
                raise ConfigError(
                    f"two vectors of one method state different `contrasts` ({', '.join(other.spec.contrasts)}; "
                    f"{', '.join(self.spec.contrasts)}), and their goals share them: give both the same"
                )

    def collect(self, tables: Mapping[str, pl.DataFrame]) -> Artifact:
        """A dose for each goal, from the tables `vectors`, `vector_tensors` and `dose_response`."""
        doses = tables["dose_response"].filter(pl.col("part") == self.label)
        goals = doses["goal"].unique(maintain_order=True).to_list()
        known = vectors_of_goals(goals, tables, self.label)
        made = with_doses(Artifact(), self.spec, known, doses, gate_of_part(tables, self.label), self.label)
        left = left_to_the_prompt(tables["contrast_sources"])
        return Artifact((*made.items, *(Item("left", why, goal, part=self.label) for goal, why in left.items())))

    def give(self, backend: Backend, tables: Mapping[str, pl.DataFrame]) -> None:
        """The vectors, to an engine that refuses those of another model."""
        own = tables["vectors"].filter(pl.col("part") == self.label)
        backend.add_vectors(from_tables(own, tables["vector_tensors"].join(own, on="vector_id", how="semi")))

    def apply(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        """The plan with the request's interventions after those that it has."""
        return replace(plan, interventions=(*plan.interventions, *self.interventions(request, artifact)))

    def arms(self, artifact: Artifact) -> tuple[Arm, ...]:
        """The strengths of `on_probe`, each for all goals that are asked for, towards what is asked.

        None goes beyond what was usable on the training pool; where one is held back its label says so.
        """
        words = f"strength ({self.spec.unit})"
        tried = [i.body["strengths"] or [0.0] for i in artifact.items if i.kind == "dose" and i.part == self.label]
        found = []
        for s in self.spec.on_probe:
            held = sum(not min(t) <= s <= max(t) for t in tried)
            said = f", held to what was usable for {held} of {len(tried)} goals" if held else ""
            found.append(Arm(self.label, f"strength {s:+g}{said}", {"strength": s}, s, words))
        return tuple(found)

    def at(self, arm: Arm) -> Doses:
        """The part at one strength, whatever is asked for; its sign follows the request."""
        return replace(self, strength=float(arm.settings["strength"]))

    def refuse(self, capabilities: Capabilities) -> str | None:
        """An engine must change activations, with this operator, at these positions."""
        if capabilities.interventions is None:
            return f"{capabilities.name} backend cannot apply interventions; use transformers or vllm"
        operator = self.spec.operator
        if operator is not None and operator.replace("-", "_") not in capabilities.interventions.operators:
            return f"{capabilities.name} backend cannot apply operator {operator!r}"
        return None

    def sweep(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """Arms of every behavior of the bench that has test items."""
        known, layers = self._swept(cell, tables), self._layers(cell, tables)
        items = tables["behavior_items"]
        written = set(items["behavior"])
        planned: list[pl.DataFrame] = [SweepArms.empty()]
        for behavior in cell.behaviors:
            if behavior.name not in written:
                cell.warn(f"behavior {behavior.name!r} has no test items: it is not swept")
                continue
            n = cell.bench.sweep.examples
            shown = examples_of(behavior.name, tables["contrast_examples"], n) if n else {}
            if len(shown) < 2 and n:
                cell.warn(f"behavior {behavior.name!r} has fewer than {n} training answers of a side to show")
            planned.append(
                plan_arms(
                    behavior, self.spec, cell.bench.sweep, known, items, layers=layers, gate=gate_of(known), shown=shown
                )
            )
        return pl.concat(planned)

    def give_sweep(self, backend: Backend, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> None:
        """The behaviors' vectors with their controls; random ones are drawn again from their seeds."""
        backend.add_vectors(self._swept(cell, tables))

    def _swept(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> list[SteeringVector]:
        names = [b.name for b in cell.behaviors]
        own = tables["vectors"].filter(
            pl.col("part") == self.label, pl.col("concept").is_in(names) | (pl.col("control") == CONDITION)
        )
        found = from_tables(own, tables["vector_tensors"].join(own, on="vector_id", how="semi"))
        for name in names:
            layers = self._layers(cell, tables)
            found = with_random(found, name, cell.bench.sweep, layers=layers, seed=self.spec.seed)
        return found

    def search_space(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> Space:
        """What the bench's search may try with this part; its gate goes along.

        Raises:
            ConfigError: the bench has no search, or the part's unit is a budget, measured for each strength.
        """
        wanted, n_layers = cell.bench.search, layers_of(cell.model)
        if wanted is None or n_layers is None:
            raise ConfigError(
                f"bench {cell.bench.name!r} has no `search`, or the layers of {cell.model.name} are unknown"
            )
        if self.spec.unit == "kl":
            raise ConfigError(
                f"method {cell.spec.name!r}: a KL budget is measured strength by strength, and a search has no list of "
                "them: give the vector another `unit`, and `kl` among the search's objectives"
            )
        return space_of(wanted, self.spec, n_layers, gate_of_part(tables, self.label))

    def searched(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> list[SteeringVector]:
        """The behaviors' vectors at every layer that a search steers; no controls, and no further seeds."""
        return [v for v in self._swept(cell, tables) if not v.control and seed_of(v, self.spec) == self.spec.seed]

    def _layers(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> tuple[int, ...]:
        """Layers that the part itself steers; a sweep's further layers, and a search's, are fitted for behaviors."""
        if (n_layers := layers_of(cell.model)) is not None:
            return resolve_layers(self.spec.layers, n_layers)
        own = tables["vectors"].filter(pl.col("part") == self.label, pl.col("control") == "")
        of_goals = own.filter(pl.col("concept").is_in(list(cell.bench.goals)))
        if not of_goals.height:
            # no goal has a vector: what is left is of behaviors
            of_goals = own.filter(~pl.col("layer").is_in(list(cell.bench.sweep.layers)))
        return tuple(of_goals["layer"].unique().sort())

    def asks(self, model: ModelSpec) -> tuple[str, ...]:
        """The model that it is fitted on, where that is another."""
        return () if self.spec.from_model is None else (self.spec.from_model,)

    def mistakes(self, model: ModelSpec, bench: BenchSpec, behaviors: Collection[str]) -> Iterator[str]:
        """Layers that the model lacks, an unknown estimator, option, operator, or condition of the gate."""
        checks: list[Callable[[], object]] = [
            lambda: load_estimator(self.spec.estimator).check(self.spec.options),
            self._check_unit,
        ]
        if self.spec.operator is not None:
            checks.append(lambda: load_operator(str(self.spec.operator).replace("-", "_")))
        if (n_layers := layers_of(model)) is not None:
            checks.append(lambda: resolve_layers(self.spec.layers, n_layers))
            if bench.behaviors and bench.sweep.layers:
                where = f"`sweep.layers` of bench {bench.name!r} in benches.yaml: "
                checks.append(lambda: resolve_layers(bench.sweep.layers, n_layers, where))
        for check in checks:
            try:
                check()
            except SteerworksError as error:
                yield str(error)
        fitted = getattr(load_estimator(self.spec.estimator).module, "FITTED", True) if self._is_known() else True
        if not fitted and bench.behaviors and bench.sweep.shuffled:
            yield (
                f"estimator {self.spec.estimator!r} fits nothing, so there are no labels to shuffle: give bench "
                f"{bench.name!r} `sweep: {{shuffled: 0}}`"
            )
        if self.spec.from_model == model.name:
            yield f"`from_model` is {model.name}, the cell's own model: there is nothing to carry over"
        gate = self.spec.gate
        if gate is not None and gate.condition not in behaviors:
            known = ", ".join(sorted(behaviors))
            yield f"the gate's condition {gate.condition!r} is no behavior; configured are {known}"
        if gate is not None and gate.layer is not None and n_layers is not None and gate.layer >= n_layers:
            yield f"the gate looks at layer {gate.layer}, and the model has layers 0 to {n_layers - 1}"

    def _is_known(self) -> bool:
        return self.spec.estimator in available_estimators()

    def _check_unit(self) -> None:
        """Refuse a unit that means nothing to the operator that the fits will be applied by.

        Raises:
            ConfigError: names both, and the units that do.
        """
        operator = self.spec.operator or load_estimator(self.spec.estimator).operator
        if operator is None or self.spec.unit == "kl":
            return
        units = load_operator(operator.replace("-", "_")).units
        if self.spec.unit not in units:
            raise ConfigError(
                f"unit {self.spec.unit!r} does not fit operator {operator!r} of estimator {self.spec.estimator!r}: use "
                f"{', '.join(sorted(units))} or kl"
            )

    def interventions(self, request: Request, artifact: Artifact) -> tuple[Intervention, ...]:
        """What a request's moves take, goal by goal in the order of the goal space.

        Raises:
            SteerworksError: the artifact knows no dose of a goal that is asked for.
        """
        doses = {i.goal: i.body for i in artifact.items if i.kind == "dose" and i.part == self.label}
        left = {i.goal for i in artifact.items if i.kind == "left" and i.part == self.label}
        chosen: list[tuple[Mapping[str, Any], DoseCurve, float]] = []
        for target in request.active:
            if target.goal in left:
                continue
            if target.goal not in doses:
                raise SteerworksError(
                    f"no dose of goal {target.goal!r} is known: fit the vectors and measure their dose-response first"
                )
            dose = doses[target.goal]
            curve = DoseCurve(tuple(dose["strengths"]), tuple(dose["moves"]), dose["anchored"])
            if self.strength is not None:
                # an edit that sets a place has no other side
                turned = -1.0 if curve.anchored and target.delta < 0 else 1.0
                chosen.append((dose, curve, clipped(curve, turned * self.strength)))
                continue
            policy = Policy(dose["share"], dose["floor"])
            strength = curve.strength_for(policy.asks(left_by_prompt(target.delta, target.z0, dose["prompt"])))
            if strength is not None:
                chosen.append((dose, curve, strength))
        # doses were tried one at a time: together they may use up what one may use alone
        spent = sum(curve.share(strength) for _, curve, strength in chosen)
        applied: list[Intervention] = []
        for dose, curve, strength in chosen:
            kept = strength / max(spent, 1.0) if curve.anchored else strength
            if not curve.anchored or curve.share(kept) >= LEAST:
                applied += at(dose["interventions"], dose["strengths"], kept)
        return tuple(applied)


def build(spec: VectorPart, label: str, setting: Setting) -> Doses:
    """The part that its settings describe."""
    return Doses(spec, label)
