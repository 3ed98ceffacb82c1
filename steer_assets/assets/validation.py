"""What a judge says of a cell's answers: whether they stay with their sources, and whether goals order as it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from schemas import GoalAgreement, Groundedness
from schemas.evaluation import HEADLINE
from schemas.specs import ModelSpec
from steer_assets.compute import backend_for, device_lease, device_of
from steer_assets.measuring import model_digest, ruler_of, scorer_ids
from steer_assets.settings import registry
from steer_assets.tables import Work, table
from steer_core.evaluation.judges import load as judges
from steer_core.evaluation.judges import pairwise
from steer_core.evaluation.judges.groundedness import check_groundedness
from steer_core.evaluation.judges.judge import Case
from steer_core.evaluation.judges.llm import LlmJudge
from steer_core.evaluation.rubrics.grounded import build as build_grounded
from steer_core.goals.space import GoalSpace
from steer_core.steering.plan import Message

#: Pairs of source and answer that a goal is tried on.
PAIRS = 64


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
    spec=lambda work: [model_digest(_grounding(work)), work.bench.seed],
    applies=lambda work: work.bench.validated_by is not None,
    grid=True,
    gpu=True,
    metadata=_stays,
)
def groundedness(work: Work, outcomes: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Whether each chosen answer stays with its source, by a judge and by shared words; where they disagree it says so.

    A method's own failures are judged as well: an answer that was cut off may tell the same facts as far as it goes.
    """
    model = _grounding(work)
    rows = outcomes.filter(pl.col("arm_id") == HEADLINE).join(
        requests.select("request_id", source="text"), on="request_id", maintain_order="left"
    )
    with device_lease(device_of(model)):
        judge = LlmJudge(backend_for(model), model.identity, build_grounded(), seed=work.bench.seed)
        cases = [
            Case(r["response_id"], r["request_id"], (Message("user", rewrite_of(r["source"])),), r["text"])
            for r in rows.iter_rows(named=True)
        ]
        sources = dict(rows.select("request_id", "source").iter_rows())
        found = check_groundedness(judge, cases, about=sources, progress=work.progress("verdicts on groundedness"))
    return found.select(
        request_id="item_id",
        response_id="response_id",
        judge_id=pl.lit(judge.judge_id),
        verdict="verdict",
        shared="shared",
        grounded="grounded",
        review="review",
    )


def _grounding(work: Work) -> ModelSpec:
    assert work.bench.validated_by is not None  # `applies` looked
    return registry().model(work.bench.validated_by)


def rewrite_of(source: str) -> str:
    """What the judge is told was asked: a rewrite of the source, whatever else a prompt said."""
    return f"Rewrite this text.\n\n{source}"


@table(
    GoalAgreement,
    version=pairwise.VERSION,
    spec=lambda work: [model_digest(_grounding(work)), scorer_ids(work.bench), PAIRS],
    applies=lambda work: work.bench.validated_by is not None,
    grid=True,
    gpu=True,
)
def goal_agreement(
    work: Work, outcomes: pl.DataFrame, requests: pl.DataFrame, goal_space: pl.DataFrame
) -> pl.DataFrame:
    """Each goal's order of source and answer against the judge's preference, on the first answered requests."""
    model, space = _grounding(work), GoalSpace.from_table(goal_space)
    rows = (
        outcomes.filter(pl.col("arm_id") == HEADLINE, pl.col("failure").is_null(), ~pl.col("copied"))
        .sort("request_id")
        .head(PAIRS)
        .join(requests.select("request_id", source="text"), on="request_id", maintain_order="left")
    )
    texts = [*rows["source"], *rows["text"]]
    places = ruler_of(work.bench, space)(texts) if texts else []
    found = []
    with device_lease(device_of(model)):
        for goal in space.goals:
            pairs = [
                pairwise.TextPair(source, text, before, after)
                for source, text, before, after in zip(
                    rows["source"],
                    rows["text"],
                    (p[goal] for p in places[: rows.height]),
                    (p[goal] for p in places[rows.height :]),
                    strict=True,
                )
                if before is not None and after is not None
            ]
            compared = pairwise.preferences(registry().goal(goal), pairs, backend_for(model), model.identity)
            a = pairwise.agreement(goal, compared)
            found.append((goal, a.tau, a.p_value, a.same_side, a.first_place, a.unparsed, a.n))
    return pl.DataFrame(found, schema=GoalAgreement.empty().schema, orient="row")
