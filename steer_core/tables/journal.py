"""The append-only journal of generation: rows that are done stay done, whatever kills the run.

One part a batch, put in place in one step: after a kill a batch is there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from schemas.digest import digest_json
from steer_core.tables.errors import TableError
from steer_core.tables.files import filesystem, join
from steer_core.tables.footer import Footer
from steer_core.tables.snapshot import publish_table, read_table

if TYPE_CHECKING:
    from schemas.contract import Contract


@dataclass(frozen=True)
class Journal:
    """A folder of Parquet parts of one contract, keyed by the contract's (single) key column.

    Attributes:
        url: folder, any fsspec URL.
        contract: model of the rows; its `key` must be one column.
    """

    url: str
    contract: type[Contract]

    @property
    def key(self) -> str:
        """The key column."""
        (key,) = self.contract.key()
        return key

    def append(self, rows: pl.DataFrame) -> None:
        """Add finished rows as one part. The same rows again change nothing: the part's name is their hash."""
        if rows.height:
            name = digest_json(rows[self.key].to_list())
            publish_table(rows, self.contract, join(self.url, f"{name}.parquet"), Footer(self.contract.table(), 0))

    def parts(self) -> list[str]:
        """URLs of the parts, sorted."""
        fs, path = filesystem(self.url)
        if not fs.exists(path):
            return []
        names = (str(p).rsplit("/", 1)[-1] for p in fs.ls(path, detail=False))
        return sorted(join(self.url, n) for n in names if n.endswith(".parquet") and not n.startswith("."))

    def read(self, keys: Collection[str] | None = None) -> pl.DataFrame:
        """Rows that are done: all, or those with these keys.

        Raises:
            TableError: a part is damaged, or two parts hold different rows under one key.
        """
        frames = []
        wanted = None if keys is None else pl.Series(list(keys), dtype=pl.String)
        for part in self.parts():
            rows = read_table(part, self.contract)
            frames.append(rows if wanted is None else rows.filter(pl.col(self.key).is_in(wanted.implode())))
        if not frames:
            return self.contract.empty()
        rows = pl.concat(frames)
        # `seconds` may differ between two honest runs; what was written may not
        timeless = [c for c in rows.columns if c != "seconds"]
        rows = rows.unique(subset=timeless, maintain_order=True, keep="first")
        if (clash := rows.filter(pl.col(self.key).is_duplicated())).height:
            raise TableError(
                f"journal {self.url}: {clash[self.key].n_unique()} keys hold different rows (first: "
                f"{clash[self.key][0]}). "
                "Two machines disagree under one execution fingerprint: remove one of the parts."
            )
        return rows
