"""Two cells beside each other, apart from the request: methods of one model that are asked for the very same.

1. A pair is two methods in the settings that the same request gives them: what each costs to get the same thing.
2. Item by item, as a cell is held against the model as it is (`changes`): exchange within clusters, Holm over all rows
   of the table. If two methods do the same, the chance that any metric of any pair is called different is at most 5 %.
3. A profile that one of the two was asked in an earlier form has no item in common with the other's, or other
   settings: it is no part of the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from schemas.profiles import ProfileContrasts
from steer_core.evaluation.profiles.changes import DRAWS, compared

#: Bumped when the same values give other contrasts.
VERSION = "1"
#: Methods of a model that a leaderboard holds beside each other, the best first: pairs grow with their square.
MOST = 12


def contrasts_of(
    values: pl.DataFrame,
    arms: pl.DataFrame,
    changes: pl.DataFrame,
    items: pl.DataFrame,
    pairs: Sequence[tuple[str, str, str]],
    *,
    digests: Mapping[str, str],
    seed: int = 0,
    draws: int = DRAWS,
) -> pl.DataFrame:
    """All pairs of cells, request by request.

    Args:
        values: rows of `profile_values` with columns `model` and `method`.
        arms: rows of `profile_arms` with these.
        changes: rows of `profile_changes` with these: what each cell was asked.
        items: rows of `profile_items`.
        pairs: model, method, and the method that it is held against.
        digests: profile -> what it is now (`kind.digests`); what a cell says of an earlier one is left out.
        seed: of the exchanges.
        draws: of them, at the least.

    Returns:
        Rows of `profile_contrasts`; a pair without a request or profile in common has none.
    """
    cell = ["model", "method"]
    now = pl.DataFrame(
        {"profile": list(digests), "asked": list(digests.values())},
        schema=dict.fromkeys(("profile", "asked"), pl.String),
    )
    current = changes.join(now, on=["profile", "asked"], how="semi").select(*cell, "profile").unique()
    values = values.join(current, on=[*cell, "profile"], how="semi", maintain_order="left")
    settings = arms.filter(pl.col("role") == "request").select(*cell, "arm_id", request="asked")
    wanted = pl.DataFrame(
        list(pairs), schema=dict.fromkeys(("model", "method", "other_method"), pl.String), orient="row"
    )
    found = (
        wanted.join(settings, on=cell, how="inner", maintain_order="left")
        .join(
            settings.rename({"method": "other_method", "arm_id": "other_arm_id"}),
            on=["model", "other_method", "request"],
            how="inner",
            maintain_order="left",
        )
        .with_row_index("pair")
        .with_columns(pl.col("pair").cast(pl.String))
    )
    own = found.select(*cell, "arm_id", "pair").join(values, on=[*cell, "arm_id"], how="inner", maintain_order="left")
    other = found.select("model", "pair", method="other_method", arm_id="other_arm_id").join(
        values, on=[*cell, "arm_id"], how="inner", maintain_order="left"
    )
    sides = [rows.drop("arm_id", *cell).rename({"pair": "arm_id"}) for rows in (own, other)]
    # what only one of the two was asked is no comparison
    shared = ["arm_id", "profile", "metric"]
    mine, theirs = (a.join(b, on=shared, how="semi", maintain_order="left") for a, b in (sides, sides[::-1]))
    rows = compared(mine, theirs, items, seed=seed, draws=draws, cells=2).rename(
        {"arm_id": "pair", "plain_value": "other_value", "plain_missing": "other_missing"}
    )
    return found.join(rows, on="pair", how="inner", maintain_order="left_right").select(ProfileContrasts.names())
