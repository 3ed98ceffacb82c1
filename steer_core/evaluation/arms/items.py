"""What is asked, in which setting: an arm changes a plan, an item makes one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from schemas.digest import digest_text
from schemas.specs import Decoding
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Extension, Message, Plan


@dataclass(frozen=True)
class Arm:
    """A setting that items are put to the model in.

    Attributes:
        arm_id: its key.
        items: which set of items it is of, as `Item.of` names it.
        system: system prompt, above the item's own.
        turns: examples: turns before the item's own, below its system prompt.
        interventions: what is done to activations.
        adapter: digest of the adapter that the model wears.
        extensions: what else is done to the call.
    """

    arm_id: str
    items: str
    system: str | None = None
    interventions: tuple[Intervention, ...] = ()
    adapter: str | None = None
    extensions: tuple[Extension, ...] = ()
    turns: tuple[Message, ...] = ()

    @property
    def compared(self) -> bool:
        """Whether its prompt is the item's own, so that its answers compare with the unsteered model's."""
        return self.system is None and not self.turns

    @property
    def steered(self) -> bool:
        """Whether anything but the prompt differs from the plain model."""
        return bool(self.interventions or self.adapter or self.extensions)

    def applied(self, plan: Plan) -> Plan:
        """A plan in this setting."""
        messages, text = plan.messages, plan.text
        return replace(
            plan,
            messages=None if messages is None else with_system(with_turns(messages, self.turns), self.system),
            text=text if text is None or self.system is None else f"{self.system}\n\n{text}",
            interventions=(*plan.interventions, *self.interventions),
            adapter=self.adapter if self.adapter is not None else plan.adapter,
            extensions=(*plan.extensions, *self.extensions),
        )


@dataclass(frozen=True)
class Item:
    """One thing that is asked.

    Attributes:
        item_id: its key.
        of: name of the set that it belongs to: a behavior, a profile.
        group: subset that is reported apart.
        messages: the turns that are sent; none: a bare text is.
        continuations: given answers to score; none: the answer is written.
        form: how what comes back is to be read, for whoever measures it.
        text: the bare prompt, where there are no turns.
    """

    item_id: str
    of: str
    group: str
    messages: tuple[Message, ...]
    continuations: tuple[str, ...] = ()
    form: str = "open"
    text: str | None = None

    @property
    def open(self) -> bool:
        """Whether its answer is written."""
        return not self.continuations


@dataclass(frozen=True)
class Asked:
    """An item in an arm."""

    arm: Arm
    item: Item

    def plan(self, model: str, decoding: Decoding) -> Plan:
        """What is sent.

        Args:
            model: `ModelSpec.identity`.
            decoding: how answers are drawn.
        """
        return self.arm.applied(self.plain(model, decoding))

    def plain(self, model: str, decoding: Decoding) -> Plan:
        """The item's own prompt to the plain model."""
        return Plan(model, decoding, self.item.messages or None, self.item.text)


def pair(arms: Iterable[Arm], items: Collection[Item]) -> list[Asked]:
    """Every arm with every item of its set."""
    of_set: dict[str, list[Item]] = {}
    for item in items:
        of_set.setdefault(item.of, []).append(item)
    return [Asked(arm, item) for arm in arms for item in of_set.get(arm.items, [])]


def with_system(messages: Sequence[Message], system: str | None) -> tuple[Message, ...]:
    """The turns under a system prompt; an item's own system prompt follows it, a blank line below."""
    if system is None:
        return tuple(messages)
    if messages and messages[0].role == "system":
        return (replace(messages[0], content=f"{system}\n\n{messages[0].content}"), *messages[1:])
    return (Message("system", system), *messages)


def with_turns(messages: Sequence[Message], turns: Sequence[Message]) -> tuple[Message, ...]:
    """The turns behind examples; an item's own system prompt stays first."""
    first = 1 if messages and messages[0].role == "system" else 0
    return (*messages[:first], *turns, *messages[first:])


def item_seed(seed: int, item_id: str, sample_index: int) -> int:
    """Seed of an item's sample: the same in every arm, so that arms differ by what is done and not by the draw."""
    return int(digest_text(f"{seed}:{item_id}:{sample_index}")[:15], 16)
