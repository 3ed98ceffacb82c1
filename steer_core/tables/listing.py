"""What stands in a journal's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from steer_core.tables.errors import TableError
from steer_core.tables.key_index import SIDECAR

T = TypeVar("T")

#: End of a part's and a segment's name.
PART = ".parquet"
#: Start of a segment's name; a part's is the hash of its keys.
SEGMENT = "segment-"
#: Times that a reader starts again because files went away under it.
RETRIES = 50


@dataclass(frozen=True)
class Listing:
    """Names without their ends.

    Attributes:
        parts: files as they were appended, sorted.
        segments: merged files, sorted.
        sidecars: segments that have an index.
    """

    parts: tuple[str, ...]
    segments: tuple[str, ...]
    sidecars: frozenset[str]

    @property
    def files(self) -> tuple[str, ...]:
        """Segments, then parts."""
        return (*self.segments, *self.parts)


def list_journal(fs: Any, path: str) -> Listing:
    """The files of a journal.

    A folder that changes while it is read may show neither a new segment nor the parts that went into it, so it is read
    until two readings agree: parts that went before the second began had their segment before, too.
    """
    earlier = _names(fs, path)
    for _ in range(RETRIES):
        names = _names(fs, path)
        if names == earlier:
            break
        # what was added since hides nothing; only what went away asks for another look
        if earlier <= names:
            break
        earlier = names
    tables = sorted(n.removesuffix(PART) for n in names if n.endswith(PART) and not n.startswith("."))
    return Listing(
        parts=tuple(n for n in tables if not n.startswith(SEGMENT)),
        segments=tuple(n for n in tables if n.startswith(SEGMENT)),
        sidecars=frozenset(n.removesuffix(SIDECAR) for n in names if n.endswith(SIDECAR) and not n.startswith(".")),
    )


def steadily(read: Callable[[], T], url: str) -> T:
    """The result of a reading, begun again where another writer merged a file between its listing and its opening.

    Raises:
        TableError: it never came to rest.
    """
    for _ in range(RETRIES):
        try:
            return read()
        except FileNotFoundError as error:
            gone = error
    raise TableError(f"journal {url}: files went away during each of {RETRIES} readings (last: {gone}); try again")


def _names(fs: Any, path: str) -> set[str]:
    fs.invalidate_cache(path)
    try:
        return {str(p).rsplit("/", 1)[-1] for p in fs.ls(path, detail=False)}
    except FileNotFoundError:
        return set()
