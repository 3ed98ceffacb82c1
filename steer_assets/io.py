"""Tables as files: where they lie, reading them by the word of their digest, and what an input of a step is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import polars.exceptions

from schemas.contract import Contract
from steer_core.tables.errors import TableError
from steer_core.tables.files import join, open_file
from steer_core.tables.footer import Footer
from steer_core.tables.snapshot import changed, content_digest, read_footer, read_table
from steer_core.tables.survey import TABLE


def table_url(root: str, bench: str, table: str, cell: str | None) -> str:
    """`<root>/<bench>/<table>/model=../method=../part.parquet`; without the cell for tables that all cells share."""
    parts = [bench, table]
    if cell:
        method, model = cell.split("|")
        parts += [f"model={model}", f"method={method}"]
    return join(root, *parts, TABLE)


def read_published(url: str, contract: type[Contract]) -> pl.DataFrame:
    """The rows of a published table, verified by the digest that was made of them when they kept the contract.

    Checking the contract itself again would cost a hundred times as much, and say less: an edit may well keep it.

    Raises:
        TableError: no file, another table, damaged, or changed since it was published.
    """
    footer = read_footer(url)
    if (footer.contract, footer.contract_version) != (contract.table(), contract.version()):
        # another table is refused there, an older version migrated and checked
        return read_table(url, contract)
    try:
        with open_file(url) as file:
            rows = pl.read_parquet(file.read(), hive_partitioning=False)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{url} is damaged ({error}): materialize it again") from error
    if content_digest(rows) != footer.content:
        raise changed(url)
    return rows


@functools.cache
def _digest_of_nothing(contract: type[Contract]) -> str:
    return content_digest(contract.empty())


@dataclass(frozen=True)
class Part:
    """A published table as an input: its provenance now, its rows when asked for.

    Attributes:
        cell: key of the cell, or "".
        url: where the file lies; None for a table that this cell does not have, which reads as no rows.
        content: digest of the rows.
    """

    cell: str
    url: str | None
    content: str

    @classmethod
    def published(cls, cell: str, url: str) -> Part:
        """A part that is there."""
        return cls(cell, url, read_footer(url).content)

    @classmethod
    def absent(cls, cell: str, contract: type[Contract]) -> Part:
        """No rows, with the digest of an empty table: whether one was written does not matter to who reads it."""
        return cls(cell, None, _digest_of_nothing(contract))


@dataclass(frozen=True)
class Snapshot:
    """An input of a step: one table, of one cell or several.

    Attributes:
        parts: in the order of the cells' keys.
        contract: the table's model.
    """

    parts: tuple[Part, ...]
    contract: type[Contract]

    @property
    def digests(self) -> dict[str, str]:
        """Content digest of each part that has rows: of a table that comes or goes empty nothing follows."""
        nothing = _digest_of_nothing(self.contract)
        return {p.cell: p.content for p in self.parts if p.content != nothing}

    def frame(
        self, *, cells: bool = False, narrow: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows
    ) -> pl.DataFrame:
        """The rows; with `cells`, columns `method` and `model` say which cell a row is of.

        Args:
            cells: see above.
            narrow: what is kept of each part, once its rows are verified: one part at a time is in memory whole.
        """
        frames = []
        for part in self.parts:
            rows = narrow(self.contract.empty() if part.url is None else read_published(part.url, self.contract))
            if cells:
                method, model = part.cell.split("|")
                rows = rows.with_columns(method=pl.lit(method), model=pl.lit(model))
            frames.append(rows)
        if frames:
            return pl.concat(frames)
        nothing = narrow(self.contract.empty())
        return nothing.with_columns(method=pl.lit(""), model=pl.lit("")) if cells else nothing


def footer_of(url: str) -> Footer | None:
    """The footer of a table, or None where there is none that can be read."""
    try:
        return read_footer(url)
    except TableError:
        return None
