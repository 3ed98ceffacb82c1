"""Pages that people read: one a cell, and the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import dagster as dg
import polars as pl

from schemas import Frontier, Leaderboard, Reports
from schemas.evaluation import HEADLINE
from steer_assets.assets.fits import fitted_tables, swept_part
from steer_assets.partitions import Cell, controls, held_against, valid_cells
from steer_assets.settings import explore_url, pages_url, registry
from steer_assets.tables import Work, table
from steer_core import evaluation, probes, reports
from steer_core.evaluation.costs import cost_unknown
from steer_core.evaluation.profiles import frontier as frontiers
from steer_core.evaluation.profiles import kind
from steer_core.generation.engines import cost_at_most
from steer_core.methods import driver
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import join, open_file, write_bytes
from steer_core.tables.snapshot import table_exists

PREVIEW = "preview.md"
#: Tables that the profiles of a page are made from.
PROFILE_TABLES = (
    "profile_items", "profile_arms", "profile_values", "profile_figures", "profile_changes", "profile_synergy",
    "profile_contrasts",
)  # fmt: skip
#: Tables of a search.
SEARCH_TABLES = ("trials", "search_results")


def _folder(name: str, cell: Cell | None) -> list[str]:
    return [name, f"model={cell.model.name}", f"method={cell.method.name}"] if cell else [name]


def _write(work: Work, name: str, files: reports.ReportFiles) -> pl.DataFrame:
    """All files of a report, each in one step; the manifest, published afterwards, vouches for them."""
    folder = work.url(*_folder(name, work.cell))
    for file, data in files.files.items():
        write_bytes(join(folder, file), data)
    write_bytes(join(folder, PREVIEW), files.preview_markdown.encode())
    return files.manifest


def _intact(name: str) -> Any:
    def intact(work: Work, frames: Mapping[str, pl.DataFrame]) -> bool:
        folder = work.url(*_folder(name, work.cell))
        (manifest,) = frames.values()
        return all(table_exists(join(folder, f)) for f in [*manifest["file"].to_list(), PREVIEW])

    return intact


def _said(name: str) -> Any:
    def said(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
        folder = work.url(*_folder(name, work.cell))
        (manifest,) = frames.values()
        page = join(folder, manifest.filter(pl.col("kind") == "page")["file"][0])
        with open_file(join(folder, PREVIEW)) as file:
            preview = file.read().decode()
        below = page.removeprefix(work.root.rstrip("/"))
        return {
            "page": dg.UrlMetadataValue(pages_url() + quote(below, safe="/=")),
            "explorer": dg.UrlMetadataValue(_explorer(work)),
            "file": dg.PathMetadataValue(page),
            "preview": dg.MarkdownMetadataValue(preview),
        }

    return said


def _explorer(work: Work) -> str:
    """Samples of the cell, or the leaderboard, in the explorer."""
    view = f"samples?{urlencode({'cell': work.cell.key})}" if work.cell else "board"
    return f"{explore_url()}/{quote(work.bench.name)}/{view}"


def _words(work: Work) -> list[Any]:
    goals = registry().goals_of(work.bench)
    behaviors = {n: b.model_dump(mode="json") for n, b in registry().behaviors_of(work.bench).items()}
    swept = behaviors if swept_part(work) is not None else None
    said = [work.here.method.description, swept, {n: g.model_dump(mode="json") for n, g in goals.items()}]
    if work.bench.profiles:
        specs = [s.model_dump(mode="json") for s in registry().profiles_of(work.bench).values()]
        said.append([specs, work.bench.profiled.model_dump(mode="json")])
    return said


@table(
    Reports,
    version=reports.VERSION,
    spec=_words,
    grid=True,
    kinds=("html",),
    fan_in={"steerability": "controls"},
    # a page without a sweep needs none of the bench's contrasts
    lenient=("behavior_items", "data_integrity"),
    metadata=_said("report"),
    intact=_intact("report"),
    also=lambda bench: (
        *fitted_tables(bench),
        *(PROFILE_TABLES if bench.profiles else ()),
        *(SEARCH_TABLES if bench.search is not None else ()),
    ),
)
def report(
    work: Work,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goal_space: pl.DataFrame,
    probe_diagnostics: pl.DataFrame,
    responses: pl.DataFrame,
    outcomes: pl.DataFrame,
    probe_arms: pl.DataFrame,
    steerability: pl.DataFrame,
    goal_movements: pl.DataFrame,
    steerability_summary: pl.DataFrame,
    comparisons: pl.DataFrame,
    side_effects: pl.DataFrame,
    sweep_arms: pl.DataFrame,
    sweep_responses: pl.DataFrame,
    arm_answers: pl.DataFrame,
    arm_scores: pl.DataFrame,
    judgements: pl.DataFrame,
    judge_calibration: pl.DataFrame,
    arm_summary: pl.DataFrame,
    sweep_findings: pl.DataFrame,
    behavior_items: pl.DataFrame,
    data_integrity: pl.DataFrame,
    groundedness_summary: pl.DataFrame,
    goal_agreement: pl.DataFrame,
    attempts: pl.DataFrame,
    **more: pl.DataFrame,
) -> pl.DataFrame:
    """The cell's page: headline beside the controls, behaviors, side effects, examples; with stills and tables."""
    cell = work.here
    profiles = {name: more[name] for name in PROFILE_TABLES if name in more}
    fitted = {name: rows for name, rows in more.items() if name not in profiles}
    of = {str(m): rows.drop("method", "model") for (m,), rows in steerability.group_by("method", maintain_order=True)}
    against = held_against(work.bench, cell.method.name)
    asked = requests.filter(pl.col("probe").is_in(work.bench.test_probes))
    tables = reports.CellTables(
        model=cell.model.name,
        method=cell.method.name,
        bench=work.bench.name,
        requests=asked,
        request_goals=request_goals.join(asked, on="request_id", how="semi"),
        outcomes=outcomes,
        probe_arms=probe_arms,
        responses=responses,
        steerability=of[cell.method.name],
        movements=goal_movements,
        summary=steerability_summary,
        comparisons=comparisons,
        side_effects=side_effects,
        goal_space=goal_space,
        probe_diagnostics=probe_diagnostics.filter(pl.col("probe").is_in(asked["probe"].unique().to_list())),
        goals=registry().goals_of(work.bench),
        method_description=cell.method.description,
        control_steerability={m: of[m] for m in against if m in of},
        missing_controls=tuple(m for m in against if m not in of),
        fitted={name: rows for name, rows in fitted.items() if rows.height},
        sweep_arms=sweep_arms,
        arm_summary=arm_summary,
        sweep_findings=sweep_findings,
        arm_scores=arm_scores,
        arm_answers=arm_answers,
        judgements=judgements,
        judge_calibration=judge_calibration,
        sweep_responses=sweep_responses,
        behavior_items=behavior_items,
        # what is wrong in contrast data matters where something was fitted on it
        data_integrity=data_integrity if any(rows.height for rows in fitted.values()) else None,
        behaviors=registry().behaviors_of(work.bench),
        judged={"groundedness_summary": groundedness_summary, "goal_agreement": goal_agreement},
        profiles=profiles,
        profile_specs=registry().profiles_of(work.bench),
        budget=work.bench.profiled.budget,
        attempts=attempts,
        prices=cost_at_most(cell.model, 0, 0, 0),
        links=_elsewhere(work),
        versions={
            "probes": probes.VERSION,
            "driver": driver.VERSION,
            "evaluation": evaluation.VERSION,
            "method": cell.method.spec_hash,
            "model": cell.model.identity,
            "seed": str(work.bench.seed),
        },
    )
    return _write(work, "report", reports.build_cell_report(tables))


def _elsewhere(work: Work) -> tuple[tuple[str, str], ...]:
    """The leaderboard, this page's tables, and the pages of the other cells that have one by now."""
    up = "../../.."
    others = []
    for cell in valid_cells(work.bench):
        path = "/".join([*_folder("report", cell), "report.html"])
        if cell.key != work.here.key and table_exists(work.url(path)):
            others.append((f"{cell.method.name} on {cell.model.name}", quote(f"{up}/{path}", safe="/=.-_~")))
    return (("Leaderboard", f"{up}/leaderboard_page/report.html"), ("Tables of this page", "tables/"), *others)


def _cells(work: Work) -> list[str]:
    return [c.key for c in valid_cells(work.bench)]


def _of_valid_cells(work: Work, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.format("{}|{}", "method", "model").is_in(_cells(work)))


def _answered(outcomes: pl.DataFrame) -> pl.DataFrame:
    """What the leaderboard needs of a cell's answers; words that come in every row take four bytes."""
    return outcomes.filter(pl.col("arm_id") == HEADLINE).select(
        pl.col("request_id", "probe").cast(pl.Categorical), "completion_tokens", unknown=cost_unknown()
    )


@table(
    Leaderboard,
    version=evaluation.VERSION,
    spec=lambda work: [_cells(work), controls(work.bench)],
    fan_in={"steerability_summary": "grid", "steerability": "grid", "outcomes": "grid"},
    narrow={"steerability": evaluation.for_the_board, "outcomes": _answered},
)
def leaderboard(
    work: Work,
    requests: pl.DataFrame,
    steerability_summary: pl.DataFrame,
    steerability: pl.DataFrame,
    outcomes: pl.DataFrame,
) -> pl.DataFrame:
    """All valid cells that exist, ranked within their goal space and probe; never across goal spaces.

    Cells that answered an earlier draw of a probe are left out until they are materialized again.
    """
    answered = _of_valid_cells(work, outcomes).with_columns(
        current=pl.col("request_id").cast(pl.String).is_in(requests["request_id"].implode())
    )
    costs = answered.group_by("model", "method", "probe", maintain_order=True).agg(
        pl.when(~pl.col("unknown").any()).then(pl.col("completion_tokens").mean()), pl.col("current").all()
    )
    for row in costs.filter(~pl.col("current")).iter_rows(named=True):
        work.log.warning("%(method)s|%(model)s answered another draw of probe %(probe)s: left out", row)
    costs = costs.filter("current").drop("current").with_columns(pl.col("probe").cast(pl.String))
    if not costs.height:
        raise SteerworksError(f"no cell of bench {work.bench.name!r} has answers on its probes yet: run one first")
    of_current = [
        _of_valid_cells(work, rows).join(
            costs.with_columns(pl.col("probe").cast(rows.schema["probe"])), on=["model", "method", "probe"], how="semi"
        )
        for rows in (steerability_summary, steerability)
    ]
    return evaluation.leaderboard(of_current[0], costs, of_current[1], controls(work.bench))


def _cost(work: Work) -> tuple[str, str, int]:
    """Profile, metric and which way is better of the capability that costs are counted in; empty where none has one."""
    return kind.capability_of_bench(registry().profiles_of(work.bench), work.bench.profiled.budget) or ("", "", 1)


@table(
    Frontier,
    version=frontiers.VERSION,
    spec=lambda work: [
        _cells(work),
        *_cost(work),
        [kind.follows(s) for s in registry().profiles_of(work.bench).values()],
    ],
    applies=lambda work: bool(work.bench.profiles),
    fan_in={"steerability_summary": "grid", "profile_arms": "grid", "profile_changes": "grid"},
    also=lambda bench: ("profile_items", "profile_arms", "profile_changes") if bench.profiles else (),
)
def frontier(
    work: Work, leaderboard: pl.DataFrame, steerability_summary: pl.DataFrame, **profiles: pl.DataFrame
) -> pl.DataFrame:
    """What each setting gains on the probe beside what it costs apart from the request, of all cells on the board."""
    profile, metric, better = _cost(work)
    cell = ["model", "method"]
    errors = steerability_summary.join(leaderboard, on=[*cell, "probe"], how="semi")
    arms, changes = (
        _of_valid_cells(work, profiles[name]).join(leaderboard, on=cell, how="semi")
        for name in ("profile_arms", "profile_changes")
    )
    digests = kind.digests(registry().profiles_of(work.bench).values(), profiles["profile_items"])
    return frontiers.frontier_of(errors, arms, changes, profile=profile, metric=metric, better=better, digests=digests)


def _links(work: Work) -> dict[tuple[str, str], str]:
    """Pages of cells that exist, relative to the leaderboard's."""
    paths = {
        (c.model.name, c.method.name): f"report/model={c.model.name}/method={c.method.name}/report.html"
        for c in valid_cells(work.bench)
    }
    return {cell: f"../{path}" for cell, path in paths.items() if table_exists(work.url(path))}


@table(
    Reports,
    version=reports.VERSION,
    spec=lambda work: [sorted(_links(work).values()), controls(work.bench)],
    kinds=("html",),
    fan_in={"sweep_findings": "grid"},
    metadata=_said("leaderboard_page"),
    intact=_intact("leaderboard_page"),
)
def leaderboard_page(
    work: Work,
    leaderboard: pl.DataFrame,
    sweep_findings: pl.DataFrame,
    frontier: pl.DataFrame,
    profile_pairs: pl.DataFrame,
) -> pl.DataFrame:
    """The leaderboard as a page, linked to the cells' reports."""
    page = reports.build_leaderboard(
        leaderboard,
        bench=work.bench.name,
        cell_reports=_links(work),
        controls=controls(work.bench),
        versions={"evaluation": evaluation.VERSION},
        behaviors=_of_valid_cells(work, sweep_findings) if sweep_findings.height else None,
        frontier=frontier if frontier.height else None,
        pairs=profile_pairs if frontier.height else None,
    )
    return _write(work, "leaderboard_page", page)
