"""A behavior whose answers are known: a backend that tells the grammar's texts as cheerfully as it is steered."""

import json
from dataclasses import replace

import numpy as np
import polars as pl

from schemas import BehaviorItems
from schemas.specs import BehaviorSpec, Decoding, GrammarBehavior
from schemas.vector_part import VectorPart
from steer_core.evaluation.arms.answers import write
from steer_core.evaluation.arms.choices import score
from steer_core.evaluation.behaviors.as_items import asked_of, choice_measures, give_vectors
from steer_core.generation.backend import Capabilities, Finished, Generation, Interventions
from steer_core.models.embedded.grammar import Attributes, draw_scenario, tell
from steer_core.steering.vector import SteeringVector

WIDTH = 8
DECODING = Decoding(max_new_tokens=24, temperature=0.0)
BEHAVIOR = BehaviorSpec(
    name="cheerfulness",
    source=GrammarBehavior(attribute="sentiment", positive=2, negative=-2),
    positive_prompt="You are a cheerful person.",
    negative_prompt="You are a gloomy person.",
    description="cheerful in tone",
)
PART = VectorPart(estimator="mean-difference", layers=(1,), strengths=(-2.0, -1.0, 1.0, 2.0))


def make_vector(layer=1, seed=0, control="", **changes):
    rng = np.random.default_rng([layer, seed])
    direction = rng.standard_normal((1, WIDTH)).astype(np.float32)
    direction /= np.linalg.norm(direction)
    fields = {
        "concept": "cheerfulness",
        "operator": "add",
        "layer": layer,
        "tensors": {"direction": direction},
        "scalars": {"positive_share": 0.5, "residual_norm": 10.0},
        "model": "m",
        "control": control,
    }
    return SteeringVector(**{**fields, **changes})


def shuffled(layer=1, n=2):
    return [make_vector(layer, 100 + k, f"shuffled:{k}") for k in range(n)]


def make_items(n_open=6, n_ab=0, n_pair=0, behavior="cheerfulness", group="main"):
    rng = np.random.default_rng(3)
    rows = []
    for form, n in (("open", n_open), ("ab", n_ab), ("pair", n_pair)):
        for k in range(n):
            scenario = draw_scenario(rng, "heldout")
            texts = [tell(scenario, Attributes(level, 0, 0, 1), rng).text for level in (2, -2)]
            letters = ["(A)", "(B)"] if k % 2 else ["(B)", "(A)"]
            positive, negative = {"open": (None, None), "ab": letters, "pair": texts}[form]
            asked = f"Write a text about the {scenario.agent} and the {scenario.object}."
            rows.append(
                {
                    "item_id": f"{behavior}-{group}-{form}-{k}",
                    "behavior": behavior,
                    "form": form,
                    "group": group,
                    "messages": json.dumps([{"role": "user", "content": asked}]),
                    "positive": positive,
                    "negative": negative,
                    "source": "test",
                    "row": k,
                }
            )
    return pl.DataFrame(rows, schema=BehaviorItems.empty().schema, orient="row")


def run_arms(arms, items, vectors, run, decoding=DECODING, **options):
    """A whole sweep's open answers."""
    asked = asked_of(arms, items)
    give_vectors(run.backend, asked, vectors)
    return write(asked, run, decoding, **options)


def score_items(arms, items, vectors, run, decoding=DECODING):
    """What a sweep's items with two answers say."""
    asked = asked_of(arms, items)
    give_vectors(run.backend, asked, vectors)
    return score(asked, run, decoding, choice_measures)


class CheerfulBackend:
    """Answers with a text whose sentiment is the sum of the coefficients of real vectors; counts what it is asked."""

    execution, model_identity = "cheerful", "m"

    def __init__(self, scores=True, interventions=True, diverges=True):
        able = Interventions.every() if interventions else None
        self.capabilities = Capabilities("cheerful", None, scores, able, diverges)
        self.vectors = {}
        self.batches = []
        self.scored = []

    def add_vectors(self, vectors):
        self.vectors |= {v.id: v for v in vectors}

    def prompt_tokens(self, plan):
        return sum(len(m.content) for m in plan.messages)

    def level(self, plan):
        steps = sum(i.coefficient for i in plan.interventions if not self.vectors[i.vector].control)
        system = plan.messages[0].content if plan.messages[0].role == "system" else ""
        return steps + 2.0 * ("cheerful" in system) - 2.0 * ("gloomy" in system)

    def generate(self, calls, batch_size=64):
        calls = list(calls)
        for start in range(0, len(calls), batch_size):
            batch = calls[start : start + batch_size]
            self.batches.append(len(batch))
            for index, call in enumerate(batch, start):
                yield Finished(index, self._write(call))

    def _write(self, call):
        rng = np.random.default_rng(call.seed % 2**32)
        level = int(np.clip(np.floor(self.level(call.plan) + 0.5), -2, 2))
        text = tell(draw_scenario(rng, "heldout"), Attributes(level, 0, 0, 1), rng).text
        return Generation(text, "stop", 5, len(text.split()), 0.0)

    def score(self, plans, continuations):
        self.scored.append(len(plans))
        return [self._score(p, c) for p, c in zip(plans, continuations, strict=True)]

    def _score(self, plan, text):
        if text[:2] in ("(A", "(B"):
            # A is the positive letter of every second item: the level pushes A
            a = 1.0 / (1.0 + np.exp(-self.level(plan)))
            return [float(np.log(0.8)), float(np.log(a if text == "(A" else 1 - a))]
        return [-1.0 - 0.1 * abs(self.level(plan))] * len(text.split())

    def diverge(self, plans, continuations, against=None):
        return [
            [0.1 * sum(i.coefficient**2 for i in p.interventions) + 0.3 * (p.messages != a.messages)] * len(c.split())
            for p, c, a in zip(plans, continuations, against or plans, strict=True)
        ]


def with_seed(vector, seed):
    """The same fit with another seed, as its lineage says."""
    other = make_vector(vector.layer, 50 + seed)
    return replace(other, lineage={"seed": seed})
