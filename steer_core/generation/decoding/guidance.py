"""Classifier-free guidance: away from what the model would write under another prompt (Sanchez et al. 2023).

    log p = log p_other + scale * (log p_own - log p_other)      (arXiv:2306.17806, Eq. 7)

Scale 1 is the plan as it is; above 1 what its prompt asks for counts for more than the model would give it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor


def passes(settings: Mapping[str, Any], plan: Plan) -> tuple[Plan, ...]:
    """The plan under the other prompt, `messages` of the settings.

    Raises:
        SteerworksError: a setting is missing, or one is not known.
    """
    if set(settings) != {"scale", "messages"} or not settings["messages"]:
        raise SteerworksError(f"guidance needs `scale` and `messages`, with at least one turn; got {sorted(settings)}")
    turns = tuple(Message(m["role"], m["content"]) for m in settings["messages"])
    return (replace(plan, messages=turns, text=None, tokens=None),)


def build_rule(settings: Mapping[str, Any], tensors: Mapping[str, Any]) -> Callable[..., Tensor]:
    """Settings: `scale`, and `messages` of the other prompt.

    Raises:
        SteerworksError: the scale is no number.
    """
    scale = float(settings["scale"])
    if not math.isfinite(scale):
        raise SteerworksError(f"guidance: scale is {scale}; it must be a finite number")

    def guided(logits: Tensor, written: Sequence[int], further: Tensor) -> Tensor:
        own, other = logits.float().log_softmax(-1), further[0].float().log_softmax(-1)
        return (other + scale * (own - other)).to(logits.dtype)

    return guided
