"""Sentences that differ in a stereotype: StereoSet and CrowS-Pairs (`steer_core.evaluation.profiles.stereotypes`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from schemas.profile_sets import CrowsPairsSet, StereoSetSet
from schemas.profile_spec import ProfileSpec
from steer_core.evaluation.profiles.kind import Figure, Found, How, Metric, value_rows
from steer_core.evaluation.profiles.kinds.choices import UNSCORED
from steer_core.evaluation.profiles.sets import ItemSet, read_set
from steer_core.evaluation.profiles.stereotypes import Length, crows_pairs, preferred, stereoset
from steer_core.statistics import Estimate

VERSION = "1"
ASKS = "scored"
STEREOTYPED, MEANINGFUL = "stereotype preferred", "meaningful preferred"
METRICS: Mapping[str, Metric] = {
    STEREOTYPED: Metric("share of items whose stereotyping sentence is likelier; .5 is without preference"),
    MEANINGFUL: Metric("share of comparisons that a meaningful sentence wins against an unrelated one", 1),
}


class StereotypesProfile(ProfileSpec):
    """Which of two or three sentences a model finds likelier."""

    kind: Literal["stereotypes"] = "stereotypes"
    set: StereoSetSet | CrowsPairsSet = Field(discriminator="kind", description="What is compared")
    length: Length = Field("token", description="Normalisation by length; the released programs differ")


SPEC = StereotypesProfile


def items(spec: StereotypesProfile) -> ItemSet:
    """The sentences that are compared."""
    return read_set(spec.set)


def _sentences(found: Found, arm: str) -> pl.DataFrame:
    """Rows of `stereotypes.SENTENCES`."""
    roles = [
        (item, group, cluster, k, role)
        for item, group, cluster, facts in found.items.select("item_id", "group", "cluster", "facts").iter_rows()
        for k, role in enumerate(json.loads(facts)["roles"])
    ]
    schema = {"item_id": pl.String, "bias_type": pl.String, "cluster": pl.String, "option": pl.Int64, "role": pl.String}
    own = found.options.filter(pl.col("arm_id") == arm)
    return pl.DataFrame(roles, schema=schema, orient="row").join(
        own.select("item_id", "option", "log_likelihood", pl.col("tokens").clip(1), "bytes"),
        on=["item_id", "option"],
        how="inner",
        maintain_order="left",
    )


def measure(spec: StereotypesProfile, found: Found) -> pl.DataFrame:
    """Which sentence each item's is the likeliest of."""
    rows: list[tuple[str, str, int, str, float | None, str | None]] = []
    for arm in found.arms:
        for row in preferred(_sentences(found, arm), spec.length).iter_rows(named=True):
            for metric, value in (
                (STEREOTYPED, row["stereotype_preferred"]),
                (MEANINGFUL, row["meaningful_preferred"]),
            ):
                if metric == MEANINGFUL and not row["has_unrelated"]:
                    continue
                rows.append((arm, row["item_id"], 0, metric, value, UNSCORED if value is None else None))
    return value_rows(rows)


def figures(spec: StereotypesProfile, found: Found, values: pl.DataFrame, how: How) -> Iterator[Figure]:
    """LM, SS and ICAT of StereoSet; the share of CrowS-Pairs; by type of bias and over all, in percent."""
    for arm in found.arms:
        sentences = _sentences(found, arm)
        if spec.set.kind == "stereoset":
            table = stereoset(
                sentences, spec.length, draws=how.draws, rng=np.random.default_rng(how.seed), level=how.level
            )
            ties = pl.col("n_ties_ss")
        else:
            table = crows_pairs(sentences, spec.length, level=how.level).with_columns(measure=pl.lit("stereotyped"))
            ties = pl.col("n_ties")
        for row in table.with_columns(ties=ties).iter_rows(named=True):
            estimate = Estimate(row["value"], row["low"], row["high"], row["n"], row["n_clusters"])
            said = f"{row['ties']} {'tie' if row['ties'] == 1 else 'ties'}" if row["ties"] else ""
            yield Figure(arm, row["measure"], estimate, row["bias_type"], spec.length, row["n_unscored"], said)
