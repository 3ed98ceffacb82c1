"""Quality flags: what filters of web text look at, and whether a text would pass them.

Heuristics of Rae et al. (2021), Scaling language models (Gopher), table A1, with the thresholds of textdescriptives
2.8, which published profiles have. They were made for web pages: an answer of eight words fails by its length alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

from steer_core.evaluation.meaning import STOP_WORDS
from steer_core.evaluation.profiles.family import Family, Resources
from steer_core.evaluation.profiles.reading import Reading
from steer_core.evaluation.profiles.repetition import DUPLICATE, TOP, TOP_COUNT, ngram_shares, repeated_share
from steer_core.evaluation.profiles.value import NO_LINES, NO_WORDS, UNSPACED, Missing, Value, all_missing
from steer_core.goals.syllables import in_dictionary
from steer_core.goals.tokens import is_word

#: Fewest and most tokens of a text that passes.
LENGTH = (10, 100_000)
#: Metric -> smallest and largest value of a text that passes.
THRESHOLDS: Mapping[str, tuple[float, float]] = {
    "n_stop_words": (2, float("inf")),
    "alpha_ratio": (0.7, 1.0),
    "mean_token_length": (3.0, 10.0),
    "hash_to_word_ratio": (0.0, 0.1),
    "proportion_ellipsis": (0.0, 0.3),
    "proportion_bullet_points": (0.0, 0.8),
    "contains_lorem_ipsum": (0.0, 0.0),
    "duplicate_line_chr_fraction": (0.0, 0.2),
    "duplicate_paragraph_chr_fraction": (0.0, 0.2),
    "oov_ratio": (0.0, 0.2),
    **dict(zip((f"top_ngram_chr_fraction_{n}" for n in TOP), ((0.0, 0.20), (0.0, 0.18), (0.0, 0.16)), strict=True)),
    **{f"duplicate_ngram_chr_fraction_{n}": (0.0, (20 - n) / 100) for n in DUPLICATE},
}

#: What an item begins with: a sign and a blank. Without the blank it may be emphasis, which the tool takes for an item.
_BULLET = re.compile(r"[-*•‣◦▪]\s")


def passes(flags: Mapping[str, Value], n_tokens: int) -> bool:
    """Whether the length and all flags that are not missing are within their thresholds, ends included.

    Args:
        flags: metric of `THRESHOLDS` -> its value.
        n_tokens: tokens of the text.
    """
    bounds = [(v, THRESHOLDS[name]) for name, v in flags.items() if not isinstance(v, Missing)]
    return LENGTH[0] <= n_tokens <= LENGTH[1] and all(low <= v <= high for v, (low, high) in bounds)


@dataclass(frozen=True)
class Quality(Family):
    """The flags of a text, and the verdict of all.

    textdescriptives scores a blank text 0 in every ratio and counts blank lines as lines; here a ratio of nothing is
    missing, and blank lines are none. A text too short to repeat a sequence repeats none: 0.

    Attributes:
        vocabulary: lower-case words that count as known; None takes CMUdict.
    """

    vocabulary: Set[str] | None = None
    metrics: ClassVar[Mapping[str, str]] = {
        "n_stop_words": "words of the closed classes: articles, pronouns, prepositions, auxiliaries",
        "alpha_ratio": "share of tokens with a letter",
        "mean_token_length": "characters a token",
        "hash_to_word_ratio": "signs # / words",
        "proportion_ellipsis": "share of lines that end with an ellipsis",
        "proportion_bullet_points": "share of lines that begin with a bullet",
        "contains_lorem_ipsum": "1 where the text has `lorem ipsum`, else 0",
        "duplicate_line_chr_fraction": "share of characters in lines that were there before",
        "duplicate_paragraph_chr_fraction": "share of characters in paragraphs that were there before",
        "oov_ratio": "share of words, numbers aside, that the vocabulary lacks (CMUdict unless another is given)",
        **{
            f"top_ngram_chr_fraction_{n}": f"share of characters in the most frequent sequence of {n} tokens, if it "
            f"comes {TOP_COUNT} times or more"
            for n in TOP
        },
        **{
            f"duplicate_ngram_chr_fraction_{n}": f"share of characters in sequences of {n} tokens that come again"
            for n in DUPLICATE
        },
        "passed_quality_check": "1 where every flag that is not missing is within its threshold, else 0",
    }

    def measure(self, readings: Sequence[Reading]) -> list[tuple[Value, ...]]:
        """Flags of each text."""
        return [self._of(reading) for reading in readings]

    def _of(self, reading: Reading) -> tuple[Value, ...]:
        flags = (*_of_words(reading), *_of_lines(reading), self._unknown(reading), *_of_sequences(reading))
        # a text whose words cannot be counted has no verdict; a blank one has too few
        if reading.no_words is UNSPACED:
            return (*flags, UNSPACED)
        return (*flags, float(passes(dict(zip(THRESHOLDS, flags, strict=True)), len(reading.tokens))))

    def _unknown(self, reading: Reading) -> Value:
        words = reading.lexical
        if reading.no_words or not words:
            return reading.no_words or NO_WORDS
        vocabulary = self.vocabulary
        if vocabulary is None:
            return 1.0 - sum(map(in_dictionary, words)) / len(words)
        return sum([word not in vocabulary for word in words]) / len(words)


def _of_words(reading: Reading) -> tuple[Value, ...]:
    """Stop words to signs."""
    no_words, no_tokens, tokens = reading.no_words, reading.no_tokens, reading.tokens
    return (
        UNSPACED if no_words is UNSPACED else float(sum([word in STOP_WORDS for word in reading.lexical])),
        no_tokens or sum(map(is_word, tokens)) / len(tokens),
        no_tokens or sum(map(len, tokens)) / len(tokens),
        no_words or reading.text.count("#") / len(reading.forms),
    )


def _of_lines(reading: Reading) -> tuple[Value, ...]:
    """Ellipses to repeated paragraphs."""
    lines = reading.lines
    if not lines:
        return all_missing(NO_LINES, 5)
    return (
        sum([line.endswith("...") for line in lines]) / len(lines),
        sum([_BULLET.match(line) is not None for line in lines]) / len(lines),
        float("lorem ipsum" in reading.text.lower()),
        repeated_share(lines),
        repeated_share(reading.paragraphs),
    )


def _of_sequences(reading: Reading) -> tuple[Value, ...]:
    if reading.no_tokens:
        return all_missing(reading.no_tokens, len(TOP) + len(DUPLICATE))
    return ngram_shares(reading.tokens)


def build(resources: Resources) -> Family:
    """The family; it may use a vocabulary."""
    return Quality(resources.vocabulary)
