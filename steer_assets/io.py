"""The Parquet IO manager: validates before it writes, reads with the contract, never half-writes."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg
import polars as pl

from schemas.contract import CONTRACTS, Contract
from steer_core.tables.errors import ContractError, SteerworksError
from steer_core.tables.files import join
from steer_core.tables.footer import Footer
from steer_core.tables.snapshot import publish_table, read_footer, read_table, table_exists


@dataclass(frozen=True)
class Snapshot:
    """A published table as an asset's input: its provenance now, its rows when asked for.

    Attributes:
        parts: (partition key or "", URL, footer) of each file, in partition order.
        contract: the table's model.
    """

    parts: tuple[tuple[str, str, Footer], ...]
    contract: type[Contract]

    @property
    def digests(self) -> dict[str, str]:
        """Content digest of each part."""
        return {key: footer.content for key, _, footer in self.parts}

    def frame(self, *, cells: bool = False) -> pl.DataFrame:
        """The rows; with `cells`, columns `method` and `model` say which cell a row is of."""
        frames = []
        for key, url, _ in self.parts:
            rows = read_table(url, self.contract)
            if cells:
                method, model = key.split("|")
                rows = rows.with_columns(method=pl.lit(method), model=pl.lit(model))
            frames.append(rows)
        return pl.concat(frames) if frames else self.contract.empty()


@dataclass(frozen=True)
class NewTable:
    """Rows to publish, with their provenance."""

    frame: pl.DataFrame
    footer: Footer


@dataclass(frozen=True)
class Unchanged:
    """What is published already follows from the same inputs, code and spec: nothing to write."""

    footer: Footer


def table_url(root: str, asset: dg.AssetKey, partition: str | None) -> str:
    """`<root>/<bench>/<table>/model=../method=../part.parquet`; without the cell for unpartitioned tables."""
    parts = list(asset.path)
    if partition:
        method, model = partition.split("|")
        parts += [f"model={model}", f"method={method}"]
    return join(root, *parts, "part.parquet")


class ParquetIOManager(dg.ConfigurableIOManager):
    """One Parquet file a table and cell, below `root` (a folder or fsspec URL)."""

    root: str

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Check the rows, then put the file in place."""
        url = self._url(context)
        if isinstance(obj, Unchanged):
            context.add_output_metadata({"dagster/uri": url, "status": "unchanged"})
            return
        assert isinstance(obj, NewTable)
        contract = CONTRACTS[obj.footer.contract]
        try:
            footer = publish_table(obj.frame, contract, url, obj.footer)
        except ContractError as error:
            raise dg.Failure(str(error), allow_retries=False, metadata={"contract": contract.table()}) from error
        except SteerworksError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.add_output_metadata(
            {
                "dagster/uri": url,
                "dagster/row_count": obj.frame.height,
                "status": "written",
                "content": footer.content,
            }
        )

    def load_input(self, context: dg.InputContext) -> Snapshot:
        """The published table, of one cell or several; cells that are not there are left out where that is allowed."""
        upstream = context.upstream_output
        assert upstream is not None
        contract = CONTRACTS[str((upstream.definition_metadata or {})["contract"]).split(" ")[0]]
        keys = sorted(context.asset_partition_keys) if context.has_asset_partitions else [None]
        optional = bool((context.definition_metadata or {}).get("allow_missing"))
        parts = []
        for key in keys:
            url = table_url(self.root, context.asset_key, key)
            if optional and not table_exists(url):
                continue
            try:
                parts.append((str(key or ""), url, read_footer(url)))
            except SteerworksError as error:
                raise dg.Failure(str(error), allow_retries=False) from error
        return Snapshot(tuple(parts), contract)

    def _url(self, context: dg.OutputContext) -> str:
        partition = context.partition_key if context.has_asset_partitions else None
        return table_url(self.root, context.asset_key, partition)
