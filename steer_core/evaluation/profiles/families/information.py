"""Information: how evenly a text uses its words, and how likely its words are under given log-probabilities.

The published profiles have an `entropy` that sums -p ln p over the tokens of a text, p from a table of word
frequencies: it grows with length and is no entropy, nor is the exponential of it, divided by the length, a perplexity a
word. Here entropy is that of the text's own words, and perplexity the exponential of the mean surprise.
`published_information` has their figures, for comparison.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.evaluation.profiles.family import Family, LogProbs, Resources, UnigramTable
from steer_core.evaluation.profiles.reading import Reading
from steer_core.evaluation.profiles.value import NO_TOKENS, NO_WORDS, Missing, Value, all_missing
from steer_core.goals.analysis import Analyzer
from steer_core.tables.errors import SteerworksError

_NO_TABLE = Missing("no table of word probabilities was given (`Resources.unigrams`)")
_NO_MODEL = Missing("no log-probabilities of a model were given (`perplexity` of a profile, `Resources.log_probs`)")
_OVERLONG = Missing("the model gave no log-probabilities: it does not fit its context")
_UNKNOWN = Missing("the table of word probabilities has none of its words")
_BEYOND = Missing("beyond the largest number")


def word_entropy(words: Sequence[str]) -> float:
    """Entropy of a text's own words, in bits a word: 0 for one word again and again, log2 n for n different ones.

    Shannon (1948); the plug-in estimate, which is too low for short texts.

    Args:
        words: at least one.
    """
    n = len(words)
    # abs: minus zero
    return abs(math.fsum(c / n * math.log2(n / c) for c in Counter(words).values()))


def perplexity(log_probs: Sequence[float], units: int | None = None) -> Value:
    """exp(-sum(log_probs) / units): how many equally likely choices a unit was worth.

    Args:
        log_probs: natural logarithms of the probabilities of a text's tokens, at least one.
        units: what it is taken a unit of, e.g. the number of words; by default the tokens themselves.

    Returns:
        Missing where it is beyond the largest number.
    """
    try:
        return math.exp(-math.fsum(log_probs) / (units or len(log_probs)))
    except OverflowError:
        return _BEYOND


def published_information(log_probs: Sequence[float]) -> tuple[float, float, float]:
    """`entropy`, `perplexity` and `per_word_perplexity` as textdescriptives 2.8 computes them; see above.

    Args:
        log_probs: natural logarithms of the unigram probabilities of a text's tokens, at least one.
    """
    entropy = -math.fsum(math.exp(p) * p for p in log_probs)
    return entropy, math.exp(entropy), math.exp(entropy) / len(log_probs)


def count_words(texts: Iterable[str], analyzer: Analyzer | None = None) -> UnigramTable:
    """Word probabilities in a corpus, each count raised by one, and one count for all that it lacks (Laplace).

    Args:
        texts: the corpus.
        analyzer: memo to reuse.

    Raises:
        SteerworksError: the corpus has no word.
    """
    reader = Analyzer() if analyzer is None else analyzer
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(reader.analyse(text).words)
    if not counts:
        raise SteerworksError("a table of word probabilities needs a corpus with words: these texts have none")
    total = counts.total() + len(counts) + 1
    return UnigramTable({w: math.log((c + 1) / total) for w, c in counts.items()}, unknown=-math.log(total))


@dataclass(frozen=True)
class Information(Family):
    """Entropy of the text itself; surprise of its words under a table; perplexity of it under a model.

    Attributes:
        unigrams: the table.
        log_probs: what gives token log-probabilities under a model, for all texts of a batch at once.
        why: why there is none of these.
    """

    unigrams: UnigramTable | None = None
    log_probs: LogProbs | None = None
    why: Missing = _NO_MODEL
    metrics: ClassVar[Mapping[str, str]] = {
        "word_entropy": "entropy of the text's own words, bits a word",
        "unigram_cross_entropy": "mean of -ln p over the words, p from a table of word probabilities; nats a word",
        "unigram_perplexity": "exp of it",
        "model_perplexity": "exp(-mean ln p(token)) under a model",
        "model_perplexity_per_word": "exp(-sum of ln p(token) / words)",
        "model_bits_per_character": "-sum of log2 p(token) / characters that are no white space",
    }

    def measure(self, readings: Sequence[Reading]) -> list[tuple[Value, ...]]:
        """Values of each text.

        Raises:
            SteerworksError: the model's log-probabilities are not one list a text, or hold what is none.
        """
        given = _ask(self.log_probs, readings) if self.log_probs else None
        rows = []
        for i, reading in enumerate(readings):
            no_words = reading.no_words or (None if reading.lexical else NO_WORDS)
            words = all_missing(no_words, 3) if no_words else (word_entropy(reading.lexical), *self._table(reading))
            rows.append((*words, *(all_missing(self.why, 3) if given is None else _of_model(reading, given[i]))))
        return rows

    def _table(self, reading: Reading) -> tuple[Value, ...]:
        table = self.unigrams
        if table is None:
            return all_missing(_NO_TABLE, 2)
        looked_up = [table.log_probs.get(word, table.unknown) for word in reading.lexical]
        known = [p for p in looked_up if p is not None]
        if not known:
            return all_missing(_UNKNOWN, 2)
        return -math.fsum(known) / len(known), perplexity(known)


def _ask(log_probs: LogProbs, readings: Sequence[Reading]) -> Sequence[Sequence[float]]:
    given = log_probs([reading.original for reading in readings])
    if len(given) != len(readings):
        raise SteerworksError(f"`log_probs` gave {len(given)} lists for {len(readings)} texts: it must give one a text")
    for reading, own in zip(readings, given, strict=True):
        if not all(math.isfinite(p) and p <= 0.0 for p in own):
            raise SteerworksError(
                f"`log_probs` gave {min(own)} to {max(own)} for the text {reading.original[:60]!r}: logarithms of "
                "probabilities are finite and at most 0"
            )
    return given


def _of_model(reading: Reading, log_probs: Sequence[float]) -> tuple[Value, ...]:
    if not log_probs:
        return all_missing(_OVERLONG if reading.original.strip() else NO_TOKENS, 3)
    characters = sum(map(len, reading.original.split()))
    return (
        perplexity(log_probs),
        reading.no_words or perplexity(log_probs, len(reading.forms)),
        -math.fsum(log_probs) / math.log(2.0) / characters if characters else NO_TOKENS,
    )


def build(resources: Resources) -> Family:
    """The family; it may use a table of word probabilities and a model's log-probabilities."""
    return Information(resources.unigrams, resources.log_probs, resources.why("log_probs", _NO_MODEL))
