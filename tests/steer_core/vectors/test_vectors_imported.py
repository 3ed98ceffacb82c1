"""Vectors from a file as an estimator: what lies there is what is applied, of this model and of no other."""

from dataclasses import replace

import numpy as np
import pytest

from schemas.specs import BehaviorSpec, BenchSpec, ModelSpec
from schemas.vector_part import VectorPart
from steer_core.corpus.contrasts import build_contrasts
from steer_core.models.loading import load_model
from steer_core.steering.exchange import export_safetensors
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.estimator import load_estimator
from steer_core.vectors.estimators.imported import follows
from steer_core.vectors.fit import fit_vectors


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))


@pytest.fixture(scope="module")
def examples():
    source = {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": 16, "n_items": 2}
    return build_contrasts(BehaviorSpec.model_validate({"name": "glad", "source": source})).examples


@pytest.fixture(scope="module")
def fitted(loaded, examples):
    return fit_vectors(loaded, examples, VectorPart(estimator="leace", layers=(1, 2)))


def imported(folder, **options):
    return VectorPart(estimator="imported", layers=(1, 2), options={"folder": str(folder), **options})


def test_what_lies_in_the_file_is_what_is_applied(loaded, examples, fitted, tmp_path):
    export_safetensors([replace(v, concept="gladness") for v in fitted], tmp_path / "vectors.safetensors")
    found = fit_vectors(loaded, examples, imported(tmp_path, concepts={"glad": "gladness"}), halves=False)
    assert [(v.concept, v.layer, v.operator, v.estimator) for v in found] == [
        ("glad", 1, "affine", "imported"), ("glad", 2, "affine", "imported"),
    ]  # fmt: skip
    for one, other in zip(found, fitted, strict=True):
        assert set(one.tensors) == set(other.tensors)
        assert all(np.array_equal(one.tensors[n], other.tensors[n]) for n in other.tensors)
        assert one.scalars == other.scalars
        assert one.lineage["estimator"] == "leace"
    # another file behind the same name is another fit
    before = follows({"folder": str(tmp_path)})
    export_safetensors(fitted[:1], tmp_path / "vectors.safetensors")
    assert follows({"folder": str(tmp_path)}) != before
    with pytest.raises(ConfigError, match="no vector of 'glad' at layer 2 .*it has glad at layer 1"):
        fit_vectors(loaded, examples, imported(tmp_path), halves=False)


def test_vectors_of_another_model_are_refused(loaded, examples, fitted, tmp_path):
    export_safetensors([replace(v, model="another") for v in fitted], tmp_path / "vectors.safetensors")
    with pytest.raises(SteerworksError, match="another"):
        fit_vectors(loaded, examples, imported(tmp_path), halves=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give exactly one of them"),
        ({"folder": "/a", "hub": "o/n", "revision": "r"}, "give exactly one of them"),
        ({"folder": "a"}, "is relative"),
        ({"hub": "o/n"}, "belong together"),
    ],
)
def test_places_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        load_estimator("imported").check(options)


def test_a_hub_that_cannot_be_reached_is_said(loaded, examples, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    part = VectorPart(estimator="imported", layers=(1,), options={"hub": "org/none", "revision": "abc"})
    with pytest.raises(ConfigError, match="'org/none' .* cannot be had from the hub"):
        fit_vectors(loaded, examples, part, halves=False)


def test_controls_of_shuffled_labels_are_refused_before_anything_runs():
    from steer_core.methods.parts.vector import Doses

    bench = BenchSpec.model_construct(
        name="b", behaviors=("glad",), sweep=BenchSpec.model_fields["sweep"].get_default(call_default_factory=True)
    )
    model = ModelSpec(name="embedded", source="embedded")
    said = list(Doses(imported("/tmp")).mistakes(model, bench, ["glad"]))
    assert any("fits nothing, so there are no labels to shuffle" in s for s in said)
