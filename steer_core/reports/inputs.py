"""What a cell's report is made from: the published tables, and who made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from schemas.evaluation import HEADLINE
from schemas.profile_spec import BudgetSpec, ProfileSpec
from schemas.specs import BehaviorSpec, GoalSpec
from steer_core.generation.engines import Money

#: Methods that every cell is held against. `permuted` is not a cell: it is made from the cell's own outputs.
CONTROL_CELLS = ("copy", "rewrite")


@dataclass(frozen=True)
class CellTables:
    """The tables of one cell (a model under a method on a bench). Each frame is in the contract that it is named after.

    Attributes:
        model: model slug.
        method: method slug.
        bench: bench slug.
        requests: `schemas.Requests`.
        request_goals: `schemas.RequestGoals`.
        outcomes: `schemas.Outcomes`.
        responses: `schemas.Responses`.
        steerability: `schemas.Steerability`.
        movements: `schemas.GoalMovements`.
        summary: `schemas.SteerabilitySummary`.
        comparisons: `schemas.Comparisons`.
        side_effects: `schemas.SideEffects`.
        goal_space: `schemas.GoalSpaceTable`.
        probe_diagnostics: `schemas.ProbeDiagnostics`.
        goals: goal name -> its spec, for the words of a request and the unit.
        method_description: what the method does, in the words of the registry.
        control_steerability: control cell (`copy`, `rewrite`) -> its `schemas.Steerability`, where there is one: drawn
            beside the cell's distributions, and the source of the copy's binned median.
        missing_controls: control cells that were not there to compare with.
        versions: what made the tables: name -> version or hash, shown in the footer.
        links: what the page links to, in words, and the path relative to its own folder.
        probe: probe of the headline; empty takes the first test probe among the requests.
        probe_arms: `schemas.ProbeArms`; None where the method has its headline alone.
        summary_of_arms: set by `of_probe`: the summary with all arms, where `summary` has the headline's.
        scores_of_arms: likewise, of `steerability`.
        outcomes_of_arms: likewise, of `outcomes`.
        fitted: tables that the method's parts were fitted to, by name; kinds that the method lacks have none, and the
            sections made from them (`steer_core.reports.sections`) are then absent.
        sweep_arms: `schemas.SweepArms`; this and what follows is None or empty where nothing was swept.
        arm_summary: `schemas.ArmSummary`.
        sweep_findings: `schemas.SweepFindings`.
        arm_scores: `schemas.ArmScores`: judged values of the examples, and which items go against the vector.
        arm_answers: `schemas.ArmAnswers`: what the examples show.
        judge_calibration: `schemas.JudgeCalibration`: what the judges' verdicts are worth.
        judgements: `schemas.Judgements`: how many verdicts could be read.
        sweep_responses: `schemas.Responses` of the sweep: its receipts.
        behavior_items: `schemas.BehaviorItems`.
        data_integrity: `schemas.DataIntegrity`.
        judged: what a judge of the bench, and people, said of the answers: `schemas.GroundednessSummary` and
            `schemas.GoalAgreement` by name; empty where nobody was asked.
        behaviors: behavior name -> its spec, for the judge's scale and the names of the prompt arms.
        profiles: tables of the cell's profiles by name (`profile_arms`, `profile_figures` ...); empty without any.
        profile_specs: profile name -> its spec, for the words of its metrics.
        budget: what the strongest setting may cost.
        attempts: `schemas.Attempts`: what was sent to an endpoint for the cell's responses, of all probes.
        prices: currency and day of the prices that their money is in; None: nobody knows a price.
    """

    model: str
    method: str
    bench: str
    requests: pl.DataFrame
    request_goals: pl.DataFrame
    outcomes: pl.DataFrame
    responses: pl.DataFrame
    steerability: pl.DataFrame
    movements: pl.DataFrame
    summary: pl.DataFrame
    comparisons: pl.DataFrame
    side_effects: pl.DataFrame
    goal_space: pl.DataFrame
    probe_diagnostics: pl.DataFrame
    goals: Mapping[str, GoalSpec]
    method_description: str = ""
    control_steerability: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    missing_controls: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()
    probe: str = ""
    probe_arms: pl.DataFrame | None = None
    summary_of_arms: pl.DataFrame | None = None
    scores_of_arms: pl.DataFrame | None = None
    outcomes_of_arms: pl.DataFrame | None = None
    fitted: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    sweep_arms: pl.DataFrame | None = None
    arm_summary: pl.DataFrame | None = None
    sweep_findings: pl.DataFrame | None = None
    arm_scores: pl.DataFrame | None = None
    arm_answers: pl.DataFrame | None = None
    judgements: pl.DataFrame | None = None
    judge_calibration: pl.DataFrame | None = None
    sweep_responses: pl.DataFrame | None = None
    behavior_items: pl.DataFrame | None = None
    data_integrity: pl.DataFrame | None = None
    judged: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    behaviors: Mapping[str, BehaviorSpec] = field(default_factory=dict)
    profiles: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    profile_specs: Mapping[str, ProfileSpec] = field(default_factory=dict)
    budget: BudgetSpec | None = None
    attempts: pl.DataFrame | None = None
    prices: Money | None = None

    @property
    def cell(self) -> str:
        """The cell's partition key, `method|model`."""
        return f"{self.method}|{self.model}"

    @property
    def axes(self) -> list[str]:
        """Goals in the order of the goal space."""
        return self.goal_space.sort("position")["goal"].to_list()


def filled(rows: pl.DataFrame | None) -> pl.DataFrame | None:
    """The table, or None where it is missing or has no rows."""
    return None if rows is None or rows.is_empty() else rows


def headline_probe(tables: CellTables) -> str:
    """Name of the probe that the page is about.

    Raises:
        ValueError: nothing was scored yet, or nothing of the probe that was asked for.
    """
    names = scored_probes(tables)
    if tables.probe:
        if tables.probe not in names:
            raise ValueError(
                f"cell {tables.cell}: nothing scored on probe {tables.probe!r}, only on {', '.join(names)}"
            )
        return tables.probe
    if not names:
        raise ValueError(
            f"cell {tables.cell}: no request has a score; materialize the cell's responses and steerability first"
        )
    tested = tables.requests.filter(pl.col("split") == "test", pl.col("probe").is_in(names))["probe"].to_list()
    return str(tested[0] if tested else names[0])


def scored_probes(tables: CellTables) -> list[str]:
    """Probes with at least one scored request, in the order of the requests."""
    run = set(tables.steerability["probe"])
    return [name for name in tables.requests["probe"].unique(maintain_order=True) if name in run]


def of_probe(tables: CellTables, probe: str) -> CellTables:
    """The same tables with the rows of one probe only.

    Raises:
        ValueError: a goal of the goal space has no spec in `goals`.
    """
    unknown = [goal for goal in tables.axes if goal not in tables.goals]
    if unknown:
        raise ValueError(
            f"cell {tables.cell}: no spec for goal {', '.join(unknown)}; "
            "pass the entries of the goal registry as `goals`"
        )
    here = pl.col("probe") == probe
    used = here & (pl.col("arm_id") == HEADLINE)
    requests = tables.requests.filter(here)
    outcomes = tables.outcomes.filter(used)
    return replace(
        tables,
        probe=probe,
        requests=requests,
        request_goals=tables.request_goals.join(
            requests.select("request_id"), on="request_id", how="semi", maintain_order="left"
        ),
        outcomes=outcomes,
        responses=tables.responses.join(
            outcomes.select("response_id"), on="response_id", how="semi", maintain_order="left"
        ),
        steerability=tables.steerability.filter(used),
        movements=tables.movements.filter(used),
        summary=tables.summary.filter(used),
        summary_of_arms=tables.summary.filter(here),
        outcomes_of_arms=tables.outcomes.filter(here),
        scores_of_arms=tables.steerability.filter(here),
        comparisons=tables.comparisons.filter(used),
        control_steerability={name: rows.filter(used) for name, rows in tables.control_steerability.items()},
        side_effects=tables.side_effects.filter(used),
        probe_diagnostics=tables.probe_diagnostics.filter(here),
    )
