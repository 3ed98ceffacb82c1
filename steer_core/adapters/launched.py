"""What a process that was launched does beside its work: it tells, says why it fails, and ends with its starter."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steer_core.adapters.launching import Told, observed, said


def end_with_starter(folder: Path) -> None:
    """End as soon as the process that started this one no longer holds the lock of their folder."""
    threading.Thread(target=_end_with, args=(folder / "held",), daemon=True).start()


def _end_with(held: Path) -> None:
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        print("what started this process has ended, or wants it no longer", file=sys.stderr, flush=True)
        os._exit(1)


@contextlib.contextmanager
def telling(folder: Path, teller: str | None) -> Iterator[Told]:
    """Whom the first process tells.

    Args:
        folder: of the processes.
        teller: module with a context `telling` of its own; None: a file in the folder.
    """
    if teller is not None:
        with importlib.import_module(teller).telling() as told:
            yield told
        return
    with (folder / "messages.jsonl").open("a", encoding="utf-8") as file:

        def write(message: dict[str, Any]) -> None:
            file.write(json.dumps(message, ensure_ascii=False) + "\n")
            file.flush()

        yield Told(lambda line: write(said(line)), lambda step, figures: write(observed(step, figures)))


def fail(folder: Path, kind: str, what: str) -> None:
    """Write down why this process fails, if none has before: others fail because the first has."""
    aside = folder / f".failed-{os.getpid()}"
    aside.write_text(json.dumps({"kind": kind, "said": what}, ensure_ascii=False), encoding="utf-8")
    with contextlib.suppress(FileExistsError):
        # whole, or not at all
        os.link(aside, folder / "failed.json")
    aside.unlink()
