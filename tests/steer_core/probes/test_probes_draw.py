"""Probes: exactly k active goals, dead zone, ranges, splits, and weights that really flatten."""

import numpy as np
import polars as pl
import pytest

from schemas import ProbeDiagnostics, ProbeWeights, RequestGoals, Requests
from schemas.specs import ProbeSpec
from steer_core.goals.space import GoalSpace
from steer_core.probes import density_weights, draw_probes
from steer_core.tables import check
from steer_core.tables.errors import SteerworksError

GOALS = ("a", "b", "c", "d")
SPACE = GoalSpace(GOALS, tuple(f"{g}@1" for g in GOALS), np.zeros(4), np.full(4, 10.0))


def corpus(n: int = 600, seed: int = 0, draw=None):
    """Candidates and their goal values; `draw(rng, shape)` gives raw values in 0..10."""
    rng = np.random.default_rng(seed)
    raw = 10 * (rng.uniform(size=(n, 4)) if draw is None else draw(rng, (n, 4)))
    ids = [f"text-{i:05d}" for i in range(n)]
    texts = pl.DataFrame(
        {"text_id": ids, "text": ids, "source": "s", "split": ["train", "test"] * (n // 2), "unit": "text"}
    )
    values = pl.concat(
        [
            pl.DataFrame({"text_id": ids, "scorer_id": f"{g}@1", "value": raw[:, k], "state": "ok"})
            for k, g in enumerate(GOALS)
        ]
    )
    return texts, values


def spec(**settings) -> ProbeSpec:
    return ProbeSpec.model_validate({"name": "p", "n_texts": 40, "n_goals_per_text": 8, "active": 3, **settings})


def draw(*specs, **kind):
    return draw_probes(specs, *corpus(**kind), SPACE)


def deltas(probe) -> np.ndarray:
    frame = probe.request_goals.with_columns(delta=pl.col("z_star") - pl.col("z0"))
    wide = frame.pivot(on="goal", index="request_id", values="delta", maintain_order=True).drop("request_id")
    return wide.to_numpy().astype(float)


def test_the_tables_keep_their_contracts():
    probe = draw(spec(), spec(name="q", active=1, split="train"))
    check(probe.requests, Requests)
    check(probe.request_goals, RequestGoals)
    check(probe.weights, ProbeWeights)
    check(probe.diagnostics, ProbeDiagnostics)
    assert probe.requests.height == 2 * 40 * 8
    assert probe.weights.group_by("probe").agg(pl.col("selected").sum()).sort("probe")["selected"].to_list() == [40, 40]


@pytest.mark.parametrize("active", [0, 1, 2, 3, 4])
def test_exactly_k_goals_are_active(active):
    found = deltas(draw(spec(active=active)))
    assert (np.isfinite(found).sum(axis=1) == active).all()


def test_active_goals_are_equally_likely():
    found = np.isfinite(deltas(draw(spec(n_texts=200, n_goals_per_text=20, active=1)))).sum(axis=0)
    assert found.sum() == 4000
    assert (np.abs(found - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)).all()


def test_deltas_keep_dead_zone_ranges_and_the_unit_box():
    probe = draw(spec(dead_zone=0.15, delta_min=-0.4, delta_max=0.6))
    found = deltas(probe)
    active = found[np.isfinite(found)]
    assert np.abs(active).min() >= 0.15 - 1e-12
    assert active.min() >= -0.4
    assert active.max() <= 0.6
    assert probe.request_goals["z_star"].drop_nulls().is_between(0, 1).all()


def test_each_side_is_taken_in_proportion_to_its_width():
    texts, values = corpus(400)
    values = values.with_columns(value=pl.lit(3.0))  # z0 = .3: .2 of room below, .6 above
    found = deltas(
        draw_probes([spec(n_texts=100, n_goals_per_text=40, active=1, weighting="none")], texts, values, SPACE)
    )
    active = found[np.isfinite(found)]
    assert (active < 0).mean() == pytest.approx(0.2 / 0.8, abs=0.03)
    assert np.percentile(active[active > 0], 50) == pytest.approx(0.4, abs=0.02)


def test_drawing_again_gives_the_same_and_another_seed_does_not():
    one, two = draw(spec()), draw(spec())
    assert one.requests.equals(two.requests)
    assert one.request_goals.equals(two.request_goals)
    assert not draw(spec(seed=43)).requests.equals(one.requests)


def test_a_probe_does_not_depend_on_its_neighbours():
    alone = draw(spec()).requests
    beside = draw(spec(name="other", seed=9), spec()).requests.filter(pl.col("probe") == "p")
    assert alone.equals(beside)


def test_train_and_test_share_no_text():
    probe = draw(spec(), spec(name="pool", split="train"))
    sides = probe.requests.group_by("text_id").agg(pl.col("split").n_unique())
    assert (sides["split"] == 1).all()
    assert set(probe.requests.filter(pl.col("probe") == "pool")["split"]) == {"train"}


def test_a_matched_probe_has_the_same_texts_and_new_targets():
    probe = draw(spec(name="new", matched="p", active=1), spec())
    of = {name: rows for (name,), rows in probe.requests.group_by("probe")}
    assert set(of["new"]["text_id"]) == set(of["p"]["text_id"])
    assert not set(of["new"]["request_id"]) & set(of["p"]["request_id"])


def test_null_goals_are_asked_to_stay():
    probe = draw(spec(active=1, null_goals=["d"]))
    rows = probe.request_goals.filter(pl.col("goal") == "d")
    assert (rows["z_star"] == rows["z0"]).all()
    others = probe.request_goals.filter(pl.col("goal") != "d").group_by("request_id").agg(pl.col("z_star").count())
    assert (others["z_star"] == 1).all()


@pytest.mark.parametrize(("subset", "sign"), [("correlated", 1), ("anti-correlated", -1)])
def test_subsets_have_the_asked_signs(subset, sign):
    found = deltas(draw(spec(active=2, subset=subset)))
    assert (np.nanprod(np.sign(found), axis=1) == sign).all()


def test_goals_can_be_limited():
    found = np.isfinite(deltas(draw(spec(active=1, goals=["b", "c"]))))
    assert not found[:, [0, 3]].any()


def test_texts_with_an_undefined_goal_are_left_out():
    texts, values = corpus(600)
    values = values.with_columns(
        value=pl.when((pl.col("text_id") < "text-00100") & (pl.col("scorer_id") == "a@1")).then(None).otherwise("value")
    )
    probe = draw_probes([spec()], texts, values, SPACE)
    assert (probe.requests["text_id"] >= "text-00100").all()


def test_a_corpus_too_small_is_refused_with_the_numbers():
    with pytest.raises(SteerworksError, match=r"'p' needs 400 texts on the 'test' side, and the corpus has 300 of 300"):
        draw(spec(n_texts=400))


def test_no_room_for_a_move_is_refused():
    texts, values = corpus()
    values = values.with_columns(value=pl.lit(5.0))
    with pytest.raises(SteerworksError, match="fewer than 3 goals with room"):
        draw_probes([spec(dead_zone=0.55, delta_max=0.6, weighting="none")], texts, values, SPACE)


def u_shaped(rng, shape):
    return rng.beta(0.4, 0.4, size=shape)


def peaked(rng, shape):
    # mild enough that texts stand everywhere: where there are none, no weight can make up for it
    return rng.beta(3, 3, size=shape)


@pytest.mark.parametrize("shape", [u_shaped, peaked])
def test_nonlinear_weights_flatten_what_linear_ones_cannot(shape):
    z = shape(np.random.default_rng(0), (3000, 3))
    linear = density_weights(z, "linear", np.random.default_rng(1))
    flat = density_weights(z, "nonlinear", np.random.default_rng(1))

    def unevenness(weights):
        return max(np.abs(np.histogram(z[:, k], 5, (0, 1), weights=weights)[0] - 0.2).max() for k in range(3))

    even = np.full(len(z), 1 / len(z))
    assert unevenness(linear.weights) > 0.8 * unevenness(even)
    assert unevenness(flat.weights) < 0.35 * unevenness(even)
    assert flat.auc_after < flat.auc_before - 0.1
    assert linear.auc_after > flat.auc_after + 0.05
    assert flat.weights.sum() == pytest.approx(1.0)
    assert 1 <= flat.effective_n <= len(z)


def test_a_uniform_corpus_is_left_as_it_is():
    z = np.random.default_rng(0).uniform(size=(2000, 3))
    weights = density_weights(z, "nonlinear", np.random.default_rng(1))
    assert weights.auc_after == pytest.approx(0.5, abs=0.05)
    assert weights.effective_n > 0.7 * len(z)


def test_specs_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="needs active = 2"):
        spec(active=3, subset="correlated")
    with pytest.raises(ValueError, match="leaves no room"):
        spec(dead_zone=0.8)
    with pytest.raises(ValueError, match="2 active of only 1"):
        spec(active=2, goals=["a"])
