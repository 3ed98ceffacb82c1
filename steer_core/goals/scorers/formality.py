"""Formality: the F-score of Heylighen and Dewaele, from parts of speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer, check_number
from steer_core.goals.tagger import ARTICLE, ENTITY, SUBORDINATOR, TO

#: Classes that add to formality and those that take from it.
FORMAL = ("noun", "adjective", "preposition", "article")
DEICTIC = ("pronoun", "verb", "adverb", "interjection")

_CLASSES = {
    **dict.fromkeys(["NN", "NNS", "NNP", "NNPS"], "noun"),
    **dict.fromkeys(["JJ", "JJR", "JJS"], "adjective"),
    "IN": "preposition",
    **dict.fromkeys(["PRP", "PRP$", "WP", "WP$", "EX"], "pronoun"),
    **dict.fromkeys(["MD", "VB", "VBD", "VBG", "VBN", "VBP", "VBZ"], "verb"),
    **dict.fromkeys(["RB", "RBR", "RBS", "WRB"], "adverb"),
    "UH": "interjection",
}


def f_score(counts: Mapping[str, int], n_words: int) -> float:
    """F = (noun + adjective + preposition + article - pronoun - verb - adverb - interjection + 100) / 2.

    Each class as a percentage of all words, so F is within 0 and 100. Heylighen and Dewaele (2002), Variation in the
    contextuality of language: an empirical measure, Foundations of Science 7, p. 309.

    Args:
        counts: words of each class; classes not named in `FORMAL` or `DEICTIC` count in `n_words` only.
        n_words: all words, above 0.
    """
    balance = sum(counts.get(c, 0) for c in FORMAL) - sum(counts.get(c, 0) for c in DEICTIC)
    return (100.0 * balance / n_words + 100.0) / 2


def word_class(tag: str, kind: int = 1) -> str:
    """Word class of a Penn Treebank tag.

    Args:
        tag: tag of the token.
        kind: what the tagger knows of the word besides (`steer_core.goals.tagger`): articles are an own class, words
            like `because` and the `to` of an infinitive are no prepositions.
    """
    if kind == ARTICLE:
        return "article"
    if tag == "IN" and kind == SUBORDINATOR:
        return "other"
    return _CLASSES.get(tag.split("-")[0], "other")


@dataclass(frozen=True)
class Formality(Scorer):
    """F-score over tokens with a letter in them; parts of speech by Brill's tagger.

    Undefined below `min_words` words.

    Attributes:
        min_words: fewest words of a text with a value.
    """

    min_words: int = 1
    name: ClassVar[str] = "formality"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_number(self.name, "min_words", self.min_words, 1)

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """F-score of each text, 0 to 100."""
        return [self._of(a) for a in analyses]

    def _of(self, analysis: TextAnalysis) -> float | None:
        classes = analysis.tag_classes
        kinds = [t.kind for t in analysis.tokens]
        counts: Counter[str] = Counter()
        n_words = 0
        for (flags, cls), n in Counter(zip(kinds, classes, strict=True)).items():
            kind = flags % ENTITY
            if kind:
                n_words += n
                counts[word_class(analysis.tag_names([cls])[0], kind)] += n
        if n_words < self.min_words:
            return None
        if TO in kinds:
            counts["preposition"] += _prepositional_to(analysis, kinds)
        return f_score(counts, n_words)


def _prepositional_to(analysis: TextAnalysis, kinds: list[int]) -> int:
    """Times that `to` stands before something else than a verb or an adverb: `to the house`, not `to (quickly) go`."""
    classes = analysis.tag_classes
    after = [classes[i + 1] for i, kind in enumerate(kinds[:-1]) if kind == TO]
    return sum(not tag.startswith(("VB", "RB")) for tag in analysis.tag_names(after))


def build(*, min_words: int = 1) -> Scorer:
    """The scorer.

    Args:
        min_words: fewest words of a text with a value.
    """
    return Formality(min_words)
