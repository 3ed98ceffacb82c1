"""How often a page would be wrong: simulated worlds, no model calls, every rate with its binomial interval.

Four questions. Each world goes through the functions that the page's sentences stand on.

1. Does a method that never sees its request get called listening? On every shipped probe, with goals whose values are
   bell-shaped and skewed, answers that drift to the middle of the space and skewed noise. Stated: at most 2.5 %.
2. Is a weak listener found, one that makes a quarter of the move, on `tales` (stated: in 80 %); and is the smallest
   listener that each probe prints found about as often as it says (.8)?
3. Do intervals cover? Means, paired differences, medians and slopes within texts, in normal worlds and in worlds of
   texts drawn from the demo's own outcomes (`data/demo_outcomes.parquet`), from 12 texts on. Stated: .94 to .96.
   Heavier skew and rare events are reported and not bounded.
4. Is a random vector called beyond random directions? Stated: at most 5 %.

    make evidence-truth
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from scipy.stats import beta

from schemas.specs import ProbeSpec
from steer_core.evaluation.controls import permutation_p
from steer_core.goals.space import GoalSpace
from steer_core.probes import draw_probes
from steer_core.registry import load_registry
from steer_core.reports.behavior_ranking import verdict
from steer_core.statistics import (
    clustered_estimates,
    clustered_mean,
    clustered_share,
    paired_contrast,
    rank_p,
    slope_within,
    smallest_listener,
)
from steer_core.statistics.power import BLIND

Floats = np.ndarray
#: The demo's outcomes: 64 texts with 8 requests each under four methods.
OUTCOMES = Path(__file__).parent / "data" / "demo_outcomes.parquet"
#: Shuffles behind each rank, as a bench has them by default.
SHUFFLES = 200
#: How many times as many fresh worlds a row gets whose interval lies above the stated rate.
AGAIN = 4
#: Texts of a probe that are simulated at most.
MOST_TEXTS = 64


def binomial(k: int, n: int) -> tuple[float, float, float]:
    """Rate with its exact 95 % interval."""
    low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))
    return k / n, low, high


# 1 and 2: listening


def shipped_probes() -> dict[str, ProbeSpec]:
    """Every probe of config/probes.yaml, and those of the `tales` bench."""
    entries = yaml.safe_load(Path("config/probes.yaml").read_text())
    shipped = {name: ProbeSpec.model_validate({"name": name, **settings}) for name, settings in entries.items()}
    shipped |= {f"tales-{p.name}": p for p in load_registry(["config"]).bench("tales").probes}
    # a rate depends on the requests a text, not on how many texts there are: 64 of the pool's 512 will do
    return {name: spec.model_copy(update={"n_texts": min(spec.n_texts, MOST_TEXTS)}) for name, spec in shipped.items()}


def drawn_requests(spec: ProbeSpec, shape: str, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """z0 [n, d], z* [n, d] with NaN where inactive, and texts [n], of a probe drawn from synthetic texts."""
    rng = np.random.default_rng(seed)
    goals = tuple(dict.fromkeys([*(spec.goals or ()), *spec.null_goals, "goal_a", "goal_b", "goal_c", "goal_d"]))
    goals = goals[: max(4, len(spec.goals or ()) + len(spec.null_goals))]
    n = 4 * spec.n_texts
    raw = {"bell": rng.normal, "skewed": rng.exponential}[shape](size=(n, len(goals)))
    ids = [f"text-{i:05d}" for i in range(n)]
    lower, upper = np.percentile(raw, [2.5, 97.5], axis=0)
    if spec.subset:
        # a text in the wrong corner has no pair of such moves: bounds that leave every text room on both sides
        room = np.ptp(raw, axis=0) * 0.4
        lower, upper = raw.min(axis=0) - room, raw.max(axis=0) + room
    table = pl.DataFrame(
        {
            "goal_space_id": ["space"] * len(goals),
            "position": range(len(goals)),
            "goal": goals,
            "scorer_id": [f"{g}@1" for g in goals],
            "lower": lower,
            "upper": upper,
            "bounds": ["fixed"] * len(goals),
            "n_texts": [n] * len(goals),
        }
    )
    values = pl.DataFrame(
        {
            "text_id": np.repeat(ids, len(goals)),
            "scorer_id": [f"{g}@1" for g in goals] * n,
            "value": raw.ravel(),
            "state": ["ok"] * raw.size,
        }
    )
    texts = pl.DataFrame({"text_id": ids, "text": ids, "unit": "text", "split": "test", "source": "made"})
    plain = spec.model_copy(update={"split": "test", "unit": "text", "matched": None, "name": "probe"})
    probe = draw_probes([plain], texts, values, GoalSpace.from_table(table))
    wide = probe.request_goals.pivot("goal", index="request_id", values=["z0", "z_star"], maintain_order=True)
    z0, z_star = (
        np.column_stack([wide[f"{column}_{goal}"].cast(pl.Float64).fill_null(np.nan).to_numpy() for goal in goals])
        for column in ("z0", "z_star")
    )
    return z0, z_star, probe.requests["text_id"].to_numpy()


def answers(z0: Floats, z_star: Floats, texts: Floats, share: float, noise: float, rng: np.random.Generator) -> Floats:
    """Where a method ends that makes `share` of the move: it drifts to the middle, and so does each text, unevenly."""
    owner = np.unique(texts, return_inverse=True)[1]
    asked = np.nan_to_num(z_star - z0)
    of_text = 0.4 * (0.5 - z0) + rng.normal(0, 0.1, (owner.max() + 1, z0.shape[1]))[owner]
    # skewed, with the standard deviation asked for
    rows = noise * (rng.exponential(size=z0.shape) - 1.0)
    return np.clip(z0 + share * asked + of_text + rows, 0.0, 1.0)


def heard(
    z0: Floats, z_star: Floats, texts: Floats, share: float, worlds: int, noise: float = 0.2, seed: int = 1
) -> int:
    """Worlds in which a method is said to listen."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(worlds):
        z_hat = answers(z0, z_star, texts, share, noise, rng)
        # some answers fail, whatever they were asked
        z_hat[rng.random(len(z_hat)) < 0.05] = np.nan
        p = permutation_p(z0, z_star, z_hat, texts, permutations=SHUFFLES, rng=rng)
        found += p is not None and p <= BLIND
    return found


def listening(worlds: int) -> Iterator[dict[str, Any]]:
    """Rates of being called listening, of a blind method on every probe."""
    for name, spec in shipped_probes().items():
        for shape in ("bell", "skewed"):
            z0, z_star, texts = drawn_requests(spec, shape)
            smallest = smallest_listener(np.nan_to_num(z_star - z0), texts)
            row = {"probe": name, "goals": shape, "n": len(z0), "smallest_listener": smallest}
            row["blind"] = binomial(heard(z0, z_star, texts, 0.0, worlds), worlds)
            if row["blind"][1] > BLIND:
                # of thirty rows one or another lies beyond its interval by chance: fresh worlds, and more of them
                row["blind_again"] = binomial(heard(z0, z_star, texts, 0.0, AGAIN * worlds, seed=2), AGAIN * worlds)
            if smallest is not None:
                some = max(worlds // 10, 100)
                row["power_at_smallest"] = binomial(heard(z0, z_star, texts, smallest, some), some)
            if name == "tales-main":
                row["quarter"] = binomial(heard(z0, z_star, texts, 0.25, max(worlds // 4, 100)), max(worlds // 4, 100))
            yield row


# 3: coverage


def normal_world(n_texts: int, rows: int | None, icc: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Values and texts: normal between and within, mean 0; rows None draws 1 to 8 a text."""
    sizes = rng.integers(1, 9, n_texts) if rows is None else np.full(n_texts, rows)
    texts = np.repeat(np.arange(n_texts), sizes)
    between = rng.normal(0, math.sqrt(icc), n_texts)[texts]
    return between + rng.normal(0, math.sqrt(1 - icc), len(texts)), texts


def normal_coverage(n_texts: int, worlds: int) -> dict[str, tuple[float, float, float]]:
    """Coverage of the intervals of a mean, a paired difference, a median and a slope, in normal worlds."""
    rng = np.random.default_rng(n_texts)
    hits = dict.fromkeys(("mean", "mean, unequal texts", "paired", "median", "slope"), 0)
    for world in range(worlds):
        values, texts = normal_world(n_texts, (1, 4, 8)[world % 3], 0.3, rng)
        found = clustered_mean(values, texts)
        hits["mean"] += found.low <= 0 <= found.high
        hits["paired"] += _paired_holds(n_texts, rng)
        values, texts = normal_world(n_texts, None, 0.3, rng)
        found = clustered_mean(values, texts)
        hits["mean, unequal texts"] += found.low <= 0 <= found.high
        texts = np.repeat(np.arange(n_texts), 4)
        asked = rng.random(4 * n_texts) - rng.random(n_texts)[texts]
        moved = 0.25 * asked + rng.normal(0, 0.2, n_texts)[texts] + rng.normal(0, 0.2, 4 * n_texts)
        slope = slope_within(asked, moved, texts)
        hits["slope"] += slope.low <= 0.25 <= slope.high
        if world % 4 == 0:
            values, texts = normal_world(n_texts, 8, 0.3, rng)
            median = clustered_estimates(values, texts, ["median"], draws=1000, rng=rng)["median"]
            hits["median"] += median.low <= 0 <= median.high
    some = {"median": -(-worlds // 4)}
    return {name: binomial(k, some.get(name, worlds)) for name, k in hits.items()}


def _paired_holds(n_texts: int, rng: np.random.Generator) -> bool:
    """Two methods on the same requests, as good as each other: what makes a request hard is common to both."""
    hard, texts = normal_world(n_texts, 8, 0.5, rng)
    one, other = (hard + normal_world(n_texts, 8, 0.2, rng)[0] for _ in range(2))
    found = paired_contrast(one, other, texts)
    return found.low is not None and found.low <= 0 <= found.high


def demo_outcomes() -> pl.DataFrame:
    """The demo's requests, one row a method and request, sorted by text."""
    return (
        pl.read_parquet(OUTCOMES).unique(["method", "request"], maintain_order=True).sort("method", "text", "request")
    )


def demo_coverage(n_texts: int, worlds: int) -> dict[str, tuple[float, float, float]]:
    """Coverage where a world is a draw of whole texts from the demo's 64, and the truth is what the 64 say."""
    rng = np.random.default_rng(n_texts)
    rows = demo_outcomes()
    of = {str(m): part["error_worst"].to_numpy().reshape(64, 8) for (m,), part in rows.group_by(["method"])}
    pairs = [("direct", "copy"), ("direct", "rewrite"), ("vector-mean-difference", "copy"), ("rewrite", "copy")]
    texts = np.repeat(np.arange(n_texts), 8)
    hits: dict[str, int] = {}
    truth = {m: float(v.mean()) for m, v in of.items()}
    middle = {m: float(np.median(v)) for m, v in of.items()}
    pooled = _pooled_moves()
    slopes = {m: _pooled_slope(x, y, np.arange(64)) for m, (x, y) in pooled.items() if m not in ("copy", "rewrite")}
    for world in range(worlds):
        chosen = rng.integers(0, 64, n_texts)
        for m, values in of.items():
            found = clustered_mean(values[chosen].ravel(), texts)
            _count(hits, f"mean error of {m}", found.low, found.high, truth[m])
        for one, other in pairs:
            found = paired_contrast(of[one][chosen].ravel(), of[other][chosen].ravel(), texts)
            _count(hits, f"error, {one} minus {other}", found.low, found.high, truth[one] - truth[other])
        for m, true in slopes.items():
            x, y = pooled[m]
            low, high = _pooled_interval(x, y, chosen)
            _count(hits, f"slope over all goals, {m}", low, high, true)
        if world % 4 == 0:
            for m in ("direct", "vector-mean-difference"):
                found = clustered_estimates(of[m][chosen].ravel(), texts, ["median"], draws=1000, rng=rng)["median"]
                _count(hits, f"median error of {m}", found.low, found.high, middle[m])
    return {n: binomial(k, -(-worlds // 4) if n.startswith("median") else worlds) for n, k in hits.items()}


def _pooled_moves() -> dict[str, tuple[Floats, Floats]]:
    """Method -> moves asked and made [64, rows], NaN where a goal was not asked, centered within text and goal."""
    rows = pl.read_parquet(OUTCOMES).with_columns(
        x=(pl.col("z_star") - pl.col("z0")).cast(pl.Float64), y=(pl.col("z_hat") - pl.col("z0")).cast(pl.Float64)
    )
    rows = rows.with_columns(
        pl.when(pl.col("x").is_null() | pl.col("y").is_null()).then(None).otherwise(pl.col("x", "y")).name.keep()
    )
    over = ["method", "text", "goal"]
    rows = rows.with_columns(pl.col("x") - pl.col("x").mean().over(over), pl.col("y") - pl.col("y").mean().over(over))
    found = {}
    for (method,), part in rows.sort("method", "text", "request", "goal").group_by(["method"], maintain_order=True):
        x, y = (part[c].fill_null(0.0).to_numpy().reshape(64, -1) for c in ("x", "y"))
        found[str(method)] = (x, y)
    return found


def _pooled_slope(x: Floats, y: Floats, chosen: Floats) -> float:
    return float((x[chosen] * y[chosen]).sum() / (x[chosen] ** 2).sum())


def _pooled_interval(x: Floats, y: Floats, chosen: Floats) -> tuple[float, float]:
    from steer_core.statistics import ratio_interval

    _, low, high = ratio_interval((x[chosen] * y[chosen]).sum(axis=1), (x[chosen] ** 2).sum(axis=1))
    return low, high


def _count(hits: dict[str, int], name: str, low: float | None, high: float | None, truth: float) -> None:
    hits[name] = hits.get(name, 0) + bool(low is not None and low - 1e-12 <= truth <= high + 1e-12)


def reported_coverage(n_texts: int, worlds: int) -> dict[str, tuple[float, float, float]]:
    """Not bounded: skew that no interval of so few texts corrects, and rare events."""
    rng = np.random.default_rng(n_texts)
    draws: dict[str, tuple[Callable[..., Floats], float]] = {
        "mean, exponential texts": (lambda size: rng.exponential(size=size), 1.0),
        "mean, lognormal texts": (lambda size: rng.lognormal(size=size), math.exp(0.5)),
    }
    hits = dict.fromkeys([*draws, "rate .02", "rate .1", "rate .5"], 0)
    texts = np.repeat(np.arange(n_texts), 8)
    for _ in range(worlds):
        for name, (draw, truth) in draws.items():
            found = clustered_mean(draw(n_texts), np.arange(n_texts))
            hits[name] += found.low <= truth <= found.high
        for p in (0.02, 0.1, 0.5):
            of_text = rng.beta(p * 4, (1 - p) * 4, n_texts)[texts]  # correlation .2 within a text
            share = clustered_share((rng.random(len(texts)) < of_text).astype(float), texts)
            hits[f"rate {f'{p:g}'[1:]}"] += share.low <= p <= share.high
    return {name: binomial(k, worlds) for name, k in hits.items()}


# 4: random vectors


def random_vectors(worlds: int) -> dict[str, tuple[float, float, float]]:
    """How often an effect that is itself of a random direction is called beyond random, with normal and heavy tails."""
    rng = np.random.default_rng(3)
    found = {}
    for n in (5, 19, 20, 40):
        for shape, draw in (("normal", rng.normal), ("heavy", lambda size: rng.standard_t(2, size))):
            called = 0
            for _ in range(worlds):
                effects = draw(size=n + 1)
                called += verdict(rank_p(float(effects[0]), effects[1:]), n).startswith("yes")
            found[f"{n} directions, {shape} effects"] = binomial(called, worlds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    start, worlds = time.monotonic(), options.worlds
    result: dict[str, Any] = {"worlds": worlds, "listening": []}
    for row in listening(worlds):
        print(json.dumps(row), flush=True)
        result["listening"].append(row)
    for name, study in (("normal", normal_coverage), ("demo", demo_coverage), ("reported", reported_coverage)):
        result[name] = {}
        for n_texts in (8, 12, 16, 24, 64):
            result[name][n_texts] = study(n_texts, worlds)
            for what, (rate, low, high) in result[name][n_texts].items():
                print(f"{name:9} {n_texts:3} texts  {what:45} {rate:.4f} [{low:.4f} to {high:.4f}]", flush=True)
    result["random"] = random_vectors(worlds)
    for what, (rate, low, high) in result["random"].items():
        print(f"random vectors, {what:35} {rate:.4f} [{low:.4f} to {high:.4f}]", flush=True)
    result["seconds"] = round(time.monotonic() - start)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
