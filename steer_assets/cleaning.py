"""Tidy what a bench has written: many small files become few, and leftovers of killed writers go. No row is lost."""

from __future__ import annotations

from schemas import Judgements, Responses
from schemas.specs import BenchSpec
from steer_core.tables.files import filesystem, is_local, join, sweep_tree
from steer_core.tables.journal import Journal


def clean_journals(bench: BenchSpec, root: str) -> list[tuple[str, int, int]]:
    """Compact the journals of a bench's models, and drop half-written files whose writer is gone.

    Returns:
        Name of each journal, its files before, its files now.
    """
    folder = join(root, bench.name)
    fs, path = filesystem(folder)
    if is_local(fs):
        sweep_tree(path)
    found = []
    for model in bench.models:
        for name, contract in ((f"model={model}", Responses), (f"judgements-{model}", Judgements)):
            journal = Journal(join(folder, "journal", name), contract)
            before = len(journal.parts())
            if before > 1:
                journal.compact(at_least=2)
            if before:
                found.append((f"journal/{name}", before, len(journal.parts())))
    return found
