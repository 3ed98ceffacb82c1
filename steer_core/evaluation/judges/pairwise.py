"""Does a goal measure what its name says? A judge's preference between two texts against the goal's own order.

For two versions of a text the judge says which one has more of the goal; the scorer says by how much they differ.
Agreement is Kendall's tau-b (Kendall 1945), which takes ties on either side into account: 1 is full agreement, 0 none.
Each pair is shown in both orders and the two verdicts are averaged, so that a liking for the first place cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas.specs import Decoding, GoalSpec
from steer_core.evaluation.judges.asking import Option, ask_expected, ask_text
from steer_core.generation.backend import Backend
from steer_core.statistics.clustered import Estimate, clustered_mean
from steer_core.steering.plan import Message, Plan

VERSION = "2"
#: Digits kept of a preference: equal ones must be a tie, whatever the rounding of their probabilities.
DIGITS = 6
#: Difference in goal space below which two texts count as equal.
TIE = 0.1
OPTIONS = (Option("A", 1.0), Option("B", -1.0), Option("Tie", 0.0))
_SYSTEM = "You compare two versions of a text in one respect and reply with one word."


@dataclass(frozen=True)
class TextPair:
    """Two texts and their positions on a goal.

    Attributes:
        left, right: the texts.
        z_left, z_right: their positions in [0, 1] on the goal.
    """

    left: str
    right: str
    z_left: float
    z_right: float


@dataclass(frozen=True)
class Agreement:
    """How far a judge and a goal's scorer order texts alike.

    Attributes:
        goal: which goal.
        tau: Kendall's tau-b; None where one side sees nothing but ties, or too little was parsed.
        p_value: of tau = 0, two-sided.
        same_side: share of pairs, of those that neither calls a tie, on which both name the same text.
        n: pairs with a verdict.
        unparsed: share of pairs without one.
        first_place: mean verdict for the text shown first, in [-1, 1]; 0 is no liking for a place.
    """

    goal: str
    tau: float | None
    p_value: float | None
    same_side: float | None
    n: int
    unparsed: float
    first_place: float | None


def preferences(
    goal: GoalSpec,
    pairs: Sequence[TextPair],
    backend: Backend,
    model: str,
    *,
    tie: float = TIE,
    batch_size: int = 32,
) -> pl.DataFrame:
    """The judge's preference and the goal's order for each pair.

    Args:
        goal: what is compared; its `more` ends the question "which version is ...".
        pairs: texts with their positions.
        backend: runs the judge; by probabilities where it returns them, else by words.
        model: `ModelSpec.identity` of the judge.
        tie: |z_left - z_right| below which the goal's order is a tie.
        batch_size: rows run together.

    Returns:
        Columns pair, forward and backward (verdict with the left text shown first and last; 1: the left one has more,
        -1: the right one, between them by probability; null: unparsed), preference (mean of the two; null if one
        is), order (1, 0 or -1 by the goal).
    """
    # equal texts are a tie, whatever a judge would make of their places
    asked = [k for k, p in enumerate(pairs) if p.left != p.right]
    plans = [
        *(_plan(goal, model, pairs[k].left, pairs[k].right) for k in asked),
        *(_plan(goal, model, pairs[k].right, pairs[k].left) for k in asked),
    ]
    if backend.capabilities.scores:
        verdicts = ask_expected(plans, OPTIONS, backend, batch_size=batch_size)
    else:
        zeros = [0] * len(plans)
        verdicts = ask_text(plans, OPTIONS, backend, samples=zeros, seeds=zeros, batch_size=batch_size)
    forward: list[float | None] = [0.0] * len(pairs)
    backward: list[float | None] = [0.0] * len(pairs)
    for place, k in enumerate(asked):
        forward[k] = verdicts[place].value
        last = verdicts[len(asked) + place].value
        backward[k] = None if last is None else -last
    order = [0.0 if abs(p.z_left - p.z_right) < tie else float(np.sign(p.z_left - p.z_right)) for p in pairs]
    return pl.DataFrame(
        {
            "pair": list(range(len(pairs))),
            "forward": pl.Series(forward, dtype=pl.Float64),
            "backward": pl.Series(backward, dtype=pl.Float64),
            "order": pl.Series(order, dtype=pl.Float64),
        }
    ).select(
        "pair",
        "forward",
        "backward",
        preference=((pl.col("forward") + pl.col("backward")) / 2.0).round(DIGITS),
        order=pl.col("order"),
    )


def agreement(goal: str, compared: pl.DataFrame) -> Agreement:
    """Kendall's tau-b between preference and order.

    Args:
        goal: name of the goal.
        compared: what `preferences` returns.
    """
    judged = compared.drop_nulls("preference")
    preference, order = judged["preference"].to_numpy(), judged["order"].to_numpy()
    tau = p_value = None
    if len(preference) > 1 and np.ptp(preference) > 0.0 and np.ptp(order) > 0.0:
        from scipy.stats import kendalltau  # a second to import, and rarely wanted

        found = kendalltau(preference, order, variant="b")
        tau, p_value = float(found.statistic), float(found.pvalue)
    places = (judged["forward"] - judged["backward"]).to_numpy() / 2.0
    decided = (preference != 0.0) & (order != 0.0)
    same = (np.sign(preference) == order)[decided]
    return Agreement(
        goal=goal,
        tau=tau,
        p_value=p_value,
        same_side=float(same.mean()) if len(same) else None,
        n=judged.height,
        unparsed=1.0 - judged.height / compared.height if compared.height else 0.0,
        first_place=float(np.mean(places)) if len(places) else None,
    )


def toward(compared: pl.DataFrame, asked: Sequence[float], texts: Sequence[str]) -> Estimate:
    """How far the judge puts the left texts on the side that was asked for, in [-1, 1]; 0 is no preference.

    Args:
        compared: what `preferences` returns.
        asked: z* - z0 of each pair's request on the goal; within `TIE` of 0, or NaN, it asks for no movement.
        texts: the source of each pair's request: requests on one text are one cluster.
    """
    wanted = np.array([0.0 if np.isnan(a) or abs(a) < TIE else np.sign(a) for a in asked])
    preference = compared["preference"].fill_null(float("nan")).to_numpy()
    values = np.where(wanted == 0.0, np.nan, preference * wanted)
    return clustered_mean(values, np.asarray(texts, dtype=object).astype(str))


def _plan(goal: GoalSpec, model: str, first: str, second: str) -> Plan:
    question = (
        f"Here are two versions of a text.\n\nVersion A:\n<text>\n{first}\n</text>\n\n"
        f"Version B:\n<text>\n{second}\n</text>\n\n"
        f"Which version is {goal.more}? This is about {goal.noun} and nothing else. "
        "Reply with A, with B, or with Tie if there is no difference worth the name."
    )
    decoding = Decoding(max_new_tokens=8, temperature=0.0, top_p=1.0, min_p=0.0)
    return Plan(model, decoding, (Message("system", _SYSTEM), Message("user", question)))
