"""Trees of OpenAssistant (Koepf et al. 2023): each path from root to leaf is a conversation.

A line is a tree: `message_tree_id` and `prompt`, a message with `message_id`, `role` (prompter or assistant), `text`,
`labels` (name -> {value in [0, 1], count}) and `replies`, messages again. Paths share turns; a turn carries loss, and
labels count, in the first path that it stands in, so that a turn with many replies weighs no more than others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from schemas.steerlm import AttributeSet
from steer_core.adapters.steerlm.conversation import ASSISTANT, SYSTEM, USER, Conversation, Turn
from steer_core.adapters.steerlm.labels import Rounding, level_of_share
from steer_core.adapters.steerlm.sources.files import Bad, Loaded, Row, held_out, load, text_of
from steer_core.tables.errors import SteerworksError

ROLES = {"prompter": USER, "assistant": ASSISTANT}
#: Share of trees that the published split holds out, and its seed.
VALIDATION, SEED = 0.05, 10


def load_trees(
    path: Path,
    attributes: AttributeSet,
    *,
    rounding: Rounding = "half_up",
    system: str = SYSTEM,
    bad: Bad = "refuse",
) -> Loaded[Conversation]:
    """All paths of all trees in a file; `group` is the tree.

    Args:
        path: one tree a line.
        attributes: which labels are kept; a message without one of them lacks it.
        rounding: of ratings to levels.
        system: text of the header.
        bad: what a tree that cannot be read leads to.

    Raises:
        SteerworksError: as `files.load`.
    """
    return load(path, partial(_threads, attributes=attributes, rounding=rounding, system=system), bad)


def split_trees(
    conversations: Sequence[Conversation], share: float = VALIDATION, seed: int = SEED
) -> tuple[list[Conversation], list[Conversation]]:
    """Conversations for training and for validation; those of a tree stay together.

    The published split shuffles the trees of one file; this one is by hash of the tree, so that it is the same for any
    subset.
    """
    kept = [c for c in conversations if not held_out(c.group, share, seed)]
    return kept, [c for c in conversations if held_out(c.group, share, seed)]


def _threads(row: Row, *, attributes: AttributeSet, rounding: Rounding, system: str) -> Iterator[Conversation]:
    tree = text_of(row.values, "message_tree_id")
    root = row.values.get("prompt")
    if not isinstance(root, Mapping):
        raise SteerworksError(f"tree {tree}: `prompt` is no message: give the whole tree")
    seen: set[str] = set()
    counted: set[str] = set()
    found = []
    # depth first, replies in their order; trees may be deeper than a recursion goes
    stack: list[tuple[Mapping[str, Any], tuple[Turn, ...]]] = [(root, ())]
    while stack:
        message, before = stack.pop()
        turn = _turn(message, tree, attributes, rounding)
        if turn.turn_id in seen:
            raise SteerworksError(f"tree {tree}: message {turn.turn_id!r} stands in it twice: take a whole copy")
        seen.add(turn.turn_id)
        path = (*before, turn)
        replies = message.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(r, Mapping) for r in replies):
            raise SteerworksError(f"tree {tree}, message {turn.turn_id!r}: `replies` is no list of messages")
        stack += [(reply, path) for reply in reversed(replies)]
        if not replies:
            found.append(Conversation(tuple(_once(path, counted)), system=system, group=tree, where=row.where))
    # only once the whole tree is known to be sound
    yield from found


def _once(path: Sequence[Turn], counted: set[str]) -> Iterator[Turn]:
    """Turns, of which those that counted in an earlier path carry no loss."""
    for turn in path:
        yield Turn(turn.speaker, turn.text, turn.labels, turn.turn_id not in counted, turn.turn_id)
        counted.add(turn.turn_id)


def _turn(message: Mapping[str, Any], tree: str, attributes: AttributeSet, rounding: Rounding) -> Turn:
    name = text_of(message, "message_id")
    try:
        role = text_of(message, "role")
        if role not in ROLES:
            raise SteerworksError(f"role {role!r} is none of {', '.join(ROLES)}")
        text = text_of(message, "text", empty=True)
        # what users write is never labelled: the model is not to be asked for it
        labels = _labels(message.get("labels"), attributes, rounding) if role == "assistant" else None
    except SteerworksError as error:
        raise SteerworksError(f"tree {tree}, message {name!r}: {error}") from error
    return Turn(ROLES[role], text, labels, turn_id=name)


def _labels(rated: Any, attributes: AttributeSet, rounding: Rounding) -> dict[str, int] | None:
    if rated is None:
        return None
    if not isinstance(rated, Mapping):
        raise SteerworksError("`labels` is no mapping of names to {value, count}")
    found = {}
    for attribute in attributes.attributes:
        rating = rated.get(attribute.name)
        if rating is None:
            continue
        value = rating.get("value") if isinstance(rating, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SteerworksError(f"label {attribute.name!r} is {rating!r}: it is {{value, count}}, value in [0, 1]")
        found[attribute.name] = level_of_share(value, attribute, rounding)
    return found or None
