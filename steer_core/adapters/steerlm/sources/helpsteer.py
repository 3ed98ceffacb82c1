"""HelpSteer and HelpSteer2 (Wang et al. 2023, 2024): rated answers, and preferences between two.

Rows of ratings have `prompt`, `response` and a level an attribute. Rows of preferences have `prompt`, `response_1`,
`response_2` and `preference_strength` (-3 to 3, below 0: the first is better), or `prompt`, `chosen`, `rejected` and,
where it is known, `strength` (above 0). A prompt may hold turns in one string, `<extra_id_1>Assistant` and
`<extra_id_1>User` on lines of their own between them. Rows on one prompt are a group.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from schemas.digest import digest_text
from schemas.steerlm import HELPSTEER, AttributeSet
from steer_core.adapters.steerlm.conversation import ASSISTANT, SYSTEM, USER, Conversation, Turn
from steer_core.adapters.steerlm.sources.files import Bad, Loaded, Row, levels_of, load, text_of
from steer_core.tables.errors import SteerworksError

_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
#: Largest strength of a preference.
STRONGEST = 3.0


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt.

    Attributes:
        turns: the prompt, ending in a turn of the user.
        chosen: the better answer.
        rejected: the other one.
        strength: how much better, above 0; None where the file does not say.
        group: of the prompt.
        where: file and line.
    """

    turns: tuple[Turn, ...]
    chosen: str
    rejected: str
    strength: float | None
    group: str
    where: str

    def conversations(self, system: str = SYSTEM) -> tuple[Conversation, Conversation]:
        """The prompt with the chosen answer, and with the rejected one."""
        made = [
            Conversation((*self.turns, Turn(ASSISTANT, text)), system=system, group=self.group, where=self.where)
            for text in (self.chosen, self.rejected)
        ]
        return made[0], made[1]


@dataclass(frozen=True)
class Preferences:
    """Preferences of a file.

    Attributes:
        pairs: in the file's order.
        ties: rows of strength 0, in which nothing is chosen.
        problems: rows that were left out: see `files.Loaded`.
    """

    pairs: tuple[Preference, ...]
    ties: int
    problems: tuple[str, ...]


def load_rated(
    path: Path, attributes: AttributeSet = HELPSTEER, *, system: str = SYSTEM, bad: Bad = "refuse"
) -> Loaded[Conversation]:
    """Rated answers, each with its labels on the last turn.

    Args:
        path: a file.
        attributes: fields that are levels; a missing or null one is not known.
        system: text of the header.
        bad: what bad rows lead to.

    Raises:
        SteerworksError: as `files.load`.
    """
    return load(path, partial(_rated, attributes=attributes, system=system), bad)


def load_preferences(path: Path, *, bad: Bad = "refuse") -> Preferences:
    """Preferences; ties are counted and left out.

    Args:
        path: a file.
        bad: what bad rows lead to.

    Raises:
        SteerworksError: as `files.load`, or all rows are ties.
    """
    found = load(path, _preference, bad)
    pairs = tuple(p for p in found.items if p is not None)
    if not pairs:
        raise SteerworksError(f"{path}: all {len(found.items)} rows are ties: nothing is chosen in any of them")
    return Preferences(pairs, len(found.items) - len(pairs), found.problems)


def turns_of(prompt: str) -> tuple[Turn, ...]:
    """The turns that a prompt holds: the user's first and last, in turn.

    Raises:
        SteerworksError: turns do not alternate, or a marker stands where none begins a turn.
    """
    first, *rest = _TURN.split(prompt)
    turns = [Turn(USER, first), *(Turn(s, t) for s, t in zip(rest[::2], rest[1::2], strict=True))]
    if any("<extra_id_" in t.text for t in turns):
        raise SteerworksError("field 'prompt' holds a marker that begins no turn: take it out")
    if len(turns) % 2 == 0 or any(t.speaker != (USER, ASSISTANT)[k % 2] for k, t in enumerate(turns)):
        raise SteerworksError("the turns in field 'prompt' do not alternate from user to user: correct or remove it")
    return tuple(turns)


def _rated(row: Row, *, attributes: AttributeSet, system: str) -> Iterator[Conversation]:
    prompt = text_of(row.values, "prompt")
    answer = Turn(ASSISTANT, text_of(row.values, "response", empty=True), levels_of(row.values, attributes))
    yield Conversation((*turns_of(prompt), answer), system=system, group=digest_text(prompt), where=row.where)


def _preference(row: Row) -> Iterator[Preference | None]:
    values = row.values
    prompt = text_of(values, "prompt")
    if "preference_strength" in values:
        signed = _number(values, "preference_strength")
        if abs(signed) > STRONGEST:
            raise SteerworksError(f"preference_strength is {signed:g}: it lies in -{STRONGEST:g} to {STRONGEST:g}")
        first, second = (text_of(values, f"response_{k}", empty=True) for k in (1, 2))
        if signed == 0:
            yield None
            return
        chosen, rejected = (first, second) if signed < 0 else (second, first)
        strength: float | None = abs(signed)
    else:
        chosen, rejected = (text_of(values, name, empty=True) for name in ("chosen", "rejected"))
        strength = None if values.get("strength") is None else _number(values, "strength")
        if strength is not None and strength < 0:
            raise SteerworksError(f"strength is {strength:g}: give the better answer as `chosen`, and how much better")
        if strength == 0:
            yield None
            return
    if chosen == rejected:
        raise SteerworksError("both answers are the same text, so none is better: remove the row")
    yield Preference(turns_of(prompt), chosen, rejected, strength, digest_text(prompt), row.where)


def _number(values: Any, name: str) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise SteerworksError(f"field {name!r} is {value!r}, which is no number: fill it in or remove the row")
    return float(value)
