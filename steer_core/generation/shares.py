"""A share of the answers to be written: several processes write one stream together, each those that fall to it.

Which answers fall to whom is decided by their ids, so that shares are disjoint whoever writes them, and whatever of the
stream the journal holds already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from steer_core.tables.errors import SteerworksError


class ShareWrittenError(SteerworksError):
    """The share is in the journal: what was to be made of the whole stream is not made here."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"a share of {rows} answers was written")
        self.rows = rows


@dataclass(frozen=True)
class Share:
    """One of several shares.

    Attributes:
        index: which, from 0.
        of: how many there are.
    """

    index: int
    of: int

    def has(self, response_id: str) -> bool:
        """Whether an answer falls to this share."""
        return int(response_id[:12], 16) % self.of == self.index


_share: ContextVar[Share | None] = ContextVar("share", default=None)


def current() -> Share | None:
    """The share that is written here; None: everything."""
    return _share.get()


@contextlib.contextmanager
def writing(share: Share) -> Iterator[None]:
    """Inside, streams of answers end with `ShareWrittenError` once the share of theirs is written."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)
