"""Random controls are as large as the vector that they stand beside, and point elsewhere."""

import numpy as np
import pytest
import torch
from steering_worlds import vector

from steer_core.steering.operators import available_operators, load_operator
from steer_core.steering.random_vectors import random_like
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


@pytest.mark.parametrize("operator", sorted(set(available_operators()) - {"add_norm_preserving"}))
@pytest.mark.parametrize("coefficient", [-1.5, 0.0, 0.7, 30.0])
def test_a_control_changes_every_activation_by_as_much(operator, coefficient):
    # activations of very unequal spread: a projection on a random direction would move them less
    draw = np.random.default_rng(1)
    hidden = torch.tensor(draw.normal(size=(3, 8, 32)) * np.linspace(0.1, 6.0, 32) + 2.0)
    v = vector(operator)
    moves = []
    for one in (v, random_like(v, 5)):
        tensors = {n: torch.tensor(t, dtype=torch.float64) for n, t in one.tensors.items()}
        edited = load_operator(operator).apply(
            hidden, tensors, one.scalars, torch.full((3, 1, 1), coefficient, dtype=torch.float64)
        )
        moves.append(edited - hidden)
    sizes = [m.norm(dim=-1) for m in moves]
    torch.testing.assert_close(sizes[1], sizes[0], rtol=1e-5, atol=1e-5)
    if coefficient:
        directions = torch.nn.functional.cosine_similarity(moves[0], moves[1], dim=-1)
        assert float(directions.abs().mean()) < 0.7


@pytest.mark.parametrize("operator", ["add", "add_norm_preserving"])
def test_a_random_direction_keeps_the_norm(operator):
    v = vector(operator, norm=7.0)
    controls = [random_like(v, s) for s in range(40)]
    assert [c.norm for c in controls] == pytest.approx([7.0] * 40, rel=1e-5)
    cosines = [c.direction @ v.direction / 49 for c in controls]
    # isotropic: mean 0, variance 1 / width
    assert abs(np.mean(cosines)) < 4 / (32 * 40) ** 0.5
    assert np.var(cosines) == pytest.approx(1 / 32, rel=0.8)


def test_an_affine_control_reads_what_the_edit_reads_and_writes_elsewhere():
    v = vector("affine")
    control = random_like(v, 0)
    for name in ("right", "center"):
        np.testing.assert_array_equal(control.tensors[name], v.tensors[name])
    for written in ("left", "direction"):
        before, after = v.tensors[written], control.tensors[written]
        np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-4)


def test_an_operator_without_a_control_is_named():
    odd = SteeringVector("c", "brand_new", 0, {"direction": np.ones((1, 4), np.float32)}, {}, "m")
    with pytest.raises(SteerworksError, match="unknown operator 'brand_new'"):
        random_like(odd, 0)
