"""A person looks at answers that judge and words disagree on, and has the last word: on the terminal, or in a CSV file.

Every ruling is a row of its own, written at once (`rulings`); `settled_groundedness` and the page follow when the cell
is brought up to date.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable
from pathlib import Path

import polars as pl

from schemas import Groundedness, Outcomes, Requests, Rulings
from schemas.evaluation import HEADLINE
from steer_assets.assets.validation import rulings_of
from steer_assets.io import read_published, table_url
from steer_assets.partitions import Cell
from steer_assets.settings import storage_root
from steer_assets.tables import Work
from steer_core.evaluation.judges.rulings import last_rulings, ruling, to_review
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import write_bytes
from steer_core.tables.journal import Journal
from steer_core.tables.snapshot import table_exists

#: What a person can say of an answer.
WORDS = {"yes": True, "y": True, "no": False, "n": False}
#: Columns of the file that people fill in.
COLUMNS = ("request_id", "response_id", "source", "answer", "judge", "shared_words", "stays", "note")


def waiting(cell: Cell, spot: int = 0, again: bool = False) -> pl.DataFrame:
    """Answers of a cell that somebody should look at: rows of `groundedness` with spot_check, source and answer.

    Args:
        cell: whose answers.
        spot: further answers, drawn from those on which judge and words agree.
        again: those that somebody has looked at as well.

    Raises:
        SteerworksError: they were not judged.
    """
    judged = _judged(cell)
    return _with_texts(cell, to_review(judged, kept_rulings(cell).read(), spot=spot, seed=cell.bench.seed, again=again))


def queue(cell: Cell, spot: int = 0) -> tuple[pl.DataFrame, int]:
    """The doubtful answers of a cell and a draw of the others that stays the same, without those that have a ruling.

    Returns:
        Rows as of `waiting`, and how many there were before anybody looked.

    Raises:
        SteerworksError: they were not judged.
    """
    rulings = kept_rulings(cell).read()
    all_ = to_review(_judged(cell), rulings.head(0), spot=spot, seed=cell.bench.seed)
    seen = last_rulings(rulings)
    left = all_.join(seen, on=["request_id", "response_id"], how="anti", maintain_order="left")
    return _with_texts(cell, left), all_.height


def _judged(cell: Cell) -> pl.DataFrame:
    url = table_url(storage_root(), cell.bench.name, "groundedness", cell.key)
    if cell.bench.validated_by is None:
        raise SteerworksError(f"nobody judges bench {cell.bench.name!r}: set `validated_by` to a model in benches.yaml")
    if not table_exists(url):
        raise SteerworksError(f"{cell.key} was not judged yet: steerworks run {cell.method.name}")
    return read_published(url, Groundedness)


def _with_texts(cell: Cell, rows: pl.DataFrame) -> pl.DataFrame:
    """With source and answer; one that was written anew since it was judged waits for the judge, not here."""
    outcomes = read_published(table_url(storage_root(), cell.bench.name, "outcomes", cell.key), Outcomes)
    requests = read_published(table_url(storage_root(), cell.bench.name, "requests", None), Requests)
    answers = outcomes.filter(arm_id=HEADLINE).select("request_id", "response_id", answer="text")
    return rows.join(answers, on=["request_id", "response_id"], maintain_order="left").join(
        requests.select("request_id", source="text"), on="request_id", maintain_order="left"
    )


def kept_rulings(cell: Cell) -> Journal:
    """What people said of a cell's answers."""
    return rulings_of(Work(cell.bench, storage_root(), logging.getLogger(__name__), cell))


def ask(
    cell: Cell,
    by: str,
    spot: int = 0,
    again: bool = False,
    read: Callable[[str], str] = input,
    show: Callable[[str], object] = print,
) -> int:
    """Show one answer after the other, and keep what is said of it; returns how many got a word.

    Args:
        cell: whose answers.
        by: who looks.
        spot: see `waiting`.
        again: see `waiting`.
        read: asks for a line.
        show: shows text.

    Raises:
        SteerworksError: they were not judged.
    """
    rows, kept, said = waiting(cell, spot, again), kept_rulings(cell), 0
    for k, row in enumerate(rows.iter_rows(named=True)):
        show(f"\n── {k + 1} of {rows.height} ── {why(row)}\n\nSource:\n{row['source']}\n\nAnswer:\n{row['answer']}\n")
        while (word := read("Does the answer stay with its source? yes, no, skip, quit: ").strip().lower()) not in (
            *WORDS,
            *("skip", "s", "quit", "q"),
        ):
            show(f"{word!r} is none of yes, no, skip, quit.")
        if word in ("quit", "q"):
            break
        if word in WORDS:
            kept.append(ruling(row, WORDS[word], by, read("Why (may be empty): ")))
            said += 1
    return said


def why(row: dict[str, object]) -> str:
    """Why somebody should look at an answer, in words."""
    if row["spot_check"]:
        return "drawn to be looked at"
    words = "–" if row["shared"] is None else f"{float(str(row['shared'])):.0%}"
    judged = {True: "stays", False: "does not stay", None: "no verdict"}[row["grounded"]]  # type: ignore[index]
    return f"the judge: {judged}; content words of the source that are in it: {words}"


def export(cell: Cell, file: Path, spot: int = 0, again: bool = False) -> int:
    """Write what is to be looked at as a CSV file with an empty column `stays`; returns the number of rows."""
    rows = waiting(cell, spot, again).select(
        "request_id",
        "response_id",
        "source",
        "answer",
        judge=pl.col("grounded").replace_strict({True: "stays", False: "does not stay"}, default="no verdict"),
        shared_words=pl.col("shared").round(2),
        stays=pl.lit(""),
        note=pl.lit(""),
    )
    write_bytes(str(file), rows.write_csv().encode("utf-8"))
    return rows.height


def take(cell: Cell, by: str, file: Path, again: bool = False) -> int:
    """Keep what was filled in: rows whose `stays` is yes or no; all of the file, or nothing of it.

    Returns:
        How many rulings there were; rows with an empty `stays` are none.

    Raises:
        SteerworksError: names file and row of what is wrong.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SteerworksError(f"{file} cannot be read as UTF-8 text: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if missing := [c for c in ("request_id", "response_id", "stays") if c not in (reader.fieldnames or ())]:
        raise SteerworksError(f"{file} has no column {missing[0]!r}: fill in what `steerworks review --export` wrote")
    known = {(r["request_id"], r["response_id"]): r for r in waiting(cell, 10**9, again).iter_rows(named=True)}
    found: dict[tuple[str, str], pl.DataFrame] = {}
    try:
        for row in reader:
            where, word = f"{file}, line {reader.line_num}", (row["stays"] or "").strip().lower()
            if not word:
                continue
            if word not in WORDS:
                raise SteerworksError(f"{where}: `stays` is {row['stays']!r}: write yes or no, or leave it empty")
            key = (str(row["request_id"]), str(row["response_id"]))
            if key in found:
                raise SteerworksError(f"{where}: request {key[0]} stands twice: leave one row")
            if key not in known:
                raise SteerworksError(
                    f"{where}: request {key[0]} with response {key[1]} does not wait for a look: it is of another cell "
                    "or of an earlier run, or somebody has said already (`--again` overrules them)"
                )
            found[key] = ruling(known[key], WORDS[word], by, row.get("note") or "")
    except csv.Error as error:
        raise SteerworksError(f"{file}, line {reader.line_num}: {error}") from error
    kept_rulings(cell).append(pl.concat([Rulings.empty(), *found.values()]))
    return len(found)
