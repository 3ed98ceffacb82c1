"""Guidance: what the prompt asks for counts for more than the model would give it (`generation.decoding.guidance`).

Each answer is held, token by token, against what the model would write under the plain prompt of the same request:
what the two prompts agree on stays, what the method's own prompt adds is multiplied by `scale`. It costs a second pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.guidance_part import GuidancePart
from steer_core.generation.backend import Capabilities
from steer_core.methods.part import Part, PlainPart
from steer_core.methods.parts.prompt import build_strategy
from steer_core.methods.protocol import Artifact, Choose, GoalTarget, Method, Request, Setting
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
        goals: axes of the goal space.
    """

    spec: GuidancePart
    label: str
    plain: Method
    goals: tuple[str, ...] = ()
    # the other prompt is one that rewrites the request's text
    stands = False

    def combine(self, base: Method, before: Sequence[Part]) -> None:
        """The method's own prompt must be another than the one that it is held against.

        Raises:
            ConfigError: the two are the same, so that guidance would change nothing, at twice the price.
        """
        asked = Request("", "A text.", tuple(GoalTarget(g, 0.5, 0.7) for g in self.goals))
        if base.traits.fits_on is None and self._turns(base, asked) == self._turns(self.plain, asked):
            raise ConfigError(
                f"guidance against {self.spec.against!r}: the method's own prompt is the same: nothing would change; "
                "name another one in `against`, or give the method a prompt part"
            )

    @staticmethod
    def _turns(strategy: Method, request: Request) -> list[dict[str, str]]:
        step = strategy.step(request, Artifact(), ())
        first = () if isinstance(step, Choose) else step[0].messages or ()
        return [{"role": m.role, "content": m.content} for m in first]

    def apply(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        """The plan with the rule, and the other prompt of the request as what is read along; as it is if they agree."""
        turns = self._turns(self.plain, request)
        if turns == [{"role": m.role, "content": m.content} for m in plan.messages or ()]:
            return plan
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
    return Guidance(spec, label, plain, tuple(setting.goals))
