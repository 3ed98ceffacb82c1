"""Tables of an invented cell that keep every contract: 4 goals, 64 texts, 8 requests a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

import schemas
from schemas.contract import Contract
from schemas.digest import digest_text
from schemas.specs import GoalSpec
from steer_core.reports.inputs import CellTables
from steer_core.statistics import concordance

SPACE = "f3a9c2d17e5b4486a1c0de5542fe9b07"
PROBE = "test_2_of_4"

GOALS = {
    "reading_difficulty": GoalSpec(
        name="reading_difficulty",
        scorer="reading_difficulty",
        unit="grade",
        noun="the reading difficulty",
        more="harder to read",
        less="easier to read",
    ),
    "text_length": GoalSpec(
        name="text_length", scorer="text_length", unit="tokens", noun="the length", more="longer", less="shorter"
    ),
    "formality": GoalSpec(
        name="formality", scorer="formality", unit="F", noun="the formality", more="more formal", less="more informal"
    ),
    "sentiment": GoalSpec(
        name="sentiment",
        scorer="sentiment",
        unit="compound",
        noun="the tone",
        more="more positive in tone",
        less="more negative in tone",
    ),
}
BOUNDS = {
    "reading_difficulty": (2.8, 12.9),
    "text_length": (14.0, 88.0),
    "formality": (40.4, 69.1),
    "sentiment": (-0.8, 0.9),
}
# rows: asked, columns: what moves
RESPONSE = np.array(
    [[0.45, 0.20, 0.15, 0.0], [0.25, 0.70, 0.0, 0.05], [0.25, 0.05, 0.40, -0.10], [0.0, 0.05, -0.10, 0.85]]
)

OPENINGS = ["The train left", "A letter arrived", "The garden flooded", "Our meeting began", "The old bridge closed"]
MIDDLES = ["late in the evening", "before anyone noticed", "after three days of rain", "without a word of warning"]
ENDINGS = [
    "and the staff stayed calm.",
    "so the children walked home.",
    "but nobody complained about it.",
    "and we finally had some rest.",
]


def request_id(number: int) -> str:
    return digest_text(f"request {number}")


def typed(rows: Sequence[dict[str, Any]], contract: type[Contract]) -> pl.DataFrame:
    """Rows as a frame in the contract, checked."""
    dtypes = {name: column.dtype.type for name, column in contract.to_schema().columns.items()}
    whole = [r if "arm_id" in r or "arm_id" not in dtypes else {"arm_id": "headline", **r} for r in rows]
    return contract.validate(pl.DataFrame(whole, schema=dtypes, orient="row"))


def sentence(rng: np.random.Generator) -> str:
    return f"{rng.choice(OPENINGS)} {rng.choice(MIDDLES)} {rng.choice(ENDINGS)}"


def mean_interval(values: np.ndarray, clusters: np.ndarray) -> dict[str, Any]:
    """Mean of the defined values, normal interval over cluster means: plausible, not the library's estimator."""
    kept = ~np.isnan(values)
    n, groups = int(kept.sum()), np.unique(clusters[kept])
    if n == 0:
        return {"value": None, "low": None, "high": None, "n": 0, "n_clusters": 0}
    means = np.array([values[kept & (clusters == g)].mean() for g in groups])
    if len(groups) < 2:
        return {"value": float(values[kept].mean()), "low": None, "high": None, "n": n, "n_clusters": len(groups)}
    half = 1.96 * means.std(ddof=1) / np.sqrt(len(groups))
    value = float(values[kept].mean())
    return {"value": value, "low": value - half, "high": value + half, "n": n, "n_clusters": len(groups)}


def cell_tables(
    *,
    n_texts: int = 64,
    per_text: int = 8,
    active: int = 2,
    goals: Sequence[str] = tuple(GOALS),
    method: str = "direct",
    all_fail: bool = False,
    hostile: str | None = None,
    controls: Sequence[str] = ("copy", "rewrite", "permuted"),
    strength: float = 1.0,
    seed: int = 7,
) -> CellTables:
    """A cell whose outputs follow `RESPONSE` times `strength` plus noise.

    `hostile` is written as the answer to every request; `all_fail` makes every outcome empty.
    """
    rng = np.random.default_rng(seed)
    d, n = len(goals), n_texts * per_text
    response = strength * RESPONSE[:d, :d]
    texts = [" ".join(sentence(rng) for _ in range(4)) + f" Note {i}." for i in range(n_texts)]
    text_of = np.repeat(np.arange(n_texts), per_text)
    z0 = rng.uniform(0.03, 0.97, size=(n_texts, d))[text_of]
    asked = np.zeros((n, d), dtype=bool)
    for row in asked:
        row[rng.choice(d, size=min(active, d), replace=False)] = True
    side = np.where(rng.random((n, d)) < z0, -1, 1)
    delta = np.where(asked, side * rng.uniform(0.1, 0.7, size=(n, d)), 0.0)
    z_star = np.clip(z0 + delta, 0, 1)
    raw = z0 + (z_star - z0) @ response + rng.normal(0, 0.08, size=(n, d))
    failure: list[str | None] = ["empty" if all_fail else None] * n
    copied = np.zeros(n, dtype=bool)
    if not all_fail and method != "copy":
        for i in rng.choice(np.arange(1, n), size=max(1, n // 60), replace=False):
            failure[i] = str(rng.choice(["truncated", "empty"], p=[0.7, 0.3]))
        copied[rng.choice(n, size=n // 40, replace=False)] = True
        copied &= np.array([f is None for f in failure])
    if method == "copy":
        copied[:] = True
    raw[copied] = z0[copied]
    failed = np.array([f is not None for f in failure])
    z_hat = np.clip(raw, 0, 1)
    rewrites = [
        texts[t] if c else " ".join([sentence(rng), *texts[t].split(" ")[7:]])
        for t, c in zip(text_of, copied, strict=True)
    ]
    if hostile is not None:
        rewrites = [hostile] * n
    rewrites = ["" if f == "empty" else text for f, text in zip(failure, rewrites, strict=True)]

    ids = [request_id(i) for i in range(n)]
    r, e, m = z_star - z0, z_star - z_hat, z_hat - z0
    size, made = np.linalg.norm(r, axis=1), np.linalg.norm(m, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (e * r).sum(axis=1) / size**2
        scores = {
            "error": np.linalg.norm(e, axis=1),
            "miscalibration": np.where(size > 0, np.abs(along), 0.0),
            "orthogonality": np.where(
                made > 0,
                np.clip(np.linalg.norm(e - np.where(size > 0, along, 0)[:, None] * r, axis=1) / made, 0, 1),
                0.0,
            ),
        }
    scores |= {
        "error_binned": np.round(scores["error"] * 7) / 7,
        "error_permuted": scores["error"] + rng.uniform(0.1, 0.3, n),
    }
    scores["meaning_content"] = np.clip(0.95 - 0.4 * made + rng.normal(0, 0.05, n), 0, 1)
    for values in scores.values():
        values[failed] = np.nan
    worst_error = np.where(failed, np.linalg.norm(np.maximum(z_star, 1 - z_star), axis=1), scores["error"])
    tokens = rng.integers(20, 90, size=n)
    clusters = text_of

    def cell(name: str, i: int) -> float | None:
        return None if np.isnan(scores[name][i]) else float(scores[name][i])

    steerability = [
        {
            "request_id": ids[i],
            "probe": PROBE,
            "goal_space_id": SPACE,
            "text_id": digest_text(texts[text_of[i]]),
            "failure": failure[i],
            "copied": bool(copied[i]),
            "requested": float(size[i]),
            "moved": None if failed[i] else float(made[i]),
            **{name: cell(name, i) for name in ("error", "miscalibration", "orthogonality")},
            **dict.fromkeys(("sensitivity", "directionality", "score")),
            "error_binned": cell("error_binned", i),
            "miscalibration_binned": None,
            "orthogonality_binned": None,
            "error_worst": float(worst_error[i]),
            "miscalibration_worst": 2.0 if failed[i] else float(scores["miscalibration"][i]),
            "orthogonality_worst": 1.0 if failed[i] else float(scores["orthogonality"][i]),
            "error_permuted": cell("error_permuted", i),
            "meaning_content": cell("meaning_content", i),
            "meaning_chrf": cell("meaning_content", i),
            "meaning_embedding": None,
        }
        for i in range(n)
    ]
    movements = [
        {
            "request_id": ids[i],
            "probe": PROBE,
            "goal": goal,
            "z0": float(z0[i, j]),
            "z_star": float(z_star[i, j]) if asked[i, j] else None,
            "z_hat": None if failed[i] else float(z_hat[i, j]),
            "overshoot": None if failed[i] else float(raw[i, j] - z_hat[i, j]),
            "value": None if failed[i] else float(BOUNDS[goal][0] + raw[i, j] * (BOUNDS[goal][1] - BOUNDS[goal][0])),
        }
        for i in range(n)
        for j, goal in enumerate(goals)
    ]

    def summary_row(measure: str, goal: str, reading: str, statistic: str, figures: dict[str, Any]) -> dict[str, Any]:
        keys = {"measure": measure, "goal": goal, "reading": reading, "statistic": statistic}
        return {"probe": PROBE, "goal_space_id": SPACE, **keys, **figures}

    summary = []
    for name, values in scores.items():
        figures = mean_interval(values, clusters)
        summary.append(summary_row(name, "overall", "complete", "mean", figures))
        median = None if np.isnan(values).all() else float(np.nanmedian(values))
        summary.append(summary_row(name, "overall", "complete", "median", figures | {"value": median}))
    summary.append(summary_row("error", "overall", "worst", "mean", mean_interval(worst_error, clusters)))
    for j, goal in enumerate(goals):
        moved, missed = np.abs(z_hat[:, j] - z0[:, j]), np.abs(e[:, j])
        off = failed | ~asked[:, j]
        summary.append(
            summary_row("error", goal, "complete", "mean", mean_interval(np.where(off, np.nan, missed), clusters))
        )
        drift = np.where(failed | asked[:, j], np.nan, moved)
        summary.append(summary_row("drift", goal, "complete", "mean", mean_interval(drift, clusters)))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = mean_interval(np.where(off, np.nan, m[:, j] / r[:, j]), clusters)
        summary.append(summary_row("move_ratio", goal, "complete", "mean", ratio))
        order = concordance(z_star[~off, j], z_hat[~off, j], np.asarray(clusters)[~off])
        figures = {"value": order.value, "low": order.low, "high": order.high}
        summary.append(
            summary_row(
                "concordance", goal, "complete", "mean", figures | {"n": order.n, "n_clusters": order.n_clusters}
            )
        )

    base = {"copy": size, "rewrite": size * 0.93, "permuted": scores["error_permuted"]}
    comparisons = []
    for control in controls:
        for reading, values in (("complete", scores["error"]), ("worst", worst_error)):
            figures = mean_interval(values - base[control], clusters)
            both = ~np.isnan(values) & ~np.isnan(base[control])
            value = float(values[both].mean()) if both.any() else None
            control_value = float(base[control][both].mean()) if both.any() else None
            difference = figures.pop("value")
            comparisons.append(
                {
                    "probe": PROBE,
                    "goal_space_id": SPACE,
                    "control": control,
                    "measure": "error",
                    "reading": reading,
                    "value": value,
                    "control_value": control_value,
                    "difference": difference,
                    "relative": difference / control_value if control_value else None,
                    "share_better": float((values < base[control])[both].mean()) if both.any() else None,
                    **figures,
                    "p": 0.005 if (control, reading) == ("permuted", "complete") else None,
                }
            )

    side_effects = []
    for i, asked_goal in enumerate(goals):
        for j, goal in enumerate(goals):
            rows = asked[:, i] & ~failed
            x, y = r[rows, i], m[rows, j]
            slope = float((x * y).sum() / (x * x).sum()) if rows.any() else None
            side_effects.append(
                {
                    "probe": PROBE,
                    "requested_goal": asked_goal,
                    "observed_goal": goal,
                    "slope": slope,
                    "low": None if slope is None else slope - 0.05,
                    "high": None if slope is None else slope + 0.05,
                    "correlation": float(np.corrcoef(x, y)[0, 1]) if rows.sum() > 2 and y.std() > 0 else None,
                    "n": int(rows.sum()),
                }
            )

    plan = {"messages": [{"role": "user", "content": "Please rewrite the following text so that it is shorter."}]}
    responses = [
        {
            "response_id": digest_text(f"response {i}"),
            "plan_id": digest_text(f"plan {i}"),
            "plan": json.dumps(plan),
            "sample_index": 0,
            "seed": 11,
            "execution": "cpu|float32|torch 2.13.0|transformers 5.12.0",
            "raw": rewrites[i],
            "text": rewrites[i],
            "text_id": digest_text(rewrites[i]),
            "finish_reason": "length" if failure[i] == "truncated" else "stop",
            "parsed": True,
            "prompt_tokens": 120,
            "completion_tokens": int(tokens[i]),
            "seconds": 0.02,
            "receipt": None,
        }
        for i in range(n)
    ]
    outcomes = [
        {
            "request_id": ids[i],
            "probe": PROBE,
            "response_id": digest_text(f"response {i}"),
            "text": rewrites[i],
            "text_id": digest_text(rewrites[i]),
            "failure": failure[i],
            "copied": bool(copied[i]),
            "rounds": 1,
            "n_calls": 1,
            "prompt_tokens": 120,
            "completion_tokens": int(tokens[i]),
            "seconds": 0.02,
        }
        for i in range(n)
    ]
    requests = [
        {
            "request_id": ids[i],
            "probe": PROBE,
            "split": "test",
            "text_id": digest_text(texts[text_of[i]]),
            "text": texts[text_of[i]],
            "source": "grammar",
        }
        for i in range(n)
    ]
    request_goals = [
        {
            "request_id": ids[i],
            "goal": goal,
            "z0": float(z0[i, j]),
            "z_star": float(z_star[i, j]) if asked[i, j] else None,
            "z0_raw": float(BOUNDS[goal][0] + z0[i, j] * (BOUNDS[goal][1] - BOUNDS[goal][0])),
        }
        for i in range(n)
        for j, goal in enumerate(goals)
    ]
    space = [
        {
            "goal_space_id": SPACE,
            "position": j,
            "goal": goal,
            "scorer_id": f"{goal}@1",
            "lower": BOUNDS[goal][0],
            "upper": BOUNDS[goal][1],
            "bounds": "percentile",
            "n_texts": 2000,
        }
        for j, goal in enumerate(goals)
    ]
    diagnostics = [
        {
            "probe": PROBE,
            "goal_space_id": SPACE,
            "weighting": "nonlinear",
            "n_candidates": 1000,
            "n_texts": n_texts,
            "n_requests": n,
            "auc_before": 0.81,
            "auc_after": 0.57,
            "effective_n": 312.4,
            "smallest_effect": 0.031,
        }
    ]
    return CellTables(
        model="embedded",
        method=method,
        bench="embedded_rewrite",
        requests=typed(requests, schemas.Requests),
        request_goals=typed(request_goals, schemas.RequestGoals),
        outcomes=typed(outcomes, schemas.Outcomes),
        responses=typed(responses, schemas.Responses),
        steerability=typed(steerability, schemas.Steerability),
        movements=typed(movements, schemas.GoalMovements),
        summary=typed(summary, schemas.SteerabilitySummary),
        comparisons=typed(comparisons, schemas.Comparisons),
        side_effects=typed(side_effects, schemas.SideEffects),
        goal_space=typed(space, schemas.GoalSpaceTable),
        probe_diagnostics=typed(diagnostics, schemas.ProbeDiagnostics),
        goals=GOALS,
        method_description="One message that says how the text should change.",
        missing_controls=tuple(c for c in ("copy", "rewrite") if c not in controls and c != method),
        versions={"steerworks": "0.1.0", "spec_hash": "0a1b2c3d"},
    )


def with_controls(tables: CellTables) -> CellTables:
    """The same cell with the rows of its control cells beside it."""
    copy = cell_tables(method="copy").steerability
    rewrite = cell_tables(method="rewrite", strength=0.05).steerability
    return replace(tables, control_steerability={"copy": copy, "rewrite": rewrite})


def leaderboard_table(spaces: Sequence[str] = (SPACE,), probes: Sequence[str] = (PROBE,)) -> pl.DataFrame:
    """A leaderboard of six methods on two models for every space and probe."""
    rng = np.random.default_rng(3)
    methods = {
        "copy": 0.62,
        "rewrite": 0.60,
        "direct": 0.37,
        "direct-neg": 0.35,
        "closed-loop": 0.29,
        "best-of-8": 0.27,
    }
    tokens = {
        "copy": 0.0,
        "rewrite": 48.0,
        "direct": 50.0,
        "direct-neg": 49.0,
        "closed-loop": 160.0,
        "best-of-8": 402.0,
    }
    rows: list[dict[str, Any]] = []
    for space in spaces:
        for probe in probes:
            cells = []
            for model, shift in (("embedded", 0.0), ("small-chat", -0.04)):
                for method, level in methods.items():
                    error = level if method == "copy" else level + shift + rng.normal(0, 0.01)
                    cells.append((error, model, method))
            best = min(cell for cell in cells if cell[2] not in ("copy", "rewrite"))
            for rank, (error, model, method) in enumerate(sorted(cells), 1):
                rows.append(
                    {
                        "goal_space_id": space,
                        "probe": probe,
                        "model": model,
                        "method": method,
                        "rank": rank,
                        "error": error,
                        "error_low": error - 0.025,
                        "error_high": error + 0.025,
                        "error_complete": error - (0.0 if method == "copy" else 0.02),
                        "miscalibration": error / 0.62,
                        "orthogonality": 0.0 if method == "copy" else 0.4,
                        "error_binned": 0.495 if method == "copy" else 0.35,
                        "vs_copy": None if method == "copy" else error / 0.62 - 1,
                        "vs_copy_low": None if method == "copy" else error / 0.62 - 1 - 0.03,
                        "vs_copy_high": None if method == "copy" else error / 0.62 - 1 + 0.03,
                        "best": "|".join(reversed(best[1:])),
                        "vs_best": error - best[0],
                        "vs_best_low": error - best[0] - (0.03 if error > best[0] else 0.0),
                        "vs_best_high": error - best[0] + (0.03 if error > best[0] else 0.0),
                        "meaning_content": 1.0 if method == "copy" else 0.55 + 0.7 * error,
                        "failed": 0.0 if method == "copy" else 0.02,
                        "copied": 1.0 if method == "copy" else 0.01,
                        "completion_tokens": tokens[method],
                        "n": 512,
                        "n_clusters": 64,
                    }
                )
    return typed(rows, schemas.Leaderboard)
