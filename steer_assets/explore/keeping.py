"""What was tried in the playground, turned into what a bench can measure: pairs of a behavior, or a method."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl
import yaml

from schemas.specs import GoalSpec, MethodSpec
from steer_core.methods.protocol import GoalTarget, Request
from steer_core.methods.wording import direct_instruction, with_text
from steer_core.tables.errors import ConfigError

#: Move of a goal, in goal-space units, from which a rewrite is a pair of more and less of it.
MOVED = 0.05
#: Examples that a method shows for each request.
SHOWN = 3


def chosen(tried: pl.DataFrame, ids: Sequence[str]) -> pl.DataFrame:
    """Rows of `schemas.Tried` by id; all of them where none is named.

    Raises:
        ConfigError: there is no such row.
    """
    if not ids:
        return tried
    if odd := set(ids) - set(tried["tried_id"]):
        raise ConfigError(f"nothing was tried here that is called {min(odd)[:40]!r}")
    return tried.filter(pl.col("tried_id").is_in(list(ids)))


def pairs(tried: pl.DataFrame, ids: Sequence[str], goals: Mapping[str, GoalSpec]) -> list[dict[str, str]]:
    """Rows of a behavior's file (`kind: pairs`).

    * Answers under a vector against the unsteered answer to the same prompt. A negative strength leads away from the
      concept, so there the unsteered answer is the positive one.
    * Rewrites that moved the one goal that was asked for as asked, by `MOVED` at least, against their source: the
      side with more of the goal is the positive one.

    Of answers that are none, or the same, there is no pair; those that were cut off are as good as others.

    Args:
        tried: rows of `schemas.Tried`, the last first.
        ids: those wanted; empty: all. Unsteered answers are taken from wherever they are.
        goals: goal -> its spec, for the words of a request.
    """
    usable = tried.filter(pl.col("failure").fill_null("truncated") == "truncated")
    wanted = usable.join(chosen(tried, ids).select("tried_id"), on="tried_id", how="semi", maintain_order="left")
    found = [*_steered(usable, wanted), *_rewritten(wanted, goals)]
    return list({(r["prompt"], r["positive"], r["negative"]): r for r in found}.values())


def _steered(usable: pl.DataFrame, wanted: pl.DataFrame) -> list[dict[str, str]]:
    key = ["text", "cell", "concept"]
    under = pl.col("kind") == "strength"
    off = usable.filter(under, pl.col("strength").is_null()).unique(key, keep="first", maintain_order=True)
    on = wanted.filter(under, pl.col("strength").is_not_null(), pl.col("strength") != 0)
    both = on.join(off.select(*key, plain="answer"), on=key, maintain_order="left")
    found = []
    for row in both.filter(pl.col("answer") != pl.col("plain")).iter_rows(named=True):
        sides = (row["answer"], row["plain"])
        positive, negative = sides if row["strength"] > 0 else sides[::-1]
        found.append({"prompt": row["text"], "positive": positive, "negative": negative, "concept": row["concept"]})
    return found


def _rewritten(wanted: pl.DataFrame, goals: Mapping[str, GoalSpec]) -> list[dict[str, str]]:
    found = []
    for row in wanted.filter(pl.col("kind") == "targets").iter_rows(named=True):
        targets, start, end = (json.loads(row[c]) for c in ("targets", "z0", "z_hat"))
        if len(targets) != 1:
            continue
        ((goal, target),) = targets.items()
        if goal not in goals or start[goal] is None or end[goal] is None:
            continue
        asked, got = target - start[goal], end[goal] - start[goal]
        if asked * got <= 0 or abs(got) < MOVED:
            continue
        request = Request(row["tried_id"], row["text"], (GoalTarget(goal, start[goal], target),))
        prompt = with_text(direct_instruction(request, goals, 0, negative=False, only=True), row["text"])
        sides = (row["answer"], row["text"]) if asked > 0 else (row["text"], row["answer"])
        found.append({"prompt": prompt, "positive": sides[0], "negative": sides[1], "concept": goal})
    return found


def method(
    tried: pl.DataFrame,
    ids: Sequence[str],
    methods: Mapping[str, MethodSpec],
    on_probe: Collection[str],
    goals: Collection[str],
) -> tuple[str, dict[str, Any]]:
    """A method, as its name and its entry in `methods.yaml`.

    * One answer under a vector: the same method, at that strength alone, in sweeps and on the probe.
    * Rewrites: the direct prompt, after them as examples (`few-shot`).

    Args:
        tried: rows of `schemas.Tried`.
        ids: which.
        methods: name -> method, of the bench.
        on_probe: texts of the test probes: an example from there would tell what is measured.
        goals: of the bench.

    Raises:
        ConfigError: no method can be made of these; says why.
    """
    rows = list(chosen(tried, ids).iter_rows(named=True)) if ids else []
    kinds = {row["kind"] for row in rows}
    if kinds == {"strength"} and len(rows) == 1:
        return _at_strength(rows[0], methods)
    if kinds == {"targets"}:
        return _by_example(rows, {_plain(text) for text in on_probe}, goals)
    raise ConfigError("a method is made of one answer under a vector, or of rewrites towards targets: tick those")


def _at_strength(row: Mapping[str, Any], methods: Mapping[str, MethodSpec]) -> tuple[str, dict[str, Any]]:
    strength, name = row["strength"], row["cell"].split("|")[0]
    if strength is None or strength == 0:
        raise ConfigError("this answer is unsteered: there is no strength that a method could have")
    if name not in methods:
        raise ConfigError(f"method {name!r} is on this bench no more")
    entry = methods[name].model_dump(mode="json", exclude_unset=True, exclude={"name", "control"})
    part = next((p for p in entry["parts"] if p["kind"] == "vector"), None)
    if part is None:
        raise ConfigError(f"method {name!r} has no vector any more: it was another method when this was tried")
    part |= {"strengths": [strength], "doses": [strength], "on_probe": [strength]}
    said = f"{'minus-' if strength < 0 else ''}{abs(strength):g}"
    entry["description"] = f"{name} at strength {strength:+g} alone, as it was tried by hand"
    return f"{name}-at-{said}", entry


def _by_example(
    rows: Sequence[Mapping[str, Any]], on_probe: Collection[str], goals: Collection[str]
) -> tuple[str, dict[str, Any]]:
    examples = []
    for row in rows:
        targets, start = json.loads(row["targets"]), json.loads(row["z0"])
        what = f"the rewrite by {row['cell']} of {row['text'][:40]!r}"
        if row["failure"] is not None:
            raise ConfigError(f"{what} is no answer ({row['failure']}): it is no example")
        if not targets:
            raise ConfigError(f"{what} was asked for nothing: it is no example")
        if row["answer"].split() == row["text"].split():
            raise ConfigError(f"{what} changed nothing: it is no example")
        if odd := [goal for goal in targets if goal not in goals]:
            raise ConfigError(f"{what} was asked for {odd[0]!r}, which is no goal of this bench any more")
        if _plain(row["text"]) in on_probe:
            raise ConfigError(f"{what} is of a text of the test probe: as an example it would tell what is measured")
        asked = {goal: [start[goal], target] for goal, target in targets.items()}
        examples.append({"text": row["text"], "rewrite": row["answer"], "asked": asked})
    shown = min(SHOWN, len(examples))
    options = {"n_examples": shown, "examples": examples}
    described = f"The direct prompt, after {shown} of {len(examples)} rewrites that were chosen by hand"
    parts = [{"kind": "prompt", "strategy": "few-shot", "options": options}]
    mark = min(row["tried_id"] for row in rows)[:6]
    return f"by-example-{mark}", {"description": described, "parts": parts}


def _plain(text: str) -> str:
    """A text as a form may have sent it: white space aside."""
    return " ".join(text.split())


def as_yaml(name: str, entry: Mapping[str, Any]) -> str:
    """The file: a `methods.yaml` of a folder of its own, named in `STEERWORKS_CONFIG` beside the others."""
    head = (
        "# A method that was tried in the playground. Put this file, as methods.yaml, into a folder of your\n"
        f"# configuration, and add {name!r} to the `methods` of a bench.\n"
    )
    return head + yaml.safe_dump({name: dict(entry)}, sort_keys=False, allow_unicode=True, width=120)
