"""Algebra: the numbers, what is kept of a vector, and where it says that it comes from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.steering.strength import Strength, coefficient
from steer_core.steering.vector import SteeringVector, from_tables, to_tables
from steer_core.tables.errors import SteerworksError
from steer_core.vectors import algebra


def vector(concept, numbers, layer=1, **changes):
    given = {
        "concept": concept,
        "operator": "add",
        "layer": layer,
        "tensors": {"direction": np.asarray(numbers, dtype=np.float32)[None]},
        "scalars": {"positive_share": 0.25, "residual_norm": 8.0},
        "model": "m1",
        "estimator": "mean-difference",
        "n_positive": 10,
        "n_negative": 30,
        "reliability": 0.9,
        "kl_curve": ((1.0, 0.1),),
    }
    return SteeringVector(**(given | changes))


A, B = vector("calm", [3.0, 0.0, 4.0]), vector("kind", [0.0, 2.0, 0.0])


def test_a_sum_is_weighted_and_names_its_parents():
    made = algebra.add([A, B], [0.5, -1.0])
    np.testing.assert_allclose(made.direction, [1.5, -2.0, 2.0])
    assert made.concept == "calm+kind"
    assert made.lineage == {"operation": "add", "parents": [A.id, B.id], "weights": [0.5, -1.0]}
    assert made.id not in (A.id, B.id)


def test_what_was_measured_of_the_parents_is_not_said_of_the_sum():
    made = algebra.add([A, B], concept="gentle")
    assert (made.concept, made.reliability, made.kl_curve, made.n_positive) == ("gentle", None, (), 0)
    assert "positive_share" not in made.scalars
    with pytest.raises(SteerworksError, match="positive_share"):
        coefficient(Strength(1.0, "class_alpha"), made)
    assert coefficient(Strength(0.5, "residual_fraction"), made) == pytest.approx(4.0 / np.sqrt(29.0))


def test_the_negative_keeps_the_class_scale_with_sides_changed():
    made = algebra.negate(A)
    np.testing.assert_allclose(made.direction, -A.direction)
    assert (made.concept, made.n_positive, made.n_negative) == ("not-calm", 30, 10)
    # the mean of the opposite's own positives is where the concept's alpha is 0
    landed = {
        "calm": coefficient(Strength(0.0, "class_alpha"), A) * A.direction,
        "not-calm": coefficient(Strength(1.0, "class_alpha"), made) * made.direction,
    }
    np.testing.assert_allclose(landed["calm"], landed["not-calm"])


def test_scaling_changes_the_length_and_says_by_how_much():
    made = algebra.scale(A, -2.0)
    np.testing.assert_allclose(made.direction, -2.0 * A.direction)
    assert made.lineage == {"operation": "scale", "parents": [A.id], "factor": -2.0}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_an_orthogonalised_vector_is_orthogonal_to_all_and_the_rest_lies_in_their_span(seed, k):
    rng = np.random.default_rng(seed)
    one = vector("one", rng.normal(size=7))
    others = [vector(f"other{i}", rng.normal(size=7)) for i in range(k)]
    others.append(algebra.scale(others[0], 3.0))  # a parallel one takes nothing more
    made = algebra.orthogonalise(one, others)
    span = np.stack([v.direction for v in others]).astype(float)
    np.testing.assert_allclose(span @ made.direction, 0.0, atol=1e-4)
    removed = one.direction.astype(float) - made.direction
    coordinates, *_ = np.linalg.lstsq(span.T, removed, rcond=None)
    np.testing.assert_allclose(span.T @ coordinates, removed, atol=1e-4)


def test_orthogonalising_against_itself_leaves_nothing_and_says_so():
    with pytest.raises(SteerworksError, match="lies in the span of 'kind'"):
        algebra.orthogonalise(B, [vector("kind", [0.0, -5.0, 0.0])])
    np.testing.assert_array_equal(algebra.orthogonalise(A, []).direction, A.direction)


def test_a_common_norm_is_the_mean_of_the_norms_of_each_layer():
    far = vector("calm", [0.0, 7.0, 0.0], layer=2)
    made = algebra.rescale_to_common_norm([A, B, far])
    assert [v.norm for v in made] == pytest.approx([3.5, 3.5, 7.0])
    assert [v.concept for v in made] == ["calm", "kind", "calm"]
    for before, after in zip([A, B, far], made, strict=True):
        assert before.direction @ after.direction == pytest.approx(before.norm * after.norm)
    with pytest.raises(SteerworksError, match="'flat' at layer 1 is zero"):
        algebra.rescale_to_common_norm([A, vector("flat", [0.0, 0.0, 0.0])])


def test_comparing_gives_every_pair_of_every_layer_and_site():
    written = vector("calm", [0.0, 0.0, 1.0], site="mlp")
    control = vector("calm", [0.0, 0.0, -1.0], control="random:3")
    frame = algebra.compare([A, B, control, written])
    assert frame.columns == ["left", "right", "layer", "site", "cosine"]
    assert frame.height == 9 + 1
    found = {(r["left"], r["right"], r["site"]): r["cosine"] for r in frame.iter_rows(named=True)}
    assert found["calm", "kind", "residual"] == pytest.approx(0.0)
    assert found["calm", "calm random:3", "residual"] == pytest.approx(-0.8)
    assert found["calm", "calm", "mlp"] == 1.0
    assert algebra.compare([]).columns == frame.columns


def test_transfer_goes_to_a_model_of_the_same_width_and_records_the_source():
    made = algebra.transfer(A, "m2", 3)
    assert (made.model, made.estimator) == ("m2", "mean-difference")
    assert made.lineage == {"operation": "transfer", "parents": [A.id], "source_model": "m1"}
    assert made.id != A.id
    assert "residual_norm" not in made.scalars  # measured on the other model
    with pytest.raises(SteerworksError, match="width 3, the other model 4"):
        algebra.transfer(A, "m2", 4)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model": "m2"}, "model"),
        ({"layer": 2}, "layer"),
        ({"site": "mlp"}, "site"),
        ({"operator": "ablate"}, "operator"),
        ({"tensors": {"direction": np.ones((1, 4), dtype=np.float32)}}, "width"),
    ],
)
def test_vectors_of_different_places_are_not_added(changes, what):
    other = vector("kind", [1.0, 1.0, 1.0], **changes)
    with pytest.raises(SteerworksError, match=f"'calm' and 'kind' differ in {what}"):
        algebra.add([A, other])


def test_maps_have_no_algebra_and_say_so():
    row = np.ones((1, 3), dtype=np.float32)
    affine = vector(
        "calm", [1, 1, 1], operator="affine", tensors=dict.fromkeys(("left", "right", "center", "direction"), row)
    )
    for attempt in (
        lambda: algebra.add([affine]),
        lambda: algebra.scale(affine, 2.0),
        lambda: algebra.negate(affine),
        lambda: algebra.compare([affine]),
    ):
        with pytest.raises(SteerworksError, match=r"is a map \(operator 'affine'\)"):
            attempt()
    with pytest.raises(ValueError, match="1 vectors with 2 weights"):
        algebra.add([A], [1.0, 2.0])
    with pytest.raises(ValueError, match="0 vectors"):
        algebra.add([])


def test_lineage_survives_the_tables():
    made = algebra.add([A, algebra.negate(B)])
    (back,) = from_tables(*to_tables([made]))
    assert back.id == made.id
    assert back.lineage == made.lineage
