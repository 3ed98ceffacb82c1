"""Training: published values of SteerLM's levels and weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from schemas.steerlm import AttributeSpec
from steer_core.adapters.steerlm.beta import Edges, level_probabilities
from steer_core.adapters.steerlm.labels import level_of_share
from steer_core.adapters.steerlm.weights import divergence, model_weights, sample_weights
from steer_core.evaluation.parity.claim import Claim, Supplies

HELPSTEER2 = "Wang et al. (2024), HelpSteer2, arXiv 2406.08673, SteerLM 2.0"
LOG_A, LOG_Y = np.array([-2.0, -1.0, -4.0]), np.array([-50.0, -55.0, -48.0])
LOG_OLD, LOG_NEW = np.array([-49.0, -54.0, -47.5]), np.array([-48.5, -54.5, -47.0])
#: Score, edges -> probabilities of the levels 0 to 4.
LEVELS: dict[tuple[float, Edges], tuple[str, ...]] = {
    (2.5, "rounding"): (".0000", ".0065", ".4794", ".5129", ".0012"),
    (2.0, "rounding"): (".000", ".109", ".782", ".109", ".000"),
    (2.5, "fifths"): (".0000", ".0128", ".3755", ".5843", ".0273"),
}


def _levels(supplies: Supplies) -> Mapping[str, float]:
    spec = AttributeSpec(name="helpfulness")
    found: dict[str, float] = {}
    for score, edges in LEVELS:
        row = level_probabilities(np.array([score]), spec, edges=edges)[0]
        found |= {f"score {score}, {edges}, level {k}": float(p) for k, p in enumerate(row)}
    return found


def _weights(supplies: Supplies) -> Mapping[str, float]:
    w, b = sample_weights(LOG_A, LOG_Y, LOG_OLD), model_weights(LOG_NEW, LOG_OLD)
    return {
        **{f"w' {i}": float(v) for i, v in enumerate(w)},
        **{f"b' {i}": float(v) for i, v in enumerate(b)},
        **{f"w' - b' {i}": float(v) for i, v in enumerate(w - b)},
        "KL(w' | b')": float(divergence(w, b)),
    }


def _rounding(supplies: Supplies) -> Mapping[str, float]:
    spec = AttributeSpec(name="quality")
    return {f"4 x {share}": level_of_share(share, spec, "half_even") for share in (0.125, 0.375, 0.625, 0.875)}


def claims() -> list[Claim]:
    """Claims of this family."""
    return [
        Claim(
            "steerlm-levels",
            "Probability of each level under Beta(24 r, 24 - 24 r), for two sets of edges",
            HELPSTEER2,
            {
                f"score {score}, {edges}, level {k}": digits
                for (score, edges), row in LEVELS.items()
                for k, digits in enumerate(row)
            },
            _levels,
        ),
        Claim(
            "steerlm-weights",
            "Weights of three answers to one prompt under the attributes and under the model, and their divergence",
            HELPSTEER2,
            {
                **dict(zip(("w' 0", "w' 1", "w' 2"), (".253716", ".689672", ".056612"), strict=True)),
                **dict(zip(("b' 0", "b' 1", "b' 2"), (".422319", ".155362", ".422319"), strict=True)),
                **dict(zip(("w' - b' 0", "w' - b' 1", "w' - b' 2"), ("-.168603", ".534310", "-.365707"), strict=True)),
                "KL(w' | b')": ".784882",
            },
            _weights,
        ),
        Claim(
            "steerlm-rounding",
            "Levels of ratings that lie half-way, rounded to the even one as published",
            "NeMo-Aligner af2b3bd9, OASST preprocessing",
            {"4 x 0.125": 0, "4 x 0.375": 2, "4 x 0.625": 2, "4 x 0.875": 4},
            _rounding,
        ),
    ]
