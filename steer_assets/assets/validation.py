"""What judges and people say of answers: do they stay with their sources, do goals order them as a judge does?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from schemas import (
    GoalAgreement,
    Groundedness,
    GroundednessCalibration,
    GroundednessSummary,
    Judgements,
    Rulings,
    SettledGroundedness,
)
from schemas.evaluation import HEADLINE
from schemas.specs import BenchSpec, ModelSpec
from steer_assets.compute import backend_for, device_lease, device_of
from steer_assets.measuring import judge_digest, ruler_of, scorer_ids
from steer_assets.settings import registry
from steer_assets.tables import Work, table
from steer_core.evaluation.judges import known_texts, pairwise, rulings, two_sides
from steer_core.evaluation.judges import load as judges
from steer_core.evaluation.judges.groundedness import check_groundedness
from steer_core.evaluation.judges.judge import Case
from steer_core.evaluation.judges.llm import LlmJudge
from steer_core.evaluation.rubrics.grounded import build as build_grounded
from steer_core.generation.run import Progress
from steer_core.goals.space import GoalSpace
from steer_core.tables.journal import Journal


def _validated(work: Work) -> bool:
    return work.bench.validated_by is not None


def _model(work: Work) -> ModelSpec:
    assert work.bench.validated_by is not None  # `applies` looked
    return registry().model(work.bench.validated_by)


def _judge(work: Work) -> LlmJudge:
    model = _model(work)
    return LlmJudge(backend_for(model), model.identity, build_grounded(), seed=work.bench.seed)


def _verdicts(work: Work) -> Journal:
    """Verdicts of the bench's judge: what was judged is not judged again, whichever cell it is of."""
    return Journal(work.url("journal", f"judgements-{_model(work).name}"), Judgements)


def rulings_of(work: Work) -> Journal:
    """What people said of the cell's answers."""
    return Journal(work.url("rulings", f"model={work.here.model.name}", f"method={work.here.method.name}"), Rulings)


def _stays(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    rows = frames["groundedness"]
    return {
        "judged": rows["verdict"].count(),
        "said to stay with their source": int(rows["grounded"].sum()),
        "to be looked at": int(rows["review"].sum()),
    }


@table(
    Groundedness,
    version=judges.VERSION,
    spec=lambda work: [judge_digest(_model(work)), work.bench.seed],
    applies=_validated,
    grid=True,
    gpu=True,
    metadata=_stays,
)
def groundedness(work: Work, outcomes: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Whether each chosen answer stays with its source, by a judge and by shared words; where they disagree it says so.

    A method's own failures are judged as well: an answer that was cut off may tell the same facts as far as it goes.
    """
    rows = outcomes.filter(pl.col("arm_id") == HEADLINE).join(
        requests.select("request_id", source="text"), on="request_id", maintain_order="left"
    )
    kept = _verdicts(work)
    with device_lease(device_of(_model(work))):
        judge = _judge(work)
        cases = [
            Case(r["response_id"], r["request_id"], known_texts.rewrite_of(r["source"]), r["text"])
            for r in rows.iter_rows(named=True)
        ]
        found = check_groundedness(
            judge,
            cases,
            about=dict(rows.select("request_id", "source").iter_rows()),
            done=kept.read(),
            keep=kept.append,
            progress=work.progress("verdicts on groundedness"),
        )
    kept.compact()
    return found.select(
        request_id="item_id",
        response_id="response_id",
        judge_id=pl.lit(judge.judge_id),
        verdict="verdict",
        shared="shared",
        grounded="grounded",
        review="review",
    )


@table(
    GroundednessCalibration,
    version=known_texts.VERSION,
    spec=lambda work: [judge_digest(_model(work)), work.bench.seed, list(work.bench.test_probes), known_texts.KNOWN],
    applies=_validated,
    grid=True,
    gpu=True,
)
def groundedness_calibration(work: Work, requests: pl.DataFrame) -> pl.DataFrame:
    """What the judge of groundedness says of texts of known label: a source in another order, and another source."""
    texts = requests.filter(pl.col("probe").is_in(work.bench.test_probes))["text"].to_list()
    kept = _verdicts(work)
    with device_lease(device_of(_model(work))):
        return known_texts.try_judge(
            _judge(work),
            known_texts.known_texts(texts, work.bench.seed),
            done=kept.read(),
            keep=kept.append,
            progress=work.progress("verdicts on texts of known label"),
        )


def _settled(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    found = frames["groundedness_summary"]
    if not found.height:
        return {}
    row = found.row(0, named=True)
    return {"open for review": row["open"], "looked at": row["looked_at"], "overruled": row["overruled"]}


@table(
    SettledGroundedness,
    GroundednessSummary,
    names=("settled_groundedness", "groundedness_summary"),
    version=rulings.VERSION,
    # people go on ruling: what they have said by now is what the rows follow from
    spec=lambda work: sorted(map(str, rulings_of(work).keys())),
    applies=_validated,
    grid=True,
    metadata=_settled,
)
def settled_groundedness(
    work: Work, groundedness: pl.DataFrame, groundedness_calibration: pl.DataFrame, requests: pl.DataFrame
) -> tuple[pl.DataFrame, ...]:
    """Whether each answer stays with its source when people have had their say, and what the judge's word is worth."""
    said = rulings_of(work).read()
    settled = rulings.settle(groundedness, said)
    summary = rulings.summarise(
        settled,
        said,
        groundedness_calibration,
        requests.select("request_id", "text_id").unique("request_id"),
        groundedness["judge_id"].first() if groundedness.height else "",
    )
    return settled, summary


def _with_whom(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    there = set(frames["goal_agreement"]["against"])
    missing = [m for m in work.bench.validated_against if m not in there and m != work.here.method.name]
    return {"not compared with, for want of answers": ", ".join(missing)} if missing else {}


@table(
    GoalAgreement,
    version=pairwise.VERSION,
    spec=lambda work: [
        judge_digest(_model(work)),
        scorer_ids(work.bench),
        two_sides.PAIRS,
        list(work.bench.validated_against),
    ],
    applies=_validated,
    grid=True,
    gpu=True,
    fan_in={"outcomes": "compared"},
    metadata=_with_whom,
)
def goal_agreement(
    work: Work,
    outcomes: pl.DataFrame,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goal_space: pl.DataFrame,
) -> pl.DataFrame:
    """Each goal's order of two texts against a judge's preference: answer and source, and two methods' answers."""
    own, found = work.here.method.name, [GoalAgreement.empty()]
    answers = {str(method): rows for (method,), rows in outcomes.group_by("method")}
    mine = with_source(work.bench, requests, answers[own])
    with device_lease(device_of(_model(work))):
        for against in (two_sides.SOURCE, *work.bench.validated_against):
            if against == own:
                continue
            if against != two_sides.SOURCE and against not in answers:
                work.log.warning(f"{work.here.key}: {against} has no answers yet, so they are not compared with them")
                continue
            other, told = answers.get(against), work.progress(f"goals compared with {against}")
            found.append(
                compared(work.bench, _model(work), mine, against, other, request_goals, goal_space, progress=told)
            )
    return pl.concat(found)


def with_source(bench: BenchSpec, requests: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Requests of the test probes with source, its text_id, the headline answer (null: none), and whether it copies."""
    answers = outcomes.filter(arm_id=HEADLINE).select(
        "request_id", answer=pl.when(pl.col("failure").is_null()).then("text"), copied="copied"
    )
    asked = requests.filter(pl.col("probe").is_in(bench.test_probes))
    return asked.select("request_id", "text_id", source="text").join(answers, on="request_id")


def compared(
    bench: BenchSpec,
    judge: ModelSpec,
    mine: pl.DataFrame,
    against: str,
    outcomes: pl.DataFrame | None,
    request_goals: pl.DataFrame,
    goal_space: pl.DataFrame,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Rows of `goal_agreement`: a cell's answers beside their sources, or beside another cell's.

    Args:
        bench: of both.
        judge: who compares.
        mine: what `with_source` gives.
        against: the other side's name.
        outcomes: rows of `outcomes` of the other cell; None: the sources.
        request_goals: rows of `request_goals`.
        goal_space: rows of `goal_space`.
        progress: told after each goal.
    """
    if outcomes is None:
        # an answer that is its source says nothing of how a goal orders the two
        left = mine.with_columns(left=pl.when(~pl.col("copied")).then("answer"))
        right = mine.select("request_id", right="source")
    else:
        left = mine.with_columns(left="answer")
        right = outcomes.filter(arm_id=HEADLINE).select(
            "request_id", right=pl.when(pl.col("failure").is_null()).then("text")
        )
    pairs, left_out = two_sides.pairs_of(left.select("request_id", "text_id", "left"), right)
    space = GoalSpace.from_table(goal_space)
    return two_sides.goal_agreements(
        against,
        pairs,
        left_out,
        request_goals,
        {g: registry().goal(g) for g in space.goals},
        ruler_of(bench, space),
        backend_for(judge),
        judge.identity,
        progress=progress,
    )
