r"""A prompt that asks by labels, in a conversation of any chat template, and its inverse.

    [label_start]goal:level,goal:level \n\n Please rewrite the following text. \n\n TEXT

(blanks are for the eye). Labels stand first, where a model that rewrites looks for its instruction; the published
layout has them behind the text. Goals that nothing is asked of are left out; where none is left there is no label
string at all. The text cannot forge one: a marker in it is escaped.

Or in words, six levels each, `much less` to `much more`:

    Please rewrite the following text so that it is much more formal and slightly shorter. Answer ... \n\n TEXT

A model that knows these words as comparatives has less to learn than one that has to tie a digit to a name; what they
mean here is a level, wherever the text stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm import AttributeSet
from steer_core.adapters.steerlm.conversation import Markers, escape
from steer_core.adapters.steerlm.labels import Labels, label_string, level_of_share, read_label_string
from steer_core.steering.plan import Message
from steer_core.tables.errors import SteerworksError

Floats = NDArray[np.float64]
REWRITE = "Please rewrite the following text"
TASK = f"{REWRITE}."
_SO_THAT, _ONLY = f"{REWRITE} so that it is ", ". Answer with the rewritten text only."
#: How much of a goal's words a level is, of six.
STRENGTHS = ("much ", "", "slightly ", "slightly ", "", "much ")


def phrases_of(less: str, more: str) -> tuple[str, ...]:
    """The words of six levels, from the comparatives of a goal: `much more informal` ... `much more formal`."""
    half = len(STRENGTHS) // 2
    return tuple(s + (less if k < half else more) for k, s in enumerate(STRENGTHS))


@dataclass(frozen=True)
class LabelPrompt:
    """How is asked.

    Attributes:
        goals: attributes of the label string, in order.
        levels: of each, 0 the lowest.
        markers: `label_start` is what stands before labels; no text may hold any of them.
        phrases: goal -> words of its levels, from the lowest; empty: labels are a name and a digit.

    Raises:
        SteerworksError: a goal has not one phrase for each level, or two levels have the same.
    """

    goals: tuple[str, ...]
    levels: int = 10
    markers: Markers = field(default_factory=Markers)
    phrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look whether there are words for all levels."""
        if not self.phrases:
            return
        for goal in self.goals:
            if len(self.phrases.get(goal, ())) != self.levels:
                raise SteerworksError(
                    f"labels in words are six levels; goal {goal!r} has words for {len(self.phrases.get(goal, ()))}, "
                    f"and levels = {self.levels}"
                )
        every = [p for goal in self.goals for p in self.phrases[goal]]
        if twice := sorted({p for p in every if every.count(p) > 1}):
            raise SteerworksError(
                f"the words {twice[0]!r} stand for two labels: `more` and `less` of goals must differ"
            )

    @cached_property
    def attributes(self) -> AttributeSet:
        """The goals with their levels."""
        return AttributeSet.of(*self.goals, high=self.levels - 1)

    @property
    def top(self) -> int:
        """The highest level."""
        return self.levels - 1

    def level(self, goal: str, z: float) -> int:
        """The level nearest to a position in [0, 1]; halves go to the upper one.

        Raises:
            SteerworksError: the goal is unknown, or the position lies outside [0, 1].
        """
        if goal not in self.goals:
            raise SteerworksError(f"goal {goal!r} is no attribute of the label string ({', '.join(self.goals)})")
        return level_of_share(z, self.attributes.attributes[self.goals.index(goal)])

    def labels_of(self, values: Sequence[float] | Floats) -> dict[str, int]:
        """Labels of measured levels [attributes], brought into the range and rounded (halves up); NaN is left out.

        Raises:
            SteerworksError: there is not a number for each attribute.
        """
        if len(values) != len(self.goals):
            raise SteerworksError(f"{len(values)} values for {len(self.goals)} attributes")
        known = {g: float(v) for g, v in zip(self.goals, values, strict=True) if not math.isnan(v)}
        return {g: math.floor(min(max(v, 0.0), float(self.top)) + 0.5) for g, v in known.items()}

    def messages(self, labels: Labels, text: str) -> tuple[Message, ...]:
        """The conversation that asks for a text with these labels.

        Raises:
            SteerworksError: an attribute is unknown, or a level is none of its levels.
        """
        asked = label_string(labels, self.attributes)
        guarded = escape(text, sorted(self.markers.reserved))
        if self.phrases and asked:
            return (Message("user", f"{_SO_THAT}{self._in_words(labels)}{_ONLY}\n\n{guarded}"),)
        content = (f"{self.markers.label_start}{asked}\n\n" if asked else "") + f"{TASK}\n\n{guarded}"
        return (Message("user", content),)

    def standing(self, labels: Labels) -> str:
        """The labels said once and for all, in front of prompts that have no text to rewrite; empty without any.

        Raises:
            SteerworksError: an attribute is unknown, or a level is none of its levels.
        """
        asked = label_string(labels, self.attributes)
        if not asked:
            return ""
        if not self.phrases:
            return f"{self.markers.label_start}{asked}"
        return f"Whatever you are asked, answer with a text that is {self._in_words(labels)}."

    def _in_words(self, labels: Labels) -> str:
        said = [self.phrases[g][level] for g in self.goals if (level := labels.get(g)) is not None]
        return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"

    def read(self, messages: Sequence[Message], text: str) -> dict[str, int]:
        """The labels that a conversation about a text asks for.

        Raises:
            SteerworksError: it is not one that `messages` gives.
        """
        content = messages[0].content if len(messages) == 1 else ""
        if self.phrases:
            labels = self._read_words(content)
            if tuple(messages) != self.messages(labels, text):
                raise SteerworksError("this is no prompt that asks by labels in words")
            return labels
        asked, _, _ = content.removeprefix(self.markers.label_start).partition("\n\n")
        try:
            labels = read_label_string(asked, self.attributes) if content.startswith(self.markers.label_start) else {}
        except SteerworksError as error:
            raise SteerworksError(f"this is no prompt that asks by labels: {error}") from error
        if tuple(messages) != self.messages(labels, text):
            raise SteerworksError("this is no prompt that asks by labels")
        return labels

    def _read_words(self, content: str) -> dict[str, int]:
        """Labels by their words, in the order of the goals; what is none of them is left to be refused."""
        left, found = content.removeprefix(_SO_THAT), dict[str, int]()
        if left == content:
            return found
        for goal in self.goals:
            levels = [k for k, words in enumerate(self.phrases[goal]) if left.startswith(words)]
            if levels:
                found[goal] = max(levels, key=lambda k: len(self.phrases[goal][k]))
                left = left[len(self.phrases[goal][found[goal]]) :].removeprefix(", ").removeprefix(" and ")
        return found


def asked_row(labels: Mapping[str, int], prompt: LabelPrompt) -> Floats:
    """Labels as numbers, shape [attributes]; NaN where nothing is asked."""
    return np.array([float(labels[g]) if g in labels else np.nan for g in prompt.goals])
