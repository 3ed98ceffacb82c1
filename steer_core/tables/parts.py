"""One file of a journal: rows, footer, and a digest of the rows that is compared whenever they are read.

The digest in the footer is a hash of row digests, made from JSON: unlike Polars' own hashes it stays the same through
every version of every library, so a refusal always means that bytes changed. Files written before there was one are
read as they are.
"""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl
import polars.exceptions

from steer_core.tables import key_index
from steer_core.tables.errors import TableError
from steer_core.tables.files import is_local, read_bytes
from steer_core.tables.footer import METADATA_KEY, Footer
from steer_core.tables.snapshot import content_digest, damaged, migrated

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.contract import Contract

T = TypeVar("T")

#: Key of the row digest in the Parquet key-value metadata.
ROWS_KEY = "steerworks_rows"
#: Bytes of a data page: a row that is wanted costs one page a column, not the row group.
PAGE_BYTES = 8192
#: Bytes of one row's digest.
ROW_BYTES = 8


def row_digests(rows: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A 64-bit digest of every row, shape [rows]."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
    made = (hashlib.blake2b(encode(r).encode(), digest_size=ROW_BYTES).digest() for r in rows.iter_rows())
    return np.frombuffer(b"".join(made), dtype="<u8")


def rows_digest(columns: list[str], digests: np.ndarray[Any, np.dtype[np.uint64]]) -> str:
    """Digest of a whole file from its columns and row digests, 32 hex digits."""
    total = hashlib.blake2b("\n".join(columns).encode(), digest_size=16)
    total.update(digests.tobytes())
    return total.hexdigest()


def part_bytes(
    rows: pl.DataFrame, contract: type[Contract], digests: np.ndarray[Any, np.dtype[np.uint64]] | None = None
) -> bytes:
    """A file's content.

    Args:
        rows: rows that keep the contract.
        contract: their model.
        digests: `row_digests(rows)`, where they are known.
    """
    digests = row_digests(rows) if digests is None else digests
    footer = Footer(contract.table(), contract.version(), content=content_digest(rows))
    metadata = {METADATA_KEY: footer.to_json(), ROWS_KEY: rows_digest(rows.columns, digests)}
    file = io.BytesIO()
    rows.write_parquet(file, metadata=metadata, data_page_size=PAGE_BYTES)
    return file.getvalue()


def read_part(
    fs: Any, path: str, contract: type[Contract], sidecar: str | None = None
) -> tuple[pl.DataFrame, np.ndarray[Any, np.dtype[np.uint64]] | None]:
    """All rows of a file as the contract has them, compared with the digest in its footer.

    Args:
        fs: file system.
        path: the file.
        contract: model of its rows.
        sidecar: the segment's, where it has one: then its bytes are compared with that, which is faster.

    Returns:
        The rows, and their digests where they were made.

    Raises:
        FileNotFoundError: another writer has merged the file into a segment.
        TableError: damaged, of another contract, or of a version that cannot be read.
    """
    data: bytes = _decoded(path, lambda: read_bytes(fs, path))
    if sidecar is not None and not key_index.vouches(fs, sidecar, data):
        # an index that is itself damaged is told by its own name
        key_index.read_sidecar(fs, sidecar)
        raise changed(path, "its bytes are not those that its index was made with")
    metadata = _decoded(path, lambda: pl.read_parquet_metadata(io.BytesIO(data)))
    version = _version(metadata, contract, path)
    rows = _decoded(path, lambda: pl.read_parquet(io.BytesIO(data), hive_partitioning=False))
    digests = None
    if sidecar is None and (expected := metadata.get(ROWS_KEY)) is not None:
        digests = row_digests(rows)
        if rows_digest(rows.columns, digests) != expected:
            raise changed(path, "its rows are not those of its footer")
    if version != contract.version():
        return migrated(rows, version, contract, path), None
    return rows, digests


def read_rows(
    fs: Any, path: str, contract: type[Contract], wanted: pl.Series
) -> tuple[pl.DataFrame, np.ndarray[Any, np.dtype[np.uint64]]]:
    """Rows whose first key column is among the wanted, decoding the pages that hold them and no others.

    They are not compared with anything: the caller holds them against the segment's index.

    Returns:
        The rows as the contract has them, and their digests as stored.

    Raises:
        FileNotFoundError: another writer has merged the file.
        TableError: damaged, of another contract, or of a version that cannot be read.
    """
    source = _source(fs, path)
    version = _version(_decoded(path, lambda: pl.read_parquet_metadata(source)), contract, path)
    lazy = pl.scan_parquet(source, hive_partitioning=False, parallel="prefiltered", use_statistics=False, glob=False)
    rows = _decoded(path, lambda: lazy.filter(pl.col(contract.key()[0]).is_in(wanted.implode())).collect())
    digests = row_digests(rows)
    if version != contract.version():
        return migrated(rows, version, contract, path), digests
    if rows.columns != contract.names():
        raise changed(path, f"its columns are {', '.join(rows.columns)}")
    return rows, digests


def read_columns(fs: Any, path: str, contract: type[Contract], columns: list[str]) -> pl.DataFrame:
    """Some columns of a file, unchecked.

    Raises:
        FileNotFoundError: another writer has merged the file.
        TableError: damaged, or of another contract.
    """
    source = _source(fs, path)
    metadata = _decoded(path, lambda: pl.read_parquet_metadata(source))
    if _version(metadata, contract, path) != contract.version():
        return read_part(fs, path, contract)[0].select(columns)
    return _decoded(
        path, lambda: pl.scan_parquet(source, hive_partitioning=False, glob=False).select(columns).collect()
    )


def changed(path: str, what: str) -> TableError:
    """The error for bytes that are not those that were written."""
    return TableError(
        f"{path} was changed after it was written: {what}. Restore it from a copy, or delete it: "
        "its rows are then generated again."
    )


def _source(fs: Any, path: str) -> Any:
    # the local disk is read in place; of another store Polars wants the bytes
    if is_local(fs):
        if not fs.exists(path):
            raise FileNotFoundError(path)
        return path
    return io.BytesIO(read_bytes(fs, path))


def _version(metadata: dict[str, str], contract: type[Contract], path: str) -> int:
    entry = metadata.get(METADATA_KEY)
    if entry is None:
        raise TableError(f"{path} is Parquet, but has no Steerworks footer: it is no part of a journal; move it away")
    try:
        footer = Footer.from_json(entry)
    except (TypeError, ValueError) as error:
        raise changed(path, "its footer cannot be read") from error
    if footer.contract != contract.table():
        raise TableError(
            f"{path} holds table {footer.contract!r}, not {contract.table()!r}: the file is in the wrong place"
        )
    return footer.contract_version


def _decoded(path: str, decode: Callable[[], T]) -> T:
    try:
        return decode()
    except FileNotFoundError:
        raise
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError, ValueError) as error:
        raise damaged(path, error) from error
