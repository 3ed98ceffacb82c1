"""A person's word on answers that a judge was asked about, and what then stays with its source.

A ruling is of an answer to a request, whoever had judged it: another judge finds it as well. What people say is only
ever added to; the last ruling on an answer counts, and one without a word takes earlier ones back.
"""

from __future__ import annotations

import time

import numpy as np
import polars as pl

from schemas import Rulings
from schemas.digest import digest_json
from schemas.validation import GroundednessCalibration, GroundednessSummary
from steer_core.statistics.clustered import clustered_share
from steer_core.tables.errors import SteerworksError

#: Bumped when the same verdicts and rulings settle otherwise.
VERSION = "1"


def to_review(
    groundedness: pl.DataFrame, rulings: pl.DataFrame, *, spot: int = 0, seed: int = 0, again: bool = False
) -> pl.DataFrame:
    """Answers that somebody should look at and nobody has: the doubtful ones, then some of the others.

    Args:
        groundedness: rows of `groundedness`.
        rulings: rows of `rulings`.
        spot: answers on which judge and words agree that are drawn as well.
        seed: of that draw.
        again: those that somebody has looked at as well.

    Returns:
        Those rows of `groundedness`, and `spot_check`.
    """
    seen = last_rulings(rulings.head(0) if again else rulings)
    waiting = groundedness.join(seen, on=["request_id", "response_id"], how="anti", maintain_order="left")
    doubtful = waiting.filter("review").with_columns(spot_check=pl.lit(False))
    sure = waiting.filter(~pl.col("review")).with_columns(spot_check=pl.lit(True)).sort("request_id")
    order = np.random.default_rng(seed).permutation(sure.height)[:spot]
    drawn: pl.DataFrame = sure[order.tolist()]
    return pl.concat([doubtful, drawn])


def ruling(
    row: dict[str, object], grounded: bool | None, by: str, note: str = "", at: float | None = None
) -> pl.DataFrame:
    """A person's word on an answer, as a row of `rulings`.

    Args:
        row: a row of `to_review`.
        grounded: whether it stays with its source; None takes earlier rulings back.
        by: who says so.
        note: why.
        at: when, in seconds since 1970; None: now.

    Raises:
        SteerworksError: nobody is named.
    """
    if not by.strip():
        raise SteerworksError("a ruling needs a name: who says so?")
    said = {
        "request_id": row["request_id"],
        "response_id": row["response_id"],
        "judged": row["grounded"],
        "spot_check": bool(row["spot_check"]),
        "grounded": grounded,
        "by": by.strip(),
        "at": time.time() if at is None else at,
        "note": note.strip(),
    }
    return pl.DataFrame([{"ruling_id": digest_json(said), **said}], schema=Rulings.empty().schema)


def last_rulings(rulings: pl.DataFrame) -> pl.DataFrame:
    """The ruling that counts on each answer; none where it was taken back."""
    return (
        rulings.sort("at", "ruling_id")
        .group_by("request_id", "response_id", maintain_order=True)
        .agg(pl.col("grounded").last(), pl.col("spot_check").last())
        .drop_nulls("grounded")
        .rename({"grounded": "ruled"})
    )


def settle(groundedness: pl.DataFrame, rulings: pl.DataFrame) -> pl.DataFrame:
    """Rows of `settled_groundedness`: a person's word before the judge's."""
    joined = groundedness.join(
        last_rulings(rulings), on=["request_id", "response_id"], how="left", maintain_order="left"
    )
    ruled, judged = pl.col("ruled"), pl.col("grounded")
    state = (
        pl.when(ruled.is_null() & pl.col("review"))
        .then(pl.lit("open"))
        .when(ruled.is_null())
        .then(pl.lit("judged"))
        .when(judged.is_null())
        .then(pl.lit("ruled"))
        .when(ruled == judged)
        .then(pl.lit("upheld"))
        .otherwise(pl.lit("overruled"))
    )
    return joined.select(
        "request_id",
        "response_id",
        judged=judged,
        ruled=ruled,
        grounded=pl.coalesce(ruled, judged),
        state=state,
    )


def summarise(
    settled: pl.DataFrame,
    rulings: pl.DataFrame,
    calibration: pl.DataFrame,
    texts: pl.DataFrame,
    judge_id: str,
) -> pl.DataFrame:
    """The row of `groundedness_summary` of a cell; none where it has no answers.

    Args:
        settled: rows of `settled_groundedness`.
        rulings: rows of `rulings`.
        calibration: the judge's row on texts of known label; no row: it was not tried.
        texts: request_id and text_id, whose requests share a source.
        judge_id: the judge's.
    """
    if not settled.height:
        return GroundednessSummary.empty()
    rows = settled.join(texts, on="request_id", how="left", maintain_order="left")
    found = clustered_share(
        rows["grounded"].cast(pl.Float64).fill_null(float("nan")).to_numpy(), rows["text_id"].to_numpy()
    )
    spot = rows.join(last_rulings(rulings).filter("spot_check"), on=["request_id", "response_id"], how="semi")
    known = calibration.row(0, named=True) if calibration.height else dict.fromkeys(GroundednessCalibration.names())
    is_open = pl.col("state") == "open"
    row = {
        "judge_id": judge_id,
        "n": rows.height,
        "judged_grounded": int(rows["judged"].sum()),
        "no_verdict": rows["judged"].null_count(),
        "open": rows.filter(is_open).height,
        "looked_at": rows["ruled"].count(),
        "overruled": rows.filter(state="overruled").height,
        "spot_checked": spot.height,
        "spot_overruled": spot.filter(state="overruled").height,
        "share": found.value,
        "low": found.low,
        "high": found.high,
        "worst": rows.filter(~is_open & pl.col("grounded").fill_null(False)).height / rows.height,
        "known": known["n"] or 0,
        "own_accepted": known["own_accepted"],
        "other_accepted": known["other_accepted"],
        "p_value": known["p_value"],
    }
    return pl.DataFrame([row], schema=GroundednessSummary.empty().schema)
