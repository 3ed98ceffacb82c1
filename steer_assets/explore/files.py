"""Pages and pictures below the storage root, as the explorer hands them out."""

from __future__ import annotations

from html import escape
from pathlib import Path
from posixpath import normpath
from urllib.parse import quote, urlencode

from steer_core.tables.files import filesystem, is_local, join, names_in, read_bytes


def is_plain(path: str) -> bool:
    """Whether a path names something below a root, and nothing hidden."""
    whole = normpath(path) + ("/" if path.endswith("/") else "")
    return bool(path) and whole == path and path[0] not in "/." and not set(path) & {"\\", "\0"} and "/." not in path


def read(root: str, path: str) -> bytes | None:
    """A file; of a report, with the way to the explorer. None where there is none, or where a link leads elsewhere."""
    fs, whole = filesystem(join(root, path))
    try:
        if not fs.isfile(whole) or not _inside(root, path):
            return None
        body = read_bytes(fs, whole)
    except OSError:
        return None
    return _with_way_back(body, path) if path.endswith("/report.html") else body


def listed(root: str, path: str) -> str | None:
    """Links to the tables in a folder beside a page; None where there are none."""
    fs, whole = filesystem(join(root, path))
    names = names_in(fs, whole, ".parquet")
    if not names or not _inside(root, path):
        return None
    links = "".join(f'<li><a href="{escape(quote(n))}">{escape(n)}</a></li>' for n in names)
    return f'<!doctype html><html lang="en"><title>Tables</title><h1>Tables of this page</h1><ul>{links}</ul></html>'


def _with_way_back(page: bytes, path: str) -> bytes:
    """A report as it is served: with links to the explorer, of which the file itself knows nothing."""
    bench = path.split("/")[0]
    parts = dict(p.split("=", 1) for p in path.split("/") if "=" in p)
    links = [("Explorer: leaderboard", f"/{quote(bench)}/board")]
    if {"method", "model"} <= set(parts):
        cell = urlencode({"cell": f"{parts['method']}|{parts['model']}"})
        links = [("Explorer: samples of this cell", f"/{quote(bench)}/samples?{cell}"), *links]
    nav = "".join(f'<a href="{escape(to)}">{words}</a>' for words, to in links)
    return page.replace(b"<body>", f'<body>\n<nav class="toc served" aria-label="Explorer">{nav}</nav>'.encode(), 1)


def _inside(root: str, path: str) -> bool:
    """Whether a path still lies below the root once links are followed; on a store there are none."""
    fs, top = filesystem(root)
    return not is_local(fs) or (Path(top) / path).resolve().is_relative_to(Path(top).resolve())
