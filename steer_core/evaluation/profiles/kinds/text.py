"""What a model's answers are like as texts: length, readability, diversity, repetition and so on (see `families`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from schemas.digest import digest_text
from schemas.profile_sets import PromptsSet
from schemas.profile_spec import ProfileSpec
from schemas.profiles import TextProfiles
from schemas.spec import EACH_ONCE, Slug
from schemas.specs import Decoding
from steer_core.evaluation.columns import to_array
from steer_core.evaluation.profiles.families.dependency import parser_version, spacy_parser
from steer_core.evaluation.profiles.family import Resources, load_families
from steer_core.evaluation.profiles.kind import Figure, Found, How, Metric, value_rows
from steer_core.evaluation.profiles.profile import VERSION as METRICS_VERSION
from steer_core.evaluation.profiles.profile import profile_texts
from steer_core.evaluation.profiles.sets import ItemSet, read_set
from steer_core.goals.errors import ScorerUnavailableError
from steer_core.statistics import clustered_mean, clustered_share

VERSION = f"2.{METRICS_VERSION}"
ASKS = "written"
#: Shares of answers that are none, or were cut off: told beside the rest, for what is left is another set of texts.
EMPTY, TRUNCATED = "empty", "truncated"
#: The cell's own model, as `perplexity`.
ITSELF = "itself"
#: Metrics of the family of perplexities that take no model.
TEXT_ALONE = frozenset(("word_entropy", "unigram_cross_entropy", "unigram_perplexity"))
#: What a page shows at once.
SHOWN = frozenset(
    (
        "n_words",
        "n_sentences",
        "flesch_kincaid_grade",
        "mtld",
        "distinct_2",
        "passed_quality_check",
        EMPTY,
        TRUNCATED,
        "first_order_coherence",
        "model_perplexity",
        "dependency_distance_mean",
    )
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
    encoder: Slug | None = Field(None, description="Model whose sentence vectors tell coherence; null: none")
    perplexity: Slug | None = Field(
        None, description="Model, unsteered, whose perplexity of the answers is told; `itself`: the cell's; null: none"
    )
    parser: str | None = Field(
        None, min_length=1, description="spaCy model that tells dependency distances; null: none"
    )
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


def reads(spec: TextProfile) -> dict[str, str | None]:
    """The models that coherence and perplexity take."""
    wanted: dict[str, str | None] = {} if spec.encoder is None else {"embed": spec.encoder}
    if spec.perplexity is not None:
        wanted["log_probs"] = None if spec.perplexity == ITSELF else spec.perplexity
    return wanted


def follows(spec: TextProfile) -> list[Any]:
    """The parser's version, where one is wanted."""
    return [] if spec.parser is None else [parser_version(spec.parser)]


def read(spec: TextProfile, found: Found, resources: Resources) -> pl.DataFrame:
    """What the models of the profile make of each distinct text."""
    families = {"embed": "coherence", "log_probs": "information"}
    wanted = [m for name in reads(spec) for m in _metrics_of(spec, families[name]) if m not in TEXT_ALONE]
    return profile_texts(_texts(found), wanted, resources=resources) if wanted else TextProfiles.empty()


def _metrics_of(spec: TextProfile, family: str) -> list[str]:
    """Metrics of a family that the profile asks for."""
    return [
        name for own, (_, names) in load_families(spec.metrics, Resources()).items() if own == family for name in names
    ]


def _texts(found: Found) -> pl.DataFrame:
    """Each distinct answer with its `text_id`."""
    texts = found.answers.select("text").unique(maintain_order=True)
    return texts.with_columns(text_id=pl.Series([digest_text(t) for t in texts["text"]], dtype=pl.String))


def measure(spec: TextProfile, found: Found) -> pl.DataFrame:
    """Every characteristic of every answer; each distinct text is read once."""
    texts = _texts(found)
    profile = profile_texts(texts, spec.metrics, resources=_parsing(spec))
    # what models made of a text stands in the place of what is missing without them
    read_by_models = found.readings.select("text_id", "metric", by_model="value", why="missing")
    profile = profile.join(
        read_by_models.with_columns(known=pl.lit(True)), on=["text_id", "metric"], how="left", maintain_order="left"
    ).select(
        "text_id",
        "metric",
        value=pl.when(pl.col("known")).then("by_model").otherwise("value"),
        missing=pl.when(pl.col("known")).then("why").otherwise("missing"),
    )
    keyed = texts.join(profile, on="text_id", how="inner", maintain_order="left")
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


def _parsing(spec: TextProfile) -> Resources:
    """The parser, where the profile names one; why there is none, where it is not installed."""
    if spec.parser is None:
        return Resources()
    try:
        return Resources(parse=spacy_parser(spec.parser))
    except ScorerUnavailableError as error:
        return Resources(refused={"parse": str(error)})
