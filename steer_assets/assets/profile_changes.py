"""What profiles show when they are held beside each other: settings of a cell, cells of a bench, pairs of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import polars as pl

from schemas import ProfileChanges, ProfileContrasts, ProfileSynergy
from schemas.specs import BenchSpec
from steer_assets.assets import profiles
from steer_assets.partitions import held_against, valid_cells
from steer_assets.tables import Work, table
from steer_core.evaluation.profiles import changes, contrasts, kind, synergy


def _n_cells(work: Work) -> int:
    """Among how many cells a difference may have to stand: a bench of a few can grow without making them anew."""
    return max(changes.CELLS, len(valid_cells(work.bench)))


def _asked(work: Work) -> list[object]:
    """What tells whether a profile was edited."""
    return [kind.follows(spec) for spec in profiles.profiles_of(work)]


@table(
    ProfileChanges,
    version=changes.VERSION,
    spec=lambda work: [work.bench.seed, _n_cells(work), _asked(work)],
    applies=profiles.profiled,
    grid=True,
)
def profile_changes(work: Work, profile_values: pl.DataFrame, profile_items: pl.DataFrame) -> pl.DataFrame:
    """What each setting changes against the model as it is, corrected for all that is looked at."""
    return changes.changes_of(
        profile_values,
        profile_items,
        seed=work.bench.seed,
        cells=_n_cells(work),
        digests=kind.digests(profiles.profiles_of(work), profile_items),
    )


def _beside(bench: BenchSpec) -> tuple[str, ...]:
    """Tables that cells are held beside each other by."""
    return ("profile_items", "profile_values", "profile_arms", "profile_changes") if bench.profiles else ()


def _beside_each_other(
    work: Work, found: Mapping[str, pl.DataFrame], pairs: list[tuple[str, str, str]]
) -> pl.DataFrame:
    """Cells beside each other: model, method, and the method that it is held against."""
    items = found["profile_items"]
    return contrasts.contrasts_of(
        found["profile_values"],
        found["profile_arms"],
        found["profile_changes"],
        items,
        pairs,
        digests=kind.digests(profiles.profiles_of(work), items),
        seed=work.bench.seed,
    )


@table(
    ProfileContrasts,
    version=contrasts.VERSION,
    spec=lambda work: [
        work.bench.seed,
        held_against(work.bench, work.here.method.name),
        _asked(work),
    ],
    applies=profiles.profiled,
    grid=True,
    fan_in={"profile_values": "controls", "profile_arms": "controls", "profile_changes": "controls"},
    also=_beside,
)
def profile_contrasts(work: Work, **found: pl.DataFrame) -> pl.DataFrame:
    """The cell beside the controls that were asked for the same: what they differ in apart from the request."""
    here = work.here
    against = held_against(work.bench, here.method.name)
    return _beside_each_other(work, found, [(here.model.name, here.method.name, other) for other in against])


@table(
    ProfileContrasts,
    names=("profile_pairs",),
    version=contrasts.VERSION,
    spec=lambda work: [
        work.bench.seed,
        [c.key for c in valid_cells(work.bench)],
        _asked(work),
    ],
    applies=lambda work: bool(work.bench.profiles),
    fan_in={"profile_values": "grid", "profile_arms": "grid", "profile_changes": "grid"},
    also=_beside,
)
def profile_pairs(work: Work, leaderboard: pl.DataFrame, **found: pl.DataFrame) -> pl.DataFrame:
    """The best cells of each model beside each other, asked for the same."""
    steered = found["profile_arms"].filter(pl.col("role") == "request").select("model", "method").unique()
    ranked = leaderboard.join(steered, on=["model", "method"], how="semi").sort("rank", "method")
    pairs = [
        (str(model), one, other)
        for (model,), own in ranked.group_by("model", maintain_order=True)
        for one, other in combinations(own["method"].unique(maintain_order=True).head(contrasts.MOST), 2)
    ]
    return _beside_each_other(work, found, sorted(pairs))


@table(
    ProfileSynergy,
    version=synergy.VERSION,
    spec=lambda work: work.bench.seed,
    applies=lambda work: profiles.profiled(work) and bool(work.bench.profiled.pairs),
    grid=True,
)
def profile_synergy(
    work: Work, profile_values: pl.DataFrame, profile_items: pl.DataFrame, profile_arms: pl.DataFrame
) -> pl.DataFrame:
    """What two behaviors' vectors do at once beyond the sum of what each does alone."""
    return synergy.synergy_of(profile_values, profile_items, profile_arms, seed=work.bench.seed)
