"""Operators against their formulas, written out for one token."""

import math

import numpy as np
import pytest
import torch
from steering_worlds import WIDTH, vector

from steer_core.steering.operators import available_operators, load_operator
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

HIDDEN = torch.tensor(np.random.default_rng(7).normal(size=(2, 5, WIDTH)), dtype=torch.float32)


def applied(v: SteeringVector, coefficient, hidden=HIDDEN):
    tensors = {n: torch.tensor(t) for n, t in v.tensors.items()}
    c = torch.tensor(coefficient, dtype=torch.float32).reshape(-1, 1, 1).expand(len(hidden), 1, 1)
    return load_operator(v.operator).apply(hidden, tensors, v.scalars, c)


def by_token(function):
    return torch.tensor(np.array([[function(h) for h in row] for row in HIDDEN.double().numpy()]), dtype=torch.float32)


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def tensors_of(v):
    return {n: t.astype(np.float64) for n, t in v.tensors.items()}


def test_there_is_an_operator_for_each_module():
    assert available_operators() == (
        "ablate",
        "add",
        "add_norm_preserving",
        "affine",
        "feature_clamp",
        "feature_scale",
        "gated_transport",
        "low_rank",
        "rotate",
        "transport",
    )


def test_add():
    v = vector("add")
    close(applied(v, 0.7), by_token(lambda h: h + 0.7 * v.direction))


def test_add_norm_preserving_turns_and_keeps_the_norm():
    v = vector("add_norm_preserving")
    found = applied(v, 0.7)
    close(found.norm(dim=-1), HIDDEN.norm(dim=-1))
    moved = HIDDEN + 0.7 * torch.tensor(v.direction)
    close(torch.cosine_similarity(found, moved, dim=-1), torch.ones(2, 5))


def test_ablating_wholly_leaves_nothing_along_the_direction():
    v = vector("ablate")
    unit = v.direction / np.linalg.norm(v.direction)
    close(applied(v, 1.0) @ torch.tensor(unit), torch.zeros(2, 5))
    close(applied(v, 0.25), by_token(lambda h: h - 0.25 * unit * (unit @ h)))


def test_affine():
    v = vector("affine")
    t = tensors_of(v)

    def formula(h):
        edit = sum(left * (right @ (h - t["center"][0])) for left, right in zip(t["left"], t["right"], strict=True))
        return h - edit + 1.5 * v.direction

    close(applied(v, 1.5), by_token(formula))


def test_low_rank():
    v = vector("low_rank")
    t = tensors_of(v)

    def formula(h):
        return h + 0.6 * (
            sum(left * (right @ h) for left, right in zip(t["left"], t["right"], strict=True)) + v.direction
        )

    close(applied(v, 0.6), by_token(formula))
    assert torch.equal(applied(v, 0.0), HIDDEN)


@pytest.mark.parametrize(("coefficient", "share"), [(1.0, 1.0), (3.0, 1.0), (0.25, 0.25), (-0.5, 0.5), (-9.0, 1.0)])
def test_transport_goes_to_the_class_of_the_sign(coefficient, share):
    v = vector("transport")
    t = tensors_of(v)
    side = "positive" if coefficient > 0 else "negative"

    def formula(h):
        target = t[f"map_{side}"] @ (h - t["center"][0]) + t[f"mean_{side}"][0]
        return h + share * (target - h)

    close(applied(v, coefficient), by_token(formula))
    assert torch.equal(applied(v, 0.0), HIDDEN)


@pytest.mark.parametrize("coefficient", [1.0, -1.0, 0.5, -2.0])
def test_gated_transport_moves_the_other_class_only(coefficient):
    v = vector("gated_transport")
    t = tensors_of(v)

    def formula(h):
        is_positive = t["lda"][0] @ h > 0.0
        if is_positive == (coefficient > 0):
            return h
        source, target = ("negative", "positive") if coefficient > 0 else ("positive", "negative")
        there = t[f"map_to_{target}"] @ (h - t[f"mean_{source}"][0]) + t[f"mean_{target}"][0]
        return h + min(abs(coefficient), 1.0) * (there - h)

    found = applied(v, coefficient)
    close(found, by_token(formula))
    untouched = (HIDDEN @ torch.tensor(v.tensors["lda"][0]) > 0) == (coefficient > 0)
    assert 0 < untouched.sum() < 10
    assert torch.equal(found[untouched], HIDDEN[untouched])


@pytest.mark.parametrize("degrees", [0.0, 30.0, 200.0, -45.0])
def test_rotation_sets_the_angle_in_the_plane_and_keeps_all_else(degrees):
    v = vector("rotate")
    plane = torch.tensor(v.tensors["plane"])
    found = applied(v, degrees)
    before, after = HIDDEN @ plane.T, found @ plane.T
    close(after.norm(dim=-1), before.norm(dim=-1))
    angle = torch.atan2(after[..., 1], after[..., 0])
    close(angle.cos(), torch.full((2, 5), math.cos(math.radians(degrees))))
    close(angle.sin(), torch.full((2, 5), math.sin(math.radians(degrees))))
    close(found - after @ plane, HIDDEN - before @ plane)


def test_an_adaptive_rotation_turns_only_what_is_aligned():
    v = vector("rotate", adaptive=1.0)
    aligned = HIDDEN @ torch.tensor(v.tensors["plane"][0]) > 0
    found = applied(v, 90.0)
    assert 0 < aligned.sum() < 10
    assert torch.equal(found[~aligned], HIDDEN[~aligned])
    assert not torch.isclose(found[aligned], HIDDEN[aligned]).all(dim=-1).any()


def test_a_feature_is_set_scaled_and_taken_out():
    v = vector("feature_clamp")
    e, d = (torch.tensor(v.tensors[n][0]) for n in ("encoder", "decoder"))
    a = (HIDDEN @ e + 2.0)[..., None]
    a = torch.where(a > 0.1, a, torch.zeros(()))
    assert 0 < (a > 0).sum() < a.numel() or (a > 0).all()
    close(applied(v, 3.0), HIDDEN + (3.0 - a) * d)
    scaled = vector("feature_scale")
    close(applied(scaled, 0.5), HIDDEN + 0.5 * a * d)
    close(applied(scaled, -1.0), applied(v, 0.0))
    # a silent feature has nothing to scale, and can still be set
    silent = vector("feature_scale", bias=-100.0)
    assert torch.equal(applied(silent, 5.0), HIDDEN)
    close(applied(vector("feature_clamp", bias=-100.0), 1.0), HIDDEN + d)


@pytest.mark.parametrize("name", available_operators())
def test_rows_have_coefficients_of_their_own(name):
    v = vector(name)
    both = applied(v, [40.0, -0.5])
    close(both[:1], applied(v, 40.0, HIDDEN[:1]))
    close(both[1:], applied(v, -0.5, HIDDEN[1:]))


def test_an_unknown_operator_is_refused_with_the_known_ones():
    with pytest.raises(SteerworksError, match="unknown operator 'nudge'; there are: ablate, add"):
        load_operator("nudge")


def test_a_vector_that_lacks_a_tensor_or_has_the_wrong_shape_is_refused():
    v = vector("add")
    with pytest.raises(SteerworksError, match="'affine' cannot apply .* it lacks left, right, center; it has dir"):
        load_operator("affine").check(v)
    gated = vector("gated_transport")
    bare = SteeringVector("c", "gated_transport", 0, gated.tensors, {}, "tiny")
    with pytest.raises(SteerworksError, match="it lacks lda_threshold"):
        load_operator("gated_transport").check(bare)
    square = SteeringVector("c", "rotate", 0, {"plane": np.ones((3, WIDTH), np.float32)}, {}, "tiny")
    with pytest.raises(SteerworksError, match=r"tensor 'plane' has shape \(3, 32\), not \(2, 32\)"):
        load_operator("rotate").check(square)
