"""What a method did on a probe: its sentences, its page, and how it compares with another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from steer_core.front.arguments import instance
from steer_core.front.bench import Bench
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import write_bytes


@dataclass(frozen=True)
class Measured:
    """What a method did on a probe.

    Attributes:
        name: of the method.
        tables: table name -> rows, as the pipeline would publish them.
        bench: what it was measured on.
        model: name of the model; empty where none was asked.
    """

    name: str
    tables: Mapping[str, pl.DataFrame]
    bench: Bench
    model: str = ""

    def __repr__(self) -> str:
        error = self._figure("error", "worst")
        if error is None:
            return f"Measured({self.name!r}, nothing could be measured)"
        rows = self.tables["steerability"]
        return (
            f"Measured({self.name!r}, error {error['value']:.3f} [{_end(error['low'])} to {_end(error['high'])}], "
            f"{rows.height} requests on {rows['text_id'].n_unique()} texts)"
        )

    def _figure(self, measure: str, reading: str) -> dict[str, Any] | None:
        rows = self.tables["steerability_summary"].filter(
            measure=measure, goal="overall", reading=reading, statistic="mean"
        )
        return rows.row(0, named=True) if rows.height and rows["value"][0] is not None else None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the page says first."""
        from steer_core.reports.headline import headline
        from steer_core.reports.inputs import headline_probe, of_probe

        cell = self._cell()
        return headline(of_probe(cell, headline_probe(cell))).sentences

    @property
    def answers(self) -> pl.DataFrame:
        """Request, source and answer, with the error of each."""
        t = self.tables
        return (
            t["requests"]
            .select("request_id", source="text")
            .join(t["outcomes"].select("request_id", answer="text", failed="failure"), on="request_id")
            .join(t["steerability"].select("request_id", "requested", "error"), on="request_id")
        )

    def page(self, folder: str | Path) -> Path:
        """Write the method's page with its stills and tables; returns the page to open in a browser."""
        from steer_core.reports import build_cell_report

        report = build_cell_report(self._cell())
        for name, data in report.files.items():
            write_bytes(str(Path(folder) / name), data)
        return Path(folder) / "report.html"

    def _cell(self) -> Any:
        from steer_core.reports import CellTables

        t = self.tables
        return CellTables(
            model=self.model or "none",
            method=self.name,
            bench=self.bench.spec.name,
            requests=t["requests"],
            request_goals=t["request_goals"],
            outcomes=t["outcomes"],
            responses=t["responses"],
            steerability=t["steerability"],
            movements=t["goal_movements"],
            summary=t["steerability_summary"],
            comparisons=t["comparisons"],
            side_effects=t["side_effects"],
            goal_space=self.bench.space,
            probe_diagnostics=self.bench.probe.diagnostics,
            goals=self.bench.goals,
        )


def _end(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def compare(one: Measured, other: Measured) -> str:
    """Whether one method is better than another, request by request, in a sentence.

    Raises:
        SteerworksError: they were measured on different requests.
    """
    for what in (one, other):
        instance("what is compared", what, Measured, "what `measure` or `score_answers` gave")
    return compare_scores(one.name, one.tables["steerability"], other.name, other.tables["steerability"])


def compare_scores(one: str, scores: pl.DataFrame, other: str, other_scores: pl.DataFrame) -> str:
    """`compare` on rows of `schemas.Steerability`, under two names; the headline arm of each."""
    from schemas.evaluation import HEADLINE
    from steer_core.evaluation.columns import to_array
    from steer_core.statistics import paired_contrast

    a, b = (
        s.filter(arm_id=HEADLINE).select("request_id", "text_id", "error_worst", "goal_space_id")
        for s in (scores, other_scores)
    )
    if set(a["goal_space_id"]) != set(b["goal_space_id"]):
        raise SteerworksError(f"{one} and {other} were measured in different goal spaces: measure both again")
    if set(a["request_id"]) != set(b["request_id"]):
        raise SteerworksError(
            f"{one} and {other} answered different requests: measure both with the same bench, texts and requests"
        )
    paired = a.join(b.select("request_id", other="error_worst"), on="request_id")
    found = paired_contrast(to_array(paired["error_worst"]), to_array(paired["other"]), paired["text_id"].to_numpy())
    span = f"[{_end(found.low)} to {_end(found.high)}]"
    size = f"{found.difference:+.3f} {span} of error, {found.n} requests on {found.n_clusters} texts"
    if found.low is None or found.high is None:
        return f"{one} against {other}: too few texts for an interval ({size})."
    if found.high < 0:
        return f"{one} is better than {other}: {size}."
    if found.low > 0:
        return f"{one} is worse than {other}: {size}."
    return f"{one} and {other} cannot be told apart: {size}."
