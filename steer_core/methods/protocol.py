"""What a method is: it may fit, and it steps.

1. `step` is pure: request, artifact and history in; plans or a choice out.
2. The driver runs `step` for all requests in rounds until every request has chosen.
3. Equal plans of one request are samples 0, 1, 2 ... of that plan, in the order in which they were asked for.
4. `Observation.z` is there only for methods that say `measures`: those are oracles of the ruler, and marked as such.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from schemas.responses import Artifacts
from schemas.specs import Decoding, GoalSpec
from steer_core.steering.plan import Plan


@dataclass(frozen=True)
class GoalTarget:
    """Start and target of one goal; `z_star` is None where the goal is inactive."""

    goal: str
    z0: float
    z_star: float | None

    @property
    def delta(self) -> float:
        """Requested move; 0 where inactive."""
        return 0.0 if self.z_star is None else self.z_star - self.z0


@dataclass(frozen=True)
class Request:
    """A source text and where it should go, goals in the order of the goal space."""

    request_id: str
    text: str
    goals: tuple[GoalTarget, ...]

    @property
    def active(self) -> tuple[GoalTarget, ...]:
        """Goals with a target."""
        return tuple(g for g in self.goals if g.z_star is not None)


@dataclass(frozen=True)
class Observation:
    """What came back for one plan of a request.

    Attributes:
        response_id: key of the response.
        plan: what was asked.
        text: cleaned answer.
        parsed: False where the answer lacks the form asked for.
        finish_reason: as in `responses`.
        z: position in goal space, goal by goal (None where undefined); None unless the method measures.
    """

    response_id: str
    plan: Plan
    text: str
    parsed: bool
    finish_reason: str
    z: Mapping[str, float | None] | None = None


@dataclass(frozen=True)
class Choose:
    """The end of a request: one of its observations, or a text that no model wrote.

    Attributes:
        response_id: the chosen observation, or None.
        text: the text, where no observation is chosen.
        finish_reason: `source` or `imported`, where no observation is chosen.
    """

    response_id: str | None = None
    text: str | None = None
    finish_reason: str = "source"


@dataclass(frozen=True)
class Item:
    """One fitted item of one part: an edit idea, an example, a dose."""

    kind: str
    body: Any
    goal: str | None = None
    direction: int = 0
    part: str = "prompt"


@dataclass(frozen=True)
class Artifact:
    """What a method fitted; empty for most."""

    items: tuple[Item, ...] = ()

    def to_table(self) -> pl.DataFrame:
        """Rows of `artifacts`."""
        rows = [
            (i.part, i.kind, n, i.goal, i.direction, json.dumps(i.body, sort_keys=True))
            for n, i in enumerate(self.items)
        ]
        return pl.DataFrame(rows, schema=Artifacts.empty().schema, orient="row")

    @classmethod
    def from_table(cls, table: pl.DataFrame) -> Artifact:
        """The artifact that `to_table` wrote."""
        rows = table.sort("item").iter_rows(named=True)
        return cls(tuple(Item(r["kind"], json.loads(r["body"]), r["goal"], r["direction"], r["part"]) for r in rows))


@dataclass(frozen=True)
class Setting:
    """What every strategy is built with, besides its options.

    Attributes:
        model: `ModelSpec.identity` of the model that is asked.
        goals: goal specs by name, in the order of the goal space.
        decoding: the bench's decoding; a strategy may change the temperature.
        seed: the bench's seed.
    """

    model: str
    goals: Mapping[str, GoalSpec]
    decoding: Decoding
    seed: int = 0


@dataclass(frozen=True)
class Traits:
    """What a strategy needs and does, known before anything runs.

    Attributes:
        max_calls: most calls for one request.
        calls_model: False for `copy` and imported answers.
        measures: sees `z` of its own attempts: an oracle of the ruler.
        needs_context: least tokens of context that its prompts and answers take on the embedded bench; None: no floor.
        digest: digest of files that the answers come from, beside the spec; empty where there are none.
        fits_on: strategy whose responses to the training pool it is fitted on; None: fits nothing.
        pool: whether it needs a training pool for something else: doses are tried on its texts.
    """

    max_calls: int = 1
    calls_model: bool = True
    measures: bool = False
    needs_context: int | None = None
    digest: str = ""
    fits_on: str | None = None
    pool: bool = False


@dataclass(frozen=True)
class FitResponse:
    """A response of the training pool: the request, what came back, and where it landed."""

    request: Request
    text: str
    raw: str
    failure: str | None = None
    z: Mapping[str, float | None] = field(default_factory=dict)


class Method(Protocol):
    """A strategy, built with its setting and options."""

    @property
    def traits(self) -> Traits:
        """What it needs and does."""
        ...

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """What is learnt from the training pool; never sees a test text."""
        ...

    def step(self, request: Request, artifact: Artifact, history: tuple[Observation, ...]) -> tuple[Plan, ...] | Choose:
        """The next plans for a request, or its end."""
        ...

    def clean(self, raw: str) -> tuple[str, bool]:
        """The answer in a raw text, and whether it had the form asked for."""
        ...
