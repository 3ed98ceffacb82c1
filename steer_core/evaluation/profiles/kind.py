"""What a kind of profile is: what it asks, what it reads off what came back, and what that comes to.

A kind is a module of the group `profiles`, with

* `SPEC`: its settings, a subclass of `ProfileSpec`;
* `items(spec)`: what is asked, an `ItemSet` of a frame with columns `ITEMS`;
* `measure(spec, found)`: rows of `VALUES`, one a metric of an item in an arm;
* `figures(spec, found, values, how)`: what it comes to, `Figure`s of each arm;
* `METRICS`: metric -> `Metric`; those without an entry are told without a word on which way is better;
* `decoding(spec)`: how answers are drawn, where some are written; `samples(spec)`: how many an item;
* `ASKS`: `written`, `scored` or `encoded`; or `own`: in place of `items`, `measure` and `figures` it has
  `ask(spec, arms, run)`, which gives rows of `VALUES` and of `profile_figures`;
* `VERSION`, bumped when the same answers give other values or figures;
* optionally `shown(spec, row)`: whether a page shows this row of `profile_figures` at once, or only when asked;
* optionally `bare(spec)`: whether options are also scored with nothing before them, and `follows(spec)`: what values
  follow from besides: scorers, files;
* optionally `reads(spec)`: models that read what was written, `embed` (sentence vectors) or `log_probs`, each with its
  name in `models.yaml`, None for the cell's own; with it `read(spec, found, resources)`, which gives rows of
  `profile_readings` less the profile, and is asked once; they are in `found.readings`;
* optionally `CHOSEN_BY`: the metric by which the best of several strengths is chosen on half of the items;
* optionally `JUDGED = True`, where written answers are judged: its settings have `judge`, a `RaterSpec`, and there are
  `panel(spec, backend, model, seed)`: rating -> `Judge`, `cases(spec, found)`: rating -> the cases that are put to it,
  and `known(spec)`: rating -> cases of known truth. What they say is in `found.verdicts` and `found.judges`.

Nothing outside a kind's file knows the kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from schemas.digest import digest_json
from schemas.profile_spec import BudgetSpec, ProfileSpec, RaterSpec
from schemas.profiles import (
    OptionScores,
    ProfileFigures,
    ProfileItems,
    ProfileJudges,
    ProfileReadings,
    ProfileValues,
    ProfileVectors,
)
from schemas.sweeps import ArmAnswers, Judgements
from steer_core import extensions
from steer_core.statistics import Estimate
from steer_core.tables.errors import ConfigError

#: Bumped when the same answers give other tables, whatever the kind.
VERSION = "2"
#: Group of the figures over all items.
ALL = "all"
#: Metric of items that could be answered in no setting.
ANSWERED = "answered"
#: What a kind's `items` gives: contract `profile_items` less what the kind does not know.
ITEMS = {n: t for n, t in ProfileItems.dtypes().items() if n not in ("profile", "form")}
#: What its `measure` gives.
VALUES = {n: t for n, t in ProfileValues.dtypes().items() if n != "profile"}


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Attributes:
        words: what it is, in words for a page.
        better: 1 where more is better, -1 where less is, 0 where that is nobody's business.
        capability: whether what it loses is what the model can do less well: budgets are held against it.
    """

    words: str
    better: int = 0
    capability: bool = False


@dataclass(frozen=True)
class How:
    """How figures are made: draws of resamples, their seed, and the coverage asked of intervals."""

    draws: int = 1000
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True)
class Found:
    """What came back from the items of one profile, in all arms.

    Attributes:
        items: rows of `profile_items`.
        answers: rows of `arm_answers` to those that are written.
        options: rows of `option_scores` of those that are scored.
        vectors: rows of `profile_vectors` of those that are encoded.
        verdicts: rows of `judgements` on the answers, where they are judged.
        judges: rows of `profile_judges`: who judged, and what that is worth.
        readings: rows of `profile_readings`: what models make of the answers' texts.
    """

    items: pl.DataFrame
    answers: pl.DataFrame = field(default_factory=ArmAnswers.empty)
    options: pl.DataFrame = field(default_factory=OptionScores.empty)
    vectors: pl.DataFrame = field(default_factory=ProfileVectors.empty)
    verdicts: pl.DataFrame = field(default_factory=Judgements.empty)
    judges: pl.DataFrame = field(default_factory=ProfileJudges.empty)
    readings: pl.DataFrame = field(default_factory=ProfileReadings.empty)

    @classmethod
    def of(cls, profile: str, items: pl.DataFrame, **tables: pl.DataFrame) -> Found:
        """Those rows of tables that are of a profile."""
        own = items.filter(pl.col("profile") == profile)
        found = {
            name: rows.join(own.select("item_id"), on="item_id", how="semi")
            if "item_id" in rows.columns
            else rows.filter(pl.col("profile") == profile)
            for name, rows in tables.items()
        }
        return cls(own, **found)

    @property
    def arms(self) -> list[str]:
        """Ids of the arms that anything came back from, in order of first appearance."""
        ids = [rows["arm_id"] for rows in (self.answers, self.options, self.vectors)]
        return pl.concat(ids).unique(maintain_order=True).to_list()


@dataclass(frozen=True)
class Figure:
    """A row of `profile_figures`, less its profile."""

    arm_id: str
    metric: str
    estimate: Estimate
    group: str = ALL
    setting: str = ""
    left_out: int = 0
    why: str = ""


def profiles_asking(profiles: Iterable[ProfileSpec], form: str) -> list[ProfileSpec]:
    """Those profiles that ask for that: `written` answers, `scored` options, `encoded` texts, or their `own`."""
    return [spec for spec in profiles if form == load_kind(spec).ASKS]


def bare(spec: ProfileSpec) -> bool:
    """Whether the options of a profile are also scored with nothing before them."""
    own = getattr(load_kind(spec), "bare", None)
    return bool(own(spec)) if own is not None else False


def reads(spec: ProfileSpec) -> Mapping[str, str | None]:
    """Models that read the answers to a profile: `embed`, `log_probs` -> name, None for the cell's own."""
    own = getattr(load_kind(spec), "reads", None)
    return own(spec) if own is not None else {}


def rater_of(spec: ProfileSpec) -> RaterSpec | None:
    """Who judges the answers to a profile; None where nobody does."""
    if not getattr(load_kind(spec), "JUDGED", False):
        return None
    rater: RaterSpec = spec.judge  # type: ignore[attr-defined]  # the protocol of kinds that are judged
    return rater


def load_kind(spec: ProfileSpec) -> ModuleType:
    """The module of a profile's kind.

    Raises:
        ConfigError: there is none.
    """
    return extensions.load("profiles", spec.kind, what="kind of profile")


def figures_table(profile: str, figures: Iterable[Figure]) -> pl.DataFrame:
    """Rows of `profile_figures`."""
    rows = []
    for f in figures:
        e = f.estimate
        head = (f.arm_id, profile, f.group, f.metric, f.setting)
        rows.append((*head, e.value, e.low, e.high, e.n, e.n_clusters, f.left_out, f.why))
    return pl.DataFrame(rows, schema=ProfileFigures.dtypes(), orient="row")


def value_rows(rows: Iterable[tuple[str, str, int, str, float | None, str | None]]) -> pl.DataFrame:
    """Rows of `VALUES` from tuples in the order of its columns."""
    return pl.DataFrame(list(rows), schema=VALUES, orient="row")


def with_refused(values: pl.DataFrame, found: Found, refusals: pl.DataFrame) -> pl.DataFrame:
    """Values of a profile, and those that settings lack since the engine refused them: missing, with what it said.

    Args:
        values: rows of `VALUES`.
        found: what came back.
        refusals: rows of `profile_refusals` of this profile.

    Returns:
        With a row for each value that the other settings have; one an item where none has any.
    """
    if not refusals.height:
        return values
    known = values.select("item_id", "sample_index", "metric").unique(maintain_order=True)
    if not known.height:
        known = found.items.select("item_id", sample_index=pl.lit(0, pl.Int64), metric=pl.lit(ANSWERED))
    lacking = refusals.select("arm_id", missing="why").join(known, how="cross", maintain_order="left_right")
    return pl.concat([values, lacking.with_columns(value=pl.lit(None, pl.Float64)).select(list(VALUES))])


def metrics_of(spec: ProfileSpec) -> Mapping[str, Metric]:
    """What the metrics of a profile are."""
    known: Mapping[str, Metric] = getattr(load_kind(spec), "METRICS", {})
    return known


def shown(spec: ProfileSpec, row: Mapping[str, Any]) -> bool:
    """Whether a page shows a row of `profile_figures` at once; by default those over all items."""
    own = getattr(load_kind(spec), "shown", None)
    return bool(own(spec, row)) if own is not None else row["group"] == ALL


def capability_of(spec: ProfileSpec) -> str | None:
    """The metric of a profile that is a capability; None where it has none."""
    return next((name for name, metric in metrics_of(spec).items() if metric.capability), None)


def capability_of_bench(
    profiles: Mapping[str, ProfileSpec], budget: BudgetSpec | None = None
) -> tuple[str, str, int] | None:
    """Profile, metric and which way is better of the capability that costs are counted in.

    The budget's, where there is one; else that of the first profile that has one; None where none has.

    Raises:
        ConfigError: nobody says which way is better for the budget's metric.
    """
    if budget is not None:
        spec = profiles[budget.profile]
        if (metric := budget.metric or capability_of(spec)) is None:
            return None
        known = metrics_of(spec).get(metric)
        better = budget.better or (known.better if known is not None else 0)
        if not better:
            raise ConfigError(
                f"profiled.budget: nothing says whether more of {metric!r} is better or less: give `better: 1` or `-1`"
            )
        return budget.profile, metric, better
    for name, spec in profiles.items():
        if (metric := capability_of(spec)) is not None:
            return name, metric, metrics_of(spec)[metric].better
    return None


def follows(spec: ProfileSpec) -> list[Any]:
    """What the items and values of a profile follow from, besides what came back: settings, code, files."""
    kind = load_kind(spec)
    own = getattr(kind, "follows", None)
    path = getattr(getattr(spec, "set", None), "path", None)
    found = [spec.spec_hash, kind.VERSION, own(spec) if own is not None else None]
    return found if path is None else [*found, digest_of_files(path)]


def digests(specs: Iterable[ProfileSpec], items: pl.DataFrame) -> dict[str, str]:
    """Profile -> what tells whether it was edited: all that its values follow from, and its items.

    Args:
        specs: profiles.
        items: rows of `profile_items` of all.
    """
    asked = dict(items.group_by("profile").agg(pl.col("item_id").sort()).iter_rows())
    return {spec.name: digest_json([follows(spec), asked.get(spec.name, [])]) for spec in specs}


def digest_of_files(place: str) -> str:
    """Digest of a local file, or of the files below a folder; empty for what is not here: reading it will say so."""
    root = Path(place)
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root] if root.is_file() else []
    if not files:
        return ""
    return digest_json([[str(p.relative_to(root)), hashlib.sha256(p.read_bytes()).hexdigest()] for p in files])
