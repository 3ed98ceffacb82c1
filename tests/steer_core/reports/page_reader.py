"""Reads a page the way a browser does, as far as the tests need it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"}


class PageReader(HTMLParser):
    """Collects tags, attributes and text; notes tags that close what was not open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.unbalanced: list[str] = []
        self.blocks: dict[str, list[str]] = {}
        self._block: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.text.append(" ")
        if tag in VOID:
            return
        self.open.append(tag)
        name = dict(attrs).get("class") or ""
        if name:
            self._block.append((name, len(self.open)))
            self.blocks.setdefault(name, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.unbalanced.append(tag)
            return
        if self._block and self._block[-1][1] == len(self.open):
            self._block.pop()
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text.append(data)
        for name, _ in self._block:
            self.blocks[name][-1] += data

    @property
    def ids(self) -> list[str]:
        return [str(attrs["id"]) for _, attrs in self.tags if "id" in attrs]

    @property
    def said(self) -> str:
        """All text, white space collapsed."""
        return " ".join("".join(self.text).split())


def read(page: bytes) -> PageReader:
    reader = PageReader()
    reader.feed(page.decode("utf-8"))
    reader.close()
    return reader
