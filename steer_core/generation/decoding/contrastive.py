"""Contrastive decoding: what an expert finds likelier than an amateur does (Li et al. 2023, 2210.15097).

In the form of O'Brien and Lewis (2023, 2309.09117, Eq. 2), on logits s:

    s = (1 + beta) s_expert - beta s_amateur    where p_expert >= alpha max p_expert, and nothing else is written

Here the amateur is the same model: under another prompt, another adapter, or pushed by interventions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

#: What an amateur can differ in.
DIFFERS = ("messages", "adapter", "interventions")


def passes(settings: Mapping[str, Any], plan: Plan) -> tuple[Plan, ...]:
    """The plan as the amateur gets it: with the settings' `messages`, `adapter` or `interventions` in place of its own.

    Raises:
        SteerworksError: the settings name none of them, or one that is not known.
    """
    if unknown := sorted(set(settings) - {*DIFFERS, "alpha", "beta"}):
        raise SteerworksError(f"contrastive decoding: unknown setting {unknown[0]!r}")
    given = {name: settings[name] for name in DIFFERS if name in settings}
    if not given:
        raise SteerworksError(f"contrastive decoding: say what the amateur differs in: {', '.join(DIFFERS)}")
    if "messages" in given:
        turns = tuple(Message(m["role"], m["content"]) for m in given["messages"])
        plan = replace(plan, messages=turns, text=None, tokens=None)
    if "adapter" in given:
        plan = replace(plan, adapter=given["adapter"])
    if "interventions" in given:
        plan = replace(plan, interventions=tuple(Intervention.from_dict(i) for i in given["interventions"]))
    return (plan,)


def build_rule(settings: Mapping[str, Any], tensors: Mapping[str, Any]) -> Callable[..., Tensor]:
    """Settings: `beta` (.5), `alpha` (.1), and what the amateur differs in.

    Raises:
        SteerworksError: alpha is no share, or beta no number.
    """
    beta, alpha = float(settings.get("beta", 0.5)), float(settings.get("alpha", 0.1))
    if not math.isfinite(beta) or not 0.0 <= alpha <= 1.0:
        raise SteerworksError(f"contrastive decoding: beta is {beta} and alpha {alpha}; alpha is a share, 0 to 1")
    floor = math.log(alpha) if alpha > 0 else -math.inf

    def contrasted(logits: Tensor, written: Sequence[int], further: Tensor) -> Tensor:
        expert, amateur = logits.float(), further[0].float()
        likely = expert >= expert.max() + floor
        found = ((1.0 + beta) * expert - beta * amateur).masked_fill(~likely, -math.inf)
        return found.to(logits.dtype)

    return contrasted
