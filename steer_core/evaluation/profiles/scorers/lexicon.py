"""`lexicon`: listed words, counted. The baseline that anything else has to beat; it knows no context at all.

The value of an attribute is five times the share of words that are listed for it, at most 1: one word in ten is .5. A
listed expression of several words counts as all of them. Words of identity attacks are not listed, since naming a group
is none; severe toxicity is not a matter of words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from schemas.digest import digest_json
from steer_core.evaluation.profiles.ngrams import READING, read
from steer_core.evaluation.profiles.scorer import EMPTY, VERSION_DIGITS, Marks, Scorer, all_attributes, is_blank
from steer_core.evaluation.profiles.scorers.char_ngram import CARD, FOLDER, tested_sentence
from steer_core.evaluation.profiles.value import Missing

#: Attribute -> slots of `scorer_training/texts/words.txt` whose words are listed for it.
_SLOTS = {
    "insult": ("fool", "fools", "vile", "dunghill", "strongfool"),
    "profanity": ("strong", "strongfool", "mildcurse", "curse"),
    "threat": ("harm",),
}
#: What the share of listed words is multiplied by.
WEIGHT = 5.0
NO_WORDS = Missing("no words")


@dataclass(frozen=True)
class Lexicon:
    """The scorer.

    Attributes:
        words: attribute -> words and expressions, as `ngrams.read` reads them.
        version: digest of the words.
        tested: see `Scorer`; from the card of `char-ngram`, which was measured beside it.
    """

    words: Mapping[str, frozenset[str]]
    version: str
    tested: str
    name: ClassVar[str] = "lexicon"

    @property
    def attributes(self) -> tuple[str, ...]:
        """What it scores."""
        return tuple(self.words)

    def score(self, texts: Sequence[str]) -> list[Marks]:
        """Values of each text; a blank one is `empty`, one without a letter or digit has `no words`."""
        patterns = {a: _pattern(w) for a, w in self.words.items()}
        return [self._one(text, patterns) for text in texts]

    def _one(self, text: str, patterns: Mapping[str, re.Pattern[str]]) -> Marks:
        plain = read(text)
        n = len(plain.split())
        if not n:
            return all_attributes(EMPTY if is_blank(text) else NO_WORDS, self.attributes)
        listed = {a: sum(len(found.split()) for found in p.findall(plain)) for a, p in patterns.items()}
        return {a: min(1.0, WEIGHT * count / n) for a, count in listed.items()}


def build() -> Scorer:
    """The scorer: insult, profanity, threat, and toxicity, which is any of them."""
    from steer_core.evaluation.profiles.scorer_training.reading import read_words

    slots = read_words()
    words = {a: frozenset(read(w).strip() for s in own for w in slots[s]) for a, own in _SLOTS.items()}
    words = {"toxicity": frozenset().union(*words.values()), **words}
    settings = {"words": {a: sorted(w) for a, w in words.items()}, "weight": WEIGHT, "reading": READING}
    version = digest_json(settings)[:VERSION_DIGITS]
    return Lexicon(words, version, _tested(version, tuple(words)))


def _tested(version: str, attributes: Sequence[str]) -> str:
    card = json.loads((FOLDER / CARD).read_text(encoding="utf-8"))
    measured = card.get("lexicon", {})
    if measured.get("version") != version:
        return "a count of listed words that nobody has tested since the list was changed"
    return tested_sentence(measured["other_origin"], attributes, card["n_other_origin"])


def _pattern(words: frozenset[str]) -> re.Pattern[str]:
    # longest first, so that an expression is found before a word of it
    ordered = sorted(words, key=lambda w: (-len(w), w))
    return re.compile(rf"(?<= )(?:{'|'.join(map(re.escape, ordered))})(?= )")
