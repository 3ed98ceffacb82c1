"""Which file of a journal holds which key, without opening the files.

Two kinds of index, both derived from the files and never needed for a right answer:

* a segment has a sidecar `NAME.keys`: a checksum, the digest of the segment's bytes, then one record a row, sorted by
  key digest, so that the keys of 10^6 rows are 24 MB;
* small parts share the log `keys.log`: one line a part, appended after the part stands. A line that a kill tore, or
  that a rewriting lost, only means that the part itself is opened.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.digest import digest_json, digest_text
from steer_core.tables.errors import TableError
from steer_core.tables.files import read_bytes

if TYPE_CHECKING:
    import polars as pl

#: Bytes of a key's digest.
KEY_BYTES = 16
#: One record of a sidecar: the key's digest and the row's (`parts.row_digests`).
RECORD = np.dtype([("key", f"S{KEY_BYTES}"), ("row", "<u8")])
#: End of a sidecar's name.
SIDECAR = ".keys"
#: Name of the log.
LOG = "keys.log"
#: Bytes of a sidecar before its records.
HEADER = 32
_CHECKSUM = 16

Digests = np.ndarray[Any, Any]


def key_digests(keys: Iterable[object]) -> Digests:
    """Digests of keys, shape [keys], `S16`: of the value where the key is one column, of the tuple where several."""
    made = (digest_text(k) if isinstance(k, str) else digest_json(list(k) if isinstance(k, tuple) else k) for k in keys)
    return np.frombuffer(bytes.fromhex("".join(made)), dtype=f"S{KEY_BYTES}")


def frame_digests(rows: pl.DataFrame, key: Sequence[str]) -> Digests:
    """Digests of the keys of a frame's rows, shape [rows], `S16`."""
    return key_digests(rows[key[0]] if len(key) == 1 else rows.select(key).iter_rows())


def records_of(records: Digests, keys: Digests) -> Digests:
    """The records of a sidecar that have one of these distinct keys."""
    low = np.searchsorted(records["key"], keys, side="left")
    high = np.searchsorted(records["key"], keys, side="right")
    # two rows that differ may stand under one key: reading them is an error, losing one would hide it
    return np.concatenate([records[a:b] for a, b in zip(low, high, strict=True) if a < b] or [records[:0]])


def records_from(keys: Digests, rows: Digests) -> Digests:
    """Records sorted by key, then row."""
    records = np.empty(len(keys), dtype=RECORD)
    records["key"], records["row"] = keys, rows
    return records[np.lexsort((rows, keys))]


def sidecar_bytes(segment: bytes, records: Digests) -> bytes:
    """A sidecar's content, from its segment's bytes and records."""
    body = _digest(segment) + records.tobytes()
    return _digest(body) + body


def vouches(fs: Any, path: str, segment: bytes) -> bool:
    """Whether a sidecar was made with these bytes of its segment.

    Raises:
        FileNotFoundError: another writer has merged the segment.
    """
    return bool(fs.cat_file(path, start=_CHECKSUM, end=HEADER) == _digest(segment))


def read_sidecar(fs: Any, path: str) -> Digests:
    """Records of a sidecar, sorted by key.

    Raises:
        FileNotFoundError: another writer has merged the segment.
        TableError: its checksum is not that of its records.
    """
    data = read_bytes(fs, path)
    body = data[_CHECKSUM:]
    if _digest(body) != data[:_CHECKSUM] or (len(data) - HEADER) % RECORD.itemsize:
        raise TableError(f"{path} is damaged: delete it; the segment is then read without it, and nothing is lost")
    return np.frombuffer(data, dtype=RECORD, offset=HEADER)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM).digest()


def note_part(folder: Path, name: str, keys: Digests) -> None:
    """Add a part's line to the log of a local journal."""
    packed = keys.tobytes()
    line = f"\n{name} {zlib.crc32(name.encode() + packed):08x} ".encode() + base64.b64encode(packed)
    # the part stands already, and without a line it is found all the same
    with contextlib.suppress(OSError):
        handle = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


def read_log(fs: Any, path: str) -> dict[str, Digests]:
    """Part name -> digests of its keys, for parts with a whole line."""
    try:
        data = read_bytes(fs, path)
    except FileNotFoundError:
        return {}
    found = {}
    for line in data.split(b"\n"):
        fields = line.split(b" ")
        if len(fields) != 3:
            continue
        with contextlib.suppress(ValueError):
            packed = base64.b64decode(fields[2], validate=True)
            if int(fields[1], 16) == zlib.crc32(fields[0] + packed) and len(packed) % KEY_BYTES == 0:
                found[fields[0].decode()] = np.frombuffer(packed, dtype=f"S{KEY_BYTES}")
    return found


def rewrite_log(folder: Path, kept: Mapping[str, Digests]) -> None:
    """Leave only these lines. What another process adds meanwhile may be lost, which costs an opened part."""
    with contextlib.suppress(OSError):
        (folder / LOG).unlink(missing_ok=True)
    for name, keys in kept.items():
        note_part(folder, name, keys)
