"""How toxic the worst of k continuations of a prompt is, by scorers that are named and versioned (`toxicity`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from schemas.digest import canonical_json
from schemas.profile_sets import PromptsSet
from schemas.profile_spec import ProfileSpec
from schemas.spec import Options, Slug, Spec
from schemas.specs import Decoding
from steer_core.evaluation.profiles.kind import Figure, Found, How, Metric, value_rows
from steer_core.evaluation.profiles.scorer import Scorer, load_scorer, score_answers, scorer_label
from steer_core.evaluation.profiles.sets import ItemSet, read_set
from steer_core.evaluation.profiles.toxicity import THRESHOLD, toxicity_curves
from steer_core.statistics import Estimate, expected_best

VERSION = "1"
ASKS = "written"
#: What of an attribute is told: of one answer, and of the worst of all k.
LARGEST = ", worst of {k}"


class ScorerSpec(Spec):
    """A scorer and its options."""

    name: Slug = Field("char-ngram", description="An extension of the group `scorers`")
    options: Options = Field(default_factory=dict, description="Arguments of its `build`")


class ToxicityProfile(ProfileSpec):
    """Toxicity of several continuations a prompt, every one of them kept."""

    kind: Literal["toxicity"] = "toxicity"
    set: PromptsSet = Field(
        default_factory=lambda: PromptsSet.model_validate({"shipped": "continuations"}), description="What is continued"
    )
    scorers: tuple[ScorerSpec, ...] = Field(
        default_factory=lambda: (ScorerSpec.model_validate({}),), min_length=1, description="Who scores"
    )
    samples: int = Field(25, gt=0, description="Continuations a prompt, k")
    threshold: float = Field(THRESHOLD, gt=0.0, le=1.0, description="Score from which a text counts as toxic")
    max_new_tokens: int = Field(20, gt=0, description="Length of a continuation")
    temperature: float = Field(1.0, gt=0.0, description="Of the sampling")
    top_p: float = Field(0.9, gt=0.0, le=1.0, description="Nucleus: smallest set of tokens with this mass")


SPEC = ToxicityProfile
METRICS: Mapping[str, Metric] = {}


def items(spec: ToxicityProfile) -> ItemSet:
    """The prompts."""
    return read_set(spec.set)


def decoding(spec: ToxicityProfile) -> Decoding:
    """How continuations are drawn."""
    return Decoding(max_new_tokens=spec.max_new_tokens, temperature=spec.temperature, top_p=spec.top_p, min_p=0.0)


def samples(spec: ToxicityProfile) -> int:
    """Continuations a prompt."""
    return spec.samples


def follows(spec: ToxicityProfile) -> list[Any]:
    """The scorers with their versions."""
    return [[s.name, s.version, list(s.attributes)] for s in _scorers(spec)]


def _scorers(spec: ToxicityProfile) -> list[Scorer]:
    return [_scorer(own.name, canonical_json(dict(own.options))) for own in spec.scorers]


@cache
def _scorer(name: str, options: str) -> Scorer:
    import json

    return load_scorer(name, **json.loads(options))


def _scores(spec: ToxicityProfile, found: Found, arm: str) -> pl.DataFrame:
    """Scores of the answers of an arm, rows of `toxicity.SCORES`: an answer that was filtered or empty has none."""
    clusters = found.items.select(pl.col("item_id").alias("prompt_id"), "cluster")
    own = found.answers.filter(pl.col("arm_id") == arm)
    answers = own.select(prompt_id="item_id", sample="sample_index", text="text").join(
        clusters, on="prompt_id", how="inner", maintain_order="left"
    )
    return pl.concat([score_answers(s, answers) for s in _scorers(spec)])


def measure(spec: ToxicityProfile, found: Found) -> pl.DataFrame:
    """The score of each continuation, and the worst of all of a prompt; each scorer and attribute by itself."""
    tables = []
    for arm in found.arms:
        scores = _scores(spec, found, arm)
        label = pl.format("{} ({} {})", "attribute", "scorer", "scorer_version")
        rows = scores.select(
            arm_id=pl.lit(arm),
            item_id="prompt_id",
            sample_index="sample",
            metric=label,
            value="score",
            missing="reason",
        )
        tables += [rows, value_rows(_worst(rows, spec.samples))]
    return pl.concat(tables) if tables else value_rows([])


def _worst(rows: pl.DataFrame, k: int) -> Iterator[tuple[str, str, int, str, float | None, str | None]]:
    for (arm, item, metric), part in rows.group_by("arm_id", "item_id", "metric", maintain_order=True):
        values = np.sort(part["value"].drop_nulls().to_numpy())[::-1]
        name = f"{metric}{LARGEST.format(k=k)}"
        if len(values) < k:
            yield str(arm), str(item), 0, name, None, f"{len(values)} of {k} continuations have a score"
        else:
            yield str(arm), str(item), 0, name, float(expected_best(values, k)[-1]), None


def figures(spec: ToxicityProfile, found: Found, values: pl.DataFrame, how: How) -> Iterator[Figure]:
    """EMT and probability of toxicity for every k, on complete cases and with missing scores at their worst."""
    tested = {scorer_label(s, a): s.tested for s in _scorers(spec) for a in s.attributes}
    for arm in found.arms:
        curves = toxicity_curves(_scores(spec, found, arm), threshold=spec.threshold, level=how.level)
        for row in curves.iter_rows(named=True):
            label = f"{row['attribute']} ({row['scorer']} {row['scorer_version']})"
            setting = f"k = {row['k']}, {row['reading']}"
            if row["measure"] == "probability":
                setting += f", from {row['threshold']:g} on"
            yield Figure(
                arm,
                f"{row['measure']}: {label}",
                Estimate(row["value"], row["low"], row["high"], row["n"], row["n_clusters"]),
                setting=setting,
                left_out=row["n_left_out"],
                why=tested.get(label, ""),
            )


def shown(spec: ToxicityProfile, row: Mapping[str, Any]) -> bool:
    """Toxicity of one continuation and of the worst of all, on complete cases."""
    k = row["setting"].split(",")[0]
    whole = row["metric"].split(": ")[-1].startswith("toxicity ")
    return whole and "complete" in row["setting"] and k in ("k = 1", f"k = {spec.samples}")
