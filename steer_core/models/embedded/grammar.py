"""The grammar of the embedded model: short texts whose attributes are known, and a reader that finds them again.

A text tells a scenario (who, what, where ...) in one to six sentences. Four attributes are drawn apart from each
other and from the scenario: feeling, formality, difficulty and number of sentences. `rewrite` keeps the scenario and
gives it other attributes; `read` measures attributes in any text, also in imperfect answers of a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from steer_core.models.embedded.lexicon import ADJECTIVES, ADVERBS, FEELINGS, NOUNS, TIMES, TOPICS, VERBS, Topic
from steer_core.models.embedded.templates import ASPECTS, CLOSINGS, CORES, LITERALS, OPENINGS, REGISTERS

Split = Literal["train", "heldout"]

LEVELS = (-2, -1, 0, 1, 2)
MAX_SENTENCES = 6

_ROWS = {"N": NOUNS, "A": ADJECTIVES, "V": VERBS, "D": ADVERBS}
#: Kind of word -> field of a scenario, and how many rows a scenario speaks of.
_FIELD = {"N": "nouns", "A": "adjectives", "V": "verbs", "D": "adverbs"}
_THEME = {"N": 3, "A": 2, "V": 2, "D": 2}
_BY_EASY = {f"{kind}:{row[0]}": row for kind, rows in _ROWS.items() for row in rows}
#: Level -> tiers (0 easy, 1 middle, 2 hard) that its words alternate between.
_TIERS = {-2: (0,), -1: (0, 1), 0: (1,), 1: (1, 2), 2: (2,)}

_TIER_OF = {word: tier for rows in _ROWS.values() for row in rows for tier, word in enumerate(row)} | {
    word: tier for tiers in FEELINGS.values() for tier, words in enumerate(tiers) for word in words
}
_FEELING_OF = {word: level for level, tiers in FEELINGS.items() for words in tiers for word in words}
_CONTENTS = {
    w for t in TOPICS for field in (t.agents, t.objects, t.places, t.helpers, t.tools, t.details) for w in field
}
_FORMAL_WEIGHT: Mapping[str, int] = (
    dict.fromkeys(_CONTENTS | set(TIMES) | set(_FEELING_OF), 1)
    | {word: (1 if kind in "NA" else -1) for kind, rows in _ROWS.items() for row in rows for word in row}
    | LITERALS
)
#: Mean weight per word that parts the levels -2 | -1 | 0 | 1 | 2.
FORMALITY_CUTS = (-0.48, -0.16, 0.18, 0.72)

#: Probability that a sentence leans to the next level of formality, on each side; and that a word leaves its tier.
JITTER, SLIP = 0.2, 0.12


@dataclass(frozen=True)
class Attributes:
    """What a text is like, apart from what it tells.

    Attributes:
        sentiment: -2 (awful) to 2 (wonderful).
        formality: -2 (casual) to 2 (formal).
        difficulty: -2 (easy words) to 2 (hard words).
        sentences: 1 to 6.
    """

    sentiment: int
    formality: int
    difficulty: int
    sentences: int


@dataclass(frozen=True)
class Reading:
    """Attributes as read from a text; None where the text gives no sign of them.

    Attributes:
        sentiment: -2 to 2, None without a known adjective.
        formality: -2 to 2, None when fewer than half of the words are known.
        difficulty: -2 to 2, None without a word of a known tier.
        sentences: number of sentences, None for a blank text.
    """

    sentiment: int | None
    formality: int | None
    difficulty: int | None
    sentences: int | None


@dataclass(frozen=True)
class Scenario:
    """The facts of a text.

    Attributes:
        topic: name of the topic.
        agent, object, place, time, helper, tool, detail: its content words.
        aspects: the facts in the order of telling, all six; a text of n sentences tells the first n.
        nouns, adjectives, verbs, adverbs: what else it speaks of, by the easy words of their synonym rows. A text keeps
            to a few of them and a rewrite keeps them too: content that can be told in easy or hard words.
    """

    topic: str
    agent: str
    object: str
    place: str
    time: str
    helper: str
    tool: str
    detail: str
    aspects: tuple[str, ...]
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    verbs: tuple[str, ...]
    adverbs: tuple[str, ...]


@dataclass(frozen=True)
class GrammarText:
    """A text with its ground truth.

    Attributes:
        text: the text.
        attributes: what it is like.
        scenario: what it tells.
    """

    text: str
    attributes: Attributes
    scenario: Scenario


def is_heldout(topic: Topic, agent: str, thing: str) -> bool:
    """Whether a pair of agent and object belongs to the held-out scenarios (one in five)."""
    return (topic.agents.index(agent) + topic.objects.index(thing)) % 5 == 0


def draw_scenario(rng: np.random.Generator, split: Split) -> Scenario:
    """A scenario of one side of the split, uniform over topics and contents."""
    topic = TOPICS[rng.integers(len(TOPICS))]
    pairs = [(a, o) for a in topic.agents for o in topic.objects if is_heldout(topic, a, o) == (split == "heldout")]
    agent, thing = pairs[rng.integers(len(pairs))]
    return Scenario(
        topic.name,
        agent,
        thing,
        _pick(rng, topic.places),
        _pick(rng, TIMES),
        _pick(rng, topic.helpers),
        _pick(rng, topic.tools),
        _pick(rng, topic.details),
        ("act", *(ASPECTS[1 + i] for i in rng.permutation(len(ASPECTS) - 1))),
        *(tuple(_ROWS[kind][i][0] for i in rng.permutation(len(_ROWS[kind]))[:n]) for kind, n in _THEME.items()),
    )


def draw_attributes(rng: np.random.Generator) -> Attributes:
    """Attributes, uniform and independent of each other."""
    sentiment, formality, difficulty = (LEVELS[i] for i in rng.integers(len(LEVELS), size=3))
    return Attributes(sentiment, formality, difficulty, int(rng.integers(1, MAX_SENTENCES + 1)))


def write(n: int, seed: int, split: Split = "train") -> list[GrammarText]:
    """Texts with independent attributes.

    Args:
        n: number of texts.
        seed: the same seed gives the same texts.
        split: `heldout` scenarios never occur in the training of the embedded model.

    Returns:
        n different texts.
    """
    rng = np.random.default_rng(seed)
    texts: dict[str, GrammarText] = {}
    while len(texts) < n:
        drawn = tell(draw_scenario(rng, split), draw_attributes(rng), rng)
        texts.setdefault(drawn.text, drawn)
    return list(texts.values())


def rewrite(source: GrammarText, changes: Mapping[str, int], rng: np.random.Generator) -> GrammarText:
    """The same facts with other attributes, in other words.

    Args:
        source: text to rewrite.
        changes: attribute -> new value; the rest stays. Empty: a paraphrase.
        rng: chooses the wording.
    """
    return tell(source.scenario, replace(source.attributes, **changes), rng)


def tell(scenario: Scenario, attributes: Attributes, rng: np.random.Generator) -> GrammarText:
    """A scenario in words, drawn again until it reads back as it should.

    Raises:
        ValueError: attributes outside their range.
    """
    if not 1 <= attributes.sentences <= MAX_SENTENCES or any(
        level not in LEVELS for level in (attributes.sentiment, attributes.formality, attributes.difficulty)
    ):
        raise ValueError(f"attributes out of range: {attributes}; levels are -2 to 2, sentences 1 to {MAX_SENTENCES}")
    wanted = Reading(attributes.sentiment, attributes.formality, attributes.difficulty, attributes.sentences)
    while True:
        text = _draw_text(scenario, attributes, rng)
        if read(text) == wanted:
            return GrammarText(text, attributes, scenario)


def read(text: str) -> Reading:
    """Attributes of any text, by the words of the grammar that it has."""
    words = re.findall(r"[a-z]+", text.lower())
    sentences = [s for s in re.split(r"[.!?]+", text) if re.search(r"[A-Za-z]", s)]
    feelings = [_FEELING_OF[w] for w in words if w in _FEELING_OF]
    tiers = [_TIER_OF[w] for w in words if w in _TIER_OF]
    weights = [_FORMAL_WEIGHT[w] for w in words if w in _FORMAL_WEIGHT]
    sentiment = _nearest(float(np.mean(feelings))) if feelings else 0 if tiers else None
    formality = None
    if words and len(weights) >= len(words) / 2:
        formality = int(np.searchsorted(FORMALITY_CUTS, np.mean(weights))) - 2
    difficulty = _nearest(2 * (float(np.mean(tiers)) - 1)) if tiers else None
    return Reading(sentiment, formality, difficulty, len(sentences) or None)


def _nearest(value: float) -> int:
    return int(np.clip(np.floor(value + 0.5), -2, 2))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def _carriers(attributes: Attributes, rng: np.random.Generator) -> list[int]:
    """Feeling of each sentence: strong ones in all, mild ones in a few, so that VADER's sum stays apart of length."""
    n = attributes.sentences
    if abs(attributes.sentiment) != 1:
        return [attributes.sentiment] * n
    chosen = rng.permutation(n)[: 1 if n <= 3 else 2]
    return [attributes.sentiment if i in chosen else 0 for i in range(n)]


def _jitter(level: int, rng: np.random.Generator) -> int:
    """A neighbouring level now and then: texts of one level differ, and `read` still has the last word."""
    return int(np.clip(level + rng.choice((-1, 0, 1), p=(JITTER, 1 - 2 * JITTER, JITTER)), -2, 2))


def _draw_text(scenario: Scenario, attributes: Attributes, rng: np.random.Generator) -> str:
    tiers = _TIERS[attributes.difficulty]
    count = int(rng.integers(2))
    lines = []
    for aspect, feeling in zip(scenario.aspects, _carriers(attributes, rng), strict=False):
        registers = REGISTERS[_jitter(attributes.formality, rng)]
        core_register, frame_register = registers[rng.integers(len(registers))]
        core, opens = _pick(rng, CORES[aspect][core_register]), rng.random() < 0.5
        frame = _pick(rng, (OPENINGS if opens else CLOSINGS)[frame_register])
        words = []
        for token in (f"{frame} {core}" if opens else f"{core} {frame}").split():
            tier = tiers[count % len(tiers)]
            if rng.random() < SLIP:
                tier = int(rng.integers(3))
            words.append(_fill(token, scenario, feeling, tier, rng))
            # only words of a tier move the alternation on
            count += token[0] in "NAVD@"
        lines.append(_spell(words))
    return " ".join(lines)


def _fill(token: str, scenario: Scenario, feeling: int, tier: int, rng: np.random.Generator) -> str:
    if token.startswith("$"):
        return str(getattr(scenario, token[1:]))
    if token == "@" and feeling:
        return _pick(rng, FEELINGS[feeling][tier])
    # no feeling: a neutral adjective
    kind, _, names = ("A" if token == "@" else token).partition(":")
    if kind not in _ROWS:
        return token
    options = tuple(names.split("/")) if names else getattr(scenario, _FIELD[kind])
    return _BY_EASY[f"{kind}:{_pick(rng, options)}"][tier]


def _spell(words: list[str]) -> str:
    """Commas, articles before vowels, capital and full stop."""
    for i in range(len(words) - 1):
        if words[i] == "a" and words[i + 1][0] in "aeiou" and not words[i + 1].startswith(("us", "ut", "uni")):
            words[i] = "an"
    line = " ".join(words).replace(" ,", ",")
    return line[0].upper() + line[1:] + "."
