"""Draw probes: texts by weight, then targets for exactly `active` goals a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.digest import digest_json, digest_text
from schemas.specs import ProbeSpec
from steer_core.goals.space import GoalSpace
from steer_core.probes.weights import DensityWeights, density_weights
from steer_core.statistics.power import smallest_effect, smallest_listener
from steer_core.tables.errors import SteerworksError

Floats = NDArray[np.float64]

#: Bumped when the same spec draws other requests.
VERSION = "2"
#: Candidates below this cannot carry the density estimate (two per fold of the AUC).
FEWEST_CANDIDATES = 10
_TRIES = 200


@dataclass(frozen=True)
class Probe:
    """The tables of all probes of a bench: `requests`, `request_goals`, `probe_weights`, `probe_diagnostics`."""

    requests: pl.DataFrame
    request_goals: pl.DataFrame
    weights: pl.DataFrame
    diagnostics: pl.DataFrame


def draw_probes(specs: Sequence[ProbeSpec], candidates: pl.DataFrame, values: pl.DataFrame, space: GoalSpace) -> Probe:
    """Draw every probe of a bench; equal inputs give equal requests, on any machine.

    Args:
        specs: probes, each with its own seed.
        candidates: columns text_id, text, source, split, unit (see `steer_core.corpus.candidate_texts`).
        values: `goal_values` of the candidates.
        space: the goal space.

    Raises:
        SteerworksError: too few texts with defined goals for a probe, or targets that no text leaves room for.
    """
    selected: dict[str, pl.DataFrame] = {}
    parts: list[Probe] = []
    # a matched probe needs the texts of its model first
    for spec in sorted(specs, key=lambda s: s.matched is not None):
        rng = np.random.default_rng([spec.seed, int(digest_text(spec.name)[:8], 16)])
        pool, z, raw = _pool(spec, candidates, values, space)
        weights = density_weights(z, spec.weighting, rng)
        rows = _texts(spec, pool, weights.weights, selected, rng)
        selected[spec.name] = pool[rows.tolist()].select("text_id")
        parts.append(_requests(spec, pool, z, raw, rows, weights, space, rng))
    return Probe(
        requests=pl.concat([p.requests for p in parts]),
        request_goals=pl.concat([p.request_goals for p in parts]),
        weights=pl.concat([p.weights for p in parts]),
        diagnostics=pl.concat([p.diagnostics for p in parts]),
    )


def _pool(
    spec: ProbeSpec, candidates: pl.DataFrame, values: pl.DataFrame, space: GoalSpace
) -> tuple[pl.DataFrame, Floats, Floats]:
    """Candidates of a probe with every goal defined: rows, z [n, d], raw values [n, d]."""
    pool = candidates.filter(pl.col("unit") == spec.unit)
    if spec.split != "all":
        pool = pool.filter(pl.col("split") == spec.split)
    raw = space.matrix(values, pool["text_id"])
    defined = np.isfinite(raw).all(axis=1)
    needed = max(spec.n_texts, FEWEST_CANDIDATES)
    if defined.sum() < needed:
        undefined = [g for k, g in enumerate(space.goals) if not np.isfinite(raw[:, k]).all()]
        why = f"; goals undefined on some of them: {', '.join(undefined)}" if undefined else ""
        raise SteerworksError(
            f"probe {spec.name!r} needs {needed} texts on the {spec.split!r} side, and the corpus has "
            f"{int(defined.sum())} "
            f"of {pool.height} with every goal defined{why}. Add texts, lower `n_texts`, or move `test_share`"
        )
    pool, raw = pool.filter(pl.Series(defined)), raw[defined]
    return pool, space.locate(raw)[0], raw


def _texts(
    spec: ProbeSpec, pool: pl.DataFrame, weights: Floats, selected: dict[str, pl.DataFrame], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of the pool that the probe uses, drawn without replacement."""
    if spec.matched is not None:
        wanted = selected[spec.matched]
        if wanted.height != spec.n_texts:
            raise SteerworksError(
                f"probe {spec.name!r} is matched to {spec.matched!r}, which has {wanted.height} texts, not "
                f"{spec.n_texts}: "
                "give both the same n_texts"
            )
        where = pool.with_row_index("row").join(wanted, on="text_id", how="right", maintain_order="right")
        return where["row"].cast(pl.Int64).to_numpy()
    possible = int((weights > 0).sum())
    if possible < spec.n_texts:
        raise SteerworksError(
            f"probe {spec.name!r} needs {spec.n_texts} texts, but only {possible} have any weight under "
            f"{spec.weighting!r} "
            "weighting: add texts where the goal space is thin, or lower `n_texts`"
        )
    return np.sort(rng.choice(len(weights), spec.n_texts, replace=False, p=weights))


def _requests(
    spec: ProbeSpec,
    pool: pl.DataFrame,
    z: Floats,
    raw: Floats,
    rows: NDArray[np.int64],
    weights: DensityWeights,
    space: GoalSpace,
    rng: np.random.Generator,
) -> Probe:
    repeated = rows.repeat(spec.n_goals_per_text)
    z0 = z[repeated]
    delta = draw_deltas(spec, space.goals, z0, rng)
    target = np.clip(z0 + delta, 0.0, 1.0)
    text_ids = pool["text_id"].to_list()
    ids = _request_ids(spec, space, [text_ids[i] for i in repeated], target)
    picked = pool[repeated.tolist()]
    requests = pl.DataFrame({"request_id": ids}).with_columns(
        probe=pl.lit(spec.name),
        split=picked["split"],
        text_id=picked["text_id"],
        text=picked["text"],
        source=picked["source"],
    )
    d = len(space.goals)
    goals = pl.DataFrame(
        {
            "request_id": np.repeat(ids, d),
            "goal": list(space.goals) * len(ids),
            "z0": z0.ravel(),
            "z_star": target.ravel(),
            "z0_raw": raw[repeated].ravel(),
        }
    ).with_columns(z_star=pl.col("z_star").fill_nan(None))
    chosen = np.zeros(len(pool), dtype=bool)
    chosen[rows] = True
    return Probe(
        requests,
        goals,
        pl.DataFrame(
            {"probe": [spec.name] * len(pool), "text_id": text_ids, "weight": weights.weights, "selected": chosen}
        ),
        pl.DataFrame(
            {
                "probe": [spec.name],
                "goal_space_id": [space.id],
                "weighting": [spec.weighting],
                "n_candidates": [len(pool)],
                "n_texts": [spec.n_texts],
                "n_requests": [len(ids)],
                "auc_before": [weights.auc_before],
                "auc_after": [weights.auc_after],
                "effective_n": [weights.effective_n],
                "smallest_effect": [smallest_effect(spec.n_texts, spec.n_goals_per_text)],
                "smallest_listener": [smallest_listener(np.nan_to_num(target - z0), picked["text_id"].to_numpy())],
            },
            schema_overrides={"smallest_listener": pl.Float64},
        ),
    )


def draw_deltas(spec: ProbeSpec, goals: Sequence[str], z0: Floats, rng: np.random.Generator) -> Floats:
    """Requested moves, shape [n, d]; NaN where a goal is inactive, 0 for null goals.

    Exactly `spec.active` goals of each row are active, each equally likely among those with room. An active delta is
    uniform on [max(-z0, delta_min), -dead_zone] and [dead_zone, min(1 - z0, delta_max)] together, so that each side
    is taken in proportion to its width (Chang et al. 2025). A subset probe draws rows again until their two deltas
    have the asked signs.
    """
    n, d = z0.shape
    eligible = np.array([g in (spec.goals or goals) and g not in spec.null_goals for g in goals])
    down = np.maximum(np.minimum(z0, -spec.delta_min) - spec.dead_zone, 0.0)
    up = np.maximum(np.minimum(1.0 - z0, spec.delta_max) - spec.dead_zone, 0.0)
    open_ = eligible & (down + up > 0)
    short = open_.sum(axis=1) < spec.active
    if short.any():
        raise SteerworksError(
            f"probe {spec.name!r}: {int(short.sum())} of {n} requests have fewer than {spec.active} goals with "
            "room for a "
            f"move of at least {spec.dead_zone} within {spec.delta_min} .. {spec.delta_max}; widen the range or "
            "lower `active`"
        )
    delta = np.full((n, d), np.nan)
    pending = np.arange(n)
    for _ in range(_TRIES):
        delta[pending] = _draw_once(spec, open_[pending], down[pending], up[pending], rng)
        if spec.subset is None:
            break
        signs = np.nansum(np.sign(delta[pending]), axis=1)
        wrong = (np.abs(signs) == 2) != (spec.subset == "correlated")
        pending = pending[wrong]
        if not len(pending):
            break
    else:
        raise SteerworksError(
            f"probe {spec.name!r}: {len(pending)} requests found no {spec.subset} pair of moves in {_TRIES} draws; "
            "their texts sit in a corner of the goal space"
        )
    for goal in spec.null_goals:
        delta[:, list(goals).index(goal)] = 0.0
    return delta


def _draw_once(spec: ProbeSpec, open_: NDArray[np.bool_], down: Floats, up: Floats, rng: np.random.Generator) -> Floats:
    order = np.where(open_, rng.uniform(size=open_.shape), np.inf).argsort(axis=1)
    active = np.zeros(open_.shape, dtype=bool)
    np.put_along_axis(active, order[:, : spec.active], True, axis=1)
    # a point on the two intervals laid end to end: below `down` it is a move down
    point = rng.uniform(size=open_.shape) * (down + up)
    delta = np.where(point < down, -(spec.dead_zone + point), spec.dead_zone + point - down)
    return np.where(active, delta, np.nan)


def _request_ids(spec: ProbeSpec, space: GoalSpace, text_ids: list[str], target: Floats) -> list[str]:
    """Keys by content; a repeat of the very same request (nothing asked, twice) gets its count."""
    seen: dict[str, int] = {}
    ids = []
    for text_id, row in zip(text_ids, target.tolist(), strict=True):
        wanted = {g: v for g, v in zip(space.goals, row, strict=True) if v == v}
        key = digest_json([space.id, spec.name, text_id, wanted])
        seen[key] = seen.get(key, 0) + 1
        ids.append(key if seen[key] == 1 else digest_json([key, seen[key]]))
    return ids
