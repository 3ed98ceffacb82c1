"""`stored`: scores that were made elsewhere, from a file. The only way to scores of a service that is no more.

The file is Parquet, CSV or JSONL, a row a text and attribute, with the columns `text` (or `text_id`, its
`schemas.digest.digest_text`), `attribute`, `score` (null: that scorer had none), `scorer`, `version`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from schemas.digest import digest_text
from steer_core.evaluation.profiles.scorer import EMPTY, Marks, Scorer, all_attributes, is_blank
from steer_core.evaluation.profiles.value import Missing
from steer_core.tables.errors import ConfigError, SteerworksError

COLUMNS = ("attribute", "score", "scorer", "version")
ABSENT = Missing("no stored score")
WITHOUT = Missing("stored without a score")


@dataclass(frozen=True)
class Stored:
    """The scorer of whom the scores are.

    Attributes:
        name: of the scorer that made them.
        version: of it, as the file has it.
        attributes: those in the file, in alphabetical order.
        tested: as it was given.
        values: key of a text and attribute -> its score, None where it had none.
    """

    name: str
    version: str
    attributes: tuple[str, ...]
    tested: str
    values: Mapping[tuple[str, str], float | None]

    def score(self, texts: Sequence[str]) -> list[Marks]:
        """Stored scores; a text that is not in the file is missing with that reason, a blank one is `empty`."""
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Marks:
        if is_blank(text):
            return all_attributes(EMPTY, self.attributes)
        found = {a: self.values.get((digest_text(text), a), ABSENT) for a in self.attributes}
        return {a: WITHOUT if value is None else value for a, value in found.items()}


def build(*, path: str, scorer: str | None = None, version: str | None = None, tested: str | None = None) -> Scorer:
    """The scorer whose scores a file has.

    Args:
        path: file; `.parquet`, `.csv` or `.jsonl`.
        scorer: whose scores, where the file has several scorers.
        version: of which version, where it has several.
        tested: what is known of how well it works; by default, that nobody has tested it here.

    Raises:
        ConfigError: several scorers or versions and none named, or none of that name.
        SteerworksError: the file is missing or no such table, a score is no number in [0, 1], a name is empty, or a
            text has two different scores; names file and row.
    """
    file = Path(path).expanduser()
    rows = _checked(_read(file), file)
    if scorer is not None:
        rows = rows.filter(pl.col("scorer") == scorer)
    if version is not None:
        rows = rows.filter(pl.col("version") == version)
    whose = rows.select("scorer", "version").unique().sort("scorer", "version").rows()
    if len(whose) != 1:
        there = ", ".join(f"{s} {v}" for s, v in whose) or "none of that name"
        raise ConfigError(f"{file}: name one `scorer` and `version`; there are: {there}")
    values: dict[tuple[str, str], float | None] = {}
    for row in rows.iter_rows(named=True):
        key = (row["text_id"], row["attribute"])
        if values.setdefault(key, row["value"]) != row["value"]:
            raise SteerworksError(
                f"{file}, row {row['row']}: {row['attribute']} {row['value']} of a text that had {values[key]} before; "
                "a text has one score of each attribute"
            )
    name, of = whose[0]
    return Stored(name, of, tuple(sorted(rows["attribute"].unique())), tested or _untested(name, file), values)


def _untested(name: str, file: Path) -> str:
    return f"scores of {name} made elsewhere, read from {file.name}; nobody has tested them here"


def _read(file: Path) -> pl.DataFrame:
    """Columns as text, in the order of the file."""
    readers = {
        ".parquet": pl.read_parquet,
        ".csv": lambda f: pl.read_csv(f, infer_schema=False),
        ".jsonl": _read_lines,
    }
    if file.suffix not in readers:
        raise SteerworksError(f"{file}: scores are read from {', '.join(readers)}")
    try:
        return readers[file.suffix](file)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise SteerworksError(f"{file} cannot be read: {error}") from error


def _read_lines(file: Path) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SteerworksError(f"{file}, row {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise SteerworksError(f"{file}, row {number}: an object expected, found {line[:80]!r}")
        rows.append({k: None if v is None else str(v) for k, v in row.items()})
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String))


def _checked(rows: pl.DataFrame, file: Path) -> pl.DataFrame:
    """Columns `row` (from 1, a header not counted), `text_id`, `attribute`, `scorer`, `version`, `value`."""
    lacking = [c for c in COLUMNS if c not in rows.columns]
    if "text" not in rows.columns and "text_id" not in rows.columns:
        lacking.insert(0, "text")
    if lacking:
        raise SteerworksError(f"{file} has no column {', '.join(lacking)}: text (or text_id), {', '.join(COLUMNS)}")
    known = "text" if "text" in rows.columns else "text_id"
    names = [known, "attribute", "scorer", "version"]
    rows = rows.select(
        pl.int_range(1, pl.len() + 1).alias("row"),
        *(pl.col(c).cast(pl.String) for c in names),
        pl.col("score").alias("as_found"),
        pl.col("score").cast(pl.Float64, strict=False).alias("value"),
    )
    value = pl.col("value")
    for what, wrong in {
        f"an empty {', '.join(names)}": pl.any_horizontal(pl.col(names).fill_null("") == ""),
        "a score that is no number in [0, 1]": value.is_nan().fill_null(False)
        | ~value.is_between(0.0, 1.0).fill_null(True)
        | (value.is_null() & pl.col("as_found").is_not_null()),
    }.items():
        found = rows.filter(wrong)
        if len(found):
            raise SteerworksError(
                f"{file}, row {found['row'][0]}: {what} ({found['as_found'][0]!r}); {len(found)} rows have one"
            )
    if known == "text":
        rows = rows.with_columns(text_id=pl.col("text").map_elements(digest_text, return_dtype=pl.String))
    return rows
