"""Two texts for each request, put to a judge goal by goal: an answer and its source, or two methods' answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from schemas import GoalAgreement
from schemas.specs import GoalSpec
from steer_core.evaluation.judges import pairwise
from steer_core.generation.backend import Backend
from steer_core.generation.run import Progress

#: Texts to their positions in goal space, goal by goal.
Ruler = Callable[[Sequence[str]], list[dict[str, float | None]]]
#: What answers are compared with where it is no method.
SOURCE = "source"
#: Pairs that a goal is tried on: a judge is asked twice for each.
PAIRS = 64


def pairs_of(answers: pl.DataFrame, others: pl.DataFrame, n: int = PAIRS) -> tuple[pl.DataFrame, int]:
    """The first requests that have both texts, and how many of those looked at have not.

    Requests are taken in the order of their ids, which are hashes: the same ones for every method.

    Args:
        answers: request_id, text_id (the source's) and left; null where there is no answer.
        others: request_id and right; null likewise.
        n: pairs that are taken, at most.
    """
    both = answers.join(others, on="request_id", how="left").sort("request_id")
    there = pl.col("left").is_not_null() & pl.col("right").is_not_null()
    looked_at = both.filter(there.cast(pl.Int64).cum_sum() - there.cast(pl.Int64) < n)
    kept = looked_at.filter(there)
    return kept, looked_at.height - kept.height


def goal_agreements(
    against: str,
    pairs: pl.DataFrame,
    left_out: int,
    request_goals: pl.DataFrame,
    goals: Mapping[str, GoalSpec],
    ruler: Ruler,
    backend: Backend,
    model: str,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Rows of `goal_agreement`, one a goal.

    Args:
        against: what the right texts are.
        pairs: request_id, text_id, left and right (see `pairs_of`).
        left_out: requests without a pair.
        request_goals: rows of `request_goals`, for what was asked for.
        goals: the goals in their order.
        ruler: measures texts.
        backend: runs the judge.
        model: `ModelSpec.identity` of the judge.
        batch_size: rows run together.
        progress: told after each goal.
    """
    texts = [*pairs["left"], *pairs["right"]]
    places = ruler(texts) if texts else []
    wanted = {
        (request, goal): float("nan") if end is None else end - start
        for request, goal, start, end in request_goals.select("request_id", "goal", "z0", "z_star").iter_rows()
    }
    found = []
    for name, goal in goals.items():
        rows, asked, sources = [], [], []
        for k, (request, text_id, left, right) in enumerate(
            pairs.select("request_id", "text_id", "left", "right").iter_rows()
        ):
            here, there = places[k][name], places[pairs.height + k][name]
            if here is None or there is None:
                continue
            rows.append(pairwise.TextPair(left, right, here, there))
            asked.append(wanted.get((request, name), float("nan")))
            sources.append(text_id)
        compared = pairwise.preferences(goal, rows, backend, model, batch_size=batch_size)
        a, moved = pairwise.agreement(name, compared), pairwise.toward(compared, asked, sources)
        found.append(
            {
                "against": against,
                "goal": name,
                "tau": a.tau,
                "p_value": a.p_value,
                "same_side": a.same_side,
                "first_place": a.first_place,
                "unparsed": a.unparsed,
                "n": a.n,
                "left_out": left_out + pairs.height - len(rows),
                "toward": moved.value,
                "toward_low": moved.low,
                "toward_high": moved.high,
                "toward_n": moved.n,
            }
        )
        if progress is not None:
            progress(len(found), len(goals))
    return pl.DataFrame(found, schema=GoalAgreement.empty().schema)
