"""Configs of tiny random models, one an architecture: the matrix that every test of architectures draws on."""

from __future__ import annotations

import transformers as t

LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1}
DEEPSEEK = {**LATENT, **ROUTED, "num_key_value_heads": 4, "first_k_dense_replace": 1}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
#: Layers that see a window of 8 tokens, and all.
WINDOWS = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
STATE = {"mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}  # fmt: skip
#: Rotary positions whose factors change at token 40.
LONGROPE = {
    "original_max_position_embeddings": 40,
    "rope_parameters": {
        "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [6.0] * 4, "rope_theta": 10000.0,
    },
}  # fmt: skip


def tiny_config(family: str, vocab: int, context: int = 256):
    """A config of a few small layers, two for most.

    Raises:
        ValueError: nobody has written one for that family.
    """
    common = {"vocab_size": vocab, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    plain = {
        **common,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": context,
    }
    wide = {**plain, "num_key_value_heads": 2}
    four = {**wide, "num_hidden_layers": 4}
    old = {**common, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": context}
    falcon = {k: v for k, v in plain.items() if k != "intermediate_size"}
    for makers in _MAKERS:
        found = makers(common, plain, wide, four, old, falcon, context).get(family)
        if found is not None:
            return found()
    raise ValueError(family)


def _dense(common, plain, wide, four, old, falcon, context):
    return {
        "llama": lambda: t.LlamaConfig(**wide),
        "qwen2": lambda: t.Qwen2Config(**wide),
        "qwen3": lambda: t.Qwen3Config(**wide, head_dim=8),
        "mistral": lambda: t.MistralConfig(**wide),
        "mistral_window": lambda: t.MistralConfig(**wide, sliding_window=8),
        "ministral": lambda: t.MinistralConfig(**wide, **WINDOWS, head_dim=8),
        "gemma": lambda: t.GemmaConfig(**wide, head_dim=8),
        "gemma2": lambda: t.Gemma2Config(**wide, **GEMMA),
        "gemma3": lambda: t.Gemma3TextConfig(**wide, **GEMMA),
        "gemma3_wrapper": lambda: _gemma3_wrapper(t.Gemma3TextConfig(**wide, **GEMMA)),
        "gemma3n": lambda: t.Gemma3nTextConfig(
            **four, head_dim=8, sliding_window=8, vocab_size_per_layer_input=common["vocab_size"],
            hidden_size_per_layer_input=8, num_kv_shared_layers=2, laurel_rank=4, activation_sparsity_pattern=[0.0] * 4,
            layer_types=WINDOWS["layer_types"] * 2,
        ),
        "phi": lambda: t.PhiConfig(**wide, partial_rotary_factor=0.5),
        "phi3": lambda: t.Phi3Config(**wide),
        "phi3_longrope": lambda: t.Phi3Config(**wide, **LONGROPE),
        "olmo": lambda: t.OlmoConfig(**wide),
        "olmo2": lambda: t.Olmo2Config(**wide),
        "olmo3": lambda: t.Olmo3Config(**wide, **WINDOWS),
        "granite": lambda: t.GraniteConfig(
            **wide, residual_multiplier=0.22, embedding_multiplier=12.0, attention_multiplier=0.35
        ),
        "cohere": lambda: t.CohereConfig(**wide, logit_scale=0.5),
        "cohere2": lambda: t.Cohere2Config(**wide, **WINDOWS, logit_scale=0.5),
        "stablelm": lambda: t.StableLmConfig(**wide),
        "stablelm_parallel": lambda: t.StableLmConfig(**wide, use_parallel_residual=True),
        "starcoder2": lambda: t.Starcoder2Config(**wide, sliding_window=8),
        "smollm3": lambda: t.SmolLM3Config(**wide, no_rope_layers=[1, 0]),
        "nemotron": lambda: t.NemotronConfig(**wide, head_dim=8),
        "ernie4_5": lambda: t.Ernie4_5Config(**wide, head_dim=8),
        "glm": lambda: t.GlmConfig(**wide, head_dim=8),
        "glm4": lambda: t.Glm4Config(**wide, head_dim=8),
        "exaone4": lambda: t.Exaone4Config(**wide, **WINDOWS),
        "helium": lambda: t.HeliumConfig(**wide, head_dim=8),
        "apertus": lambda: t.ApertusConfig(**wide),
        "arcee": lambda: t.ArceeConfig(**wide),
        "seed_oss": lambda: t.SeedOssConfig(**wide, head_dim=8),
        "hunyuan": lambda: t.HunYuanDenseV1Config(**wide, head_dim=8),
        "persimmon": lambda: t.PersimmonConfig(**plain),
    }  # fmt: skip


def _old(common, plain, wide, four, old, falcon, context):
    return {
        "gpt2": lambda: t.GPT2Config(**old),
        "gptj": lambda: t.GPTJConfig(**old, rotary_dim=4),
        "codegen": lambda: t.CodeGenConfig(**old, rotary_dim=4),
        "gpt_bigcode": lambda: t.GPTBigCodeConfig(**old),
        "gpt_neo": lambda: t.GPTNeoConfig(
            **common, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
            window_size=8, max_position_embeddings=context,
        ),
        "gpt_neox": lambda: t.GPTNeoXConfig(**plain),
        "gpt_neox_sequential": lambda: t.GPTNeoXConfig(**plain, use_parallel_residual=False),
        "falcon": lambda: t.FalconConfig(**falcon, alibi=False),
        "falcon_alibi": lambda: t.FalconConfig(**falcon, alibi=True, parallel_attn=False, multi_query=False),
        "bloom": lambda: t.BloomConfig(**common, hidden_size=32, n_layer=2, n_head=4),
        "mpt": lambda: t.MptConfig(
            **common, d_model=32, n_heads=4, n_layers=2, expansion_ratio=2, max_seq_len=context
        ),
        "opt": lambda: t.OPTConfig(
            **common, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32,
            max_position_embeddings=context,
        ),
        "opt_post_norm": lambda: t.OPTConfig(
            **common, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=16,
            max_position_embeddings=context, do_layer_norm_before=False,
        ),
        "biogpt": lambda: t.BioGptConfig(**plain),
    }  # fmt: skip


def _experts(common, plain, wide, four, old, falcon, context):
    return {
        "mixtral": lambda: t.MixtralConfig(**wide, num_local_experts=4),
        "qwen2_moe": lambda: t.Qwen2MoeConfig(**wide, **EXPERTS, shared_expert_intermediate_size=16),
        "qwen3_moe": lambda: t.Qwen3MoeConfig(**wide, **EXPERTS, head_dim=8),
        "olmoe": lambda: t.OlmoeConfig(**wide, num_experts=4, num_experts_per_tok=2),
        "phimoe": lambda: t.PhimoeConfig(**wide, num_local_experts=4),
        "gpt_oss": lambda: t.GptOssConfig(
            **wide, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=8
        ),
        "granitemoe": lambda: t.GraniteMoeConfig(
            **wide, num_local_experts=4, num_experts_per_tok=2, residual_multiplier=0.22
        ),
        "ernie4_5_moe": lambda: t.Ernie4_5_MoeConfig(
            **wide, moe_num_experts=4, moe_k=2, moe_intermediate_size=16, moe_num_shared_experts=1,
            moe_layer_start_index=1, moe_layer_end_index=1,
        ),
        "glm4_moe": lambda: t.Glm4MoeConfig(
            **wide, **ROUTED, head_dim=8, first_k_dense_replace=1, n_group=1, topk_group=1
        ),
        "deepseek_v2": lambda: t.DeepseekV2Config(**{**wide, **DEEPSEEK}, topk_method="greedy"),
        "deepseek_v3": lambda: t.DeepseekV3Config(**{**wide, **DEEPSEEK}, n_group=2, topk_group=1),
    }  # fmt: skip


def _hybrids(common, plain, wide, four, old, falcon, context):
    return {
        "mamba": lambda: t.MambaConfig(**common, hidden_size=32, num_hidden_layers=2, state_size=4),
        "bamba": lambda: t.BambaConfig(**four, **STATE, mamba_expand=2, attn_layer_indices=[1, 3]),
        "falcon_h1": lambda: t.FalconH1Config(**wide, **STATE, mamba_d_ssm=64),
        "jamba": lambda: t.JambaConfig(
            **four, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1,
            num_experts=2, num_experts_per_tok=1, mamba_d_state=8, mamba_dt_rank=4, use_mamba_kernels=False,
        ),
        "zamba2": lambda: t.Zamba2Config(
            **four, mamba_d_state=8, mamba_headdim=8, n_mamba_heads=8, mamba_ngroups=1, chunk_size=16,
            layers_block_type=["mamba", "hybrid"] * 2, num_mem_blocks=1, adapter_rank=4, use_mamba_kernels=False,
        ),
        "nemotron_h": lambda: t.NemotronHConfig(
            **four, layers_block_type=["mamba", "attention", "mlp", "mamba"], ssm_state_size=8, mamba_num_heads=8,
            mamba_head_dim=8, n_groups=1, chunk_size=16,
        ),
        "granitemoehybrid": lambda: t.GraniteMoeHybridConfig(
            **four, **STATE, mamba_expand=2, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=64,
            layer_types=["mamba", "attention"] * 2, residual_multiplier=0.3,
        ),
        "lfm2": lambda: t.Lfm2Config(**four, layer_types=["conv", "full_attention"] * 2, block_multiple_of=16),
        "qwen3_next": lambda: t.Qwen3NextConfig(
            **four, **EXPERTS, **LINEAR, head_dim=8, shared_expert_intermediate_size=16
        ),
        "recurrent_gemma": lambda: t.RecurrentGemmaConfig(
            **{**wide, "num_hidden_layers": 3}, attention_window_size=16, lru_width=32
        ),
        "minimax": lambda: t.MiniMaxConfig(
            **wide, head_dim=8, num_local_experts=4, layer_types=["linear_attention", "full_attention"]
        ),
        "rwkv": lambda: t.RwkvConfig(
            **common, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, intermediate_size=64,
            context_length=context,
        ),
        "doge": lambda: t.DogeConfig(**wide),
    }  # fmt: skip


def _gemma3_wrapper(text):
    vision = t.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    return t.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)


_MAKERS = (_dense, _old, _experts, _hybrids)
#: Every architecture of the matrix.
ARCHITECTURES = tuple(name for makers in _MAKERS for name in makers({}, {}, {}, {}, {}, {}, 0))
