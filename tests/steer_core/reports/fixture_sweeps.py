"""Tables of an invented sweep that keep every contract: behaviors that rise with strength, controls that do not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from fixture_tables import GOALS, typed

import schemas
from schemas.digest import canonical_json, digest_json, digest_text
from schemas.specs import BehaviorSpec, GrammarBehavior
from steer_core.evaluation.behaviors.summary import summarise_arms
from steer_core.models.embedded.grammar import Attributes, draw_scenario, tell

STRENGTHS = (-2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0)
ATTRIBUTES = {"cheerfulness": "sentiment", "formal-register": "formality", "simple-words": "difficulty"}
BEHAVIORS = {
    name: BehaviorSpec(
        name=name,
        source=GrammarBehavior(attribute=attribute, positive=2, negative=-2),
        positive_prompt=f"You show {name}.",
        negative_prompt=f"You show the opposite of {name}.",
        description=f"Shows {name} in every sentence",
    )
    for name, attribute in ATTRIBUTES.items()
}
#: What a random direction, shuffled labels and the vector at another layer make of the vector's effect.
SHARES = {"random": 0.06, "shuffled": 0.15}
LAYER_SHARES = {0: 0.1, 1: 0.7, 2: 1.0, 3: 0.45}


def arm(behavior: str, role: str, **settings: Any) -> dict[str, Any]:
    """One row of `sweep_arms`."""
    given = {"strength": None, "unit": None, "layers": "[]", "site": None, "positions": None, "seed": 0, "system": None}
    given |= settings
    steered = role in ("vector", "random", "shuffled")
    steps = [{"vector": digest_json([behavior, role, given["seed"], given["layers"]])}] if steered else []
    return {
        "arm_id": digest_json([behavior, role, *map(str, given.values())]),
        "spec_hash": "a" * 16,
        "behavior": behavior,
        "role": role,
        "coefficient": given["strength"],
        "vectors": canonical_json([s["vector"] for s in steps]),
        "interventions": canonical_json(steps),
        "n_calls": 24,
        "n_scored": 96,
        "max_new_tokens": 24 * 64,
        "seconds": None,
        **given,
    }


def arms_of(
    behavior: str,
    *,
    strengths: Sequence[float],
    unit: str,
    layer: int,
    layers: Sequence[int],
    positions: Sequence[str],
    n_random: int,
    n_shuffled: int,
    prompts: bool,
) -> list[dict[str, Any]]:
    """The arms that a planner would make."""
    place = {"unit": unit, "layers": f"[{layer}]", "site": "residual", "positions": "all"}
    ends = sorted({min(strengths), max(strengths)})
    rows = [arm(behavior, "off")]
    rows += [arm(behavior, "vector", **{**place, "strength": s}) for s in strengths]
    rows += [arm(behavior, "vector", **{**place, "strength": s, "positions": p}) for p in positions for s in strengths]
    rows += [arm(behavior, "vector", **{**place, "strength": s, "layers": f"[{n}]"}) for n in layers for s in ends]
    for role, n in (("random", n_random), ("shuffled", n_shuffled)):
        rows += [arm(behavior, role, **{**place, "strength": s, "seed": k}) for k in range(n) for s in ends]
    if prompts:
        spec = BEHAVIORS[behavior]
        rows += [arm(behavior, "prompt", system=s) for s in (spec.positive_prompt, spec.negative_prompt)]
    return rows


def items_of(
    behavior: str, rng: np.random.Generator, n: int, forms: Sequence[str]
) -> tuple[list[dict[str, Any]], dict]:
    """Rows of `behavior_items`, and the scenario behind each open one."""
    rows, scenarios = [], {}
    for form in forms:
        for group in ("main",) if form == "open" else ("main", "neutral"):
            for k in range(n):
                scenario = draw_scenario(rng, "heldout")
                item_id = digest_text(f"{behavior} {form} {group} {k}")
                scenarios[item_id] = scenario
                answers = {"open": (None, None), "ab": ("(A)", "(B)"), "pair": ("Good news.", "Bad news.")}[form]
                asked = f"Write a text about the {scenario.agent} and the {scenario.object}."
                rows.append(
                    {
                        "item_id": item_id,
                        "behavior": behavior,
                        "form": form,
                        "group": group,
                        "messages": canonical_json([{"role": "user", "content": asked}]),
                        "positive": answers[0],
                        "negative": answers[1],
                        "source": f"grammar:{behavior}",
                        "row": k,
                    }
                )
    return rows, scenarios


def push_of(row: Mapping[str, Any], top: float, rng: np.random.Generator) -> float:
    """How far an arm pushes its behavior, from -1 to 1."""
    if row["role"] == "prompt":
        return 0.85 if "opposite" not in row["system"] else -0.85
    if row["strength"] is None:
        return 0.0
    share = SHARES.get(row["role"], LAYER_SHARES.get(json.loads(row["layers"])[0], 0.3))
    if row["positions"] == "completion":
        share *= 0.8
    side = rng.normal() if row["role"] in SHARES else 1.0
    return float(np.tanh(1.1 * side * share * row["strength"] / top))


def scores_of(
    arms: Sequence[dict[str, Any]],
    items: Sequence[dict[str, Any]],
    others: Sequence[str],
    rng: np.random.Generator,
    unparsed: float,
    lift: float,
) -> list[dict[str, Any]]:
    """Rows of `arm_scores`: verdicts saturate, perplexity and KL grow with the square of the strength."""
    top = max(abs(a["strength"] or 0.0) for a in arms)
    base = {item["item_id"]: rng.normal(0, 0.12) for item in items}
    # a few items go the other way
    leaning = {item["item_id"]: -0.3 if k % 11 == 5 else 1.0 for k, item in enumerate(items)}
    rows: list[dict[str, Any]] = []
    for a in arms:
        push = push_of(a, top, rng)
        size = abs(a["strength"] or 0.0) / top if a["role"] != "prompt" else 0.0
        for item in items:
            head = {"arm_id": a["arm_id"], "item_id": item["item_id"], "sample_index": 0, "group": item["group"]}
            moved = lift * push * leaning[item["item_id"]] + base[item["item_id"]]
            measures: dict[str, float | None]
            if item["form"] == "open":
                value: float | None = float(np.clip(5 + 4.6 * moved + rng.normal(0, 0.5), 0, 10))
                if rng.random() < unparsed * size:
                    value = None
                measures = {
                    "judged": value,
                    "length": float(rng.poisson(22 + 8 * size)),
                    "truncated": float(rng.random() < 0.1 * size),
                    "failed": 0.0,
                    "refused": 0.0,
                    "perplexity": float(np.exp(rng.normal(1.0 + 1.5 * size**2, 0.15))),
                    "kl": None if a["role"] == "prompt" else float(abs(rng.normal(0.9 * size**2, 0.08 * size))),
                }
                measures |= {
                    f"goal:{g}": float(rng.normal(0.5 + (0.1 * push if i else 0), 0.1)) for i, g in enumerate(GOALS)
                }
                measures |= {f"other:{o}": float(np.clip(rng.normal(5 + 0.7 * push, 1), 0, 10)) for o in others}
            elif item["group"] == "neutral":
                measures = {
                    "propensity": float(rng.normal(9 - 3 * size**2, 2)),
                    "accuracy": float(rng.random() < 0.97 - 0.2 * size**2),
                }
            else:
                nats = float(8 * moved + rng.normal(0, 1))
                measures = {"propensity": nats, "accuracy": float(nats > 0)}
                if item["form"] == "ab":
                    measures |= {
                        "p_positive": float(1 / (1 + np.exp(-nats))),
                        "pair_mass": float(rng.uniform(0.7, 0.99)),
                    }
                else:
                    measures["propensity_per_token"] = nats / 12
            rows += [{**head, "measure": m, "value": v} for m, v in measures.items()]
    return rows


def sweep_tables(
    *,
    behaviors: Sequence[str] = ("cheerfulness", "formal-register"),
    n_items: int = 24,
    strengths: Sequence[float] = STRENGTHS,
    unit: str = "raw",
    layer: int = 2,
    layers: Sequence[int] = (0, 1, 3),
    positions: Sequence[str] = (),
    n_random: int = 20,
    n_shuffled: int = 2,
    prompts: bool = True,
    forms: Sequence[str] = ("open", "pair"),
    unparsed: float = 0.0,
    lift: float = 1.0,
    draws: int = 200,
    seed: int = 5,
) -> dict[str, Any]:
    """Fields of `CellTables` for a vector method: pass them to `dataclasses.replace`.

    `unparsed` is the share of verdicts missing at the ends; `lift` scales what the vector does (0: nothing).
    """
    rng = np.random.default_rng(seed)
    arms, items, scores, answers, judgements = [], [], [], [], []
    for behavior in behaviors:
        own_items, scenarios = items_of(behavior, rng, n_items, forms)
        options = {"strengths": strengths, "unit": unit, "layer": layer, "layers": layers, "positions": positions}
        own = arms_of(behavior, **options, n_random=n_random, n_shuffled=n_shuffled, prompts=prompts)
        found = scores_of(own, own_items, [b for b in behaviors if b != behavior], rng, unparsed, lift)
        for row in (r for r in found if r["measure"] == "judged"):
            value = row["value"]
            level = 0 if value is None else round((value - 5) / 2.5)
            text = tell(scenarios[row["item_id"]], attributes(behavior, level), rng).text
            response = digest_text(f"{row['arm_id']} {row['item_id']}")
            head = {"item_id": row["item_id"], "response_id": response}
            answers.append({**head, "arm_id": row["arm_id"], "sample_index": 0, "text": text, "failure": None})
            state = {
                "value": value,
                "state": "ok" if value is not None else "unparsed",
                "method": "ground_truth",
                "raw": "",
            }
            judgements.append(
                {**head, "judge_id": digest_text(behavior), "rubric": "attribute@1", "repeat": 0, **state}
            )
        arms, items, scores = [*arms, *own], [*items, *own_items], [*scores, *found]
    table = typed(arms, schemas.SweepArms)
    scored = typed(scores, schemas.ArmScores)
    summary, findings = summarise_arms(table, scored, draws=draws, seed=0)
    return {
        "behaviors": {b: BEHAVIORS[b] for b in behaviors},
        "sweep_arms": table,
        "arm_summary": schemas.ArmSummary.validate(summary),
        "sweep_findings": schemas.SweepFindings.validate(findings),
        "arm_scores": scored,
        "arm_answers": typed(answers, schemas.ArmAnswers),
        "judgements": typed(judgements, schemas.Judgements),
        "behavior_items": typed(items, schemas.BehaviorItems),
        "data_integrity": integrity(behaviors),
        "sweep_responses": responses(table, answers),
        "fitted": vector_tables([*behaviors, *GOALS], sorted({layer, *layers}), seed),
    }


def attributes(behavior: str, level: int) -> Attributes:
    levels = {"sentiment": 0, "formality": 0, "difficulty": 0} | {ATTRIBUTES[behavior]: level}
    return Attributes(levels["sentiment"], levels["formality"], levels["difficulty"], 2)


def responses(arms: pl.DataFrame, answers: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows of `responses`, the steered ones with a receipt that holds."""
    steps = {a: json.loads(i) for a, i in arms.select("arm_id", "interventions").iter_rows()}
    rows = []
    for answer in answers:
        asked = steps[answer["arm_id"]]
        touches = [{"expected": 20, "observed": 20}] * len(asked)
        receipt = canonical_json({"digest": digest_json(asked), "touches": touches}) if asked else None
        rows.append(
            {
                "response_id": answer["response_id"],
                "plan_id": digest_text(answer["response_id"]),
                "plan": canonical_json({"messages": [], "interventions": asked}),
                "sample_index": 0,
                "seed": 1,
                "execution": "cpu|float32|torch 2.13.0|transformers 5.12.0",
                "raw": answer["text"],
                "text": answer["text"],
                "text_id": digest_text(answer["text"]),
                "finish_reason": "stop",
                "parsed": True,
                "prompt_tokens": 20,
                "completion_tokens": 25,
                "seconds": 0.01,
                "receipt": receipt,
            }
        )
    return typed(rows, schemas.Responses)


def integrity(behaviors: Sequence[str]) -> pl.DataFrame:
    rows = []
    for behavior in behaviors:
        for check, n, passed, detail in (
            ("duplicates", 0, True, "0 pairs repeat an earlier one"),
            ("first_word", 231, False, "the first word tells the side in 231 of 256 pairs (first rows: 0, 1, 3)"),
            ("train_test_overlap", 0, True, "0 test questions also stand in the training data"),
        ):
            head = {"concept": behavior, "source": f"grammar:{ATTRIBUTES[behavior]}", "check": check}
            rows.append({**head, "n": n, "of": 256, "passed": passed, "detail": detail})
    return typed(rows, schemas.DataIntegrity)


def vector_row(concept: str, layer: int, control: str, rng: np.random.Generator) -> dict[str, Any]:
    """One row of `vectors`."""
    return {
        "part": "vector",
        "vector_id": digest_json([concept, layer, control]),
        "concept": concept,
        "control": control,
        "seed": 0,
        "estimator": "mean_difference",
        "operator": "add",
        "layer": layer,
        "site": "residual",
        "read": "answer",
        "width": 128,
        "norm": float(1.5 + layer + rng.uniform(0, 1)),
        "residual_norm": float(6 + 2 * layer),
        "n_positive": 256,
        "n_negative": 256,
        "reliability": None if control else float(rng.uniform(0.8, 0.99)),
        "model": "m" * 16,
        "template": "t" * 16,
        "scalars": "{}",
        "lineage": "{}",
    }


def vector_tables(concepts: Sequence[str], layers: Sequence[int], seed: int) -> dict[str, pl.DataFrame]:
    """`vectors`, `vector_cosines`, `activation_map` and `dose_response` of these concepts and layers."""
    rng = np.random.default_rng(seed)
    vectors, maps, cosines = [], [], []
    for layer in layers:
        lean = rng.normal(size=(len(concepts), 6)) + 0.3
        lean /= np.linalg.norm(lean, axis=1, keepdims=True)
        for i, concept in enumerate(concepts):
            vectors += [vector_row(concept, layer, control, rng) for control in ("", "shuffled:0", "shuffled:1")]
            for k in range(60):
                label = k % 2
                first, second = rng.normal((2 * label - 1) * (0.3 + 0.4 * layer), 0.6), rng.normal()
                where = {"part": "vector", "concept": concept, "layer": layer, "site": "residual"}
                example = {"example_id": digest_text(f"{concept} {k}"), "label": label, "projection": float(label)}
                maps.append({**where, **example, "first": float(first), "second": float(second)})
            for j, other in enumerate(concepts):
                pair = {"left": concept, "right": other, "layer": layer, "site": "residual"}
                cosines.append({**pair, "cosine": float(np.clip(lean[i] @ lean[j], -1, 1))})
    return {
        "vectors": typed(vectors, schemas.Vectors),
        "activation_map": typed(maps, schemas.ActivationMap),
        "vector_cosines": pl.DataFrame(cosines),
        "dose_response": doses(rng),
        "contrast_sources": contrast_sources(),
    }


def contrast_sources() -> pl.DataFrame:
    """Every goal's contrasts were asked for, but those of the second, which came from the corpus."""
    second = list(GOALS)[1]
    rows = [(g, 0, "asked", 40, 60, 0.5, g != second, "120 answers to 60 texts") for g in GOALS]
    rows.append((second, 1, "corpus", 64, 900, 0.6, True, "100 texts at each end of the goal"))
    return pl.DataFrame(rows, schema=schemas.ContrastSources.empty().schema, orient="row")


def doses(rng: np.random.Generator) -> pl.DataFrame:
    """A dose-response of every goal; the outermost strengths of the last goal are not usable."""
    rows = []
    strengths: list[float | None] = [None, -0.5, -0.3, -0.1, 0.1, 0.3, 0.5]
    for g, goal in enumerate(GOALS):
        for observed in GOALS:
            for s in strengths:
                own = observed == goal
                usable = not (g == len(GOALS) - 1 and s is not None and abs(s) >= 0.5)
                slope = (0.2 + 0.15 * g) if own else 0.04 * (g - 1.5)
                move = 0.0 if s is None else float(np.tanh(2 * s) * slope * 1.2 + rng.normal(0, 0.012))
                fitted = move if own and usable and s is not None else None
                rows.append(
                    {
                        "part": "vector",
                        "goal": goal,
                        "observed_goal": observed,
                        "strength": s,
                        "unit": "residual_fraction",
                        "coefficient": None if s is None else 4 * s,
                        "move": move,
                        "low": move - 0.04,
                        "high": move + 0.04,
                        "fitted": fitted,
                        "prompt_intercept": 0.01 * g,
                        "prompt_slope": 0.05 + 0.1 * g,
                        "prompt_start": -0.1,
                        "share": (1.0, 0.5, 1.0, 0.0)[g % 4],
                        "floor": (0.0, 0.2, 0.0, 0.0)[g % 4],
                        "gain": 0.05 - 0.02 * g,
                        "gain_low": 0.02 - 0.02 * g,
                        "gain_high": 0.08 - 0.02 * g,
                        "failed": 0.0 if usable else 0.4,
                        "usable": usable,
                        "n": 32,
                    }
                )
    return typed(rows, schemas.DoseResponse)


def behaviors_of_cells(cells: Mapping[tuple[str, str], Mapping[str, Any]]) -> pl.DataFrame:
    """Findings of several cells, for the leaderboard: (model, method) -> options of `sweep_tables`."""
    return pl.concat(
        sweep_tables(**options)["sweep_findings"].with_columns(model=pl.lit(model), method=pl.lit(method))
        for (model, method), options in cells.items()
    )
