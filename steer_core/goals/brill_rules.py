"""The data files of Brill's tagger that TextBlob ships: lexicon, morphology, context, names."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

#: A condition: distance from the word in question, whether it is about a word (or a tag), and which.
Condition: TypeAlias = tuple[int, bool, str]
#: New tag, and alternatives; in each, all conditions must hold.
ContextRule: TypeAlias = tuple[str, tuple[tuple[Condition, ...], ...]]

#: Context commands of Brill's rule files: alternatives, each a tuple of (offset, is it about the word, x or y).
_COMMANDS: dict[str, tuple[tuple[Condition, ...], ...]] = {
    "prevtag": (((-1, False, "x"),),),
    "nexttag": (((1, False, "x"),),),
    "prev2tag": (((-2, False, "x"),),),
    "next2tag": (((2, False, "x"),),),
    "prev1or2tag": (((-1, False, "x"),), ((-2, False, "x"),)),
    "next1or2tag": (((1, False, "x"),), ((2, False, "x"),)),
    "prev1or2or3tag": (((-1, False, "x"),), ((-2, False, "x"),), ((-3, False, "x"),)),
    "next1or2or3tag": (((1, False, "x"),), ((2, False, "x"),), ((3, False, "x"),)),
    "surroundtag": (((-1, False, "x"), (1, False, "y")),),
    "curwd": (((0, True, "x"),),),
    "prevwd": (((-1, True, "x"),),),
    "nextwd": (((1, True, "x"),),),
    "prev1or2wd": (((-1, True, "x"),), ((-2, True, "x"),)),
    "next1or2wd": (((1, True, "x"),), ((2, True, "x"),)),
    "prevwdtag": (((-1, True, "x"), (-1, False, "y")),),
    "nextwdtag": (((1, True, "x"), (1, False, "y")),),
    "wdprevtag": (((-1, False, "x"), (0, True, "y")),),
    "wdnexttag": (((0, True, "x"), (1, False, "y")),),
    "wdand2aft": (((0, True, "x"), (2, True, "y")),),
    "wdand2tagbfr": (((-2, False, "x"), (0, True, "y")),),
    "wdand2tagaft": (((0, True, "x"), (2, False, "y")),),
    "lbigram": (((-1, True, "x"), (0, True, "y")),),
    "rbigram": (((0, True, "x"), (1, True, "y")),),
    "prevbigram": (((-2, False, "x"), (-1, False, "y")),),
    "nextbigram": (((1, False, "x"), (2, False, "y")),),
}


@dataclass(frozen=True)
class BrillRules:
    """TextBlob's data files, parsed.

    Attributes:
        lexicon: word -> most frequent tag.
        morphology: (tag it applies to or None, affix, command, new tag), in order.
        context: tag -> rules of that tag (new tag, alternatives), the last one first: a later rule wins.
        entities: first word of a name -> (words, suffix of the tag), in order.
        context_words: words that context rules mention.
        left, right: words before (after) an unknown word that morphology rules mention.
    """

    lexicon: dict[str, str]
    morphology: tuple[tuple[str | None, str, str, str], ...]
    context: dict[str, tuple[ContextRule, ...]]
    entities: dict[str, tuple[tuple[tuple[str, ...], str], ...]]
    context_words: frozenset[str]
    left: frozenset[str]
    right: frozenset[str]


@functools.cache
def load_rules() -> BrillRules:
    """Read the lexicon and rules from the installed `textblob` package (nothing of it is imported)."""
    spec = importlib.util.find_spec("textblob")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the default tagger reads its lexicon from the package `textblob`: install textblob")
    folder = Path(next(iter(spec.submodule_search_locations))) / "en"
    morphology = tuple(_morphology(line.split()) for line in _lines(folder / "en-morphology.txt"))
    context: dict[str, list[ContextRule]] = {}
    words: set[str] = set()
    rows = [line.split() for line in _lines(folder / "en-context.txt")]
    tags = {row[0] for row in rows} - {"*"}
    for row in rows:
        values = {"x": row[3], "y": row[4] if len(row) > 4 else ""}
        alternatives = tuple(
            tuple((offset, about_word, values[which]) for offset, about_word, which in conjunction)
            for conjunction in _COMMANDS[row[2].lower()]
        )
        words.update(value for c in alternatives for _, about_word, value in c if about_word)
        for tag in tags if row[0] == "*" else [row[0]]:
            context.setdefault(tag, []).insert(0, (row[1], alternatives))
    entities: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for line in _lines(folder / "en-entities.txt"):
        *name, last = line.lower().split()
        suffix = f"-{last.upper()}" if last in ("pers", "loc", "org") else ""
        name = name if suffix else [*name, last]
        entities.setdefault(name[0] if name else last, []).append((tuple(name), suffix))
    return BrillRules(
        lexicon=dict(line.split(" ")[:2] for line in _lines(folder / "en-lexicon.txt")),
        morphology=morphology,
        context={tag: tuple(rules) for tag, rules in context.items()},
        entities={first: tuple(names) for first, names in entities.items()},
        context_words=frozenset(words),
        left=frozenset(x for _, x, command, _ in morphology if command == "goodright"),
        right=frozenset(x for _, x, command, _ in morphology if command == "goodleft"),
    )


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            stripped = line.strip()
            if stripped and not stripped.startswith(";;;"):
                yield stripped


_MORPHOLOGY = ("char", "haspref", "hassuf", "addpref", "addsuf", "deletepref", "deletesuf", "goodleft", "goodright")


def _morphology(row: list[str]) -> tuple[str | None, str, str, str]:
    """`ly hassuf 2 RB x` applies to any tag, `NN s fhassuf 1 NNS x` to NN."""
    if row[1] in _MORPHOLOGY:
        return None, row[0], row[1], row[-2]
    return row[0], row[1], row[2].removeprefix("f"), row[-2]
