"""The released probe: it ships whole, starts are recovered from its moves, and its file on the hub is read."""

import csv

import numpy as np
import pytest

from schemas.specs import ProbeSpec
from steer_core.evaluation.parity import Supplies, check_claims, probes
from steer_core.evaluation.parity.released import GOALS, PER_TEXT, recovered_starts, released_deltas
from steer_core.probes.draw import draw_deltas

SPEC = ProbeSpec(name="p", n_texts=64, n_goals_per_text=PER_TEXT, active=3, weighting="linear")


def hub_rows(starts):
    """Rows as on the hub: raw values, starts, moves (empty where inactive)."""
    for start, delta in zip(starts, released_deltas(), strict=True):
        row = {}
        for k, goal in enumerate(GOALS):
            low, high = probes.BOUNDS[goal]
            row[goal] = low + (high - low) * start[k]
            # beyond the bounds the published start is clipped
            row[f"source_{goal}"] = min(max(start[k], 0.0), 1.0)
            row[f"delta_{goal}"] = "" if np.isnan(delta[k]) else delta[k]
        yield row


def of_file(folder, rows):
    path = folder / "steerbench" / "2025_06_steerbench_64x32.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        rows = list(rows)
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (claim,) = (c for c in probes.claims() if c.name == "probe-file")
    found = check_claims({"probes": [claim]}, Supplies(folder))
    return {r["figure"]: r for r in found.to_dicts()}


def test_starts_are_recovered_from_the_moves_of_a_probe():
    starts = np.random.default_rng(1).uniform(size=(64, 4)).repeat(PER_TEXT, axis=0)
    found = recovered_starts(draw_deltas(SPEC, GOALS, starts, np.random.default_rng(2)))
    off = np.abs(found - starts)
    assert np.median(off) < 0.03
    assert np.quantile(off, 0.9) < 0.1
    # equal for all requests of a text
    assert (np.ptp(found.reshape(64, PER_TEXT, 4), axis=1) == 0).all()


@pytest.mark.parametrize(("dead_zone", "furthest"), [(0.3, 0.7), (0.1, 0.4)])
def test_a_probe_that_is_drawn_otherwise_is_told_from_the_released_one(dead_zone, furthest, monkeypatch):
    def otherwise(spec, *args):
        return draw_deltas(
            spec.model_copy(update={"dead_zone": dead_zone, "delta_min": -furthest, "delta_max": furthest}), *args
        )

    monkeypatch.setattr(probes, "draw_deltas", otherwise)
    monkeypatch.setattr(probes, "DRAWS", 2)
    (claim,) = (c for c in probes.claims() if c.name == "probe-drawing")
    found = check_claims({"probes": [claim]}, Supplies())
    assert "differs" in found["status"].to_list()


def test_the_file_of_the_hub_is_the_probe_that_ships(tmp_path):
    starts = np.random.default_rng(0).uniform(-0.1, 1.1, size=(2048, 4))
    found = of_file(tmp_path, hub_rows(starts))
    assert {r["status"] for r in found.values()} == {"reproduced"}


def test_another_file_differs_by_as_much_as_it_does(tmp_path):
    rows = list(hub_rows(np.full((2048, 4), 0.5)))
    rows[7]["source_formality"] = 0.6
    first = next(g for g in GOALS if rows[3][f"delta_{g}"] != "")
    rows[3][f"delta_{first}"] = ""
    found = of_file(tmp_path, rows)
    assert found["largest difference of a start"]["ours"] == pytest.approx(0.1)
    assert found["moves that only one of the two has"]["ours"] == 1
    assert found["requests"]["status"] == "reproduced"
    short = of_file(tmp_path, rows[:10])
    assert short["requests"]["ours"] == 10
    assert short["largest difference of a move"]["why"] == "ours is undefined or infinite"
    rows[5]["text_length"] = "long"
    assert "row 5 (0-based): text_length is 'long'" in of_file(tmp_path, rows)["requests"]["why"]
