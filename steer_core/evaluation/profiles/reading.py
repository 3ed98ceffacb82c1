"""One pass over a text, shared by all families of metrics: words, syllables, sentences, lines, tokens.

What counts as what:

1. The text is read in its canonical form (`steer_core.goals.canonical`).
2. A *word* is a piece between white spaces that holds a letter or digit, without its punctuation; its syllables are
   those of the goal `reading_difficulty`. Contractions are one word.
3. A *token* is a word, a part of a contraction or a punctuation mark: those of the goal `text_length`.
4. A *sentence* ends at `. ! ? …` (abbreviations aside), at an empty line, and where an item of a list or a heading
   begins; the number or sign of an item ends none. It holds at least one word. The goal `reading_difficulty` counts as
   textstat does instead, which knows neither lists nor abbreviations.
5. Text in a script that puts no spaces between words (Han, kana, Thai ...) has no countable words here, and text that
   is not mostly in Latin script no syllables: metrics that need them are missing, and say so.
"""

from __future__ import annotations

import functools
import re
from itertools import pairwise
from typing import NamedTuple

from steer_core.evaluation.profiles.value import NO_TOKENS, NO_WORDS, NOT_LATIN, UNSPACED, Missing
from steer_core.goals.analysis import Analyzer, TextAnalysis
from steer_core.goals.syllables import bare

#: Distinct pieces kept in mind, and the longest one that is worth it.
_PIECES = 120_000
_LONGEST = 48

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]"
)
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]")
#: What an item of a list or a heading begins with.
_MARKER = re.compile(r"[-*+•‣◦▪]|\(?(?:\d{1,3}|[A-Za-z])[.)]|#{1,6}")
_EMPTY_LINE = re.compile(r"\n\s*\n")


class Word(NamedTuple):
    """A piece of text as a word; one object serves all its occurrences.

    Attributes:
        form: lower case, without punctuation; empty where the piece is no word.
        syllables: of the form.
        ends: whether the piece closes a sentence.
    """

    form: str
    syllables: int
    ends: bool


class Reader(dict[str, Word]):
    """Makes readings, and remembers what it found out about each piece; the memo is bounded and changes no value."""

    def __init__(self, analyzer: Analyzer | None = None) -> None:
        super().__init__()
        self._analyzer = Analyzer() if analyzer is None else analyzer

    def __missing__(self, piece: str) -> Word:
        known = self._analyzer[piece]
        word = Word((bare(piece.lower()) or bare(piece)) if known.n_words else "", known.n_syllables, known.ends)
        if len(piece) <= _LONGEST:
            self[piece] = word
        return word

    def read(self, text: str) -> Reading:
        """Reading of a text; any `str` is welcome."""
        if len(self) > _PIECES:
            self.clear()
        # the analyzer bounds its own memo when it is asked for pieces
        self._analyzer.pieces("")
        return Reading(self._analyzer.analyse(text), self)


class Reading:
    """A text as the families of metrics see it. What not every family needs is computed when first asked for.

    Attributes:
        text: its canonical form.
        original: the text as it stands, for models.
        forms: its words, in order.
        syllables: of each word, shape [words].
        sentence_lengths: words of each sentence, shape [sentences].
    """

    def __init__(self, analysis: TextAnalysis, reader: Reader) -> None:
        self.text = analysis.read
        self.original = analysis.text
        self._analysis = analysis
        self._pieces: list[str] = []
        self.forms: list[str] = []
        self.syllables: list[int] = []
        # behind each sentence: pieces and words so far
        self._ends: list[tuple[int, int]] = [(0, 0)]
        for line in self.text.split("\n"):
            self._read_line(line.split(), reader)
        self._close()
        self.sentence_lengths = [b - a for (_, a), (_, b) in pairwise(self._ends)]

    def _read_line(self, pieces: list[str], reader: Reader) -> None:
        if not pieces:
            self._close()
            return
        marked = len(pieces[0]) < 6 and _MARKER.fullmatch(pieces[0]) is not None
        if marked:
            self._close()
        forms, syllables, seen = self.forms, self.syllables, self._pieces
        for i, piece in enumerate(pieces):
            form, n_syllables, ends = reader[piece]
            seen.append(piece)
            if form:
                forms.append(form)
                syllables.append(n_syllables)
            if ends and (i or not marked):
                self._close()
        if marked and pieces[0][0] == "#":
            self._close()

    def _close(self) -> None:
        """End a sentence here; without a word there is none yet, and what stands there belongs to the next."""
        if len(self.forms) > self._ends[-1][1]:
            self._ends.append((len(self._pieces), len(self.forms)))

    @functools.cached_property
    def no_words(self) -> Missing | None:
        """Why metrics of words are missing; None where there are words to count."""
        if not self.text.isascii():
            letters = sum(map(str.isalpha, self.text))
            if 2 * len(_UNSPACED.findall(self.text)) > letters:
                return UNSPACED
        return None if self.forms else NO_WORDS

    @functools.cached_property
    def no_syllables(self) -> Missing | None:
        """Why metrics of syllables are missing; None where words are mostly in Latin script."""
        if self.no_words is not None or self.text.isascii():
            return self.no_words
        letters = sum(map(str.isalpha, self.text))
        return NOT_LATIN if 2 * len(_LATIN.findall(self.text)) < letters else None

    @functools.cached_property
    def no_tokens(self) -> Missing | None:
        """Why metrics of tokens are missing; None where there are tokens to count."""
        if self.no_words is UNSPACED:
            return UNSPACED
        return None if self.tokens else NO_TOKENS

    @functools.cached_property
    def lengths(self) -> list[int]:
        """Letters and digits of each word, shape [words]."""
        return list(map(len, self.forms))

    @functools.cached_property
    def tokens(self) -> list[str]:
        """Words, parts of contractions and punctuation marks, as they are written."""
        return [token.text for token in self._analysis.tokens]

    @property
    def lexical(self) -> list[str]:
        """Lower-case words with a letter in them: those of the goal `textual_diversity`."""
        return self._analysis.words

    @functools.cached_property
    def sentences(self) -> list[str]:
        """Sentences as text, white space as single blanks; what follows the last word belongs to the last sentence."""
        cuts = [end for end, _ in self._ends]
        cuts[-1] = len(self._pieces) if len(cuts) > 1 else 0
        return [" ".join(self._pieces[a:b]) for a, b in pairwise(cuts)]

    @functools.cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, stripped."""
        return [s for line in self.text.split("\n") if (s := line.strip())]

    @functools.cached_property
    def paragraphs(self) -> list[str]:
        """What stands between empty lines, stripped, none blank."""
        return [s for part in _EMPTY_LINE.split(self.text) if (s := part.strip())]
