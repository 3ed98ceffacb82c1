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
    """A folder of Parquet parts of one contract, keyed by the contract's key columns.

    Attributes:
        url: folder, any fsspec URL.
        contract: model of the rows.
    """

    url: str
    contract: type[Contract]

    def append(self, rows: pl.DataFrame) -> None:
        """Add finished rows as one part. The same rows again change nothing: the part's name is their hash."""
        if rows.height:
            keys = rows.select(self.contract.key()).rows()
            # parts of one key column keep the names that they had before there were others
            name = digest_json([k[0] for k in keys] if len(self.contract.key()) == 1 else [list(k) for k in keys])
            publish_table(rows, self.contract, join(self.url, f"{name}.parquet"), Footer(self.contract.table(), 0))

    def parts(self) -> list[str]:
        """URLs of the parts, sorted."""
        fs, path = filesystem(self.url)
        if not fs.exists(path):
            return []
        names = (str(p).rsplit("/", 1)[-1] for p in fs.ls(path, detail=False))
        return sorted(join(self.url, n) for n in names if n.endswith(".parquet") and not n.startswith("."))

    def read(self, keys: Collection[str] | None = None) -> pl.DataFrame:
        """Rows that are done: all, or those with these values of the (then only) key column.

        Raises:
            TableError: a part is damaged, or two parts hold different rows under one key.
        """
        frames = []
        key = self.contract.key()[0]
        wanted = None if keys is None else pl.Series(list(keys), dtype=pl.String)
        for part in self.parts():
            rows = read_table(part, self.contract)
            frames.append(rows if wanted is None else rows.filter(pl.col(key).is_in(wanted.implode())))
        if not frames:
            return self.contract.empty()
        rows = pl.concat(frames)
        # `seconds` may differ between two honest runs; what was written may not
        timeless = [c for c in rows.columns if c != "seconds"]
        rows = rows.unique(subset=timeless, maintain_order=True, keep="first")
        if (clash := rows.filter(pl.struct(self.contract.key()).is_duplicated())).height:
            repeated = clash.select(self.contract.key()).unique(maintain_order=True).rows()
            raise TableError(
                f"journal {self.url}: {len(repeated)} keys hold different rows (first: "
                f"{', '.join(map(str, repeated[0]))}). "
                "Two machines disagree under one execution fingerprint: remove one of the parts."
            )
        return rows
