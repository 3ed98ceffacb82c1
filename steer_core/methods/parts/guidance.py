"""Guidance: what the prompt asks for counts for more than the model would give it (`generation.decoding.guidance`).

Each answer is held, token by token, against what the model would write under the plain prompt of the same request:
what the two prompts agree on stays, what the method's own prompt adds is multiplied by `scale`. It costs a second pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.guidance_part import GuidancePart
from steer_core.generation.backend import Capabilities
from steer_core.methods.part import PlainPart
from steer_core.methods.parts.prompt import build_strategy
from steer_core.methods.protocol import Artifact, Choose, Method, Request, Setting
from steer_core.steering.plan import Extension, Plan
from steer_core.tables.errors import ConfigError

RULE = "guidance"


SPEC = GuidancePart


@dataclass(frozen=True)
class Guidance(PlainPart):
    """The guidance part of a method.

    Attributes:
        spec: its settings.
        label: its name within the method.
        plain: the strategy that the method's prompt is held against.
    """

    spec: GuidancePart
    label: str
    plain: Method

    def apply(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        """The plan with the rule, and the other prompt of the request as what is read along."""
        step = self.plain.step(request, Artifact(), ())
        assert not isinstance(step, Choose)  # `build` looked
        turns = [{"role": m.role, "content": m.content} for m in step[0].messages or ()]
        rule = Extension(RULE, {"scale": self.spec.scale, "messages": turns})
        return replace(plan, extensions=(*plan.extensions, rule))

    def refuse(self, capabilities: Capabilities) -> str | None:
        """An engine must know the rule, and read a second prompt along."""
        if RULE in capabilities.extensions and capabilities.passes:
            return None
        return (
            f"{capabilities.name} backend cannot carry out guidance: it reads no second prompt along; use transformers"
        )


def build(spec: GuidancePart, label: str, setting: Setting) -> Guidance:
    """The part that its settings describe.

    Raises:
        ConfigError: the other strategy calls no model, asks several times, or is itself fitted.
    """
    plain = build_strategy(spec.against, setting, {})
    if not plain.traits.calls_model or plain.traits.max_calls != 1 or plain.traits.fits_on is not None:
        raise ConfigError(f"guidance against {spec.against!r}: the other prompt must be asked once, and not be fitted")
    return Guidance(spec, label, plain)
