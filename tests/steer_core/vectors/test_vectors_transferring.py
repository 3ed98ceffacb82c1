"""Vectors of one model in another: said on purpose, recorded, refused where the two have not the same shape."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from schemas.specs import ModelSpec
from schemas.vector_part import VectorPart
from steer_core.front import vector as front
from steer_core.methods.parts.vector import Doses
from steer_core.models.loading import load_model
from steer_core.steering.hooks import Steering
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.transferring import carry_over, shape_of

SPEC = ModelSpec(name="embedded", source="embedded", device="cpu")


@pytest.fixture(scope="module")
def loaded():
    return load_model(SPEC)


def vector(width, layer=1, **changes):
    fields = {
        "concept": "calm", "operator": "add", "layer": layer, "tensors": {"direction": np.ones((1, width), np.float32)},
        "scalars": {"residual_norm": 3.0, "positive_share": 0.5}, "model": "first", "lineage": {"seed": 4},
        "reliability": 0.9,
    }  # fmt: skip
    return SteeringVector(**{**fields, **changes})


def test_a_vector_carried_over_is_taken_by_the_other_model_and_says_where_it_is_from(loaded):
    width, layers = shape_of(loaded)
    own = vector(width)
    with pytest.raises(SteerworksError, match="transfer it"):
        Steering(loaded.model, {own.id: own}, loaded.fingerprint).check_vector(own.id)
    (moved,) = carry_over([own], loaded, source="cousin", layers=layers)
    assert Steering(loaded.model, {moved.id: moved}, loaded.fingerprint).check_vector(moved.id) is moved
    assert moved.lineage == {
        "operation": "transfer", "parents": [own.id], "source_model": "first", "seed": 4, "source": "cousin",
    }  # fmt: skip
    assert np.array_equal(moved.direction, own.direction)
    # measured on the first model; the class scale is part of the claim
    assert moved.scalars == {"positive_share": 0.5}
    assert moved.reliability is None
    assert (moved.layer, moved.site, moved.control) == (own.layer, own.site, own.control)


def test_other_shapes_and_the_models_own_vectors_are_refused_by_name(loaded):
    width, layers = shape_of(loaded)
    with pytest.raises(SteerworksError, match=rf"model 'cousin' has {layers + 1} layers and model 'embedded' has"):
        carry_over([vector(width)], loaded, source="cousin", layers=layers + 1)
    with pytest.raises(SteerworksError, match=rf"width {width + 1}, the other model {width}"):
        carry_over([vector(width + 1)], loaded, source="cousin", layers=layers)
    with pytest.raises(SteerworksError, match=rf"is of layer {layers}, and model 'embedded' has layers 0 to"):
        carry_over([vector(width, layer=layers)], loaded, source="cousin")
    with pytest.raises(SteerworksError, match="of model 'embedded' itself"):
        carry_over([vector(width, model=loaded.fingerprint)], loaded, source="embedded")


class Front:
    """A model as `load` gives it, as far as vectors look."""

    def __init__(self, loaded):
        self.loaded = loaded


def test_from_the_front_door_strengths_are_raw_from_there_on(loaded):
    width, _ = shape_of(loaded)
    own = front.Vector([vector(width)])
    assert own.unit == "residual_fraction"
    moved = own.carry_over(Front(loaded), Front(replace(loaded, fingerprint="first")))
    assert moved.unit == "raw"
    assert moved.parts[0].model == loaded.fingerprint
    assert moved.parts[0].lineage["source"] == "embedded"
    assert own.carry_over(Front(loaded)).parts[0].lineage["source"] == "first"


def test_a_part_is_fitted_on_another_model_in_units_that_go_along():
    with pytest.raises(ValidationError, match="with `from_model` use raw"):
        VectorPart(estimator="mean-difference", from_model="cousin", unit="residual_fraction")
    part = Doses(VectorPart(estimator="mean-difference", from_model="cousin"))
    assert part.asks(SPEC) == ("cousin",)
    assert Doses(VectorPart(estimator="mean-difference")).asks(SPEC) == ()
