"""Which answers of a described behavior are on the side that they were asked for: by a judge, or by the instructions.

1. The judge is asked about all answers. It is used where it can tell the two sides apart: where the lower end of its
   AUROC, an answer that was asked for the trait above one that was asked for its opposite, is above .5.
2. Otherwise the instructions filter. An answer's score is how much likelier it is, a token, under the one instruction
   of its pair than under the other: log p(answer | for, question) - log p(answer | against, question), in nats. Where
   an instruction changes nothing it is 0, and the AUROC is .5.
3. A question's sample is kept where the answer for the trait is above the middle and the one for its opposite below.
   The instructions' middle is 0. A judge's lies between the mean verdicts on the two sides: one that orders well and
   says yes to nearly everything would keep nothing by the middle of its scale.

An AUROC that is not above .5 is said of a judge that cannot tell, and just as well of a model that does nothing
different: the second row of `trait_filters` tells which, for the instructions read the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.described import TraitAnswers, TraitFilters
from steer_core.evaluation.described.prompts import instructions_of
from steer_core.evaluation.judges.judge import Case, Judge, judge_cases
from steer_core.generation.forced import FORCED, score_all
from steer_core.generation.run import Progress, Run
from steer_core.statistics import auroc, auroc_interval
from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import SteerworksError

#: AUROC of who guesses.
CHANCE = 0.5
JUDGE, INSTRUCTIONS = "judge", "instructions"


def filter_answers(
    answers: pl.DataFrame,
    prompts: pl.DataFrame,
    run: Run,
    judge: Judge | None,
    *,
    done: pl.DataFrame | None = None,
    keep: Callable[[pl.DataFrame], None] | None = None,
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Answers with what the filter says, and who could have filtered.

    Args:
        answers: rows of `trait_answers` of one behavior.
        prompts: its rows of `trait_prompts`.
        run: who wrote the answers, and scores them.
        judge: the behavior's judge; None where it has none that reads.
        done: rows of `judgements` so far, of any judges.
        keep: given new verdicts batch by batch.
        progress: told after each batch of verdicts.

    Returns:
        Rows of `trait_answers`, and of `trait_filters`.
    """
    known = answers.filter(pl.col("failure").is_null())
    behavior = str(answers["behavior"][0])
    found: dict[str, dict[str, float]] = {}
    notes = {INSTRUCTIONS: ""}
    if judge is not None:
        cases = [
            Case(r["response_id"], r["answer_id"], (Message("user", r["question"]),), r["text"])
            for r in known.iter_rows(named=True)
        ]
        verdicts = judge_cases(judge, cases, done, keep=keep, progress=progress)
        means = dict(verdicts.group_by("item_id").agg(pl.col("value").mean()).drop_nulls().iter_rows())
        middle = _middle(known, means, judge.scale)
        found[JUDGE] = {item: value - middle for item, value in means.items()}
        notes[JUDGE] = f"{judge.rubric}, read by {judge.method}"
    try:
        found[INSTRUCTIONS] = _likelier(known, prompts, run)
    except SteerworksError as error:
        notes[INSTRUCTIONS], found[INSTRUCTIONS] = str(error), {}
    tried = {name: _tried(known, values) for name, values in found.items()}
    used = JUDGE if JUDGE in tried and _tells(tried[JUDGE]) else INSTRUCTIONS
    if used == INSTRUCTIONS and not found[INSTRUCTIONS]:
        # an engine that cannot score leaves nobody to filter: nothing is kept, and the rows say why
        used = ""
    rows = [
        (behavior, name, name == used, value, low, high, 1.0 - n / max(known.height, 1), n, notes[name])
        for name, (value, low, high, n) in tried.items()
    ]
    filters = pl.DataFrame(rows, schema=TraitFilters.dtypes(), orient="row")
    return _kept(answers, found.get(used, {})), filters


def _middle(known: pl.DataFrame, means: Mapping[str, float], scale: tuple[float, float]) -> float:
    """Between the mean verdicts on the two sides; the middle of the scale where one has none."""
    sides: dict[int, list[float]] = {0: [], 1: []}
    for answer, side in known.select("answer_id", "side").iter_rows():
        if answer in means:
            sides[side].append(means[answer])
    if not sides[0] or not sides[1]:
        return sum(scale) / 2.0
    return float(np.mean(sides[0]) + np.mean(sides[1])) / 2.0


def _likelier(known: pl.DataFrame, prompts: pl.DataFrame, run: Run) -> dict[str, float]:
    """How much likelier each answer is, a token, under the instruction for the trait than under its opposite."""
    sides, model = instructions_of(prompts), run.asking.model_identity
    rows = list(known.iter_rows(named=True))
    plans = [
        Plan(model, FORCED, (Message("system", sides[r["pair"]][side]), Message("user", r["question"])))
        for r in rows
        for side in (1, 0)
    ]
    texts = [r["text"] for r in rows for _ in (1, 0)]
    scores = score_all(plans, texts, run.asking, run.batch_size, run.progress)
    found = {}
    for k, row in enumerate(rows):
        one, other = scores[2 * k], scores[2 * k + 1]
        if one and other:
            found[str(row["answer_id"])] = float(np.mean(one) - np.mean(other))
    return found


def _tried(known: pl.DataFrame, values: Mapping[str, float]) -> tuple[float | None, float | None, float | None, int]:
    """AUROC with its interval, and of how many answers anything is said."""
    said: NDArray[np.float64] = np.array([values.get(i, np.nan) for i in known["answer_id"]], dtype=np.float64)
    labels = known["side"].to_numpy() == 1
    there = ~np.isnan(said)
    if not (there & labels).any() or not (there & ~labels).any():
        return None, None, None, int(there.sum())
    low, high = auroc_interval(said, labels, known["question_id"].to_list())
    return auroc(said[there & labels], said[there & ~labels]), low, high, int(there.sum())


def _tells(tried: tuple[float | None, float | None, float | None, int]) -> bool:
    return tried[1] is not None and tried[1] > CHANCE


def _kept(answers: pl.DataFrame, values: Mapping[str, float]) -> pl.DataFrame:
    said = pl.DataFrame(
        {"answer_id": list(values), "own": list(values.values())}, schema={"answer_id": pl.String, "own": pl.Float64}
    )
    rows = answers.join(said, on="answer_id", how="left", maintain_order="left").with_columns(value=pl.col("own"))
    right = pl.when(pl.col("side") == 1).then(pl.col("value") > 0.0).otherwise(pl.col("value") < 0.0).fill_null(False)
    keys = ["question_id", "sample_index"]
    both = (right.all().over(keys)) & (pl.col("side").n_unique().over(keys) == 2)
    return rows.with_columns(kept=both).select(TraitAnswers.names())
