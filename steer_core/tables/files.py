"""Whole files on any fsspec file system: written aside, then put in place in one step."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from steer_core.tables.errors import TableError

_ASIDE = re.compile(r"\.(?P<pid>\d+)-[0-9a-f]{32}\.tmp$")


#: What a user can do about a write that the system refused.
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EFBIG: "the file would be larger than this process may write (ulimit -f); raise the limit and run again",
    errno.EACCES: "permission denied; check the owner of the storage root",
    errno.EISDIR: "a folder stands at that place; choose another name",
    errno.ENOTDIR: "a file stands where a folder of its path should be; choose another place",
    errno.EEXIST: "a file stands where a folder of its path should be; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EROFS: "the file system is read-only; choose another storage root",
}


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path on it. A bare path is a local one.

    Raises:
        TableError: no such kind of storage, or the package that reaches it is not installed; says what to do.
    """
    try:
        fs, path = fsspec.core.url_to_fs(url)
        if not is_local(fs):
            # other machines write there: a listing that this process remembers would hide their files
            fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise TableError(f"{url} cannot be reached: {error}, then run again") from error
    except ValueError as error:
        kind = url.split("://")[0]
        raise TableError(
            f"{url} cannot be reached: {error}; {kind!r} is no kind of storage that is known here. Write a path, or a "
            "URL that begins with s3://, gs://, abfs:// or the like"
        ) from error
    return fs, str(path)


def is_object_store(fs: Any) -> bool:
    """True where there are keys and no folders: making a folder there could make a bucket."""
    return bool({"s3", "s3a", "gs", "gcs", "abfs", "az", "adl"} & set(_protocols(fs)))


def is_s3(fs: Any) -> bool:
    """True where a write can bear a condition on what it replaces."""
    return bool({"s3", "s3a"} & set(_protocols(fs)))


def _protocols(fs: Any) -> tuple[str, ...]:
    return tuple(fs.protocol) if isinstance(fs.protocol, tuple | list) else (str(fs.protocol),)


def is_local(fs: Any) -> bool:
    """True for the local disk, where a rename is atomic and a PUT is not."""
    return "file" in _protocols(fs)


def join(root: str, *parts: str) -> str:
    """A URL below another."""
    return "/".join([root.rstrip("/"), *(p.strip("/") for p in parts)])


def names_in(fs: Any, path: str, end: str) -> list[str]:
    """Names of a folder's files with that end, sorted; none where there is no such folder.

    Not by a pattern: a root may be called `runs [old]`, which would be one.
    """
    try:
        listed = fs.ls(path, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = (str(p).rstrip("/").rsplit("/", 1)[-1] for p in listed)
    return sorted(n for n in names if n.endswith(end))


def write_file(url: str, write: Callable[[IO[bytes]], object], *, sweep: bool = True, replace: bool = True) -> bool:
    """Write a file so that readers see the old one or the new one, never half of one.

    Locally the bytes go to a hidden file beside the target, are synced to disk, and are renamed into place.
    On an object store the final key is put in one request, which is atomic there.

    Args:
        url: where the file ends up.
        write: called with a binary file to write to.
        sweep: remove what killed writers of this file left; a look at the whole folder, so left out in large ones.
        replace: False: a file that stands there stays, whoever wrote it, and whenever.

    Returns:
        Whether it was written: True, unless a file stands there that was not to be replaced.

    Raises:
        TableError: the disk is full or not writable; the old file, if any, is untouched.
    """
    fs, path = filesystem(url)
    if not is_local(fs):
        whole = io.BytesIO()
        write(whole)
        if not is_object_store(fs):
            fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        if replace:
            fs.pipe_file(path, whole.getvalue())
            return True
        try:
            fs.pipe_file(path, whole.getvalue(), mode="create")
        except OSError as error:
            if not refused(error):
                raise
            return False
        return True
    target = Path(path)
    if not replace and target.exists():
        return False
    aside = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex}.tmp")
    counted: _Counted | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if sweep:
            _sweep(target)
        with aside.open("wb") as file:
            counted = _Counted(file)
            write(cast("IO[bytes]", counted))
            if counted.refused is not None:
                raise counted.refused
            file.flush()
            os.fsync(file.fileno())
        put = _put(aside, target, replace)
        _sync_folder(target.parent)
        return put
    except Exception as error:
        reason = _REASONS.get(_errno(error))
        if reason is None:
            raise
        size = f" ({counted.size:,} bytes)" if counted is not None else ""
        raise TableError(
            f"could not write {url}{size}: {reason}. Nothing was written; an earlier file, if there was one, is intact."
        ) from error
    finally:
        # on a read-only disk removing fails too, and would hide why
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _put(aside: Path, target: Path, replace: bool) -> bool:
    """Put a whole file in its place; unless it may replace one, only where none stands."""
    if replace:
        aside.replace(target)
        return True
    try:
        # unlike a rename a link never takes the place of a file
        target.hardlink_to(aside)
    except FileExistsError:
        return False
    except OSError:
        # a file system without links: the name is taken first, by one, and the file follows
        try:
            target.touch(exist_ok=False)
        except FileExistsError:
            return False
        aside.replace(target)
    return True


def write_bytes(url: str, data: bytes, *, sweep: bool = True) -> None:
    """`write_file` for bytes in hand."""
    write_file(url, lambda file: file.write(data), sweep=sweep)


def read_bytes(fs: Any, path: str) -> bytes:
    """A whole file in one request, of one state of it: in pieces, a writer could come between two of them."""
    one = {"max_concurrency": 1} if is_s3(fs) else {}
    return cast("bytes", fs.cat_file(path, **one))


@contextlib.contextmanager
def open_file(url: str) -> Iterator[IO[bytes]]:
    """Open a file for reading on any fsspec file system."""
    fs, path = filesystem(url)
    with fs.open(path, "rb") as file:
        yield file


def refused(error: OSError) -> bool:
    """A condition of a write that did not hold (412), or that another write of this moment would break (409)."""
    response = getattr(error.__cause__, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    named = error.errno == errno.EINVAL and "pre-condition" in str(error).lower()
    return isinstance(error, FileExistsError) or status in (409, 412) or named


class _Counted:
    """A file that goes on counting after the system refused a write, so that the error can say the size needed.

    Polars is kept from the file's descriptor: it would lose the system's error number on the way.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.size = 0
        self.refused: OSError | None = None
        self._file = file

    def write(self, data: bytes | memoryview) -> int:
        size = len(data)
        if self.refused is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.refused = error
        self.size += size
        return size

    def flush(self) -> None:
        if self.refused is None:
            try:
                self._file.flush()
            except OSError as error:
                self.refused = error


def _errno(error: Exception) -> int:
    """The system's error number; Polars wraps it and leaves it in the text only."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep_folder(folder: Path) -> None:
    """Remove what killed writers left in a folder, whatever the target; files of living processes stay."""
    _remove(folder.glob(".*.tmp"))


def sweep_tree(folder: str) -> None:
    """Remove what killed writers left anywhere below a local folder; files of living processes stay."""
    _remove(Path(folder).rglob(".*.tmp"))


def _sweep(target: Path) -> None:
    """Remove what killed writers left beside the target; files of living processes stay."""
    _remove(target.parent.glob(f".{target.name}.*.tmp"))


def _remove(leftovers: Iterator[Path]) -> None:
    for leftover in leftovers:
        match = _ASIDE.search(leftover.name)
        if match and not alive(int(match["pid"])):
            leftover.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
