"""A lease that lies where the data lies: of all who want to do a piece of work, on any machine, one does it.

A folder of numbered files, of which the highest counts:

* who wants the lease creates the next number, which a store lets only one do (`conditional.create`);
* its holder writes a new beat into its file now and then. Whoever waits takes over once it has *seen no change* for the
  lease's time by its own clock: clocks of different machines are never compared. A holder on this very machine that
  is dead, or has given the lease back, is followed at once;
* numbers only grow, so a holder that was asleep while another took over finds a higher one (`Held.check`): it is fenced
  off before it publishes.

After Gray and Cheriton, "Leases" (SOSP 1989); the number is what is known as a fencing token.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steer_core.tables.conditional import create
from steer_core.tables.errors import OvertakenError
from steer_core.tables.files import alive, filesystem, join, read_bytes, write_bytes

#: Seconds without a beat after which a holder is taken for dead.
TTL = 60.0
#: Beats in that time.
BEATS = 4
#: Seconds between two looks of somebody who waits, the first and the longest; between two lines about it.
LOOK_FIRST, LOOK_LONGEST, SAY_EVERY = 0.2, 5.0, 60.0


def this_process() -> dict[str, Any]:
    """What tells this process from every other: machine, name space of process numbers, number, start."""
    return {"place": _place(), "pid": os.getpid(), "started": _started(os.getpid())}


@dataclass
class Held:
    """A lease that this process has.

    Attributes:
        url: its folder.
        number: the fencing token.
        who: what this process does, for those who wait.
        ttl: seconds without a beat after which others take over.
        waited: seconds.
    """

    url: str
    number: int
    who: str
    ttl: float
    waited: float = 0.0
    _id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _beat: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def check(self) -> None:
        """Two requests: still ours?

        Raises:
            OvertakenError: another process took over.
        """
        numbers = _numbers(self.url)
        if not numbers or max(numbers) != self.number or not self.stands():
            last = _read(self.url, max(numbers)) if numbers else None
            raise OvertakenError(
                f"{self.who} had stood still for more than {self.ttl:.0f} s, and "
                f"{last['who'] if last else 'another process'} took this over meanwhile: nothing was published here. "
                "Run it again: what is done is not done twice"
            )

    def stands(self) -> bool:
        """Whether the file of this number is this holder's: also on a store that lets two create it."""
        state = _read(self.url, self.number)
        return state is not None and state["id"] == self._id

    def content(self, *, released: bool = False) -> bytes:
        """What the file says."""
        state = {"id": self._id, "who": self.who, "beat": self._beat, "ttl": self.ttl, "released": released}
        return json.dumps(state | this_process()).encode()

    def begin(self) -> None:
        """Send beats until `end`."""
        self._thread = threading.Thread(target=self._beats, name="lease", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Give it back. The file stays, so that numbers go on growing."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        # where it cannot be said, it expires
        with contextlib.suppress(Exception):
            write_bytes(_file(self.url, self.number), self.content(released=True), sweep=False)

    def _beats(self) -> None:
        while not self._ended.wait(self.ttl / BEATS):
            self._beat += 1
            # a store that is away for a moment is tried again at the next beat
            with contextlib.suppress(Exception):
                write_bytes(_file(self.url, self.number), self.content(), sweep=False)


@contextlib.contextmanager
def lease(
    url: str,
    who: str,
    *,
    ttl: float = TTL,
    say: Callable[[str], object] = lambda line: None,
    waiting: Callable[[], object] = lambda: None,
) -> Iterator[Held]:
    """Hold a lease, waiting for it as long as another process holds it.

    Args:
        url: its folder, of any fsspec URL.
        who: what this process does, for those who wait.
        ttl: seconds without a beat after which this process may be taken for dead.
        say: takes a line about waiting.
        waiting: called once before it waits: to give back what others may need meanwhile.

    Raises:
        TableError: the storage cannot be written to.
    """
    held = _acquire(url, who, ttl, say, waiting)
    held.begin()
    try:
        yield held
    finally:
        held.end()


def try_lease(url: str, who: str, *, ttl: float = TTL) -> Held | None:
    """Take a lease if it is free now; None where it is not. Call `begin`, and `end` when done."""
    numbers = _numbers(url)
    last = max(numbers, default=0)
    state = _read(url, last) if last else None
    if last and not _is_over(state):
        mark = (last, state and (state["id"], state["beat"]))
        seen, since = _tried.get(url, (None, 0.0))
        if mark != seen:
            _tried[url] = (mark, time.monotonic())
            return None
        if time.monotonic() - since <= _ttl_of(state, ttl):
            return None
    _tried.pop(url, None)
    return _take(url, numbers, who, ttl)


#: Lease -> what an attempt found there, and when it found that first: a holder that is gone is followed in time.
_tried: dict[str, tuple[Any, float]] = {}


def _acquire(url: str, who: str, ttl: float, say: Callable[[str], object], waiting: Callable[[], object]) -> Held:
    begun = time.monotonic()
    seen: tuple[Any, ...] | None = None
    since, said, pause = begun, 0.0, LOOK_FIRST
    while True:
        numbers = _numbers(url)
        last = max(numbers, default=0)
        state = _read(url, last) if last else None
        now = time.monotonic()
        if (mark := (last, state and (state["id"], state["beat"]))) != seen:
            seen, since = mark, now
        silent = now - since
        if not last or _is_over(state) or silent > _ttl_of(state, ttl):
            held = _take(url, numbers, who, ttl)
            if held is not None:
                if said:
                    held.waited = time.monotonic() - begun
                    say(f"got it after {held.waited:.0f} s")
                return held
            continue
        if not said:
            waiting()
        if not said or now - said > SAY_EVERY:
            say(f"waiting for {state['who'] if state else 'another process'}, which does this now")
            said = now
        time.sleep(pause)
        pause = min(pause * 1.5, LOOK_LONGEST, ttl / BEATS)


def _take(url: str, numbers: Sequence[int], who: str, ttl: float) -> Held | None:
    """Create the next number, and remove those that it follows; None where somebody was faster."""
    held = Held(url, max(numbers, default=0) + 1, who, ttl)
    if not create(_file(url, held.number), held.content()):
        return None
    if max(_numbers(url), default=0) != held.number or not held.stands():
        # since the first look others had this number, gave it back, and their follower removed it
        if held.stands():
            _remove(url, held.number)
        return None
    for number in numbers:
        _remove(url, number)
    return held


def _remove(url: str, number: int) -> None:
    fs, path = filesystem(_file(url, number))
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def _is_over(state: dict[str, Any] | None) -> bool:
    """Given back, or held by a process of this machine that is no more; a file that is gone was followed by another."""
    if state is None:
        return False
    return bool(state["released"]) or (state["place"] == _place() and _started(state["pid"]) != state["started"])


def _ttl_of(state: dict[str, Any] | None, ours: float) -> float:
    """The holder's own time: it beats by that."""
    return float(state["ttl"]) if state else ours


def _file(url: str, number: int) -> str:
    return join(url, f"{number:012d}.json")


def _numbers(url: str) -> list[int]:
    fs, path = filesystem(url)
    fs.invalidate_cache(path)
    try:
        names = [str(p).rsplit("/", 1)[-1] for p in fs.ls(path, detail=False)]
    except FileNotFoundError:
        return []
    return [int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdigit()]


def _read(url: str, number: int) -> dict[str, Any] | None:
    """What a holder says; None where its file went away since, or is not ours."""
    fs, path = filesystem(_file(url, number))
    try:
        state = json.loads(read_bytes(fs, path))
    except (FileNotFoundError, ValueError):
        return None
    wanted = {"id", "who", "beat", "ttl", "released", "place", "pid", "started"}
    return state if isinstance(state, dict) and wanted <= set(state) else None


def _place() -> str:
    """Machine, boot and name space of process numbers: only there does a number say which process is meant."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _started(pid: int) -> str:
    """When a process began, as the kernel counts; empty where there is none (or no way to know)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        return "alive" if alive(pid) else ""
    fields = stat.rpartition(")")[2].split()
    # a zombie is dead, and keeps its entry until its parent asks
    return "" if fields[0] == "Z" else fields[19]
