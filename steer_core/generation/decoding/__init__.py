"""Decoding rules by name: what is done to a row's next-token logits before its token is chosen.

An extension of the group `decoding` is a module with `build_rule(settings, tensors)`; a part's module may have it too,
so that a part with a rule of its own is one file. A rule is called with the row's logits [vocabulary] and the tokens
that the row has written, and returns new logits of that shape; it must not depend on other rows. A plan names rules as
its `extensions`, with settings as JSON and tensors by digest.

A module may also have `passes(settings, plan)`: further plans that are read along, each with its own prompt,
interventions or adapter, and the same answer. Its rule is then called with a third argument, their logits
[passes, vocabulary] at the same token (guidance, contrastive decoding).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schemas.digest import digest_bytes
from steer_core import extensions
from steer_core.steering.plan import Extension, Plan
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]


@dataclass(frozen=True)
class Rule:
    """A rule of a row, ready to be called.

    Attributes:
        change: logits [vocabulary] and the tokens written so far to logits [vocabulary]; with passes of its own also
            their logits [passes, vocabulary].
        name: of the rule, for messages.
        own: which of the row's further passes are its own; None for rules that look at one pass.
    """

    change: Callable[..., Tensor]
    name: str = "rule"
    own: slice | None = None

    def __call__(self, logits: Tensor, written: Sequence[int], further: Tensor | None = None) -> Tensor:
        """The logits that the row's token is chosen from; `further` are those of all of its further passes."""
        if self.own is None:
            return self.change(logits, written)
        assert further is not None
        return self.change(logits, written, further[self.own])


def available_rules() -> tuple[str, ...]:
    """Names of all decoding rules, with dashes."""
    of_parts = [n for n, found in extensions.available("parts").items() if hasattr(found.load(), "build_rule")]
    return tuple(sorted({*extensions.available("decoding"), *of_parts}))


def further_passes(plan: Plan) -> tuple[Plan, ...]:
    """The plans that are read along with a plan, rule by rule; none for rules that look at one pass.

    Raises:
        SteerworksError: there is no such rule, or a pass would have rules of its own.
    """
    return tuple(p for extension in plan.extensions for p in passes_of(extension, plan))


def passes_of(extension: Extension, plan: Plan) -> tuple[Plan, ...]:
    """The plans that one rule of a plan reads along.

    Raises:
        SteerworksError: there is no such rule, or a pass would have rules of its own.
    """
    module = _module(extension)
    if not hasattr(module, "passes"):
        return ()
    bare = replace(plan, extensions=())
    found: tuple[Plan, ...] = tuple(module.passes(dict(extension.settings), bare))
    if any(p.extensions for p in found):
        raise SteerworksError(f"decoding rule {extension.name!r}: a further pass cannot have rules of its own")
    return found


def reads_along(extension: Extension) -> bool:
    """Whether a rule has further passes."""
    return extension.name in available_rules() and hasattr(_module(extension), "passes")


def code_of(plan: Plan) -> list[str]:
    """Digests of the code of a plan's rules: an edited rule is another rule, whose answers are not those of before.

    Rules that are not known here have none; whoever runs the plan refuses it.
    """
    known = available_rules()
    return [_source_digest(str(_module(e).__file__)) for e in plan.extensions if e.name in known]


@functools.cache
def _source_digest(file: str) -> str:
    return digest_bytes(Path(file).read_bytes())


def build_rules(plan: Plan, tensors: Mapping[str, Array]) -> tuple[Rule, ...]:
    """The rules of a plan, in order, each with its own among the further passes.

    Raises:
        SteerworksError: there is no such rule, or a tensor was not handed over.
    """
    rules, first = [], 0
    for extension in plan.extensions:
        stop = first + len(passes_of(extension, plan))
        own = slice(first, stop) if reads_along(extension) else None
        rules.append(Rule(build_rule(extension, tensors), extension.name, own))
        first = stop
    return tuple(rules)


def build_rule(extension: Extension, tensors: Mapping[str, Array]) -> Callable[..., Tensor]:
    """What a plan's extension does to logits.

    Args:
        extension: name, settings and digests.
        tensors: digest -> tensor, as handed to the engine.

    Raises:
        SteerworksError: there is no such rule, or a tensor was not handed over.
    """
    module = _module(extension)
    missing = sorted(d for d in extension.tensors.values() if d not in tensors)
    if missing:
        raise SteerworksError(
            f"decoding rule {extension.name!r} needs tensor {missing[0]}, which the engine does not have: hand it over "
            "with `add_tensors`"
        )
    own = {name: tensors[digest] for name, digest in extension.tensors.items()}
    change: Callable[..., Tensor] = module.build_rule(dict(extension.settings), own)
    return change


def _module(extension: Extension) -> Any:
    if extension.name not in available_rules():
        known = ", ".join(available_rules()) or "none"
        raise SteerworksError(f"unknown decoding rule {extension.name!r}; there are: {known}")
    group = "decoding" if extension.name in extensions.available("decoding") else "parts"
    return extensions.load(group, extension.name)


def tensor_digest(tensor: Array) -> str:
    """Digest of a tensor: its type, shape and numbers."""
    array = np.ascontiguousarray(tensor)
    return digest_bytes(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
