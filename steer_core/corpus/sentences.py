"""Cut texts into sentences and chunks of sentences."""

from __future__ import annotations

import re

# closing quotes and brackets belong to the sentence they end
_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9])")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|etc|e\.g|i\.e|[A-Z])\.$")


def sentences(text: str, newline_ends_sentence: bool = False) -> list[str]:
    """Sentences of a text, stripped, in order.

    A sentence ends at `.`, `!` or `?` before white space and a capital or digit, common abbreviations and initials
    aside; with `newline_ends_sentence` also at every line break.
    """
    blocks = text.splitlines() if newline_ends_sentence else [text]
    found: list[str] = []
    for block in blocks:
        start = 0
        for match in _END.finditer(block):
            piece = block[start : match.end()].strip()
            if _ABBREVIATION.search(piece[-8:]):
                continue
            found.append(piece)
            start = match.end()
        found.append(block[start:].strip())
    return [s for s in found if s]


def chunk_sentences(text: str, size: int, newline_ends_sentence: bool = False) -> list[str]:
    """Chunks of `size` sentences each; the last one may be shorter."""
    parts = sentences(text, newline_ends_sentence)
    return [" ".join(parts[i : i + size]) for i in range(0, len(parts), size)]
