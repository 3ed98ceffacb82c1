"""What the harness asks, in terms of plans: pairs of texts as token ids, and settings of a generation as a decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.specs import Decoding
from steer_core.evaluation.profiles.harness.needs import HarnessRefusalError

#: Names that tasks give the most tokens to write, the first that is given decides.
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
#: Settings that change nothing at these values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_k": (None, 0, -1),
    "num_beams": (None, 1),
    "repetition_penalty": (None, 1, 1.0),
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0, 0.0),
    "length_penalty": (None, 1, 1.0),
    "num_return_sequences": (None, 1),
    "seed": (None,),
}


class NotAsked(int):
    """What stands for a greedy flag that was not asked for: whoever decides by it is refused."""

    def __bool__(self) -> bool:
        raise HarnessRefusalError("no engine was asked which tokens are the likeliest, and the task decides by it")


@dataclass
class Counts:
    """What happened to requests.

    Attributes:
        scored, written: requests answered.
        truncated: of them, those whose context lost its first tokens because it did not fit.
        unaligned: scored pairs whose tokens run across the boundary of context and continuation.
    """

    scored: int = 0
    written: int = 0
    truncated: int = 0
    unaligned: int = 0


@dataclass(frozen=True)
class Writing:
    """How an answer is written.

    Attributes:
        decoding: how it is drawn.
        until: texts that end it; it is cut before them.
    """

    decoding: Decoding
    until: tuple[str, ...]

    def cut(self, text: str) -> str:
        """The text before whatever ends it, in the order and way of the harness's own models."""
        for stop in self.until:
            if stop:
                text = text.split(stop)[0]
        return text


def writing_of(settings: Mapping[str, Any], end: str, most: int) -> Writing:
    """What a task's generation settings ask for.

    Args:
        settings: `until`, a limit of tokens, `do_sample`, `temperature`, `top_p`, `min_p`.
        end: text of the token that ends texts: it always ends an answer.
        most: tokens to write where the settings name no limit.

    Raises:
        HarnessRefusalError: they ask for something else, or contradict themselves.
    """
    left = dict(settings)
    until = left.pop("until", None)
    until = [until] if isinstance(until, str) else list(until or ())
    limits = [left.pop(name, None) for name in _LIMITS]
    limit = next((value for value in limits if value is not None), most)
    sampled, temperature = left.pop("do_sample", None), left.pop("temperature", None)
    if sampled and temperature == 0:
        raise HarnessRefusalError("do_sample is true and temperature is 0: say which is meant")
    if sampled and temperature is None:
        temperature = 1.0
    # as the harness has it: not sampled is greedy, whatever the temperature says
    heat = float(temperature or 0.0) if sampled is None or sampled else 0.0
    drawn = {name: left.pop(name) for name in ("top_p", "min_p") if left.get(name) is not None}
    for name in ("top_p", "min_p"):
        left.pop(name, None)
    wrong = {k: v for k, v in left.items() if k not in _NEUTRAL or v not in _NEUTRAL[k]}
    if wrong:
        said = ", ".join(f"{k} = {v!r}" for k, v in wrong.items())
        raise HarnessRefusalError(
            f"generation settings that no engine here carries out: {said}; leave them out of the task's "
            "`generation_kwargs`"
        )
    try:
        decoding = Decoding(max_new_tokens=int(limit), temperature=heat, **(drawn if heat > 0 else {}))
    except ValueError as error:
        raise HarnessRefusalError(f"generation settings {dict(settings)}: {error}") from error
    return Writing(decoding, tuple(dict.fromkeys([*until, end] if end else until)))


def moved_blanks(context: str, continuation: str) -> tuple[str, str]:
    """The pair with blanks that end the context set before the continuation, where tokens of words have them."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


def divided(context: Sequence[int], whole: Sequence[int]) -> tuple[list[int], list[int], bool]:
    """Token ids of a context and of what follows it in the whole text, and whether the two make up the whole.

    They do not where the text's tokens run across the boundary; the division is by number of tokens then, as the
    harness has it.
    """
    n = len(context)
    return list(context), list(whole[n:]), list(whole[:n]) == list(context)


def fitted(context: Sequence[int], continuation: Sequence[int], most: int) -> tuple[tuple[int, ...], int]:
    """The context, and how many of its first tokens were left out so that context and continuation fit.

    Args:
        context: token ids.
        continuation: token ids, all of them kept.
        most: tokens that the model reads; the last of the continuation is scored and not read.

    Raises:
        HarnessRefusalError: the continuation leaves no room for one token of context.
    """
    room = most + 1 - len(continuation)
    if room < 1:
        raise HarnessRefusalError(
            f"a continuation of {len(continuation)} tokens does not fit a model that reads {most}: nothing of its "
            "context would be left"
        )
    return tuple(context[-room:]), max(0, len(context) - room)
