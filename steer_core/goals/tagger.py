"""Part-of-speech tags without a download: Brill's tagger with the lexicon and rules that TextBlob ships.

The result is that of TextBlob's own tagging function given all its rule files (morphology, context, names) on the same
tokens, tag for tag; a test compares them. TextBlob's `PatternTagger` class leaves these rules out and guesses from the
word alone (`to open` is an adjective there). The way differs: each distinct word is looked up once, and each distinct
window of tags is decided once.

Brill (1992), A simple rule-based part of speech tagger. Tags are those of the Penn Treebank.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from steer_core.goals.brill_rules import BrillRules, load_rules
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
        before, after: tables of the direct neighbours.
        near: masks of the direct neighbours -> new class, or -1 where farther ones matter.
        tables: tables of all neighbours that some rule asks about, with their offsets.
        far: masks of all neighbours -> new class.
        rules: rules in the order of precedence.
    """

    before: _Table
    after: _Table
    near: dict[tuple[int, int], int]
    tables: tuple[tuple[int, _Table], ...]
    far: dict[tuple[int, ...], int]
    rules: tuple[_Rule, ...]


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
        if not tokens:
            return []
        edges = [0, 0, 0]
        row = edges.copy()
        _, classes, _, kinds = zip(*tokens, strict=True)
        start = 0
        for end in ends:
            if end == start:
                continue
            sentence = list(classes[start:end])
            sentence[0] = tokens[start].first
            if -1 in sentence:
                self._tag_unknown(sentence, tokens, start)
            row += sentence
            row += edges
            start = end
        self._apply_context(row)
        tagged = [c for c in row if c]
        if max(kinds) >= ENTITY:
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
            before, after, near, tables, far, _ = plan
            key = (before[row[i - 1]], after[row[i + 1]])
            new = near.get(key)
            if new is None:
                new = near[key] = self._decide(plan, cls, {-1: key[0], 1: key[1]})
            if new < 0:
                wide = tuple([table[row[i + offset]] for offset, table in tables])
                new = far.get(wide, -1)
                if new < 0:
                    if len(far) >= _WINDOWS:
                        far.clear()
                    offsets = [offset for offset, _ in tables]
                    new = far[wide] = self._decide(plan, cls, dict(zip(offsets, wide, strict=True)))
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
        return _Plan(tables[-1], tables[1], {}, tuple(tables.items()), {}, tuple(rules))

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
        for i in [i for i, token in enumerate(tokens) if token.kind >= ENTITY]:
            if i >= behind:
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
