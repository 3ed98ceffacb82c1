"""Put a question with a closed set of answers to a language model: by probabilities, or by what it writes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.digest import canonical_json
from steer_core.evaluation.judges.judge import Verdict
from steer_core.generation.backend import Backend, Call, answer_all
from steer_core.generation.forced import score_all
from steer_core.steering.plan import Plan

#: Log-probabilities closer than this are those of one and the same token.
SAME_TOKEN = 1e-3
#: Probability that the reply is one of the options, below which no verdict is taken from it.
LEAST_MASS = 0.02


@dataclass(frozen=True)
class Option:
    """An answer that the judge may give.

    Attributes:
        text: as the judge would write it, at the very start of its reply.
        value: what it stands for.
    """

    text: str
    value: float


def ask_expected(
    plans: Sequence[Plan],
    options: Sequence[Option],
    backend: Backend,
    *,
    batch_size: int,
    least_mass: float = LEAST_MASS,
) -> list[Verdict]:
    """Mean of the options' values, weighted by the probability of each as the start of the reply.

    With p_i the probability that the reply begins with option i: value = sum p_i v_i / sum p_i; sum p_i is the option
    mass, kept in `raw` with all p_i. Where one option begins another (`1` and `10`) and the tokenizer spells the longer
    one with the shorter one's tokens first, p of the longer is taken off that of the shorter, which would count it too.

    Args:
        plans: one a question.
        options: what may be answered.
        backend: scores.
        batch_size: rows scored together.
        least_mass: option mass below which the value is None: the judge is about to say something else.
    """
    repeated = [p for p in plans for _ in options]
    texts = [o.text for _ in plans for o in options]
    scores = score_all(repeated, texts, backend, batch_size)
    per = len(options)
    return [_expected(scores[k * per : (k + 1) * per], options, least_mass) for k in range(len(plans))]


def _expected(scores: Sequence[Sequence[float]], options: Sequence[Option], least_mass: float) -> Verdict:
    if not all(scores):
        return Verdict(None, "expected", canonical_json({"overlong": True}))
    own = [math.exp(sum(s)) for s in scores]
    probabilities = list(own)
    for i, short in enumerate(options):
        for j, long in enumerate(options):
            if i != j and long.text.startswith(short.text) and _begins(scores[i], scores[j]):
                probabilities[i] -= own[j]
    probabilities = [max(p, 0.0) for p in probabilities]
    mass = sum(probabilities)
    raw = canonical_json(
        {
            "mass": round(mass, 6),
            "probabilities": {o.text: round(p, 6) for o, p in zip(options, probabilities, strict=True)},
        }
    )
    if mass < least_mass or mass == 0.0:
        return Verdict(None, "expected", raw)
    value = float(np.dot(probabilities, [o.value for o in options]) / mass)
    return Verdict(value, "expected", raw)


def _begins(short: Sequence[float], long: Sequence[float]) -> bool:
    """Whether the longer option's first tokens are the shorter one's, by their log-probabilities."""
    shared = len(long) > len(short) and zip(short, long, strict=False)
    return bool(shared) and all(abs(a - b) < SAME_TOKEN for a, b in zip(short, long, strict=False))


def ask_text(
    plans: Sequence[Plan],
    options: Sequence[Option],
    backend: Backend,
    *,
    samples: Sequence[int],
    seeds: Sequence[int],
    batch_size: int,
) -> list[Verdict]:
    """What the judge writes, read by `parse_reply`.

    Args:
        plans: one a question.
        options: what may be answered.
        backend: generates.
        samples: sample index of each call.
        seeds: seed of each call.
        batch_size: rows generated together.
    """
    calls = [Call(p, s, seed) for p, s, seed in zip(plans, samples, seeds, strict=True)]
    replies = [g.raw for g in answer_all(backend, calls, batch_size)]
    return [Verdict(parse_reply(reply, options), "text", reply) for reply in replies]


def parse_reply(reply: str, options: Sequence[Option]) -> float | None:
    """The value of the option that a reply gives; None where it gives none, or leaves it open.

    A closed block of thinking is left aside. Then, in this order: the option that the reply begins with ("1 out of 4"
    is 1, whatever follows); the option behind the last word such as "score:" or "answer:"; the option that is the only
    one mentioned. Options count as whole words: there is no 1 in 10 and no 7 in 7.5.
    """
    text = reply.rsplit("</think>", 1)[-1]
    values = {o.text.strip().lower(): o.value for o in options}
    words = "|".join(re.escape(t) for t in sorted(values, key=len, reverse=True))
    word = rf"(?<![\w.,-])(?P<option>{words})(?!\w|[.,]\d|-\d)"
    if first := re.match(rf"[\s\"'*_#(\[]*{word}", text, re.I):
        return values[first["option"].lower()]
    labelled = list(re.finditer(rf"\b(?:score|rating|answer|verdict)\b(?:\s+is)?[\s:=*_\"'(\[]*{word}", text, re.I))
    if labelled:
        return values[labelled[-1]["option"].lower()]
    mentioned = {m["option"].lower() for m in re.finditer(word, text, re.I)}
    return values[mentioned.pop()] if len(mentioned) == 1 else None
