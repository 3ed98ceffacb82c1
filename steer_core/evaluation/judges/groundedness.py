"""Does an answer stay with what it was asked? A judge's verdict beside the words that the two share.

Neither is trusted alone: judges raise many false alarms (Chang et al. 2025 overruled most of them by hand), and words
say nothing of a good paraphrase. Where the two disagree the row is marked for a look.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from steer_core.evaluation.judges.judge import Case, Judge, judge_cases
from steer_core.evaluation.meaning import STOP_WORDS
from steer_core.generation.run import Progress

#: Share of the prompt's content words from which the words alone speak for an answer.
LEAST_SHARED = 0.2
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def check_groundedness(
    judge: Judge,
    cases: Sequence[Case],
    *,
    about: Mapping[str, str] | None = None,
    done: pl.DataFrame | None = None,
    keep: Callable[[pl.DataFrame], None] | None = None,
    least_shared: float = LEAST_SHARED,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Verdict and lexical evidence for each case.

    Args:
        judge: with a yes-or-no rubric such as `grounded`.
        cases: what is checked.
        about: item_id -> the text whose words count; None: the whole prompt of each case.
        done: rows of `judgements` so far, of any judges.
        keep: given new rows batch by batch.
        least_shared: `shared` from which the words speak for the answer.
        batch_size: cases put to the judge together.
        progress: told after each batch.

    Returns:
        Columns response_id, item_id, verdict (mean over repeats, 1: stays with the task; null: unparsed or no answer),
        shared (see `shared_words`), grounded (verdict above the middle of the scale; null with it), review (no verdict,
        or judge and words disagree).
    """
    rows = judge_cases(judge, cases, done, batch_size=batch_size, keep=keep, progress=progress)
    verdicts = rows.group_by("response_id", "item_id", maintain_order=True).agg(verdict=pl.col("value").mean())
    words = pl.DataFrame(
        [(c.response_id, c.item_id, shared_words(_asked(c, about), c.response)) for c in cases],
        schema={"response_id": pl.String, "item_id": pl.String, "shared": pl.Float64},
        orient="row",
    ).unique(["response_id", "item_id"], maintain_order=True)
    grounded = pl.col("verdict") > sum(judge.scale) / 2.0
    # a prompt without content words gives no evidence, and so no disagreement
    speaks = pl.col("shared") >= least_shared
    return words.join(verdicts, on=["response_id", "item_id"], how="left", maintain_order="left").select(
        "response_id",
        "item_id",
        "verdict",
        "shared",
        grounded=grounded,
        review=(pl.col("verdict").is_null() | (grounded != speaks).fill_null(False)),
    )


def _asked(case: Case, about: Mapping[str, str] | None) -> str:
    return " ".join(m.content for m in case.messages) if about is None else about[case.item_id]


def shared_words(prompt: str, answer: str) -> float | None:
    """Share of the prompt's distinct content words whose stem occurs in the answer, in [0, 1].

    Content words are those outside `meaning.STOP_WORDS`, stemmed (Porter 1980). None for a prompt without any.
    """
    asked, said = _stems(prompt), _stems(answer)
    return len(asked & said) / len(asked) if asked else None


def _stems(text: str) -> set[str]:
    from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]  # a second to import

    stemmer = PorterStemmer()
    return {stemmer.stem(w) for w in _WORD.findall(text.lower()) if w not in STOP_WORDS}
