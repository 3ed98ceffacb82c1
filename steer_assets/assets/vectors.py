"""From contrasts to vectors, and from vectors to doses: what vector methods are fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from schemas import ActivationMap, ContrastExamples, DoseResponse, Vectors, VectorTensors
from schemas.specs import BehaviorSpec, MethodSpec
from schemas.vector_part import VectorPart
from steer_assets.assets.contrasts import source_of
from steer_assets.compute import backend_for, device_lease, device_of
from steer_assets.measuring import model_digest, ruler_of
from steer_assets.settings import registry
from steer_assets.tables import Work, table
from steer_core import vectors as core
from steer_core.corpus.contrasts import build_contrasts
from steer_core.evaluation.behaviors.grid import strengths_of
from steer_core.goals.space import GoalSpace
from steer_core.methods import doses
from steer_core.methods.driver import requests_from
from steer_core.methods.load import PLAIN_STRATEGY, code_digest, load_method
from steer_core.methods.part import Composed
from steer_core.steering.compose import CONDITION, gate_of
from steer_core.steering.intervention import Gate
from steer_core.steering.vector import from_tables, to_tables
from steer_core.tables.errors import ConfigError

if TYPE_CHECKING:
    from steer_core.generation.transformers_backend import TransformersBackend

#: Pairs of a goal's contrasts that are kept, and texts that a dose is tried on.
MOST_PAIRS, DOSE_TEXTS = 256, 32


def vector_part(work: Work) -> VectorPart | None:
    """The vector part of the cell's method, if it has one."""
    parts = work.here.method.of_kind(VectorPart.model_fields["kind"].default)
    return parts[0] if parts else None  # type: ignore[return-value]


def steering_backend(work: Work, vectors: pl.DataFrame, tensors: pl.DataFrame) -> TransformersBackend:
    """The cell's backend, knowing these vectors; those of another model are refused."""
    backend: Any = backend_for(work.here.model)
    backend.add_vectors(from_tables(vectors, tensors, model=backend.loaded.fingerprint))
    found: TransformersBackend = backend
    return found


def _method(work: Work, spec: MethodSpec) -> Any:
    return load_method(spec, work.here.model, work.bench, registry().goals_of(work.bench))


def _only_vectors(work: Work) -> Any:
    """Part of the specs of all tables here: prompt-only methods have none of it."""
    part = vector_part(work)
    return part and part.model_dump(mode="json")


@table(
    ContrastExamples,
    names=("goal_contrasts",),
    version=core.VERSION,
    spec=lambda work: [
        bool(vector_part(work)),
        vector_part(work) and code_digest(work.here.method),
        work.bench.train_probe,
    ],
    applies=lambda work: vector_part(work) is not None,
    grid=True,
)
def goal_contrasts(
    work: Work,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goal_space: pl.DataFrame,
    fit_outcomes: pl.DataFrame,
    fit_goal_values: pl.DataFrame,
) -> pl.DataFrame:
    """Contrast pairs for each goal: answers to one training text, far apart on the goal and close on the others."""
    if vector_part(work) is None:
        return ContrastExamples.empty()
    from steer_core.vectors.goal_contrasts import mine_contrasts

    plain = _method(work, MethodSpec.model_validate({"name": "plain", "parts": [_prompt(PLAIN_STRATEGY)]}))
    return mine_contrasts(
        requests,
        request_goals,
        fit_outcomes,
        fit_goal_values,
        GoalSpace.from_table(goal_space),
        work.bench.goals,
        messages_of=lambda request: plain.step(request, None, ())[0].messages,
        max_pairs=MOST_PAIRS,
    )


def _prompt(strategy: str) -> dict[str, str]:
    return {"kind": "prompt", "strategy": strategy}


def _fitted_on(work: Work) -> Any:
    sweep = work.bench.sweep
    return vector_part(work) and [
        _only_vectors(work),
        model_digest(work.here.model),
        [list(sweep.layers), list(sweep.seeds), sweep.shuffled],
        sweep.strengths if vector_part(work).unit == "kl" else None,  # type: ignore[union-attr]
        _condition_source(work),
    ]


def _condition(work: Work) -> BehaviorSpec | None:
    part = vector_part(work)
    return registry().behavior(part.gate.condition) if part is not None and part.gate is not None else None


def _condition_source(work: Work) -> Any:
    behavior = _condition(work)
    return behavior and source_of(behavior)


def _condition_examples(work: Work) -> pl.DataFrame | None:
    behavior = _condition(work)
    return None if behavior is None else build_contrasts(behavior).examples


def _said(work: Work, frames: Any) -> dict[str, Any]:
    rows = frames["vectors"].filter(pl.col("control") == "")
    lines = [
        "| concept | layer | site | norm | of activation norm | reliability | pairs |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['concept']} | {r['layer']} | {r['site']} | {_number(r['norm'])} | "
            f"{_number(r['norm'] and r['residual_norm'] and r['norm'] / r['residual_norm'])} | "
            f"{_number(r['reliability'])} | {r['n_positive']} / {r['n_negative']} |"
            for r in rows.iter_rows(named=True)
        ),
    ]
    return {"vectors": dg.MarkdownMetadataValue("\n".join(lines) if rows.height else "This method has no vectors.")}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


@table(
    Vectors,
    VectorTensors,
    ActivationMap,
    version=core.VERSION,
    spec=_fitted_on,
    applies=lambda work: vector_part(work) is not None,
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    metadata=_said,
)
def vectors(work: Work, contrast_examples: pl.DataFrame, goal_contrasts: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """One vector a concept, layer and site, fitted in one pass; with vectors of shuffled labels as controls."""
    part = vector_part(work)
    if part is None:
        return Vectors.empty(), VectorTensors.empty(), ActivationMap.empty()
    if part.unit == "kl" and work.bench.sweep.positions:
        raise ConfigError(
            f"method {work.here.method.name!r}: a KL budget is measured at the part's own positions, and the sweep "
            f"of bench {work.bench.name!r} adds {', '.join(work.bench.sweep.positions)}: leave them out or change unit"
        )
    from steer_core.vectors.fit_cell import fit_cell

    with device_lease(device_of(work.here.model)):
        backend: Any = backend_for(work.here.model)
        found = fit_cell(
            backend.loaded,
            contrast_examples,
            goal_contrasts,
            part,
            work.bench.sweep,
            condition=_condition_examples(work),
            log=work.log.info,
        )
        fitted = list(found.vectors)
        if part.unit == "kl":
            from steer_core.vectors.budget import calibrate_vectors

            examples = pl.concat([contrast_examples, goal_contrasts])
            budgets = sorted({*strengths_of(part, work.bench.sweep), *(part.doses or part.strengths)})
            fitted = calibrate_vectors(backend, fitted, examples, budgets, positions=part.positions)
    rows, tensors = to_tables(fitted)
    return rows, tensors, found.activation_map


@table(
    DoseResponse,
    version=doses.VERSION,
    spec=lambda work: (
        vector_part(work)
        and [_only_vectors(work), _asked(work), DOSE_TEXTS, work.bench.bootstrap, work.bench.train_probe]
    ),
    applies=lambda work: vector_part(work) is not None,
    grid=True,
    gpu=True,
    kinds=("huggingface",),
)
def dose_response(
    work: Work,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goal_space: pl.DataFrame,
    vectors: pl.DataFrame,
    vector_tensors: pl.DataFrame,
) -> pl.DataFrame:
    """How far each strength of each goal's vector moves each goal under the method's prompt, on the training pool."""
    part = vector_part(work)
    if part is None:
        return DoseResponse.empty()
    method: Composed = _method(work, work.here.method)
    space = GoalSpace.from_table(goal_space)
    pool = requests.filter(pl.col("probe") == work.bench.train_probe)
    asked = request_goals.join(pool, on="request_id", how="semi")
    log, key = work.log, work.here.key
    with device_lease(device_of(work.here.model)):
        table = doses.measure_dose_response(
            method.before("vector"),
            requests_from(pool, asked, space.goals),
            dict(pool.select("request_id", "text_id").iter_rows()),
            vectors_of_goals(work, vectors, vector_tensors),
            part.doses or part.strengths,
            part.unit,
            positions=part.positions,
            backend=steering_backend(work, vectors, vector_tensors),
            journal=work.journal,
            ruler=ruler_of(work.bench, space),
            seed=work.bench.seed,
            batch_size=work.bench.batch_size,
            draws=work.bench.bootstrap,
            texts_per_goal=DOSE_TEXTS,
            gate=gate_of_cell(vectors, vector_tensors),
            progress=work.progress("doses"),
        )
    for goal, of_goal in vectors_of_goals(work, vectors, vector_tensors).items():
        curve = doses.DoseCurve.of(table, goal, doses.is_anchored(of_goal, part.unit))
        if not any(curve.moves):
            log.warning("%s: no usable strength of the vector moves goal %r: it will be left to the prompt", key, goal)
    return table


def gate_of_cell(vectors: pl.DataFrame, tensors: pl.DataFrame) -> Gate | None:
    """The gate of the cell's method, from its condition vector."""
    conditions = vectors.filter(pl.col("control") == CONDITION)
    return gate_of(from_tables(conditions, tensors.join(conditions, on="vector_id", how="semi")))


def vectors_of_goals(work: Work, vectors: pl.DataFrame, vector_tensors: pl.DataFrame) -> dict[str, list[Any]]:
    """Goal -> the vectors that steer it, in the order of the layers."""
    goals = registry().goals_of(work.bench)
    of_goals = vectors.filter(pl.col("concept").is_in(list(goals)) & (pl.col("control") == ""))
    found: dict[str, list[Any]] = {}
    for vector in from_tables(of_goals, vector_tensors.join(of_goals, on="vector_id", how="semi")):
        found.setdefault(vector.concept, []).append(vector)
    return {g: sorted(found[g], key=lambda v: v.layer) for g in goals if g in found}


def _asked(work: Work) -> list[Any]:
    words = {n: [g.noun, g.more, g.less] for n, g in registry().goals_of(work.bench).items()}
    decoding = work.bench.decoding.model_dump(mode="json")
    drawn = [work.bench.seed, work.bench.bootstrap, work.bench.train_probe]
    return [work.here.method.spec_hash, decoding, drawn, words, code_digest(work.here.method)]
