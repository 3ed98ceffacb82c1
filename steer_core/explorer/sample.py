"""One sample, whole: what was asked, what was read, what came back, how it was measured, what was tried before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from schemas.validation import Rulings
from steer_core.explorer.bench import Bench
from steer_core.explorer.index import Index
from steer_core.reports.examples import Track, in_words
from steer_core.reports.text import Clipped, WordDiff, clip, visible, word_diff
from steer_core.tables.files import filesystem, is_local, join
from steer_core.tables.journal import Journal

#: Further answers to the same plan that are shown.
MOST_ANSWERS = 16
#: Words of a text that a list shows.
SNIPPET = 160


@dataclass(frozen=True)
class Answer:
    """One answer: of the sample, or a further one to the same plan."""

    response_id: str
    chosen: bool
    text: Clipped
    raw: Clipped | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """A request as one arm of a cell answered it. Texts are visible and clipped, not yet escaped.

    Attributes:
        cell: `method|model`.
        arm: `headline`, or the arm's id.
        arm_label: the arm in words.
        request_id: the request.
        probe: its probe.
        source: corpus source of its text.
        asked: the request in words.
        failure: why the answer is none; None where it is one.
        copied: whether the source came back.
        figures: what is measured, by name: of `index.FIGURES`.
        tracks: goal by goal.
        diff: source and answer, word by word.
        empty: whether nothing was written.
        messages: what the model read: (role, text); empty where none is kept.
        made: how it came about where no prompt is kept, in words.
        plan: the plan, as JSON to read; empty where no model was called.
        receipt: the proof of steering; empty where there is none.
        answers: the chosen one, and others to the same plan.
        attempts: requests to an endpoint for these answers.
        rulings: what a judge and people said: (who, what).
    """

    cell: str
    arm: str
    arm_label: str
    request_id: str
    probe: str
    source: str
    asked: str
    failure: str | None
    copied: bool
    figures: dict[str, float | None]
    tracks: tuple[Track, ...]
    diff: WordDiff
    empty: bool
    messages: tuple[tuple[str, Clipped], ...]
    made: str
    plan: str
    receipt: str
    answers: tuple[Answer, ...]
    attempts: tuple[dict[str, Any], ...]
    rulings: tuple[tuple[str, str], ...]


def asked_words(bench: Bench, index: Index, numbers: Sequence[int]) -> list[str]:
    """Requests in words, by number."""
    deltas = index.asked().deltas
    return [
        in_words(bench.goals, {g: float(d[n]) for g, d in deltas.items() if g in bench.goals and np.isfinite(d[n])})
        for n in numbers
    ]


def texts_of(bench: Bench, samples: pl.DataFrame) -> list[tuple[str, str]]:
    """(source, answer) of samples."""
    sources = bench.columns("requests", ["text"])["text"]
    answers: dict[tuple[str, int], str] = {}
    for (cell,), own in samples.group_by("cell"):
        texts = bench.columns("outcomes", ["text"], str(cell))["text"]
        rows = own["row"].to_list()
        answers |= {(str(cell), row): text for row, text in zip(rows, texts.gather(rows), strict=True)}
    return [
        (str(sources[number]), answers[cell, row])
        for cell, number, row in samples.select(pl.col("cell").cast(pl.String), "number", "row").iter_rows()
    ]


def snippet(text: str, most: int = SNIPPET) -> str:
    """The begin of a text in one line."""
    shown = clip(" ".join(text[: 4 * most].split()), most)
    return shown.text + ("…" if shown.left_out or len(text) > 4 * most else "")


def read_sample(bench: Bench, index: Index, row: dict[str, Any]) -> Sample:
    """A sample.

    Args:
        bench: the bench.
        index: of its samples.
        row: a row of `Index.samples`.
    """
    cell, arm, asked = str(row["cell"]), str(row["arm"]), index.asked()
    number = int(row["number"])
    request_id = str(asked.ids[number])
    request = bench.rows("requests").row(number, named=True)
    outcome = bench.columns("outcomes", ["response_id", "text"], cell).row(int(row["row"]), named=True)
    responses = _with(bench, "responses", cell, pl.col("response_id") == outcome["response_id"])
    chosen = responses.row(0, named=True) if responses.height else None
    others = (
        _with(bench, "responses", cell, pl.col("plan_id") == chosen["plan_id"]) if chosen is not None else responses
    )
    empty = not outcome["text"].strip()
    return Sample(
        cell=cell,
        arm=arm,
        arm_label=_arm_label(bench, cell, arm),
        request_id=request_id,
        probe=str(row["probe"]),
        source=request["source"],
        asked=asked_words(bench, index, [number])[0],
        failure=row["failure"],
        copied=bool(row["copied"]),
        figures={name: row[name] for name in row if name in _FIGURES},
        tracks=_tracks(bench, cell, arm, request_id),
        # nothing was removed where nothing was written
        diff=word_diff(request["text"], request["text"] if empty else outcome["text"]),
        empty=empty,
        messages=_messages(chosen["plan"]) if chosen else (),
        made=_made(row, chosen),
        plan=visible(json.dumps(_shortened(json.loads(chosen["plan"])), indent=2, ensure_ascii=False))
        if chosen
        else "",
        receipt=visible(json.dumps(json.loads(chosen["receipt"]), indent=2)) if chosen and chosen["receipt"] else "",
        answers=_answers(others, outcome["response_id"]),
        attempts=_attempts(bench, cell, others["response_id"].to_list()),
        rulings=_rulings(bench, cell, request_id, outcome["response_id"]),
    )


_FIGURES = (
    "error", "requested", "moved", "left", "miscalibration", "orthogonality", "meaning_content", "meaning_chrf",
    "meaning_embedding", "completion_tokens", "prompt_tokens", "n_calls",
)  # fmt: skip


def _with(bench: Bench, table: str, cell: str, wanted: pl.Expr) -> pl.DataFrame:
    """Rows of a table of a cell, decoding no more of its file than what finds them."""
    url = bench.url(table, cell)
    fs, path = filesystem(url)
    if not is_local(fs) or not fs.exists(path):
        return bench.rows(table, cell).filter(wanted)
    names = bench.contract(table).names()
    lazy = pl.scan_parquet(path, hive_partitioning=False, parallel="prefiltered", glob=False)
    if lazy.collect_schema().names() != names:
        # of an older version, which is migrated whole
        return bench.rows(table, cell).filter(wanted)
    return lazy.filter(wanted).collect()


def _tracks(bench: Bench, cell: str, arm: str, request_id: str) -> tuple[Track, ...]:
    here = pl.col("request_id") == request_id
    starts = {g["goal"]: g for g in bench.rows("request_goals").filter(here).iter_rows(named=True)}
    moves = _with(bench, "goal_movements", cell, here & (pl.col("arm_id") == arm))
    moved = {m["goal"]: m for m in moves.iter_rows(named=True)}
    return tuple(
        Track(
            goal=goal,
            z0=starts[goal]["z0"],
            z_star=starts[goal]["z_star"],
            z_hat=moved[goal]["z_hat"] if goal in moved else None,
            raw_start=starts[goal]["z0_raw"],
            raw_got=moved[goal]["value"] if goal in moved else None,
            unit=bench.goals[goal].unit if goal in bench.goals else "",
        )
        for goal in bench.axes
        if goal in starts
    )


def _messages(plan: str) -> tuple[tuple[str, Clipped], ...]:
    parsed = json.loads(plan)
    if isinstance(parsed, dict) and isinstance(parsed.get("messages"), list):
        return tuple((visible(str(m.get("role", "?"))), clip(str(m.get("content", "")))) for m in parsed["messages"])
    if isinstance(parsed, dict) and isinstance(parsed.get("text"), str):
        return (("text", clip(parsed["text"])),)
    return ()


def _made(row: dict[str, Any], chosen: dict[str, Any] | None) -> str:
    if chosen is not None:
        return ""
    if row["n_calls"]:
        return "The answer's prompt is not kept here."
    return "The source itself: no model was called." if row["copied"] else "No model was called here for it."


def _shortened(plan: Any) -> Any:
    """A plan without its messages, which are shown as they are."""
    return {k: v for k, v in plan.items() if k not in ("messages", "text")} if isinstance(plan, dict) else plan


def _answers(rows: pl.DataFrame, chosen: str) -> tuple[Answer, ...]:
    ordered = rows.sort(pl.col("response_id") != chosen, "sample_index").head(MOST_ANSWERS)
    return tuple(
        Answer(
            response_id=r["response_id"],
            chosen=r["response_id"] == chosen,
            text=clip(r["text"]),
            raw=clip(r["raw"]) if r["raw"] != r["text"] else None,
            finish_reason=r["finish_reason"],
            prompt_tokens=r["prompt_tokens"],
            completion_tokens=r["completion_tokens"],
            seconds=r["seconds"],
        )
        for r in ordered.iter_rows(named=True)
    )


def _attempts(bench: Bench, cell: str, responses: list[str]) -> tuple[dict[str, Any], ...]:
    rows = bench.rows("attempts", cell).filter(pl.col("response_id").is_in(responses)).sort("started", "number")
    return tuple({**r, "detail": clip(r["detail"], 300).text} for r in rows.iter_rows(named=True))


def _rulings(bench: Bench, cell: str, request_id: str, response_id: str) -> tuple[tuple[str, str], ...]:
    """What the judge says of this very answer, and what people do: another arm's answer is another one."""
    here = (pl.col("request_id") == request_id) & (pl.col("response_id") == response_id)
    found = []
    for row in bench.rows("groundedness", cell).filter(here).iter_rows(named=True):
        verdict = row["verdict"]
        said = "no verdict" if verdict is None else f"keeps to its source: {verdict:.2f} of 1"
        found.append((f"judge {row['judge_id'][:8]}", said))
    method, model = cell.split("|")
    journal = Journal(join(bench.root, bench.name, "rulings", f"model={model}", f"method={method}"), Rulings)
    for row in journal.read().filter(here).sort("at").iter_rows(named=True):
        word = {True: "it stays with its source", False: "it does not stay with its source", None: "taken back"}
        note = f" ({clip(row['note'], 200).text})" if row["note"] else ""
        found.append((clip(row["by"], 80).text, word[row["grounded"]] + note))
    return tuple(found)


def _arm_label(bench: Bench, cell: str, arm: str) -> str:
    rows = bench.rows("probe_arms", cell).filter(pl.col("arm_id") == arm)
    return str(rows["label"][0]) if rows.height else arm
