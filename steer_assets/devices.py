"""The lease on a device of this machine: who wants it waits, and says for whom.

An OS file lock rather than a Dagster pool: the kernel frees the lease of a run that is killed outright, and a waiter
costs nothing. The lock is the device's, whoever and whichever project asks; in the file stands who holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from schemas.specs import ModelSpec
from steer_core.adapters.launching import shown_cards
from steer_core.generation.engines import is_remote
from steer_core.tables.errors import ConfigError, SteerworksError

#: Seconds between two looks at a device that somebody else holds, and between two lines about it.
LOOK_EVERY, SAY_EVERY = 0.5, 60.0


def device_of(model: ModelSpec) -> str | None:
    """The device that a model will be on; `cuda` is any of them; None where its engine is remote."""
    if is_remote(model):
        return None
    if model.device != "auto":
        return model.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _candidates(device: str) -> list[str]:
    """Devices that will do."""
    if device != "cuda":
        return [device]
    import torch

    return [f"cuda:{n}" for n in range(torch.cuda.device_count())] or ["cuda:0"]


def _lock_path(device: str) -> Path:
    """One file a device: a card is known by its own id, since `CUDA_VISIBLE_DEVICES` renumbers them."""
    name = device.replace(":", "-")
    if device.startswith("cuda:"):
        import torch

        with contextlib.suppress(Exception):
            name = f"cuda-{torch.cuda.get_device_properties(int(device[5:])).uuid}"
    return Path(tempfile.gettempdir()) / f"steerworks-{name}.lock"


@dataclass
class Devices:
    """The devices that this process holds.

    Attributes:
        who: what this process does, for those who wait for it.
        say: takes a line about waiting.
        keep: hold on to a device until `let_go`, since the next step of the cell wants it too.
        patience: seconds that it waits for one; None: for ever.
        held: device -> its open lock file.
    """

    who: str = "a Python process"
    say: Callable[[str], Any] = lambda line: None
    keep: bool = False
    patience: float | None = None
    held: dict[str, IO[str]] = field(default_factory=dict)

    @contextlib.contextmanager
    def lease(self, device: str | None) -> Iterator[str | None]:
        """Hold a device, the first free one where several will do; None, of a remote engine, needs no lease."""
        if device is None:
            yield None
            return
        wanted = _candidates(device)
        ours = next((d for d in wanted if d in self.held), None)
        if ours is not None:
            # a judge on the device of its model: the outer lease stays
            yield ours
            return
        (got,) = self._wait(wanted)
        try:
            yield got
        finally:
            if not self.keep:
                self._free(got)

    @contextlib.contextmanager
    def lease_several(self, device: str, n: int) -> Iterator[tuple[str, ...]]:
        """Hold so many devices of a kind at once; of those that are held after it one stays.

        What this process has kept is freed before it waits: two that keep one each, and want two, would wait for ever.

        Raises:
            ConfigError: this machine has not so many.
        """
        wanted = _candidates(device)
        if len(wanted) < n:
            raise ConfigError(f"{n} devices {device!r} are wanted, and this machine has {len(wanted)}")
        for kept in [d for d in self.held if d in wanted]:
            self._free(kept)
        got = self._wait(wanted, n)
        try:
            yield got
        finally:
            for one in got[1:] if self.keep else got:
                self._free(one)

    def let_go(self) -> None:
        """Free all devices of this process."""
        self.keep = False
        for device in list(self.held):
            self._free(device)

    def free_kept(self) -> None:
        """Free what is held between two steps, and go on keeping what comes: this process is about to wait."""
        for device in list(self.held):
            self._free(device)

    def _wait(self, wanted: Sequence[str], n: int = 1) -> tuple[str, ...]:
        """The first n that are free, all at once.

        Raises:
            SteerworksError: none was, for as long as `patience`.
        """
        begun, said = time.monotonic(), 0.0
        while True:
            got: list[str] = []
            for device in wanted:
                if len(got) < n and self._take(device):
                    got.append(device)
            if len(got) == n:
                if said:
                    self.say(f"got {', '.join(got)} after {time.monotonic() - begun:.0f} s")
                return tuple(got)
            for device in got:
                self._free(device)
            now = time.monotonic()
            if self.patience is not None and now - begun > self.patience:
                raise SteerworksError(
                    "; ".join(f"{d} is held by {holder(d)}" for d in wanted) + ": try again when that is done"
                )
            if not said or now - said > SAY_EVERY:
                # those that were free for a moment are nobody's
                others = [d for d in wanted if d not in got]
                self.say("; ".join(f"waiting for {d}, held by {holder(d)}" for d in others))
                said = now
            time.sleep(LOOK_EVERY)

    def _take(self, device: str) -> bool:
        path = _lock_path(device)
        # O_CREAT on somebody else's file in a sticky folder is refused by the kernel, even where it exists
        flags = os.O_RDWR if path.exists() else os.O_RDWR | os.O_CREAT
        file = os.fdopen(os.open(path, flags, 0o666), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        with contextlib.suppress(OSError):
            # the umask took the others' right to write; ours to give only where the file is ours
            path.chmod(0o666)
        file.truncate(0)
        file.write(f"process {os.getpid()}: {self.who}\n")
        file.flush()
        self.held[device] = file
        return True

    def _free(self, device: str) -> None:
        file = self.held.pop(device)
        file.truncate(0)
        file.close()


def holder(device: str) -> str:
    """Who holds a device, in words."""
    with contextlib.suppress(OSError):
        return _lock_path(device).read_text().strip() or "somebody who does not say"
    return "nobody any more"


def visible_cards() -> dict[str, str]:
    """The variable that shows a process those cards that this one holds, and no others; empty where it holds none."""
    return shown_cards(sorted(int(d[5:]) for d in DEVICES.held if d.startswith("cuda:")))


#: Devices are held by processes, so there is one of these.
DEVICES = Devices()
device_lease = DEVICES.lease
