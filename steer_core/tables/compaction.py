"""Small parts of a journal become segments, without a moment at which a row is nowhere.

Sidecar, then segment are put in place; only then do the files that went into it go. A kill in between leaves rows
twice, never less than once, and the next compaction drops what it finds twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import polars as pl

from steer_core.tables import key_index
from steer_core.tables.errors import ContractError, TableError
from steer_core.tables.files import is_local, join, sweep_folder, write_bytes
from steer_core.tables.key_index import HEADER, LOG, RECORD, SIDECAR, Digests
from steer_core.tables.leases import try_lease
from steer_core.tables.listing import PART, SEGMENT, Listing, list_journal
from steer_core.tables.parts import part_bytes, read_part, row_digests, rows_digest

if TYPE_CHECKING:
    from schemas.contract import Contract

#: Rows of a segment: about 100 MB of answers in memory, 30 MB on disk.
SEGMENT_ROWS = 65_536
#: Fewer small parts than these are not worth a compaction.
SMALL_PARTS = 64


@dataclass
class _Merge:
    """Files read so far, and what of them goes into the next segment."""

    sources: list[str] = field(default_factory=list)
    frames: list[pl.DataFrame] = field(default_factory=list)
    digests: list[Digests] = field(default_factory=list)

    @property
    def height(self) -> int:
        return sum(f.height for f in self.frames)


def compact(url: str, fs: Any, path: str, contract: type[Contract], at_least: int) -> bool:
    """Merge small parts into segments; see `Journal.compact`."""
    if len(list_journal(fs, path).parts) < at_least:
        return False
    if not is_local(fs):
        held = try_lease(join(url, ".compact"), "a compaction")
        if held is None:
            return False
        held.begin()
        try:
            # a lease may be lost on the way: nothing is dropped because it stands in another's file
            return _compact(url, fs, path, contract, locked=False)
        finally:
            held.end()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(filelock.FileLock(Path(path) / ".compact.lock", timeout=0))
        except filelock.Timeout:
            return False
        sweep_folder(Path(path))
        return _compact(url, fs, path, contract, locked=True)


def _compact(url: str, fs: Any, path: str, contract: type[Contract], *, locked: bool) -> bool:
    listing = list_journal(fs, path)
    sizes = {s: _rows(fs, path, listing, s) for s in listing.segments}
    tails = [s for s, rows in sizes.items() if rows < SEGMENT_ROWS]
    full = [s for s, rows in sizes.items() if rows >= SEGMENT_ROWS]
    standing = [key_index.read_sidecar(fs, f"{path}/{s}{SIDECAR}") for s in full] if locked else []
    done = False
    for merge in _merges(fs, path, contract, [*tails, *_arrived(fs, path, listing)]):
        if merge.sources != tails[:1]:
            written, records = _write(url, contract, merge, standing)
            _remove(fs, path, [s for s in merge.sources if s not in written])
            standing += records if locked else []
            done = True
    if locked:
        _tidy(fs, path)
    return done


def _merges(fs: Any, path: str, contract: type[Contract], names: Sequence[str]) -> Iterator[_Merge]:
    merge = _Merge()
    for name in names:
        # what cannot be read stays where it is: whoever reads the journal is told
        with contextlib.suppress(TableError, ContractError, FileNotFoundError):
            rows, digests = read_part(fs, f"{path}/{name}{PART}", contract)
            merge.sources.append(name)
            merge.frames.append(rows)
            merge.digests.append(row_digests(rows) if digests is None else digests)
        if merge.height >= SEGMENT_ROWS:
            yield merge
            merge = _Merge()
    if merge.sources:
        yield merge


def _write(
    url: str, contract: type[Contract], merge: _Merge, standing: Sequence[Digests]
) -> tuple[set[str], list[Digests]]:
    """Put the rows in place, each once; returns the names and the sidecars' records."""
    rows, digests = pl.concat(merge.frames), np.concatenate(merge.digests)
    merge.frames.clear()
    timeless = [c for c in rows.columns if c != "seconds"]
    first = rows.with_row_index("_row").unique(timeless, keep="first", maintain_order=True)["_row"].to_numpy()
    keys = key_index.frame_digests(rows, contract.key())
    mine = np.empty(len(keys), dtype=RECORD)
    mine["key"], mine["row"] = keys, digests
    kept = np.zeros(len(keys), dtype=bool)
    kept[first] = True
    for records in standing:
        at = np.minimum(np.searchsorted(records["key"], keys), len(records) - 1)
        kept &= records[at] != mine
    rows, keys, digests = rows.filter(pl.Series(kept)), keys[kept], digests[kept]
    names, made = set(), []
    pieces = max(1, rows.height // SEGMENT_ROWS) if rows.height else 0
    for piece in np.array_split(np.arange(rows.height), pieces) if pieces else []:
        cut = slice(int(piece[0]), int(piece[-1]) + 1)
        name = f"{SEGMENT}{rows_digest(rows.columns, digests[cut])}"
        records = key_index.records_from(keys[cut], digests[cut])
        data = part_bytes(rows[cut], contract, digests[cut])
        write_bytes(join(url, f"{name}{SIDECAR}"), key_index.sidecar_bytes(data, records))
        write_bytes(join(url, f"{name}{PART}"), data)
        names.add(name)
        made.append(records)
    return names, made


def _remove(fs: Any, path: str, names: Sequence[str]) -> None:
    for name in names:
        # another compaction may have been faster
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{path}/{name}{PART}")
        if name.startswith(SEGMENT):
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(f"{path}/{name}{SIDECAR}")


def _tidy(fs: Any, path: str) -> None:
    """Drop sidecars without a segment, and lines of parts that are gone."""
    listing = list_journal(fs, path)
    for name in listing.sidecars - set(listing.segments):
        fs.rm_file(f"{path}/{name}{SIDECAR}")
    log = key_index.read_log(fs, f"{path}/{LOG}")
    key_index.rewrite_log(Path(path), {n: k for n, k in log.items() if n in listing.parts})


def _arrived(fs: Any, path: str, listing: Listing) -> list[str]:
    """Parts as they came, so that answers that were asked together lie together; those without a line first."""
    log = list(key_index.read_log(fs, f"{path}/{LOG}"))
    place = {name: n for n, name in enumerate(log)}
    return sorted(listing.parts, key=lambda n: (place.get(n, -1), n))


def _rows(fs: Any, path: str, listing: Listing, name: str) -> int:
    """Rows of a segment; 0 without a sidecar, so that it is merged and gets one."""
    if name not in listing.sidecars:
        return 0
    return (int(fs.size(f"{path}/{name}{SIDECAR}")) - HEADER) // RECORD.itemsize
