"""Families of models: whichever the worker says it knows is steered as the hooks steer it; others are refused."""

import pytest
from vllm_world import Reference, first_turn, run_vllm, save_model, vectors_of

from steer_core.generation.vllm_worker.support import FAMILIES, sites_of

pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "llama"])
def test_every_family_is_steered_as_by_the_hooks(family, tmp_path):
    model = save_model(tmp_path / "model", family)
    reference = Reference(model)
    vectors = vectors_of(reference.fingerprint)
    reference.backend.add_vectors(vectors.values())
    asks = first_turn(vectors, 56, sites=sites_of(family))
    want = [tokens for tokens, _ in reference.answer(asks)]
    assert len({tuple(w) for w in want}) > len(want) / 2
    found = run_vllm(tmp_path / "run", model, list(vectors.values()), [asks])
    got = [[t for t in a["tokens"] if t != 1] for a in found["passes"][0]["answers"]]
    wrong = [a.interventions for a, g, w in zip(asks, got, want, strict=True) if g != w]
    assert not wrong
