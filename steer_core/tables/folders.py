"""Folders of files beside the tables: worked on locally, brought to the storage root, fetched from there."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from steer_core.tables.errors import SteerworksError, TableError
from steer_core.tables.files import filesystem, is_local, join


def cache_folder() -> Path:
    """Where what can be made or fetched again lies: `STEERWORKS_CACHE`, or `steerworks` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("STEERWORKS_CACHE") or Path(base) / "steerworks").expanduser()


@dataclass(frozen=True)
class Folders:
    """Folders below a place of the storage root, by name.

    Attributes:
        root: the place, any fsspec URL.
    """

    root: str

    def local(self, name: str) -> Path:
        """The local folder of that name, to work in: in the root where that is local, else in the cache."""
        fs, path = filesystem(self.root)
        if is_local(fs):
            return Path(path) / name
        return cache_folder() / "folders" / sha256(self.root.encode()).hexdigest()[:16] / name

    def publish(self, name: str) -> None:
        """Bring a local folder to the root; nothing to do where it lies there."""
        fs, path = filesystem(self.root)
        if is_local(fs):
            return
        here = self.local(name)
        for file in sorted(here.rglob("*")):
            if file.is_file():
                fs.put_file(str(file), join(path, name, file.relative_to(here).as_posix()))


def fetched(url: str) -> Path:
    """A folder as a local one: itself, or a copy in the cache that is made once.

    Raises:
        TableError: there is none.
    """
    fs, path = filesystem(url)
    if is_local(fs):
        if not Path(path).is_dir():
            raise TableError(f"{url} is gone: materialize again what made it")
        return Path(path)
    target = cache_folder() / "folders" / sha256(url.encode()).hexdigest()[:32]
    if not target.is_dir():
        if not fs.exists(path):
            raise TableError(f"{url} is gone: materialize again what made it")
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(parents=True, exist_ok=True)
        fs.get(path, str(aside), recursive=True)
        try:
            aside.rename(target)
        except OSError:
            # somebody else was faster
            shutil.rmtree(aside, ignore_errors=True)
    return target


@contextmanager
def new_folder(target: Path, what: str) -> Iterator[Path]:
    """A folder to write to, which takes the target's name in one move when all of it is written.

    Args:
        target: what it is called in the end; must not exist, or be empty.
        what: what goes there, in words.

    Raises:
        SteerworksError: the target is in use, or cannot be written to; nothing of it is left.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SteerworksError(f"{target} is in use; name a new folder for {what}")
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        aside.mkdir(parents=True)
        yield aside
        if target.exists():
            target.rmdir()
        aside.rename(target)
    except OSError as error:
        raise SteerworksError(f"{target} could not be written: {error}. Nothing of it is left") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
