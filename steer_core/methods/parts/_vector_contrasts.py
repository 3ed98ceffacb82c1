"""The contrasts of a bench's goals: asked for on purpose, from the corpus, or mined, in the order of the part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from schemas.digest import digest_json
from schemas.specs import MethodSpec
from steer_core.generation.backend import Call
from steer_core.generation.journalled import run_calls
from steer_core.generation.run import Run
from steer_core.goals.space import GoalSpace
from steer_core.methods.driver import failure_of, requests_from, sample_seed
from steer_core.methods.fitting import FitContext, Tables
from steer_core.methods.load import PLAIN_STRATEGY, load_method
from steer_core.methods.protocol import Artifact, Choose, GoalTarget, Request
from steer_core.vectors.goal_contrasts import (
    Answers,
    Found,
    Source,
    choose_contrasts,
    match_texts,
    pair_answers,
)

#: Strategy that asks for more and for less of a goal.
ASKING = "direct"
#: Texts of the training pool that are asked about, for each goal.
ASKED_TEXTS = 64
#: The move that is asked for, in words: `much`.
MOVE = 0.7


def strategy(name: str) -> MethodSpec:
    """A method of one prompt strategy."""
    return MethodSpec.model_validate({"name": name, "parts": [{"kind": "prompt", "strategy": name}]})


def goal_contrasts(order: Sequence[str], cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of `contrast_examples` and of `contrast_sources` for the goals of a bench.

    Args:
        order: the sources, in their order.
        cell: the cell.
        tables: `requests`, `request_goals`, `goal_space`, `seed_corpus`, `corpus_goal_values`, and the answers to the
            training pool, where the method has them.
    """
    space = GoalSpace.from_table(tables["goal_space"])
    plain: Any = load_method(strategy(PLAIN_STRATEGY), cell.model, cell.bench, cell.goals)
    known = [Answers.of_pool(tables["requests"], tables["fit_outcomes"], tables["fit_goal_values"], space)]

    def pairs(goals: Sequence[str], asked_only: bool) -> dict[str, Found]:
        every = known[0]
        for more in known[1:]:
            every = every + more
        return {
            goal: pair_answers(
                every,
                goal,
                space.goals.index(goal),
                messages_of=lambda source: plain.step(source, None, ())[0].messages,
                asked_only=asked_only,
            )
            for goal in goals
        }

    def asked(goals: Sequence[str]) -> Mapping[str, Found]:
        known.append(ask(goals, cell, tables, space))
        return pairs(goals, asked_only=True)

    def corpus(goals: Sequence[str]) -> Mapping[str, Found]:
        texts = tables["seed_corpus"].filter(pl.col("split") == "train")
        z, _ = space.locate(space.matrix(tables["corpus_goal_values"], texts["text_id"]))
        return {goal: match_texts(texts["text"].to_list(), z, goal, space.goals.index(goal)) for goal in goals}

    looks = {"asked": asked, "corpus": corpus, "mined": lambda goals: pairs(goals, asked_only=False)}
    return choose_contrasts(space.goals, {name: looks[name] for name in order})


def ask(goals: Sequence[str], cell: FitContext, tables: Tables, space: GoalSpace) -> Answers:
    """Answers to texts of the training pool under opposite requests: much more, and much less, of one goal."""
    method = load_method(strategy(ASKING), cell.model, cell.bench, cell.goals)
    pool = pool_texts(cell, tables)
    sources = requests_from(pool, tables["request_goals"], space.goals)
    text_ids = dict(pool.select("request_id", "text_id").iter_rows())
    with cell.asking("contrasts") as run:
        run = replace(run, ruler=cell.ruler(space))
        asked: list[tuple[Request, str, int, Call]] = []
        for source in sources:
            for goal in goals:
                for side in (1, -1):
                    request = _towards(source, goal, side)
                    step = method.step(request, Artifact(), ())
                    assert not isinstance(step, Choose)  # the strategy asks once
                    asked.append((source, goal, side, Call(step[0], 0, sample_seed(run.seed, step[0].id, 0))))
        return _measured(asked, text_ids, method.clean, run, space)


def pool_texts(cell: FitContext, tables: Tables) -> pl.DataFrame:
    """One request for each text of the training pool that is asked about, drawn evenly from them."""
    pool = tables["requests"].filter(pl.col("probe") == cell.bench.train_probe)
    pool = pool.unique("text_id", keep="first", maintain_order=True)
    picked = np.unique(np.linspace(0, pool.height - 1, min(pool.height, ASKED_TEXTS)).round().astype(int))
    return pool[picked.tolist()] if pool.height else pool


def most_calls(order: Sequence[str], cell: FitContext) -> int:
    """Answers that are asked for at most."""
    if "asked" not in order or cell.bench.train_probe is None:
        return 0
    return 2 * len(cell.bench.goals) * min(cell.bench.probe(cell.bench.train_probe).n_texts, ASKED_TEXTS)


def _towards(source: Request, goal: str, side: int) -> Request:
    goals = tuple(GoalTarget(t.goal, t.z0, t.z0 + side * MOVE if t.goal == goal else None) for t in source.goals)
    return Request(digest_json([source.request_id, goal, side]), source.text, goals)


def _measured(
    asked: Sequence[tuple[Request, str, int, Call]], text_ids: Mapping[str, str], clean: Any, run: Run, space: GoalSpace
) -> Answers:
    rows = {str(r["response_id"]): r for r in run_calls([call for *_, call in asked], run).iter_rows(named=True)}
    kept: list[tuple[Source, str, tuple[str, int]]] = []
    for source, goal, side, call in asked:
        row = rows[call.response_id(run.asking.execution)]
        text, parsed = clean(str(row["raw"]))
        if failure_of(text, str(row["finish_reason"]), parsed, source.text) is None:
            kept.append((Source(text_ids[source.request_id], source.text), text, (goal, side)))
    if not kept:
        return Answers.none(space)
    landed = run.measuring([text for _, text, _ in kept])
    z = np.array([[np.nan if p[g] is None else p[g] for g in space.goals] for p in landed], dtype=np.float64)
    return Answers(tuple(k[0] for k in kept), tuple(k[1] for k in kept), z, tuple(k[2] for k in kept))
