"""What the page says of each behavior: the sentences, the findings, what is missing, and its figures and examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from steer_core.evaluation.behaviors.side_effects import JUDGED
from steer_core.reports.caveats import sweep_caveats
from steer_core.reports.drawing import Figure
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import number, p_value, percent, plural, signed, slug_words
from steer_core.reports.sweep_costs import costs_figure, frontier_figure
from steer_core.reports.sweep_examples import SweepExample, sweep_examples
from steer_core.reports.sweep_headline import sentences
from steer_core.reports.sweep_plots import propensity_figure, settings_figure, strength_figure
from steer_core.reports.sweeps import (
    Sweep,
    layer_words,
    measure_words,
    position_words,
    strength_words,
    sweeps,
    unit_words,
)

#: Finding without its end -> what it says.
_FINDINGS = {
    "effect": "effect, difference to unsteered",
    "slope": "change for 1 of strength",
    "spearman": "rank correlation with strength",
    "anti_steerable": "share of items that move against the vector",
    "p_random": "rank p among random directions of equal size",
    "p_shuffled": "rank p among vectors of shuffled labels",
    "ratio": "over unsteered, geometric mean",
    "entanglement": "effect on another behavior",
    "selectivity": "share of all movement that is the behavior itself",
}
_ENDS = {"_low": "lowest strength", "_high": "highest strength"}


@dataclass(frozen=True)
class FindingRow:
    """A row of `sweep_findings` in words."""

    measure: str
    group: str
    finding: str
    end: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    detail: str
    percent: bool


@dataclass(frozen=True)
class SweepSection:
    """One behavior on the page.

    Attributes:
        sweep: what it is about.
        description: of the behavior, in the words of the registry.
        sentences: the first is the headline.
        caveats: what is known against them.
        setting: layers, site, positions and number of strengths, in words.
        controls: which controls stand beside it, and which do not.
        missing: what has no verdict.
        findings: of the headline's measure.
        more_findings: of the other measures and sets of items at the main setting.
        n_elsewhere: findings of other settings, which are in the tables only.
        figures: names of its figures: strength, propensity, costs, frontier, settings; absent where nothing was swept.
        examples: answers to read.
        examples_note: why there are none, or what they lack.
    """

    sweep: Sweep
    description: str
    sentences: tuple[str, ...]
    caveats: tuple[str, ...]
    setting: str
    controls: tuple[str, ...]
    missing: tuple[str, ...]
    findings: tuple[FindingRow, ...]
    more_findings: tuple[FindingRow, ...]
    n_elsewhere: int
    figures: tuple[str, ...]
    examples: tuple[SweepExample, ...]
    examples_note: str


def sweep_sections(tables: CellTables) -> tuple[tuple[SweepSection, ...], tuple[Figure, ...]]:
    """The behaviors of a cell with their figures; both empty where nothing was swept."""
    sections: list[SweepSection] = []
    figures: list[Figure] = []
    for sweep in sweeps(tables):
        drawn = _figures(sweep)
        shown, note = sweep_examples(tables, sweep)
        own, other = _findings(sweep)
        sections.append(
            SweepSection(
                sweep=sweep,
                description=sweep.spec.description if sweep.spec else "",
                sentences=sentences(sweep),
                caveats=sweep_caveats(tables, sweep),
                setting=_setting(sweep),
                controls=_controls(sweep),
                missing=_missing(tables, sweep),
                findings=own,
                more_findings=other,
                n_elsewhere=sweep.findings.height - sweep.main_findings.height,
                figures=tuple(figure.name for figure in drawn),
                examples=shown,
                examples_note=note,
            )
        )
        figures += drawn
    return tuple(sections), tuple(figures)


def _figures(sweep: Sweep) -> Sequence[Figure]:
    if sweep.measure is None or sweep.layers is None:
        return ()
    drawn = [strength_figure(sweep), propensity_figure(sweep), costs_figure(sweep), frontier_figure(sweep)]
    return (*drawn, settings_figure(sweep))


def _setting(sweep: Sweep) -> str:
    if sweep.layers is None:
        return ""
    strengths = sweep.arms.filter(pl.col("main"))["strength"].n_unique()
    items = sweep.unsteered(sweep.measure or JUDGED)
    words = [layer_words(sweep.layers), f"site {sweep.site}", position_words(sweep.positions)]
    unit = unit_words(sweep.unit).removeprefix("strength ")
    words.append(f"{plural(strengths, 'strength')} {unit}")
    words += [plural(items["n_clusters"], "item")] if items else []
    return " · ".join(words)


def _controls(sweep: Sweep) -> tuple[str, ...]:
    """Controls by name; a missing one is said, with what cannot be known without it."""
    seeds = dict(sweep.arms.group_by("role").agg(pl.col("seed").n_unique()).iter_rows())
    said = []
    if "off" not in seeds:
        said.append("The unsteered arm is missing: nothing can be compared.")
    if seeds.get("random"):
        said.append(f"{plural(seeds['random'], 'random direction')} of equal size.")
    else:
        said.append("No random direction.")
    if seeds.get("shuffled"):
        said.append(f"{plural(seeds['shuffled'], 'vector')} fitted on shuffled labels.")
    else:
        said.append("No vector was fitted on shuffled labels: what the fit makes of noise is not known.")
    n_prompts = sweep.arms.filter(pl.col("role") == "prompt").height
    said.append(
        f"{plural(n_prompts, 'system prompt')} in place of the vector."
        if n_prompts
        else "No system prompt was run in place of the vector: how it compares with asking is not known."
    )
    unmeasured = sweep.arms.height - sweep.summary["arm_id"].n_unique()
    if unmeasured:
        said.append(f"{plural(unmeasured, 'planned arm')} without any measure.")
    return tuple(said)


def _missing(tables: CellTables, sweep: Sweep) -> tuple[str, ...]:
    said = []
    measure = sweep.measure
    if measure is not None:
        rows = sweep.summary.filter(pl.col("measure") == measure, pl.col("group") == sweep.group)
        worst = rows.sort("missing", descending=True).row(0, named=True)
        words = measure_words(measure)
        if worst["missing"] == 0:
            said.append(f"Every {'answer has a verdict' if measure == JUDGED else f'item has its {words}'}.")
        else:
            mean = float(rows["missing"].to_numpy().mean())
            where = _arm_words(sweep, worst)
            said.append(
                f"{words.capitalize()} missing in {percent(mean, 1)} of the rows, at most in "
                f"{percent(worst['missing'], 1)} ({where}); means leave them out."
            )
    return (*said, *_unfinished(sweep), *_verdicts(tables, sweep))


def _unfinished(sweep: Sweep) -> list[str]:
    """Answers that were cut off or are none: of the vector's arms, and unsteered."""
    said = []
    for measure, words in (("truncated", "cut off at the token limit"), ("failed", "are no answer (empty, no room)")):
        means = sweep.curve(measure)["mean"].drop_nulls()
        off = sweep.unsteered(measure)
        if len(means) and (means.max() or (off and off["mean"])):
            base = f", {percent(off['mean'])} unsteered" if off else ""
            said.append(f"{percent(float(means.to_numpy().mean()))} of the vector's answers {words}{base}.")
    return said


def _arm_words(sweep: Sweep, row: dict[str, Any]) -> str:
    if row["role"] == "off":
        return "unsteered"
    if row["role"] == "prompt":
        return sweep.prompt_label(row)
    kind = {"random": "a random direction", "shuffled": "shuffled labels"}.get(row["role"], layer_words(row["layers"]))
    return f"{kind} at {strength_words(row['strength'], row['unit'])}"


def _verdicts(tables: CellTables, sweep: Sweep) -> list[str]:
    """A line for each rubric that the behavior's items were judged by: verdicts, and why some are missing."""
    judgements, items = filled(tables.judgements), filled(tables.behavior_items)
    if judgements is None or items is None:
        return []
    own = items.filter(pl.col("behavior") == sweep.behavior)
    counts = (
        judgements.join(own.select("item_id"), on="item_id", how="semi")
        .group_by("rubric", "judge_id", "method")
        .agg(n=pl.len(), **{s: (pl.col("state") == s).sum() for s in ("unparsed", "no_answer")})
        .sort("rubric", "judge_id")
    )
    said = []
    for row in counts.iter_rows(named=True):
        how = {"ground_truth": "read from the words", "text": "judged in words", "expected": "judged by probabilities"}
        rest = [f"{row['unparsed']:,} not parsed"] if row["unparsed"] else []
        rest += [f"{row['no_answer']:,} with nothing to judge"] if row["no_answer"] else []
        lost = f": {' and '.join(rest)}" if rest else ", all of them readable"
        said.append(
            f"{plural(row['n'], 'verdict')} by rubric {row['rubric']}, judge {row['judge_id'][:8]}, "
            f"{how.get(row['method'], row['method'])}{lost}."
        )
    return said


def _findings(sweep: Sweep) -> tuple[tuple[FindingRow, ...], tuple[FindingRow, ...]]:
    own: list[FindingRow] = []
    other: list[FindingRow] = []
    for row in sweep.main_findings.iter_rows(named=True):
        end = next((e for e in _ENDS if row["finding"].endswith(e)), "")
        name = row["finding"].removesuffix(end) if end else row["finding"]
        shown = FindingRow(
            measure=measure_words(row["measure"]),
            group=row["group"],
            finding=_FINDINGS.get(name, slug_words(name)),
            end=_ENDS.get(end, ""),
            value=row["value"],
            low=row["low"],
            high=row["high"],
            n=row["n"],
            detail=row["detail"],
            percent=name in ("anti_steerable", "selectivity"),
        )
        (own if (row["measure"], row["group"]) == (sweep.measure, sweep.group) else other).append(shown)
    return tuple(own), tuple(other)


def sweep_figures(sections: Sequence[SweepSection]) -> dict[str, float]:
    """The effect at both ends by name, for an orchestrator to plot over time; undefined figures are absent."""
    found = {}
    for section in sections:
        for end in ("low", "high"):
            row = section.sweep.found(f"effect_{end}")
            if row is not None and row["value"] is not None:
                found[f"{section.sweep.behavior}_effect_{end}"] = float(row["value"])
    return found


def change(row: FindingRow) -> str:
    """The figure of a finding, as it is printed."""
    if row.percent:
        return percent(row.value)
    if row.finding.startswith("rank p"):
        return "–" if row.value is None else p_value(row.value)
    return signed(row.value) if "effect" in row.finding else number(row.value)
