"""One pass over a text, shared by all scorers: pieces, words, syllables, sentences, tokens, tags."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from itertools import chain, pairwise
from typing import NamedTuple

from steer_core.goals.canonical import canonical
from steer_core.goals.syllables import bare, count_syllables, forget_unknown_words
from steer_core.goals.tagger import Tagger, Token
from steer_core.goals.tokens import ends_sentence, is_word, split_contraction, split_piece

#: Distinct pieces kept in mind, and the longest one that is worth it.
_PIECES = 120_000
_LONGEST = 48

_FK_SENTENCE = re.compile(r"\b[^.!?]+[.!?]*")
_WORD_CHARACTER = re.compile(r"\w")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|\n\s*\n")


class Piece(NamedTuple):
    """What stands between two white spaces; one object serves all its occurrences.

    Attributes:
        n_words: 1 where the piece is a word to a Flesch-Kincaid counter (it holds a word character), else 0.
        n_syllables: syllables of that word.
        tokens: words, parts of contractions, and punctuation marks.
        words: lower-case words with a letter in them, contractions whole.
        ends: whether the piece closes a sentence.
    """

    n_words: int
    n_syllables: int
    tokens: tuple[Token, ...]
    words: tuple[str, ...]
    ends: bool


class Analyzer(dict[str, Piece]):
    """Makes analyses, and remembers what it found out about each piece of text.

    One per process, passed on like a seed; the memo is bounded and changes no value. It is a dict from piece to `Piece`
    that looks up what it lacks, which keeps the loop over a text's pieces out of Python code.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tagger: Tagger | None = None
        self._tokens: dict[str, Token] = {}
        self._syllables: dict[str, int] = {}

    @property
    def tagger(self) -> Tagger:
        """The tagger, loaded when first needed."""
        if self._tagger is None:
            self._tagger = Tagger()
        return self._tagger

    def __missing__(self, piece: str) -> Piece:
        whole = split_piece(piece)
        word = bare(piece.lower())
        record = Piece(
            n_words=1 if word or bare(piece) else 0,
            n_syllables=self._count_syllables(word),
            tokens=tuple([self._token(part) for t in whole for part in split_contraction(t)]),
            words=tuple([t.lower().replace("’", "'") for t in whole if is_word(t)]),
            ends=ends_sentence(whole),
        )
        if len(piece) <= _LONGEST:
            self[piece] = record
        return record

    def _token(self, text: str) -> Token:
        token = self._tokens.get(text)
        if token is None:
            token = self.tagger.token(text)
            if len(text) <= _LONGEST:
                self._tokens[text] = token
        return token

    def _count_syllables(self, word: str) -> int:
        count = self._syllables.get(word)
        if count is None:
            count = count_syllables(word)
            if len(word) <= _LONGEST:
                self._syllables[word] = count
        return count

    def analyse(self, text: str) -> TextAnalysis:
        """Analysis of a text; nothing is computed before a scorer asks for it."""
        return TextAnalysis(text, self)

    def analyse_all(self, texts: Iterable[str]) -> list[TextAnalysis]:
        """Analyses of some texts."""
        return [TextAnalysis(text, self) for text in texts]

    def pieces(self, text: str) -> list[Piece]:
        """Pieces of a text, in order."""
        if len(self) > _PIECES:
            self.clear()
        if len(self._tokens) + len(self._syllables) > _PIECES:
            self._tokens.clear()
            self._syllables.clear()
            forget_unknown_words()
        return [self[piece] for piece in text.split()]


class TextAnalysis:
    """A text and what is known about it. Every property is computed once, when it is first asked for.

    Any `str` is welcome: empty, control characters, lone surrogates, any script. All passes are linear in its length.

    Attributes:
        text: as it stands.
        read: what the properties are read from: the canonical form.
    """

    def __init__(self, text: str, analyzer: Analyzer, *, verbatim: bool = False) -> None:
        self.text = text
        self.read = text if verbatim else canonical(text)
        self._analyzer = analyzer

    @functools.cached_property
    def verbatim(self) -> TextAnalysis:
        """The analysis of the text as it stands, for scorers that reproduce a published tool."""
        return self if self.read == self.text else TextAnalysis(self.text, self._analyzer, verbatim=True)

    @functools.cached_property
    def _columns(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[Token, ...], ...], tuple[bool, ...]]:
        pieces = self.pieces
        if not pieces:
            return (), (), (), ()
        n_words, n_syllables, tokens, _, ends = zip(*pieces, strict=True)
        return n_words, n_syllables, tokens, ends

    @functools.cached_property
    def pieces(self) -> list[Piece]:
        """What stands between white spaces."""
        return self._analyzer.pieces(self.read)

    @functools.cached_property
    def n_words(self) -> int:
        """Words: pieces that hold a letter, digit or underscore (textstat's `lexicon_count`)."""
        return sum(self._columns[0])

    @functools.cached_property
    def n_syllables(self) -> int:
        """Syllables of these words (textstat's `syllable_count`)."""
        return sum(self._columns[1])

    @functools.cached_property
    def n_sentences(self) -> int:
        """Sentences as textstat 0.7.5 counts them: runs up to `. ! ?` of 3 words or more; at least 1."""
        return max(1, sum(map(_has_three_words, _FK_SENTENCE.findall(self.read))))

    @functools.cached_property
    def tokens(self) -> list[Token]:
        """Words, parts of contractions and punctuation marks, in order."""
        return list(chain.from_iterable(self._columns[2]))

    @functools.cached_property
    def words(self) -> list[str]:
        """Lower-case words with a letter in them, in order; numbers and marks left out, contractions whole."""
        return list(chain.from_iterable([p.words for p in self.pieces]))

    @functools.cached_property
    def sentence_ends(self) -> list[int]:
        """Index behind the last token of each sentence."""
        ends, position = [], 0
        for tokens, closes in zip(self._columns[2], self._columns[3], strict=True):
            position += len(tokens)
            if closes:
                ends.append(position)
        if position and (not ends or ends[-1] != position):
            ends.append(position)
        return ends

    @functools.cached_property
    def tag_classes(self) -> list[int]:
        """Class of each token; `tag_names` reads them."""
        return self._analyzer.tagger.tag(self.tokens, self.sentence_ends)

    @property
    def tags(self) -> list[str]:
        """Penn Treebank tag of each token."""
        return self.tag_names(self.tag_classes)

    def tag_names(self, classes: Iterable[int]) -> list[str]:
        """Penn Treebank tags of classes."""
        return [self._analyzer.tagger.tag_name(c) for c in classes]

    @functools.cached_property
    def sentences(self) -> list[str]:
        """Sentences as text, stripped, none blank: cut behind `. ! ? …` and at empty lines."""
        cuts = [0, *(m.end() for m in _SENTENCE_END.finditer(self.read)), len(self.read)]
        return [s for a, b in pairwise(cuts) if (s := self.read[a:b].strip())]


def _has_three_words(sentence: str) -> bool:
    head = sentence.split(None, 3)[:3]
    if len(head) < 3:
        return False
    if "".join(head).isalnum():
        return True
    found = 0
    for piece in sentence.split():
        found += bool(_WORD_CHARACTER.search(piece))
        if found == 3:
            return True
    return False


def stretches(sentence: str, longest: int) -> list[str]:
    """A sentence, cut behind every `longest` words where it has more."""
    words = sentence.split()
    if len(words) <= longest:
        return [sentence]
    return [" ".join(words[i : i + longest]) for i in range(0, len(words), longest)]
