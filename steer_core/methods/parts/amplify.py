"""Amplified steering: each token by the logits of the steered model against those of the same model without it.

    log p = log p_plain + scale (log p_steered - log p_plain)        where p_steered >= alpha max p_steered

It is contrastive decoding (Li et al. 2023, arXiv:2210.15097) with the unsteered model as the amateur, and at `alpha: 0`
classifier-free guidance (Ho and Salimans 2022) with the steering as the condition. It costs a second pass; what the
vector does to activations stays as strong as it is, so that answers do not come apart as they do at larger strengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.amplify_part import AmplifyPart
from steer_core.generation.backend import Capabilities
from steer_core.methods.part import Part, PlainPart
from steer_core.methods.protocol import Artifact, Method, Request, Setting
from steer_core.steering.plan import Extension, Plan
from steer_core.tables.errors import ConfigError

RULE = "contrastive"
SPEC = AmplifyPart


@dataclass(frozen=True)
class Amplify(PlainPart):
    """The part of a method.

    Attributes:
        spec: its settings.
        label: its name within the method.
    """

    spec: AmplifyPart
    label: str
    last = True

    def combine(self, base: Method, before: Sequence[Part]) -> None:
        """What is amplified stands before it, and guidance is another way to do the same to a prompt.

        Raises:
            ConfigError: nothing that changes the model does, or guidance does.
        """
        if any(other.spec.kind == "guidance" for other in before):
            raise ConfigError("`guidance` and `amplify` both weigh two passes, and would count each other's: take one")
        if not before:
            raise ConfigError(
                "`amplify` stands before what it amplifies: put it behind the vector or adapter, whose doses are then "
                "measured without it"
            )

    def apply(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        """The plan with the rule, and itself without steering as what is read along; as it is where nothing steers.

        A gate that stays closed leaves both passes the same, and `alpha` still cuts what is unlikely.
        """
        if (not plan.interventions and plan.adapter is None) or self.spec.scale == 1.0:
            return plan
        settings: dict[str, Any] = {"beta": self.spec.scale - 1.0, "alpha": self.spec.alpha}
        settings |= {"interventions": []} if plan.interventions else {}
        settings |= {"adapter": None} if plan.adapter is not None else {}
        rule = Extension(RULE, settings)
        return replace(plan, extensions=(*plan.extensions, rule))

    def refuse(self, capabilities: Capabilities) -> str | None:
        """An engine must know the rule, and read the unsteered model along."""
        if RULE in capabilities.extensions and capabilities.passes:
            return None
        return f"{capabilities.name} backend cannot amplify steering: it reads no second pass along; use transformers"


def build(spec: AmplifyPart, label: str, setting: Setting) -> Amplify:
    """The part that its settings describe."""
    return Amplify(spec, label)
