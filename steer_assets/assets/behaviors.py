"""Behaviors under a vector: arms, answers, what they cost, verdicts, and what the sweep says as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from schemas import ArmAnswers, ArmScores, ArmSummary, Judgements, Responses, SweepArms, SweepFindings
from schemas.specs import BehaviorSpec, Decoding, ModelSpec
from steer_assets.assets.contrasts import behaviors_of
from steer_assets.assets.vectors import steering_backend, vector_part
from steer_assets.compute import backend_for, device_lease, device_of
from steer_assets.measuring import model_digest, ruler_of, seconds_per_token
from steer_assets.receipts import RECEIPTS
from steer_assets.settings import registry
from steer_assets.tables import Work, table
from steer_core.evaluation.behaviors import planner, run, scores, side_effects, summary
from steer_core.evaluation.judges import judge as judging
from steer_core.evaluation.judges import load as judges
from steer_core.goals.space import GoalSpace
from steer_core.methods.cleaning import clean_answer, is_refusal
from steer_core.steering.compose import CONDITION, gate_of
from steer_core.steering.vector import SteeringVector, from_tables
from steer_core.tables.journal import Journal


def _swept(work: Work) -> list[BehaviorSpec]:
    """Behaviors that this cell is swept on: those of the bench, where the method has a vector."""
    return behaviors_of(work) if vector_part(work) is not None else []


def _decoding(work: Work) -> Decoding:
    sweep = work.bench.sweep
    return Decoding(max_new_tokens=sweep.max_new_tokens, temperature=sweep.temperature)


def _plain(behavior: BehaviorSpec) -> list[Any]:
    return [behavior.name, behavior.positive_prompt, behavior.negative_prompt]


def _vectors(work: Work, vectors: pl.DataFrame, tensors: pl.DataFrame) -> list[SteeringVector]:
    """The behaviors' vectors with their controls; random ones are drawn again from their seeds."""
    part = vector_part(work)
    assert part is not None
    names = [b.name for b in _swept(work)]
    own = vectors.filter(pl.col("concept").is_in(names) | (pl.col("control") == CONDITION))
    found = from_tables(own, tensors.join(own, on="vector_id", how="semi"))
    for name in names:
        found = planner.with_random(found, name, work.bench.sweep, layers=_main_layers(work, vectors), seed=part.seed)
    return found


def _main_layers(work: Work, vectors: pl.DataFrame) -> tuple[int, ...]:
    """Layers that the method itself steers: those of its goals; the sweep's further layers are fitted for behaviors."""
    of_goals = vectors.filter(pl.col("concept").is_in(list(work.bench.goals)) & (pl.col("control") == ""))
    return tuple(of_goals["layer"].unique().sort())


def _cost(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    cost = planner.cost_of(frames["sweep_arms"])
    said: dict[str, Any] = {"arms": cost.arms, "texts to write": cost.calls, "continuations to score": cost.scored}
    # how fast the model is belongs to the run: in the table it would make the same arms another table
    speed = seconds_per_token(work.journal)
    return said | ({"seconds at most": cost.tokens * speed} if speed else {})


@table(
    SweepArms,
    names=("sweep_arms",),
    version=planner.VERSION,
    spec=lambda work: [
        [_plain(b) for b in _swept(work)],
        vector_part(work) and vector_part(work).model_dump(mode="json"),  # type: ignore[union-attr]
        work.bench.sweep.model_dump(mode="json"),
    ],
    applies=lambda work: bool(_swept(work)),
    grid=True,
    metadata=_cost,
)
def sweep_arms(
    work: Work, behavior_items: pl.DataFrame, vectors: pl.DataFrame, vector_tensors: pl.DataFrame
) -> pl.DataFrame:
    """The grid before it runs: every setting of the sweep with its controls, and what it will cost."""
    part = vector_part(work)
    if part is None or not _swept(work):
        return SweepArms.empty()
    known = _vectors(work, vectors, vector_tensors)
    written = set(behavior_items["behavior"])
    for behavior in _swept(work):
        if behavior.name not in written:
            work.log.warning("behavior %r has no test items: it is not swept", behavior.name)
    planned = [
        planner.plan_arms(
            behavior,
            part,
            work.bench.sweep,
            known,
            behavior_items,
            layers=_main_layers(work, vectors),
            gate=gate_of(known),
        )
        for behavior in _swept(work)
        if behavior.name in written
    ]
    return pl.concat([SweepArms.empty(), *planned])


def _answered(work: Work) -> list[Any] | None:
    model = model_digest(work.here.model)
    decoding = _decoding(work).model_dump(mode="json")
    return [model, decoding, work.bench.seed, work.bench.sweep.samples] if _swept(work) else None


@table(
    Responses,
    ArmAnswers,
    names=("sweep_responses", "arm_answers"),
    version=run.VERSION,
    spec=_answered,
    applies=lambda work: bool(_swept(work)),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    science=(RECEIPTS,),
)
def sweep_responses(
    work: Work,
    sweep_arms: pl.DataFrame,
    behavior_items: pl.DataFrame,
    vectors: pl.DataFrame,
    vector_tensors: pl.DataFrame,
) -> tuple[pl.DataFrame, ...]:
    """Open answers of all arms, in shared batches; only arms that were never answered cost anything."""
    if not sweep_arms.height:
        return Responses.empty(), ArmAnswers.empty()
    with device_lease(device_of(work.here.model)):
        swept = run.run_arms(
            sweep_arms,
            behavior_items,
            _vectors(work, vectors, vector_tensors),
            backend_for(work.here.model),
            work.journal,
            model_identity=work.here.model.identity,
            decoding=_decoding(work),
            seed=work.bench.seed,
            batch_size=work.bench.batch_size,
            samples=work.bench.sweep.samples,
            clean=clean_answer,
            progress=work.progress("answers"),
        )
    return swept.responses, swept.answers


@table(
    ArmScores,
    names=("arm_measures",),
    version=scores.VERSION,
    spec=_answered,
    applies=lambda work: bool(_swept(work)),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
)
def arm_measures(
    work: Work,
    sweep_arms: pl.DataFrame,
    behavior_items: pl.DataFrame,
    sweep_responses: pl.DataFrame,
    arm_answers: pl.DataFrame,
    vectors: pl.DataFrame,
    vector_tensors: pl.DataFrame,
    goal_space: pl.DataFrame,
) -> pl.DataFrame:
    """What needs the model or the ruler: propensity, perplexity, KL, length, refusals, positions in goal space."""
    if not sweep_arms.height:
        return ArmScores.empty()
    swept = run.SweepRun(sweep_responses, arm_answers)
    # what controls do to a neutral set, and their KL, is nobody's question, and most arms are controls
    own, neutral = sweep_arms.filter(~pl.col("role").is_in(["random", "shuffled"])), pl.col("group") == "neutral"
    with device_lease(device_of(work.here.model)):
        backend = steering_backend(work, vectors, vector_tensors)
        known = _vectors(work, vectors, vector_tensors)
        backend.add_vectors(known)
        common: dict[str, Any] = {
            "model_identity": work.here.model.identity,
            "decoding": _decoding(work),
            "batch_size": work.bench.batch_size,
        }
        found = [
            run.score_items(sweep_arms, behavior_items.filter(~neutral), known, backend, **common),
            run.score_items(own, behavior_items.filter(neutral), known, backend, **common),
            scores.perplexity_scores(swept, sweep_arms, behavior_items, backend, **common),
            scores.kl_scores(swept, own, behavior_items, backend, **common),
        ]
    found.append(scores.answer_scores(swept, sweep_arms, behavior_items, refused=is_refusal))
    ruler = ruler_of(work.bench, GoalSpace.from_table(goal_space))
    found.append(side_effects.goal_scores(arm_answers, sweep_arms, behavior_items, ruler))
    return pl.concat(found)


def _judged_by(work: Work) -> list[Any]:
    found = []
    for behavior in _swept(work):
        who = model_digest(_judging_model(work, behavior)) if behavior.judge.kind == "llm" else None
        # without a trait of its own a rubric asks for the description
        found.append(
            [behavior.name, behavior.description, behavior.judge.model_dump(mode="json"), list(behavior.scale), who]
        )
    return found


@table(
    Judgements,
    ArmScores,
    names=("judgements", "arm_scores"),
    version=judges.VERSION,
    spec=_judged_by,
    applies=lambda work: bool(_swept(work)),
    grid=True,
    gpu=True,
)
def judgements(
    work: Work,
    sweep_arms: pl.DataFrame,
    behavior_items: pl.DataFrame,
    arm_answers: pl.DataFrame,
    arm_measures: pl.DataFrame,
) -> tuple[pl.DataFrame, ...]:
    """Verdicts of each behavior's judge, and every measure of every item; a new rubric costs judgements only.

    A judge that knows the ground truth also judges the answers to the other behaviors' items: entanglement.
    """
    kept = Journal(work.url("journal", f"judgements-{work.here.model.name}"), Judgements)
    verdicts, measures = [Judgements.empty()], [arm_measures]
    written = set(behavior_items.filter(pl.col("form") == "open")["behavior"])
    for behavior in _swept(work):
        if behavior.name not in written:
            # items that are scored need no judge
            continue
        judge = _judge(work, behavior)
        for swept in _swept(work):
            own = swept.name == behavior.name
            if not own and behavior.judge.kind != "ground_truth":
                continue
            items = behavior_items.filter(pl.col("behavior") == swept.name)
            arms = sweep_arms.filter(pl.col("behavior") == swept.name)
            cases = judging.cases_of(arm_answers.join(arms, on="arm_id", how="semi"), items)
            with _lease(work, behavior):
                # reading an attribute costs less than finding what was read before
                found = (
                    judging.judge_cases(judge, cases, kept.read(), keep=kept.append)
                    if behavior.judge.kind == "llm"
                    else judging.judge_cases(judge, cases)
                )
            verdicts.append(found)
            scales: dict[str, Any] = {} if own else {"scale": behavior.scale, "onto": swept.scale}
            measure = side_effects.JUDGED if own else f"{side_effects.OTHER}{behavior.name}"
            measures.append(
                side_effects.judged_scores(
                    arm_answers, arms, items, found, judge_id=judge.judge_id, measure=measure, **scales
                )
            )
    kept.compact()
    # two behaviors on one attribute share a judge
    return pl.concat(verdicts).unique(Judgements.key(), maintain_order=True), pl.concat(measures)


def _judge(work: Work, behavior: BehaviorSpec) -> judging.Judge:
    if behavior.judge.kind != "llm":
        return judges.load_judge(behavior)
    model = _judging_model(work, behavior)
    return judges.load_judge(behavior, backend_for(model), model.identity, seed=work.bench.seed)


def _judging_model(work: Work, behavior: BehaviorSpec) -> ModelSpec:
    return registry().model(behavior.judge.model) if behavior.judge.model else work.here.model


def _lease(work: Work, behavior: BehaviorSpec) -> contextlib.AbstractContextManager[None]:
    if behavior.judge.kind != "llm":
        return contextlib.nullcontext()
    return device_lease(device_of(_judging_model(work, behavior)))


@table(
    ArmSummary,
    SweepFindings,
    version=summary.VERSION,
    spec=lambda work: [work.bench.bootstrap, work.bench.seed],
    applies=lambda work: bool(_swept(work)),
    grid=True,
)
def arm_summary(work: Work, sweep_arms: pl.DataFrame, arm_scores: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Means with intervals clustered by item, paired differences to the unsteered arm, and the sweep's findings."""
    if not sweep_arms.height:
        return ArmSummary.empty(), SweepFindings.empty()
    return summary.summarise_arms(sweep_arms, arm_scores, draws=work.bench.bootstrap, seed=work.bench.seed)
