"""Random controls are as large as the vector that they stand beside, and point elsewhere."""

import numpy as np
import pytest
from steering_worlds import vector

from steer_core.steering.controls import random_like
from steer_core.steering.operators import available_operators, load_operator
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError


@pytest.mark.parametrize("operator", available_operators())
def test_a_control_fits_its_operator_and_says_what_it_is(operator):
    v = vector(operator, positive_share=0.5)
    control = random_like(v, 3)
    load_operator(operator).check(control)
    assert (control.control, control.lineage["control_of"]) == ("random:3", v.id)
    assert (control.concept, control.layer, control.site, control.model) == (v.concept, v.layer, v.site, v.model)
    assert control.scalars["positive_share"] == 0.5
    assert control.id != v.id
    assert random_like(v, 3).id == control.id
    assert random_like(v, 4).id != control.id


@pytest.mark.parametrize("operator", ["add", "add_norm_preserving", "ablate", "affine"])
def test_a_random_direction_keeps_the_norm(operator):
    v = vector(operator, norm=7.0)
    controls = [random_like(v, s) for s in range(40)]
    assert [c.norm for c in controls] == pytest.approx([7.0] * 40, rel=1e-5)
    cosines = [c.direction @ v.direction / 49 for c in controls]
    # isotropic: mean 0, variance 1 / width
    assert abs(np.mean(cosines)) < 4 / (32 * 40) ** 0.5
    assert np.var(cosines) == pytest.approx(1 / 32, rel=0.8)


def test_an_affine_control_projects_on_its_own_direction():
    v = vector("affine")
    control = random_like(v, 0)
    left = control.tensors["left"]
    np.testing.assert_allclose(left @ left.T, np.eye(2), atol=1e-5)
    np.testing.assert_array_equal(left, control.tensors["right"])
    np.testing.assert_array_equal(control.tensors["center"], v.tensors["center"])
    np.testing.assert_allclose(left[0] * v.norm, control.direction, atol=1e-4)


def test_a_random_plane_is_orthonormal():
    plane = random_like(vector("rotate"), 0).tensors["plane"]
    np.testing.assert_allclose(plane @ plane.T, np.eye(2), atol=1e-5)


@pytest.mark.parametrize("operator", ["transport", "gated_transport"])
def test_a_turned_map_stretches_and_shifts_as_much(operator):
    v = vector(operator)
    control = random_like(v, 0)
    for name, value in v.tensors.items():
        if name.startswith("map_"):
            before, after = np.linalg.svd(value)[1], np.linalg.svd(control.tensors[name])[1]
            np.testing.assert_allclose(after, before, atol=1e-4)
            assert np.abs(control.tensors[name] - value).max() > 0.1
    shift = v.tensors["mean_positive"] - v.tensors["mean_negative"]
    turned = control.tensors["mean_positive"] - control.tensors["mean_negative"]
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(shift), rel=1e-4)
    assert abs((shift @ turned.T).item()) < 0.7 * np.linalg.norm(shift) ** 2


def test_the_discriminant_keeps_its_distance_from_the_center():
    v = vector("gated_transport")
    control = random_like(v, 1)
    center = (v.tensors["mean_positive"] + v.tensors["mean_negative"]) / 2
    distances = [(w.tensors["lda"] @ center.T).item() - w.scalars["lda_threshold"] for w in (v, control)]
    assert distances[0] == pytest.approx(distances[1], abs=1e-3)


def test_an_operator_without_a_control_is_named():
    odd = SteeringVector("c", "brand_new", 0, {"direction": np.ones((1, 4), np.float32)}, {}, "m")
    with pytest.raises(SteerworksError, match="no random control is defined for operator 'brand_new'"):
        random_like(odd, 0)
