"""Decoding rules by name: what is done to a row's next-token logits before its token is chosen.

An extension of the group `decoding` is a module with `build_rule(settings, tensors)`; a part's module may have it too,
so that a part with a rule of its own is one file. A rule is called with the row's logits [vocabulary] and the tokens
that the row has written, and returns new logits of that shape; it must not depend on other rows. A plan names rules as
its `extensions`, with settings as JSON and tensors by digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schemas.digest import digest_bytes
from steer_core import extensions
from steer_core.steering.plan import Extension
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

#: Logits [vocabulary] and the tokens written so far to logits [vocabulary].
Rule = Callable[["Tensor", Sequence[int]], "Tensor"]
Array = NDArray[Any]


def available_rules() -> tuple[str, ...]:
    """Names of all decoding rules, with dashes."""
    of_parts = [n for n, found in extensions.available("parts").items() if hasattr(found.load(), "build_rule")]
    return tuple(sorted({*extensions.available("decoding"), *of_parts}))


def build_rule(extension: Extension, tensors: Mapping[str, Array]) -> Rule:
    """The rule that a plan's extension names.

    Args:
        extension: name, settings and digests.
        tensors: digest -> tensor, as handed to the engine.

    Raises:
        SteerworksError: there is no such rule, or a tensor was not handed over.
    """
    if extension.name not in available_rules():
        known = ", ".join(available_rules()) or "none"
        raise SteerworksError(f"unknown decoding rule {extension.name!r}; there are: {known}")
    group = "decoding" if extension.name in extensions.available("decoding") else "parts"
    missing = sorted(d for d in extension.tensors.values() if d not in tensors)
    if missing:
        raise SteerworksError(
            f"decoding rule {extension.name!r} needs tensor {missing[0]}, which the engine does not have: hand it over "
            "with `add_tensors`"
        )
    own = {name: tensors[digest] for name, digest in extension.tensors.items()}
    rule: Rule = extensions.load(group, extension.name).build_rule(dict(extension.settings), own)
    return rule


def tensor_digest(tensor: Array) -> str:
    """Digest of a tensor: its type, shape and numbers."""
    array = np.ascontiguousarray(tensor)
    return digest_bytes(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
