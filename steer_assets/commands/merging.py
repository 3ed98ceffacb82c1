"""Take into the storage root what another has: a second machine's, a colleague's."""

from __future__ import annotations

import argparse

from steer_assets.settings import storage_root
from steer_core.reports.numbers import plural
from steer_core.tables.merging import Merged, merge_roots


def merge(bench: None, options: argparse.Namespace) -> int:
    """Merge, and say what was taken and what differs; 1 where somebody has to decide."""
    root = storage_root()
    found = merge_roots(root, options.root, write=not options.dry_run)
    print(told(found, root, options.root, dry=options.dry_run))
    return 1 if found.conflicts else 0


def told(found: Merged, root: str, other: str, *, dry: bool) -> str:
    """A merge in words: what was taken, then each difference by name."""
    verb = "Would take" if dry else "Took"
    n = sum(found.rows.values())
    lines = [
        f"{verb} {plural(n, 'journalled row')}, "
        f"{plural(len(found.tables), 'table')} and {plural(len(found.files), 'other file')} from {other} into {root}; "
        f"{found.same:,} were there already."
    ]
    lines += [f"  {path}: {plural(rows, 'row')}" for path, rows in found.rows.items()]
    unreadable = [d for d in found.conflicts if d.kind == "unreadable"]
    for said, own in (
        ("Could not be read, and was not taken", unreadable),
        ("In conflict, and as they were here", [d for d in found.conflicts if d not in unreadable]),
        ("Made otherwise there, and as they were here", [d for d in found.differences if not d.conflict]),
    ):
        if own:
            lines += ["", f"{said} ({len(own)}):", *(f"  {d.path}: {d.said}" for d in own)]
    if not dry and (found.rows or found.tables):
        lines += ["", "`steerworks cells` says what is out of date by it; `steerworks run` makes that again."]
    return "\n".join(lines)
