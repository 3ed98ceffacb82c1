"""Probes: the released 64 x 32 probe against our bins, our drawing, and its own published counts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import sqrt

import numpy as np

from schemas.specs import ProbeSpec
from steer_core.evaluation.binned import bin_of
from steer_core.evaluation.parity.claim import Claim, File, Printed, Supplies
from steer_core.evaluation.parity.files import number, records
from steer_core.evaluation.parity.released import GOALS, PER_TEXT, Floats, recovered_starts, released_deltas
from steer_core.goals.space import GoalSpace
from steer_core.probes.draw import draw_deltas

RELEASED = "Chang et al. (2025), arXiv 2505.23816; released probe steerbench_v2.1, 64 x 32"
WORDS = ("slightly", "plainly", "much")
STRENGTHS = {"slightly": 1408, "plainly": 3411, "much": 1325}
#: Requests without a goal.
WITHOUT = {"formality": 532, "textual_diversity": 512, "reading_difficulty": 504, "text_length": 500}
#: Requests that ask two goals for opposite bins, by pairs of `GOALS` in order.
OPPOSITE = (232, 148, 167, 185, 195, 183)
#: Bounds of the released goal space, low and high, by goal.
BOUNDS = {
    "reading_difficulty": (2.8, 12.9),
    "textual_diversity": (44.84394871794872, 128.54409583333333),
    "text_length": (78.0, 1509.0),
    "formality": (40.37, 69.121634),
}
#: The probe again, with our drawing: the mean of this many.
DRAWS = 20


def _counts(supplies: Supplies) -> Mapping[str, float]:
    deltas = released_deltas()
    active = ~np.isnan(deltas)
    size, length = np.abs(deltas[active]), np.sqrt(np.nansum(deltas**2, axis=1))
    return {
        "requests": len(deltas),
        "texts": len(deltas) // PER_TEXT,
        "fewest active goals": int(active.sum(axis=1).min()),
        "most active goals": int(active.sum(axis=1).max()),
        **{f"without {goal}": int((~active[:, GOALS.index(goal)]).sum()) for goal in WITHOUT},
        "smallest move": float(size.min()),
        "largest move": float(size.max()),
        "median length of a request": float(np.median(length)),
        "shortest request": float(length.min()),
        "longest request": float(length.max()),
    }


def steps_of(deltas: Floats) -> Floats:
    """Bins that moves ask for, -3 to 3, as our lattice has them; 0 where inactive."""
    start = np.full(deltas.shape, 0.5)
    return np.nan_to_num(bin_of(start + deltas, start) - 3)


def _strengths(supplies: Supplies) -> Mapping[str, float]:
    step = np.abs(steps_of(released_deltas()))
    return {word: int((step == k).sum()) for k, word in enumerate(WORDS, start=1)}


def _pairs() -> list[str]:
    return [f"{a} and {b}" for a, b in combinations(GOALS, 2)]


def _opposite(supplies: Supplies) -> Mapping[str, float]:
    deltas = released_deltas()
    step, active = steps_of(deltas), ~np.isnan(deltas)
    found = [
        int(((step[:, i] + step[:, j] == 0) & active[:, i] & active[:, j]).sum()) for i, j in combinations(range(4), 2)
    ]
    return dict(zip(_pairs(), found, strict=True))


def _shares(deltas: Floats) -> dict[str, float]:
    """Shares of strengths among active moves, of moves up, and of requests without each goal."""
    active = ~np.isnan(deltas)
    step = np.abs(steps_of(deltas))[active]
    return {
        **{f"{word}, share of moves": float((step == k).mean()) for k, word in enumerate(WORDS, start=1)},
        "up, share of moves": float((deltas[active] > 0).mean()),
        **{f"without {goal}, share of requests": float((~active[:, g]).mean()) for g, goal in enumerate(GOALS)},
    }


def _drawn(supplies: Supplies) -> Mapping[str, float]:
    starts = recovered_starts(released_deltas())
    spec = ProbeSpec(name="steerbench", n_texts=64, n_goals_per_text=PER_TEXT, active=3, weighting="linear")
    found = [_shares(draw_deltas(spec, GOALS, starts, np.random.default_rng([42, i]))) for i in range(DRAWS)]
    return {name: float(np.mean([shares[name] for shares in found])) for name in found[0]}


def _drawn_published() -> dict[str, Printed]:
    moves = sum(STRENGTHS.values())
    shares = {f"{word}, share of moves": (n / moves, moves) for word, n in STRENGTHS.items()}
    shares["up, share of moves"] = (UP / moves, moves)
    shares |= {f"without {goal}, share of requests": (WITHOUT[goal] / 2048, 2048) for goal in GOALS}
    because = "of it three standard errors of the released draw, and .01 for starts that are recovered, not known"
    return {
        name: Printed(f"{share:.4f}", 3 * sqrt(share * (1 - share) / n) + 0.01, because)
        for name, (share, n) in shares.items()
    }


#: Active moves of the released probe that ask for more; counted in the file.
UP = 2887


def _hub_file(supplies: Supplies) -> Mapping[str, float | None]:
    rows = records(supplies.file(HUB.name))
    raw = np.array([[number(row, goal) for goal in GOALS] for row in rows])
    start = np.array([[number(row, f"source_{goal}") for goal in GOALS] for row in rows])
    asked = np.array(
        [[np.nan if row.get(f"delta_{g}") in (None, "") else number(row, f"delta_{g}") for g in GOALS] for row in rows]
    )
    space = GoalSpace(GOALS, GOALS, np.array([BOUNDS[g][0] for g in GOALS]), np.array([BOUNDS[g][1] for g in GOALS]))
    deltas = released_deltas()
    same = asked.shape == deltas.shape
    return {
        "requests": len(rows),
        "largest difference of a start": float(np.abs(space.locate(raw)[0] - start).max()),
        "largest difference of a move": float(np.nanmax(np.abs(asked - deltas))) if same else None,
        "moves that only one of the two has": int((np.isnan(asked) != np.isnan(deltas)).sum()) if same else None,
    }


HUB = File("steerbench/2025_06_steerbench_64x32.csv", "hub data set tchang97/steerbench")


def claims() -> list[Claim]:
    """Claims of this family."""
    return [
        Claim(
            "probe-counts",
            "What the released probe asks for: requests, active goals, sizes of moves",
            RELEASED,
            {
                "requests": 2048,
                "texts": 64,
                "fewest active goals": 3,
                "most active goals": 3,
                **{f"without {goal}": n for goal, n in WITHOUT.items()},
                "smallest move": ".1001",
                "largest move": ".6995",
                "median length of a request": ".648",
                "shortest request": ".20",
                "longest request": "1.15",
            },
            _counts,
        ),
        Claim(
            "probe-strengths",
            "How many moves our bins call slight, plain and much",
            f"{RELEASED}; strength words of its prompts",
            STRENGTHS,
            _strengths,
        ),
        Claim(
            "probe-opposite-bins",
            "Requests that ask two goals for opposite bins, by our bins",
            f"{RELEASED}; filter of its flow diagrams",
            dict(zip(_pairs(), OPPOSITE, strict=True)),
            _opposite,
        ),
        Claim(
            "probe-drawing",
            f"Our drawing at the released probe's starts, mean of {DRAWS} probes, against the released moves",
            f"{RELEASED}; shares of its 6144 moves",
            _drawn_published(),
            _drawn,
        ),
        Claim(
            "probe-file",
            "Starts of the released probe by our goal space from its raw values, and its moves against those that ship",
            f"{RELEASED}, file of the hub",
            {
                "requests": 2048,
                "largest difference of a start": "0.000000",
                "largest difference of a move": "0.000000",
                "moves that only one of the two has": 0,
            },
            _hub_file,
            (HUB,),
        ),
    ]
