"""Contracts of what judges and people say of a cell's answers."""

from __future__ import annotations

from schemas.contract import Contract, column


class Groundedness(Contract, table="groundedness", key=("request_id",)):
    """Whether a chosen answer stays with its source: a judge's verdict beside the words that the two share."""

    request_id: str = column(description="Request")
    response_id: str = column(description="Chosen response")
    judge_id: str = column(description="Digest of the judge: model, rubric, settings")
    verdict: float = column(nullable=True, ge=0.0, le=1.0, description="1: it stays; null: no verdict, or no answer")
    shared: float = column(nullable=True, ge=0.0, le=1.0, description="Share of the source's content words in it")
    grounded: bool = column(nullable=True, description="Whether the verdict says that it stays; null without one")
    review: bool = column(description="True where nobody but a person can say: no verdict, or judge and words disagree")


class GroundednessCalibration(Contract, table="groundedness_calibration", key=("judge_id",)):
    """What the judge of groundedness says where the answer is known: a source in another order, and another source."""

    judge_id: str = column(unique=True, description="Digest of the judge")
    n: int = column(ge=1, description="Sources, with two texts each")
    own_accepted: float = column(ge=0.0, le=1.0, description="Share of reordered sources said to stay; right: 1")
    other_accepted: float = column(ge=0.0, le=1.0, description="Share of other sources said to stay; right: 0")
    unparsed: float = column(ge=0.0, le=1.0, description="Share of texts without a verdict, which counts as wrong")
    p_value: float = column(
        ge=0.0, le=1.0, description="Of a judge that accepts both alike, one-sided (McNemar's test, exact)"
    )


class Rulings(Contract, table="rulings", key=("ruling_id",)):
    """What people said of answers, whoever judged them: only ever added to, the last ruling on an answer counts."""

    ruling_id: str = column(unique=True, description="Content hash of the other columns")
    request_id: str = column(description="Request")
    response_id: str = column(description="Response that was looked at")
    judged: bool = column(nullable=True, description="What the judge had said then; null: no verdict")
    spot_check: bool = column(description="True where judge and words agreed, and the answer was drawn to be looked at")
    grounded: bool = column(nullable=True, description="The person's word; null takes earlier ones back")
    by: str = column(not_blank=True, description="Who said it")
    at: float = column(ge=0.0, description="When, in seconds since 1970")
    note: str = column(description="Why, in the person's words")


class SettledGroundedness(Contract, table="settled_groundedness", key=("request_id",)):
    """Whether a chosen answer stays with its source, when people have had their say."""

    request_id: str = column(description="Request")
    response_id: str = column(description="Chosen response")
    judged: bool = column(nullable=True, description="What the judge says; null: no verdict")
    ruled: bool = column(nullable=True, description="What a person says; null: nobody looked")
    grounded: bool = column(nullable=True, description="The person's word, and without one the judge's")
    state: str = column(
        isin=["judged", "upheld", "overruled", "ruled", "open"],
        description="`open`: somebody should look; `upheld`, `overruled`, `ruled` (the judge had no verdict): somebody "
        "did; `judged`: nobody has to",
    )


class GroundednessSummary(Contract, table="groundedness_summary", key=("judge_id",)):
    """How many of a cell's answers stay with their sources, and what the judge's word on it is worth."""

    judge_id: str = column(unique=True, description="Digest of the judge")
    n: int = column(ge=0, description="Answers")
    judged_grounded: int = column(ge=0, description="Of these the judge says that they stay")
    no_verdict: int = column(ge=0, description="Without a verdict")
    open: int = column(ge=0, description="To be looked at, and nobody has")
    looked_at: int = column(ge=0, description="That somebody looked at")
    overruled: int = column(ge=0, description="On which the person's word is another than the judge's")
    spot_checked: int = column(ge=0, description="Looked at though judge and words agreed")
    spot_overruled: int = column(ge=0, description="Overruled among these: wrong where nobody doubts")
    share: float = column(nullable=True, ge=0.0, le=1.0, description="Share that stays, of those with a word on it")
    low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by text")
    high: float = column(nullable=True, description="Upper end")
    worst: float = column(ge=0.0, le=1.0, description="Share that stays if what is open or without a word does not")
    known: int = column(ge=0, description="Sources that the judge was tried on (see `groundedness_calibration`)")
    own_accepted: float = column(nullable=True, ge=0.0, le=1.0, description="Share of their own texts that it accepted")
    other_accepted: float = column(nullable=True, ge=0.0, le=1.0, description="Share of other texts that it accepted")
    p_value: float = column(nullable=True, ge=0.0, le=1.0, description="Of a judge that cannot tell these apart")


class GoalAgreement(Contract, table="goal_agreement", key=("against", "goal"), version=2):
    """Whether a goal orders texts as a judge does, and whether the judge, too, sees answers move as was asked."""

    against: str = column(description="What answers were compared with: `source`, or another method's answers")
    goal: str = column(description="Goal")
    tau: float = column(nullable=True, ge=-1.0, le=1.0, description="Kendall's tau-b; null: nothing but ties on a side")
    p_value: float = column(nullable=True, ge=0.0, le=1.0, description="Of tau = 0, two-sided")
    same_side: float = column(
        nullable=True, ge=0.0, le=1.0, description="Share of pairs that neither calls a tie on which both agree"
    )
    first_place: float = column(
        nullable=True, ge=-1.0, le=1.0, description="Mean verdict for the text shown first: 0 is no liking for a place"
    )
    unparsed: float = column(ge=0.0, le=1.0, description="Share of pairs without a verdict")
    n: int = column(ge=0, description="Pairs with a verdict")
    left_out: int = column(ge=0, description="Requests without a pair: no answer, or no place on the goal")
    toward: float = column(
        nullable=True,
        ge=-1.0,
        le=1.0,
        description="Where the goal was asked for: how far the judge puts the cell's answer on the side that was asked "
        "for, in [-1, 1]",
    )
    toward_low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by text")
    toward_high: float = column(nullable=True, description="Upper end")
    toward_n: int = column(ge=0, description="Pairs with a verdict of requests that ask for the goal")
