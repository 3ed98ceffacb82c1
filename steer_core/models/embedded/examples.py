"""The training mix: conversations and their answers, drawn from the grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steer_core.models.embedded.grammar import (
    LEVELS,
    MAX_SENTENCES,
    Attributes,
    GrammarText,
    Scenario,
    draw_attributes,
    draw_scenario,
    rewrite,
    tell,
)
from steer_core.models.embedded.wording import IMPROVE, Wish, request

#: Where the levels of an attribute lie on the goal scale of the grammar's own corpus (middle 95 %).
POSITIONS: dict[str, dict[int, float]] = {
    "difficulty": dict(zip(LEVELS, (0.04, 0.17, 0.32, 0.60, 0.88), strict=True)),
    "formality": dict(zip(LEVELS, (0.04, 0.22, 0.42, 0.70, 0.97), strict=True)),
    "sentiment": dict(zip(LEVELS, (0.06, 0.24, 0.50, 0.76, 0.95), strict=True)),
    "sentences": {n: 0.01 + 0.188 * (n - 1) for n in range(1, MAX_SENTENCES + 1)},
}
#: Strength -> move on that scale.
MOVES = ((0.08, 0.2), (0.2, 0.5), (0.5, 0.8))
#: Attributes that drift along when another is asked for and nobody forbids it: (asked, drifts) -> probability.
SIDE_EFFECTS = {
    ("formality", "difficulty"): 0.3,
    ("sentences", "difficulty"): 0.2,
    ("sentiment", "sentences"): 0.2,
    ("difficulty", "formality"): 0.2,
}
#: Probability that an attribute drifts by itself.
DRIFT = 0.04
#: Probability of 1, 2 ... sentences: short texts carry as much of an instruction in fewer tokens.
SENTENCES = (0.30, 0.22, 0.16, 0.13, 0.10, 0.09)
#: The same where the prompt leaves the length open, in the last stage: greedy decoding never counts up to six, so most
#: such answers end after three, and a story is over when the next sentence is less likely than an end.
OPEN_SENTENCES = (0.03, 0.09, 0.70, 0.12, 0.04, 0.02)
#: Share of the last stage's rewrites that ask for one change at all three strengths: so that only the strength differs.
GRADED = 0.7
#: Share of each kind of example.
MIX = {"rewrite": 0.58, "improve": 0.03, "open": 0.25, "persona": 0.06, "continue": 0.05, "plain": 0.03}
#: The same for the last stage, where most rewrites are three examples: so that open answers are as many as before.
LAST_MIX = {"rewrite": 0.34, "improve": 0.03, "open": 0.46, "persona": 0.11, "continue": 0.03, "plain": 0.03}

MOODS = {
    -2: ("awful", "desperate", "furious"),
    -1: ("gloomy", "sad", "weary"),
    0: ("sober", "neutral", "matter-of-fact"),
    1: ("friendly", "content", "kind"),
    2: ("cheerful", "joyful", "enthusiastic"),
}
MANNERS = {
    -2: ("very casual", "chatty", "sloppy"),
    -1: ("casual", "informal", "relaxed"),
    0: ("normal", "everyday", "middling"),
    1: ("formal", "polite", "correct"),
    2: ("very formal", "official", "stiff"),
}
READING = {-2: "very simple", -1: "simple", 0: "usual", 1: "hard", 2: "very hard"}
OPEN = (
    "Write a text about the {agent} and the {object}.",
    "Tell me about the {agent} and the {object}.",
    "Write about a {agent} with a {object}.",
    "Tell a story of the {agent} and the {object}.",
    "What happened to the {agent} and the {object}?",
    "Describe the {agent} and the {object}.",
    "What do you think of the {agent} and the {object}?",
    "How was it with the {agent} and the {object}?",
    "Say something about {topic}.",
    "Tell me a story about {topic}.",
    "Write something on {topic}.",
)
TASKS = (
    "Tell me about the {object}.",
    "Write about the {object} and the {agent}.",
    "How was your day with the {object}?",
    "Say something about the {agent} and the {object}.",
)
CONTINUE = (
    "Continue this text.",
    "Go on with the text below.",
    "Please continue the story.",
    "Write how this goes on.",
    "Finish the following text.",
)


@dataclass(frozen=True)
class Example:
    """One conversation to learn from.

    Attributes:
        messages: role and content of each turn before the answer; empty for plain text.
        answer: what the model should say.
        kind: part of the mix.
    """

    messages: tuple[tuple[str, str], ...]
    answer: str
    kind: str


def draw_example(
    rng: np.random.Generator, open_sentences: Sequence[float] = SENTENCES, mix: Mapping[str, float] = MIX
) -> Example:
    """One example of the mix; held-out scenarios never occur.

    Args:
        rng: what is drawn from.
        open_sentences: probability of 1, 2 ... sentences where the prompt does not say how many.
        mix: share of each kind of example.
    """
    kind = str(rng.choice(list(mix), p=list(mix.values())))
    scenario = draw_scenario(rng, "train")
    chances = open_sentences if kind in ("open", "persona") else SENTENCES
    attributes = replace(draw_attributes(rng), sentences=1 + int(rng.choice(MAX_SENTENCES, p=chances)))
    if kind == "rewrite":
        return _rewrite_example(tell(scenario, attributes, rng), rng)
    if kind == "improve":
        return _improve_example(tell(scenario, attributes, rng), rng)
    if kind == "continue":
        return _continue_example(tell(scenario, attributes, rng), rng)
    text = tell(scenario, attributes, rng).text
    if kind == "open":
        return Example((("user", _open_prompt(scenario, attributes, rng)),), text, kind)
    if kind == "persona":
        return Example(_persona_messages(scenario, attributes, rng), text, kind)
    return Example((), text, kind)


def draw_last_stage(rng: np.random.Generator, n: int) -> list[Example]:
    """Examples of the last stage: open answers that end, and changes graded by the words of strength."""
    found: list[Example] = []
    while len(found) < n:
        example = draw_example(rng, OPEN_SENTENCES, LAST_MIX)
        found += _graded(rng) if example.kind == "rewrite" and rng.random() < GRADED else [example]
    return found[:n]


def _graded(rng: np.random.Generator) -> list[Example]:
    """One change of one text, asked for at each strength in the same words."""
    attribute = str(rng.choice(list(POSITIONS)))
    attributes = replace(draw_attributes(rng), sentences=1 + int(rng.choice(MAX_SENTENCES, p=SENTENCES)))
    source = tell(draw_scenario(rng, "train"), attributes, rng)
    value = getattr(source.attributes, attribute)
    up = bool(rng.random() < 1 - POSITIONS[attribute][value])
    keep_rest = bool(rng.random() < 0.2)
    wording = int(rng.integers(2**31))
    found = []
    for strength in range(len(MOVES)):
        wish, target = wish_for(attribute, value, up, strength, rng)
        asked = request([wish], keep_rest, np.random.default_rng(wording))
        text = rewrite(source, {attribute: target}, rng).text
        found.append(Example((("user", _with_text(asked, source.text)),), text, "rewrite"))
    return found


def draw_wish(attribute: str, value: int, rng: np.random.Generator) -> tuple[Wish, int]:
    """A change of one attribute and the value that grants it.

    The value is the one whose place on the goal scale is nearest to a move drawn for the strength, at least one step
    in the direction asked for. At the end of the scale nothing can move, as in life.
    """
    strength = int(rng.integers(3))
    move = float(rng.uniform(*MOVES[strength]))
    room_up, room_down = 1 - POSITIONS[attribute][value], POSITIONS[attribute][value]
    # the direction with room, most of the time
    up = bool(rng.random() < 0.05 + 0.9 * room_up / (room_up + room_down))
    return _granted(attribute, value, up, strength, move)


def wish_for(attribute: str, value: int, up: bool, strength: int, rng: np.random.Generator) -> tuple[Wish, int]:
    """A change in a direction at a strength, and the value that grants it; as `draw_wish`."""
    return _granted(attribute, value, up, strength, float(rng.uniform(*MOVES[strength])))


def _granted(attribute: str, value: int, up: bool, strength: int, move: float) -> tuple[Wish, int]:
    places = POSITIONS[attribute]
    aim = places[value] + (move if up else -move)
    beyond = [v for v in places if (v > value if up else v < value)]
    target = min(beyond, key=lambda v: abs(places[v] - aim)) if beyond else value
    return Wish(attribute, up, strength, max(1, round(10 * move))), target


def _rewrite_example(source: GrammarText, rng: np.random.Generator) -> Example:
    n_wishes = int(rng.choice(5, p=(0.12, 0.36, 0.34, 0.12, 0.06)))
    names = [str(name) for name in rng.permutation(list(POSITIONS))[:n_wishes]]
    granted = {name: draw_wish(name, getattr(source.attributes, name), rng) for name in names}
    keep_rest = bool(rng.random() < (0.3 if names else 0.1))
    changes = {name: value for name, (_, value) in granted.items()}
    if not keep_rest:
        changes |= _drifts(source.attributes, changes, rng)
    asked = request([wish for wish, _ in granted.values()], keep_rest, rng)
    return Example((("user", _with_text(asked, source.text)),), rewrite(source, changes, rng).text, "rewrite")


def _drifts(before: Attributes, changes: dict[str, int], rng: np.random.Generator) -> dict[str, int]:
    drifts = {}
    for name in POSITIONS:
        if name in changes:
            continue
        value = getattr(before, name)
        pushes = [
            np.sign(changes[asked] - getattr(before, asked))
            for (asked, drifting), chance in SIDE_EFFECTS.items()
            if drifting == name and asked in changes and rng.random() < chance
        ]
        if rng.random() < DRIFT:
            pushes.append(rng.choice((-1, 1)))
        moved = int(value + np.sign(sum(pushes)))
        if moved != value and moved in POSITIONS[name]:
            drifts[name] = moved
    return drifts


def _improve_example(source: GrammarText, rng: np.random.Generator) -> Example:
    """The habits of this model when it may do as it likes: a little happier, a little more formal."""
    changes = {}
    for name in ("sentiment", "formality"):
        value = getattr(source.attributes, name)
        if value < 2 and rng.random() < 0.7:
            changes[name] = value + 1
    asked = IMPROVE[rng.integers(len(IMPROVE))]
    return Example((("user", _with_text(asked, source.text)),), rewrite(source, changes, rng).text, "improve")


def _continue_example(source: GrammarText, rng: np.random.Generator) -> Example:
    sentences = source.text.split(". ")
    if len(sentences) == 1:
        return Example((), source.text, "plain")
    kept = int(rng.integers(1, len(sentences)))
    asked = CONTINUE[rng.integers(len(CONTINUE))]
    start = ". ".join(sentences[:kept]) + "."
    return Example((("user", _with_text(asked, start)),), ". ".join(sentences[kept:]), "continue")


def _open_prompt(scenario: Scenario, attributes: Attributes, rng: np.random.Generator) -> str:
    """A prompt that leaves attributes free, most of the time all of them."""
    asked = OPEN[rng.integers(len(OPEN))].format(agent=scenario.agent, object=scenario.object, topic=scenario.topic)
    if rng.random() < 0.6:
        return asked
    hints = []
    if rng.random() < 0.5:
        hints.append(f"Be {_option(MOODS, attributes.sentiment, rng)}.")
    if rng.random() < 0.4:
        hints.append(f"Use a {_option(MANNERS, attributes.formality, rng)} style.")
    if rng.random() < 0.3:
        hints.append(f"Use {READING[attributes.difficulty]} words.")
    if rng.random() < 0.4:
        n = attributes.sentences
        hints.append(f"Write {n} {'sentence' if n == 1 else 'sentences'}.")
    return " ".join([asked, *hints])


def _persona_messages(
    scenario: Scenario, attributes: Attributes, rng: np.random.Generator
) -> tuple[tuple[str, str], ...]:
    traits = [_option(MOODS, attributes.sentiment, rng)]
    if rng.random() < 0.4:
        traits.append(_option(MANNERS, attributes.formality, rng))
    who = ("person", "writer", "assistant", scenario.agent)[rng.integers(4)]
    persona = f"You are a {' and '.join(traits)} {who}."
    task = TASKS[rng.integers(len(TASKS))].format(agent=scenario.agent, object=scenario.object)
    if rng.random() < 0.5:
        return (("system", persona), ("user", task))
    return (("user", f"{persona} {task}"),)


def _option(options: Mapping[int, Sequence[str]], level: int, rng: np.random.Generator) -> str:
    words = options[level]
    return words[int(rng.integers(len(words)))]


def _with_text(instruction: str, text: str) -> str:
    return f"{instruction}{'' if instruction.endswith(chr(10)) else chr(10)}\n{text}"
