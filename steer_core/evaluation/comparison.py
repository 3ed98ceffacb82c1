"""A cell beside its controls, request by request.

1. `copy`, `rewrite` and whatever other cells are passed: the same requests under the headline of another method.
2. `permuted`: the cell's own outcomes against the other requests on the same source text, the control that holds all
   fixed but the request. It exists for `error` alone, with the rank p of the real pairing among shuffled ones (see
   `controls.permutation_p`): what is said of listening stands on that.
3. `complete`: requests that neither side failed. `worst`: all requests, failures at their worst value; a failed row has
   no position to hold against other targets, so `permuted` charges it the same worst value on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import polars as pl

from schemas.evaluation import HEADLINE, Comparisons
from steer_core.evaluation.columns import to_array
from steer_core.evaluation.controls import permutation_p
from steer_core.evaluation.summary import WORST
from steer_core.statistics import paired_contrast
from steer_core.tables import SteerworksError

#: Control that every cell carries within itself.
PERMUTED = "permuted"
#: Measures compared over complete cases; those of `WORST` are compared in the worst case too. Lower is better in all.
COMPARED = (*WORST, "error_binned", "miscalibration_binned", "orthogonality_binned")


def compare(
    steerability: pl.DataFrame,
    movements: pl.DataFrame,
    controls: Mapping[str, pl.DataFrame],
    *,
    permutations: int,
    seed: int,
) -> pl.DataFrame:
    """Paired contrasts of a cell with its controls, probe by probe.

    Args:
        steerability: rows of `schemas.Steerability` of the cell.
        movements: rows of `schemas.GoalMovements` for the same requests.
        controls: name of a control -> its rows of `schemas.Steerability`; may be empty.
        permutations: shuffles behind the rank p of the permuted control.
        seed: seed of the shuffles; every probe starts from it.

    Returns:
        Rows of `schemas.Comparisons`. A control without a request in common has n = 0 and null figures.

    Raises:
        SteerworksError: a control was measured in another goal space, or is called `permuted`.
    """
    if PERMUTED in controls:
        raise SteerworksError(f"a control cannot be called {PERMUTED!r}: that is the cell's own shuffled control")
    for name, control in controls.items():
        _same_space(steerability, name, control)
    rows = []
    for (arm_id, probe), cell in steerability.group_by(["arm_id", "probe"], maintain_order=True):
        head = {"arm_id": arm_id, "probe": probe, "goal_space_id": cell["goal_space_id"][0]}
        for name, control in controls.items():
            for measure, column, reading in _columns():
                paired = cell.select("request_id", "text_id", value=column).join(
                    control.filter(pl.col("arm_id") == HEADLINE).select("request_id", control=column),
                    on="request_id",
                    how="inner",
                    maintain_order="left",
                )
                rows.append({**head, **_contrast(paired, name, measure, reading)})
        own = cell.select("request_id", "text_id", value="error", control="error_permuted")
        p = _listening_p(cell, movements, permutations, seed)
        rows.append({**head, **_contrast(own, PERMUTED, "error", "complete"), "p": p})
        charged = pl.when(pl.col("failure").is_null()).then("error_permuted").otherwise("error_worst")
        own = cell.select("request_id", "text_id", value="error_worst", control=charged)
        rows.append({**head, **_contrast(own, PERMUTED, "error", "worst")})
    return pl.DataFrame(rows, schema=Comparisons.dtypes())


def _columns() -> list[tuple[str, str, str]]:
    """(measure, column, reading) of every contrast with another cell."""
    return [(m, m, "complete") for m in COMPARED] + [(m, f"{m}_worst", "worst") for m in WORST]


def _listening_p(cell: pl.DataFrame, movements: pl.DataFrame, permutations: int, seed: int) -> float | None:
    moved = movements.join(
        cell.select("arm_id", "request_id", "text_id"), on=["arm_id", "request_id"], maintain_order="right"
    )
    columns = ["z0", "z_star", "z_hat"]
    wide = moved.pivot("goal", index=["request_id", "text_id"], values=columns, maintain_order=True).sort("request_id")
    goals = moved["goal"].unique(maintain_order=True).to_list()
    z0, z_star, z_hat = (np.column_stack([to_array(wide[f"{c}_{goal}"]) for goal in goals]) for c in columns)
    texts, rng = wide["text_id"].to_numpy(), np.random.default_rng(seed)
    return permutation_p(z0, z_star, z_hat, texts, permutations=permutations, rng=rng)


def _contrast(paired: pl.DataFrame, control: str, measure: str, reading: str) -> dict[str, object]:
    found = paired_contrast(
        to_array(paired["value"]),
        to_array(paired["control"]),
        paired["text_id"].to_numpy(),
    )
    return {"control": control, "measure": measure, "reading": reading, **asdict(found), "p": None}


def _same_space(steerability: pl.DataFrame, name: str, control: pl.DataFrame) -> None:
    one, other = set(steerability["goal_space_id"]), set(control["goal_space_id"])
    if one and other and one != other:
        raise SteerworksError(
            f"control {name!r} was measured in goal space {', '.join(sorted(other))}, the cell in "
            f"{', '.join(sorted(one))}: results never compare across goal spaces; evaluate the control again"
        )
