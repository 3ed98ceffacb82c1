"""Open items: the answers of all arms, written in one stream.

1. What an arm does belongs to the row, so all arms go through the backend together.
2. What the journal holds is not generated again: a grid that grew costs its new arms only.
3. An item's sample has the same seed in every arm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from schemas.digest import digest_text
from schemas.specs import Decoding
from schemas.sweeps import ArmAnswers
from steer_core.evaluation.arms.items import Asked, item_seed
from steer_core.generation.backend import Call
from steer_core.generation.journalled import Row, printable, run_calls
from steer_core.generation.run import Run

#: Told the item, the response's id and the cleaned text of an answer; False: no more is wanted.
Told = Callable[[str, str, str], bool]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        responses: rows of `responses`, each once.
        answers: rows of `arm_answers`: which response answers which item in which arm.
    """

    responses: pl.DataFrame
    answers: pl.DataFrame


def write(
    asked: Sequence[Asked],
    run: Run,
    decoding: Decoding,
    *,
    samples: int = 1,
    clean: Callable[[str], str] = str.strip,
    each: Told | None = None,
) -> Written:
    """Have the open items among them answered.

    Args:
        asked: items in their arms; those with given continuations are left aside.
        run: who answers; its backend must know the vectors, tensors and adapters that the arms use.
        decoding: how answers are drawn.
        samples: answers an item.
        clean: takes the answer out of what was written.
        each: told every answer to an item as it comes; False: nothing more is begun, what is under way ends.

    Raises:
        CutShortError: `each` wanted no more before all was written.
        SteerworksError: the backend cannot do what an arm asks for.
    """
    backend = run.asking
    calls: list[tuple[Asked, Call]] = []
    for one in asked:
        if one.item.open:
            plan = one.plan(backend.model_identity, decoding)
            calls += [(one, Call(plan, s, item_seed(run.seed, one.item.item_id, s))) for s in range(samples)]
    answered = None if each is None else _telling(calls, backend.execution, clean, each)
    responses = run_calls([call for _, call in calls], run, answered)
    texts = [printable(clean(raw)) for raw in responses["raw"]]
    responses = responses.with_columns(
        text=pl.Series(texts, dtype=pl.String),
        text_id=pl.Series([digest_text(t) for t in texts], dtype=pl.String),
    )
    written = {r["response_id"]: r for r in responses.iter_rows(named=True)}
    execution = backend.execution
    rows = []
    for one, call in calls:
        row = written[call.response_id(execution)]
        rows.append(
            {
                "arm_id": one.arm.arm_id,
                "item_id": one.item.item_id,
                "sample_index": call.sample_index,
                "response_id": row["response_id"],
                "text": row["text"],
                "failure": failure_of(row["text"], row["finish_reason"]),
            }
        )
    answers = pl.DataFrame(rows, schema=ArmAnswers.empty().schema, orient="row")
    return Written(responses.sort("response_id"), answers)


def _telling(
    calls: Sequence[tuple[Asked, Call]], execution: str, clean: Callable[[str], str], each: Told
) -> Callable[[Row], bool]:
    """Tells a row's answer to every item that it answers: arms that ask the same share it."""
    items: dict[str, list[str]] = {}
    for one, call in calls:
        known = items.setdefault(call.response_id(execution), [])
        if one.item.item_id not in known:
            known.append(one.item.item_id)

    def told(row: Row) -> bool:
        response_id, text = str(row["response_id"]), printable(clean(str(row["raw"])))
        return all(each(item_id, response_id, text) for item_id in items[response_id])

    return told


def failure_of(text: str, finish_reason: str) -> str | None:
    """Why an open answer is none: overlong, filtered by an endpoint, empty or truncated; None where it is one.

    A truncated answer is still measured, as far as it goes: the share of them is a measure of its own.
    """
    if finish_reason in ("overlong", "filtered"):
        return finish_reason
    if not text.strip():
        return "empty"
    return "truncated" if finish_reason == "length" else None
