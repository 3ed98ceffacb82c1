"""Text that a model wrote, made safe to read: nothing hidden, nothing endless, nothing that reorders the page.

Escaping is the template's job (autoescape). Here control characters become visible, long texts are clipped with a
note, and a rewrite is compared with its source word by word.
"""

from __future__ import annotations

import difflib
import itertools
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

#: Characters of a text that are shown; the note says how many more there are.
MOST_CHARACTERS = 4000
#: Words of each side that are compared; `SequenceMatcher` is quadratic in them.
MOST_WORDS = 800

_WORD = re.compile(r"\w+|[^\w\s]+")
# joiners shape letters and emoji, they hide nothing
_KEPT = {"\n", "\t", "\u200c", "\u200d"}


@dataclass(frozen=True)
class Clipped:
    """The part of a text that is shown, and how many characters were left out."""

    text: str
    left_out: int


@dataclass(frozen=True)
class Piece:
    """A stretch of a compared text."""

    kind: Literal["same", "deleted", "inserted"]
    text: str


@dataclass(frozen=True)
class WordDiff:
    """Source and rewrite as pieces: what went is marked in the source, what came in the rewrite."""

    source: tuple[Piece, ...]
    rewrite: tuple[Piece, ...]
    source_left_out: int
    rewrite_left_out: int


def visible(text: str) -> str:
    """The text with every character that would hide or reorder something spelled out.

    C0 controls become control pictures (`␀`), others (C1, bidirectional controls, zero-width characters, lone
    surrogates) their code point (`⟨U+202E⟩`). Line breaks and tabs stay; CR LF is one line break.
    """
    return "".join(_shown(character) for character in text.replace("\r\n", "\n"))


def _shown(character: str) -> str:
    if character in _KEPT:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"\u27e8U+{code:04X}\u27e9"
    return character


def clip(text: str, most: int = MOST_CHARACTERS) -> Clipped:
    """The first `most` characters, made visible, and the number left out."""
    return Clipped(visible(text[:most]), max(0, len(text) - most))


def word_diff(source: str, rewrite: str) -> WordDiff:
    """Word-by-word comparison, bounded: long texts are compared on the part that is shown.

    White space is carried along but not compared, so that a reflowed text is not a changed one.
    """
    left, left_out = _words(source)
    right, right_out = _words(rewrite)
    source_pieces: list[Piece] = []
    rewrite_pieces: list[Piece] = []
    for same, i, j, k, m in _stretches([w.strip() for w in left], [w.strip() for w in right]):
        source_pieces += _pieces("same" if same else "deleted", "".join(left[i:j]))
        rewrite_pieces += _pieces("same" if same else "inserted", "".join(right[k:m]))
    return WordDiff(tuple(source_pieces), tuple(rewrite_pieces), left_out, right_out)


def _stretches(left: list[str], right: list[str]) -> list[tuple[bool, int, int, int, int]]:
    """(equal, i, j, k, m): `left[i:j]` stands against `right[k:m]`, in order and without gaps."""
    shorter = min(len(left), len(right))
    head = next((i for i in range(shorter) if left[i] != right[i]), shorter)
    tail = next((i for i in range(shorter - head) if left[-1 - i] != right[-1 - i]), shorter - head)
    # words on every line of a looping answer are no anchors (autojunk): with them the search is cubic
    matcher = difflib.SequenceMatcher(None, left[head : len(left) - tail], right[head : len(right) - tail])
    middle = [(tag == "equal", i + head, j + head, k + head, m + head) for tag, i, j, k, m in matcher.get_opcodes()]
    last = (True, len(left) - tail, len(left), len(right) - tail, len(right))
    return [(True, 0, head, 0, head), *middle, last]


def _pieces(kind: Literal["same", "deleted", "inserted"], text: str) -> list[Piece]:
    """A stretch as pieces: the white space at its end is not marked, for it was not compared."""
    body = text.rstrip()
    parts = [Piece(kind, body)] if kind != "same" else [Piece(kind, text)]
    if kind != "same" and len(body) < len(text):
        parts.append(Piece("same", text[len(body) :]))
    return [piece for piece in parts if piece.text]


def _words(text: str) -> tuple[list[str], int]:
    """Words with the white space that follows them, and the number of characters left out."""
    shown = text[:MOST_CHARACTERS]
    starts = [match.start() for match in _WORD.finditer(shown)][: MOST_WORDS + 1]
    end = starts[MOST_WORDS] if len(starts) > MOST_WORDS else len(shown)
    # white space before the first word belongs to it
    cuts = [0, *starts[1:MOST_WORDS], end] if starts else [0, end]
    words = [visible(shown[a:b]) for a, b in itertools.pairwise(cuts) if b > a]
    return words, len(text) - end
