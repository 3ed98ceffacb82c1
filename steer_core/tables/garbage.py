"""What stands in a storage root and nothing refers to: found first, removed only when asked.

* **tables** of cells, benches or names that the configuration does not have, with the pages beside them;
* **journals** of models that their bench does not have;
* **folders** beside tables (states of adapters) that no table names;
* **leases** that were given back long ago, or whose holder was killed;
* the **cache** of goal values, whose rows can be measured again, where that is asked for.

Nothing younger than some days is garbage: a training that was stopped has checkpoints and no table yet.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from schemas.contract import CONTRACTS
from steer_core.tables.errors import ContractError, TableError
from steer_core.tables.files import filesystem, is_local, join
from steer_core.tables.snapshot import read_footer, read_table
from steer_core.tables.survey import TABLE, Found, survey

#: Folder below a bench's in which it is agreed who makes a table.
LEASES = ".leases"
#: Kinds that only another configuration could want.
UNCONFIGURED = ("table", "journal", "bench")
#: Folders below a bench's that hold journals of models.
JOURNALS = ("journal", "search_journal", "rulings")
#: Folders below a bench's that hold what tables name: states of adapters, and the trainings that they come from.
NAMED = ("adapter_states", "training_runs")
#: Folder of the cache of goal values, beside the benches.
CACHE = "goal_value_cache"


@dataclass(frozen=True)
class Known:
    """What a configuration has of a bench.

    Attributes:
        tables: folders of its tables, below the bench's.
        journals: folders of its journals, likewise.
    """

    tables: frozenset[str]
    journals: frozenset[str]


@dataclass(frozen=True)
class Garbage:
    """Something that nothing refers to.

    Attributes:
        path: below the root.
        kind: `table`, `journal`, `bench`, `folder`, `leases` or `cache`.
        why: in words.
        files: what would be removed, in that order: a table before the page that it vouches for.
        size: their bytes.
    """

    path: str
    kind: str
    why: str
    files: tuple[str, ...]
    size: int


def find_garbage(
    root: str,
    known: Mapping[str, Known],
    *,
    before: datetime.datetime,
    caches: bool = False,
) -> list[Garbage]:
    """Look through a root; footers and tables that name folders are read, nothing is written.

    Args:
        root: any fsspec URL.
        known: bench -> what the configuration has of it.
        before: what was changed since is left alone.
        caches: count the cache of goal values as garbage.

    Raises:
        TableError: something cannot be read: what it is, or what it refers to, is not known, so nothing is garbage.
    """
    found = survey(root)
    if found.unreadable:
        path, said = found.unreadable[0]
        raise TableError(f"{path}: {said}\nWhat it is is not known, so nothing is removed")
    files = _Files(root)
    garbage = [*_unconfigured(found, known, files), *_folders(root, found, known, files), *_leases(files)]
    if caches:
        garbage.append(files.garbage(CACHE, "cache", "can be measured again", files.below(CACHE)))
    return sorted((g for g in garbage if g.files and files.newest(g.files) < before), key=lambda g: (g.kind, g.path))


def remove(
    root: str,
    garbage: Iterable[Garbage],
    before: datetime.datetime,
    progress: Callable[[Garbage], object] = lambda one: None,
) -> int:
    """Remove what was found; returns bytes. A kill in between leaves the rest, which is found again.

    Each is looked at once more: what a run has written to since it was found stays.
    """
    freed = 0
    fs, path = filesystem(root)
    for one in garbage:
        if any(_changed(i) >= before for i in _infos(fs, path, one.files)):
            continue
        for file in one.files:
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(f"{path.rstrip('/')}/{file}")
        _drop_empty_folders(root, one.files)
        freed += one.size
        progress(one)
    return freed


def _infos(fs: Any, path: str, files: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            yield fs.info(f"{path.rstrip('/')}/{file}")


class _Files:
    """Sizes and times of all files of a root, by one listing."""

    def __init__(self, root: str) -> None:
        fs, path = filesystem(root)
        fs.invalidate_cache(path)
        base = path.rstrip("/") + "/"
        listed = fs.find(path, detail=True)
        self.of: dict[str, tuple[int, datetime.datetime]] = {
            str(p).removeprefix(base): (int(i.get("size") or 0), _changed(i)) for p, i in listed.items()
        }

    def below(self, folder: str) -> list[str]:
        """Files in a folder and below, hidden ones too."""
        return sorted(f for f in self.of if f.startswith(folder + "/"))

    def newest(self, files: Iterable[str]) -> datetime.datetime:
        """When the last of some files was changed."""
        return max(self.of[f][1] for f in files if f in self.of)

    def garbage(self, path: str, kind: str, why: str, files: Iterable[str]) -> Garbage:
        """These files as garbage."""
        own = tuple(f for f in files if f in self.of)
        return Garbage(path, kind, why, own, sum(self.of[f][0] for f in own))


def _unconfigured(found: Found, known: Mapping[str, Known], files: _Files) -> Iterable[Garbage]:
    paths = [*found.tables, *found.journals]
    # a training keeps a journal of its own in its folder
    of_models = [p for p in found.journals if p.split("/")[1] in JOURNALS]
    for bench in sorted({p.split("/")[0] for p in paths} - set(known)):
        yield files.garbage(bench, "bench", "no bench of this configuration", files.below(bench))
    for path, beside in found.tables.items():
        bench, _, below = path.partition("/")
        if bench in known and below not in known[bench].tables:
            yield files.garbage(path, "table", "no table of a cell that is configured", [f"{path}/{TABLE}", *beside])
    for path in of_models:
        bench, _, below = path.partition("/")
        if bench in known and below not in known[bench].journals:
            yield files.garbage(path, "journal", "of a model that the bench does not have", files.below(path))


def _folders(root: str, found: Found, known: Mapping[str, Known], files: _Files) -> Iterable[Garbage]:
    """Folders beside tables whose name no table of their bench names: a training and its states share theirs."""
    named: dict[str, set[str]] = {}
    for path in found.tables:
        for bench, name in _places(root, path):
            named.setdefault(bench, set()).add(name)
    of: dict[str, list[str]] = {folder: list(own) for folder, own in found.loose.items()}
    for path in found.journals:
        of.setdefault("/".join(path.split("/")[:3]), []).extend(files.below(path))
    for folder, own in sorted(of.items()):
        bench, *rest = folder.split("/")
        if bench in known and len(rest) == 2 and rest[0] in NAMED and rest[1] not in named.get(bench, ()):
            yield files.garbage(folder, "folder", "no table names it", own)


def _places(root: str, path: str) -> set[tuple[str, str]]:
    """Bench and name of the folders that a table names, by `adapter_states/NAME/step-40` or a whole path."""
    url = join(root, path, TABLE)
    try:
        contract = CONTRACTS.get(read_footer(url).contract)
        if contract is None or not contract.places:
            return set()
        rows = read_table(url, contract)
    except (TableError, ContractError) as error:
        raise TableError(f"{error}\nWhat it refers to is not known, so nothing is removed") from error
    fs, top = filesystem(root)
    tops = {root.rstrip("/") + "/", top.rstrip("/") + "/"} | ({f"{Path(top).resolve()}/"} if is_local(fs) else set())
    found = set()
    for place in pl.concat([rows[c].drop_nulls() for c in contract.places]):
        inside = next((t for t in tops if place.startswith(t)), None)
        whole = "://" in place or place.startswith("/")
        below = place[len(inside) :] if inside else "" if whole else f"{path.split('/')[0]}/{place}"
        if below.count("/") >= 2:
            bench, _, name = below.split("/")[:3]
            found.add((bench, name))
    return found


def _leases(files: _Files) -> Iterable[Garbage]:
    """Leases by bench; one that is held has beats, and is young."""
    benches = sorted({f.split("/")[0] for f in files.of if f.count("/") > 1 and f.split("/")[1] == LEASES})
    for folder in (f"{bench}/{LEASES}" for bench in benches):
        yield files.garbage(folder, "leases", "given back, or of processes that are gone", files.below(folder))


def _changed(info: Mapping[str, Any]) -> datetime.datetime:
    names = ("mtime", "LastModified", "last_modified", "updated")
    found = next((info[name] for name in names if info.get(name) is not None), None)
    if isinstance(found, int | float):
        return datetime.datetime.fromtimestamp(found, datetime.UTC)
    if isinstance(found, str):
        return datetime.datetime.fromisoformat(found)
    # a store that does not say: as if it were new
    return found if isinstance(found, datetime.datetime) else datetime.datetime.now(datetime.UTC)


def _drop_empty_folders(root: str, files: Iterable[str]) -> None:
    """Folders that nothing is left in; a store has none."""
    fs, path = filesystem(root)
    if not is_local(fs):
        return
    top = Path(path)
    for file in files:
        folder = (top / file).parent
        while folder != top:
            try:
                folder.rmdir()
            except OSError:
                break
            folder = folder.parent
