"""Wordings of requests for the training of the embedded model, put together from parts.

The prompts of the library itself are held out: no wording here says "rewrite the following text", and the two closing
sentences of the library do not occur. What is asked with them after training is a wording never seen, of words seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Attribute -> comparatives for (less, more).
COMPARATIVES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "difficulty": (
        ("easier to read", "simpler", "easier", "less complex", "plainer in its words", "easier to understand"),
        ("harder to read", "more complex", "harder", "more difficult", "less simple", "harder to understand"),
    ),
    "sentences": (
        ("shorter", "briefer", "more concise", "more compact", "less long", "shorter in length"),
        ("longer", "more extensive", "less brief", "more detailed", "wordier", "longer in length"),
    ),
    "formality": (
        ("more informal", "more casual", "less formal", "more relaxed", "chattier", "more informal in style"),
        ("more formal", "more official", "less informal", "less casual", "more proper", "more formal in style"),
    ),
    "sentiment": (
        ("more negative in tone", "more negative", "sadder", "gloomier", "darker in tone", "less positive in tone"),
        (
            "more positive in tone",
            "more positive",
            "happier",
            "more cheerful",
            "brighter in tone",
            "less negative in tone",
        ),
    ),
}
#: Words of strength: 0 slightly, 1 plain, 2 much.
STRENGTHS: tuple[tuple[str, ...], ...] = (
    ("slightly", "slightly", "a little", "a bit", "somewhat"),
    ("",),
    ("much", "much", "far", "a lot", "a great deal"),
)
#: Attribute -> what it is called on a scale.
NAMES = {
    "difficulty": ("reading difficulty", "difficulty"),
    "sentences": ("length", "text length"),
    "formality": ("formality", "formality of style"),
    "sentiment": ("positivity", "sentiment", "positive tone"),
}
VERBS = ("rewrite", "rewrite", "rephrase", "reword", "edit", "revise", "rework", "adapt", "recast", "redo")
OBJECTS = (
    "the following text",
    "the following text",
    "this text",
    "the text below",
    "the following passage",
    "the passage below",
    "the text that follows",
    "this passage",
    "this story",
    "the story below",
)
OPENERS = (
    "Please",
    "Please",
    "",
    "Could you please",
    "Kindly",
    "Now",
    "I would like you to",
    "Your task is to",
    "Can you",
)
LINKS = (
    "so that it is",
    "so that it is",
    "so that it becomes",
    "so that it gets",
    "so it is",
    "such that it is",
    "to be",
    "to make it",
    "and make it",
    "in a way that is",
    "so that the result is",
    "until it is",
)
ALONE = (
    "Make the text {}.",
    "Please make this text {}.",
    "Make the following text {}.",
    "I need the text below to be {}.",
    "The following text should be {}.",
    "Turn this text into one that is {}.",
    "Write the passage below again, but {}.",
    "This text should become {}.",
)
STAY = (
    "so that it stays the same",
    "so that it stays as it was",
    "and keep it as it is",
    "without changing its style",
    "in other words",
    "but leave its style as it is",
    "so that its tone stays",
    "with the same tone and length",
)
KEEP_REST = (
    "Change nothing else.",
    "Leave everything else as it is.",
    "Do not change anything else about it.",
    "Keep the rest of the text as it is.",
    "Nothing else about the text may change.",
    "Everything else should stay as it is, even if it sounds odd.",
    "Leave the rest alone, even if the result is awkward.",
    "Apart from this, change nothing.",
)
GIVE_ONLY = (
    "Give only the new text.",
    "Answer with the new text only.",
    "Reply with the rewritten text and nothing else.",
    "Write only the rewritten text.",
    "Output the result only.",
    "Answer only with the text.",
    "Return just the new version.",
    "No comments, only the text.",
)
IMPROVE = (
    "Improve this text.",
    "Make this passage better.",
    "Polish the story below.",
    "How can this text be better?",
    "Give this passage another pass.",
    "Fix what is wrong with this text.",
    "Revise this text as you like.",
    "Bring this passage into shape.",
)
#: Never trained on: for tests and trials. `{}` takes the phrases.
HELDOUT_FRAMES = (
    "Please rewrite the following text so that it is {}.",
    "Please rewrite the following text so that it is {}. Answer with the rewritten text only.",
    "Please rewrite the following text so that it is {}. Change nothing else about the text, even if the result sounds "
    "awkward.",
    "We want the passage here to be {}. Rewrite it, please.",
    "Here is a text. Rephrase it so that it comes out {}.",
    "Would you kindly edit the next text until it reads {}?",
)
HELDOUT_REWRITE = "Please rewrite the following text."


@dataclass(frozen=True)
class Wish:
    """One change that is asked for.

    Attributes:
        attribute: name of an attribute.
        up: direction.
        strength: 0 slightly, 1 plain, 2 much.
        levels: the size in tenths of the scale, for prompts that count.
    """

    attribute: str
    up: bool
    strength: int
    levels: int


def library_phrase(wish: Wish) -> str:
    """A wish in the first wording of its comparatives, which is the library's own."""
    word = COMPARATIVES[wish.attribute][wish.up][0]
    return f"{STRENGTHS[wish.strength][0]} {word}".strip()


def join(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def request(wishes: Sequence[Wish], keep_rest: bool, rng: np.random.Generator) -> str:
    """A request for a rewrite in drawn words, without the text.

    Args:
        wishes: changes asked for; none asks for a paraphrase.
        keep_rest: say that nothing else may change.
        rng: chooses the wording.
    """
    asked = _scales(wishes, rng) if wishes and rng.random() < 0.12 else _sentence(wishes, rng)
    closings = [_pick(rng, KEEP_REST)] if keep_rest else []
    if rng.random() < 0.5:
        closings.append(_pick(rng, GIVE_ONLY))
    return " ".join([asked, *closings]) if not asked.endswith("\n") else asked + " ".join(closings)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _phrase(wish: Wish, rng: np.random.Generator) -> str:
    options = COMPARATIVES[wish.attribute][wish.up]
    # the library's comparative half of the time: its words are seen, its sentences are not
    word = options[0] if rng.random() < 0.5 else _pick(rng, options)
    return f"{_pick(rng, STRENGTHS[wish.strength])} {word}".strip()


def _command(rng: np.random.Generator) -> tuple[str, str]:
    """Opener, verb and object, with the mark that ends the sentence; never the library's own combination."""
    while True:
        opener, verb, thing = _pick(rng, OPENERS), _pick(rng, VERBS), _pick(rng, OBJECTS)
        if not (verb == "rewrite" and thing == "the following text"):
            break
    command = f"{opener} {verb} {thing}".strip()
    return command[0].upper() + command[1:], "?" if opener.startswith(("Could", "Can")) else "."


def _sentence(wishes: Sequence[Wish], rng: np.random.Generator) -> str:
    command, mark = _command(rng)
    if not wishes:
        return command + (f" {_pick(rng, STAY)}" if rng.random() < 0.5 else "") + mark
    phrases = join([_phrase(wish, rng) for wish in wishes])
    if rng.random() < 0.25:
        return _pick(rng, ALONE).format(phrases)
    return f"{command} {_pick(rng, LINKS)} {phrases}{mark}"


def _scales(wishes: Sequence[Wish], rng: np.random.Generator) -> str:
    command, _ = _command(rng)
    style = int(rng.integers(3))
    lines = []
    for wish in wishes:
        name = _pick(rng, NAMES[wish.attribute])
        levels = f"{wish.levels} {'level' if wish.levels == 1 else 'levels'}"
        if style == 0:
            lines.append(f"- {'raise' if wish.up else 'lower'} the {name} by {levels}")
        elif style == 1:
            lines.append(f"- {name}: {'up' if wish.up else 'down'} {wish.levels}")
        else:
            lines.append(f"- {'increase' if wish.up else 'decrease'} {name} by {levels} of ten")
    return f"{command} and change it like this:\n" + "\n".join(lines) + "\n"
