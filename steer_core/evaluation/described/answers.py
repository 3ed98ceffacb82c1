"""Answers to the questions of a described behavior, under both instructions of a pair.

A question has one pair of instructions, the next question the next pair, so that all are asked about as often; both
sides of a question have the same seed.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from schemas.behaviors import DescribedBehavior
from schemas.described import TraitAnswers
from schemas.digest import digest_json
from schemas.specs import Decoding
from steer_core.evaluation.arms.answers import failure_of
from steer_core.evaluation.arms.items import item_seed
from steer_core.evaluation.described.prompts import instructions_of, questions_of
from steer_core.evaluation.refusals import is_refusal
from steer_core.generation.backend import Call
from steer_core.generation.journalled import printable, run_calls
from steer_core.generation.run import Run
from steer_core.steering.plan import Message, Plan


def write_answers(
    source: DescribedBehavior, prompts: pl.DataFrame, run: Run, *, clean: Callable[[str], str] = str.strip
) -> pl.DataFrame:
    """Rows of `trait_answers`, none of them kept yet; what the journal holds is not asked again.

    Args:
        source: the behavior's.
        prompts: rows of `trait_prompts` of it.
        run: who answers.
        clean: takes the answer out of what was written.

    Raises:
        SteerworksError: the engine cannot sample.
    """
    decoding = Decoding(max_new_tokens=source.max_new_tokens, temperature=source.temperature)
    sides, model = instructions_of(prompts), run.asking.model_identity
    pairs = sorted(sides)
    calls: list[tuple[dict[str, object], Call]] = []
    for place, question in enumerate(questions_of(prompts)):
        pair, text = pairs[place % len(pairs)], str(question["text"])
        for side in (1, 0):
            plan = Plan(model, decoding, (Message("system", sides[pair][side]), Message("user", text)))
            for sample in range(source.samples):
                row = {
                    "behavior": question["behavior"],
                    "answer_id": digest_json([question["prompt_id"], sides[pair][side], sample]),
                    "question_id": question["prompt_id"],
                    "question": text,
                    "split": question["split"],
                    "pair": pair,
                    "side": side,
                    "instruction": sides[pair][side],
                    "sample_index": sample,
                }
                seed = item_seed(source.seed, str(question["prompt_id"]), sample)
                calls.append((row, Call(plan, sample, seed)))
    written = {r["response_id"]: r for r in run_calls([c for _, c in calls], run).iter_rows(named=True)}
    rows = []
    for row, call in calls:
        response = written[call.response_id(run.asking.execution)]
        said = printable(clean(str(response["raw"])))
        failure = failure_of(said, str(response["finish_reason"]))
        if failure in (None, "truncated"):
            # what was cut off is an answer as far as it goes
            failure = "refusal" if is_refusal(said) else None
        answer = {"response_id": response["response_id"], "text": said, "failure": failure}
        rows.append({**row, **answer, "value": None, "kept": False})
    return pl.DataFrame(rows, schema=TraitAnswers.dtypes(), orient="row")
