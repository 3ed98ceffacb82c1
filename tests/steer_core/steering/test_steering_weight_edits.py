"""A direction is taken out of what a model writes: the checkpoint does what hooks do, on every family that fold takes."""

import json

import numpy as np
import pytest
import torch
from test_steering_folding import ABLATED, FAMILIES, REFUSED, WIDTH, greedy, logits, random_model, reloaded, vector

from steer_core.steering.folding import MANIFEST
from steer_core.steering.folding_families import FAMILIES as FOLDED
from steer_core.steering.weight_edits import LayerProfile, edit_weights
from steer_core.tables.errors import ConfigError, SteerworksError

#: Experts write by their own matrices; each is refused by name.
EXPERTS = ["deepseek_v2", "gpt_oss"]
EDITED = [*(f for f in FAMILIES if f not in EXPERTS), *(f for f in ABLATED if f in REFUSED)]


def made(family):
    return random_model((REFUSED[family][0] if family in REFUSED else FAMILIES[family])())


def unit_of(v):
    return torch.from_numpy(v.tensors["direction"][0] / np.linalg.norm(v.tensors["direction"])).double()


def by_hooks(loaded, v, weights=None):
    """Greedy tokens with plain forward hooks on embeddings and on what each sublayer's projection gives."""
    unit, handles = unit_of(v), []
    family = FOLDED[loaded.model.config.model_type]

    def ablating(weight):
        def hook(_module, _inputs, output):
            wide = output.double()
            return (wide - weight * (wide @ unit)[..., None] * unit).to(output.dtype)

        return hook

    for name, module in loaded.model.named_modules():
        parts = name.removeprefix(f"{family.layers}.").split(".", 1)
        if isinstance(module, torch.nn.Embedding) and module.embedding_dim == WIDTH:
            handles.append(module.register_forward_hook(ablating(1.0)))
        elif name.startswith(f"{family.layers}.") and parts[-1] in (family.attention, family.mlp):
            weight = 1.0 if weights is None else weights[parts[-1] == family.mlp][int(parts[0])]
            handles.append(module.register_forward_hook(ablating(weight)))
    assert len(handles) > 2 * loaded.model.config.num_hidden_layers
    try:
        return greedy(loaded.model)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("family", EDITED)
def test_an_edited_checkpoint_gives_the_tokens_of_hooks(family, tmp_path):
    loaded = made(family)
    v = vector(1, seed=4)
    before = {n: p.clone() for n, p in loaded.model.state_dict().items()}
    found = edit_weights(loaded, v, tmp_path / "edited")
    expected = by_hooks(loaded, v)
    assert torch.equal(greedy(reloaded(found.folder)), expected)
    assert not torch.allclose(logits(reloaded(found.folder)), logits(loaded.model), atol=1e-2)
    assert found.difference < 1e-3
    # the source is as it was
    assert all(torch.equal(p, before[n]) for n, p in loaded.model.state_dict().items())


@pytest.mark.parametrize("family", ["llama", "gpt2", "llama-tied"])
def test_each_layer_has_its_own_weight(family, tmp_path):
    loaded, v = made(family), vector(0, seed=5)
    attention, mlp = LayerProfile(1.2, 1.0, 0.4, 1.0), 0.5
    found = edit_weights(loaded, v, tmp_path / "edited", attention=attention, mlp=mlp)
    assert torch.equal(greedy(reloaded(found.folder)), by_hooks(loaded, v, ([0.4, 1.2, 0.4], [0.5] * 3)))
    kept = json.loads((found.folder / MANIFEST).read_text())
    assert kept["realisation"] == "weights"
    assert kept["weights"][0] == ["attention", 0, v.id, pytest.approx(0.4)]


def test_columns_keep_their_norms_and_lose_the_direction(tmp_path):
    loaded, v = made("llama-tied"), vector(0, seed=6)
    found = edit_weights(loaded, v, tmp_path / "edited", norm_preserving=True)
    assert found.difference is None
    after, unit = reloaded(found.folder).state_dict(), unit_of(v)
    for name in found.changed:
        old, new = loaded.model.state_dict()[name].double(), after[name].double()
        old, new = (old.T, new.T) if "embed" in name else (old, new)
        torch.testing.assert_close(new.norm(dim=0), old.norm(dim=0), rtol=1e-5, atol=1e-6)
        assert (unit @ new).abs().max() < 1e-5
    assert len(found.changed) == 7
    # the head reads the stream: it is untied, and as it was
    head = reloaded(found.folder).get_output_embeddings().weight
    torch.testing.assert_close(head, loaded.model.get_output_embeddings().weight)


def test_a_vector_a_layer_edits_its_own(tmp_path):
    loaded = made("llama")
    own = [vector(0, seed=1), vector(2, seed=2)]
    found = edit_weights(loaded, own, tmp_path / "edited", embeddings=False)
    assert {name.split(".")[2] for name in found.changed} == {"0", "2"}
    after = reloaded(found.folder).state_dict()
    for v in own:
        assert (unit_of(v) @ after[f"model.layers.{v.layer}.mlp.down_proj.weight"].double()).abs().max() < 1e-5


def test_a_profile_falls_in_a_line():
    profile = LayerProfile(1.0, 4.0, 0.2, 2.0)
    assert [round(profile.at(n), 6) for n in range(8)] == [0, 0, 0.2, 0.6, 1.0, 0.6, 0.2, 0]
    for wrong in [(-1.0, 0, 0, 1), (1.0, 0, float("nan"), 1)]:
        with pytest.raises(ConfigError, match="finite and at least 0"):
            LayerProfile(*wrong)
    with pytest.raises(ConfigError, match="distance must be positive"):
        LayerProfile(1.0, 0.0, 0.0, 0.0)


def test_what_cannot_be_edited_is_refused(tmp_path):
    loaded = made("llama")
    plane = vector(0, operator="rotate", direction=np.ones((2, WIDTH), np.float32))
    other = vector(0)
    foreign = type(other)("tea", "add", 0, dict(other.tensors), {}, "another")
    for vectors, options, said in [
        ([], {}, "there is no vector"),
        (plane, {}, "has no direction that could be taken out"),
        (foreign, {}, "fitted on another model"),
        ([vector(0), vector(0, seed=2)], {}, "two vectors are of one layer"),
        (vector(0, direction=np.zeros((1, WIDTH), np.float32)), {}, "is 0"),
        (vector(0), {"attention": 0.0, "mlp": 0.0, "embeddings": False}, "nothing would be edited"),
        (vector(0), {"mlp": -1.0}, "finite and at least 0"),
    ]:
        with pytest.raises(SteerworksError, match=said):
            edit_weights(loaded, vectors, tmp_path / "edited", **options)
    tensors = {"left": np.ones((1, WIDTH), np.float32), "right": np.ones((1, WIDTH), np.float32)}
    with pytest.raises(SteerworksError, match="has no direction that could be taken out"):
        edit_weights(loaded, vector(0, operator="low_rank", **tensors), tmp_path / "edited")
    with pytest.raises(SteerworksError, match="normalises the stream behind each sublayer"):
        edit_weights(made("opt_post_norm"), vector(0), tmp_path / "edited")
    for family in EXPERTS:
        with pytest.raises(SteerworksError, match=f"of this {family} model writes at its mlp through experts"):
            edit_weights(made(family), vector(0), tmp_path / "edited")
    with pytest.raises(SteerworksError, match="gemma2 model cannot be folded: it normalises"):
        edit_weights(made("gemma2"), vector(0), tmp_path / "edited")
    assert list(tmp_path.iterdir()) == []
