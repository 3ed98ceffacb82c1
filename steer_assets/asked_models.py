"""Which models a cell asks besides its own: those that write what it is trained on, and its judges."""

from __future__ import annotations

from schemas.profile_spec import ProfileSpec
from schemas.specs import BehaviorSpec, ModelSpec
from steer_assets.partitions import Cell
from steer_assets.settings import registry
from steer_core.evaluation.profiles import kind
from steer_core.generation.engines import describe_engine
from steer_core.methods import standing
from steer_core.methods.load import load_method
from steer_core.methods.part import parts_of


def sweeps(cell: Cell) -> bool:
    """Whether the cell is swept over its bench's behaviors: some part of its method can be."""
    method = load_method(cell.method, cell.model, cell.bench, registry().goals_of(cell.bench))
    return bool(cell.bench.behaviors) and any(p.sweeps for p in parts_of(method))


def judging_model(cell: Cell, behavior: BehaviorSpec) -> ModelSpec:
    """The model that judges a behavior, where a language model does: its own, or the cell's."""
    return registry().model(behavior.judge.model) if behavior.judge.model else cell.model


def rating_model(cell: Cell, profile: ProfileSpec) -> ModelSpec | None:
    """The model that judges the answers to a profile: its own, or the cell's; None where no language model does."""
    rater = kind.rater_of(profile)
    if rater is None or rater.kind != "llm":
        return None
    return registry().model(rater.model) if rater.model else cell.model


def reading_models(cell: Cell, profile: ProfileSpec) -> dict[str, ModelSpec]:
    """The models that read the answers to a profile, by what they give: `embed`, `log_probs`."""
    named = kind.reads(profile)
    return {what: cell.model if name is None else registry().model(name) for what, name in named.items()}


def _profiles(cell: Cell) -> list[ProfileSpec]:
    """Profiles that are taken of a cell."""
    method = load_method(cell.method, cell.model, cell.bench, registry().goals_of(cell.bench))
    return [] if standing.why_not_profiled(method) is not None else list(registry().profiles_of(cell.bench).values())


def judges_of(cell: Cell) -> dict[str, ModelSpec]:
    """What is judged by a language model in a cell, in words, and by which."""
    behaviors = [registry().behavior(b) for b in cell.bench.behaviors] if sweeps(cell) else []
    found = {f"behavior {b.name!r}": judging_model(cell, b) for b in behaviors if b.judge.kind == "llm"}
    raters = {f"profile {p.name!r}": rating_model(cell, p) for p in _profiles(cell)}
    found |= {what: model for what, model in raters.items() if model is not None}
    if cell.bench.validated_by is not None:
        found["groundedness and goals"] = registry().model(cell.bench.validated_by)
    return found


def models_asked(cell: Cell) -> dict[str, ModelSpec]:
    """The models that a cell asks, by name, its own first; none where its method calls no model and nothing judges."""
    method = load_method(cell.method, cell.model, cell.bench, registry().goals_of(cell.bench))
    own = [cell.model] if method.traits.calls_model else []
    # an encoder is no engine, and loads its weights itself
    read = [m for p in _profiles(cell) for what, m in reading_models(cell, p).items() if what == "log_probs"]
    others = [registry().model(name) for part in parts_of(method) for name in part.asks(cell.model)]
    return {m.name: m for m in [*own, *others, *read, *judges_of(cell).values()]}


def how_judged(cell: Cell) -> list[str]:
    """A line for each judge: who it is, and whether it is read by probabilities or from what it writes."""
    found = []
    for what, model in judges_of(cell).items():
        engine = describe_engine(model)
        how = (
            "by the probabilities of its options"
            if engine.scores
            else f"from what it writes, for {engine.name} gives no log-probabilities of given texts"
        )
        found.append(f"{what}: judged by {model.name}, read {how}")
    return found
