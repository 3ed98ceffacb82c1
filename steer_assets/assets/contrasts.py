"""Contrast data of the bench's behaviors: what vectors are fitted on, what behaviors are tested with."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl

from schemas import BehaviorItems, ContrastExamples, DataIntegrity, PreferencePairs
from schemas.specs import BehaviorSpec
from steer_assets.assets.traits import described_of
from steer_assets.settings import registry
from steer_assets.tables import Science, Work, table
from steer_core.corpus import contrasts as core


def behaviors_of(work: Work) -> list[BehaviorSpec]:
    """The behaviors of the bench."""
    return [registry().behavior(name) for name in work.bench.behaviors]


def source_of(behavior: BehaviorSpec) -> list[Any]:
    """What a behavior's data follow from: its settings and the contents of its files."""
    digests = core.source_digests(behavior)
    # a path is where a file lies, not what it says: its digest stands for it
    return [behavior.name, {k: digests.get(str(v), v) for k, v in behavior.source.model_dump(mode="json").items()}]


def _sound(work: Work, frames: Any) -> tuple[bool, dict[str, Any]] | None:
    found = frames["data_integrity"]
    bad = found.filter(~pl.col("passed"))
    said = {f"{r['concept']}: {r['check']} ({r['source']})": r["detail"] for r in bad.iter_rows(named=True)}
    return bad.is_empty(), said


@table(
    ContrastExamples,
    PreferencePairs,
    BehaviorItems,
    DataIntegrity,
    version=core.VERSION,
    spec=lambda work: [source_of(b) for b in behaviors_of(work)],
    applies=lambda work: bool(work.bench.behaviors),
    also=lambda bench: ("trait_answers", "trait_filters") if described_of(bench) else (),
    science=(
        Science(
            "data_integrity",
            "Letters balanced, no cut answers, no duplicates, no test item among the training pairs",
            _sound,
            severity=dg.AssetCheckSeverity.WARN,
        ),
    ),
)
def behavior_contrasts(work: Work, **traits: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Contrast examples, preference pairs and test items of the bench's behaviors, with what is wrong in them."""
    described = {behavior.name for behavior, _ in described_of(work.bench)}

    def written(behavior: BehaviorSpec) -> core.Written | None:
        if behavior.name not in described:
            return None
        of_behavior = pl.col("behavior") == behavior.name
        return core.Written(*(traits[name].filter(of_behavior) for name in ("trait_answers", "trait_filters")))

    found = [core.build_contrasts(b, written(b)) for b in behaviors_of(work)]
    return (
        pl.concat([ContrastExamples.empty(), *(c.examples for c in found)]),
        pl.concat([PreferencePairs.empty(), *(c.preferences for c in found)]),
        pl.concat([BehaviorItems.empty(), *(c.items for c in found)]),
        pl.concat([DataIntegrity.empty(), *(c.integrity for c in found)]),
    )
