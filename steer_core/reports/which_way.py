"""What should I use for this trait? Asking, showing, and every vector of a model beside each other, at equal cost.

1. Ways are held against asking in a system prompt at equal KL from the model as it is (`beside_asking`), item by item.
   A vector is called better, or worse, where that interval, widened for the number of vectors that are held against it
   (Bonferroni; t of the items), excludes 0. One wrong call among all has at most a 5 % chance.
2. A vector that random directions of its size keep up with at its highest strength is called neither, and so is one
   that was not held against enough of them, or was not run where it costs as much as asking.
3. "Use that" is said of a vector that moves the trait towards the behavior, not of the better of two that do not.
4. What tokens cost is not weighed against what KL costs: the table has both, and the sentence names them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from steer_core.reports.behavior_ranking import behavior_table
from steer_core.reports.numbers import plural, signed, slug_words, span
from steer_core.reports.sweeps import measure_words
from steer_core.statistics import LEVEL, least_controls


@dataclass(frozen=True)
class WhichWay:
    """One trait of one model.

    Attributes:
        behavior, model: which.
        measure: what effects are measured by, in words.
        anchor: id on the page.
        sentence: what to use, as far as that is known.
        rows: a row a way: asking, showing, then vectors by what they add to asking.
    """

    behavior: str
    model: str
    measure: str
    anchor: str
    sentence: str
    rows: tuple[dict[str, Any], ...]


def which_ways(
    findings: pl.DataFrame, controls: Collection[str], links: Mapping[tuple[str, str], str]
) -> tuple[WhichWay, ...]:
    """A section a behavior and model, where somebody asked for it in words.

    Args:
        findings: rows of `schemas.SweepFindings` with the columns `model` and `method` added.
        controls: methods that are controls: left out.
        links: (model, method) -> the cell's page.
    """
    found: list[WhichWay] = []
    # a behavior of several measures is told by the one that it is ranked by
    table = behavior_table(findings).unique(["behavior", "model", "method"], keep="first", maintain_order=True)
    for (behavior, model), own in table.group_by("behavior", "model", maintain_order=True):
        measure = str(own["measure"][0])
        mains = own.filter(pl.col("measure") == measure)
        cells = {
            str(r["method"]): _findings(findings, r) for r in mains.iter_rows(named=True) if r["method"] not in controls
        }
        asked = [c for c in cells.values() if "asked_high" in c]
        if not asked:
            continue
        words = [_words(asked[0], how, said) for how, said in (("asked", "a system prompt"), ("shown", "examples"))]
        rows = [r for r in words if r is not None]
        vectors = called([_vector(name, cell) for name, cell in cells.items()])
        vectors.sort(key=lambda r: -(r["over"] if r["over"] is not None else float("-inf")))
        for row in vectors:
            row["link"] = links.get((str(model), row["way"]))
        found.append(
            WhichWay(
                str(behavior),
                str(model),
                measure_words(measure),
                f"which-{len(found) + 1}",
                sentence(str(behavior), rows, vectors),
                (*rows, *vectors),
            )
        )
    return tuple(found)


def _findings(findings: pl.DataFrame, main: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    own = findings.filter(
        *(pl.col(c) == main[c] for c in ("behavior", "model", "method", "measure", "group", "layers", "positions"))
    )
    return {str(r["finding"]): r for r in own.iter_rows(named=True)}


def _words(cell: Mapping[str, dict[str, Any]], how: str, said: str) -> dict[str, Any] | None:
    effect, tokens = cell.get(f"{how}_high"), cell.get(f"tokens_{how}_high")
    if effect is None:
        return None
    return {
        "way": said, "kind": how, "effect": effect["value"], "effect_low": effect["low"], "effect_high": effect["high"],
        "tokens": None if tokens is None else tokens["value"], "over": None, "over_low": None, "over_high": None,
        "wins": None, "p_random": None, "call": "", "detail": "", "link": None,
    }  # fmt: skip


def _vector(name: str, cell: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    effect, over, wins = (cell.get(k, {}) for k in ("effect_high", "over_asked_high", "wins_asked_high"))
    elsewhere, random = (cell.get(k, {}) for k in ("nearest_asked_high", "p_random_high"))
    detail = (over or elsewhere).get("detail", "")
    return {
        "way": name, "kind": "vector", "effect": effect.get("value"), "effect_low": effect.get("low"),
        "effect_high": effect.get("high"), "tokens": 0.0, "over": over.get("value"), "over_low": over.get("low"),
        "over_high": over.get("high"), "n": over.get("n", 0), "wins": wins.get("value"),
        "p_random": random.get("value"), "n_random": random.get("n", 0), "link": None, "detail": detail,
        "call": "not run at that cost" if elsewhere else "",
    }  # fmt: skip


def called(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Vectors with intervals widened for their number, and what each may be called beside asking.

    Args:
        rows: `over` with the ends of its own 95 % t interval and `n` items; `p_random` of `n_random` directions.
    """
    from scipy.special import stdtrit

    held = [r for r in rows if r["over"] is not None and r["over_low"] is not None and r["n"] > 1]
    found = []
    for row in rows:
        one = dict(row)
        if row in held:
            freedom = row["n"] - 1
            wider = float(stdtrit(freedom, 1 - 0.025 / len(held)) / stdtrit(freedom, 0.975))
            half = wider * (row["over_high"] - row["over_low"]) / 2
            one |= {"over_low": row["over"] - half, "over_high": row["over"] + half}
            if row["p_random"] is None or not row["n_random"]:
                one["call"] = "not held against random directions"
            elif row["n_random"] < least_controls():
                one["call"] = "too few random directions"
            elif row["p_random"] > LEVEL:
                one["call"] = "as random directions"
            elif one["over_low"] > 0.0:
                one["call"] = "better"
            elif one["over_high"] < 0.0:
                one["call"] = "worse"
            else:
                one["call"] = "no difference seen"
        found.append(one)
    return found


def sentence(behavior: str, words: Sequence[Mapping[str, Any]], vectors: Sequence[Mapping[str, Any]]) -> str:
    """What to use, as far as that is known.

    Args:
        behavior: its name.
        words: rows of asking and showing.
        vectors: rows of vectors, called.
    """
    asked = next(r for r in words if r["kind"] == "asked")
    works = asked["effect_low"] is not None and asked["effect_low"] > 0.0
    ends = "" if asked["effect_low"] is None else f" {span(asked['effect_low'], asked['effect_high'])}"
    cost = "" if asked["tokens"] is None else f" and adds {plural(round(asked['tokens']), 'token')} to each call"
    said = f"{slug_words(behavior)}: asking in a system prompt moves it by {signed(asked['effect'])}{ends}{cost}"
    said += "." if works else ", which is not known to be towards it."
    held = [v for v in vectors if v["over_low"] is not None]
    moves = [v for v in held if (v["effect_low"] or 0.0) > 0.0]
    better = [v for v in moves if v["call"] == "better"]
    shown = next((r for r in words if r["kind"] == "shown" and (r["effect_low"] or 0.0) > 0.0), None)
    examples = "" if shown is None else _shown(shown)
    if better:
        best = max(better, key=lambda v: v["over"])
        more = f"{signed(best['over'])} {span(best['over_low'], best['over_high'])}"
        return f"{said}{examples} At equal KL {best['way']} moves it by {more} more, and adds no token: use that."
    if works:
        if not held:
            return f"{said}{examples} No vector was held against it at equal KL."
        return (
            f"{said}{examples} Of {plural(len(held), 'vector')} held against it at equal KL none is known to move it "
            "farther: ask."
        )
    # one of several that random directions keep up with would pass for one in twenty too often
    level = LEVEL / max(len(moves), 1)
    able = [v for v in moves if v["p_random"] is not None and v["p_random"] <= level]
    if able:
        return f"{said}{examples} {', '.join(v['way'] for v in able)} moves it, beyond random directions."
    few = [v["way"] for v in moves if v["n_random"] and v["n_random"] < least_controls(level)]
    if few:
        takes = f"to tell {plural(len(moves), 'vector')} from random directions takes {least_controls(level)} of them"
        return f"{said}{examples} {', '.join(few)} may: {takes}."
    return said + (examples or " Nothing here is known to move it.")


def _shown(row: Mapping[str, Any]) -> str:
    cost = "" if row["tokens"] is None else f", at {plural(round(row['tokens']), 'token')} more"
    return (
        f" Shown in examples it moves by {signed(row['effect'])} {span(row['effect_low'], row['effect_high'])}{cost}."
    )
