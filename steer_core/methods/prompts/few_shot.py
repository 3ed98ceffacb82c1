"""Show the model rewrites, nearest in request, before it is asked: its own best of the training pool, or given ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.digest import digest_json
from steer_core.methods.distance import error_of
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, FitResponse, GoalTarget, Item, Request, Setting, Traits
from steer_core.methods.wording import direct_instruction, with_text
from steer_core.steering.plan import Message
from steer_core.tables.errors import ConfigError

#: Bytes of a token, and tokens for the question and its answer: how much context given examples take, about.
BYTES, QUESTION = 4, 256


def build(
    setting: Setting,
    *,
    n_examples: int = 3,
    negative: bool = False,
    pool: int = 200,
    examples: Sequence[Mapping[str, Any]] | None = None,
) -> SinglePrompt:
    """Earlier turns of a conversation as examples: training texts only, never the text that is asked about.

    Args:
        setting: model, goals, decoding, seed.
        n_examples: turns shown.
        negative: add that nothing else may change.
        pool: rewrites kept as possible examples, those that left the smallest share of their request's error.
        examples: given ones in place of fitted ones: `text`, `rewrite`, and `asked`, goal -> [start, target] in
            goal-space units. Nothing is fitted then.

    Raises:
        ConfigError: no example would be shown, or more than are kept, or a given one is none.
    """
    if not 1 <= n_examples <= pool:
        raise ConfigError(
            f"few-shot shows at least 1 example of its pool; got n_examples = {n_examples}, pool = {pool}"
        )

    given = None if examples is None else [_given(n, e, setting) for n, e in enumerate(examples, start=1)]
    if given == []:
        raise ConfigError("few-shot: `examples` is empty: give one at least, or leave it out")

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
        fitted = [i.body for i in artifact.items if i.kind == "example"]
        # the answer to the very text that is asked about would be no example
        shown = [body for body in (given or fitted) if body["source"].split() != request.text.split()]
        wanted = {t.goal: t.delta for t in request.active}

        def distance(body: dict[str, Any]) -> float:
            there: dict[str, float] = {g: s - z for g, z, s in body["goals"] if s is not None}
            return sum((wanted.get(g, 0.0) - there.get(g, 0.0)) ** 2 for g in {*wanted, *there})

        messages: list[Message] = []
        # the nearest example stands last, next to the question
        for body in reversed(sorted(shown, key=lambda b: (distance(b), b["request_id"]))[:n_examples]):
            messages += [turns(_example_request(body)), Message("assistant", body["rewrite"])]
        return (*messages, turns(request))

    if given is None:
        return SinglePrompt(setting, compose, Traits(needs_context=2048, fits_on="direct"), learn=learn)
    lengths = sorted((len((b["source"] + b["rewrite"]).encode()) for b in given), reverse=True)[:n_examples]
    return SinglePrompt(setting, compose, Traits(needs_context=sum(lengths) // BYTES + QUESTION))


def _given(number: int, example: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """A given example as the body of a fitted one.

    Raises:
        ConfigError: it is none; says which, and why.
    """
    where = f"few-shot: example {number}"
    fields = ("text", "rewrite", "asked")
    if not isinstance(example, Mapping) or set(example) != set(fields):
        raise ConfigError(f"{where} has the fields {', '.join(fields)}")
    if odd := [f for f in fields[:2] if not isinstance(example[f], str) or not example[f].strip()]:
        raise ConfigError(f"{where}: `{odd[0]}` is no text")
    asked = example["asked"]
    if not isinstance(asked, Mapping) or not asked:
        raise ConfigError(f"{where}: `asked` says goal: [start, target], one at least")
    for goal, ends in asked.items():
        if goal not in setting.goals:
            raise ConfigError(f"{where}: goal {goal!r} is not in the goal space ({', '.join(setting.goals)})")
        places = ends if isinstance(ends, Sequence) and not isinstance(ends, str) else ()
        if len(places) != 2 or not all(
            isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p <= 1 for p in places
        ):
            raise ConfigError(f"{where}: goal {goal!r} has a start and a target between 0 and 1; got {ends!r}")
    return {
        "request_id": digest_json([example["text"], example["rewrite"]]),
        "source": example["text"],
        "rewrite": example["rewrite"],
        "goals": [[g, float(asked[g][0]), float(asked[g][1])] for g in setting.goals if g in asked],
    }


def _example_request(body: dict[str, Any]) -> Request:
    return Request(body["request_id"], body["source"], tuple(GoalTarget(g, z, s) for g, z, s in body["goals"]))
