"""Is a judge of groundedness worth asking? Its verdicts on texts of which anybody knows whether they stay.

A source with its sentences in another order stays with the source; another source does not. These are easier than a
model's answers: who cannot tell these apart can tell nothing. What is tested is the verdict, yes or no, as it is used:
a judge that grades in the right order and says yes to everything is of no use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from schemas.digest import digest_json
from schemas.validation import GroundednessCalibration
from steer_core.corpus.sentences import sentences
from steer_core.evaluation.judges.calibration import Known
from steer_core.evaluation.judges.judge import Case, Judge, judge_cases
from steer_core.generation.run import Progress
from steer_core.steering.plan import Message

#: Bumped when the same judge and texts give other figures.
VERSION = "1"
#: Sources that a judge is tried on: two cases each.
KNOWN = 32


def rewrite_of(source: str) -> tuple[Message, ...]:
    """What the judge is told was asked: a rewrite of the source, whatever else a prompt said."""
    return (Message("user", f"Rewrite this text.\n\n{source}"),)


def known_texts(texts: Sequence[str], seed: int, n: int = KNOWN) -> list[Known]:
    """Cases whose label is known: a text with its sentences in another order stays with it, another text does not.

    Args:
        texts: sources; those that are equal count once.
        seed: of the draw, and of the orders.
        n: sources that are taken, at most.
    """
    pool = sorted(set(texts))
    draw = np.random.default_rng([seed, len(pool)])
    taken = [pool[i] for i in draw.permutation(len(pool))[:n]]
    if len(taken) < 2:
        return []
    found = []
    for k, source in enumerate(taken):
        item = digest_json(["grounded", source])
        for stays, text in ((True, _reordered(source, draw)), (False, taken[(k + 1) % len(taken)])):
            case = Case(digest_json(["known", item, stays]), item, rewrite_of(source), text)
            found.append(Known(case, stays))
    return found


def _reordered(text: str, draw: np.random.Generator) -> str:
    parts = sentences(text)
    return " ".join(parts[i] for i in draw.permutation(len(parts)))


def try_judge(
    judge: Judge,
    known: Sequence[Known],
    *,
    done: pl.DataFrame | None = None,
    keep: Callable[[pl.DataFrame], None] | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """The row of `groundedness_calibration`; none where no two sources differ.

    Args:
        judge: with a yes-or-no rubric such as `grounded`.
        known: what `known_texts` gives.
        done: rows of `judgements` so far, of any judges.
        keep: given new rows batch by batch.
        progress: told after each batch.
    """
    if not known:
        return GroundednessCalibration.empty()
    rows = judge_cases(judge, [k.case for k in known], done, keep=keep, progress=progress)
    verdicts = dict(rows.group_by("response_id").agg(pl.col("value").mean()).iter_rows())
    middle = sum(judge.scale) / 2.0
    own: dict[str, bool] = {}
    other: dict[str, bool] = {}
    unparsed = 0
    for k in known:
        value = verdicts[k.case.response_id]
        unparsed += value is None
        # without a verdict a case counts against the judge
        accepted = value > middle if value is not None else not k.positive
        (own if k.positive else other)[k.case.item_id] = accepted
    row = {
        "judge_id": judge.judge_id,
        "n": len(own),
        "own_accepted": sum(own.values()) / len(own),
        "other_accepted": sum(other.values()) / len(other),
        "unparsed": unparsed / len(known),
        "p_value": mcnemar([own[i] for i in own], [other[i] for i in own]),
    }
    return pl.DataFrame([row], schema=GroundednessCalibration.empty().schema)


def mcnemar(own: Sequence[bool], other: Sequence[bool]) -> float:
    """Exact one-sided p of "the first is true no more often than the second" over pairs (McNemar 1947, binomial)."""
    from scipy.stats import binom  # a second to import, and rarely wanted

    more = sum(a and not b for a, b in zip(own, other, strict=True))
    less = sum(b and not a for a, b in zip(own, other, strict=True))
    return float(binom.sf(more - 1, more + less, 0.5))
