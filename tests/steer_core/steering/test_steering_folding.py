"""A folded checkpoint does by itself, in plain transformers, what the hooks do; what cannot be folded is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t

from schemas.specs import ModelSpec
from steer_core.models.info import ModelInfo
from steer_core.models.loading import LoadedModel, load_model
from steer_core.steering.folding import MANIFEST, check_foldable, fold
from steer_core.steering.hooks import Steering
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from tests.tiny_configs import ARCHITECTURES, tiny_config

WIDTH = 32
COMMON = {"vocab_size": 96, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 95}
WIDE = {
    **COMMON,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
FALCON = {
    k: v for k, v in WIDE.items() if k not in ("intermediate_size", "num_key_value_heads", "max_position_embeddings")
}
ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
LATENT = {
    "kv_lora_rank": 8,
    "q_lora_rank": None,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 4,
    "num_key_value_heads": 4,
}
FAMILIES = {
    "llama": lambda: t.LlamaConfig(**WIDE),
    "llama-tied": lambda: t.LlamaConfig(**WIDE, tie_word_embeddings=True),
    "granite": lambda: t.GraniteConfig(**WIDE, residual_multiplier=0.4, attention_multiplier=0.3, embedding_multiplier=2.0),
    "mistral": lambda: t.MistralConfig(**WIDE, sliding_window=None, head_dim=16),
    "qwen2": lambda: t.Qwen2Config(**WIDE),
    "phi3": lambda: t.Phi3Config(**WIDE),
    "gpt2": lambda: t.GPT2Config(**COMMON, n_embd=WIDTH, n_layer=3, n_head=4, n_positions=64),
    "gpt_neox": lambda: t.GPTNeoXConfig(**{k: v for k, v in WIDE.items() if k != "num_key_value_heads"}),
    "falcon": lambda: t.FalconConfig(**FALCON, bias=False, new_decoder_architecture=False, parallel_attn=True),
    "falcon-new": lambda: t.FalconConfig(**FALCON, num_kv_heads=2, bias=False, new_decoder_architecture=True),
    "deepseek_v2": lambda: t.DeepseekV2Config(**{**WIDE, **LATENT, **ROUTED}),
    # each of these has its biases, or a switch for them
    **{
        name: lambda name=name: tiny_config(name, 96, 64)
        for name in [
            "arcee", "nemotron", "smollm3", "seed_oss", "ernie4_5", "helium", "starcoder2", "phi", "persimmon", "opt",
            "gpt_bigcode", "gpt_neo", "gptj", "codegen", "gpt_neox_sequential", "falcon_alibi", "bloom", "gpt_oss",
        ]
    },
}  # fmt: skip
_NORMED = "{} model cannot be folded: it normalises what its sublayers write"
_ROUTED = "{} model cannot be folded: its experts have no bias"
_BARE = "{} model cannot be folded at its mlp: the projection that writes has no bias"
_NO_BIAS = "{} model cannot be folded: what its MLP writes has no bias"
_STATE = "{} model cannot be folded: its layers differ in kind"
REFUSED = {
    "gemma2": (lambda: t.Gemma2Config(**WIDE, head_dim=8), "gemma2 model cannot be folded: it normalises what its sublayers write"),
    "gemma3_text": (lambda: t.Gemma3TextConfig(**WIDE, head_dim=8), "gemma3_text model cannot be folded: it normalises"),
    "olmo2": (lambda: t.Olmo2Config(**WIDE), "olmo2 model cannot be folded: it normalises"),
    "qwen3": (lambda: t.Qwen3Config(**WIDE, head_dim=8), "qwen3 model cannot be folded at its mlp: .*no other architecture carries"),
    "mixtral": (lambda: t.MixtralConfig(**WIDE, num_local_experts=2, num_experts_per_tok=1), "mixtral model cannot be folded: its experts have no bias"),
    "deepseek_v3": (lambda: t.DeepseekV3Config(**{**WIDE, **LATENT, **ROUTED, "n_group": 1, "topk_group": 1}), "deepseek_v3 model cannot be folded: its experts"),
    "windowed mistral": (lambda: t.MistralConfig(**WIDE, sliding_window=16), "mistral model attends over a window of 16 of its 64 positions"),
    **{
        name: (lambda name=name: tiny_config(name, 96, 64), said.format(kind.get(name, name)))
        for said, names in {
            _NORMED: ["exaone4", "gemma3_wrapper", "glm4", "olmo3"],
            _ROUTED: ["ernie4_5_moe", "glm4_moe", "granitemoe", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe"],
            _BARE: ["apertus", "cohere", "cohere2", "gemma", "hunyuan", "olmo"],
            _NO_BIAS: ["glm", "ministral", "mpt", "stablelm", "stablelm_parallel"],
            _STATE: [
                "bamba", "falcon_h1", "granitemoehybrid", "jamba", "lfm2", "mamba", "minimax", "nemotron_h",
                "qwen3_next", "recurrent_gemma", "zamba2",
            ],
            "{} model cannot be folded: it normalises the stream behind each sublayer": ["opt_post_norm"],
            "{} model has rotary embeddings .* computes differently": ["phi3_longrope"],
            "{} model cannot be folded: where its sublayers write is not known here": ["biogpt"],
        }.items()
        for kind in [{
            "hunyuan": "hunyuan_v1_dense", "gemma3_wrapper": "gemma3", "stablelm_parallel": "stablelm",
            "opt_post_norm": "opt", "phi3_longrope": "phi3",
        }]
        for name in names
    },
}  # fmt: skip


class Words:
    """A tokenizer that only has to be saved."""

    def save_pretrained(self, folder) -> None:
        (Path(folder) / "tokenizer.json").write_text("{}")


def random_model(config) -> LoadedModel:
    torch.manual_seed(3)
    model = t.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # far from zero, so that greedy answers depend on everything
            parameter.add_(torch.randn_like(parameter) * 0.1)
    spec = ModelSpec(name="own", source="./own")
    return LoadedModel(spec, model, Words(), ModelInfo(64, False), "own", "cpu")


def vector(layer: int, site: str = "residual", operator: str = "add", seed: int = 0, **tensors) -> SteeringVector:
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal((1, WIDTH)).astype(np.float32)
    return SteeringVector("tea", operator, layer, {"direction": direction, **tensors}, {}, "own", site)


def applied(v: SteeringVector, coefficient: float, **more) -> Intervention:
    return Intervention(v.operator, v.id, v.layer, coefficient, v.site, **more)


def greedy(model, rows: int = 4, new: int = 12) -> torch.Tensor:
    torch.manual_seed(5)
    tokens = torch.randint(2, 90, (rows, 7))
    return model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, do_sample=False)


def hooked(loaded: LoadedModel, interventions, vectors) -> torch.Tensor:
    with Steering(loaded.model, vectors, loaded.fingerprint).apply([tuple(interventions)] * 4, [7] * 4):
        return greedy(loaded.model)


def reloaded(folder):
    return t.AutoModelForCausalLM.from_pretrained(folder).eval()


def test_every_architecture_of_the_matrix_is_folded_or_refused():
    # two stand under another name; three cannot even be steered
    others = {"gemma3", "mistral_window", "rwkv", "gemma3n", "doge"}
    assert set(ARCHITECTURES) - set(FAMILIES) - set(REFUSED) == others


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_gives_the_same_tokens_as_the_hook(family, tmp_path):
    loaded = random_model(FAMILIES[family]())
    vectors = {v.id: v for v in (vector(0, seed=1), vector(1, seed=2), vector(1, seed=3))}
    interventions = [applied(v, c) for v, c in zip(vectors.values(), (2.0, -1.5, 1.0), strict=True)]
    expected = hooked(loaded, interventions, vectors)
    assert not torch.equal(expected, greedy(loaded.model))
    found = fold(loaded, interventions, vectors, tmp_path / "folded")
    assert torch.equal(greedy(reloaded(found.folder)), expected)
    assert found.carrier == {"mistral": "llama", "qwen2": "llama", "phi3": "llama"}.get(found.family, found.family)
    assert len(found.changed) == 2
    assert all(name.endswith("bias") for name in found.changed)


ABLATED = [
    "llama", "granite", "qwen2", "qwen3", "phi3", "gpt2", "gpt_neox", "falcon", "cohere", "gemma", "nemotron", "gptj",
    "gpt_neo", "gpt_bigcode", "phi", "starcoder2", "smollm3", "helium",
]  # fmt: skip


@pytest.mark.parametrize("family", ABLATED)
def test_edits_of_what_sublayers_write_fold_into_their_projections(family, tmp_path):
    config = REFUSED[family][0]() if family in REFUSED else FAMILIES[family]()
    loaded = random_model(config)
    layers = range(loaded.model.config.num_hidden_layers)
    vectors = [vector(layer, site, "ablate", seed=layer) for layer in layers for site in ("attention", "mlp")]
    interventions = [applied(v, 1.0) for v in vectors]
    known = {v.id: v for v in vectors}
    found = fold(loaded, interventions, known, tmp_path / "folded")
    assert torch.equal(greedy(reloaded(found.folder)), hooked(loaded, interventions, known))
    # without a bias in it, an ablation needs no switch
    assert found.carrier == found.family


@pytest.mark.parametrize("family", ["llama", "granite", "gpt2", "falcon"])
def test_affine_edits_and_additions_of_one_layer_act_in_their_order(family, tmp_path):
    loaded = random_model(FAMILIES[family]())
    rng = np.random.default_rng(7)
    tensors = {n: rng.standard_normal((2, WIDTH)).astype(np.float32) / 6 for n in ("left", "right")}
    tensors["center"] = rng.standard_normal((1, WIDTH)).astype(np.float32)
    vectors = [
        vector(1, "residual", seed=1),
        vector(1, "mlp", "affine", seed=2, **tensors),
        vector(1, "mlp", seed=3),
        vector(1, "attention", "affine", seed=4, **tensors),
        vector(1, "attention", "ablate", seed=5),
    ]
    interventions = [applied(v, 0.8) for v in vectors]
    known = {v.id: v for v in vectors}
    found = fold(loaded, interventions, known, tmp_path / "folded")
    assert torch.equal(greedy(reloaded(found.folder)), hooked(loaded, interventions, known))
    swapped = [interventions[i] for i in (0, 2, 1, 4, 3)]
    assert not torch.allclose(logits(reloaded(found.folder)), hooked_logits(loaded, swapped, known), atol=1e-3)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(2, 20)[None]).logits


def hooked_logits(loaded, interventions, vectors) -> torch.Tensor:
    with Steering(loaded.model, vectors, loaded.fingerprint).apply([tuple(interventions)], [18]):
        return logits(loaded.model)


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_without_a_place_for_the_bias_is_refused_by_name_and_reason(family, tmp_path):
    config, said = REFUSED[family]
    loaded = random_model(config())
    v = vector(0)
    with pytest.raises(SteerworksError, match=f"{said}.*[Ss]teer it with hooks"):
        fold(loaded, [applied(v, 1.0)], {v.id: v}, tmp_path / "folded")
    assert list(tmp_path.iterdir()) == []


def test_what_weights_cannot_do_is_refused(tmp_path):
    loaded = random_model(FAMILIES["llama"]())
    v, ablation, norm = vector(0), vector(0, operator="ablate"), vector(0, operator="add_norm_preserving")
    known = {x.id: x for x in (v, ablation, norm)}
    for intervention, said in [
        (applied(v, 1.0, positions="completion"), "steers positions 'completion': weights act on every token"),
        (applied(v, 1.0, gate=Gate(v.id, 0, 0.5)), "has a gate"),
        (applied(ablation, 1.0), "also edits what earlier layers wrote.*fold it at sites"),
        (applied(norm, 1.0), "'add_norm_preserving' .* is no affine map"),
        (Intervention("add", v.id, 7, 1.0), "layer 7 is out of range"),
        (Intervention("add", "unknown", 0, 1.0), "vector unknown is not loaded"),
    ]:
        with pytest.raises(SteerworksError, match=said):
            check_foldable(loaded, [intervention], known)
    for family, layer in (("deepseek_v2", 2), ("gpt_oss", 1)):
        written = vector(layer, "mlp", "ablate")
        with pytest.raises(
            SteerworksError, match=f"layer {layer}, site 'mlp', of this {family} model: its experts write there"
        ):
            check_foldable(random_model(FAMILIES[family]()), [applied(written, 1.0)], {written.id: written})


def test_phi3_with_other_rotary_embeddings_is_refused():
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    loaded = random_model(t.Phi3Config(**WIDE, rope_parameters=rope))
    v = vector(0)
    with pytest.raises(SteerworksError, match="phi3 model has rotary embeddings .* computes differently"):
        check_foldable(loaded, [applied(v, 1.0)], {v.id: v})


def test_a_checkpoint_that_differs_from_the_hooks_is_not_published(tmp_path, monkeypatch):
    from steer_core.steering import folding

    loaded = random_model(FAMILIES["llama"]())
    v = vector(0)
    real = folding._edit
    monkeypatch.setattr(folding, "_edit", lambda s, i, vec, f, c: real(s, applied(v, 2.0), vec, f, c))
    with pytest.raises(SteerworksError, match="differs from the hooks by .* standard deviations"):
        fold(loaded, [applied(v, 1.0)], {v.id: v}, tmp_path / "folded")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(tmp_path):
    loaded = random_model(FAMILIES["llama"]())
    v = vector(0)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SteerworksError, match="is in use; name a new folder"):
        fold(loaded, [applied(v, 1.0)], {v.id: v}, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_folding_leaves_the_loaded_model_as_it_was(tmp_path):
    loaded = random_model(FAMILIES["gpt2"]())
    before = {n: p.clone() for n, p in loaded.model.state_dict().items()}
    v = vector(1)
    fold(loaded, [applied(v, 3.0)], {v.id: v}, tmp_path / "folded")
    assert all(torch.equal(p, before[n]) for n, p in loaded.model.state_dict().items())


def test_the_embedded_model_folds_and_says_what_was_folded(tmp_path):
    loaded = load_model(ModelSpec(name="embedded", source="embedded"))
    rng = np.random.default_rng(0)
    direction = rng.standard_normal((1, 128)).astype(np.float32)
    v = SteeringVector("noise", "add", 1, {"direction": direction}, {}, loaded.fingerprint)
    found = fold(loaded, [applied(v, 0.4)], {v.id: v}, tmp_path / "folded")
    folded = load_model(ModelSpec(name="folded", source=str(found.folder)))
    text = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Tell me about the farmer and the pumpkin."}],
        tokenize=False,
        add_generation_prompt=True,
    )
    tokens = loaded.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    options = {"attention_mask": torch.ones_like(tokens), "max_new_tokens": 24, "do_sample": False}
    with Steering(loaded.model, {v.id: v}, loaded.fingerprint).apply([(applied(v, 0.4),)], [tokens.shape[1]]):
        expected = loaded.model.generate(tokens, **options)
    assert torch.equal(folded.model.generate(tokens, **options), expected)
    manifest = json.loads((found.folder / MANIFEST).read_text())
    assert manifest["concepts"] == {v.id: "noise"}
    assert manifest["source"]["fingerprint"] == loaded.fingerprint
    assert manifest["changed"] == ["model.layers.1.mlp.down_proj.bias"]
