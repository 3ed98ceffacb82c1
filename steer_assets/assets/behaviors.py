"""Behaviors under a vector: arms, answers, what they cost, verdicts, and what the sweep says as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from schemas import (
    ArmAnswers,
    ArmScores,
    ArmSummary,
    JudgeCalibration,
    Judgements,
    Responses,
    SweepArms,
    SweepFindings,
)
from schemas.specs import BehaviorSpec, Decoding
from steer_assets.asked_models import judging_model
from steer_assets.assets.calling import asking, own_parts
from steer_assets.assets.contrasts import behaviors_of
from steer_assets.assets.fits import fit_context, given_tables, swept_part
from steer_assets.judging import judge_of, judges_lease, judging_alongside, verdicts_of
from steer_assets.measuring import judge_digest, model_digest, ruler_of, seconds_per_token
from steer_assets.receipts import RECEIPTS
from steer_assets.tables import Work, table
from steer_core.evaluation.arms import answers, choices, measures
from steer_core.evaluation.behaviors import as_items, side_effects, summary
from steer_core.evaluation.judges import calibration
from steer_core.evaluation.judges import judge as judging
from steer_core.evaluation.judges import load as judges
from steer_core.evaluation.refusals import is_refusal
from steer_core.goals.space import GoalSpace
from steer_core.methods.cleaning import clean_answer
from steer_core.methods.part import Part
from steer_core.methods.sweeps.arms import VERSION as SWEEP_VERSION
from steer_core.methods.sweeps.arms import cost_of


def _swept(work: Work) -> list[BehaviorSpec]:
    """Behaviors that this cell is swept on: those of the bench, where a part of the method can be swept."""
    return behaviors_of(work) if swept_part(work) is not None else []


def _decoding(work: Work) -> Decoding:
    sweep = work.bench.sweep
    return Decoding(max_new_tokens=sweep.max_new_tokens, temperature=sweep.temperature)


def _plain(behavior: BehaviorSpec) -> list[Any]:
    return [behavior.name, behavior.positive_prompt, behavior.negative_prompt]


def _part(work: Work) -> Part:
    part = swept_part(work)
    assert part is not None  # tables here are of cells that have one
    return part


def _cost(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    cost = cost_of(frames["sweep_arms"])
    said: dict[str, Any] = {"arms": cost.arms, "texts to write": cost.calls, "continuations to score": cost.scored}
    # how fast the model is belongs to the run: in the table it would make the same arms another table
    speed = seconds_per_token(work.journal)
    return said | ({"seconds at most": cost.tokens * speed} if speed else {})


@table(
    SweepArms,
    names=("sweep_arms",),
    version=SWEEP_VERSION,
    spec=lambda work: [
        [_plain(b) for b in _swept(work)],
        _part(work).label,
        _part(work).spec.model_dump(mode="json"),
        work.bench.sweep.model_dump(mode="json"),
    ],
    applies=lambda work: bool(_swept(work)),
    grid=True,
    metadata=_cost,
    also=given_tables,
)
def sweep_arms(
    work: Work, behavior_items: pl.DataFrame, contrast_examples: pl.DataFrame, **fitted: pl.DataFrame
) -> pl.DataFrame:
    """The grid before it runs: every setting of the sweep with its controls, and what it will cost."""
    part = _part(work)
    if others := [p.label for p in own_parts(work) if p.sweeps and p.label != part.label]:
        work.log.warning("behaviors are swept over part %r alone, not over %s", part.label, ", ".join(others))
    known = {**fitted, "behavior_items": behavior_items, "contrast_examples": contrast_examples}
    return part.sweep(fit_context(work), known)


def _answered(work: Work) -> list[Any] | None:
    model = model_digest(work.here.model)
    decoding = _decoding(work).model_dump(mode="json")
    return [model, decoding, work.bench.seed, work.bench.sweep.samples] if _swept(work) else None


@table(
    Responses,
    ArmAnswers,
    names=("sweep_responses", "arm_answers"),
    version=as_items.VERSION,
    spec=_answered,
    applies=lambda work: bool(_swept(work)),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    science=(RECEIPTS,),
    also=given_tables,
)
def sweep_responses(
    work: Work, sweep_arms: pl.DataFrame, behavior_items: pl.DataFrame, **fitted: pl.DataFrame
) -> tuple[pl.DataFrame, ...]:
    """Open answers of all arms, in shared batches; only arms that were never answered cost anything.

    A judge that shares no device with the model judges them as they come; its verdicts wait in its journal.
    """
    asked, samples = as_items.asked_of(sweep_arms, behavior_items), work.bench.sweep.samples
    with asking(work, "answers") as run, judging_alongside(work, _swept(work), behavior_items) as told:
        _part(work).give_sweep(run.asking, fit_context(work), fitted)
        swept = answers.write(asked, run, _decoding(work), samples=samples, clean=clean_answer, each=told)
    return swept.responses, swept.answers


@table(
    ArmScores,
    names=("arm_measures",),
    version=measures.VERSION,
    spec=_answered,
    applies=lambda work: bool(_swept(work)),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    also=given_tables,
)
def arm_measures(
    work: Work,
    sweep_arms: pl.DataFrame,
    behavior_items: pl.DataFrame,
    sweep_responses: pl.DataFrame,
    arm_answers: pl.DataFrame,
    goal_space: pl.DataFrame,
    **fitted: pl.DataFrame,
) -> pl.DataFrame:
    """What needs the model or the ruler: propensity, perplexity, KL, length, refusals, positions in goal space."""
    written, decoding = answers.Written(sweep_responses, arm_answers), _decoding(work)
    asked = as_items.asked_of(sweep_arms, behavior_items)
    # what controls do to a neutral set, and their KL, is nobody's question, and most arms are controls
    controls = set(sweep_arms.filter(pl.col("role").is_in(["random", "shuffled"]))["arm_id"])
    own = [one for one in asked if one.arm.arm_id not in controls]
    wanted = [one for one in asked if one.arm.arm_id not in controls or one.item.group != "neutral"]
    with asking(work, "measures") as run:
        _part(work).give_sweep(run.asking, fit_context(work), fitted)
        found = [
            choices.score(wanted, run, decoding, as_items.choice_measures),
            measures.perplexity_scores(written, asked, run, decoding),
        ]
        if run.asking.capabilities.diverges:
            found.append(measures.kl_scores(written, own, run, decoding))
        else:
            work.log.warning(
                f"{work.here.key}: the {run.asking.capabilities.name} engine cannot hold steered against unsteered: "
                "the sweep has no KL"
            )
    found.append(measures.form_scores(written, asked))
    found.append(measures.text_scores(written, asked, _refusals))
    found.append(side_effects.goal_scores(written, asked, ruler_of(work.bench, GoalSpace.from_table(goal_space))))
    return pl.concat(found)


def _refusals(texts: Sequence[str]) -> list[dict[str, float | None]]:
    return [{"refused": float(is_refusal(text))} for text in texts]


def judged_by(work: Work, behaviors: Sequence[BehaviorSpec]) -> list[Any]:
    """What verdicts on behaviors follow from: who judges, by what."""
    found = []
    for behavior in behaviors:
        who = judge_digest(judging_model(work.here, behavior)) if behavior.judge.kind == "llm" else None
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
    spec=lambda work: judged_by(work, _swept(work)),
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
    kept = verdicts_of(work)
    verdicts, measures = [Judgements.empty()], [arm_measures]
    written = set(behavior_items.filter(pl.col("form") == "open")["behavior"])
    for behavior in _swept(work):
        if behavior.name not in written:
            # items that are scored need no judge
            continue
        judge = judge_of(work, behavior)
        for swept in _swept(work):
            own = swept.name == behavior.name
            if not own and behavior.judge.kind != "ground_truth":
                continue
            items = behavior_items.filter(pl.col("behavior") == swept.name)
            arms = sweep_arms.filter(pl.col("behavior") == swept.name)
            cases = judging.cases_of(arm_answers.join(arms, on="arm_id", how="semi"), items)
            with judges_lease(work, behavior):
                # reading an attribute costs less than finding what was read before
                found = (
                    judging.judge_cases(judge, cases, kept.read(), keep=kept.append, progress=work.progress("verdicts"))
                    if behavior.judge.kind == "llm"
                    else judging.judge_cases(judge, cases)
                )
            verdicts.append(found)
            scales: dict[str, Any] = {} if own else {"scale": behavior.scale, "onto": swept.scale}
            measure = side_effects.JUDGED if own else f"{side_effects.OTHER}{behavior.name}"
            measures.append(
                side_effects.judged_scores(
                    arm_answers,
                    as_items.asked_of(arms, items),
                    found,
                    judge_id=judge.judge_id,
                    measure=measure,
                    **scales,
                )
            )
    kept.compact()
    # two behaviors on one attribute share a judge
    return pl.concat(verdicts).unique(Judgements.key(), maintain_order=True), pl.concat(measures)


def _tested(work: Work) -> list[BehaviorSpec]:
    """Swept behaviors whose judge is a language model: what it is worth has to be found out."""
    return [b for b in _swept(work) if b.judge.kind == "llm"]


@table(
    JudgeCalibration,
    names=("judge_calibration",),
    version=calibration.VERSION,
    spec=lambda work: judged_by(work, _swept(work)),
    applies=lambda work: bool(_tested(work)),
    grid=True,
    gpu=True,
)
def judge_calibration(work: Work, behavior_items: pl.DataFrame) -> pl.DataFrame:
    """What each behavior's judge says of answers whose label is known: the test items' own two answers."""
    found = [JudgeCalibration.empty()]
    for behavior in _tested(work):
        items = behavior_items.filter(pl.col("behavior") == behavior.name, pl.col("form") == "open")
        judge = judge_of(work, behavior)
        with judges_lease(work, behavior):
            found.append(
                calibration.calibration_table(
                    behavior.name, judge, calibration.known_cases(items), progress=work.progress("verdicts")
                )
            )
    return pl.concat(found)


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
    return summary.summarise_arms(sweep_arms, arm_scores, draws=work.bench.bootstrap, seed=work.bench.seed)
