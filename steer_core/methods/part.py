"""What a part of a method is, and how parts make a method.

One part steps: the prompt strategy, which plans and chooses. The others are applied to every plan that it makes, in
order: a part may set interventions, an adapter, a decoding rule, or change the messages. What it needs for that it
finds in the artifact, under its own label; fitting put it there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from schemas.digest import canonical_json, digest_json
from schemas.evaluation import HEADLINE, ProbeArms
from schemas.parts import PartSpec
from schemas.specs import BenchSpec, ModelSpec
from schemas.sweeps import SweepArms
from steer_core.generation.backend import Backend, Capabilities
from steer_core.methods.protocol import Artifact, Choose, FitResponse, Method, Observation, Request, Traits
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError

if TYPE_CHECKING:
    from steer_core.methods.fitting import FitContext
    from steer_core.methods.search.space import Space
    from steer_core.steering.vector import SteeringVector


@dataclass(frozen=True)
class Arm:
    """A setting of one part that the probe is also measured at, whatever the request asks.

    Attributes:
        part: label of the part.
        label: what it is, in words: `strength +0.4`.
        settings: what `Part.at` needs, as JSON.
        position: where it stands on an axis; None for none.
        axis: what that axis is: `strength (share of the activation norm)`, `step`.
    """

    part: str
    label: str
    settings: Mapping[str, Any]
    position: float | None = None
    axis: str = ""

    @property
    def arm_id(self) -> str:
        """Hash of part and settings."""
        return digest_json([self.part, dict(self.settings)])


class Part(Protocol):
    """A part that is applied to plans.

    `PlainPart` has all of it but `apply`, so that a part says only what is its own.
    """

    @property
    def spec(self) -> PartSpec:
        """Its settings."""
        ...

    @property
    def label(self) -> str:
        """Its name within the method, and in the artifact."""
        ...

    @property
    def fits_on(self) -> str | None:
        """Strategy whose answers to the training pool it is fitted on; None: it needs none."""
        ...

    @property
    def pool(self) -> bool:
        """Whether it needs the texts of a training pool, whoever answers to them."""
        ...

    @property
    def sweeps(self) -> bool:
        """Whether behaviors can be swept over its settings."""
        ...

    @property
    def searches(self) -> bool:
        """Whether a setting of it can be searched for."""
        ...

    @property
    def last(self) -> bool:
        """Whether it acts on what all other parts do to the model, so that none of them may stand behind it."""
        ...

    @property
    def stands(self) -> bool:
        """Whether what it adds means something for any prompt, not only for one that asks to rewrite a text."""
        ...

    def combine(self, base: Method, before: Sequence[Part]) -> None:
        """Look whether it goes with the strategy and the parts before it.

        Raises:
            ConfigError: it does not; says why.
        """
        ...

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """Items that follow from the answers to the training pool alone, each with the part's label."""
        ...

    def collect(self, tables: Mapping[str, pl.DataFrame]) -> Artifact:
        """Items that follow from the tables that its kind's steps have fitted, each with the part's label."""
        ...

    def give(self, backend: Backend, tables: Mapping[str, pl.DataFrame]) -> None:
        """Hand the engine what its plans refer to by digest: vectors, tensors, adapters."""
        ...

    def apply(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        """The plan with what this part adds for a request; pure.

        Raises:
            SteerworksError: the artifact lacks what it needs; says what to make first.
        """
        ...

    def arms(self, artifact: Artifact) -> tuple[Arm, ...]:
        """Settings that are also to be measured on the probe; the part as it is is the headline and no arm."""
        ...

    def at(self, arm: Arm) -> Part:
        """The part at a setting."""
        ...

    def refuse(self, capabilities: Capabilities) -> str | None:
        """Why an engine cannot carry out what it adds, by name; None where it can."""
        ...

    def mistakes(self, model: ModelSpec, bench: BenchSpec, behaviors: Collection[str]) -> Iterator[str]:
        """What its settings get wrong on a model and bench, in words: known from configuration and config files alone.

        Args:
            model: the model.
            bench: the bench.
            behaviors: names of all behaviors that are configured.
        """
        ...

    def asks(self, model: ModelSpec) -> tuple[str, ...]:
        """Names of further models of the configuration that fitting it on a model asks."""
        ...

    def sweep(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """Rows of `sweep_arms`: the settings that the bench's behaviors are swept over; asked only where it `sweeps`.

        The tables are those that its kind has fitted, and `behavior_items`.
        """
        ...

    def give_sweep(self, backend: Backend, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> None:
        """Hand the engine what the arms of `sweep` refer to, controls included."""
        ...

    def search_space(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> Space:
        """What the bench's search may try; asked only where it `searches`.

        Raises:
            ConfigError: nothing can be searched here; says why.
        """
        ...

    def searched(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> list[SteeringVector]:
        """What settings of `search_space` are made of; `give_sweep` has handed it to the engine."""
        ...


class PlainPart:
    """A part to build on: it goes with everything, fits nothing, has no arms, and is not swept.

    A subclass has `spec` and `label`, and says what it `apply`s.
    """

    spec: PartSpec
    label: str
    fits_on: str | None = None
    pool: bool = False
    sweeps: bool = False
    searches: bool = False
    stands: bool = True
    last: bool = False

    def combine(self, base: Method, before: Sequence[Part]) -> None:
        """It goes with every strategy and part."""

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """Nothing."""
        return Artifact()

    def collect(self, tables: Mapping[str, pl.DataFrame]) -> Artifact:
        """Nothing."""
        return Artifact()

    def give(self, backend: Backend, tables: Mapping[str, pl.DataFrame]) -> None:
        """Nothing."""

    def apply(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        """The plan as it is."""
        return plan

    def arms(self, artifact: Artifact) -> tuple[Arm, ...]:
        """None."""
        return ()

    def at(self, arm: Arm) -> Part:
        """Itself: it has no settings to be at."""
        return self

    def refuse(self, capabilities: Capabilities) -> str | None:
        """Nothing to refuse."""
        return None

    def mistakes(self, model: ModelSpec, bench: BenchSpec, behaviors: Collection[str]) -> Iterator[str]:
        """None."""
        return iter(())

    def asks(self, model: ModelSpec) -> tuple[str, ...]:
        """None."""
        return ()

    def sweep(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """Nothing: it is not swept."""
        return SweepArms.empty()

    def give_sweep(self, backend: Backend, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> None:
        """Nothing."""

    def search_space(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> Space:
        """Nothing can be searched.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"a part of kind {self.spec.kind!r} has nothing to search for")

    def searched(self, cell: FitContext, tables: Mapping[str, pl.DataFrame]) -> list[SteeringVector]:
        """Nothing."""
        return []


@dataclass(frozen=True)
class Composed:
    """A strategy with parts: the strategy steps, the parts are applied to each of its plans.

    Attributes:
        base: the strategy.
        parts: the others, in order.
        traits: of the method as a whole.
    """

    base: Method
    parts: tuple[Part, ...]
    traits: Traits

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """What the strategy and the parts learn from the answers to the training pool."""
        found = [self.base.fit(responses), *(part.fit(responses) for part in self.parts)]
        return Artifact(tuple(item for artifact in found for item in artifact.items))

    def step(self, request: Request, artifact: Artifact, history: tuple[Observation, ...]) -> tuple[Plan, ...] | Choose:
        """The strategy's plans, each with what the parts add."""
        step = self.base.step(request, artifact, history)
        if isinstance(step, Choose):
            return step
        return tuple(self.applied(plan, request, artifact) for plan in step)

    def applied(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        """A plan with what all parts add, in their order."""
        for part in self.parts:
            plan = part.apply(plan, request, artifact)
        return plan

    def clean(self, raw: str) -> tuple[str, bool]:
        """As the strategy."""
        return self.base.clean(raw)

    def arms(self, artifact: Artifact) -> tuple[Arm, ...]:
        """Arms of all parts, one part at a time: the others stay as they are."""
        return tuple(arm for part in self.parts for arm in part.arms(artifact))

    def at(self, arm: Arm) -> Composed:
        """The method with one part at a setting."""
        return replace(self, parts=tuple(p.at(arm) if p.label == arm.part else p for p in self.parts))

    def before(self, label: str) -> Composed:
        """The method made of the strategy and the parts before this one: what the part is fitted under."""
        labels = [part.label for part in self.parts]
        return replace(self, parts=self.parts[: labels.index(label)])


def compose(base: Method, parts: Sequence[Part]) -> Method:
    """The method of a strategy and parts; the strategy itself where there are none.

    Raises:
        ConfigError: a part does not go with what it stands beside, or two are fitted on different answers.
    """
    if not parts:
        return base
    if not base.traits.calls_model:
        raise ConfigError(
            f"a part of kind {parts[0].spec.kind!r} changes what a model is asked, and none is asked here"
        )
    for k, part in enumerate(parts):
        part.combine(base, parts[:k])
        if not part.last and any(p.last for p in parts[:k]):
            kind = next(p.spec.kind for p in parts[:k] if p.last)
            raise ConfigError(f"a part of kind {kind!r} acts on all others: put it last")
    wanted = dict.fromkeys(s for s in (base.traits.fits_on, *(part.fits_on for part in parts)) if s is not None)
    if len(wanted) > 1:
        raise ConfigError(f"parts are fitted on answers of different strategies: {', '.join(wanted)}")
    pool = base.traits.pool or any(part.pool for part in parts)
    return Composed(base, tuple(parts), replace(base.traits, fits_on=next(iter(wanted), None), pool=pool))


def parts_of(method: Method) -> tuple[Part, ...]:
    """The parts that are applied to the strategy's plans; none for a strategy alone."""
    return method.parts if isinstance(method, Composed) else ()


def arms_of(method: Method, artifact: Artifact) -> tuple[Arm, ...]:
    """Arms of a method beside its headline; none for a strategy alone."""
    return method.arms(artifact) if isinstance(method, Composed) else ()


def arms_table(arms: Sequence[Arm]) -> pl.DataFrame:
    """Rows of `probe_arms`, the headline first."""
    rows: list[tuple[Any, ...]] = [(HEADLINE, "", "as it is used", None, "", "{}")]
    rows += [(a.arm_id, a.part, a.label, a.position, a.axis, canonical_json(dict(a.settings))) for a in arms]
    return pl.DataFrame(rows, schema=ProbeArms.empty().schema, orient="row")


def refused(method: Method, capabilities: Capabilities) -> str | None:
    """Why an engine cannot run a method, by the first part that it cannot carry out; None where it can."""
    for part in parts_of(method):
        if (why := part.refuse(capabilities)) is not None:
            return why
    return None
