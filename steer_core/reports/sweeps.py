"""The sweep of one behavior as its tables tell it: main setting, curves, controls, and the words for them.

The main setting is the one that the controls stand beside: layers, positions and seed of the method's own vector. Where
no control was run it is the setting with most strengths, the first of them on a tie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.specs import BehaviorSpec
from schemas.sweeps import ArmSummary, SweepFindings
from steer_core.evaluation.behaviors.findings import NEUTRAL
from steer_core.evaluation.behaviors.side_effects import GOAL, JUDGED, OTHER
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import number, plural, signed, slug_words

#: Measures that a headline can be about, the first that was taken.
HEADLINES = (JUDGED, "p_positive", "propensity_per_token", "propensity", "refused")

#: Measure -> its name on an axis.
_MEASURES = {
    JUDGED: "judged score",
    "p_positive": "probability of the matching answer",
    "pair_mass": "probability of either letter",
    "propensity": "log odds of the matching answer (nats)",
    "propensity_per_token": "log odds of the matching answer, nats a token",
    "accuracy": "accuracy on the neutral set",
    "perplexity": "perplexity, unsteered model",
    "kl": "KL from unsteered (nats a token)",
    "length": "length (tokens)",
    "prompt_tokens": "tokens read for an answer",
    "failed": "share without an answer",
    "truncated": "share cut off",
    "refused": "share refused",
}
#: Unit -> name of the axis.
_UNITS = {
    "raw": "strength (multiples of the vector)",
    "class_alpha": "strength (0: mean of the opposite, 1: of the concept)",
    "residual_fraction": "strength (share of the activation norm)",
    "angle": "angle (degrees)",
    "kl": "strength (KL budget, nats a token)",
}


@dataclass(frozen=True)
class Sweep:
    """One behavior under one cell.

    Attributes:
        behavior: its name.
        place: 1-based place on the page, part of the names of its figures.
        spec: its spec, where it is at hand.
        layers, site, positions, seed: the main setting; None where no arm with a vector was planned.
        unit: of the strengths; None with no vector arm.
        arms: rows of `sweep_arms`, with `main`: whether the arm is at the main setting.
        summary: rows of `arm_summary` with `site`, `system` and `main` of the arm.
        findings: rows of `sweep_findings`, of all settings.
    """

    behavior: str
    place: int
    spec: BehaviorSpec | None
    layers: str | None
    site: str | None
    positions: str | None
    seed: int | None
    unit: str | None
    arms: pl.DataFrame
    summary: pl.DataFrame
    findings: pl.DataFrame

    @property
    def scale(self) -> tuple[float, float] | None:
        """Ends of the judge's scale, where the spec is at hand."""
        return self.spec.scale if self.spec else None

    @property
    def group(self) -> str:
        """Set of items that the headline is about: `main`, or else the first that is not there for comparison."""
        groups = sorted(set(self.summary["group"]) - {NEUTRAL})
        return "main" if "main" in groups or not groups else groups[0]

    @property
    def measure(self) -> str | None:
        """Measure that the headline is about; None where none was taken."""
        known = set(self.summary.filter(pl.col("group") == self.group, pl.col("mean").is_not_null())["measure"])
        return next((m for m in HEADLINES if m in known), None)

    def groups(self, measure: str) -> list[str]:
        """Sets of items with this measure, the headline's first, those there for comparison last."""
        found = set(self.summary.filter(pl.col("measure") == measure, pl.col("mean").is_not_null())["group"])
        return sorted(found, key=lambda g: (g != self.group, g == NEUTRAL, g))

    def curve(self, measure: str, group: str | None = None) -> pl.DataFrame:
        """Summary of the vector's arms at the main setting, by rising strength."""
        return self._of("vector", measure, group).filter(pl.col("seed") == self.seed).sort("strength")

    def other_seeds(self, measure: str, group: str | None = None) -> pl.DataFrame:
        """The same fitted with other seeds."""
        return self._of("vector", measure, group).filter(pl.col("seed") != self.seed).sort("seed", "strength")

    def control(self, role: str, measure: str, group: str | None = None) -> pl.DataFrame:
        """Summary of the arms of one kind of control at the main setting, by strength."""
        return self._of(role, measure, group).sort("strength", "seed")

    def unsteered(self, measure: str, group: str | None = None) -> dict[str, Any] | None:
        """Summary of the unsteered arm; None where it has none."""
        rows = self._measured(measure, group).filter(pl.col("role") == "off")
        return rows.row(0, named=True) if rows.height else None

    def prompts(self, measure: str, group: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Label and summary of each arm that is asked in words, that for the behavior first."""
        rows = self._measured(measure, group).filter(pl.col("role") == "prompt")
        known = [self.spec.positive_prompt, self.spec.negative_prompt] if self.spec else []
        found = sorted(
            rows.to_dicts(),
            key=lambda r: (
                r["turns"] is not None,
                r["system"] not in known,
                r["system"] != (known or [None])[0],
                -(r["side"] or 0),
            ),
        )
        return [(self.prompt_label(row), row) for row in found]

    def prompt_label(self, row: Mapping[str, Any]) -> str:
        """What a `prompt` arm asks for, or shows."""
        system = row["system"]
        if row["turns"] is not None:
            n = sum(turn["role"] == "assistant" for turn in json.loads(row["turns"]))
            return f"shown {plural(n, 'example')}{' of the opposite' if row['side'] == -1 else ''}"
        if self.spec and system is not None and system == self.spec.positive_prompt:
            return "asked in words"
        if self.spec and system is not None and system == self.spec.negative_prompt:
            return "asked for the opposite"
        return "a system prompt" if system is None else f"“{system[:24]}{'…' if len(system) > 24 else ''}”"

    def found(self, finding: str, measure: str | None = None, group: str | None = None) -> dict[str, Any] | None:
        """A finding of the main setting; None where the sweep has it not."""
        rows = self.main_findings.filter(
            pl.col("finding") == finding,
            pl.col("measure") == (measure or self.measure or ""),
            pl.col("group") == (group or self.group),
        )
        return rows.row(0, named=True) if rows.height else None

    @property
    def main_findings(self) -> pl.DataFrame:
        """Findings of the main setting."""
        return self.findings.filter(pl.col("layers") == self.layers, pl.col("positions") == self.positions)

    def digits(self, measure: str) -> int:
        """Decimals that a figure of this measure is worth."""
        if measure == JUDGED or measure.startswith(OTHER):
            return 1 if self.scale is None or self.scale[1] - self.scale[0] >= 5 else 2
        return {"length": 1, "propensity": 1}.get(measure, 2)

    def _measured(self, measure: str, group: str | None) -> pl.DataFrame:
        return self.summary.filter(pl.col("measure") == measure, pl.col("group") == (group or self.group))

    def _of(self, role: str, measure: str, group: str | None) -> pl.DataFrame:
        here = (pl.col("layers") == self.layers) & (pl.col("positions") == self.positions)
        return self._measured(measure, group).filter(pl.col("role") == role, here)


def sweeps(tables: CellTables) -> tuple[Sweep, ...]:
    """The sweeps of a cell, in the order of its arms; empty where nothing was swept."""
    arms = filled(tables.sweep_arms)
    if arms is None:
        return ()
    summary = ArmSummary.empty() if tables.arm_summary is None else tables.arm_summary
    findings = SweepFindings.empty() if tables.sweep_findings is None else tables.sweep_findings
    found = []
    for place, name in enumerate(arms["behavior"].unique(maintain_order=True), 1):
        here = pl.col("behavior") == name
        own = arms.filter(here)
        setting = _main_setting(own) or {}
        marked = own.with_columns(main=_at(setting))
        joined = summary.filter(here).join(
            marked.select("arm_id", "site", "system", "turns", "side", "main"),
            on="arm_id",
            how="inner",
            maintain_order="left",
        )
        found.append(
            Sweep(
                behavior=str(name),
                place=place,
                spec=tables.behaviors.get(str(name)),
                **{name: setting.get(name) for name in ("layers", "site", "positions", "seed", "unit")},
                arms=marked,
                summary=joined,
                findings=findings.filter(here),
            )
        )
    return tuple(found)


def _main_setting(arms: pl.DataFrame) -> dict[str, Any] | None:
    vector = arms.with_row_index("place").filter(pl.col("role") == "vector")
    if vector.is_empty():
        return None
    controls = arms.filter(pl.col("role").is_in(["random", "shuffled"])).select("layers", "positions").unique()
    settings = (
        vector.group_by("layers", "site", "positions", "seed", "unit")
        .agg(pl.col("strength").n_unique().alias("strengths"), pl.col("place").min())
        .join(controls.with_columns(controlled=True), on=["layers", "positions"], how="left")
        .sort(pl.col("controlled").fill_null(False), "strengths", -pl.col("place").cast(pl.Int64), descending=True)
    )
    return settings.row(0, named=True)


def _at(setting: dict[str, Any]) -> pl.Expr:
    if not setting:
        return pl.lit(False)
    same = [pl.col(name) == setting[name] for name in ("layers", "positions", "seed")]
    return (pl.all_horizontal(same) & (pl.col("role") == "vector")).fill_null(False)


def measure_words(measure: str) -> str:
    """A measure as the name of an axis."""
    for prefix in (GOAL, OTHER):
        if measure.startswith(prefix):
            return slug_words(measure.removeprefix(prefix))
    return _MEASURES.get(measure, slug_words(measure))


def unit_words(unit: str | None) -> str:
    """A unit of strength as the name of an axis."""
    return _UNITS.get(unit or "", "strength")


def strength_words(value: float | None, unit: str | None = None) -> str:
    """A strength as it is written in a sentence: `−2`, `+0.5`, `90°`; `off` for none."""
    if value is None:
        return "off"
    digits = next((d for d in range(4) if abs(value - round(value, d)) < 1e-9), 3)
    return f"{number(value, digits)}°" if unit == "angle" else signed(value, digits)


def position_words(positions: str | None) -> str:
    """A selector of positions as words: `all positions`, `completion positions`, `last prompt`."""
    words = slug_words(str(positions))
    return f"{words} positions" if positions in ("all", "prompt", "completion") else words


def layer_words(layers: str) -> str:
    """Layers, as JSON, as words: `layer 2`, `layers 1–3`, `layers 0, 2`."""
    numbers = sorted(json.loads(layers))
    if not numbers:
        return "no layer"
    if len(numbers) == 1:
        return f"layer {numbers[0]}"
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"layers {numbers[0]}–{numbers[-1]}"
    return f"layers {', '.join(map(str, numbers))}"
