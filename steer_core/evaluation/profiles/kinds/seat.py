"""SEAT: which attributes lie near which words in the model (`steer_core.evaluation.profiles.association`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from schemas.profile_sets import SeatSet
from schemas.profile_spec import ProfileSpec
from steer_core.evaluation.profiles.association import (
    Association,
    Floats,
    association_test,
    associations,
    sizes_by_type,
)
from steer_core.evaluation.profiles.association import (
    How as Partitions,
)
from steer_core.evaluation.profiles.kind import Figure, Found, How, Metric, value_rows
from steer_core.evaluation.profiles.sets import ItemSet, read_set
from steer_core.statistics import Estimate

VERSION = "1"
ASKS = "encoded"
ONE_SIDED = "a side of the test has no text"
UNREAD = "the text was not read"
METRICS: Mapping[str, Metric] = {
    "association": Metric("how much nearer X lies to A than to B, and Y the other way round; 0 is without association")
}


class SeatProfile(ProfileSpec):
    """Sentence association tests."""

    kind: Literal["seat"] = "seat"
    set: SeatSet = Field(default_factory=lambda: SeatSet.model_validate({}), description="The tests")
    partitions: Partitions | None = Field(
        None, description="`exact`, `sampled` or `parametric`; null: exact where there are few"
    )
    samples: int = Field(100_000, gt=0, description="Partitions that are drawn where not all are looked at")


SPEC = SeatProfile


def items(spec: SeatProfile) -> ItemSet:
    """The texts of the tests."""
    return read_set(spec.set)


#: Sides of a test: item ids, embeddings, words of each.
Sides = dict[str, tuple[list[str], Floats, list[str]]]
#: Texts of a test that lie nowhere: item id, side, why.
Lacking = list[tuple[str, str, str]]


def _tests(found: Found, arm: str) -> Iterator[tuple[str, str, Sides, Lacking]]:
    """Name and type of each test with its four sides, and the texts that these lack."""
    of_items = [(i, json.loads(f)) for i, f in found.items.select("item_id", "facts").iter_rows()]
    own = found.vectors.filter(pl.col("arm_id") == arm).select("item_id", "values", "missing")
    places = {i: (None if v is None else np.asarray(v, dtype=np.float64), why) for i, v, why in own.iter_rows()}
    tests: dict[tuple[str, str], dict[str, list[tuple[str, Any, str]]]] = {}
    lacking: dict[tuple[str, str], Lacking] = {}
    for item, facts in of_items:
        key = (facts["test"], facts["type"])
        sides = tests.setdefault(key, {side: [] for side in "xyab"})
        place, why = places.get(item, (None, None))
        if place is None:
            lacking.setdefault(key, []).append((item, facts["side"], why or UNREAD))
        else:
            sides[facts["side"]].append((item, place, facts["word"]))
    for (name, kind), found_sides in tests.items():
        yield (
            name,
            kind,
            {
                side: ([r[0] for r in rows], np.array([r[1] for r in rows]), [r[2] for r in rows])
                for side, rows in found_sides.items()
            },
            lacking.get((name, kind), []),
        )


def measure(spec: SeatProfile, found: Found) -> pl.DataFrame:
    """The association of each target text, turned so that above 0 is the stereotype."""
    rows: list[tuple[str, str, int, str, float | None, str | None]] = []
    for arm in found.arms:
        for _, _, sides, lacking in _tests(found, arm):
            rows += [(arm, item, 0, "association", None, why) for item, side, why in lacking if side in "xy"]
            if not all(len(sides[s][0]) for s in "xyab"):
                rows += [(arm, i, 0, "association", None, ONE_SIDED) for s in "xy" for i in sides[s][0]]
                continue
            for side, sign in (("x", 1.0), ("y", -1.0)):
                ids, vectors, _words = sides[side]
                near = associations(vectors, sides["a"][1], sides["b"][1])
                rows += [(arm, i, 0, "association", sign * float(v), None) for i, v in zip(ids, near, strict=True)]
    return value_rows(rows)


def figures(spec: SeatProfile, found: Found, values: pl.DataFrame, how: How) -> Iterator[Figure]:
    """Effect size and p of each test; the mean size of each type of bias beside what it would be without any."""
    for arm in found.arms:
        done: list[tuple[str, Association]] = []
        for name, kind, sides, lacking in _tests(found, arm):
            if not all(len(sides[s][0]) for s in "xyab"):
                nothing = Estimate(None, None, None, 0, 0)
                yield Figure(arm, "effect_size", nothing, name, kind, len(lacking), ONE_SIDED)
                continue
            x, y, a, b = (sides[s][1] for s in "xyab")
            words = (np.array(sides["x"][2]), np.array(sides["y"][2]))
            repeated = len(set(words[0])) < len(words[0]) or len(set(words[1])) < len(words[1])
            test = association_test(
                x, y, a, b, rng=np.random.default_rng(how.seed), how=spec.partitions, samples=spec.samples,
                words=words if repeated else None,
            )  # fmt: skip
            done.append((kind, test))
            size = test.n_x + test.n_y
            said = test.reason or f"{test.how}, {test.partitions} partitions of {test.units}"
            for metric, value in (
                ("effect_size", test.effect),
                ("p", test.p),
                ("p_two_sided", test.p_two_sided),
                ("null_size", test.null_size),
            ):
                yield Figure(arm, metric, Estimate(value, None, None, size, test.units), name, kind, len(lacking), said)
        for kind, sizes in sizes_by_type(done).items():
            for metric, value in (("mean_size", sizes.mean_size), ("mean_null_size", sizes.null_size)):
                own = Estimate(value, None, None, sizes.n_tests, sizes.n_tests)
                yield Figure(arm, metric, own, kind, "by type", sizes.n_undefined)


def shown(spec: SeatProfile, row: Mapping[str, Any]) -> bool:
    """Effect sizes with their two-sided p."""
    return row["metric"] in ("effect_size", "p_two_sided")
