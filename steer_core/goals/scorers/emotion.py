"""Emotion from words: how much of a text speaks of joy, sadness, anger, fear, disgust or surprise."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer, raise_config

EMOTIONS = ("joy", "sadness", "anger", "fear", "disgust", "surprise")

_NEGATORS = frozenset(["no", "not", "never", "without", "hardly", "neither", "nor", "cannot"])
_REACH = 3


@functools.cache
def load_lexicon() -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Emotion -> {"words": whole words, "stems": beginnings of words}, from `emotion_words.txt` beside this file."""
    lexicon = {}
    for line in (Path(__file__).parent / "emotion_words.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            emotion, _, entries = line.partition(":")
            words = entries.split()
            lexicon[emotion] = MappingProxyType(
                {
                    "words": frozenset(w for w in words if not w.endswith("*")),
                    "stems": frozenset(w[:-1] for w in words if w.endswith("*")),
                }
            )
    return MappingProxyType(lexicon)


def speaks_of(word: str, emotion: str) -> bool:
    """True where a lower-case word is one of an emotion's words, or begins like one."""
    entries = load_lexicon()[emotion]
    return word in entries["words"] or any(word[:n] in entries["stems"] for n in range(3, min(len(word), 12) + 1))


@dataclass(frozen=True)
class Emotion(Scorer):
    """Percentage of words that speak of an emotion, by a seed lexicon written for this library.

    A word within three words behind a negation does not count. The lexicon is small (about 60 entries an emotion, most
    of them stems), so short texts often score 0: `hub_classifier` is the choice where a model can be loaded. The known
    emotion lexicons are no choice for a library: the NRC lexicon is licensed for research only, Empath's package states
    no licence. Undefined for a text without words.

    Attributes:
        emotion: one of `EMOTIONS`.
    """

    emotion: str
    name: ClassVar[str] = "emotion"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.emotion not in EMOTIONS:
            raise_config(f"scorer 'emotion': unknown emotion {self.emotion!r}; there are: {', '.join(EMOTIONS)}")

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Percentage of each text's words."""
        return [self._of(a.words) for a in analyses]

    def _of(self, words: Sequence[str]) -> float | None:
        if not words:
            return None
        hits, last_negator = 0, -_REACH - 1
        for i, word in enumerate(words):
            if word in _NEGATORS or word.endswith("n't"):
                last_negator = i
            elif i - last_negator > _REACH and speaks_of(word, self.emotion):
                hits += 1
        return 100.0 * hits / len(words)


def build(*, emotion: str) -> Scorer:
    """The scorer.

    Args:
        emotion: one of `EMOTIONS`.
    """
    return Emotion(emotion)
