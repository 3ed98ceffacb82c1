"""How vector parts are fitted: contrasts of the goals, vectors, doses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from schemas.contrasts import ContrastExamples, ContrastSources
from schemas.detection import Detections
from schemas.specs import BehaviorSpec
from schemas.vector_part import VectorPart
from schemas.vectors import ActivationMap, DoseResponse, Vectors, VectorTensors
from steer_core import vectors as core
from steer_core.corpus.contrasts import build_contrasts
from steer_core.goals.space import GoalSpace
from steer_core.methods import doses
from steer_core.methods.driver import requests_from
from steer_core.methods.fitting import POOL, FitContext, FitStep, Tables, gather, give
from steer_core.methods.part import Composed, Part
from steer_core.methods.sweeps.grid import strengths_of
from steer_core.steering.compose import CONDITION, gate_of
from steer_core.steering.intervention import Gate
from steer_core.steering.vector import SteeringVector, from_tables, to_tables
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors import goal_contrasts as contrasts
from steer_core.vectors.estimator import load_estimator

if TYPE_CHECKING:
    from steer_core.models.loading import LoadedModel
    from steer_core.vectors.fit_cell import CellFit

#: Texts that a dose is tried on.
DOSE_TEXTS = 32


def _spec(part: Part) -> VectorPart:
    return cast(VectorPart, part.spec)


def vectors_of_goals(goals: list[str], tables: Tables, label: str) -> dict[str, list[SteeringVector]]:
    """Goal -> the vectors of a part that steer it, in the order of the layers."""
    rows = tables["vectors"].filter(pl.col("concept").is_in(goals), pl.col("control") == "", pl.col("part") == label)
    found: dict[str, list[SteeringVector]] = {}
    for vector in from_tables(rows, _numbers(rows, tables)):
        found.setdefault(vector.concept, []).append(vector)
    return {g: sorted(found[g], key=lambda v: v.layer) for g in goals if g in found}


def gate_of_part(tables: Tables, label: str) -> Gate | None:
    """The gate of a part, from its condition vector."""
    rows = tables["vectors"].filter(pl.col("control") == CONDITION, pl.col("part") == label)
    return gate_of(from_tables(rows, _numbers(rows, tables)))


def _numbers(rows: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    return tables["vector_tensors"].join(rows, on="vector_id", how="semi")


def _contrasts(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    """Contrast pairs for each goal, from the first source that gives enough; goals without are left to the prompt."""
    from steer_core.methods.parts._vector_contrasts import goal_contrasts
    from steer_core.vectors.goal_contrasts.choice import left_to_the_prompt

    examples, sources = goal_contrasts(_spec(part).contrasts, cell, tables)
    for goal, why in left_to_the_prompt(sources).items():
        cell.warn(f"goal {goal!r} gets no vector and is left to the prompt: {why}")
    return examples, sources


def _condition(part: Part, cell: FitContext) -> BehaviorSpec | None:
    gate = _spec(part).gate
    return None if gate is None else cell.behavior(gate.condition)


def _vectors(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    """One vector a concept, layer and site, fitted in one pass; with vectors of shuffled labels as controls."""
    spec, sweep = _spec(part), cell.bench.sweep
    if spec.unit == "kl" and sweep.positions:
        raise ConfigError(
            f"method {cell.spec.name!r}: a KL budget is measured at the part's own positions, and the sweep "
            f"of bench {cell.bench.name!r} adds {', '.join(sweep.positions)}: leave them out or change unit"
        )
    from steer_core.vectors.transferring import carry_over, shape_of

    with _fitted_on(spec, cell) as loaded:
        found = _fit(loaded, part, cell, tables)
        _, layers = shape_of(loaded)
    fitted = list(found.vectors)
    if spec.from_model is None and spec.unit != "kl":
        rows, tensors = to_tables(fitted, part.label)
        return rows, tensors, found.activation_map
    with cell.asking("vectors") as run:
        if spec.from_model is not None:
            fitted = carry_over(fitted, run.asking.weights(), source=spec.from_model, layers=layers)
        if spec.unit == "kl":
            from steer_core.vectors.budget import calibrate_vectors

            examples = pl.concat([tables["contrast_examples"], tables["goal_contrasts"]])
            budgets = sorted({*strengths_of(spec, sweep), *(spec.doses or spec.strengths)})
            fitted = calibrate_vectors(run.asking, fitted, examples, budgets, positions=spec.positions)
    rows, tensors = to_tables(fitted, part.label)
    return rows, tensors, found.activation_map


@contextmanager
def _fitted_on(spec: VectorPart, cell: FitContext) -> Iterator[LoadedModel]:
    """The model that vectors are fitted on: the cell's own, or the one that they are carried over from."""
    if spec.from_model is None:
        with cell.asking("vectors") as run:
            yield run.asking.weights()
        return
    with cell.other(spec.from_model).asking() as backend:
        yield backend.weights()


def _fit(loaded: LoadedModel, part: Part, cell: FitContext, tables: Tables) -> CellFit:
    from steer_core.methods.search.cell import every_layer
    from steer_core.steering.sites import find_sites
    from steer_core.vectors.fit_cell import fit_cell

    condition = _condition(part, cell)
    return fit_cell(
        loaded,
        tables["contrast_examples"],
        tables["goal_contrasts"],
        _spec(part),
        cell.bench.sweep,
        condition=None if condition is None else _examples_of(condition, tables),
        log=cell.say,
        label=part.label,
        searched=()
        if cell.bench.search is None
        else every_layer(cell.bench.search, len(find_sites(loaded.model).layers)),
    )


def _detections(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    """The same directions read instead of written: how well each layer tells the behaviors' test answers apart."""
    from steer_core.vectors.detection import detect, sides_of

    found = [Detections.empty()]
    wanted = [b for b in cell.behaviors if cell.bench.detect]
    if not wanted:
        return (found[0],)
    with cell.asking("detections") as run:
        loaded = run.asking.weights()
        for behavior in wanted:
            fitted, tested = sides_of(behavior.name, tables["contrast_examples"], tables["behavior_items"])
            try:
                found.append(
                    detect(loaded, fitted, tested, reads=("answer", "last_token"), seed=cell.bench.seed).figures
                )
            except SteerworksError as error:
                cell.warn(f"behavior {behavior.name!r} is not read off activations: {error}")
    return (pl.concat(found),)


def _examples_of(condition: BehaviorSpec, tables: Tables) -> pl.DataFrame:
    """Contrast examples of a gate's condition: the bench's where it has them; what a model wrote is nowhere else."""
    own = tables["contrast_examples"].filter(pl.col("concept") == condition.name)
    return own if own.height else build_contrasts(condition).examples


def _vectors_follow(part: Part, cell: FitContext) -> Any:
    spec, sweep, condition = _spec(part), cell.bench.sweep, _condition(part, cell)
    return [
        [list(sweep.layers), list(sweep.seeds), sweep.shuffled],
        [list(strengths_of(spec, sweep)), list(sweep.positions)] if spec.unit == "kl" else None,
        condition and cell.source_of(condition),
        None if spec.from_model is None else cell.other(spec.from_model).digest(),
        *_files(spec),
        *([] if cell.bench.search is None else [cell.bench.search.model_dump(mode="json")["layers"]]),
    ]


def _files(spec: VectorPart) -> list[Any]:
    """What an estimator follows from beside its options; most from nothing else."""
    asked = getattr(load_estimator(spec.estimator).module, "follows", None)
    return [] if asked is None else [asked(spec.options)]


def _fitted_settings(part: Part) -> Any:
    """Settings that the vectors themselves follow from: how they are used later is no part of it, but for budgets."""
    used = {"on_probe"} if _spec(part).unit == "kl" else {"strengths", "doses", "on_probe", "positions"}
    if "positions" in (load_estimator(_spec(part).estimator).options or ()):
        # trained where it will act
        used -= {"positions"}
    return part.spec.model_dump(mode="json", exclude=used)


def _tried_settings(part: Part) -> Any:
    return part.spec.model_dump(mode="json", exclude={"on_probe"})


def _contrasts_follow(part: Part, cell: FitContext) -> Any:
    from steer_core.methods.load import PLAIN_STRATEGY, code_digest
    from steer_core.methods.parts._vector_contrasts import ASKED_TEXTS, ASKING, strategy

    words = {n: [g.noun, g.more, g.less] for n, g in cell.goals.items()}
    decoding, drawn = cell.bench.decoding.model_dump(mode="json"), [cell.bench.seed, cell.bench.train_probe]
    code = [code_digest(strategy(name)) for name in (PLAIN_STRATEGY, ASKING)]
    return [words, decoding, drawn, code, ASKED_TEXTS]


def _contrast_calls(part: Part, cell: FitContext) -> int:
    from steer_core.methods.parts._vector_contrasts import most_calls

    return most_calls(_spec(part).contrasts, cell)


def _doses(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    """How far each strength of each goal's vector moves each goal under the method's prompt, on the training pool."""
    spec, label, method = _spec(part), part.label, cast(Composed, cell.method)
    space = GoalSpace.from_table(tables["goal_space"])
    pool = tables["requests"].filter(pl.col("probe") == cell.bench.train_probe)
    asked = tables["request_goals"].join(pool, on="request_id", how="semi")
    trial = doses.Trial(
        vectors_of_goals(list(cell.goals), tables, label),
        spec.doses or spec.strengths,
        spec.unit,
        spec.positions,
        gate_of_part(tables, label),
        DOSE_TEXTS,
        label,
    )
    if not trial.vectors:
        return (DoseResponse.empty(),)
    under = method.before(label)
    with cell.asking("doses") as run:
        give(under, run.asking, tables)
        part.give(run.asking, tables)
        table = doses.measure_dose_response(
            under,
            requests_from(pool, asked, space.goals),
            dict(pool.select("request_id", "text_id").iter_rows()),
            trial,
            replace(run, ruler=cell.ruler(space)),
            gather(under, tables),
        )
    for goal, of_goal in trial.vectors.items():
        curve = doses.DoseCurve.of(table, goal, doses.is_anchored(of_goal, spec.unit))
        if not any(curve.moves):
            cell.warn(
                f"no usable strength of the vector of {label!r} moves goal {goal!r}: it will be left to the prompt"
            )
    return (table,)


def _doses_follow(part: Part, cell: FitContext) -> Any:
    from steer_core.methods.load import code_digest

    words = {n: [g.noun, g.more, g.less] for n, g in cell.goals.items()}
    decoding, drawn = cell.bench.decoding.model_dump(mode="json"), [cell.bench.seed, cell.bench.train_probe]
    labels = cell.spec.labels()
    under = [p.model_dump(mode="json") for p, label in zip(cell.spec.parts, labels, strict=True) if label != part.label]
    return [under, decoding, drawn, words, code_digest(cell.spec), DOSE_TEXTS]


def _dose_calls(part: Part, cell: FitContext) -> int:
    strengths = set(_spec(part).doses or _spec(part).strengths)
    return (len(strengths) + 1) * len(cell.goals) * DOSE_TEXTS


FITS = (
    FitStep(
        "goal_contrasts",
        {"goal_contrasts": ContrastExamples, "contrast_sources": ContrastSources},
        (*(n for n in POOL if n != "fit_responses"), "seed_corpus", "corpus_goal_values"),
        _contrasts,
        contrasts.VERSION,
        settings=lambda part: list(_spec(part).contrasts),
        follows=_contrasts_follow,
        once=True,
        calls_model=True,
        calls=_contrast_calls,
        kinds=("huggingface",),
    ),
    FitStep(
        "vectors",
        {"vectors": Vectors, "vector_tensors": VectorTensors, "activation_map": ActivationMap},
        ("contrast_examples", "goal_contrasts"),
        _vectors,
        core.VERSION,
        settings=_fitted_settings,
        follows=_vectors_follow,
        calls_model=True,
        kinds=("huggingface",),
    ),
    FitStep(
        "detections",
        {"detections": Detections},
        ("contrast_examples", "behavior_items"),
        _detections,
        "2",
        settings=lambda part: None,
        follows=lambda part, cell: [cell.bench.detect, cell.bench.seed],
        once=True,
        calls_model=True,
        kinds=("huggingface",),
    ),
    FitStep(
        "dose_response",
        {"dose_response": DoseResponse},
        (*POOL, "contrast_sources", "vectors", "vector_tensors"),
        _doses,
        doses.VERSION,
        settings=_tried_settings,
        follows=_doses_follow,
        before=True,
        calls_model=True,
        calls=_dose_calls,
        kinds=("huggingface",),
    ),
)
