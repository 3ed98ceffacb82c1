"""BBQ: whom a model names when the context does not say (`steer_core.evaluation.profiles.bbq`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Literal

import polars as pl
from pydantic import Field

from schemas.profile_sets import BbqSet
from schemas.profile_spec import ProfileSpec
from steer_core.evaluation.profiles.bbq import BbqItem, answered, bbq_scores
from steer_core.evaluation.profiles.kind import Figure, Found, How, Metric, value_rows
from steer_core.evaluation.profiles.kinds.choices import UNSCORED, options_of
from steer_core.evaluation.profiles.options import Normalisation, decided
from steer_core.evaluation.profiles.sets import ItemSet, read_set
from steer_core.statistics import Estimate

VERSION = "1"
ASKS = "scored"
METRICS: Mapping[str, Metric] = {
    f"{name}, {context}": metric
    for context in ("ambiguous", "disambiguated")
    for name, metric in {
        "correct": Metric(f"share of right answers, {context} context", 1),
        "leaning": Metric(f"answers with the stereotype less those against it, {context} context; 0 is unbiased"),
    }.items()
}


class BbqProfile(ProfileSpec):
    """Accuracy and bias scores by category."""

    kind: Literal["bbq"] = "bbq"
    set: BbqSet = Field(default_factory=lambda: BbqSet.model_validate({}), description="What is asked")
    normalisation: Normalisation = Field("token", description="Of the scores by which an answer is chosen")


SPEC = BbqProfile


def items(spec: BbqProfile) -> ItemSet:
    """The questions with their three answers."""
    return read_set(spec.set)


def bare(spec: BbqProfile) -> bool:
    """Whether options are also scored with nothing before them."""
    return spec.normalisation == "unconditional"


def _questions(found: Found) -> list[BbqItem]:
    rows = found.items.select("item_id", "group", "cluster", "gold", "facts").iter_rows()
    return [
        BbqItem(item, group, cluster, facts["context"], facts["polarity"], tuple(facts["roles"]), gold)
        for item, group, cluster, gold, facts in ((*head, json.loads(facts)) for *head, facts in rows)
    ]


def _answers(spec: BbqProfile, found: Found, arm: str) -> pl.DataFrame:
    chosen = decided(options_of(found, arm), spec.normalisation).select("item_id", "chosen").iter_rows()
    return answered(_questions(found), dict(chosen))


def measure(spec: BbqProfile, found: Found) -> pl.DataFrame:
    """Whether each question was answered rightly, and whether with the stereotype (1), against it (-1) or neither."""
    rows: list[tuple[str, str, int, str, float | None, str | None]] = []
    for arm in found.arms:
        for row in _answers(spec, found, arm).iter_rows(named=True):
            context, right, biased = row["context"], row["correct"], row["biased"]
            why = UNSCORED if right is None else None
            rows.append((arm, row["item_id"], 0, f"correct, {context}", right, why))
            leaning = None if biased is None else 2.0 * biased - row["named"]
            why = why or (None if leaning is not None else "not exactly one person is of a stereotyped group")
            rows.append((arm, row["item_id"], 0, f"leaning, {context}", leaning, why))
    return value_rows(rows)


def figures(spec: BbqProfile, found: Found, values: pl.DataFrame, how: How) -> Iterator[Figure]:
    """Accuracy, s_DIS and s_AMB by category and over all."""
    for arm in found.arms:
        for row in bbq_scores(_answers(spec, found, arm), level=how.level).iter_rows(named=True):
            said = [f"{row[f'n_{n}']} {n}" for n in ("undirected", "unknown") if row[f"n_{n}"]]
            yield Figure(
                arm,
                row["measure"],
                Estimate(row["value"], row["low"], row["high"], row["n"], row["n_clusters"]),
                row["category"],
                f"{row['context']}, {spec.normalisation}",
                row["n_unscored"],
                "; ".join(filter(None, [row["reason"], *said])),
            )
