"""Writes that a store does only if nothing came between: what several machines agree by, without a rename.

On the local disk a hard link takes no other file's place. On an object store the condition goes with the request
(`If-None-Match`, `If-Match`), so that the store itself decides between two writers.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import IO, Any

from steer_core.tables.files import (
    filesystem,
    is_local,
    is_s3,
    read_bytes,
    refused,
    write_file,
)


def create(url: str, data: bytes) -> bool:
    """Write a whole file where none stands; False where one does, which stays as it is.

    A request that the store carried out and whose answer was lost is recognized by what stands there.

    Raises:
        TableError: the disk is full or not writable.
    """
    if write_file(url, lambda file: file.write(data), sweep=False, replace=False):
        return True
    fs, path = filesystem(url)
    return not is_local(fs) and _stands(fs, path, data)


def stamp(url: str) -> str:
    """What tells one state of a file from another: its ETag, or time and size; empty where no file stands."""
    fs, path = filesystem(url)
    try:
        info = fs.info(path)
    except FileNotFoundError:
        return ""
    return _stamp(info)


def seen_as(info: Mapping[str, Any]) -> str:
    """`stamp`, of a file whose particulars somebody gave: the same from a listing and from the file itself.

    Some stores quote an ETag in the one and not in the other: it is for comparing alone, and no condition of a `put`.
    """
    return _stamp(info).removeprefix("W/").strip('"')


def _stamp(info: Mapping[str, Any]) -> str:
    if tag := info.get("ETag") or info.get("etag"):
        return str(tag)
    at = info.get("mtime") or info.get("created")
    # a listing may have in seconds what the file itself has as a time
    return str((at.timestamp() if isinstance(at, datetime) else at, info.get("size")))


def put(url: str, write: Callable[[IO[bytes]], object], seen: str) -> bool:
    """Write a whole file if what stands there is still what was seen; False where it is not.

    S3 compares as it writes. Elsewhere the file is looked at just before: a writer that is stopped between the look and
    the write is not noticed.

    Args:
        url: where.
        write: called with a binary file to write to.
        seen: its `stamp`; empty where there was none.

    Raises:
        TableError: the disk is full or not writable; the old file is intact.
    """
    fs, path = filesystem(url)
    if not is_s3(fs):
        if stamp(url) != seen:
            return False
        write_file(url, write)
        return True
    whole = io.BytesIO()
    write(whole)
    data = whole.getvalue()
    if not seen:
        return create(url, data)
    try:
        # in one request: of a file in pieces only the last would bear the condition
        fs.pipe_file(path, data, chunksize=max(len(data), 1), IfMatch=seen)
    except FileNotFoundError:
        # somebody removed it
        return False
    except OSError as error:
        if not refused(error):
            raise
        return _stands(fs, path, data)
    return True


def _stands(fs: Any, path: str, data: bytes) -> bool:
    """Whether a refused write is our own, sent twice: an answer of the store was lost on the way."""
    try:
        return hashlib.sha256(read_bytes(fs, path)).digest() == hashlib.sha256(data).digest()
    except FileNotFoundError:
        return False
