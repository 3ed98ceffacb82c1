"""The append-only journal of generation: rows that are done stay done, whatever kills the run.

A folder of Parquet files of one contract:

* **parts** `HASH.parquet`, one an `append`, put in place in one step: after a kill a batch is there whole or not;
* **segments** `segment-HASH.parquet` of about 65,536 rows, into which `compact` merges parts, each with a sidecar that
  finds a row by its key;
* `keys.log`, which finds the part of a key.

Files never change once they stand. Any number of writers may append; one at a time compacts; readers need no lock. The
same row in two files is one row; different rows under one key are an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from schemas.digest import digest_json
from steer_core.tables import compaction, conditional, key_index
from steer_core.tables.errors import ContractError, TableError
from steer_core.tables.files import filesystem, is_local, join, read_bytes, write_bytes
from steer_core.tables.key_index import LOG, SIDECAR, Digests
from steer_core.tables.listing import PART, Listing, list_journal, steadily
from steer_core.tables.parts import changed, part_bytes, read_columns, read_part, read_rows
from steer_core.tables.validation import check

if TYPE_CHECKING:
    from schemas.contract import Contract

#: A value of the key column; a tuple where the contract's key is several columns.
Key = str | tuple[object, ...]


@dataclass(frozen=True)
class Journal:
    """Rows of one contract, found by the contract's key columns.

    Attributes:
        url: folder, any fsspec URL.
        contract: model of the rows.
    """

    url: str
    contract: type[Contract]

    def append(self, rows: pl.DataFrame) -> None:
        """Add finished rows as one part; once this returns they survive a kill. The same rows again change nothing.

        Raises:
            ContractError: the rows break the contract; nothing is written.
            TableError: the disk is full or not writable; nothing is written.
        """
        if not rows.height:
            return
        rows = check(rows, self.contract, where=self.url)
        keys = rows.select(self.contract.key()).rows()
        # parts of one key column keep the names that they had before there were others
        name = digest_json([k[0] for k in keys] if len(self.contract.key()) == 1 else [list(k) for k in keys])
        data = part_bytes(rows, self.contract)
        fs, path = filesystem(self.url)
        if not is_local(fs):
            # one request where all goes well: the store says whether a part of this name stands
            if not conditional.create(join(self.url, f"{name}{PART}"), data) and not self._holds(name, rows):
                conditional.create(join(self.url, f"{self._beside(name, rows)}{PART}"), data)
            return
        if (stands := self._standing(name)) is not None:
            if stands.equals(self._timeless(rows)):
                return
            name = self._beside(name, rows)
        # a compaction sweeps: a look at the whole folder is too much for every append
        write_bytes(join(self.url, f"{name}{PART}"), data, sweep=False)
        key_index.note_part(Path(path), name, key_index.frame_digests(rows, self.contract.key()))

    def parts(self) -> list[str]:
        """URLs of the files, parts and segments, sorted."""
        fs, path = filesystem(self.url)
        return sorted(join(self.url, f"{n}{PART}") for n in list_journal(fs, path).files)

    def read(self, keys: Collection[Key] | None = None) -> pl.DataFrame:
        """Rows that are done: all, or those with these keys, opening the files that hold one of them.

        Raises:
            TableError: a file is damaged or was changed, or holds another row than others under one key.
            ContractError: stored rows break the contract.
        """
        fs, path = filesystem(self.url)
        frames = steadily(lambda: list(self._frames(fs, path, keys)), self.url)
        if not frames:
            return self.contract.empty()
        # `seconds` may differ between two honest runs; what was written may not
        rows = pl.concat(frames)
        rows = rows.unique(subset=self._timeless(rows).columns, maintain_order=True, keep="first")
        if (clash := rows.filter(pl.struct(self.contract.key()).is_duplicated())).height:
            repeated = clash.select(self.contract.key()).unique(maintain_order=True).rows()
            raise TableError(
                f"journal {self.url}: {len(repeated)} keys hold different rows (first: "
                f"{', '.join(map(str, repeated[0]))}). "
                "Two machines disagree under one execution fingerprint: remove one of the parts."
            )
        try:
            return check(rows, self.contract, where=self.url)
        except ContractError as error:
            raise ContractError(f"{error}\n(A file was changed after it was written: move it away.)") from error

    def batches(self) -> Iterator[pl.DataFrame | TableError]:
        """Rows file by file, a segment in memory at most; a row that stands in two files comes twice.

        A file that is damaged or was changed gives its error in the place of rows, and the next one follows.

        Raises:
            FileNotFoundError: another writer merged a file meanwhile: begin again (`listing.steadily`).
        """
        fs, path = filesystem(self.url)
        listing = list_journal(fs, path)
        for name in listing.files:
            try:
                yield self._whole(fs, path, listing, name)
            except (TableError, ContractError) as error:
                yield error if isinstance(error, TableError) else TableError(str(error))

    def contains(self, keys: Collection[Key]) -> set[Key]:
        """Those of the keys that the journal holds, from its indexes; a part without a line in the log is opened."""
        fs, path = filesystem(self.url)
        digests = key_index.key_digests(keys)
        return steadily(lambda: self._contained(fs, path, keys, digests), self.url)

    def keys(self) -> set[Key]:
        """All keys, from the key columns."""
        key = self.contract.key()
        frames = self._columns(key)
        return {r[0] if len(key) == 1 else r for f in frames for r in f.iter_rows()}

    def totals(self, *columns: str) -> dict[str, float]:
        """Sums of numeric columns over all rows, each key once, reading these columns and no others.

        For estimates: the bytes are not compared with their digests, and keys are told apart by 64-bit hashes.
        """
        key = self.contract.key()
        keyed = pl.struct(key).hash() if len(key) > 1 else pl.col(key[0]).hash()
        # of 10^7 keys the hashes take 80 MB, and the keys themselves a gigabyte
        frames = self._columns([*key, *columns], lambda rows: rows.select(keyed.alias("_key"), *columns))
        if not frames:
            return dict.fromkeys(columns, 0.0)
        rows = pl.concat(frames)
        # sorted hashes stay linear at 10^7 rows, where a table of them falls out of the processor's cache
        ordered = np.sort(rows["_key"].to_numpy())
        if (ordered[1:] == ordered[:-1]).any():
            rows = rows.unique("_key", keep="any")
        return {c: float(rows[c].sum()) for c in columns}

    def compact(self, at_least: int = compaction.SMALL_PARTS) -> bool:
        """Merge small parts into segments; readers and other writers go on meanwhile.

        Returns at once where there is little to do, or where another process compacts this journal. A part that is
        damaged is left alone: whoever reads it is told.

        Args:
            at_least: small parts from which on it is done.

        Returns:
            Whether anything was merged.

        Raises:
            TableError: the disk is full or not writable; no row is lost.
        """
        fs, path = filesystem(self.url)
        return steadily(lambda: compaction.compact(self.url, fs, path, self.contract, at_least), self.url)

    def _frames(self, fs: Any, path: str, keys: Collection[Key] | None) -> Iterator[pl.DataFrame]:
        listing = list_journal(fs, path)
        if keys is None:
            yield from (self._whole(fs, path, listing, n) for n in listing.files)
            return
        distinct = list(dict.fromkeys(keys))
        wanted = key_index.key_digests(distinct)
        by_digest = dict(zip(wanted.tolist(), distinct, strict=True))
        wanted = np.sort(wanted)
        for name, records in self._holding(fs, path, listing, wanted):
            url = f"{path}/{name}{PART}"
            if records is not None:
                yield self._found(fs, url, records, [by_digest[k] for k in records["key"].tolist()])
            else:
                rows = self._whole(fs, path, listing, name)
                held = np.isin(key_index.frame_digests(rows, self.contract.key()), wanted)
                found = rows.filter(pl.Series(held))
                # filtered strings keep the memory of all; a large part must not stay for a few of its rows
                yield (
                    found if 2 * found.height > rows.height else pl.DataFrame(found.rows(), found.schema, orient="row")
                )

    def _whole(self, fs: Any, path: str, listing: Listing, name: str) -> pl.DataFrame:
        sidecar = _sidecar(path, name) if name in listing.sidecars else None
        rows, digests = read_part(fs, f"{path}/{name}{PART}", self.contract, sidecar)
        # a file that nothing vouches for is checked by itself, so that the error names it
        return check(rows, self.contract, where=name + PART) if digests is None and sidecar is None else rows

    def _holding(self, fs: Any, path: str, listing: Listing, wanted: Digests) -> Iterator[tuple[str, Digests | None]]:
        """Files that hold one of the keys, segments with the records of those; files without an index may."""
        for name in listing.segments:
            if name not in listing.sidecars:
                yield name, None
            elif len(records := key_index.records_of(key_index.read_sidecar(fs, _sidecar(path, name)), wanted)):
                yield name, records
        log = key_index.read_log(fs, f"{path}/{LOG}") if listing.parts else {}
        for name in listing.parts:
            if name not in log or np.isin(log[name], wanted).any():
                yield name, None

    def _found(self, fs: Any, url: str, records: Digests, keys: Sequence[Key]) -> pl.DataFrame:
        """Rows of a segment, held against the records of its sidecar."""
        first = pl.Series([k[0] if isinstance(k, tuple) else k for k in keys]).unique()
        rows, digests = read_rows(fs, url, self.contract, first)
        found = key_index.frame_digests(rows, self.contract.key())
        held = np.isin(found, records["key"])
        if not np.array_equal(key_index.records_from(found[held], digests[held]), records):
            raise changed(url, "its rows are not those of its index")
        return rows.filter(pl.Series(held))

    def _contained(self, fs: Any, path: str, keys: Collection[Key], digests: Digests) -> set[Key]:
        listing = list_journal(fs, path)
        ordered = np.sort(digests)
        found: set[bytes] = set()
        log = key_index.read_log(fs, f"{path}/{LOG}") if listing.parts else {}
        for name in listing.files:
            if name in listing.sidecars:
                records = key_index.read_sidecar(fs, _sidecar(path, name))
                found.update(key_index.records_of(records, ordered)["key"].tolist())
                continue
            if (held := log.get(name)) is None:
                rows = read_columns(fs, f"{path}/{name}{PART}", self.contract, list(self.contract.key()))
                held = key_index.frame_digests(rows, self.contract.key())
            found.update(held.tolist())
        return {k for k, d in zip(keys, digests.tolist(), strict=True) if d in found}

    def _columns(
        self, columns: Sequence[str], then: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows
    ) -> list[pl.DataFrame]:
        """Some columns of each file, and what is made of them while the next is not read yet."""
        fs, path = filesystem(self.url)

        def read() -> list[pl.DataFrame]:
            files = list_journal(fs, path).files
            return [then(read_columns(fs, f"{path}/{n}{PART}", self.contract, list(columns))) for n in files]

        return steadily(read, self.url)

    def _standing(self, name: str) -> pl.DataFrame | None:
        """Rows of the part of this name, times aside; None where there is none or it cannot be read."""
        fs, path = filesystem(self.url)
        if not fs.exists(f"{path}/{name}{PART}"):
            return None
        if not is_local(fs):
            # a store that does not answer has no rubble to make way: its error is the caller's
            with contextlib.suppress(FileNotFoundError):
                read_bytes(fs, f"{path}/{name}{PART}")
        try:
            return self._timeless(read_part(fs, f"{path}/{name}{PART}", self.contract)[0])
        except (TableError, FileNotFoundError):
            # the rows in hand take the place of rubble, and of what is in a segment by now
            return None

    def _holds(self, name: str, rows: pl.DataFrame) -> bool:
        """Whether the part of this name holds these rows; rubble holds none, and makes way for them."""
        stands = self._standing(name)
        if stands is None:
            write_bytes(join(self.url, f"{name}{PART}"), part_bytes(rows, self.contract))
        return stands is None or stands.equals(self._timeless(rows))

    def _beside(self, name: str, rows: pl.DataFrame) -> str:
        """Another name: what stands is never replaced, and reading both is the error that names the key."""
        return digest_json([name, [list(map(str, r)) for r in rows.rows()]])

    def _timeless(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.drop("seconds", strict=False)


def _sidecar(path: str, name: str) -> str:
    return f"{path}/{name}{SIDECAR}"
