r"""Conversations with labels as text, character by character with or without loss, and markers that no text can forge.

    [system_start]System \n system text \n
    [turn_start]User \n text \n
    [turn_start]Assistant \n [label_start]labels \n text \n       value_to_text: write as labels ask
    [turn_start]Assistant \n text \n [label_start]labels \n       text_to_value: read labels off
    [turn_start]                                                 where the last turn is none of the masked speaker's

(blanks around line breaks are for the eye). What carries loss, as the published trainers have it:

1. The header, and whatever the masked speaker says: never.
2. value_to_text: text and line break of every other turn but the first; what stands before them does not.
3. text_to_value: labels and their line break. A turn without labels carries none (the published trainer then trains on
   its text, where nobody asked for it).
4. The `turn_start` behind a turn that carries loss: it says that the turn is over, and generation stops at it.
5. A turn with `loss=False` carries none: turns that threads of one tree share count once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm import AttributeSet
from steer_core.adapters.steerlm.labels import Labels, label_string
from steer_core.tables.errors import ConfigError, SteerworksError

#: `plain`: no labels are written.
Kind = Literal["value_to_text", "text_to_value", "plain"]
#: What a text that holds a marker meets.
Forged = Literal["refuse", "escape"]

USER, ASSISTANT = "User", "Assistant"
SYSTEM = "This is a conversation between a user and an assistant who answers carefully."
#: Put into a forged marker behind its first character: nothing is seen of it, and it is no marker any more.
ZERO_WIDTH_SPACE = "\u200b"
REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Turn:
    """What one speaker says.

    Attributes:
        speaker: name.
        text: what is said.
        labels: attribute -> level; None without.
        loss: whether it may carry loss.
        turn_id: id of the message, where the source has one.
    """

    speaker: str
    text: str
    labels: Labels | None = None
    loss: bool = True
    turn_id: str = ""


@dataclass(frozen=True)
class Conversation:
    """Turns in order.

    Attributes:
        turns: at least one.
        system: text of the header.
        masked: the speaker whose words carry no loss.
        group: rows of one group share texts: they stay on one side of a split, and are one cluster of an interval.
        where: file and line, for errors.
    """

    turns: tuple[Turn, ...]
    system: str = SYSTEM
    masked: str = USER
    group: str = ""
    where: str = "conversation"


@dataclass(frozen=True)
class Markers:
    """Strings that give a conversation its structure; the defaults are those of the published models.

    Attributes:
        system_start, turn_start, label_start: no text may hold these.
        end_of_turn, end_of_name: may stand in texts where they are a line break: structure hangs on the others.
    """

    system_start: str = "<extra_id_0>"
    turn_start: str = "<extra_id_1>"
    label_start: str = "<extra_id_2>"
    end_of_turn: str = "\n"
    end_of_name: str = "\n"

    def __post_init__(self) -> None:
        starts = (self.system_start, self.turn_start, self.label_start)
        every = (*starts, self.end_of_turn, self.end_of_name)
        if not all(every) or len(set(starts)) < 3:
            raise ConfigError("markers are non-empty, and the three starts differ from each other")
        if odd := [a for a in starts for b in every if a is not b and a in b and a != b]:
            raise ConfigError(f"marker {odd[0]!r} is part of another one: choose markers that cannot be mistaken")

    @property
    def reserved(self) -> frozenset[str]:
        """Markers that no text may hold: the starts, and ends that are no line break."""
        ends = {e for e in (self.end_of_turn, self.end_of_name) if e != "\n"}
        return frozenset({self.system_start, self.turn_start, self.label_start} | ends)


#: What the older generative models were trained with: control characters.
CONTROL_MARKERS = Markers("\x00", "\x11", "\x12")


@dataclass(frozen=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: all of it.
        loss: whether a character carries loss, shape [characters].
    """

    text: str
    loss: NDArray[np.bool_]


@dataclass(frozen=True)
class Codec:
    """How conversations are written.

    Attributes:
        attributes: which labels there are.
        markers: the structure.
        forged: what a text with a marker in it meets: an error, or a character put into the marker.
        reserved: further strings that no text may hold: the special tokens of a tokenizer (`reserved_of`).
    """

    attributes: AttributeSet
    markers: Markers = field(default_factory=Markers)
    forged: Forged = "refuse"
    reserved: frozenset[str] = frozenset()

    def render(self, conversation: Conversation, kind: Kind) -> Rendered:
        """A whole conversation, for training.

        Raises:
            SteerworksError: it has no turn, labels that are none, or a forged marker; says where.
        """
        written = _Writer(self, conversation)
        m = self.markers
        before = False
        for k, turn in enumerate(conversation.turns):
            label = "" if kind == "plain" else self._label(turn, conversation)
            carries = turn.speaker != conversation.masked and turn.loss
            carries &= bool(label) if kind == "text_to_value" else k > 0
            # the turn that this start ends
            written.turn(turn, start_loss=before and turn.speaker == conversation.masked)
            if kind == "value_to_text" and label:
                written.label(label, loss=False)
            written.add(written.guarded(turn.text, f"turn {k + 1}"), carries and kind != "text_to_value")
            written.add(m.end_of_turn, carries and kind != "text_to_value")
            if kind == "text_to_value" and label:
                written.label(label, loss=carries)
            before = carries
        if conversation.turns[-1].speaker != conversation.masked:
            written.mark(m.turn_start, before)
        return written.done()

    def prompt(self, conversation: Conversation, labels: Labels, speaker: str = ASSISTANT) -> str:
        """The text that a model goes on from, when `speaker` is to answer as labels ask; it stops at `turn_start`.

        Earlier turns are written with their own labels, where they have some.

        Raises:
            SteerworksError: as `render`.
        """
        asked = Turn(speaker, "", labels)
        written = _Writer(self, replace(conversation, turns=(*conversation.turns, asked)))
        for k, turn in enumerate(conversation.turns):
            written.turn(turn)
            if label := self._label(turn, conversation):
                written.label(label, loss=False)
            written.add(written.guarded(turn.text, f"turn {k + 1}"), False)
            written.add(self.markers.end_of_turn, False)
        written.turn(asked)
        if label := self._label(asked, conversation):
            written.label(label, loss=False)
        return written.done().text

    def regression_text(self, conversation: Conversation, turn: int) -> str:
        """Header and turns up to one, without labels, and a bare `label_start`: its last token is what is read.

        Args:
            conversation: the whole.
            turn: place of the turn that is rated, from 0.

        Raises:
            SteerworksError: as `render`.
        """
        written = _Writer(self, conversation)
        for k, said in enumerate(conversation.turns[: turn + 1]):
            written.turn(said)
            written.add(written.guarded(said.text, f"turn {k + 1}"), False)
            written.add(self.markers.end_of_turn, False)
        written.mark(self.markers.label_start, False)
        return written.done().text

    def _label(self, turn: Turn, conversation: Conversation) -> str:
        try:
            return label_string(turn.labels or {}, self.attributes)
        except SteerworksError as error:
            raise SteerworksError(f"{conversation.where}: {error}") from error


class _Writer:
    """A text under way, and where its markers stand."""

    def __init__(self, codec: Codec, conversation: Conversation) -> None:
        self._codec, self._conversation = codec, conversation
        self._reserved = tuple(sorted(codec.markers.reserved | codec.reserved))
        self._text: list[str] = []
        self._loss: list[bool] = []
        self._placed: set[tuple[int, str]] = set()
        self._length = 0
        if not conversation.turns:
            raise SteerworksError(f"{conversation.where}: a conversation without a turn: leave the row out")
        self.mark(codec.markers.system_start, False)
        self.add("System", False)
        self.add(codec.markers.end_of_name, False)
        self.add(self.guarded(conversation.system, "the system text"), False)
        self.add(codec.markers.end_of_turn, False)

    def add(self, text: str, loss: bool) -> None:
        if text in self._reserved:
            self._placed.add((self._length, text))
        self._text.append(text)
        self._loss += [loss] * len(text)
        self._length += len(text)

    mark = add

    def turn(self, turn: Turn, start_loss: bool = False) -> None:
        name = turn.speaker
        if not name or self._codec.markers.end_of_name in name or any(r in name for r in self._reserved):
            raise SteerworksError(
                f"{self._conversation.where}: speaker {name!r} cannot be written: a name is one line without markers"
            )
        self.mark(self._codec.markers.turn_start, start_loss)
        self.add(name, False)
        self.add(self._codec.markers.end_of_name, False)

    def label(self, label: str, loss: bool) -> None:
        self.mark(self._codec.markers.label_start, False)
        self.add(label, loss)
        self.add(self._codec.markers.end_of_name, loss)

    def guarded(self, text: str, what: str) -> str:
        """The text, without markers of ours."""
        held = [r for r in self._reserved if r in text]
        if held and self._codec.forged == "refuse":
            raise SteerworksError(
                f"{self._conversation.where}: {what} holds the marker {held[0]!r}, which would be taken for the "
                'conversation\'s own: leave the row out, or write it with `forged="escape"`'
            )
        return escape(text, self._reserved) if held else text

    def done(self) -> Rendered:
        """The text; a marker that came about across a border is refused."""
        text = "".join(self._text)
        stands = {(m.start(), r) for r in self._reserved for m in re.finditer(f"(?={re.escape(r)})", text)}
        if forged := sorted(stands - self._placed):
            at, marker = forged[0]
            raise SteerworksError(
                f"{self._conversation.where}: the marker {marker!r} comes about at character {at}, where a text and "
                "what is written beside it meet: choose other markers, or leave the row out"
            )
        return Rendered(text, np.array(self._loss, dtype=np.bool_))


def escape(text: str, reserved: Sequence[str]) -> str:
    """A text in which no reserved string stands any more; others are left as they are.

    A zero-width space is put behind the first character of a marker; a marker of one character becomes U+FFFD.

    Raises:
        SteerworksError: reserved strings are such that there is no end to it.
    """
    for _ in range(8):
        held = [r for r in reserved if r in text]
        if not held:
            return text
        for marker in held:
            text = text.replace(marker, REPLACEMENT if len(marker) == 1 else marker[0] + ZERO_WIDTH_SPACE + marker[1:])
    raise SteerworksError(f"markers {sorted(reserved)} cannot be escaped: choose others")


def reserved_of(tokenizer: Any) -> frozenset[str]:
    """The special tokens of a tokenizer, which in a text would be read as themselves."""
    added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset(str(t.content) for t in added.values() if t.special and str(t.content))


def labelled_turns(conversation: Conversation) -> Iterable[int]:
    """Places of turns that have labels, may count, and are none of the masked speaker's."""
    for k, turn in enumerate(conversation.turns):
        if turn.labels and turn.loss and turn.speaker != conversation.masked:
            yield k
