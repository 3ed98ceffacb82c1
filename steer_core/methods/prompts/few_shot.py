"""Show the model its own best rewrites of the training pool, nearest in request, before it is asked."""

from __future__ import annotations

import math
from typing import Any

from steer_core.methods.distance import error_of
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, FitResponse, GoalTarget, Item, Request, Setting, Traits
from steer_core.methods.wording import direct_instruction, with_text
from steer_core.steering.plan import Message
from steer_core.tables.errors import ConfigError


def build(setting: Setting, *, n_examples: int = 3, negative: bool = False, pool: int = 200) -> SinglePrompt:
    """Earlier turns of a conversation as examples: training texts only, never a test text.

    Args:
        setting: model, goals, decoding, seed.
        n_examples: turns shown.
        negative: add that nothing else may change.
        pool: rewrites kept as possible examples, those that left the smallest share of their request's error.

    Raises:
        ConfigError: no example would be shown, or more than are kept.
    """
    if not 1 <= n_examples <= pool:
        raise ConfigError(
            f"few-shot shows at least 1 example of its pool; got n_examples = {n_examples}, pool = {pool}"
        )

    def learn(responses: tuple[FitResponse, ...]) -> Artifact:
        ranked = []
        for response in responses:
            asked = math.sqrt(sum(t.delta**2 for t in response.request.active))
            left = error_of(response.request, response.z)
            if response.failure is None and asked > 0 and left < asked:
                ranked.append((left / asked, response.request.request_id, response))
        items = [
            Item(
                "example",
                {
                    "request_id": r.request.request_id,
                    "source": r.request.text,
                    "rewrite": r.text,
                    "goals": [[t.goal, t.z0, t.z_star] for t in r.request.goals],
                },
            )
            for _, _, r in sorted(ranked, key=lambda row: row[:2])[:pool]
        ]
        return Artifact(tuple(items))

    def turns(request: Request) -> Message:
        asked = direct_instruction(request, setting.goals, setting.seed, negative=negative, only=True)
        return Message("user", with_text(asked, request.text))

    def compose(request: Request, artifact: Artifact) -> tuple[Message, ...]:
        examples = [i.body for i in artifact.items if i.kind == "example"]
        wanted = {t.goal: t.delta for t in request.active}

        def distance(body: dict[str, Any]) -> float:
            there: dict[str, float] = {g: s - z for g, z, s in body["goals"] if s is not None}
            return sum((wanted.get(g, 0.0) - there.get(g, 0.0)) ** 2 for g in {*wanted, *there})

        messages: list[Message] = []
        # the nearest example stands last, next to the question
        for body in reversed(sorted(examples, key=lambda b: (distance(b), b["request_id"]))[:n_examples]):
            messages += [turns(_example_request(body)), Message("assistant", body["rewrite"])]
        return (*messages, turns(request))

    return SinglePrompt(setting, compose, Traits(needs_context=2048, fits_on="direct"), learn=learn)


def _example_request(body: dict[str, Any]) -> Request:
    return Request(body["request_id"], body["source"], tuple(GoalTarget(g, z, s) for g, z, s in body["goals"]))
