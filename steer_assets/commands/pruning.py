"""Remove from the storage root what nothing refers to; without being told to, only say what that is."""

from __future__ import annotations

import argparse
import datetime

from steer_assets.io import table_url
from steer_assets.partitions import all_cells
from steer_assets.settings import registry, storage_root
from steer_core.reports.numbers import plural
from steer_core.tables.files import join
from steer_core.tables.garbage import UNCONFIGURED, Garbage, Known, find_garbage, remove


def prune(bench: None, options: argparse.Namespace) -> int:
    """Say what is garbage, and with `--delete` remove it."""
    root = storage_root()
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=options.older_than)
    found = find_garbage(root, known(root), before=before, caches=options.caches)
    ours = [g for g in found if options.unconfigured or g.kind not in UNCONFIGURED]
    others = [g for g in found if g not in ours]
    _tell(ours, "Removing" if options.delete else "Would remove")
    if others:
        _tell(others, "Not of this configuration, and kept without --unconfigured")
    if options.delete:
        print(f"Freed {_size(remove(root, ours, before))}.")
    elif ours:
        print(f"{_size(sum(g.size for g in ours))} in all. Nothing was removed: add --delete to do it.")
    else:
        print(f"Nothing to remove that is older than {plural(options.older_than, 'day')}.")
    return 0


def known(root: str) -> dict[str, Known]:
    """What the configuration has of each bench, as folders below the bench's."""
    from steer_assets.assets import nodes_of

    found = {}
    for bench in registry().benches.values():
        base = join(root, bench.name) + "/"
        cells = [c for c in all_cells(bench) if c.why_impossible() is None]
        tables = {
            table_url(root, bench.name, name, key).removeprefix(base).rpartition("/")[0]
            for node in nodes_of(bench).all
            for spec in node.tables
            for name in spec.outputs
            for key in ([c.key for c in cells] if node.grid else [None])
        }
        # any model may judge or write for others
        journals = {f"journal/{kind}{m}" for kind in ("model=", "judgements-", "scored-") for m in registry().models}
        journals |= {f"search_journal/model={m}" for m in registry().models}
        journals |= {f"rulings/model={c.model.name}/method={c.method.name}" for c in cells}
        found[bench.name] = Known(frozenset(tables), frozenset(journals))
    return found


def _tell(found: list[Garbage], title: str) -> None:
    for kind in sorted({g.kind for g in found}):
        own = [g for g in found if g.kind == kind]
        print(f"{title}: {plural(len(own), KINDS[kind])}, {_size(sum(g.size for g in own))}")
        for one in own:
            print(f"  {one.path}: {one.why} ({plural(len(one.files), 'file')}, {_size(one.size)})")


#: What each kind is called.
KINDS = {
    "table": "table",
    "journal": "journal",
    "bench": "bench",
    "folder": "folder of adapters",
    "leases": "set of leases",
    "cache": "cache",
}


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
