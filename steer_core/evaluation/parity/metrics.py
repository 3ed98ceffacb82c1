"""Metrics: the lattice, doing nothing, the released saturation, the closed forms of 2024, and released result rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from steer_core.evaluation.binned import CUT_POINTS, bin_of, binned_scores
from steer_core.evaluation.parity.claim import Claim, File, Printed, Supplies
from steer_core.evaluation.parity.files import number, records
from steer_core.evaluation.parity.probes import BOUNDS
from steer_core.evaluation.parity.published import STEERBENCH, Binned
from steer_core.evaluation.parity.released import GOALS, Floats, released_deltas
from steer_core.evaluation.steerability import continuous_scores
from steer_core.goals.scorers.reading_difficulty import flesch_kincaid_grade
from steer_core.tables.errors import SteerworksError

PAPER = "Chang et al. (2025), arXiv 2505.23816"
WORKSHOP_PAPER = "Chang et al. (2024), workshop paper, openreview y2J5dAqcJW"
#: sqrt(k) / 7 for k from 1 on, as printed.
LATTICE = (
    *(".143", ".202", ".247", ".286", ".319", ".350", ".378", ".404"),
    *(".429", ".452", ".474", ".495", ".515", ".535", ".553", ".571"),
)
#: Four bin numbers from 0 to 3 whose squares add up to k, for k from 1 on.
_SQUARES = (
    *((1, 0, 0, 0), (1, 1, 0, 0), (1, 1, 1, 0), (2, 0, 0, 0), (2, 1, 0, 0), (2, 1, 1, 0), (2, 1, 1, 1), (2, 2, 0, 0)),
    *((3, 0, 0, 0), (3, 1, 0, 0), (3, 1, 1, 0), (2, 2, 2, 0), (3, 2, 0, 0), (3, 2, 1, 0), (3, 2, 1, 1), (2, 2, 2, 2)),
)
#: A move into each bin above the middle.
_INTO = (0.0, 0.15, 0.35, 0.5)


def _lattice(supplies: Supplies) -> Mapping[str, float]:
    start = np.full((len(_SQUARES), 4), 0.5)
    moved = start + np.array([[_INTO[k] for k in row] for row in _SQUARES])
    error = binned_scores(start, np.full_like(start, np.nan), moved).error
    return {f"sqrt({k}) / {len(CUT_POINTS) - 1}": float(e) for k, e in enumerate(error, start=1)}


def quartiles(values: Floats) -> tuple[float, float]:
    """Median and interquartile range, quantiles by linear interpolation."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(high - low)


def _nothing(supplies: Supplies) -> Mapping[str, float]:
    deltas = released_deltas()
    start = np.full(deltas.shape, 0.5)
    binned = binned_scores(start, start + deltas, start, epsilons=True)
    exact = continuous_scores(start, start + deltas, start)
    middle, spread = quartiles(binned.error)
    return {
        "S binned, median": middle,
        "S binned, IQR": spread,
        "M binned, median": float(np.median(binned.miscalibration)),
        "O binned, largest": float(binned.orthogonality.max()),
        "S continuous, median": float(np.median(exact.error)),
    }


def _saturation(supplies: Supplies) -> Mapping[str, float]:
    nothing_asked, bins, middle = np.array([[np.nan]]), len(CUT_POINTS) - 1, 3
    found = binned_scores(np.array([[0.95]]), nothing_asked, np.array([[1.0]]), saturation_bug=True)
    unmoved = bin_of(np.ones(1), np.ones(1), saturation_bug=True)
    return {"error from .95 to 1": float(found.error[0]), "move at 1, unchanged": float(unmoved[0] - middle) / bins}


def _identity(supplies: Supplies) -> Mapping[str, float]:
    deltas = np.nan_to_num(released_deltas())
    rng = np.random.default_rng(0)
    start = np.full(deltas.shape, 0.5)
    reached = rng.uniform(size=deltas.shape)
    found = continuous_scores(start, start + deltas, reached)
    # the raw parts are lengths: M is in units of the request, O in units of the move
    along, off = found.miscalibration * found.requested, found.orthogonality * found.moved
    return {"largest |S^2 - M^2 - O^2|": float(np.abs(found.error**2 - along**2 - off**2).max())}


def _first(supplies: Supplies) -> Mapping[str, float]:
    start = np.full((4, 2), 0.5)
    asked = np.tile([0.8, 0.9], (4, 1))
    asked_move = asked[0] - 0.5
    moves = np.array([asked_move, asked_move / 2, -asked_move, [0.4, -0.3]])
    found = continuous_scores(start, asked, start + moves)
    names = ("to the target", "half of the way", "as far the other way", "as far at a right angle")
    return {
        f"{name}: {measure}": float(getattr(found, measure)[i])
        for i, name in enumerate(names)
        for measure in ("sensitivity", "directionality", "score")
    }


def _first_published() -> dict[str, str]:
    values = {
        "to the target": ("1.000", "1.000", "1.000"),
        "half of the way": ("0.500", "1.000", "0.500"),
        "as far the other way": ("1.000", "-1.000", "-1.000"),
        "as far at a right angle": ("1.000", "0.000", "0.000"),
    }
    measures = ("sensitivity", "directionality", "score")
    return {f"{name}: {m}": v for name, row in values.items() for m, v in zip(measures, row, strict=True)}


def _step(supplies: Supplies) -> Mapping[str, float]:
    # the released scorer rounds syllables a word to one decimal
    step = flesch_kincaid_grade(15.0, 1.5) - flesch_kincaid_grade(15.0, 1.4)
    low, high = BOUNDS["reading_difficulty"]
    return {"grades": step, "share of the axis": step / (high - low)}


def published_figures(row: Binned) -> dict[str, str]:
    """Figures of a row of the published table: median and, where printed, range of S, M and O."""
    found = {}
    for letter, (middle, spread) in zip("SMO", (row.error, row.miscalibration, row.orthogonality), strict=True):
        found[f"{letter}, median"] = middle
        if spread is not None:
            found[f"{letter}, IQR"] = spread
    return found


def binned_figures(z0: Floats, z_star: Floats, z_hat: Floats, wanted: Mapping[str, str]) -> dict[str, float | None]:
    """The same figures from positions [n, d], as the released code has them: saturation and epsilons included.

    Rows with an undefined goal are left out; without any row every figure is None.
    """
    defined = np.isfinite(z_hat).all(axis=1)
    if not defined.any():
        return dict.fromkeys(wanted)
    scores = binned_scores(z0[defined], z_star[defined], z_hat[defined], saturation_bug=True, epsilons=True)
    found: dict[str, float | None] = {}
    for letter, values in zip("SMO", (scores.error, scores.miscalibration, scores.orthogonality), strict=True):
        found[f"{letter}, median"], found[f"{letter}, IQR"] = quartiles(values)
    return {name: found[name] for name in wanted}


def result_positions(rows: list[Mapping[str, object]]) -> tuple[Floats, Floats, Floats]:
    """Starts, targets and outcomes of the grounded rows of a result file of the released program, [n, 4] each.

    Grounded: the judge said yes and nobody overruled it, or it said no and somebody did. A file that was not judged has
    no column `answer`, and all its rows count.

    Raises:
        SteerworksError: a column is missing or is no number; names file and row.
    """
    judged = "answer" in rows[0]
    if judged:
        # an answer that could not be read counts as no, as published
        rows = [r for r in rows if (r.get("answer") == "Yes") == (str(r.get("rationale_approved")) != "False")]
    if not rows:
        raise SteerworksError("the result file has no grounded row: check the columns answer and rationale_approved")

    def column(prefix: str, row: Mapping[str, object], goal: str) -> float:
        name = f"{prefix}_{goal}"
        return np.nan if prefix == "target" and row.get(name) in (None, "") else number(row, name)

    start, target, reached = (
        np.array([[column(prefix, row, goal) for goal in GOALS] for row in rows])
        for prefix in ("source", "target", "output")
    )
    return start, target, reached


def _results(row: Binned) -> Claim:
    name = f"steerbench/results/{row.slug}.csv"
    wanted = published_figures(row)

    def measure(supplies: Supplies) -> Mapping[str, float | None]:
        return binned_figures(*result_positions(records(supplies.file(name))), wanted)

    return Claim(
        f"results-{row.slug}",
        f"Binned S, M and O of {row.label} from its judged result rows, direct prompt with the negative sentence",
        f"{PAPER}; model table of its notebook",
        wanted,
        measure,
        (File(name, f"judged result file of the released program for {row.label}"),),
    )


def claims() -> list[Claim]:
    """Claims of this family."""
    floats = "rounding of floating point numbers"
    return [
        Claim(
            "lattice",
            "Values that the binned steering error can take",
            f"{PAPER}; medians of its tables",
            {f"sqrt({k}) / 7": digits for k, digits in enumerate(LATTICE, start=1)},
            _lattice,
        ),
        Claim(
            "doing-nothing",
            "Scores of returning the source on the released probe, texts in the middle bin",
            f"{PAPER}; from the moves of its released probe",
            {
                "S binned, median": ".495",
                "S binned, IQR": ".160",
                "M binned, median": "1.000",
                "O binned, largest": Printed("0.000", 0.002, "the released epsilons leave a trace"),
                "S continuous, median": ".648",
            },
            _nothing,
        ),
        Claim(
            "saturation",
            "What the released bins charge at the upper edge, in sevenths: 4",
            f"{PAPER}; released code, main 546e8de",
            {"error from .95 to 1": ".5714", "move at 1, unchanged": ".5714"},
            _saturation,
        ),
        Claim(
            "decomposition",
            "S^2 is the sum of the squares of its two raw parts, on the released moves and uniform outcomes",
            f"{PAPER}, section 3",
            {"largest |S^2 - M^2 - O^2|": Printed("0.000000000001", 0.0, floats)},
            _identity,
        ),
        Claim(
            "first-metric",
            "Sensitivity, directionality and score of four moves",
            WORKSHOP_PAPER,
            _first_published(),
            _first,
        ),
        Claim(
            "reading-step",
            "What a tenth of a syllable a word is worth, the step of the released scorer: above the smallest request",
            f"{PAPER}; textstat 0.7.5 and the released bounds",
            {"grades": "1.18", "share of the axis": ".117"},
            _step,
        ),
        *map(_results, STEERBENCH),
    ]


def movement_positions(movements: pl.DataFrame, probe: str, goals: tuple[str, ...]) -> tuple[Floats, Floats, Floats]:
    """Starts, targets and outcomes of a probe's requests under the headline arm, [n, d] each in the order of `goals`.

    Args:
        movements: rows of `schemas.GoalMovements`.
        probe: the probe.
        goals: axes.

    Raises:
        SteerworksError: the probe has no rows, or the goals are others.
    """
    own = movements.filter(arm_id="headline", probe=probe)
    if own.is_empty() or set(own["goal"].unique()) != set(goals):
        raise SteerworksError(
            f"probe {probe!r} has movements of goals {', '.join(sorted(own['goal'].unique())) or 'none'}; the "
            f"published table is of {', '.join(goals)}"
        )
    wide = [
        own.pivot(on="goal", index="request_id", values=column, maintain_order=True)
        .select(goals)
        .cast(pl.Float64)
        .fill_null(float("nan"))
        .to_numpy()
        for column in ("z0", "z_star", "z_hat")
    ]
    return wide[0], wide[1], wide[2]
