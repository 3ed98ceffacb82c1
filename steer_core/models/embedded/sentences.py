"""Whether the grammar writes a sentence, and which topic a text is about: truth about texts that a model wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from steer_core.models.embedded.grammar import LEVELS
from steer_core.models.embedded.lexicon import ADJECTIVES, ADVERBS, FEELINGS, NOUNS, TIMES, TOPICS, VERBS
from steer_core.models.embedded.templates import CLOSINGS, CORES, OPENINGS

_ROWS = {"N": NOUNS, "A": ADJECTIVES, "V": VERBS, "D": ADVERBS}
_FIELDS = {"agent": "agents", "object": "objects", "place": "places", "helper": "helpers", "tool": "tools"} | {
    "detail": "details"
}
#: Content word -> topics that it belongs to; times of day belong to none.
_TOPICS_OF: dict[str, frozenset[str]] = {
    word: frozenset(t.name for t in TOPICS if word == t.name or any(word in getattr(t, f) for f in _FIELDS.values()))
    for topic in TOPICS
    for word in (topic.name, *(w for f in _FIELDS.values() for w in getattr(topic, f)))
}


def sentences_of(text: str) -> list[str]:
    """Sentences of a text of the grammar: what stands before each full stop."""
    return [s.strip() for s in re.split(r"[.!?]+", text) if re.search(r"[A-Za-z]", s)]


def is_sentence(sentence: str) -> bool:
    """Whether the grammar writes this sentence: a core in one of its frames, every slot filled with a word of its kind.

    Which words go together (a topic, a level) is not asked: a sentence may be whole and tell two topics.
    """
    return _pattern().fullmatch(" ".join(sentence.lower().replace(",", " ,").split())) is not None


def share_of_sentences(text: str) -> float | None:
    """Share of a text's sentences that the grammar writes, one that stands before counted as none; None without any."""
    said = sentences_of(text)
    whole = [is_sentence(s) and s not in said[:k] for k, s in enumerate(said)]
    return sum(whole) / len(whole) if whole else None


def contents_of(text: str) -> list[str]:
    """Content words of a text, in order: agents, objects, places, helpers, tools, details and names of topics."""
    return [w for w in re.findall(r"[a-z]+", text.lower()) if w in _TOPICS_OF]


def topics_of(text: str) -> frozenset[str]:
    """Topics that most of a text's content words belong to; several where they tie, none without such a word."""
    counts: dict[str, int] = {}
    for word in contents_of(text):
        for topic in _TOPICS_OF[word]:
            counts[topic] = counts.get(topic, 0) + 1
    most = max(counts.values(), default=0)
    return frozenset(t for t, n in counts.items() if n == most)


@cache
def _pattern() -> re.Pattern[str]:
    cores = _any(core for registers in CORES.values() for of in registers.values() for core in of)
    opens = _any(frame for of in OPENINGS.values() for frame in of)
    closes = _any(frame for of in CLOSINGS.values() for frame in of)
    return re.compile(f"(?:{opens} {cores}|{cores} {closes})")


def _any(templates: Iterator[str]) -> str:
    return "(?:" + "|".join(" ".join(map(_slot, t.split())) for t in dict.fromkeys(templates)) + ")"


@cache
def _slot(token: str) -> str:
    """A token of a template as an expression: a slot by the words that may fill it."""
    if token == "a":
        return "an?"
    kind, _, names = token.partition(":")
    if token.startswith("$"):
        name = token[1:]
        words = set(TIMES) if name == "time" else {w for t in TOPICS for w in getattr(t, _FIELDS[name])}
    elif token == "@":
        words = {w for level in LEVELS if level in FEELINGS for tier in FEELINGS[level] for w in tier}
        words |= {w for row in ADJECTIVES for w in row}
    elif kind in _ROWS:
        rows = [row for row in _ROWS[kind] if not names or row[0] in names.split("/")]
        words = {w for row in rows for w in row}
    else:
        return re.escape(token.lower())
    return "(?:" + "|".join(map(re.escape, sorted(words))) + ")"
