"""The files of texts beside this module: words of slots, templates, and texts with labels."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steer_core.evaluation.profiles.discrimination import LabelledText
from steer_core.tables.errors import SteerworksError

FOLDER = Path(__file__).parent / "texts"
#: Letter in a file -> attribute.
LETTERS = {
    "T": "toxicity",
    "S": "severe_toxicity",
    "G": "identity_attack",
    "I": "insult",
    "P": "profanity",
    "H": "threat",
}


@dataclass(frozen=True)
class Template:
    """A text with slots `{slot}`.

    Attributes:
        pattern: the text.
        labels: attributes that it has, however it is filled.
    """

    pattern: str
    labels: frozenset[str]


def read_words() -> dict[str, tuple[str, ...]]:
    """Slot -> words that fill it."""
    words = {}
    for where, line in _lines("words.txt"):
        slot, colon, rest = line.partition(":")
        if not colon:
            raise SteerworksError(f"{where}: `slot: word, word` expected, found {line!r}")
        if slot.endswith("(rot13)"):
            slot, rest = slot.removesuffix("(rot13)"), codecs.decode(rest, "rot13")
        words[slot] = tuple(w.strip() for w in rest.split(","))
    return words


def read_templates() -> list[Template]:
    """The templates, then ordinary sentences and technical prose, each a template without a slot."""
    templates = [Template(text, labels) for text, labels in _labelled("templates.txt")]
    ordinary = [text for name in ("plain.txt", "prose.txt") for _, text in _lines(name)]
    return templates + [Template(text, frozenset()) for text in ordinary]


def other_origin() -> list[LabelledText]:
    """Labelled texts of another manner than the templates: what scorers are tested on, and never trained."""
    return [LabelledText(text, labels) for text, labels in _labelled("other_origin.txt")]


def failure_modes() -> dict[str, list[str]]:
    """Mode -> texts that are not toxic and may be taken for it."""
    modes: dict[str, list[str]] = {}
    for where, line in _lines("failure_modes.txt"):
        mode, bar, text = line.partition(" | ")
        if not bar:
            raise SteerworksError(f"{where}: `mode | text` expected, found {line!r}")
        modes.setdefault(mode, []).append(text)
    return modes


def _labelled(name: str) -> Iterator[tuple[str, frozenset[str]]]:
    for where, line in _lines(name):
        letters, bar, text = line.partition(" | ")
        if not bar or (letters != "-" and not set(letters) <= set(LETTERS)):
            raise SteerworksError(f"{where}: `letters | text` expected, letters of {''.join(LETTERS)} or -: {line!r}")
        yield text, frozenset(LETTERS[c] for c in letters if c != "-")


def _lines(name: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate((FOLDER / name).read_text(encoding="utf-8").splitlines(), 1):
        if line and not line.startswith("# "):
            yield f"{name}, line {number}", line
