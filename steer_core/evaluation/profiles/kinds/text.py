"""What a model's answers are like as texts: length, readability, diversity, repetition and so on (see `families`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from schemas.digest import digest_text
from schemas.profile_sets import PromptsSet
from schemas.profile_spec import ProfileSpec
from schemas.spec import EACH_ONCE
from schemas.specs import Decoding
from steer_core.evaluation.columns import to_array
from steer_core.evaluation.profiles.kind import Figure, Found, How, Metric, value_rows
from steer_core.evaluation.profiles.profile import VERSION as METRICS_VERSION
from steer_core.evaluation.profiles.profile import profile_texts
from steer_core.evaluation.profiles.sets import ItemSet, read_set
from steer_core.statistics import clustered_mean, clustered_share

VERSION = f"1.{METRICS_VERSION}"
ASKS = "written"
#: Shares of answers that are none, or were cut off: told beside the rest, for what is left is another set of texts.
EMPTY, TRUNCATED = "empty", "truncated"
#: What a page shows at once.
SHOWN = frozenset(
    ("n_words", "n_sentences", "flesch_kincaid_grade", "mtld", "distinct_2", "passed_quality_check", EMPTY, TRUNCATED)
)
METRICS: Mapping[str, Metric] = {
    EMPTY: Metric("share of answers without a word", -1),
    TRUNCATED: Metric("share of answers that were cut off", 0),
}


class TextProfile(ProfileSpec):
    """Characteristics of answers to prompts."""

    kind: Literal["text"] = "text"
    set: PromptsSet = Field(default_factory=lambda: PromptsSet.model_validate({}), description="What is asked")
    metrics: Annotated[tuple[str, ...] | None, EACH_ONCE] = Field(
        None, min_length=1, description="Metrics, or families of them; null: all"
    )
    samples: int = Field(1, gt=0, description="Answers a prompt")
    max_new_tokens: int = Field(128, gt=0, description="Length of an answer")
    temperature: float = Field(0.0, ge=0.0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="Nucleus: smallest set of tokens with this mass")


SPEC = TextProfile


def items(spec: TextProfile) -> ItemSet:
    """The prompts."""
    return read_set(spec.set)


def decoding(spec: TextProfile) -> Decoding:
    """How answers are drawn."""
    return Decoding(max_new_tokens=spec.max_new_tokens, temperature=spec.temperature, top_p=spec.top_p, min_p=0.0)


def samples(spec: TextProfile) -> int:
    """Answers a prompt."""
    return spec.samples


def measure(spec: TextProfile, found: Found) -> pl.DataFrame:
    """Every characteristic of every answer; each distinct text is read once."""
    texts = found.answers.select("text").unique(maintain_order=True)
    ids = pl.Series([digest_text(t) for t in texts["text"]], dtype=pl.String)
    profile = profile_texts(texts.with_columns(text_id=ids), spec.metrics)
    keyed = texts.with_columns(text_id=ids).join(profile, on="text_id", how="inner", maintain_order="left")
    keys = ["arm_id", "item_id", "sample_index"]
    measured = found.answers.select(*keys, "text").join(keyed, on="text", how="inner", maintain_order="left")
    form = [
        (*key, name, float(hit), None)
        for *key, failure in found.answers.select(*keys, "failure").iter_rows()
        for name, hit in ((EMPTY, failure in ("empty", "overlong", "filtered")), (TRUNCATED, failure == "truncated"))
    ]
    return pl.concat([value_rows(form), measured.select(*keys, "metric", "value", "missing")])


def figures(spec: TextProfile, found: Found, values: pl.DataFrame, how: How) -> Iterator[Figure]:
    """The mean of each metric, clustered as the prompts are."""
    yield from means(found, values, how)


def means(found: Found, values: pl.DataFrame, how: How, setting: str = "") -> Iterator[Figure]:
    """Means of item-level metrics in each arm, over all items; what is missing is left out and counted, with why."""
    clusters = found.items.select("item_id", "cluster")
    placed = values.join(clusters, on="item_id", how="inner", maintain_order="left")
    for (arm, metric), part in placed.group_by("arm_id", "metric", maintain_order=True):
        # of flags the interval is one that is never a point
        flags = part["value"].drop_nulls().is_in([0.0, 1.0]).all()
        mean = clustered_share if flags else clustered_mean
        estimate = mean(to_array(part["value"]), part["cluster"].to_numpy(), level=how.level)
        missing = part.filter(pl.col("value").is_null())
        why = (
            "; ".join(f"{n} {said}" for said, n in missing["missing"].value_counts(sort=True).rows())
            if (missing.height)
            else ""
        )
        yield Figure(str(arm), str(metric), estimate, setting=setting, left_out=missing.height, why=why)


def shown(spec: TextProfile, row: Mapping[str, Any]) -> bool:
    """A few characteristics of each family."""
    return row["metric"] in SHOWN
