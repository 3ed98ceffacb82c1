"""Answers made elsewhere for a released probe: what is taken, and in words why something is not.

A submission is a folder: `card.yaml` (`schemas.submissions.SubmissionCard`), and `answers.parquet`, `.csv` or `.jsonl`
with `request_id`, `text`, and where it can `text_id`, which says that the very source was answered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pydantic

from schemas.specs import FileSource
from schemas.submissions import SubmissionCard
from steer_core.corpus.sources import read_rows
from steer_core.evaluation.judges.groundedness import shared_words
from steer_core.registry_arrivals import ADMITTED, ANSWERS, CARD, answers_of, digest_of
from steer_core.statistics.paired import paired_contrast
from steer_core.strict_yaml import read_yaml
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import write_bytes

#: Share of answers that are their source, from which a submission is the control `copy`.
MOST_COPIED = 0.9
#: Share of answers nearer to another source than to their own, from which some of them belong to other requests.
MOST_FOREIGN = 0.25
#: Source texts from which words in common can tell answers that belong to other requests.
FEWEST_TEXTS = 8
#: Ids that a line names.
NAMED = 3


@dataclass(frozen=True)
class Checked:
    """A submission that was looked at.

    Attributes:
        folder: where it lies.
        card: what it says of itself; None where that cannot be read.
        problems: why it is not taken, a line each; none: it is.
        notes: what whoever looks should know.
        answers: `request_id` and `text`, of one that is taken; else None.
    """

    folder: Path
    card: SubmissionCard | None
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    answers: pl.DataFrame | None = None


def admit(checked: Checked) -> None:
    """Note beside a submission that it is taken: from then on it stands on its bench, as long as nobody edits it.

    Raises:
        SteerworksError: it has problems.
        TableError: the folder cannot be written to.
    """
    if checked.problems:
        raise SteerworksError(f"{checked.folder} is not taken: {'; '.join(checked.problems)}")
    content = {"digest": digest_of(checked.folder), "notes": list(checked.notes)}
    write_bytes(str(checked.folder / ADMITTED), json.dumps(content, indent=1).encode())


def read_card(folder: Path) -> SubmissionCard:
    """What a submission says of itself.

    Raises:
        SteerworksError: there is no card, or it says too little; in words.
    """
    file = folder / CARD
    if not file.is_file():
        raise SteerworksError(f"there is no {CARD}: it says who made the answers, how, and on what terms")
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise SteerworksError(f"{CARD} must map names to values: {', '.join(SubmissionCard.model_fields)}")
    try:
        return SubmissionCard.model_validate(content)
    except pydantic.ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SteerworksError(f"{CARD}: {'; '.join(lines)}") from error


def check_submission(folder: Path, requests: pl.DataFrame, goal_space_id: str) -> Checked:
    """Hold a submission against the probe that it answers.

    Args:
        folder: the submission.
        requests: rows of `requests`, of the test probes.
        goal_space_id: of the probe.
    """
    problems: list[str] = []
    card = None
    try:
        card = read_card(folder)
    except SteerworksError as error:
        problems.append(str(error))
    if card is not None and card.goal_space_id != goal_space_id:
        problems.append(
            f"it answers goal space {card.goal_space_id!r}, and this probe is of {goal_space_id!r}: results never "
            "compare across goal spaces; answer the probe that was released last"
        )
    file = answers_of(folder)
    if file is None:
        problems.append(f"give one file of answers: {', '.join(ANSWERS)}")
        return Checked(folder, card, tuple(problems))
    try:
        rows = read_rows(FileSource(name="answers", path=str(file), column="text"))
    except SteerworksError as error:
        return Checked(folder, card, (*problems, str(error)))
    if lacking := [c for c in ("request_id", "text") if c not in rows.columns]:
        problems.append(f"{file.name} has no column {lacking[0]!r}; it has {', '.join(rows.columns)}")
        return Checked(folder, card, tuple(problems))
    nested = [c for c in ("request_id", "text", "text_id") if c in rows.columns and rows.schema[c].is_nested()]
    if nested:
        problems.append(f"{file.name}: column {nested[0]!r} is {rows.schema[nested[0]]}, and must be text")
        return Checked(folder, card, tuple(problems))
    try:
        rows = rows.with_columns(pl.col(c).cast(pl.String) for c in ("request_id", "text"))
    except pl.exceptions.PolarsError as error:
        problems.append(f"{file.name}: `request_id` and `text` cannot be read as text: {error}")
        return Checked(folder, card, tuple(problems))
    found, notes = _rows(rows, requests)
    problems += found
    if not found:
        said, more = _content(rows, requests)
        problems += said
        notes += more
    answers = None if problems else rows.select("request_id", pl.col("text").fill_null(""))
    return Checked(folder, card, tuple(problems), tuple(notes), answers)


def _rows(rows: pl.DataFrame, requests: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Which rows there are: each request once, and no others."""
    problems, notes = [], []
    ids = rows["request_id"]
    twice = ids.filter(ids.is_duplicated()).unique(maintain_order=True)
    if twice.len():
        problems.append(f"{_some(twice)} twice or more: give one answer for each request")
    if nulls := ids.null_count():
        problems.append(f"{nulls} rows have no request_id")
    known = requests["request_id"]
    if (foreign := ids.filter(~ids.is_in(known.implode())).drop_nulls().unique(maintain_order=True)).len():
        problems.append(f"{_some(foreign)} of no request of this probe")
    if (missing := known.filter(~known.is_in(ids.implode()))).len():
        problems.append(f"{_some(missing)} without an answer: write a row with an empty text for each that failed")
    if "text_id" in rows.columns:
        joined = rows.join(requests.select("request_id", own="text_id"), on="request_id")
        other = joined.filter(pl.col("text_id").cast(pl.String).ne_missing(pl.col("own")))["request_id"]
        if other.len():
            problems.append(f"{_some(other)} with the text_id of another source: another release was answered")
    else:
        notes.append("it has no column text_id: that the released sources were answered is taken on trust")
    if blank := int((rows["text"].fill_null("").str.strip_chars() == "").sum()):
        notes.append(f"{blank} of {rows.height} answers are blank, and count as failures")
    return problems, notes


def _content(rows: pl.DataFrame, requests: pl.DataFrame) -> tuple[list[str], list[str]]:
    """What the answers are, held against their sources."""
    joined = requests.join(rows.select("request_id", answer="text"), on="request_id", maintain_order="left")
    joined = joined.with_columns(pl.col("answer").fill_null(""))
    plain = [pl.col(c).str.split(" ").list.eval(pl.element().filter(pl.element() != "")) for c in ("text", "answer")]
    copied = float(joined.select((plain[0] == plain[1]).mean()).item() or 0.0)
    if copied >= MOST_COPIED:
        return [f"{copied:.0%} of the answers are the source itself: that is the control `copy`"], []
    notes = [f"{copied:.0%} of the answers are the source itself"] if copied else []
    written = joined.filter(pl.col("answer").str.strip_chars() != "")
    if written["text_id"].n_unique() < FEWEST_TEXTS:
        return [], [*notes, f"fewer than {FEWEST_TEXTS} texts: whether answers go with their requests cannot be told"]
    own, other = _shared(written)
    contrast = paired_contrast(own, other, written["text_id"].to_numpy())
    if contrast.low is None or contrast.low <= 0:
        return [
            "answers have no more words in common with their own sources than with others': "
            f"{_number(contrast.value)} against {_number(contrast.control_value)} of them; are they in another order?"
        ], notes
    known = ~np.isnan(own) & ~np.isnan(other)
    foreign = float((own[known] < other[known]).mean()) if known.any() else 0.0
    if foreign > MOST_FOREIGN:
        return [
            f"{foreign:.0%} of the answers have more words in common with another source than with their own: are some "
            "in another order?"
        ], notes
    return [], [*notes, f"answers keep {_number(contrast.value)} of the content words of their sources"]


def _shared(rows: pl.DataFrame) -> tuple[Any, Any]:
    """Share of a source's content words in its answer, and in the answer to the next text."""
    texts = rows["text_id"].unique(maintain_order=True).to_list()
    following = dict(zip(texts, [*texts[1:], texts[0]], strict=True))
    answers = dict(rows.group_by("text_id", maintain_order=True).agg(pl.col("answer").first()).iter_rows())
    own, other = [], []
    for text_id, text, answer in rows.select("text_id", "text", "answer").iter_rows():
        own.append(shared_words(text, answer))
        other.append(shared_words(text, answers[following[text_id]]))
    return _floats(own), _floats(other)


def _floats(values: list[float | None]) -> Any:
    return np.array([np.nan if v is None else v for v in values])


def _some(ids: pl.Series) -> str:
    more = f" and {ids.len() - NAMED:,} more" if ids.len() > NAMED else ""
    return f"{ids.len():,} rows ({', '.join(map(str, ids.head(NAMED)))}{more}) are"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.0%}"
