"""Hook of the documentation's site: files of the repository are no pages of it, so links to them become plain words."""

import posixpath
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Drop the target of a link that leaves the folder of the documentation, or goes to a folder in it."""
    here = posixpath.dirname(page.file.src_uri)

    def plain(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, match[2]))
        return match[1] if target.startswith("..") or "." not in posixpath.basename(target) else match[0]

    return LINK.sub(plain, markdown)
