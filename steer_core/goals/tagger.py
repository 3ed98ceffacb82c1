"""Part-of-speech tags without a download: Brill's tagger with the lexicon and rules that TextBlob ships.

The result is that of TextBlob's own tagging function given all its rule files (morphology, context, names) on the same
tokens, tag for tag; a test compares them. TextBlob's `PatternTagger` class leaves these rules out and guesses from the
word alone (`to open` is an adjective there). The way differs: each distinct word is looked up once, and each distinct
window of tags is decided once.

Brill (1992), A simple rule-based part of speech tagger. Tags are those of the Penn Treebank.
"""

from __future__ import annotations

import bisect
import functools
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from steer_core.goals.tokens import is_word

#: What a token is, besides its tag. `ENTITY` is added where a token may start a known name.
NO_WORD, WORD, ARTICLE, SUBORDINATOR, TO, ENTITY = 0, 1, 2, 3, 4, 8

#: Unknown words kept in mind; beyond this the memo starts afresh.
_UNKNOWN = 50_000
#: Windows of neighbours kept in mind, for each class.
_WINDOWS = 20_000

_ARTICLES = frozenset(["a", "an", "the"])
#: Words that the Penn Treebank tags IN like prepositions, but that only ever join clauses.
_SUBORDINATORS = frozenset(["although", "because", "if", "that", "though", "unless", "whereas", "whether", "while"])

_NUMBER = re.compile(r"^[0-9\-\,\.\:\/\%\$]+$")
_ADDRESS = re.compile(r"^http://|^www\..*?\.[com|org|net|edu|de|uk]$|^[\w\-\.\+]+@(\w[\w\-]+\.)+[\w\-]+$")
_EDGE = "STAART"

#: Context commands of Brill's rule files: alternatives, each a tuple of (offset, is it about the word, x or y).
_COMMANDS: dict[str, tuple[tuple[tuple[int, bool, str], ...], ...]] = {
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


class Token(NamedTuple):
    """A word or mark as the tagger sees it; one object serves all its occurrences.

    Attributes:
        text: the token.
        cls: class (tag and, where rules mention it, word) before context; -1 where the neighbours decide.
        first: the same at the start of a sentence, where the lower-case form is tried too.
        kind: `NO_WORD`, `WORD`, `ARTICLE`, `SUBORDINATOR` or `TO`, plus `ENTITY`.
    """

    text: str
    cls: int
    first: int
    kind: int


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
    context: dict[str, tuple[tuple[str, tuple[tuple[tuple[int, bool, str], ...], ...]], ...]]
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
    context: dict[str, list[tuple[str, tuple[tuple[tuple[int, bool, str], ...], ...]]]] = {}
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


#: A question about a neighbour: is it about its word, and which value.
_Atom: TypeAlias = tuple[bool, str]
#: New tag, and alternatives, each a tuple of (offset, mask of the questions to be answered with yes).
_Rule: TypeAlias = tuple[str, tuple[tuple[tuple[int, int], ...], ...]]


class _Table(dict[int, int]):
    """Class of a neighbour -> mask of the questions that it answers with yes, worked out on first sight."""

    def __init__(self, atoms: tuple[_Atom, ...], tagger: Tagger) -> None:
        super().__init__()
        self._atoms, self._tagger = atoms, tagger

    def __missing__(self, cls: int) -> int:
        tag, word = self._tagger._tags[cls], self._tagger._words[cls]
        mask = sum(
            1 << i for i, (about_word, value) in enumerate(self._atoms) if value == (word if about_word else tag)
        )
        self[cls] = mask
        return mask


class _Plan(NamedTuple):
    """Context rules of one class, and what they led to so far.

    Attributes:
        rules: rules in the order of precedence.
        before, after: tables of the direct neighbours.
        tables: tables of all neighbours that some rule asks about, with their offsets.
        near: masks of the direct neighbours -> new class, or -1 where farther ones matter.
        far: masks of all neighbours -> new class.
    """

    rules: tuple[_Rule, ...]
    before: _Table
    after: _Table
    tables: tuple[tuple[int, _Table], ...]
    near: dict[tuple[int, int], int]
    far: dict[tuple[int, ...], int]


@dataclass(frozen=True)
class Tagger:
    """Brill's tagger with bounded memos; make one per process and pass it on.

    The memos change no result, only its price.
    """

    rules: BrillRules = field(default_factory=load_rules)
    _classes: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)
    _tags: list[str] = field(default_factory=list, repr=False)
    _words: list[str] = field(default_factory=list, repr=False)
    _plans: list[_Plan | None] = field(default_factory=list, repr=False)
    _unknown: dict[tuple[str, str | None, str | None], int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._class(_EDGE, "")

    def token(self, text: str) -> Token:
        """Look a word or mark up: all that can be said about it without its neighbours."""
        lexicon, lower = self.rules.lexicon, text.lower()
        tag = lexicon.get(text)
        if tag is None and text.istitle():
            tag = "NNP"
        elif tag is None and _NUMBER.match(text):
            tag = "CD"
        first = lexicon.get(text) or lexicon.get(lower) or tag
        kind = NO_WORD
        if is_word(text):
            kind = ARTICLE if lower in _ARTICLES else SUBORDINATOR if lower in _SUBORDINATORS else WORD
            kind = TO if lower == "to" else kind
        if lower in self.rules.entities or _is_address(lower):
            kind += ENTITY
        return Token(text, self._class(tag, text), self._class(first, text), kind)

    def tag_name(self, cls: int) -> str:
        """Penn Treebank tag of a class; names of persons, places and organisations carry `-PERS`, `-LOC`, `-ORG`."""
        return self._tags[cls]

    def tag(self, tokens: Sequence[Token], ends: Sequence[int]) -> list[int]:
        """Tag sentences.

        Args:
            tokens: tokens of a text.
            ends: index behind the last token of each sentence, ascending, the last one `len(tokens)`.

        Returns:
            One class per token; `tag_name` gives its tag.
        """
        edges = [0, 0, 0]
        row = edges.copy()
        classes = [t.cls for t in tokens]
        start = 0
        for end in ends:
            if end == start:
                continue
            sentence = classes[start:end]
            sentence[0] = tokens[start].first
            if -1 in sentence:
                self._tag_unknown(sentence, tokens, start)
            row += sentence
            row += edges
            start = end
        self._apply_context(row)
        tagged = [c for c in row if c]
        if any(t.kind >= ENTITY for t in tokens):
            self._tag_entities(tagged, tokens, ends)
        return tagged

    def _class(self, tag: str | None, word: str) -> int:
        if tag is None:
            return -1
        word = word if word in self.rules.context_words else ""
        cls = self._classes.get((tag, word))
        if cls is None:
            cls = self._classes[tag, word] = len(self._tags)
            self._tags.append(tag)
            self._words.append(word)
            self._plans.append(None)
            self._plans[cls] = self._plan(cls)
        return cls

    def _tag_unknown(self, sentence: list[int], tokens: Sequence[Token], start: int) -> None:
        """Morphology of words that the lexicon lacks; a few rules look at the words next to them."""
        left, right = self.rules.left, self.rules.right
        for i, cls in enumerate(sentence):
            if cls != -1:
                continue
            word = tokens[start + i].text
            before = tokens[start + i - 1].text if i else None
            after = tokens[start + i + 1].text if i + 1 < len(sentence) else None
            before, after = before if before in left else None, after if after in right else None
            found = self._unknown.get((word, before, after))
            if found is None:
                found = self._class(self._morph(word, before, after), word)
                if len(self._unknown) >= _UNKNOWN:
                    self._unknown.clear()
                if len(word) <= 64:
                    self._unknown[word, before, after] = found
            sentence[i] = found

    def _morph(self, word: str, before: str | None, after: str | None) -> str:
        tag, lexicon = "NN", self.rules.lexicon
        for needed, x, command, new in self.rules.morphology:
            if needed is not None and tag != needed:
                continue
            if (
                (command == "char" and x in word)
                or (command == "haspref" and word.startswith(x))
                or (command == "hassuf" and word.endswith(x))
                or (command == "addpref" and x + word in lexicon)
                or (command == "addsuf" and word + x in lexicon)
                or (command == "deletepref" and word.startswith(x) and word[len(x) :] in lexicon)
                or (command == "deletesuf" and word.endswith(x) and word[: -len(x)] in lexicon)
                # named the other way round in the rule files: goodleft looks at the following word
                or (command == "goodleft" and x == after)
                or (command == "goodright" and x == before)
            ):
                tag = new
        return tag

    def _apply_context(self, row: list[int]) -> None:
        """Context rules from left to right, in place: left neighbours are final, right ones are not yet."""
        plans = self._plans
        for i in range(3, len(row) - 3):
            cls = row[i]
            plan = plans[cls]
            if plan is None:
                continue
            key = (plan.before[row[i - 1]], plan.after[row[i + 1]])
            new = plan.near.get(key)
            if new is None:
                new = plan.near[key] = self._decide(plan, cls, {-1: key[0], 1: key[1]})
            if new < 0:
                wide = tuple([table[row[i + offset]] for offset, table in plan.tables])
                new = plan.far.get(wide, -1)
                if new < 0:
                    if len(plan.far) >= _WINDOWS:
                        plan.far.clear()
                    offsets = [offset for offset, _ in plan.tables]
                    new = plan.far[wide] = self._decide(plan, cls, dict(zip(offsets, wide, strict=True)))
            row[i] = new

    def _plan(self, cls: int) -> _Plan | None:
        """What the context rules of a class ask of its neighbours; None where there are no rules."""
        word = self._words[cls]
        rules: list[_Rule] = []
        asked: dict[int, list[_Atom]] = {offset: [] for offset in range(-3, 4)}
        for new, alternatives in self.rules.context.get(self._tags[cls], ()):
            masks = []
            for conjunction in alternatives:
                needs: dict[int, int] = {}
                for offset, about_word, value in conjunction:
                    if offset == 0 and value != word:
                        break
                    if offset:
                        atoms = asked[offset]
                        if (about_word, value) not in atoms:
                            atoms.append((about_word, value))
                        needs[offset] = needs.get(offset, 0) | 1 << atoms.index((about_word, value))
                else:
                    masks.append(tuple(needs.items()))
            if masks:
                rules.append((new, tuple(masks)))
        if not rules:
            return None
        tables = {offset: _Table(tuple(atoms), self) for offset, atoms in asked.items() if atoms or abs(offset) == 1}
        return _Plan(tuple(rules), tables[-1], tables[1], tuple(tables.items()), {}, {})

    def _decide(self, plan: _Plan, cls: int, found: dict[int, int]) -> int:
        """New class where `found` says what holds at some offsets; -1 where it hangs on another one."""
        for new, alternatives in plan.rules:
            open_questions = False
            for needs in alternatives:
                verdicts = [None if o not in found else found[o] & mask == mask for o, mask in needs]
                if all(verdicts):
                    return self._class(new, self._words[cls])
                open_questions |= None in verdicts and False not in verdicts
            if open_questions:
                return -1
        return cls

    def _tag_entities(self, tagged: list[int], tokens: Sequence[Token], ends: Sequence[int]) -> None:
        """Known names become proper nouns, in place; so do addresses."""
        behind = 0
        for i, token in enumerate(tokens):
            if token.kind >= ENTITY and i >= behind:
                end = ends[bisect.bisect_right(ends, i)]
                behind = i + self._tag_name(tagged, tokens, i, end)

    def _tag_name(self, tagged: list[int], tokens: Sequence[Token], i: int, end: int) -> int:
        """Tag the first listed name that starts at `i`; how many tokens it covers, at least 1."""
        lower = tokens[i].text.lower()
        if _is_address(lower):
            tagged[i] = self._class("NNP", tokens[i].text)
        for name, suffix in self.rules.entities.get(lower, ()):
            n = len(name)
            if i + n > end or (n > 1 and tokens[i + 1].text.lower() != name[1]):
                continue
            if all(tokens[i + j].text.lower() == name[j] for j in range(2, n)):
                for j in range(i, i + n):
                    tag = "NNPS" if self._tags[tagged[j]] == "NNPS" else "NNP"
                    tagged[j] = self._class(tag + suffix, tokens[j].text)
                return n
        return 1


def _is_address(lower: str) -> bool:
    """Web and mail addresses; beyond 2048 characters nothing is one."""
    return ("." in lower or "/" in lower) and len(lower) <= 2048 and _ADDRESS.search(lower) is not None
