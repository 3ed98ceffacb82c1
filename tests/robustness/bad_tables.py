"""Published tables and parts of a journal that are damaged, edited, older or in the wrong place: refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from bad_world import Case, World

from schemas import GoalValues, Responses, SeedCorpus
from steer_assets.io import read_published
from steer_core.tables import Footer, Journal, publish_table
from steer_core.tables.footer import METADATA_KEY

FOOTER = Footer("goal_values", 1, code_version="7", spec_hash="abc", seed=3, inputs={"corpus": "d1"})


def values(n: int = 40) -> pl.DataFrame:
    """Rows of `goal_values`."""
    return pl.DataFrame(
        {
            "text_id": [f"text {i}" for i in range(n)],
            "scorer_id": "s@1",
            "value": [i / 7 for i in range(n)],
            "state": "ok",
        }
    )


def responses(n: int) -> pl.DataFrame:
    """Rows of `responses`."""
    plain = {name: "x" if dtype == pl.String else 1 for name, dtype in Responses.empty().schema.items()}
    told = {**plain, "finish_reason": "stop", "parsed": True, "seconds": 0.5, "steering": None}
    rows = [{**told, "response_id": f"r{i}"} for i in range(n)]
    return pl.DataFrame(rows, schema=Responses.empty().schema, orient="row")


def published(world: World) -> Path:
    """A whole table."""
    publish_table(values(), GoalValues, str(world.folder / "part.parquet"), FOOTER)
    return world.folder / "part.parquet"


def rewritten(
    file: Path, change: Callable[[pl.DataFrame], pl.DataFrame], footer: Callable[[dict[str, Any]], Any] = dict
) -> None:
    """Other rows, or another footer, as another tool would write them."""
    metadata = {k.decode(): v.decode() for k, v in pq.read_metadata(file).metadata.items() if k != b"ARROW:schema"}
    made = footer(json.loads(metadata[METADATA_KEY]))
    told = {**metadata, METADATA_KEY: made if isinstance(made, str) else json.dumps(made)}
    change(pl.read_parquet(file)).write_parquet(file, metadata=told)


def spoilt(spoil: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(spoil(file.read_bytes()))


def edit(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], object]:
    return lambda file: rewritten(file, change)


def refoot(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], object]:
    return lambda file: rewritten(file, lambda rows: rows, change)


SPOILS: tuple[tuple[str, Callable[[Path], object]], ...] = (
    ("gone", lambda f: f.unlink()),
    ("a folder", lambda f: (f.unlink(), f.mkdir())),
    ("empty", spoilt(lambda d: b"")),
    ("truncated", spoilt(lambda d: d[:-10])),
    ("only its start", spoilt(lambda d: d[:100])),
    ("only its end", spoilt(lambda d: d[-200:])),
    ("zeros", spoilt(lambda d: b"\0" * len(d))),
    ("a CSV", spoilt(lambda d: b"text_id,value\na,1\n")),
    ("a flipped bit in its last byte", spoilt(lambda d: d[:-1] + bytes([d[-1] ^ 0x10]))),
    ("no footer", lambda f: pl.read_parquet(f).write_parquet(f)),
    ("a footer that is torn", refoot(lambda b: '{"contract": ')),
    ("a footer that is a list", refoot(lambda b: "[]")),
    ("a footer with another key", refoot(lambda b: {**b, "colour": "red"})),
    ("a footer without its contract", refoot(lambda b: {k: v for k, v in b.items() if k != "contract"})),
    ("a footer of another table", refoot(lambda b: {**b, "contract": "requests"})),
    ("a footer of a newer version", refoot(lambda b: {**b, "contract_version": 99})),
    ("a footer of an older version", refoot(lambda b: {**b, "contract_version": 0})),
    ("a footer whose version is a word", refoot(lambda b: {**b, "contract_version": "one"})),
    ("a row edited", edit(lambda r: r.with_columns(value=pl.when(pl.col("text_id") == "text 3").then(9.0).otherwise(pl.col("value"))))),
    ("a row removed", edit(lambda r: r.head(39))),
    ("all rows removed", edit(lambda r: r.head(0))),
    ("a row added", edit(lambda r: pl.concat([r, r.head(1).with_columns(text_id=pl.lit("new"))]))),
    ("a row twice", edit(lambda r: pl.concat([r, r.head(1)]))),
    ("rows in another order", edit(lambda r: r.reverse())),
    ("a column missing", edit(lambda r: r.drop("state"))),
    ("a column more", edit(lambda r: r.with_columns(note=pl.lit("x")))),
    ("a column of another name", edit(lambda r: r.rename({"value": "values"}))),
    ("a column of another type", edit(lambda r: r.with_columns(pl.col("value").cast(pl.Float32)))),
    ("numbers as texts", edit(lambda r: r.with_columns(pl.col("value").cast(pl.String)))),
    ("NaN", edit(lambda r: r.with_columns(value=pl.lit(float("nan"))))),
)  # fmt: skip


def of_published() -> Iterator[Case]:
    for what, spoil in SPOILS:

        def call(world: World, spoil: Callable[[Path], object] = spoil) -> object:
            file = published(world)
            spoil(file)
            return read_published(str(file), GoalValues)

        yield Case(f"published table: {what}", call, ["part.parquet"])
    yield Case(
        "published table: read as another one",
        lambda w: read_published(str(published(w)), SeedCorpus),
        ["part.parquet", "goal_values"],
    )
    for what, rows, said in (
        ("a column missing", values().drop("value"), "'value'"),
        ("NaN", values().with_columns(value=pl.lit(float("nan"))), "'value'"),
        ("a key twice", pl.concat([values(), values()]), "share a key"),
        ("another type", values().with_columns(pl.col("value").cast(pl.String)), "'value'"),
        ("an unknown state", values().with_columns(state=pl.lit("fine")), "'state'"),
        ("a null in the key", values().with_columns(text_id=pl.lit(None, dtype=pl.String)), "'text_id'"),
    ):  # fmt: skip
        yield Case(
            f"publishing: {what}",
            lambda w, r=rows: publish_table(r, GoalValues, str(w.out / "part.parquet"), FOOTER),
            ["part.parquet", said],
        )
    yield Case("publishing: to a folder", lambda w: publish_table(values(), GoalValues, str(w.out), FOOTER), ["out"])
    yield Case(
        "publishing: below a file",
        lambda w: publish_table(values(), GoalValues, str(w.out / "before" / "part.parquet"), FOOTER),
        ["part.parquet"],
    )


def journal(world: World, spoil: Callable[[Path], object]) -> object:
    """All rows of a journal with a damaged part."""
    kept = Journal(str(world.folder / "journal"), Responses)
    kept.append(responses(3))
    (part,) = map(Path, kept.parts())
    spoil(part)
    return kept.read()


def of_journals() -> Iterator[Case]:
    edits: tuple[tuple[str, Callable[[Path], object]], ...] = (
        *((what, spoil) for what, spoil in SPOILS if "value" not in what and not what.startswith(("gone", "a row ", "all rows", "rows in", "a column", "numbers", "NaN"))),
        ("an answer edited", edit(lambda r: r.with_columns(raw=pl.lit("other")))),
        ("a row removed", edit(lambda r: r.head(2))),
        ("all rows removed", edit(lambda r: r.head(0))),
        ("rows in another order", edit(lambda r: r.reverse())),
        ("a column missing", edit(lambda r: r.drop("raw"))),
        ("a column more", edit(lambda r: r.with_columns(note=pl.lit("x")))),
    )  # fmt: skip
    for what, spoil in edits:
        yield Case(f"journal: {what}", lambda w, s=spoil: journal(w, s), [".parquet"])
    yield Case(
        "journal: rows of another table", lambda w: Journal(str(w.out), Responses).append(values()), ["'responses'"]
    )
    yield Case(
        "journal: below a file", lambda w: Journal(str(w.out / "before"), Responses).append(responses(1)), ["before"]
    )
