"""From responses to steerability: values, scores, summary, comparisons with the controls."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import polars as pl

from schemas import Comparisons, GoalMovements, GoalValues, SideEffects, Steerability, SteerabilitySummary
from schemas.parts import PromptPart
from steer_assets.measuring import measure_texts, model_digest, scorer_ids
from steer_assets.partitions import held_against
from steer_assets.settings import registry
from steer_assets.tables import Science, Work, table
from steer_core import evaluation as core
from steer_core.evaluation.meaning import embedding_cosine
from steer_core.evaluation.scoring import Similarity
from steer_core.models.loading import load_encoder

#: Rounding of the goal values; a copied text has the very same value, so this is generous.
EXACT = 1e-9


@table(
    GoalValues,
    version=core.VERSION,
    spec=lambda work: scorer_ids(work.bench),
    grid=True,
)
def response_goal_values(work: Work, outcomes: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Every goal measured on every chosen text and on its source."""
    texts = pl.concat([outcomes.select("text_id", "text"), requests.select("text_id", "text")])
    return measure_texts(work.bench, texts.unique("text_id", maintain_order=True))


def _encoder_identity(work: Work) -> str | None:
    name = work.bench.meaning_model
    return None if name is None else model_digest(registry().model(name))


def _similarity(work: Work) -> Similarity | None:
    """The bench's sentence encoder as a measure of meaning, where it names one."""
    if work.bench.meaning_model is None:
        return None
    encoder, tokenizer = load_encoder(registry().model(work.bench.meaning_model))
    return functools.partial(embedding_cosine, model=encoder, tokenizer=tokenizer)


def _copy_is_exact(work: Work, frames: Mapping[str, pl.DataFrame]) -> tuple[bool, dict[str, Any]] | None:
    if work.here.method.parts != (PromptPart(strategy="copy"),):
        return None
    rows = core.closed_form_of_copy(frames["steerability"])
    said = {r["measure"]: float(r["largest_deviation"]) for r in rows.iter_rows(named=True)}
    return bool((rows["largest_deviation"] <= EXACT).all()), said


@table(
    Steerability,
    GoalMovements,
    version=core.VERSION,
    spec=_encoder_identity,
    grid=True,
    science=(
        Science(
            "copy_closed_form",
            "Doing nothing scores as the formulas say: error |r|, miscalibration 1, orthogonality 0",
            _copy_is_exact,
        ),
    ),
)
def steerability(
    work: Work,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    outcomes: pl.DataFrame,
    response_goal_values: pl.DataFrame,
    goal_space: pl.DataFrame,
) -> tuple[pl.DataFrame, ...]:
    """Scores of each request: error, miscalibration, orthogonality, meaning kept; and each goal's movement."""
    asked = requests.filter(pl.col("probe").is_in(work.bench.test_probes))
    return core.evaluate(
        asked,
        request_goals.join(asked, on="request_id", how="semi"),
        outcomes,
        response_goal_values,
        goal_space,
        embed=_similarity(work),
    )


@table(
    SteerabilitySummary,
    version=core.VERSION,
    spec=lambda work: [work.bench.bootstrap, work.bench.seed],
    grid=True,
)
def steerability_summary(work: Work, steerability: pl.DataFrame, goal_movements: pl.DataFrame) -> pl.DataFrame:
    """Means, medians and spreads with bootstrap intervals clustered by source text, on both readings."""
    return core.summarise(steerability, goal_movements, draws=work.bench.bootstrap, seed=work.bench.seed)


@table(
    Comparisons,
    version=core.VERSION,
    spec=lambda work: [work.bench.permutations, work.bench.seed],
    grid=True,
    fan_in={"steerability": "controls"},
)
def comparisons(work: Work, steerability: pl.DataFrame, goal_movements: pl.DataFrame) -> pl.DataFrame:
    """Paired contrasts with the controls of the same model, and with the other requests on the same texts."""
    of = {
        str(method): rows.drop("method", "model")
        for (method,), rows in steerability.group_by("method", maintain_order=True)
    }
    others = {name: of[name] for name in held_against(work.bench, work.here.method.name) if name in of}
    own = of[work.here.method.name]
    return core.compare(own, goal_movements, others, permutations=work.bench.permutations, seed=work.bench.seed)


@table(
    SideEffects,
    version=core.VERSION,
    grid=True,
)
def side_effects(work: Work, goal_movements: pl.DataFrame, steerability: pl.DataFrame) -> pl.DataFrame:
    """What moves when a goal is asked for: the side-effect matrix with intervals."""
    return core.side_effects(goal_movements, steerability)
