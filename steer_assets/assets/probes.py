"""Probes of a bench: requests with targets, and how evenly they cover the goal space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from schemas import ProbeDiagnostics, ProbeWeights, RequestGoals, Requests
from steer_assets.tables import Science, Work, table
from steer_core import probes as core
from steer_core.corpus import candidate_texts
from steer_core.goals.space import GoalSpace

#: A weighted corpus that trees still tell from uniform this well is far from even.
UNEVEN_AUC = 0.75


def _uniformity(work: Work, frames: Mapping[str, pl.DataFrame]) -> tuple[bool, dict[str, Any]]:
    rows = frames["probe_diagnostics"]
    uneven = rows.filter((pl.col("auc_after") > UNEVEN_AUC) & (pl.col("weighting") != "none"))
    auc = pl.format("AUC {} -> {}", pl.col("auc_before").round(3), pl.col("auc_after").round(3))
    kept = pl.format("effective n {} of {}", pl.col("effective_n").round(0), "n_candidates")
    return uneven.is_empty(), dict(rows.select("probe", pl.format("{}, {}", auc, kept)).iter_rows())


def _metadata(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    columns = ["probe", "n_texts", "n_requests", "auc_before", "auc_after", "effective_n", "smallest_effect"]
    rows = frames["probe_diagnostics"].select(columns).with_columns(pl.selectors.float().round(3)).rows()
    lines = [columns, ["---"] * len(columns), *rows]
    return {"probes": dg.MarkdownMetadataValue("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))}


@table(
    Requests,
    RequestGoals,
    ProbeWeights,
    ProbeDiagnostics,
    version=core.VERSION,
    spec=lambda work: [p.spec_hash for p in work.bench.probes],
    science=(
        Science(
            "probe_uniformity",
            f"Weighted texts look uniform in goal space (held-out AUC at most {UNEVEN_AUC})",
            _uniformity,
            dg.AssetCheckSeverity.WARN,
        ),
    ),
    metadata=_metadata,
)
def probes(
    work: Work, seed_corpus: pl.DataFrame, corpus_goal_values: pl.DataFrame, goal_space: pl.DataFrame
) -> tuple[pl.DataFrame, ...]:
    """Requests of every probe of the bench: source texts drawn by weight, targets for exactly k goals each."""
    candidates = candidate_texts(seed_corpus, work.bench.probes)
    space = GoalSpace.from_table(goal_space)
    probe = core.draw_probes(work.bench.probes, candidates, corpus_goal_values, space)
    return probe.requests, probe.request_goals, probe.weights, probe.diagnostics
