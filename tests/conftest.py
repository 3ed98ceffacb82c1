"""Shared fixtures: tiny random models of several families, saved as plain `save_pretrained` folders."""

import os
from pathlib import Path

import pytest

# two workers on two cores: torch slows down badly when its threads outnumber free cores
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

CHAT_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def tiny_tokenizer(chat: bool):
    """A byte-level BPE tokenizer trained on a few sentences; deterministic."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<end>", "<user>", "<assistant>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["Please rewrite the following text so that it is longer and more formal."] * 4, trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_config(family: str, vocab: int, context: int = 256):
    """A config of two small layers."""
    import transformers as t

    common = {"vocab_size": vocab, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    wide = {
        **common,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
    }
    plain = {k: v for k, v in wide.items() if k != "num_key_value_heads"}
    experts = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1}
    latent = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
    deepseek = {**wide, **experts, **latent, "num_key_value_heads": 4, "first_k_dense_replace": 1}
    match family:
        case "llama":
            return t.LlamaConfig(**wide)
        case "qwen2":
            return t.Qwen2Config(**wide)
        case "qwen3":
            return t.Qwen3Config(**wide, head_dim=8)
        case "mistral":
            return t.MistralConfig(**wide)
        case "gemma2":
            return t.Gemma2Config(**wide, head_dim=8, query_pre_attn_scalar=8, sliding_window=8)
        case "gemma3":
            return t.Gemma3TextConfig(**wide, head_dim=8, query_pre_attn_scalar=8, sliding_window=8)
        case "phi3":
            return t.Phi3Config(**wide)
        case "gpt2":
            return t.GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=context)
        case "gpt_neox":
            return t.GPTNeoXConfig(**plain)
        case "gpt_neox_sequential":
            return t.GPTNeoXConfig(**plain, use_parallel_residual=False)
        case "olmo2":
            return t.Olmo2Config(**wide)
        case "falcon":
            return t.FalconConfig(**{k: v for k, v in plain.items() if k != "intermediate_size"}, alibi=False)
        case "falcon_alibi":
            return t.FalconConfig(
                **{k: v for k, v in plain.items() if k != "intermediate_size"},
                alibi=True,
                parallel_attn=False,
                multi_query=False,
            )
        case "granite":
            return t.GraniteConfig(
                **wide, residual_multiplier=0.22, embedding_multiplier=12.0, attention_multiplier=0.35
            )
        case "deepseek_v2":
            return t.DeepseekV2Config(**deepseek, topk_method="greedy")
        case "deepseek_v3":
            return t.DeepseekV3Config(**deepseek, n_group=2, topk_group=1)
        case "mixtral":
            return t.MixtralConfig(**wide, num_local_experts=4)
        case "gemma3_wrapper":
            vision = t.SiglipVisionConfig(
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=8,
                patch_size=4,
            )
            text = t.Gemma3TextConfig(**wide, head_dim=8, query_pre_attn_scalar=8, sliding_window=8)
            return t.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
        case "mamba":
            return t.MambaConfig(**common, hidden_size=32, num_hidden_layers=2, state_size=4)
        case "opt":
            return t.OPTConfig(
                **common,
                hidden_size=32,
                ffn_dim=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                word_embed_proj_dim=32,
                max_position_embeddings=context,
            )
    raise ValueError(family)


def save_tiny_model(folder: Path, family: str = "llama", chat: bool = True, context: int = 256) -> Path:
    """A random model with its tokenizer in a folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(chat)
    model = transformers.AutoModelForCausalLM.from_config(tiny_config(family, len(tokenizer), context))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """`tiny_model(family, chat)`: a folder, made once a session."""
    made = {}

    def make(family: str = "llama", chat: bool = True, context: int = 256) -> Path:
        key = (family, chat, context)
        if key not in made:
            made[key] = save_tiny_model(tmp_path_factory.mktemp(family), family, chat, context)
        return made[key]

    return make
