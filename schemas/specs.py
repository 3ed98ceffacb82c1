"""Specs: what a user configures in `config/*.yaml`. Frozen, closed (unknown keys are errors), hashed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.behaviors import BehaviorSource as BehaviorSource
from schemas.behaviors import BehaviorSpec as BehaviorSpec
from schemas.behaviors import BipoBehavior as BipoBehavior
from schemas.behaviors import CaaBehavior as CaaBehavior
from schemas.behaviors import DescribedBehavior as DescribedBehavior
from schemas.behaviors import GrammarBehavior as GrammarBehavior
from schemas.behaviors import JudgeSpec as JudgeSpec
from schemas.behaviors import PairsBehavior as PairsBehavior
from schemas.digest import digest_json
from schemas.model_spec import ModelSpec as ModelSpec
from schemas.operations import WatchSpec, WeeklySpec
from schemas.parts import Part, PartSpec
from schemas.profile_spec import ProfiledSpec
from schemas.search_spec import SearchSpec
from schemas.spec import EACH_ONCE, Options, PartitionName, Slug, Spec, without_prose
from schemas.vector_part import PositionSelector


class GoalSpec(Spec):
    """A named measurement `text -> float`, and the words that a prompt uses for it."""

    name: Slug = Field(description="Goal name")
    scorer: Slug = Field(description="Module of `steer_core.goals.scorers`")
    options: Options = Field(default_factory=dict, description="Arguments of the scorer")
    unit: str = Field(description="Unit of the raw value")
    noun: str = Field(description="What is measured, in a prompt: `formality`")
    more: str = Field(description="Comparative for a higher value: `more formal`")
    less: str = Field(description="Comparative for a lower value: `more informal`")
    description: str = ""


class Decoding(Spec):
    """How a plan's answer is drawn. Temperature 0 is greedy."""

    max_new_tokens: int = Field(1024, gt=0, description="Most tokens to write")
    temperature: float = Field(0.0, ge=0.0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="Nucleus: smallest set of tokens with this mass")
    min_p: float = Field(0.0, ge=0.0, lt=1.0, description="Drop tokens below this share of the likeliest one")


class MethodSpec(Spec):
    """A steering method: a list of parts, so that combinations are methods too.

    At most one prompt part, which steps (without one the method asks for a plain rewrite); the others are applied to
    every plan that it makes, in order.
    """

    name: PartitionName = Field(description="Partition key and folder name")
    parts: tuple[Part, ...] = Field(min_length=1, description="Parts, applied in order")
    control: bool = Field(False, description="True for `copy` and `rewrite`: shown beside every method")
    description: str = ""

    @model_validator(mode="after")
    def _parts_go_together(self) -> MethodSpec:
        wrong = [
            said for k, part in enumerate(self.parts) for said in part.beside((*self.parts[:k], *self.parts[k + 1 :]))
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def labels(self) -> tuple[str, ...]:
        """A name for each part, its own within the method: its kind, numbered where a kind occurs again."""
        seen: dict[str, int] = {}
        found = []
        for part in self.parts:
            seen[part.kind] = seen.get(part.kind, 0) + 1
            found.append(part.kind if seen[part.kind] == 1 else f"{part.kind}-{seen[part.kind]}")
        return tuple(found)

    def of_kind(self, kind: str) -> tuple[PartSpec, ...]:
        """Parts of that kind, in order."""
        return tuple(p for p in self.parts if p.kind == kind)


class SweepSpec(Spec):
    """How behaviors are swept in each vector cell of a bench."""

    strengths: Annotated[tuple[float, ...] | None, EACH_ONCE] = Field(
        None, min_length=1, description="Null: those of the method's vector part"
    )
    layers: Annotated[tuple[int, ...], EACH_ONCE] = Field(
        (), description="Further single layers to sweep, at the ends of the strengths"
    )
    positions: Annotated[tuple[PositionSelector, ...], EACH_ONCE] = Field(
        (), description="Further position selectors to sweep"
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], EACH_ONCE] = Field(
        (), description="Further seeds, for estimators that draw"
    )
    midpoints: int = Field(0, ge=0, description="Times that midpoints are put between the strengths")
    exclude: tuple[Options, ...] = Field((), description="Settings left out: fields with the values to leave out")
    random_directions: int = Field(20, ge=0, description="Random directions of equal norm")
    shuffled: int = Field(2, ge=0, description="Vectors fitted on shuffled labels")
    examples: int = Field(
        0, ge=0, description="Training answers that a few-shot arm shows, as turns before the item's; 0: no such arm"
    )
    samples: int = Field(1, gt=0, description="Answers an open item")
    max_new_tokens: int = Field(64, gt=0, description="Length of an open answer")
    temperature: float = Field(0.0, ge=0.0, description="0 is greedy")


class GrammarSource(Spec):
    """Texts of the embedded model's grammar."""

    kind: Literal["grammar"] = "grammar"
    name: Slug = "grammar"
    n_texts: int = Field(gt=0)
    seed: int = Field(0, ge=0, description="Seed of whatever is drawn")


class _RowsSource(Spec):
    """What file and hub sources share: which column, which rows, how they are cut."""

    name: Slug
    column: str = Field(min_length=1, description="Column that holds the text")
    filters: Options = Field(default_factory=dict, description="Keep rows whose columns equal these values")
    sample: int | None = Field(None, gt=0, description="Draw this many rows (after filters), seeded")
    first: int | None = Field(None, gt=0, description="Keep the first rows (after everything else)")
    sentences: int | None = Field(None, gt=0, description="Cut each text into chunks of this many sentences")
    newline_ends_sentence: bool = Field(False, description="Treat a line break as the end of a sentence")
    blank: Literal["error", "drop"] = Field("error", description="What to do with rows whose text is null or blank")
    seed: int = Field(42, ge=0, description="Seed of whatever is drawn")

    @field_validator("filters")
    @classmethod
    def _a_filter_is_one_value(cls, filters: dict[str, Any]) -> dict[str, Any]:
        for column, value in filters.items():
            if value is None or isinstance(value, list | dict):
                raise ValueError(f"{column!r}: rows are kept that equal one value; got {value!r}")
        return filters


class FileSource(_RowsSource):
    """A local CSV, JSONL or Parquet file (any fsspec URL)."""

    kind: Literal["file"] = "file"
    path: str = Field(min_length=1, description="Path or fsspec URL; relative paths are relative to the config folder")
    format: Literal["csv", "jsonl", "parquet"] | None = Field(None, description="Null: by the file's ending")


class HubSource(_RowsSource):
    """A dataset of the Hugging Face hub (or a local dataset folder)."""

    kind: Literal["hub"] = "hub"
    dataset: str = Field(min_length=1, description="Hub id, or path of a local dataset folder")
    config: str | None = Field(None, description="Configuration name of the dataset")
    split: str = Field(description="Split")
    revision: str | None = Field(None, description="Commit or tag")


SourceSpec = Annotated[GrammarSource | FileSource | HubSource, Field(discriminator="kind")]


class CorpusSpec(Spec):
    """The seed corpus: sources, the window of words, and the split by text."""

    sources: tuple[SourceSpec, ...] = Field(min_length=1)
    min_words: int = Field(50, ge=1, description="Shorter texts are dropped")
    max_words: int = Field(2048, ge=1, description="Longer texts are dropped")
    deduplicate: bool = Field(True, description="Drop texts equal up to case and white space")
    test_share: float = Field(0.5, gt=0.0, lt=1.0, description="Share of the texts on the test side of the split")
    seed: int = Field(0, ge=0, description="Seed of the split by text")

    @model_validator(mode="after")
    def _some_text_can_be_in_it(self) -> CorpusSpec:
        names = [s.name for s in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"two sources of a corpus share a name: {', '.join(names)}")
        if self.min_words > self.max_words:
            raise ValueError(f"no text has at least {self.min_words} and at most {self.max_words} words")
        return self


class BoundsSpec(Spec):
    """Bounds of the goal space: percentiles of the corpus, or fixed numbers goal by goal."""

    lower_percentile: float = Field(2.5, ge=0.0, lt=100.0)
    upper_percentile: float = Field(97.5, gt=0.0, le=100.0)
    fixed: dict[str, tuple[float, float]] = Field(default_factory=dict, description="goal -> (lower, upper)")

    @field_validator("fixed")
    @classmethod
    def _fixed_bounds_have_width(cls, fixed: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for goal, (lower, upper) in fixed.items():
            if not lower < upper:
                raise ValueError(
                    f"fixed bounds of goal {goal!r} have no width: lower {lower} must be below upper {upper}"
                )
        return fixed

    @model_validator(mode="after")
    def _percentiles_have_width(self) -> BoundsSpec:
        if not self.lower_percentile < self.upper_percentile:
            raise ValueError(
                f"lower_percentile {self.lower_percentile:g} must be below upper_percentile {self.upper_percentile:g}"
            )
        return self


class ProbeSpec(Spec):
    """How a probe's requests are drawn."""

    name: Slug
    split: Literal["train", "test", "all"] = Field("test", description="Side of the split by text to draw from")
    n_texts: int = Field(gt=0, description="Source texts")
    n_goals_per_text: int = Field(gt=0, description="Requests per source text")
    active: int = Field(ge=0, description="Goals with a target, exactly; 0 asks for nothing")
    goals: Annotated[tuple[Slug, ...] | None, EACH_ONCE] = Field(
        None, description="Goals that may be active; null: all of the goal space"
    )
    dead_zone: float = Field(0.1, ge=0.0, lt=1.0, description="Smallest |delta| of an active goal")
    delta_min: float = Field(-0.7, ge=-1.0, le=0.0, description="Largest move down")
    delta_max: float = Field(0.7, ge=0.0, le=1.0, description="Largest move up")
    weighting: Literal["none", "linear", "nonlinear"] = Field("nonlinear", description="Density-ratio estimator")
    unit: Literal["text", "sentence"] = Field("text", description="`sentence` explodes the texts to sentences first")
    subset: Literal["correlated", "anti-correlated"] | None = Field(
        None, description="With 2 active goals: keep requests whose deltas have the same / opposite sign"
    )
    matched: Slug | None = Field(None, description="Use the same texts as this probe of the bench, with new targets")
    null_goals: Annotated[tuple[Slug, ...], EACH_ONCE] = Field(
        (), description="Goals always active with delta 0: leaving them is asked for"
    )
    seed: int = Field(42, ge=0, description="Seed of whatever is drawn")
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> ProbeSpec:
        if self.subset and self.active != 2:
            raise ValueError(f"probe {self.name!r}: subset {self.subset!r} needs active = 2, not {self.active}")
        if self.goals is not None and self.active > len(self.goals):
            raise ValueError(f"probe {self.name!r}: {self.active} active of only {len(self.goals)} goals")
        if self.dead_zone >= max(-self.delta_min, self.delta_max):
            raise ValueError(f"probe {self.name!r}: dead zone {self.dead_zone} leaves no room in the delta range")
        if self.goals is not None and set(self.goals) & set(self.null_goals):
            raise ValueError(f"probe {self.name!r}: a null goal cannot also be in `goals`")
        return self


class BenchSpec(Spec):
    """What cells are measured on: corpus, goal space, probes; and the models and methods that stand in it."""

    name: Slug
    corpus: CorpusSpec
    goals: Annotated[tuple[Slug, ...], EACH_ONCE] = Field(min_length=1, description="Axes of the goal space, in order")
    bounds: BoundsSpec = BoundsSpec.model_construct(lower_percentile=2.5, upper_percentile=97.5, fixed={})
    probes: tuple[ProbeSpec, ...] = Field(min_length=1, description="Probes; the first test probe is the headline")
    train_probe: Slug | None = Field(None, description="Probe of the training pool that methods are fitted on")
    models: Annotated[tuple[Slug, ...], EACH_ONCE] = Field(min_length=1)
    methods: Annotated[tuple[Slug, ...], EACH_ONCE] = Field(min_length=1)
    decoding: Decoding = Decoding.model_construct(max_new_tokens=1024, temperature=0.0, top_p=1.0, min_p=0.0)
    meaning_model: Slug | None = Field(
        None, description="Sentence encoder (a model of models.yaml) that also measures what a rewrite keeps"
    )
    validated_by: Slug | None = Field(
        None,
        description="Model (of models.yaml) that judges groundedness, and whether goals order texts as it does",
    )
    validated_against: Annotated[tuple[Slug, ...], EACH_ONCE] = Field(
        (), description="Methods of the bench with whose answers to the same requests that model compares each cell's"
    )
    behaviors: Annotated[tuple[Slug, ...], EACH_ONCE] = Field(
        (), description="Behaviors that vector methods are swept on"
    )
    sweep: SweepSpec = Field(default_factory=lambda: SweepSpec.model_validate({}), description="How they are swept")
    search: SearchSpec | None = Field(
        None, description="Search for the setting of each vector on each behavior; null: none"
    )
    detect: bool = Field(
        True, description="Whether cells with a vector also say how well each layer tells the behaviors' answers apart"
    )
    profiles: Annotated[tuple[Slug, ...], EACH_ONCE] = Field(
        (), description="Profiles (of profiles.yaml) that are taken of each cell, before and after steering"
    )
    profiled: ProfiledSpec = Field(
        default_factory=lambda: ProfiledSpec.model_validate({}), description="In which settings"
    )
    weekly: WeeklySpec = Field(
        default_factory=lambda: WeeklySpec.model_validate({}), description="When a schedule brings cells up to date"
    )
    watch: WatchSpec = Field(
        default_factory=lambda: WatchSpec.model_validate({}),
        description="Folders whose models and adapters stand on the bench beside those that are named",
    )
    seed: int = Field(0, ge=0, description="Seed of prompts and sampling")
    batch_size: int = Field(64, gt=0, description="Rows generated together; part of no id")
    permutations: int = Field(200, gt=0, description="Shuffles of the permuted-target control")
    bootstrap: int = Field(2000, gt=0, description="Bootstrap draws of every interval")
    description: str = ""

    @property
    def spec_hash(self) -> str:
        """Hash of the spec without what changes no number (`batch_size`, `weekly`) and what cells there are."""
        left_out = {"batch_size", "weekly", "models", "methods", "watch"}
        return digest_json(without_prose(self.model_dump(mode="json", exclude=left_out)))

    @property
    def test_probes(self) -> list[str]:
        """Names of the probes that cells are measured on: all but those of the training side."""
        return [p.name for p in self.probes if p.split != "train"]

    def probe(self, name: str) -> ProbeSpec:
        """The probe of that name.

        Raises:
            KeyError: the bench has no such probe; the message lists those it has.
        """
        for probe in self.probes:
            if probe.name == name:
                return probe
        raise KeyError(f"bench {self.name!r} has no probe {name!r}; it has {', '.join(p.name for p in self.probes)}")
