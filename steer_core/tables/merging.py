"""Two storage roots become one: what the other has and this one lacks is taken, and nothing that stands is changed.

* **Journals**: union by key, file by file; rows of older contracts are migrated on the way. Under one key two different
  rows are a conflict: this root's stays.
* **Published tables**: one that is not here is taken with the files beside it (a page and its figures), once its rows
  are verified. One that is here stays: with the same rows nothing is to be done; with other rows from the same code,
  settings and inputs it is a conflict; made otherwise it is for the next run to bring up to date.
* **Everything else** (adapters, caches) by folder: files that are missing are taken where all files that both have are
  the same bytes.

The other root is only read. A merge that was killed goes on where it was: each step takes what is still missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from schemas.contract import CONTRACTS
from steer_core.tables.errors import ConfigError, ContractError, TableError
from steer_core.tables.files import filesystem, is_local, join, open_file, write_file
from steer_core.tables.journal import Journal, Key
from steer_core.tables.listing import steadily
from steer_core.tables.snapshot import read_footer, read_table, table_exists
from steer_core.tables.survey import TABLE, survey

if TYPE_CHECKING:
    from steer_core.tables.footer import Footer

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Difference:
    """Something that both roots have, and not alike; this root's stands.

    Attributes:
        path: below both roots.
        kind: `rows` (a conflict: the same key, or the same code, settings and inputs), `made otherwise`, `files`, or
            `unreadable` (in one of the roots).
        said: what, in words.
    """

    path: str
    kind: str
    said: str

    @property
    def conflict(self) -> bool:
        """Whether somebody has to decide: a table that was made otherwise the next run makes again where it is due."""
        return self.kind != "made otherwise"


@dataclass
class Merged:
    """What a merge took, or would take.

    Attributes:
        rows: journal -> rows taken.
        tables: published tables taken.
        files: other files taken.
        same: tables, and files beside them, that both had.
        differences: what stands otherwise in the other root.
    """

    rows: dict[str, int] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    same: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def conflicts(self) -> list[Difference]:
        """Differences that somebody has to decide on."""
        return [d for d in self.differences if d.conflict]


def merge_roots(root: str, other: str, *, write: bool = True) -> Merged:
    """Take into a root what another has.

    Args:
        root: what is merged into, any fsspec URL; made where it is not there.
        other: what is taken from; it is only read.
        write: False: only say what would be taken.

    Returns:
        What was taken, and each difference by name.

    Raises:
        ConfigError: the other is no storage root, or lies in this one, or the other way round.
        TableError: the disk is full or not writable; what was taken by then is whole, and the same call goes on.
    """
    _apart(root, other)
    found = survey(other)
    if not found.journals and not found.tables:
        raise ConfigError(
            f"{other} is no storage root: nothing in it is a table or a journal of Steerworks. Give the folder that "
            "holds the folders of its benches"
        )
    merged = Merged()
    for path, table in sorted(found.journals.items()):
        _merge_journal(path, table, root, other, merged, write)
    for path, beside in sorted(found.loose.items()):
        _merge_files(path, beside, root, other, merged, write)
    for path, beside in sorted(found.tables.items()):
        _merge_table(path, beside, root, other, merged, write)
    merged.differences.extend(Difference(path, "unreadable", said) for path, said in found.unreadable)
    return merged


def _merge_journal(path: str, table: str, root: str, other: str, merged: Merged, write: bool) -> None:
    contract = CONTRACTS.get(table)
    if contract is None:
        said = f"holds rows of {table!r}, a table that this version does not know: update Steerworks"
        merged.differences.append(Difference(path, "unreadable", said))
        return
    mine, theirs = Journal(join(root, path), contract), Journal(join(other, path), contract)
    key = contract.key()
    taken = 0
    seen: set[Key] = set()
    clashes: dict[Key, None] = {}
    damaged: dict[str, None] = {}

    def take() -> None:
        nonlocal taken
        for batch in theirs.batches():
            if isinstance(batch, TableError):
                damaged[str(batch)] = None
                continue
            rows, disagreeing = _once(batch, key)
            clashes.update(dict.fromkeys(_keys(disagreeing, key)))
            keys = _keys(rows, key)
            try:
                held = mine.contains(keys)
                common = [k for k in keys if k in held]
                both = pl.concat(
                    [mine.read(common), rows.filter(pl.Series([k in held for k in keys], dtype=pl.Boolean))]
                )
            except (ContractError, TableError) as error:
                # what stands here cannot be read: nothing is put beside it unseen
                damaged[str(error)] = None
                continue
            clashes.update(dict.fromkeys(_keys(_once(both, key)[1], key)))
            held = held | seen.intersection(keys)
            new = rows.filter(pl.Series([k not in held for k in keys], dtype=pl.Boolean))
            if write:
                mine.append(new)
            else:
                seen.update(_keys(new, key))
            taken += new.height

    # a compaction of the other may take files away while they are read: then from the start, and nothing twice
    steadily(take, theirs.url)
    merged.differences.extend(Difference(path, "unreadable", said) for said in damaged)
    if taken:
        merged.rows[path] = taken
    for one in clashes:
        named = one if isinstance(one, str) else ", ".join(map(str, one))
        said = f"{table}: {' and '.join(key)} {named} has another row there; the one here stays"
        merged.differences.append(Difference(path, "rows", said))


def _once(rows: pl.DataFrame, key: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows whose key has one row, and those whose key has several; `seconds` may differ between two honest runs."""
    rows = rows.unique(subset=rows.drop("seconds", strict=False).columns, maintain_order=True, keep="first")
    repeated = pl.struct(list(key)).is_duplicated()
    return rows.filter(~repeated), rows.filter(repeated)


def _keys(rows: pl.DataFrame, key: Sequence[str]) -> list[Key]:
    found = rows.select(list(key)).rows()
    return [k[0] for k in found] if len(key) == 1 else list(found)


def _merge_table(path: str, beside: list[str], root: str, other: str, merged: Merged, write: bool) -> None:
    here, there = join(root, path, TABLE), join(other, path, TABLE)
    try:
        footer = read_footer(there)
        contract = CONTRACTS.get(footer.contract)
        if contract is None:
            raise TableError(f"a table {footer.contract!r} that this version does not know: update Steerworks")
        if not table_exists(here):
            # what it says of itself is verified before it is taken
            read_table(there, contract)
    except (ContractError, TableError) as error:
        merged.differences.append(Difference(path, "unreadable", str(error)))
        return
    if not table_exists(here):
        # the table vouches for the files beside it, so it comes last
        if _merge_files(path, beside, root, other, merged, write):
            if write:
                _copy(there, here)
            merged.tables.append(path)
        return
    try:
        own = read_footer(here)
    except TableError as error:
        merged.differences.append(Difference(path, "unreadable", str(error)))
        return
    if own.content == footer.content:
        merged.same += 1
    elif own.fingerprint == footer.fingerprint:
        said = "other rows there from the same code, settings and inputs; those here stay"
        merged.differences.append(Difference(path, "rows", said))
    else:
        merged.differences.append(Difference(path, "made otherwise", _otherwise(own, footer)))


def _otherwise(own: Footer, footer: Footer) -> str:
    """In what two tables were made differently."""
    words: Mapping[str, str] = {
        "contract_version": "another version of its contract",
        "code_version": "another version of the code",
        "spec_hash": "other settings",
        "seed": "another seed",
    }
    found = [said for name, said in words.items() if getattr(own, name) != getattr(footer, name)]
    names = sorted({*own.inputs, *footer.inputs})
    if inputs := [n for n in names if own.inputs.get(n) != footer.inputs.get(n)]:
        more = f" and {len(inputs) - 3} more" if len(inputs) > 3 else ""
        found.append(f"other rows of {', '.join(inputs[:3])}{more}")
    return f"made there with {', '.join(found)}; the one here stays, and a run makes it again where that is due"


def _merge_files(path: str, files: list[str], root: str, other: str, merged: Merged, write: bool) -> bool:
    """Take the files of a folder, unless one that both have differs; says whether all are there now."""
    present = [f for f in files if table_exists(join(root, f))]
    if odd := [f for f in present if not _alike(join(root, f), join(other, f))]:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        said = f"{odd[0]}{more}: other bytes there; nothing of this folder was taken"
        merged.differences.append(Difference(path, "files", said))
        return False
    merged.same += len(present)
    for file in files:
        if file not in present:
            if write:
                _copy(join(other, file), join(root, file))
            merged.files.append(file)
    return True


def _alike(one: str, other: str) -> bool:
    sizes = []
    for url in (one, other):
        fs, path = filesystem(url)
        sizes.append(fs.size(path))
    if sizes[0] != sizes[1]:
        return False
    with open_file(one) as left, open_file(other) as right:
        while chunk := left.read(_CHUNK):
            if chunk != right.read(_CHUNK):
                return False
    return True


def _copy(source: str, target: str) -> None:
    """A file as it is, in one step; one that came to stand there meanwhile stays."""

    def through(file: Any) -> None:
        with open_file(source) as read:
            shutil.copyfileobj(read, file, _CHUNK)

    write_file(target, through, replace=False)


def _apart(root: str, other: str) -> None:
    places = []
    for url in (root, other):
        fs, path = filesystem(url)
        places.append(str(Path(path).resolve()) if is_local(fs) else f"{fs.protocol}:{path.rstrip('/')}")
    fs, path = filesystem(other)
    if not fs.exists(path):
        raise ConfigError(f"there is nothing at {other}")
    one, two = (p + "/" for p in places)
    if one.startswith(two) or two.startswith(one):
        raise ConfigError(f"{other} and {root} are one place, or one lies in the other: there is nothing to merge")
