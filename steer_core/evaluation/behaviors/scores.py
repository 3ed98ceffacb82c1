"""What is measured on open answers besides the behavior: do they still read well, and how far is the model pushed?

* `length`: tokens written. `truncated`, `failed`: 1 where the answer was cut off, or is none at all (empty, overlong).
* `perplexity`: of the answer under the unsteered model after the item's own prompt: exp(mean nats a token). Fluency is
  judged by a model that is not pushed; a steered model finds its own derailments likely.
* `kl`: KL(steered || unsteered) in nats a token, mean over the answer's tokens, each after what was written before it
  (so over the answers that the steered model gives). 0 by definition where nothing is done to activations.
* `refused`: 1 where the answer declines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from schemas.specs import Decoding
from steer_core.evaluation.behaviors.plans import batches, interventions_of, messages_of, plan_of, score_rows
from steer_core.evaluation.behaviors.run import SweepRun, score_all
from steer_core.generation.backend import Backend
from steer_core.generation.runner import Progress
from steer_core.steering.plan import Plan

#: Bumped when the same answers give other scores.
VERSION = "1"
Rows = list[tuple[str, str, int, str, str, float | None]]


def answer_scores(
    run: SweepRun,
    arms: pl.DataFrame,
    items: pl.DataFrame,
    *,
    refused: Callable[[str], bool] | None = None,
) -> pl.DataFrame:
    """Measures that need no model: `length`, `truncated`, `failed` and, with `refused`, the refusal rate.

    Args:
        run: answers and responses of the sweep.
        arms: rows of `sweep_arms`; answers of other arms are left aside.
        items: rows of `behavior_items`.
        refused: whether a cleaned answer declines; None: not measured.

    Returns:
        Rows of `arm_scores`; `refused` is null where there is no answer.
    """
    tokens = dict(run.responses.select("response_id", "completion_tokens").iter_rows())
    rows: Rows = []
    for answer in answered(run.answers, arms, items).iter_rows(named=True):
        head = _head(answer)
        none = answer["failure"] in ("empty", "overlong")
        rows.append((*head, "length", float(tokens[answer["response_id"]])))
        rows.append((*head, "truncated", float(answer["failure"] == "truncated")))
        rows.append((*head, "failed", float(none)))
        if refused is not None:
            rows.append((*head, "refused", None if none else float(refused(answer["text"]))))
    return score_rows(rows)


def perplexity_scores(
    run: SweepRun,
    arms: pl.DataFrame,
    items: pl.DataFrame,
    backend: Backend,
    *,
    model_identity: str,
    decoding: Decoding,
    batch_size: int,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """`perplexity` of every answer under the unsteered model after the item's own prompt (no arm's system prompt).

    Returns:
        Rows of `arm_scores`; null where there is no answer. Equal answers to an item are scored once.

    Raises:
        SteerworksError: the backend cannot score.
    """
    found = answered(run.answers, arms, items).to_dicts()
    written = [a for a in found if a["text"].strip()]
    plans = [Plan(model_identity, decoding, messages_of(a["messages"])) for a in written]
    scored = score_all(plans, [a["text"] for a in written], backend, batch_size, progress)
    values = {_key(a): float(np.exp(-np.mean(s))) for a, s in zip(written, scored, strict=True)}
    return score_rows([(*_head(a), "perplexity", values.get(_key(a))) for a in found])


def kl_scores(
    run: SweepRun,
    arms: pl.DataFrame,
    items: pl.DataFrame,
    backend: Backend,
    *,
    model_identity: str,
    decoding: Decoding,
    batch_size: int,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """`kl` of every answer of the steered arms, and 0 for the unsteered one; prompt arms have another prompt and none.

    The backend must hold the arms' vectors (`run_arms` gives them).

    Returns:
        Rows of `arm_scores`; null where there is no answer.

    Raises:
        SteerworksError: the backend cannot hold steered against unsteered.
    """
    chosen = arms.filter(pl.col("role") != "prompt")
    found = answered(run.answers, chosen, items).to_dicts()
    by_id = {a["arm_id"]: a for a in chosen.iter_rows(named=True)}
    steered = [a for a in found if a["text"].strip() and interventions_of(by_id[a["arm_id"]])]
    plans = [plan_of(by_id[a["arm_id"]], messages_of(a["messages"]), model_identity, decoding) for a in steered]
    nats = diverge_all(plans, [a["text"] for a in steered], backend, batch_size, progress)
    values = {_key(a): float(np.mean(k)) for a, k in zip(steered, nats, strict=True)}
    idle = {_key(a) for a in found if a["text"].strip()} - set(values)
    return score_rows([(*_head(a), "kl", 0.0 if _key(a) in idle else values.get(_key(a))) for a in found])


def diverge_all(
    plans: list[Plan],
    continuations: list[str],
    backend: Backend,
    batch_size: int,
    progress: Progress | None = None,
) -> list[list[float]]:
    """`backend.diverge` of any number of rows, in batches of like length.

    Raises:
        SteerworksError: the backend cannot hold steered against unsteered.
    """
    for plan in plans:
        backend.capabilities.refuse(plan, "diverge")
    lengths = [backend.prompt_tokens(p) + len(c) // 3 for p, c in zip(plans, continuations, strict=True)]
    found: dict[int, list[float]] = {}
    for rows in batches(lengths, batch_size):
        nats = backend.diverge([plans[i] for i in rows], [continuations[i] for i in rows])
        found |= dict(zip(rows, nats, strict=True))
        if progress is not None:
            progress(len(found), len(plans))
    return [found[i] for i in range(len(plans))]


def answered(answers: pl.DataFrame, arms: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Answers of these arms with their item's group, prompt and example answers."""
    columns = items.select("item_id", "behavior", "group", "messages", "positive", "negative")
    kept = answers.join(arms.select("arm_id"), on="arm_id", how="semi", maintain_order="left")
    return kept.join(columns, on="item_id", how="inner", maintain_order="left", validate="m:1")


def _head(answer: dict[str, Any]) -> tuple[str, str, int, str]:
    return answer["arm_id"], answer["item_id"], answer["sample_index"], answer["group"]


def _key(answer: dict[str, Any]) -> tuple[str, str, int]:
    return answer["arm_id"], answer["item_id"], answer["sample_index"]
