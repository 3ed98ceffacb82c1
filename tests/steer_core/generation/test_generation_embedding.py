"""Sentence embeddings: means of last hidden states, of the model as it is steered."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_generation_adapters import write_adapter
from test_generation_stream import act, vector_of

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.steering import Message, Plan
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.own_hooks import adding, enliven

TEXTS = ["a", "Please rewrite the following text.", "so that it is longer", "x " * 20, "a"]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    made = {}

    def make(family="llama"):
        if family not in made:
            made[family] = load_model(ModelSpec(name="tiny", source=str(tiny_model(family, True))))
            enliven(made[family].model)
        return made[family]

    return make


def plans(backend, *ways):
    decoding = Decoding(max_new_tokens=1)
    return [Plan(backend.model_identity, decoding, text=t, interventions=way) for t in TEXTS for way in ways or [()]]


def own_mean(model, tokens, first=0):
    """From one unpadded pass."""
    with torch.inference_mode():
        out = model.model(input_ids=torch.tensor([tokens]), output_hidden_states=True, use_cache=False)
    return out.hidden_states[-1][0, first:].mean(0).numpy()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt", "mistral_window", "falcon_alibi", "mamba"])
def test_embeddings_are_means_of_plain_passes_and_under_a_hook_of_our_own(loaded, family):
    model = loaded(family)
    v = vector_of(model, layer=0)
    backend = TransformersBackend(model, [v])
    assert backend.capabilities.embeds
    asked = plans(backend, (), (act(v, 1.5),), (act(v, -1.0, positions="index:0"),))
    found = backend.embed(asked)
    for plan, got in zip(asked, found, strict=True):
        tokens = backend.encode(plan)
        plain = own_mean(model, tokens)
        assert got.dtype == np.float32
        assert got.shape == (32,)
        if not plan.interventions:
            assert got == pytest.approx(plain, abs=1e-5)
        elif plan.interventions[0].positions == "all":
            with adding(model.model, 0, 1.5 * torch.tensor(v.direction)):
                assert got == pytest.approx(own_mean(model, tokens), abs=1e-5)
        if plan.interventions:
            assert np.abs(got - plain).max() > 1e-3


@pytest.mark.parametrize("family", ["llama", "gpt2", "recurrent_gemma", "phi3_longrope"])
def test_an_embedding_does_not_depend_on_the_batch(loaded, family):
    model = loaded(family)
    v = vector_of(model, layer=0)
    backend = TransformersBackend(model, [v])
    asked = plans(backend, (), (act(v, 1.5),))
    together = backend.embed(asked)
    for size in (1, 3):
        for one, other in zip(together, backend.embed(asked, batch_size=size), strict=True):
            assert one == pytest.approx(other, abs=1e-5)
    assert (together[0] == together[8]).all()  # the same text
    with pytest.raises(ConfigError, match="at least one row"):
        backend.embed(asked, batch_size=0)


def test_special_tokens_that_begin_a_text_are_left_out_unless_asked_for(loaded):
    model = loaded()
    backend = TransformersBackend(model)
    mark = model.tokenizer.eos_token_id
    words = model.tokenizer("so that it")["input_ids"]
    plan = Plan(backend.model_identity, Decoding(max_new_tokens=1), tokens=(mark, *words, mark))
    (without,), (with_it,) = backend.embed([plan]), backend.embed([plan], special=True)
    assert without == pytest.approx(own_mean(model, list(plan.tokens), 1), abs=1e-5)
    assert with_it == pytest.approx(own_mean(model, list(plan.tokens)), abs=1e-5)
    assert np.abs(without - with_it).max() > 1e-3
    only = replace(plan, tokens=(mark,))
    with pytest.raises(SteerworksError, match="plan 1 cannot be embedded: its text has only special tokens"):
        backend.embed([plan, only])
    assert backend.embed([only], special=True)[0] == pytest.approx(own_mean(model, [mark]), abs=1e-5)


def test_rows_wear_their_adapters(tiny_model, tmp_path):
    source = str(tiny_model("llama", True))
    model = load_model(ModelSpec(name="tiny", source=source))
    backend = TransformersBackend(model)
    adapter = Adapter.of(write_adapter(tmp_path / "a", source))
    before = backend.embed(plans(backend))
    backend.add_adapters([adapter])
    asked = [q for p in plans(backend) for q in (p, replace(p, adapter=adapter.digest))]
    found = backend.embed(asked)
    for plain, worn, old in zip(found[::2], found[1::2], before, strict=True):
        assert plain == pytest.approx(old, abs=1e-5)
        assert np.abs(worn - plain).max() > 1e-3


def test_what_cannot_be_embedded_is_named(loaded):
    model = loaded()
    v = vector_of(model, layer=0)
    backend = TransformersBackend(model, [v])
    decoding = Decoding(max_new_tokens=1)
    fine = Plan(backend.model_identity, decoding, text="a")
    with pytest.raises(SteerworksError, match="plan 1 cannot be embedded: its text has no tokens"):
        backend.embed([fine, replace(fine, text="")])
    with pytest.raises(SteerworksError, match="plan 0 cannot be embedded: its text has .* and the model reads 256"):
        backend.embed([replace(fine, text="a b " * 200)])
    with pytest.raises(SteerworksError, match="are not finite under its interventions: lower the strength"):
        backend.embed([replace(fine, interventions=(act(v, 3e38),))])
    with pytest.raises(SteerworksError, match="a plan is of model"):
        backend.embed([Plan("other", decoding, (Message("user", "a"),))])
    assert backend.embed([]) == []
