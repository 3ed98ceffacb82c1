"""An adapter that the model wears: from a folder, or trained on the training pool by a recipe.

Its states (checkpoints) are arms: each can be measured on the probe. The one that the method wears is picked on texts
of the training pool that it was not trained on, by steering error, under the method's own prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

import schemas.preference_recipe
import schemas.recipes
import schemas.steerlm_recipe  # noqa: F401  (the recipes that configurations may name)
from schemas.adapter_part import AdapterPart
from schemas.specs import BenchSpec, ModelSpec
from steer_core.adapters.recipe import lacking, not_shared, recipe_module
from steer_core.adapters.recipe import unknown as unknown_names
from steer_core.adapters.rewards import unknown_goals
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Backend, Capabilities
from steer_core.methods.part import Arm, Part, PlainPart
from steer_core.methods.parts._adapter_served import SERVED, not_served, on_server, say_steps
from steer_core.methods.parts._adapter_steps import FITS
from steer_core.methods.parts._adapter_trials import BARE, best_step
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, Item, Method, Request, Setting
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.folders import fetched

__all__ = ["DESCRIPTION", "FITS", "GIVES", "NODE", "SPEC", "Worn", "build", "unknown"]

SPEC = AdapterPart
NODE = "adapters"
#: What states stand on.
AXIS = "training step"
#: Tables that the engine is given from.
GIVES = ("adapters",)
DESCRIPTION = "Adapters, state by state: how they were trained, and how each does on texts that it was not trained on"


@dataclass(frozen=True)
class Worn(PlainPart):
    """The adapter part of a method.

    Attributes:
        spec: its settings.
        label: its name in the artifact.
        step: the state that is worn; None: the one that was picked.
    """

    spec: AdapterPart
    label: str = "adapter"
    step: int | None = None
    pool = True

    def combine(self, base: Method, before: Sequence[Part]) -> None:
        """It is trained under a prompt that asks once, and under nothing that changes activations or chooses tokens.

        Raises:
            ConfigError: the strategy asks several times, or a part before it does what a trainer does not know of.
        """
        if not isinstance(base, SinglePrompt):
            raise ConfigError(
                "an adapter is tried under one prompt and one answer, and this strategy asks several times"
            )
        for other in before:
            if isinstance(other, Worn):
                raise ConfigError("two adapters cannot be worn at once: train one on what the other gives, or merge it")
            raise ConfigError(
                f"a part of kind {other.spec.kind!r} stands before the adapter, and a trainer knows nothing of it: put "
                "the adapter first, so that the other is fitted under it"
            )

    def collect(self, tables: Mapping[str, pl.DataFrame]) -> Artifact:
        """Its states, and which of them was picked."""
        own = tables["adapters"].filter(pl.col("part") == self.label)
        trials = tables["checkpoint_trials"].filter(pl.col("part") == self.label)
        picked = best_step(trials)
        items = []
        for row in own.sort("step").iter_rows(named=True):
            body = {"adapter": row["adapter"], "step": row["step"], "label": row["label"]}
            items.append(Item("state", body | {"picked": row["step"] == picked}, part=self.label))
        return Artifact(tuple(items))

    def give(self, backend: Backend, tables: Mapping[str, pl.DataFrame]) -> None:
        """All states, to an engine that can wear them."""
        own = tables["adapters"].filter(pl.col("part") == self.label)
        backend.add_adapters([_found(r["folder"], r["adapter"], backend) for r in own.iter_rows(named=True)])

    def apply(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        """The plan with the adapter; at the step of the bare model as it is."""
        if self.step == BARE:
            return plan
        wanted = [s for s in self._states(artifact) if (s["picked"] if self.step is None else s["step"] == self.step)]
        if not wanted:
            raise SteerworksError(f"part {self.label!r} has no adapter to wear: materialize `adapters` first")
        return replace(plan, adapter=str(wanted[0]["adapter"]))

    def arms(self, artifact: Artifact) -> tuple[Arm, ...]:
        """The model without the adapter, and every state where there are several; none if they are not wanted."""
        states = self._states(artifact)
        if not self.spec.checkpoints_on_probe:
            return ()
        # of one state the headline is the measurement
        more = states if len(states) > 1 else []
        placed = [(BARE, "without the adapter", 0.0), *((s["step"], s["label"], float(s["step"])) for s in more)]
        # adapters of a server may have nothing to do with each other
        axis = AXIS if self.spec.served is None or say_steps([s["label"] for s in states]) else ""
        return tuple(Arm(self.label, label, {"step": s}, at if axis else None, axis) for s, label, at in placed)

    def _states(self, artifact: Artifact) -> list[dict[str, Any]]:
        return [i.body for i in artifact.items if i.kind == "state" and i.part == self.label]

    def at(self, arm: Arm) -> Worn:
        """The part at one state."""
        return replace(self, step=int(arm.settings["step"]))

    def refuse(self, capabilities: Capabilities) -> str | None:
        """An engine must wear adapters row by row; one that is trained needs its weights in this process, too."""
        if not capabilities.adapters:
            return f"{capabilities.name} backend cannot load adapters; use transformers, or vllm with `adapter_slots`"
        return None

    def asks(self, model: ModelSpec) -> tuple[str, ...]:
        """The models, beside the one that is trained, that write what its recipe trains on."""
        recipe = self.spec.recipe
        return () if recipe is None else tuple(n for n in recipe.writers(model.name) if n != model.name)

    def mistakes(self, model: ModelSpec, bench: BenchSpec, behaviors: Collection[str]) -> Iterator[str]:
        """A server that has no adapters, a recipe that there is no trainer for, or goals that the bench lacks."""
        if self.spec.served is not None:
            yield from not_served(self.spec.served, model)
        if self.spec.recipe is None:
            return
        try:
            recipe_module(self.spec.recipe.kind)
            if (wrong := not_shared(self.spec.recipe, model.training_processes)) is not None:
                yield wrong
        except SteerworksError as error:
            yield str(error)
        if (missing := lacking(self.spec.recipe)) is not None:
            yield missing
        yield from unknown_goals(self.spec.recipe, bench.goals)
        if model.engine != "transformers":
            kind = self.spec.recipe.kind
            yield f"recipe {kind!r} trains weights in this process, and {model.name} runs on {model.engine}"


def unknown(spec: AdapterPart) -> Iterator[str]:
    """What its recipe names and there is not, in words; known without a bench and a model."""
    # goals are of a bench: most recipes are not even loaded for this
    if spec.recipe is not None and any(":" in n and not n.startswith("goal:") for _, n in spec.recipe.named()):
        yield from unknown_names(spec.recipe)


def _found(folder: str, digest: str, backend: Backend) -> Adapter:
    """The adapter in a folder or on the engine's server, if it is the one that the table means.

    Raises:
        SteerworksError: its files were changed, or the server has another of that name.
    """
    served = folder.startswith(SERVED)
    adapter = on_server(backend, folder.removeprefix(SERVED)) if served else Adapter.of(fetched(folder))
    if adapter.digest != digest:
        raise SteerworksError(
            f"adapter {folder} is not the one that was recorded (digest {adapter.digest}, not {digest}): its files "
            "were changed, or a server has it from elsewhere. Make `adapters` of this cell again (`steerworks rebuild`)"
        )
    return adapter


def build(spec: AdapterPart, label: str, setting: Setting) -> Worn:
    """The part that its settings describe."""
    return Worn(spec, label)
