"""How methods are fitted: on answers to the training pool, and by the steps of their parts' kinds.

A step goes from tables to tables, and is taken once for every part of its kind.

A kind's module lists its steps as `FITS`. What a step makes is published table by table, so a fit that stops is taken
up where it was; what a step generates lies in the journal. A kind without typed tables of its own uses `learning`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import numpy as np
import polars as pl

from schemas.contract import Contract
from schemas.goals import GoalValues
from schemas.profile_spec import ProfileSpec
from schemas.responses import Artifacts, PartTensors
from schemas.specs import BehaviorSpec, BenchSpec, GoalSpec, MethodSpec, ModelSpec
from steer_core.adapters.launching import Launch, launched
from steer_core.generation.backend import Backend
from steer_core.generation.decoding import Array, tensor_digest
from steer_core.generation.run import Ruler, Run
from steer_core.goals.space import GoalSpace
from steer_core.methods.driver import requests_from
from steer_core.methods.part import Part, PlainPart, parts_of
from steer_core.methods.protocol import Artifact, FitResponse, Item, Method
from steer_core.tables.errors import ConfigError
from steer_core.tables.folders import Folders

#: Bumped when the same answers and tables give another artifact.
VERSION = "1"
Tables = Mapping[str, pl.DataFrame]
#: Tables of a bench that a step may need, beside those that earlier steps made.
POOL = ("requests", "request_goals", "goal_space", "fit_responses", "fit_outcomes", "fit_goal_values")


@dataclass(frozen=True)
class OtherModel:
    """Another model of the configuration than the cell's, for steps that ask it.

    Attributes:
        spec: as it is configured.
        digest: what its answers follow from: its identity, and the files that it is read from.
        asking: an engine over it; the context is to be closed before the cell's own model is loaded.
    """

    spec: ModelSpec
    digest: Callable[[], str]
    asking: Callable[[], AbstractContextManager[Backend]]


def _no_other(name: str) -> OtherModel:
    raise ConfigError(f"model {name!r} was not handed over: only the cell's own is known here")


@dataclass(frozen=True)
class FitContext:
    """Where parts are fitted: a model under a method on a bench.

    Attributes:
        bench: the bench.
        model: the model.
        spec: the method as it is configured.
        method: the method.
        goals: goal specs by name, in the order of the goal space.
        behaviors: behaviors of the bench.
        behavior: a behavior of the configuration by name.
        source_of: what a behavior's data follow from, digests of its files included.
        asking: a run that asks the model; the device is held inside the context. Its argument is what progress is of.
        ruler: measures texts in a goal space.
        say: told what is being done.
        warn: told what a person should know.
        measure: rows of `goal_values` of the texts of outcomes.
        folders: where files beside the tables lie.
        training: the device, for a trainer that loads the model for itself; nobody else's weights are on it meanwhile.
        observe: given a step of training and its figures, as it goes.
        other: another model of the configuration, by its name there; a `ConfigError` where there is none.
        launch: starts the processes that train an adapter together, where the model's settings want several.
        profiles: of the bench: what they ask may not be trained on.
    """

    bench: BenchSpec
    model: ModelSpec
    spec: MethodSpec
    method: Method
    goals: Mapping[str, GoalSpec]
    behaviors: tuple[BehaviorSpec, ...]
    behavior: Callable[[str], BehaviorSpec]
    source_of: Callable[[BehaviorSpec], Any]
    asking: Callable[[str], AbstractContextManager[Run]]
    ruler: Callable[[GoalSpace], Ruler]
    say: Callable[[str], None]
    warn: Callable[[str], None]
    measure: Callable[[pl.DataFrame], pl.DataFrame] = field(default=lambda outcomes: GoalValues.empty())
    folders: Folders = field(default_factory=lambda: Folders("."))
    training: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)
    observe: Callable[[int, Mapping[str, float]], None] = field(default=lambda step, figures: None)
    other: Callable[[str], OtherModel] = field(default=_no_other)
    launch: Launch = field(default=launched)
    profiles: tuple[ProfileSpec, ...] = ()


@dataclass(frozen=True)
class FitCheck:
    """What must be true of a step's tables before anything is made from them.

    Attributes:
        name: what it is called.
        description: what it shows.
        needs: tables that it reads, beside the step's own.
        judge: from the bench and the tables to whether it holds, and the finding as a sentence.
    """

    name: str
    description: str
    needs: tuple[str, ...]
    judge: Callable[[BenchSpec, Tables], tuple[bool, str]]


@dataclass(frozen=True, eq=False)
class FitStep:
    """One step of fitting the parts of a kind.

    Attributes:
        name: what it is called; its docstring is what `fit` says.
        outputs: table -> contract.
        needs: tables that it reads: of the bench, of the training pool, or of earlier steps.
        fit: from a part, the cell and the tables to the outputs, in order. The tables hold what this step has made for
            the parts before this one, too.
        version: raised when the same tables and settings give other rows.
        settings: those of the part's settings that the rows follow from.
        follows: what else of the configuration the rows follow from (anything JSON can hold).
        before: whether it also reads what the parts before were fitted to, of whatever kind: it asks under them.
        calls_model: whether it asks the model, or reads it.
        calls: answers that the step asks for at most, for a plan; None where it asks for none.
        new_tokens: tokens of all of them at most; None: each may be as long as the bench allows.
        others: for steps that ask further models of the configuration: name -> answers that each is asked for at most,
            and tokens of all of them at most.
        once: taken for the first part of the kind only: its rows are the same for all.
        kinds: further kinds, for whoever draws the step.
        checks: of its tables; where one fails, nothing further is made of the cell.
    """

    name: str
    outputs: Mapping[str, type[Contract]]
    needs: tuple[str, ...]
    fit: Callable[[Part, FitContext, Tables], tuple[pl.DataFrame, ...]]
    version: str
    settings: Callable[[Part], Any] = field(default=lambda part: part.spec.model_dump(mode="json"))
    follows: Callable[[Part, FitContext], Any] = field(default=lambda part, cell: None)
    before: bool = False
    calls_model: bool = False
    calls: Callable[[Part, FitContext], int] | None = None
    new_tokens: Callable[[Part, FitContext], int] | None = None
    others: Callable[[Part, FitContext], Mapping[str, tuple[int, int]]] | None = None
    once: bool = False
    kinds: tuple[str, ...] = ()
    checks: tuple[FitCheck, ...] = ()

    def run(self, parts: list[Part], cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
        """Rows of the outputs, for all parts of the kind together."""
        made: dict[str, pl.DataFrame] = {name: contract.empty() for name, contract in self.outputs.items()}
        for part in parts[:1] if self.once else parts:
            found = self.fit(part, cell, {**tables, **made})
            for (name, contract), rows in zip(self.outputs.items(), found, strict=True):
                made[name] = pl.concat([made[name], rows])
                if "part" not in contract.key():
                    # two parts may fit the very same, which is then one
                    made[name] = made[name].unique(contract.key(), maintain_order=True)
        return tuple(made.values())


def fit_method(
    method: Method,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    responses: pl.DataFrame,
    outcomes: pl.DataFrame,
    values: pl.DataFrame,
    space: GoalSpace,
) -> Artifact:
    """The method's artifact.

    Args:
        method: what fits.
        requests: rows of `requests`; those without an outcome are left out.
        request_goals: rows of `request_goals`.
        responses: fit responses.
        outcomes: what was chosen of them.
        values: `goal_values` of the chosen texts.
        space: the goal space.
    """
    raw = dict(responses.select("response_id", "raw").iter_rows())
    asked = requests.join(outcomes.select("request_id"), on="request_id", how="semi")
    of_request = {r.request_id: r for r in requests_from(asked, request_goals, space.goals)}
    z, _ = space.locate(space.matrix(values, outcomes["text_id"]))
    fitted = []
    for row, position in zip(outcomes.iter_rows(named=True), z.tolist(), strict=True):
        reached = {g: (v if v == v else None) for g, v in zip(space.goals, position, strict=True)}
        request = of_request[row["request_id"]]
        fitted.append(FitResponse(request, row["text"], raw[row["response_id"]], row["failure"], reached))
    return method.fit(tuple(fitted))


def gather(method: Method, tables: Tables) -> Artifact:
    """What a method has learnt: from the answers to the training pool, and from what its parts' kinds have fitted."""
    artifact = fit_method(
        method,
        tables["requests"],
        tables["request_goals"],
        tables["fit_responses"],
        tables["fit_outcomes"],
        tables["fit_goal_values"],
        GoalSpace.from_table(tables["goal_space"]),
    )
    collected = [item for part in parts_of(method) for item in part.collect(tables).items]
    return Artifact((*artifact.items, *collected))


def give(method: Method, backend: Backend, tables: Tables) -> None:
    """Hand the engine what the plans of a method refer to."""
    for part in parts_of(method):
        part.give(backend, tables)


@dataclass(frozen=True)
class Learned:
    """What a part learnt: items that its plans are made from, and arrays that they refer to by digest."""

    items: tuple[Item, ...] = ()
    tensors: Mapping[str, Array] = field(default_factory=dict)


class LearningPart(PlainPart):
    """A part that keeps what it learns in the generic tables, `<node>` and `<node>_tensors`.

    Attributes:
        node: name of the kind's node.
    """

    node: ClassVar[str]

    def learn(self, cell: FitContext, tables: Tables) -> Learned:
        """What the part learns from the tables that its kind needs."""
        raise NotImplementedError

    def collect(self, tables: Tables) -> Artifact:
        """The items that it learnt."""
        return Artifact.from_table(tables[self.node].filter(pl.col("part") == self.label))

    def give(self, backend: Backend, tables: Tables) -> None:
        """Hand the engine the arrays that it learnt."""
        backend.add_tensors(tensors_from(tables[f"{self.node}_tensors"].filter(pl.col("part") == self.label)))


def learning(
    node: str,
    needs: tuple[str, ...],
    *,
    version: str = "1",
    calls_model: bool = False,
    follows: Callable[[Part, FitContext], Any] | None = None,
) -> FitStep:
    """The step of a kind whose parts are `LearningPart`s: one call of `learn`, kept in the generic tables.

    Args:
        node: name of the kind's node, and of the table of items.
        needs: tables that `learn` reads.
        version: raised when the same tables teach something else.
        calls_model: whether it asks the model, or reads it.
        follows: what of the configuration the part learns from, beside its own settings; None: everything that decides
            what the method asks and what becomes of it.
    """

    def fit(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
        learned = cast(LearningPart, part).learn(cell, tables)
        items = tuple(replace(item, part=part.label) for item in learned.items)
        return Artifact(items).to_table(), tensor_rows(part.label, learned.tensors)

    outputs = {node: Artifacts, f"{node}_tensors": PartTensors}
    return FitStep(node, outputs, needs, fit, version, follows=follows or asked_under, calls_model=calls_model)


def asked_under(part: Part, cell: FitContext) -> Any:
    """What decides the method's questions on the training pool, and what becomes of the answers."""
    from steer_core.methods.load import code_digest

    words = {n: [g.noun, g.more, g.less] for n, g in cell.goals.items()}
    decoding, drawn = cell.bench.decoding.model_dump(mode="json"), [cell.bench.seed, cell.bench.train_probe]
    return [cell.spec.spec_hash, decoding, drawn, words, code_digest(cell.spec)]


def tensor_rows(part: str, tensors: Mapping[str, Array]) -> pl.DataFrame:
    """Rows of `part_tensors`."""
    rows = [
        (part, name, tensor_digest(t), t.dtype.str, json.dumps(t.shape), np.ascontiguousarray(t).tobytes())
        for name, t in tensors.items()
    ]
    return pl.DataFrame(rows, schema=PartTensors.empty().schema, orient="row")


def tensors_from(rows: pl.DataFrame) -> dict[str, Array]:
    """Digest -> array, from rows of `part_tensors`."""
    return {
        r["digest"]: np.frombuffer(r["data"], dtype=np.dtype(r["dtype"])).reshape(json.loads(r["shape"]))
        for r in rows.iter_rows(named=True)
    }
