"""Every decoder family of the common set: the site is where it says, and decoding with and without a cache agree."""

import pytest
import torch
from steering_worlds import PROMPTS, act, decode, hidden_after, steering, tiny, vector

from steer_core.steering.sites import find_sites
from steer_core.tables.errors import SteerworksError

#: Families whose every layer has an attention and an MLP that write into the stream.
FAMILIES = [
    "llama", "mistral", "mistral_window", "ministral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_wrapper",
    "phi", "phi3", "phi3_longrope", "olmo", "olmo2", "olmo3", "granite", "cohere", "cohere2", "stablelm",
    "stablelm_parallel", "starcoder2", "smollm3", "nemotron", "ernie4_5", "glm", "glm4", "exaone4", "helium", "apertus",
    "arcee", "seed_oss", "hunyuan", "persimmon", "gpt2", "gptj", "codegen", "gpt_bigcode", "gpt_neo", "gpt_neox",
    "gpt_neox_sequential", "falcon", "falcon_alibi", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe", "gpt_oss",
    "granitemoe", "ernie4_5_moe", "glm4_moe", "deepseek_v2", "deepseek_v3",
]  # fmt: skip
#: Families that are steered in the stream only: state space and linear attention, or modules that add the stream.
STREAM_ONLY = [
    "opt", "opt_post_norm", "bloom", "mpt", "biogpt", "mamba", "bamba", "falcon_h1", "jamba", "zamba2", "nemotron_h",
    "granitemoehybrid", "lfm2", "qwen3_next", "recurrent_gemma", "minimax",
]  # fmt: skip
SITES = ["residual", "attention", "mlp"]


@pytest.fixture(scope="module")
def model():
    made = {}

    def make(family):
        if family not in made:
            made[family] = tiny(family)
        return made[family]

    return make


def _zeros(_module, _args, out):
    """Nothing in place of what a module gives; GPT-OSS gives its router's scores along."""
    return (torch.zeros_like(out[0]), *out[1:]) if isinstance(out, tuple) else torch.zeros_like(out)


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
        silenced = [find_sites(made).place(1, "mlp").module.register_forward_hook(_zeros)]
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


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("rwkv", "decoder layers of RwkvForCausalLM .type 'rwkv'. cannot be found"),
        ("gemma3n", r"Gemma3nForCausalLM .type 'gemma3n_text'. keeps 4 streams beside each other .altup_num_inputs."),
    ],
)
def test_an_architecture_without_a_stream_to_steer_is_refused_by_name(family, said):
    with pytest.raises(SteerworksError, match=f"{said}.*cannot be steered"):
        find_sites(tiny(family))


def test_a_module_that_gives_no_rows_of_tokens_is_refused_by_its_shape(model):
    place = find_sites(model("llama")).place(1, "mlp")
    with pytest.raises(SteerworksError, match=r"layer 1, site 'mlp' .LlamaMLP. gives activations of shape \[2, 3\]"):
        place.read(torch.zeros(2, 3))


def test_an_unknown_family_whose_layers_are_found_can_be_steered_in_the_stream_only():
    made = tiny("llama")
    made.config.model_type = "brand_new"
    v = vector(layer=1)
    steer = steering(made, v)
    assert decode(made, steer, [(act(v),)], PROMPTS[:1])[2].receipts([len(PROMPTS[0]) + 7])[0] is not None
    with pytest.raises(SteerworksError, match="site 'mlp' is not known for models of type 'brand_new'"):
        steer.check((act(v, site="mlp"),))


@pytest.mark.parametrize("family", STREAM_ONLY)
def test_other_families_are_steered_in_the_stream_at_its_token_and_nowhere_before(model, family):
    made, v = model(family), vector(layer=1)
    steer, ids = steering(made, v), torch.tensor([PROMPTS[2]])
    before = hidden_after(made, 1, ids)
    after = hidden_after(made, 1, ids, steer, [(act(v, 1.5, positions="index:3"),)], [len(PROMPTS[2])])
    assert torch.equal(after[0, :3], before[0, :3])
    assert torch.equal(after[0, 4:], before[0, 4:])
    torch.testing.assert_close(
        after[0, 3] - before[0, 3], 1.5 * torch.tensor(v.direction), atol=2e-5 * float(before.abs().max()), rtol=1e-4
    )
    assert decode(made, steer, [(act(v),)], PROMPTS[:1])[2].receipts([len(PROMPTS[0]) + 7])[0] is not None
    name = made.config.get_text_config().model_type
    with pytest.raises(SteerworksError, match=f"site 'mlp' is not known for models of type '{name}'"):
        steer.check((act(v, site="mlp"),))
