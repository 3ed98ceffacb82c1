"""Responses made elsewhere: read from a file, then measured like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from schemas.digest import digest_json
from schemas.specs import FileSource
from steer_core.corpus.sources import read_rows
from steer_core.methods.cleaning import clean_answer
from steer_core.methods.protocol import Artifact, Choose, FitResponse, Observation, Request, Setting, Traits
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError


@dataclass(frozen=True)
class Imported:
    """Looks answers up by request id.

    Attributes:
        path: the file, for messages.
        answers: raw answer by request id.
        cleaned: whether think tags and preambles are taken away.
        traits: calls no model.
    """

    path: str
    answers: Mapping[str, str]
    cleaned: bool
    traits: Traits

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """Nothing to fit."""
        return Artifact()

    def step(self, request: Request, artifact: Artifact, history: tuple[Observation, ...]) -> tuple[Plan, ...] | Choose:
        """The answer of that request.

        Raises:
            SteerworksError: the file has none.
        """
        if request.request_id not in self.answers:
            raise SteerworksError(
                f"{self.path} has no answer to request {request.request_id}; it has {len(self.answers)} answers. "
                "Write one row for each row of the `requests` table (an empty text counts as a failure)"
            )
        return Choose(text=self.answers[request.request_id], finish_reason="imported")

    def clean(self, raw: str) -> tuple[str, bool]:
        """The answer in a raw text."""
        return (clean_answer(raw) if self.cleaned else raw), True


def build(
    setting: Setting,
    *,
    path: str,
    request_column: str = "request_id",
    text_column: str = "text",
    clean: bool = True,
) -> Imported:
    """Answers from a CSV, JSONL or Parquet file.

    Args:
        setting: unused: the answers are there.
        path: path or fsspec URL.
        request_column: column of request ids.
        text_column: column of answers; null and blank are failures, not errors.
        clean: take think tags and preambles away.

    Raises:
        SteerworksError: the file or a column is missing, or a request id stands twice.
    """
    rows = read_rows(FileSource(name="imported", path=path, column=text_column))
    for column in (request_column, text_column):
        if column not in rows.columns:
            raise SteerworksError(f"{path} has no column {column!r}; it has {', '.join(rows.columns)}")
    twice = rows.with_row_index("row").filter(pl.col(request_column).is_duplicated())
    if twice.height:
        raise SteerworksError(
            f"{path}: request {twice[request_column][0]} stands in {twice.height} rows "
            f"(first: row {twice['row'][0]}); keep one answer for each request"
        )
    texts = rows[text_column].cast(pl.String).fill_null("").to_list()
    answers = dict(zip(rows[request_column].cast(pl.String).to_list(), texts, strict=True))
    return Imported(path, answers, clean, Traits(max_calls=0, calls_model=False, digest=digest_json(answers)))
