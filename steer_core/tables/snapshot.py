"""Published tables: checked when written, checked when read, with a footer that says where they come from."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import polars as pl
import polars.exceptions
import pyarrow as pa
import pyarrow.parquet as pq

from steer_core.tables import conditional
from steer_core.tables.damage import reading
from steer_core.tables.errors import ContractError, NotPublishedError, OvertakenError, TableError
from steer_core.tables.files import filesystem, is_local, open_file, write_file
from steer_core.tables.footer import METADATA_KEY, Footer
from steer_core.tables.validation import check

if TYPE_CHECKING:
    from schemas.contract import Contract

#: Bytes of a file's end that are asked for first: they hold most footers.
FOOTER_BYTES = 1 << 16


def content_digest(frame: pl.DataFrame) -> str:
    """Digest of the rows in order, independent of file layout and of how the frame lies in memory.

    Two 64-bit hashes a row, hashed together with the schema. Row hashes may differ between versions of Polars; a
    digest is made once, when a table is published, and from then on read from its footer.
    """
    total = hashlib.blake2b(str(frame.schema).encode(), digest_size=16)
    for seed in (0, 1):
        total.update(frame.hash_rows(seed=seed).to_numpy().tobytes())
    return total.hexdigest()


def publish_table(
    frame: pl.DataFrame | pl.LazyFrame, contract: type[Contract], url: str, footer: Footer, seen: str | None = None
) -> Footer:
    """Check the rows and put them in place as one Parquet file.

    Args:
        frame: rows of the table.
        contract: the table's model.
        url: path or fsspec URL of the file.
        footer: provenance; name, version and content digest are filled in here.
        seen: `conditional.stamp` of what stood there when the rows were begun: if that has changed since, they are not
            written. None: they are, whatever stands there.

    Returns:
        The footer as written.

    Raises:
        OvertakenError: somebody else published this table meanwhile; theirs stays.
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

    def write(file: IO[bytes]) -> None:
        rows.write_parquet(file, metadata={METADATA_KEY: footer.to_json()})

    if seen is None:
        write_file(url, write)
    elif not conditional.put(url, write, seen):
        raise OvertakenError(
            f"{url} was published by another process while this one worked: theirs stays, nothing was written here. "
            "Run it again: what is done is not done twice"
        )
    return footer


def read_footer(url: str) -> Footer:
    """The footer of a published table, without reading its rows.

    Raises:
        TableError: no file, not Parquet, damaged, or not written by Steerworks.
    """
    entry = _metadata(url).get(METADATA_KEY.encode())
    if entry is None:
        raise NotPublishedError(
            f"{url} is Parquet, but has no Steerworks footer: it is not a published table. "
            "Import foreign data through a corpus source, or move the file away and materialize the asset again."
        )
    with reading(f"the footer of {url}", TableError):
        return Footer.from_json(entry.decode())


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


def _metadata(url: str) -> dict[bytes, bytes]:
    """The key-value metadata of a Parquet file; of an object store its end is asked for."""
    fs, path = filesystem(url)
    try:
        if is_local(fs):
            found = pq.read_metadata(path)
        else:
            end = fs.cat_file(path, start=-FOOTER_BYTES)
            # length of the footer, then the magic word
            if (needed := int.from_bytes(end[-8:-4], "little") + 8) > len(end) == FOOTER_BYTES:
                end = fs.cat_file(path, start=-needed)
            found = pq.read_metadata(io.BytesIO(end))
        return dict(found.schema.to_arrow_schema().metadata or {}) | dict(found.metadata or {})
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
