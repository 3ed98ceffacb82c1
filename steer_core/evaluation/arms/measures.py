"""What is measured on open answers, whatever they answer: do they still read well, how far is the model pushed?

* `length`: tokens written. `truncated`, `failed`: 1 where the answer was cut off, or is none at all (empty, overlong).
* `perplexity`: of the answer under the plain model after the item's own prompt: exp(mean nats a token). Fluency is
  judged by a model that is not pushed; a steered model finds its own derailments likely.
* `kl`: KL(steered || unsteered) in nats a token, mean over the answer's tokens, each after what was written before it
  (so over the answers that the steered model gives). 0 by definition where nothing is done to the model. Of an arm with
  a prompt of its own it is held against the model after the item's prompt alone: what asking costs, in the same nats.
* `prompt_tokens`: tokens that are read for an answer.
* any function of a text, by name: `text_scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from schemas.specs import Decoding
from schemas.sweeps import ArmScores
from steer_core.evaluation.arms.answers import Written
from steer_core.evaluation.arms.items import Asked
from steer_core.generation.forced import diverge_all, score_all
from steer_core.generation.run import Run

#: Bumped when the same answers give other scores.
VERSION = "2"
#: A row of `arm_scores`: arm, item, sample, group, measure, value.
ScoreRow = tuple[str, str, int, str, str, float | None]
#: Distinct texts to their measures, one mapping name -> value (None: undefined) a text.
TextMeasure = Callable[[Sequence[str]], list[dict[str, float | None]]]


@dataclass(frozen=True)
class Answer:
    """An open answer in its place."""

    asked: Asked
    sample_index: int
    response_id: str
    text: str
    failure: str | None

    @property
    def is_one(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self.text.strip())

    def row(self, measure: str, value: float | None) -> ScoreRow:
        """A row of `arm_scores`."""
        arm, item = self.asked.arm, self.asked.item
        return (arm.arm_id, item.item_id, self.sample_index, item.group, measure, value)


def answers_of(written: Written, asked: Sequence[Asked]) -> list[Answer]:
    """The written answers of these items in these arms, in the order in which they were written."""
    places = {(one.arm.arm_id, one.item.item_id): one for one in asked}
    columns = written.answers.select("arm_id", "item_id", "sample_index", "response_id", "text", "failure")
    return [
        Answer(places[arm_id, item_id], *rest)
        for arm_id, item_id, *rest in columns.iter_rows()
        if (arm_id, item_id) in places
    ]


def score_rows(rows: Collection[ScoreRow]) -> pl.DataFrame:
    """Rows of `arm_scores` from tuples in the order of its columns."""
    return pl.DataFrame(list(rows), schema=ArmScores.empty().schema, orient="row")


def form_scores(written: Written, asked: Sequence[Asked]) -> pl.DataFrame:
    """`length`, `prompt_tokens`, `truncated`, `failed` of every answer: what needs neither model nor text measure."""
    counts = written.responses.select("response_id", "completion_tokens", "prompt_tokens")
    tokens = {response: (wrote, read) for response, wrote, read in counts.iter_rows()}
    rows: list[ScoreRow] = []
    for answer in answers_of(written, asked):
        wrote, read = tokens[answer.response_id]
        rows.append(answer.row("length", float(wrote)))
        rows.append(answer.row("prompt_tokens", None if read is None else float(read)))
        rows.append(answer.row("truncated", float(answer.failure == "truncated")))
        rows.append(answer.row("failed", float(answer.failure in ("empty", "overlong"))))
    return score_rows(rows)


def text_scores(
    written: Written, asked: Sequence[Asked], measure: TextMeasure, names: Sequence[str] | None = None
) -> pl.DataFrame:
    """Measures of the texts of answers; each distinct text is measured once.

    Args:
        written: what was written.
        asked: items in their arms; answers of others are left aside.
        measure: texts to measures.
        names: of the measures, in order; None: those that occur.

    Returns:
        Rows of `arm_scores`; null where a measure is undefined for a text, or there is no answer.
    """
    found = answers_of(written, asked)
    texts = sorted({a.text for a in found if a.is_one})
    values: Mapping[str, dict[str, float | None]] = dict(zip(texts, measure(texts), strict=True)) if texts else {}
    known = list(dict.fromkeys(n for v in values.values() for n in v)) if names is None else list(names)
    return score_rows([a.row(name, values.get(a.text, {}).get(name)) for a in found for name in known])


def perplexity_scores(written: Written, asked: Sequence[Asked], run: Run, decoding: Decoding) -> pl.DataFrame:
    """`perplexity` of every answer under the plain model after the item's own prompt (no arm's system prompt).

    Returns:
        Rows of `arm_scores`; null where there is no answer, or it does not fit the model's context. Equal answers to an
        item are scored once.

    Raises:
        SteerworksError: the backend cannot score.
    """
    found = answers_of(written, asked)
    whole = [a for a in found if a.is_one]
    plans = [a.asked.plain(run.asking.model_identity, decoding) for a in whole]
    scored = score_all(plans, [a.text for a in whole], run.asking, run.batch_size, run.progress)
    # what does not fit the model's context together with its prompt has no figure
    values = iter([float(np.exp(-np.mean(s))) if s else None for s in scored])
    return score_rows([a.row("perplexity", next(values) if a.is_one else None) for a in found])


def kl_scores(written: Written, asked: Sequence[Asked], run: Run, decoding: Decoding) -> pl.DataFrame:
    """`kl` of every answer; 0 where neither the model nor the prompt is changed.

    Arms with a decoding rule have no such figure, and no row. The backend must know what the arms use.

    Returns:
        Rows of `arm_scores`; null where there is no answer, or it does not fit the model's context.

    Raises:
        SteerworksError: the backend cannot hold steered against unsteered.
    """
    found = answers_of(written, [one for one in asked if not one.arm.extensions])
    nats: dict[int, list[float]] = {}
    for asked_in_words in (False, True):
        # rows of one kind together: those of the item's own prompt share passes
        some = [
            k for k, a in enumerate(found)
            if a.is_one and (a.asked.arm.steered or not a.asked.arm.compared) and a.asked.arm.compared != asked_in_words
        ]  # fmt: skip
        plans = [found[k].asked.plan(run.asking.model_identity, decoding) for k in some]
        plain = [found[k].asked.plain(run.asking.model_identity, decoding) for k in some] if asked_in_words else None
        texts = [found[k].text for k in some]
        more: dict[str, Any] = {} if plain is None else {"against": plain}
        nats |= zip(some, diverge_all(plans, texts, run.asking, run.batch_size, run.progress, **more), strict=True)

    def value(k: int, answer: Answer) -> float | None:
        if not answer.is_one:
            return None
        if not answer.asked.arm.steered and answer.asked.arm.compared:
            return 0.0
        return float(np.mean(nats[k])) if nats[k] else None

    return score_rows([a.row("kl", value(k, a)) for k, a in enumerate(found)])
