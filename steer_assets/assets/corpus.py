"""Seed corpus, its goal values, and the goal space."""

from __future__ import annotations

import polars as pl

from schemas import GoalSpaceTable, GoalValues, SeedCorpus
from steer_assets.measuring import measure_texts, scorer_ids
from steer_assets.tables import Work, table
from steer_core import corpus as core
from steer_core.goals import space


def _sources(work: Work) -> list[object]:
    spec = work.bench.corpus
    # a path is where a file lies, not what it says: its digest stands for it
    plain = spec.model_dump(mode="json")
    for source in plain["sources"]:
        source.pop("path", None)
    return [plain, core.source_digests(spec)]


@table(SeedCorpus, version=core.VERSION, spec=_sources)
def seed_corpus(work: Work) -> pl.DataFrame:
    """Texts that requests start from: configured sources, windowed, de-duplicated, split by text."""
    return core.build_corpus(work.bench.corpus)


@table(
    GoalValues,
    version=core.VERSION,
    spec=lambda work: [scorer_ids(work.bench), sorted({p.unit for p in work.bench.probes})],
)
def corpus_goal_values(work: Work, seed_corpus: pl.DataFrame) -> pl.DataFrame:
    """Every goal of the bench measured on every text that a probe may draw."""
    return measure_texts(work.bench, core.candidate_texts(seed_corpus, work.bench.probes))


@table(
    GoalSpaceTable,
    version=space.VERSION,
    spec=lambda work: [scorer_ids(work.bench), work.bench.bounds.model_dump(mode="json")],
)
def goal_space(work: Work, seed_corpus: pl.DataFrame, corpus_goal_values: pl.DataFrame) -> pl.DataFrame:
    """The goals with their bounds: the middle of the corpus, or as fixed. Its id decides what compares with what."""
    of_texts = corpus_goal_values.join(seed_corpus, on="text_id", how="semi")
    return space.fit_goal_space(of_texts, scorer_ids(work.bench), work.bench.bounds)
