"""What is on storage for a bench: tables, their columns as the contracts describe them, sizes, how to read them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from schemas.contract import CONTRACTS, Contract
from steer_core.explorer.bench import Bench
from steer_core.tables.errors import TableError
from steer_core.tables.files import filesystem, join
from steer_core.tables.snapshot import read_footer
from steer_core.tables.survey import TABLE


@dataclass(frozen=True)
class Entry:
    """A table of a bench.

    Attributes:
        name: its folder.
        contract: of its rows.
        says: what the contract says of it.
        files: path below the root -> (cell or "", bytes).
        duckdb: a line that reads all of it.
    """

    name: str
    contract: type[Contract]
    says: str
    files: dict[str, tuple[str, int]]
    duckdb: str

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(size for _, size in self.files.values())


def entries(bench: Bench) -> list[Entry]:
    """All tables of a bench, by name."""
    fs, path = filesystem(join(bench.root, bench.name))
    found: dict[str, dict[str, tuple[str, int]]] = {}
    for file, info in fs.find(path, detail=True).items():
        below = str(file)[len(path) :].lstrip("/")
        name, _, rest = below.partition("/")
        if not below.endswith(f"/{TABLE}") or name.startswith("."):
            continue
        parts = dict(p.split("=", 1) for p in rest.split("/")[:-1] if "=" in p)
        cell = f"{parts['method']}|{parts['model']}" if {"method", "model"} <= set(parts) else ""
        found.setdefault(name, {})[f"{bench.name}/{below}"] = (cell, int(info["size"] or 0))
    made = []
    for name, files in sorted(found.items()):
        contract = _contract_of(bench, name, next(iter(files)))
        if contract is None:
            continue
        inside = "*/*/" if any(cell for cell, _ in files.values()) else ""
        where = join(bench.root, bench.name, name, inside + TABLE).replace("'", "''")
        says = (contract.__doc__ or "").strip().splitlines()[0]
        line = f"duckdb -c \"select * from read_parquet('{where}', hive_partitioning = true) limit 10\""
        made.append(Entry(name, contract, says, dict(sorted(files.items())), line))
    return made


def _contract_of(bench: Bench, name: str, file: str) -> type[Contract] | None:
    try:
        return CONTRACTS.get(read_footer(join(bench.root, file)).contract)
    except TableError:
        return CONTRACTS.get(name)


def as_csv(rows: pl.DataFrame) -> str:
    """Rows as CSV: lists as values with semicolons between them, and no bytes."""
    nested = [c for c, t in rows.schema.items() if t.is_nested() or t == pl.Binary]
    lists = [pl.col(c).cast(pl.List(pl.String)).list.join(";").alias(c) for c in nested if rows.schema[c] != pl.Binary]
    return rows.drop([c for c in nested if rows.schema[c] == pl.Binary]).with_columns(lists).write_csv()
