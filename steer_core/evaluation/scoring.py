"""From outcomes and raw goal values to scores: one row a request, and its movements goal by goal.

1. Positions are made here from raw values and bounds, so new bounds or a new metric never trigger a measurement.
2. A row is a complete case if its outcome is no failure and every goal of the space is defined for its text. Every
   other row keeps its place with null scores and gets the worst score that is possible from where its target lies.
   That holds for truncated texts as well: they can be measured, but they are not what the method would have written.
3. `goal_movements` keeps the raw value of a failed row where there is one, without a position.
4. Nothing is made up: an outcome without a measurement, a request without an outcome, or a request from another goal
   space is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.contract import Contract
from schemas.evaluation import GoalMovements, Steerability
from steer_core.evaluation.binned import binned_scores
from steer_core.evaluation.columns import to_array, to_column
from steer_core.evaluation.controls import permuted_error, worst_error, worst_miscalibration
from steer_core.evaluation.meaning import chrf_pairs, content_f1_pairs
from steer_core.evaluation.steerability import continuous_scores
from steer_core.goals.space import GoalSpace
from steer_core.tables import SteerworksError

Floats = NDArray[np.float64]

#: Sources and rewrites, pair by pair, to similarities [n].
Similarity = Callable[[Sequence[str], Sequence[str]], Floats]

#: Largest difference between a recorded start and the one that its raw value gives: rounding of stored numbers.
SAME_START = 1e-6
#: Offenders named in a message.
SHOWN = 3


def evaluate(
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    outcomes: pl.DataFrame,
    values: pl.DataFrame,
    space: pl.DataFrame,
    *,
    embed: Similarity | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Score every outcome.

    Args:
        requests: rows of `schemas.Requests`; probes without a single outcome are left out.
        request_goals: rows of `schemas.RequestGoals` for these requests.
        outcomes: rows of `schemas.Outcomes`, one an arm and request of each probe that was run.
        values: rows of `schemas.GoalValues` with the texts of the outcomes; a copied text may be absent, since the
            request records its value.
        space: rows of `schemas.GoalSpaceTable`.
        embed: cosine of sentence embeddings of sources and rewrites, for `meaning_embedding`; None leaves it null.

    Returns:
        Rows of `schemas.Steerability`, arm by arm in the order of `requests`, and rows of `schemas.GoalMovements`.

    Raises:
        SteerworksError: requests, outcomes, values and goal space do not belong together; the message says where.
    """
    scored = [
        (str(arm_id), *_evaluate(requests, request_goals, of_arm, values, space, embed))
        for (arm_id,), of_arm in outcomes.group_by(["arm_id"], maintain_order=True)
    ] or [("", *_evaluate(requests, request_goals, outcomes, values, space, embed))]
    return (
        pl.concat([with_arm(s, arm_id, Steerability) for arm_id, s, _ in scored]),
        pl.concat([with_arm(m, arm_id, GoalMovements) for arm_id, _, m in scored]),
    )


def with_arm(rows: pl.DataFrame, arm_id: str, contract: type[Contract]) -> pl.DataFrame:
    """Rows with the arm that they are of, in the order of the contract's columns."""
    return rows.with_columns(arm_id=pl.lit(arm_id, pl.String)).select(contract.names())


def _evaluate(
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    outcomes: pl.DataFrame,
    values: pl.DataFrame,
    space: pl.DataFrame,
    embed: Similarity | None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Scores and movements of one arm, without the column that says so."""
    goal_space = GoalSpace.from_table(space)
    rows = _rows(requests, outcomes)
    z0, z_star, z0_raw = _starts(rows, request_goals, goal_space)
    raw = _raw_values(rows, values, goal_space, z0_raw)
    located, overshoot = goal_space.locate(raw)
    failure = _failures(rows, raw)
    complete = failure.is_null().to_numpy()
    z_hat = np.where(complete[:, None], located, np.nan)
    scores = _score_columns(rows, z0, z_star, z_hat)
    steerability = pl.DataFrame(
        {
            "request_id": rows["request_id"],
            "probe": rows["probe"],
            "goal_space_id": pl.repeat(space["goal_space_id"][0], len(rows), dtype=pl.String, eager=True),
            "text_id": rows["source_id"],
            "failure": failure,
            "copied": rows["copied"],
            **scores,
            **_meaning_columns(rows, complete, embed),
        }
    )
    overshoot = np.where(complete[:, None], overshoot, np.nan)
    movements = _movements(rows, goal_space.goals, z0, z_star, z_hat, overshoot, raw)
    return steerability, movements


def _rows(requests: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Requests of the probes that were run, each with its outcome."""
    unknown = outcomes.join(requests, on="request_id", how="anti")
    if len(unknown):
        raise SteerworksError(
            f"{len(unknown)} outcomes answer requests that are not in the table of requests ({_named(unknown)}): "
            "the responses are from another draw of the probe; generate again"
        )
    wanted = requests.join(outcomes.select("probe").unique(), on="probe", how="semi", maintain_order="left")
    unanswered = wanted.join(outcomes, on="request_id", how="anti")
    if len(unanswered):
        raise SteerworksError(
            f"{len(unanswered)} of {len(wanted)} requests have no outcome ({_named(unanswered)}): "
            "the run is not complete; resume it, it starts where it stopped"
        )
    chosen = outcomes.select("request_id", "failure", "copied", pl.col("text").alias("rewrite"), "text_id")
    sources = wanted.select("request_id", "probe", pl.col("text").alias("source"), pl.col("text_id").alias("source_id"))
    return sources.join(chosen, on="request_id", how="left", maintain_order="left")


def _starts(rows: pl.DataFrame, request_goals: pl.DataFrame, space: GoalSpace) -> tuple[Floats, Floats, Floats]:
    """z0, z* (NaN where inactive) and raw starts, each [n, d], in the order of rows and goals."""
    wanted = rows.select("request_id").with_row_index("row")
    axes = pl.DataFrame(
        {"goal": list(space.goals), "axis": range(len(space.goals))}, schema_overrides={"axis": pl.Int64}
    )
    known = request_goals.join(wanted, on="request_id").join(axes, on="goal", how="left")
    foreign = known.filter(pl.col("axis").is_null())
    if len(foreign):
        raise SteerworksError(
            f"the requests have targets for goal {foreign['goal'][0]!r}, which the goal space lacks (it has "
            f"{', '.join(space.goals)}): draw the probe again in this goal space"
        )
    if len(known) != len(rows) * len(space.goals):
        counted = wanted.join(known.group_by("request_id").len(), on="request_id", how="left").fill_null(0)
        short = counted.filter(pl.col("len") != len(space.goals))
        raise SteerworksError(
            f"{len(short)} requests do not have exactly one row a goal in `request_goals` ({_named(short)}): "
            f"each needs {len(space.goals)}, one for each of {', '.join(space.goals)}"
        )
    at = known["row"].to_numpy(), known["axis"].to_numpy()
    shape = (len(rows), len(space.goals))
    filled = []
    for column in ("z0", "z_star", "z0_raw"):
        matrix = np.full(shape, np.nan)
        matrix[at] = to_array(known[column])
        filled.append(matrix)
    z0, z_star, z0_raw = filled
    located = space.locate(z0_raw)[0]
    moved = np.argwhere(np.abs(located - z0) > SAME_START)
    if len(moved):
        row, axis = moved[0]
        raise SteerworksError(
            f"request {rows['request_id'][int(row)]}: goal {space.goals[axis]!r} starts at {z0[row, axis]:.6f}, "
            f"but its raw value {z0_raw[row, axis]:g} lies at {located[row, axis]:.6f} in this goal space: "
            "the probe was drawn with other bounds; draw it again"
        )
    return z0, z_star, z0_raw


def _raw_values(rows: pl.DataFrame, values: pl.DataFrame, space: GoalSpace, z0_raw: Floats) -> Floats:
    """Raw values of the chosen texts, [n, d]; NaN where undefined, or where a failed text was not measured."""
    keyed = values.select("text_id", "scorer_id").unique()
    unchanged = (rows["text_id"] == rows["source_id"]).to_numpy()
    raw = space.matrix(values, rows["text_id"])
    for axis, scorer_id in enumerate(space.scorer_ids):
        measured = keyed.filter(pl.col("scorer_id") == scorer_id)["text_id"]
        absent = ~rows["text_id"].is_in(measured.implode()).to_numpy()
        # the source's own value is on record with the request
        raw[:, axis] = np.where(absent & unchanged, z0_raw[:, axis], raw[:, axis])
        missing = rows.filter(pl.Series(absent & ~unchanged) & pl.col("failure").is_null())
        if len(missing):
            raise SteerworksError(
                f"{len(missing)} outcomes have no value of {scorer_id} ({_named(missing)}): "
                "measure the chosen texts with every scorer of the goal space first"
            )
    return raw


def _failures(rows: pl.DataFrame, raw: Floats) -> pl.Series:
    undefined = pl.Series(np.isnan(raw).any(axis=1))
    return rows.select(
        pl.when(pl.col("failure").is_null() & undefined)
        .then(pl.lit("undefined"))
        .otherwise(pl.col("failure"))
        .alias("failure")
    )["failure"]


def _score_columns(rows: pl.DataFrame, z0: Floats, z_star: Floats, z_hat: Floats) -> dict[str, pl.Series]:
    exact = continuous_scores(z0, z_star, z_hat)
    binned = binned_scores(z0, z_star, z_hat)
    failed = np.isnan(exact.error)
    columns = {
        "requested": exact.requested,
        "moved": exact.moved,
        "error": exact.error,
        "miscalibration": exact.miscalibration,
        "orthogonality": exact.orthogonality,
        "sensitivity": exact.sensitivity,
        "directionality": exact.directionality,
        "score": exact.score,
        "error_binned": binned.error,
        "miscalibration_binned": binned.miscalibration,
        "orthogonality_binned": binned.orthogonality,
        "error_worst": np.where(failed, worst_error(z0, z_star), exact.error),
        "miscalibration_worst": np.where(failed, worst_miscalibration(z0, z_star), exact.miscalibration),
        "orthogonality_worst": np.where(failed, 1.0, exact.orthogonality),
        "error_permuted": _permuted(rows, z0, z_star, z_hat),
    }
    return {name: to_column(column) for name, column in columns.items()}


def _permuted(rows: pl.DataFrame, z0: Floats, z_star: Floats, z_hat: Floats) -> Floats:
    """The exchanged-request control, probe by probe."""
    found = np.full(len(rows), np.nan)
    probes, texts = rows["probe"].to_numpy(), rows["source_id"].to_numpy()
    for probe in rows["probe"].unique().to_list():
        here = np.flatnonzero(probes == probe)
        found[here] = permuted_error(z0[here], z_star[here], z_hat[here], texts[here])
    return found


def _meaning_columns(rows: pl.DataFrame, complete: NDArray[np.bool_], embed: Similarity | None) -> dict[str, pl.Series]:
    sources = rows.filter(pl.Series(complete))["source"].to_list()
    rewrites = rows.filter(pl.Series(complete))["rewrite"].to_list()
    columns = {}
    measures: dict[str, Similarity | None] = {
        "meaning_content": content_f1_pairs,
        "meaning_chrf": chrf_pairs,
        "meaning_embedding": embed,
    }
    for name, measure in measures.items():
        column = np.full(len(rows), np.nan)
        if measure is not None and complete.any():
            column[complete] = measure(sources, rewrites)
        columns[name] = to_column(column)
    return columns


def _movements(
    rows: pl.DataFrame,
    goals: tuple[str, ...],
    z0: Floats,
    z_star: Floats,
    z_hat: Floats,
    overshoot: Floats,
    raw: Floats,
) -> pl.DataFrame:
    """Long table, request by request, goals in the order of the axes."""
    repeated = {name: np.repeat(rows[name].to_numpy(), len(goals)) for name in ("request_id", "probe")}
    return pl.DataFrame(
        {
            **{name: pl.Series(column, dtype=pl.String) for name, column in repeated.items()},
            "goal": pl.Series(list(goals) * len(rows), dtype=pl.String),
            "z0": to_column(z0.ravel()),
            "z_star": to_column(z_star.ravel()),
            "z_hat": to_column(z_hat.ravel()),
            "overshoot": to_column(overshoot.ravel()),
            "value": to_column(raw.ravel()),
        }
    )


def _named(rows: pl.DataFrame) -> str:
    shown = ", ".join(rows["request_id"].head(SHOWN).to_list())
    return f"first: {shown}"
