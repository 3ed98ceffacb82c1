"""All claims of parity, by family: the one place that sees every room that published a number is recomputed in."""

from __future__ import annotations

import polars as pl

from steer_core.adapters import parity as training
from steer_core.evaluation.parity import contrasts, metrics, models, probes, profiles, vectors
from steer_core.evaluation.parity.claim import Claim, Supplies, check_claims


def all_claims() -> dict[str, list[Claim]]:
    """Family -> its claims, in the order of `schemas.parity.FAMILIES`."""
    return {
        "profiles": profiles.claims(),
        "probes": probes.claims(),
        "metrics": metrics.claims(),
        "vectors": vectors.claims(),
        "contrasts": contrasts.claims(),
        "training": training.claims(),
        "models": models.claims(),
    }


def parity_table(supplies: Supplies) -> pl.DataFrame:
    """Published numbers beside ours; see `check_claims`."""
    return check_claims(all_claims(), supplies)
