"""The report of one cell: a model under a method on a bench, on one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from steer_core.reports.arms_figure import arms_figure
from steer_core.reports.caveats import cell_caveats
from steer_core.reports.cell_plots import (
    distributions,
    headline_figure,
    meaning_figure,
    overshoot_figure,
    requested_vs_got,
    side_effects_figure,
)
from steer_core.reports.contrast import contrasts
from steer_core.reports.drawing import Figure, render
from steer_core.reports.examples import examples
from steer_core.reports.files import ReportFiles, bundle
from steer_core.reports.flow import flow_figure
from steer_core.reports.headline import Headline, headline, headline_figures
from steer_core.reports.inputs import CellTables, headline_probe, of_probe, scored_probes
from steer_core.reports.numbers import interval, number, percent, span
from steer_core.reports.page import Axis, page
from steer_core.reports.per_goal import per_goal_table
from steer_core.reports.sections import fitted_sections
from steer_core.reports.sweep_section import SweepSection, change, sweep_figures, sweep_sections

__all__ = ["CellTables", "build_cell_report"]


def build_cell_report(tables: CellTables) -> ReportFiles:
    """Builds a cell's page, stills and tables from its published tables. The same tables give the same bytes.

    The page is about the headline probe (`inputs.headline_probe`); other probes get one line each. A method
    whose parts were fitted or swept also gets sections on that; without their tables those are absent.

    Args:
        tables: the cell's tables, each in its contract.

    Returns:
        `report.html`, an SVG still for every figure that has something to draw, and a Parquet table for every figure.

    Raises:
        ValueError: nothing was scored, a goal has no spec, or a request lacks its outcome.
    """
    here = of_probe(tables, headline_probe(tables))
    head = headline(here)
    goals = per_goal_table(here)
    shown = examples(here)
    behaviors, swept = sweep_sections(here)
    fitted = fitted_sections(here, [section.sweep for section in behaviors])
    of_fitted = [figure for section in fitted for figure in section.figures]
    arms = arms_figure(here)
    drawn = (*_figures(here, head, goals), *([arms] if arms else []), *swept, *of_fitted)
    figures = {figure.name: render(figure) for figure in drawn}
    html = page(
        "cell.html.jinja",
        figures,
        tables=here,
        head=head,
        caveats=cell_caveats(here),
        goals=goals.to_dicts(),
        goal_axis=_shared_axis(goals),
        examples=shown,
        arms=arms,
        behaviors=behaviors,
        fitted=fitted,
        change=change,
        probes=here.probe_diagnostics.to_dicts(),
        others=[_one_line(of_probe(tables, name)) for name in scored_probes(tables) if name != here.probe],
        provenance=_provenance(here),
        space=[row | {"unit": here.goals[row["goal"]].unit} for row in here.goal_space.sort("position").to_dicts()],
    )
    return bundle(
        html,
        f"{tables.method} on {tables.model}, {tables.bench}",
        list(figures.values()),
        {"per_goal": ("Goal by goal", goals), **_sweep_tables(behaviors)},
        _preview(here, head, behaviors),
        headline_figures(head) | sweep_figures(behaviors),
    )


def _figures(tables: CellTables, head: Headline, goals: pl.DataFrame) -> Sequence[Figure]:
    return (
        headline_figure(tables, head),
        requested_vs_got(tables),
        side_effects_figure(tables),
        flow_figure(tables),
        distributions(tables),
        meaning_figure(tables),
        overshoot_figure(goals),
    )


def _sweep_tables(behaviors: Sequence[SweepSection]) -> dict[str, tuple[str, pl.DataFrame]]:
    return {
        f"findings_{section.sweep.behavior}": (f"{section.sweep.behavior}: findings", section.sweep.findings)
        for section in behaviors
    }


def _shared_axis(goals: pl.DataFrame) -> Axis:
    """One scale for errors and drifts of all goals, so that their tracks compare by eye."""
    columns = ("error", "error_high", "asked", "drift", "drift_high")
    ends = [value for name in columns for value in goals[name].drop_nulls()]
    return Axis(0.0, 1.08 * max([0.1, *ends]))


def _one_line(tables: CellTables) -> dict[str, object]:
    error, worst = interval(tables.summary, "error"), interval(tables.summary, "error", reading="worst")
    copy = next((c for c in contrasts(tables.comparisons) if (c.control, c.reading) == ("copy", "worst")), None)
    return {
        "probe": tables.probe,
        "complete": error.value if error else None,
        "error": worst.value if worst else None,
        "low": worst.low if worst else None,
        "high": worst.high if worst else None,
        "share_of_copy": copy.share if copy else None,
        "n_requests": tables.steerability.height,
        "n_texts": tables.steerability["text_id"].n_unique(),
    }


def _provenance(tables: CellTables) -> list[tuple[str, str]]:
    seeds = tables.responses["seed"].unique().sort().to_list()
    return [
        ("cell", tables.cell),
        ("bench", tables.bench),
        ("probe", tables.probe),
        ("goal space", ", ".join(tables.goal_space["goal_space_id"].unique().sort())),
        ("executed on", "; ".join(tables.responses["execution"].unique().sort()) or "nothing was executed"),
        ("seeds", _seed_range(seeds)),
        *sorted(tables.versions.items()),
    ]


def _seed_range(seeds: list[int]) -> str:
    if len(seeds) < 4:
        return ", ".join(map(str, seeds)) or "none"
    return f"{len(seeds):,} from {seeds[0]} to {seeds[-1]}"


def _preview(tables: CellTables, head: Headline, behaviors: Sequence[SweepSection]) -> str:
    lines = [f"**{head.sentences[0]}** {' '.join(head.sentences[1:])}".strip(), ""]
    lines += ["| | mean error | 95 % interval |", "|---|---|---|"]
    for name, one in (("failures at worst", head.error_worst), ("complete cases", head.error)):
        if one is not None:
            lines.append(f"| {name} | {number(one.value, 3)} | {span(one.low, one.high, 3)} |")
    for contrast in head.contrasts:
        if contrast.reading == "worst":
            lines.append(f"| control: {contrast.control} | {number(contrast.control_value, 3)} | |")
    lines += ["", f"{head.n_texts:,} texts, {head.n_requests:,} requests; {head.n_failed:,} failed, "]
    lines[-1] += f"{head.n_copied:,} copied ({percent(head.copied_share, 1)})."
    lines += [f"- {caveat}" for caveat in cell_caveats(tables)]
    lines += [f"- {remedy}" for remedy in head.remedies]
    if behaviors:
        lines += ["", *(f"- {' '.join([*section.sentences[:2], *section.caveats])}" for section in behaviors)]
    return "\n".join(lines)
