"""Politeness: strategies of requests and answers, weighted by how polite people find them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer

_HEDGES = (
    "almost|apparently|appears?|approximately|around|assume[ds]?|believe[ds]?|broadly|certain amount|could|doubt|"
    "doubtful|essentially|estimate|feels?|felt|frequently|generally|guess|in general|in (?:most|my) (?:cases|opinion|"
    "view)|indicate[ds]?|largely|likely|mainly|may|maybe|might|mostly|often|on the whole|ought|perhaps|plausibl[ey]|"
    "possibl[ey]|presumabl[ey]|probabl[ey]|quite|rather|relatively|roughly|seems?|seemed|should|somewhat|sometimes|"
    "suggest(?:s|ed)?|supposed?|suspect(?:s|ed)?|tends? to|think|thought|typically|uncertain|unclear|unlikely|usually"
)
_POSITIVE = (
    "admire|amazing|appreciat\\w+|awesome|beautiful|best|better|brilliant|cheer\\w*|clear|clever|cool|delight\\w*|easy|"
    "enjoy\\w*|excellent|fair|fantastic|fine|friendly|fun|glad|good|great|happy|helpful|honest|hope\\w*|interesting|"
    "kind|like[ds]?|love\\w*|lovely|nice\\w*|perfect\\w*|pleas(?:ant|ed|ure)|positive|pretty|safe|smart|success\\w*|"
    "support\\w*|superb|sweet|useful|valuable|warm|welcome|well|win\\w*|wise|wonderful\\w*|worth\\w*"
)
_NEGATIVE = (
    "abus\\w+|angry|annoy\\w+|awful|bad|badly|boring|broken|complain\\w*|confus\\w+|crap\\w*|damn|difficult|dirty|"
    "disappoint\\w*|dumb|error\\w*|evil|fail\\w*|false|fault\\w*|fear\\w*|fool\\w*|hate\\w*|horribl[ey]|hurt\\w*|"
    "idiot\\w*|ignor\\w+|incorrect|issue|lame|lazy|liar|lie[ds]?|mess|mistake\\w*|nonsense|pathetic|poor\\w*|"
    "problem\\w*|rude|sad|scam|silly|stupid\\w*|suck\\w*|terribl[ey]|trouble\\w*|ugly|unfair|useless|vandal\\w*|"
    "violat\\w+|weak|worse|worst|wrong\\w*"
)
_FIRST_WORD = r"^\W*"
_LATER_WORD = r"\w\W+"

#: Strategy -> (weight, pattern). Weights: Danescu-Niculescu-Mizil et al. (2013), A computational approach to politeness
#: with application to social factors, table 3 (mean politeness z-score of requests with the strategy).
STRATEGIES: dict[str, tuple[float, re.Pattern[str]]] = {
    name: (weight, re.compile(pattern, re.IGNORECASE))
    for name, weight, pattern in (
        ("please", 0.49, _LATER_WORD + r"please\b"),
        ("please start", -0.30, _FIRST_WORD + r"please\b"),
        ("hedges", 0.14, rf"\b(?:{_HEDGES})\b"),
        (
            "factuality",
            -0.38,
            r"\b(?:in fact|actually|really|honestly|surely|the (?:reality|truth) (?:is|was))\b",
        ),
        ("deference", 0.78, _FIRST_WORD + r"(?:great|good|nice|interesting|cool|excellent|awesome|wonderful)\b"),
        ("gratitude", 0.87, r"\b(?:thanks?|thankful|grateful|i appreciate|we appreciate)\b"),
        ("apology", 0.36, r"\b(?:sorry|apolog(?:y|ies|i[sz]e[ds]?)|woops|oops|excuse me|forgive (?:me|us))\b"),
        ("first person", 0.08, _LATER_WORD + r"(?:i|me|my|mine|myself)\b"),
        ("first person plural", 0.08, r"\b(?:we|us|our|ours|ourselves)\b"),
        ("first person start", 0.12, _FIRST_WORD + r"(?:i|my|mine|myself)\b"),
        ("second person", 0.05, _LATER_WORD + r"(?:you|your|yours|yourself|yourselves)\b"),
        ("second person start", -0.30, _FIRST_WORD + r"(?:you|your|yours|yourself|yourselves)\b"),
        ("greeting", 0.43, _FIRST_WORD + r"(?:hi|hello|hey|dear|greetings|good (?:morning|afternoon|evening))\b"),
        ("by the way", 0.63, r"\b(?:by the way|btw)\b"),
        ("direct question", -0.27, _FIRST_WORD + r"(?:what|why|who|how)\b"),
        ("direct start", -0.43, _FIRST_WORD + r"(?:so|then|and|but|or)\b"),
        ("positive words", 0.12, rf"\b(?:{_POSITIVE})\b"),
        ("negative words", -0.13, rf"\b(?:{_NEGATIVE})\b"),
        ("subjunctive", 0.47, r"\b(?:could|would) you\b"),
        ("indicative", 0.09, r"\b(?:can|will) you\b"),
    )
}


def strategies(sentence: str) -> tuple[str, ...]:
    """Names of the strategies that a sentence uses."""
    return tuple(name for name, (_, pattern) in STRATEGIES.items() if pattern.search(sentence))


@dataclass(frozen=True)
class Politeness(Scorer):
    """Mean over sentences of the summed weights of the strategies that a sentence uses.

    Strategies are found by words and their place in the sentence; the published ones use a dependency parse and longer
    word lists, so values are close to theirs, not equal. Undefined for a text without words.
    """

    name: ClassVar[str] = "politeness"
    version: ClassVar[int] = 2

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Politeness of each text, in mean z-scores."""
        return [self._of(a) for a in analyses]

    def _of(self, analysis: TextAnalysis) -> float | None:
        if not analysis.words:
            return None
        sentences = analysis.sentences
        return sum(STRATEGIES[name][0] for s in sentences for name in strategies(s)) / len(sentences)


def build() -> Scorer:
    """The scorer; it has no options."""
    return Politeness()
