"""Published tables: checked when written, checked when read, with a footer that says where they come from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import polars.exceptions
import pyarrow as pa
import pyarrow.parquet as pq

from steer_core.tables.damage import reading
from steer_core.tables.errors import ContractError, NotPublishedError, TableError
from steer_core.tables.files import filesystem, open_file, write_file
from steer_core.tables.footer import METADATA_KEY, Footer
from steer_core.tables.validation import check

if TYPE_CHECKING:
    from schemas.contract import Contract


def content_digest(frame: pl.DataFrame) -> str:
    """Digest of the rows in order, independent of file layout and of how the frame lies in memory.

    Two 64-bit hashes a row, hashed together with the schema. Row hashes may differ between versions of Polars; a
    digest is made once, when a table is published, and from then on read from its footer.
    """
    total = hashlib.blake2b(str(frame.schema).encode(), digest_size=16)
    for seed in (0, 1):
        total.update(frame.hash_rows(seed=seed).to_numpy().tobytes())
    return total.hexdigest()


def publish_table(frame: pl.DataFrame | pl.LazyFrame, contract: type[Contract], url: str, footer: Footer) -> Footer:
    """Check the rows and put them in place as one Parquet file.

    Args:
        frame: rows of the table.
        contract: the table's model.
        url: path or fsspec URL of the file.
        footer: provenance; name, version and content digest are filled in here.

    Returns:
        The footer as written.

    Raises:
        ContractError: the rows break the contract; nothing is written.
        TableError: the disk is full or not writable; an earlier file is intact.
    """
    try:
        rows = check(frame, contract, where=url)
    except ContractError as error:
        raise ContractError(f"{error}\nNothing was written; an earlier table, if there was one, is intact.") from error
    footer = replace(
        footer, contract=contract.table(), contract_version=contract.version(), content=content_digest(rows)
    )
    write_file(url, lambda file: rows.write_parquet(file, metadata={METADATA_KEY: footer.to_json()}))
    return footer


def read_footer(url: str) -> Footer:
    """The footer of a published table, without reading its rows.

    Raises:
        TableError: no file, not Parquet, damaged, or not written by Steerworks.
    """
    with _parquet(url) as file:
        metadata = (file.schema_arrow.metadata or {}) | (file.metadata.metadata or {})
    entry = metadata.get(METADATA_KEY.encode())
    if entry is None:
        raise NotPublishedError(
            f"{url} is Parquet, but has no Steerworks footer: it is not a published table. "
            "Import foreign data through a corpus source, or move the file away and materialize the asset again."
        )
    with reading(f"the footer of {url}", TableError):
        return Footer.from_json(entry)


def table_exists(url: str) -> bool:
    """True where a file stands."""
    fs, path = filesystem(url)
    return bool(fs.exists(path))


def read_table(url: str, contract: type[Contract]) -> pl.DataFrame:
    """Read a published table and check it again: by the digest in its footer, and by its contract.

    Raises:
        TableError: missing, not Parquet, damaged, changed since, another table, or another contract version.
        ContractError: the rows break the contract.
    """
    footer = read_footer(url)
    if footer.contract != contract.table():
        raise TableError(
            f"{url} holds table {footer.contract!r}, not {contract.table()!r}: the file is in the wrong place"
        )
    with open_file(url) as file:
        try:
            rows = pl.read_parquet(file.read(), hive_partitioning=False)
        except (polars.exceptions.PolarsError, OSError) as error:
            raise damaged(url, error) from error
    # the earliest footers had no digest
    if footer.content and content_digest(rows) != footer.content:
        raise changed(url)
    if footer.contract_version != contract.version():
        rows = migrated(rows, footer.contract_version, contract, url)
    try:
        return check(rows, contract, where=url)
    except ContractError as error:
        raise ContractError(f"{error}\n(The file was changed after it was published: materialize it again.)") from error


def migrated(rows: pl.DataFrame, version: int, contract: type[Contract], url: str) -> pl.DataFrame:
    """Rows of an older version of a contract as rows of this one.

    Raises:
        TableError: the version is newer, or has no migration.
    """
    newer = version > contract.version()
    moved = None if newer else contract.migrate(rows, version)
    if moved is None:
        remedy = "update Steerworks" if newer else "materialize the asset again"
        raise TableError(
            f"{url} keeps version {version} of contract {contract.table()!r}; this code reads version "
            f"{contract.version()} and has no migration: {remedy}"
        )
    return moved


def _parquet(url: str) -> pq.ParquetFile:
    fs, path = filesystem(url)
    try:
        return pq.ParquetFile(fs.open(path, "rb"))
    except FileNotFoundError as error:
        raise TableError(f"no table at {url}: materialize the asset that writes it first") from error
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        raise damaged(url, error) from error


def changed(url: str) -> TableError:
    """The error for a table whose rows are not those that its footer vouches for."""
    return TableError(
        f"{url} is not what was published: its rows do not have the digest in its footer. "
        "Materialize it again, or put the file back"
    )


def damaged(url: str, error: BaseException) -> TableError:
    """The error for a file that cannot be decoded."""
    detail = str(error).splitlines()[0][:160]
    return TableError(
        f"{url} is not a readable Parquet file ({detail}): it is truncated or something else wrote it. "
        "Delete it and materialize the asset again."
    )
