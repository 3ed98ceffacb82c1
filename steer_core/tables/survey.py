"""What stands in a storage root: its tables with the files beside them, its journals, and everything else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from steer_core.tables.errors import NotPublishedError, TableError
from steer_core.tables.files import filesystem, join
from steer_core.tables.key_index import LOG, SIDECAR
from steer_core.tables.listing import PART
from steer_core.tables.snapshot import read_footer

#: File of a published table.
TABLE = "part.parquet"
#: Ends of files that say nothing to another root.
_OWN = (LOG, SIDECAR, ".lock", ".tmp")


@dataclass
class Found:
    """What there is in a root: paths below it.

    Attributes:
        journals: folder -> name of the contract.
        tables: folder -> other files in it and below.
        loose: folder (or file, where it lies at the top) -> files.
        unreadable: path and what is the matter with it.
    """

    journals: dict[str, str] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)
    loose: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def survey(root: str) -> Found:
    """Look through a root, of any fsspec URL; the footer of one file of each folder is read, and no rows."""
    files = sorted(_files(root))
    found = Found()
    folders: dict[str, list[str]] = defaultdict(list)
    for path in files:
        folder, _, name = path.rpartition("/")
        if name == TABLE:
            found.tables[folder] = []
        else:
            folders[folder].append(path)
    for folder, own in folders.items():
        if (table := _journal_of(root, own, found)) is not None:
            found.journals[folder] = table
            continue
        # the page of a table lies beside it, its figures below
        holder = next((f for f in _upwards(folder) if f in found.tables), None)
        for path in own:
            if holder is not None:
                found.tables[holder].append(path)
            else:
                found.loose["/".join(path.split("/")[:3])].append(path)
    return found


def _journal_of(root: str, paths: list[str], found: Found) -> str | None:
    """Contract of the journal that these files are, by the first that can be read; None: they are something else."""
    unreadable = []
    for path in (p for p in paths if p.endswith(PART)):
        try:
            return read_footer(join(root, path)).contract
        except NotPublishedError:
            return None
        except TableError as error:
            unreadable.append((path, str(error)))
    found.unreadable.extend(unreadable)
    return None


def _files(root: str) -> Iterator[str]:
    """Paths below a root, without what is hidden and what only its own root can use."""
    fs, path = filesystem(root)
    fs.invalidate_cache(path)
    base = path.rstrip("/") + "/"
    for one in fs.find(path):
        below = str(one).removeprefix(base)
        if not below.endswith(_OWN) and not any(p.startswith(".") for p in below.split("/")):
            yield below


def _upwards(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
