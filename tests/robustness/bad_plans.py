"""Vectors as they are made by hand and as tables keep them, and plans: numbers and settings that are none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
from bad_world import Case, vector

from steer_core.steering.plan import Plan
from steer_core.steering.vector import from_tables, to_tables

NAN, INF = math.nan, math.inf
ONES = np.ones((1, 8), np.float32)


def of_numbers() -> Iterator[Case]:
    for what, fields, said in (
        ("no tensor", {"tensors": {}}, "'tea'"),
        ("lists for tensors", {"tensors": {"direction": [[1.0, 2.0]]}}, "'direction'"),
        ("whole numbers", {"tensors": {"direction": np.ones((1, 8), np.int64)}}, "'direction'"),
        ("complex numbers", {"tensors": {"direction": np.ones((1, 8), np.complex64)}}, "'direction'"),
        ("texts", {"tensors": {"direction": np.array([["a"] * 8])}}, "'direction'"),
        ("a flat direction", {"tensors": {"direction": np.ones(8, np.float32)}}, "'tea'"),
        ("two widths", {"tensors": {"direction": ONES, "center": np.ones((1, 4), np.float32)}}, "'tea'"),
        ("NaN", {"tensors": {"direction": ONES * NAN}}, "not finite"),
        ("a layer below 0", {"layer": -1}, "layer -1"),
        ("half a layer", {"layer": 1.5}, "1.5"),
        ("a layer in words", {"layer": "1"}, "'1'"),
        ("a layer that is true", {"layer": True}, "True"),
        ("an unknown site", {"site": "logits"}, "'logits'"),
        ("a scalar in words", {"scalars": {"residual_norm": "3"}}, "residual_norm"),
        ("a scalar that is none", {"scalars": {"residual_norm": None}}, "residual_norm"),
        ("an infinite scalar", {"scalars": {"residual_norm": -INF}}, "residual_norm"),
        ("a curve of NaN", {"kl_curve": ((1.0, NAN),)}, "curve"),
        ("a curve of infinity", {"kl_curve": ((INF, 1.0),)}, "curve"),
    ):
        yield Case(f"vector made by hand: {what}", lambda w, f=fields: vector(**f), [said])


PLAN: dict[str, Any] = {
    "model": "abc",
    "decoding": {"max_new_tokens": 4, "temperature": 0.0, "top_p": 1.0, "min_p": 0.0},
    "messages": [{"role": "user", "content": "Hi"}],
    "interventions": [{"operator": "add", "vector": "v", "layer": 1, "coefficient": 0.5}],
}


def _plan(**changes: Any) -> str:
    return json.dumps({k: v for k, v in {**PLAN, **changes}.items() if v is not ...})


def _step(**changes: Any) -> str:
    step = {k: v for k, v in {**PLAN["interventions"][0], **changes}.items() if v is not ...}
    return _plan(interventions=[step])


def of_plans() -> Iterator[Case]:
    for what, data, said in (
        ("torn", _plan()[:-9], "JSON"),
        ("empty", "", "JSON"),
        ("a list", "[]", "plan"),
        ("no model", _plan(model=...), "model"),
        ("no decoding", _plan(decoding=...), "decoding"),
        ("a temperature below 0", _plan(decoding={"temperature": -1}), "temperature"),
        ("an unknown setting of decoding", _plan(decoding={"top_k": 1}), "top_k"),
        ("no prompt", _plan(messages=...), "messages"),
        ("two prompts", _plan(text="x"), "messages"),
        ("a message without a role", _plan(messages=[{"content": "Hi"}]), "role"),
        ("a message of an unknown role", _plan(messages=[{"role": "tool", "content": "Hi"}]), "tool"),
        ("a message that is a number", _plan(messages=[{"role": "user", "content": 3}]), "content"),
        ("messages that are a text", _plan(messages="Hi"), "messages"),
        ("no message", _plan(messages=[]), "messages"),
        ("tokens in words", _plan(messages=..., tokens=["a"]), "tokens"),
        ("tokens below 0", _plan(messages=..., tokens=[-1]), "tokens"),
        ("an unknown field", _plan(colour="red"), "colour"),
        ("a step without a layer", _step(layer=...), "layer"),
        ("a step at a layer below 0", _step(layer=-1), "layer"),
        ("a step at half a layer", _step(layer=0.5), "layer"),
        ("a step of infinite strength", _step(coefficient=1e999), "coefficient"),
        ("a step of no strength", _step(coefficient=None), "coefficient"),
        ("a step with an unknown field", _step(colour="red"), "colour"),
        ("a step at an unknown site", _step(site="logits"), "site"),
        ("a step at no positions", _step(positions="span:5:2"), "span:5:2"),
        ("a gate without a threshold", _step(gate={"vector": "v", "layer": 1}), "threshold"),
        ("an extension without a name", _plan(extensions=[{"settings": {}}]), "name"),
    ):
        yield Case(f"plan: {what}", lambda w, d=data: Plan.from_json(d), [said])


def of_tables() -> Iterator[Case]:
    """Tables of vectors that do not belong together."""

    def tables(change: Callable[[pl.DataFrame, pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]]) -> object:
        return from_tables(*change(*to_tables([vector(), vector(2)])), model="abc", width=8)

    for what, change, said in (
        ("no numbers", lambda v, t: (v, t.head(0)), "'tea'"),
        ("numbers of one missing", lambda v, t: (v, t.head(1)), "'tea'"),
        ("another scalar", lambda v, t: (v.with_columns(scalars=pl.lit('{"residual_norm":4.0}')), t), "changed by hand"),
        ("scalars that are no JSON", lambda v, t: (v.with_columns(scalars=pl.lit("{")), t), "'tea' at layer 1 is damaged"),
        ("a lineage that is no JSON", lambda v, t: (v.with_columns(lineage=pl.lit("")), t), "'tea' at layer 1 is damaged"),
        ("another layer", lambda v, t: (v.with_columns(layer=pl.lit(3)), t), "changed by hand"),
        ("another model", lambda v, t: (v.with_columns(model=pl.lit("xyz")), t), "fitted on model xyz"),
        ("another width", lambda v, t: (v.with_columns(width=pl.lit(16)), t), "width 16"),
        ("a row of another width", lambda v, t: (v, pl.concat([t, t.with_columns(row=pl.lit(1, dtype=pl.Int64), values=pl.lit([1.0], dtype=pl.List(pl.Float32)))])), "'direction' of vector"),
        ("a number that is none", lambda v, t: (v, t.with_columns(pl.col("values").list.eval(pl.element() * NAN))), "not finite"),
    ):  # fmt: skip
        yield Case(f"tables of vectors: {what}", lambda w, c=change: tables(c), [said])
