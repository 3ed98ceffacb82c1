"""What a judge is: cases in, verdicts out; and which judgements are still missing.

1. A judgement is keyed by response, item, judge, rubric and repeat; what is in the table is never asked for again.
2. A judge's id is the digest of its kind, model, settings and rubric: another wording is another judge, and changes
   judgements only, never a generation.
3. A reply that cannot be read is `unparsed` and its value null, never 0; an empty response is `no_answer` and is not
   put to the judge at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import polars as pl

from schemas.sweeps import Judgements
from steer_core.generation.run import Progress
from steer_core.steering.plan import Message, messages_of

Method = Literal["ground_truth", "text", "expected"]


@dataclass(frozen=True)
class Case:
    """One response to judge.

    Attributes:
        response_id: the response.
        item_id: the item that it answers.
        messages: the whole prompt, as the item has it.
        response: the cleaned answer.
        positive: an answer to this item that shows the behavior; None where there is none.
        negative: an answer that shows its opposite.
    """

    response_id: str
    item_id: str
    messages: tuple[Message, ...]
    response: str
    positive: str | None = None
    negative: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a case.

    Attributes:
        value: on the rubric's scale; None where it could not be read.
        method: how it was come by.
        raw: the judge's own words, or the probabilities behind the value as JSON.
    """

    value: float | None
    method: Method
    raw: str


class Judge(Protocol):
    """Judges cases on the scale of its rubric."""

    @property
    def judge_id(self) -> str:
        """Digest of kind, model, settings and rubric."""
        ...

    @property
    def rubric(self) -> str:
        """Rubric name and version, as `name@version`."""
        ...

    @property
    def scale(self) -> tuple[float, float]:
        """Ends of the scale; the behavior is shown at the second."""
        ...

    @property
    def repeats(self) -> int:
        """Judgements that each response gets."""
        ...

    @property
    def method(self) -> Method:
        """How its verdicts are come by."""
        ...

    def judge(self, asked: Sequence[tuple[Case, int]]) -> list[Verdict]:
        """A verdict for each case and repeat, in their order."""
        ...


def cases_of(answers: pl.DataFrame, items: pl.DataFrame) -> list[Case]:
    """What is to be judged: each response to each item, once, however many arms share it.

    Args:
        answers: rows of `arm_answers`.
        items: rows of `behavior_items`; answers to other items are left aside.
    """
    columns = items.select("item_id", "messages", "positive", "negative")
    rows = answers.unique(["response_id", "item_id"], keep="first", maintain_order=True).join(
        columns, on="item_id", how="inner", maintain_order="left"
    )
    return [case_of(r["response_id"], r["text"], r) for r in rows.iter_rows(named=True)]


def case_of(response_id: str, text: str, item: Mapping[str, Any]) -> Case:
    """A response to an item, as it is judged.

    Args:
        response_id: the response.
        text: the cleaned answer.
        item: row of `behavior_items`.
    """
    messages = messages_of(item["messages"])
    return Case(response_id, item["item_id"], messages, text, item["positive"], item["negative"])


def missing_judgements(judge: Judge, cases: Sequence[Case], done: pl.DataFrame) -> list[tuple[Case, int]]:
    """Cases and repeats that this judge has not judged under this rubric.

    Args:
        judge: who judges.
        cases: what is to be judged.
        done: rows of `judgements`, of any judges.
    """
    own = done.filter((pl.col("judge_id") == judge.judge_id) & (pl.col("rubric") == judge.rubric))
    known = set(own.select("response_id", "item_id", "repeat").iter_rows())
    wanted = {(c.response_id, c.item_id, k): (c, k) for c in cases for k in range(judge.repeats)}
    return [asked for key, asked in wanted.items() if key not in known]


def judge_cases(
    judge: Judge,
    cases: Sequence[Case],
    done: pl.DataFrame | None = None,
    *,
    batch_size: int = 64,
    keep: Callable[[pl.DataFrame], None] | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """This judge's judgements of the cases, asking only for those that are missing.

    Args:
        judge: who judges.
        cases: what is to be judged.
        done: rows of `judgements` so far, of any judges; None: none.
        batch_size: cases put to the judge together.
        keep: given the rows of each batch as it ends, so that a killed run loses one batch.
        progress: told after each batch.

    Returns:
        Rows of `judgements`, one a case and repeat.
    """
    done = Judgements.empty() if done is None else done
    missing = missing_judgements(judge, cases, done)
    new = []
    for start in range(0, len(missing), batch_size):
        rows = judged(judge, missing[start : start + batch_size])
        new.append(rows)
        if keep is not None:
            keep(rows)
        if progress is not None:
            progress(min(start + batch_size, len(missing)), len(missing))
    wanted = pl.DataFrame(
        list(dict.fromkeys((c.response_id, c.item_id) for c in cases)),
        schema={"response_id": pl.String, "item_id": pl.String},
        orient="row",
    )
    known = done.filter(
        (pl.col("judge_id") == judge.judge_id) & (pl.col("rubric") == judge.rubric) & (pl.col("repeat") < judge.repeats)
    ).join(wanted, on=["response_id", "item_id"], how="semi")
    return pl.concat([known, *new]).sort("response_id", "item_id", "repeat")


def judged(judge: Judge, asked: Sequence[tuple[Case, int]]) -> pl.DataFrame:
    """Rows of `judgements` of cases and repeats, in their order; an empty response is not put to the judge."""
    answered = [a for a in asked if a[0].response.strip()]
    verdicts = iter(judge.judge(answered) if answered else [])
    rows = []
    for case, repeat in asked:
        blank = not case.response.strip()
        verdict = Verdict(None, judge.method, "") if blank else next(verdicts)
        state = "no_answer" if blank else "unparsed" if verdict.value is None else "ok"
        rows.append(
            {
                "response_id": case.response_id,
                "item_id": case.item_id,
                "judge_id": judge.judge_id,
                "rubric": judge.rubric,
                "repeat": repeat,
                "value": verdict.value,
                "state": state,
                "method": verdict.method,
                "raw": verdict.raw,
            }
        )
    return pl.DataFrame(rows, schema=Judgements.empty().schema, orient="row")
