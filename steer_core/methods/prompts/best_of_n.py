"""Draw several answers and keep one: by the ruler itself (an oracle), or by agreement among the answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from steer_core.methods.distance import error_of, usable
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, Choose, FitResponse, Method, Observation, Request, Setting, Traits
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError


@dataclass(frozen=True)
class BestOfN:
    """`n` samples of one plan.

    Attributes:
        base: strategy that writes the prompt and reads the answers.
        n: samples.
        select: `oracle`: least steering error as the report measures it; `consensus`: the answer most like the others
            (minimum Bayes risk decoding with chrF as utility; Eikema & Aziz 2020), which needs no ruler.
        traits: as the base, `n` calls, measuring where it is an oracle.
    """

    base: SinglePrompt
    n: int
    select: Literal["oracle", "consensus"]
    traits: Traits

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """As the base strategy."""
        return self.base.fit(responses)

    def step(self, request: Request, artifact: Artifact, history: tuple[Observation, ...]) -> tuple[Plan, ...] | Choose:
        """All samples at once, then the choice."""
        if not history:
            return (self.base.plan(request, artifact),) * self.n
        answers = [o for o in history if usable(o, request)]
        if not answers:
            return Choose(history[0].response_id)
        if self.select == "oracle":
            return Choose(min(answers, key=lambda o: error_of(request, o.z)).response_id)
        return Choose(_consensus(answers).response_id)

    def clean(self, raw: str) -> tuple[str, bool]:
        """As the base strategy."""
        return self.base.clean(raw)


def _consensus(answers: list[Observation]) -> Observation:
    from steer_core.evaluation.meaning import chrf

    texts = [o.text for o in answers]

    def likeness(i: int) -> float:
        return math.fsum(chrf(texts[j], texts[i]) for j in range(len(texts)) if j != i)

    return answers[max(range(len(answers)), key=likeness)]


def build(
    setting: Setting,
    *,
    n: int = 8,
    select: Literal["oracle", "consensus"] = "oracle",
    temperature: float = 1.0,
    base: str = "direct",
    **options: object,
) -> Method:
    """Best of `n`.

    Args:
        setting: model, goals, decoding, seed.
        n: samples.
        select: `oracle` or `consensus`.
        temperature: sampling temperature.
        base: strategy of the prompt.
        options: options of the base strategy.
    """
    from steer_core.methods.parts.prompt import build_strategy

    if select not in ("oracle", "consensus"):
        raise ConfigError(f"best-of-n: select must be `oracle` or `consensus`, not {select!r}")
    if n < 2 or temperature <= 0:
        raise ConfigError(f"best-of-n needs n >= 2 and a temperature above 0; got n = {n}, temperature = {temperature}")
    decoding = setting.decoding.model_copy(update={"temperature": temperature})
    inner = build_strategy(base, Setting(setting.model, setting.goals, decoding, setting.seed), options)
    if not isinstance(inner, SinglePrompt):
        raise ConfigError(f"best-of-n: {base!r} is no strategy of one prompt")
    traits = Traits(
        max_calls=n,
        measures=select == "oracle",
        needs_context=inner.traits.needs_context,
        fits_on=inner.traits.fits_on,
    )
    return BestOfN(inner, n, select, traits)
