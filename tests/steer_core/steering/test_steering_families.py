"""Every decoder family of the common set: the site is where it says, and decoding with and without a cache agree."""

import pytest
import torch
from steering_worlds import PROMPTS, act, decode, hidden_after, steering, tiny, vector

from steer_core.steering.sites import find_sites
from steer_core.tables.errors import SteerworksError

FAMILIES = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "gemma3_wrapper",
    "phi3",
    "gpt2",
    "gpt_neox",
    "gpt_neox_sequential",
    "olmo2",
    "falcon",
    "falcon_alibi",
    "granite",
    "deepseek_v2",
    "deepseek_v3",
    "mixtral",
]
SITES = ["residual", "attention", "mlp"]


@pytest.fixture(scope="module")
def model():
    made = {}

    def make(family):
        if family not in made:
            made[family] = tiny(family)
        return made[family]

    return make


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_enters_the_stream_whole_at_its_token_and_nowhere_else(model, family, site):
    v = vector(layer=1)
    ids = torch.tensor([PROMPTS[2]])
    made = model(family)
    steer = steering(made, v)
    silenced = []
    if site == "attention":
        # what the MLP makes of a steered stream is not the question
        silenced = [
            find_sites(made).place(1, "mlp").module.register_forward_hook(lambda _m, _a, out: torch.zeros_like(out))
        ]
    before = hidden_after(made, 1, ids)
    after = hidden_after(made, 1, ids, steer, [(act(v, 1.5, site=site, positions="index:3"),)], [len(PROMPTS[2])])
    for handle in silenced:
        handle.remove()
    assert torch.equal(after[0, :3], before[0, :3])
    assert torch.equal(after[0, 4:], before[0, 4:])
    torch.testing.assert_close(
        after[0, 3] - before[0, 3], 1.5 * torch.tensor(v.direction), atol=2e-5 * float(before.abs().max()), rtol=1e-4
    )


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_at_a_site_is_what_enters_the_stream(model, family, site):
    made = model(family)
    sites = find_sites(made)
    kept = {}
    handles = [
        sites.place(1, s).module.register_forward_hook(
            lambda _m, _a, out, s=s: kept.update({s: sites.place(1, s).read(out).clone()})
        )
        for s in SITES
    ]
    ids = torch.tensor([PROMPTS[0]])
    start = hidden_after(made, 0, ids)
    for handle in handles:
        handle.remove()
    total = start + kept["attention"] + kept["mlp"]
    torch.testing.assert_close(total, kept["residual"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_and_uncached_decoding_agree(model, family):
    v, w = vector(layer=0), vector("ablate", layer=1, seed=1)
    made = model(family)
    steer = steering(made, v, w)
    rows = [
        (act(v, 1.0, positions="completion"), act(w, 1.0)),
        (act(v, -1.0, site="mlp"),),
        (act(v, 2.0, site="attention", positions="prompt"),),
        (),
    ]
    cached, logits, applied = decode(made, steer, rows, tokens=10)
    uncached, others, again = decode(made, steer, rows, tokens=10, cache=False)
    assert torch.equal(cached, uncached)
    torch.testing.assert_close(logits, others, atol=2e-3, rtol=1e-3)
    fed = [len(p) + 9 for p in PROMPTS]
    assert applied.receipts(fed) == again.receipts(fed)
    _, plain, _ = decode(made, steer, [()] * 4, tokens=10)
    moved = (logits - plain).abs().amax(dim=(0, 2))
    assert all(moved[:3] > 1e-2)
    torch.testing.assert_close(logits[:, 3], plain[:, 3], atol=1e-5, rtol=1e-5)


def test_sublayers_of_an_unknown_family_are_refused_by_name():
    made = tiny("mamba")
    with pytest.raises(SteerworksError, match="decoder layers of MambaForCausalLM .type 'mamba'. cannot be found"):
        find_sites(made)


def test_an_unknown_family_whose_layers_are_found_can_be_steered_in_the_stream_only():
    made = tiny("llama")
    made.config.model_type = "brand_new"
    v = vector(layer=1)
    steer = steering(made, v)
    assert decode(made, steer, [(act(v),)], PROMPTS[:1])[2].receipts([len(PROMPTS[0]) + 7])[0] is not None
    with pytest.raises(SteerworksError, match="site 'mlp' is not known for models of type 'brand_new'"):
        steer.check((act(v, site="mlp"),))


def test_layers_below_a_decoder_of_their_own_are_steered_in_the_stream(model):
    made, v = model("opt"), vector(layer=1)
    steer = steering(made, v)
    assert decode(made, steer, [(act(v),)], PROMPTS[:1])[2].receipts([len(PROMPTS[0]) + 7])[0] is not None
    with pytest.raises(SteerworksError, match="site 'mlp' is not known for models of type 'opt'"):
        steer.check((act(v, site="mlp"),))
