"""GGUF files of small Llama models, written as llama.cpp writes them: for tests of what is read from such files."""

import json
from pathlib import Path

import gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

#: Names of a layer's weights: transformers -> llama.cpp.
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def paired(weight, heads):
    """Rotary halves interleaved, as llama.cpp keeps them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf_model(folder: Path, file: Path, *, special=None, architecture="llama", change=lambda name, t: t):
    """A `save_pretrained` folder of a Llama model as a GGUF file.

    Args:
        folder: the model.
        file: what is written.
        special: key -> token id, where it is to say something else than the tokenizer.
        architecture: what it says it is.
        change: name and tensor -> tensor, to damage one.
    """
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config, state = model.config, {k: v.float().numpy() for k, v in model.state_dict().items()}
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    body = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    added = {t["id"] for t in body["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([t for t, _ in vocabulary])
    writer.add_token_types([3 if i in added else 1 for _, i in vocabulary])
    merges = body["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    ids = {"eos": tokenizer.eos_token_id, "bos": tokenizer.bos_token_id, "padding": tokenizer.pad_token_id}
    for name, at in (ids | (special or {})).items():
        if at is not None:
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", at)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if not config.tie_word_embeddings:
        names["lm_head.weight"] = "output.weight"
    for layer in range(config.num_hidden_layers):
        names |= {f"model.layers.{layer}.{k}.weight": f"blk.{layer}.{v}.weight" for k, v in LAYER.items()}
    for name, short in names.items():
        tensor = state[name]
        if "q_proj" in name:
            tensor = paired(tensor, config.num_attention_heads)
        if "k_proj" in name:
            tensor = paired(tensor, config.num_key_value_heads)
        writer.add_tensor(short, change(short, tensor).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
