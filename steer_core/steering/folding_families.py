"""Families whose weights can take a fold, and why the others cannot.

A new family is one entry here and one in the matrix test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.vector_part import Site
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]

#: Fields that a Llama config shares with the configs that it can stand for.
_SHARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "attention_dropout",
)


def _as_it_is(state: State, config: Any) -> State:
    return state


@dataclass(frozen=True)
class Family:
    """How a family's sublayers write into the stream, and where their biases come from.

    Attributes:
        layers: name of the list of decoder layers in the state dict.
        attention, mlp: the projection of each sublayer that writes, inside a layer.
        with_bias: the config under which the projections of the given sites have a bias; raises where there is none.
        carry: the state dict under the names of that config's architecture.
        shared: projection of the shared expert, in layers of experts; empty: the family has none.
        experts: biases of all experts [experts, width] where the weights of a token's experts sum to 1: a constant in
            each is one in the stream; empty: the family has none.
        transposed: the projections' weights are [in, out].
        multiplier: config field that a write is multiplied by before it enters the stream; empty: none.
    """

    layers: str
    attention: str
    mlp: str
    with_bias: Callable[[Any, frozenset[Site]], Any]
    carry: Callable[[State, Any], State] = _as_it_is
    shared: str = ""
    experts: str = ""
    transposed: bool = False
    multiplier: str = ""


def find_family(config: Any) -> Family:
    """How a model is folded.

    Raises:
        SteerworksError: it cannot be; names the family and the reason.
    """
    kind = config.model_type
    if getattr(config, "quantization_config", None) is not None:
        raise SteerworksError(f"this {kind} model is quantised; fold into the unquantised weights, then quantise")
    if kind in FAMILIES:
        return FAMILIES[kind]
    reason = REFUSED.get(kind, "where its sublayers write is not known here")
    raise SteerworksError(
        f"a {kind} model cannot be folded: {reason}. Steer it with hooks; families that can: "
        f"{', '.join(sorted(FAMILIES))}"
    )


def _switched(**switches: str) -> Callable[[Any, frozenset[Site]], Any]:
    """`with_bias` of a family by the config's switch for each site; an empty one: there always is a bias."""

    def with_bias(config: Any, sites: frozenset[Site]) -> Any:
        for site in sites:
            if site not in switches:
                raise SteerworksError(
                    f"a {config.model_type} model cannot be folded at its {site}: the projection that writes has no "
                    "bias, no setting gives it one, and no other architecture carries its weights. Steer it with hooks"
                )
            if switches[site]:
                setattr(config, switches[site], True)
        return config

    return with_bias


def _as_llama(config: Any, sites: frozenset[Site]) -> Any:
    """A Llama config with the biases of the given sites, for weights of the same shapes and arithmetic."""
    from transformers import LlamaConfig

    _check_llama(config)
    rope = {k: v for k, v in (config.rope_parameters or {}).items() if k != "partial_rotary_factor"}
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return LlamaConfig(
        **{name: getattr(config, name) for name in _SHARED},
        rope_parameters=rope,
        head_dim=head,
        # Qwen2's queries, keys and values have biases; Llama's one switch adds that of the output, as zeros
        attention_bias="attention" in sites or config.model_type == "qwen2",
        mlp_bias="mlp" in sites,
        dtype=config.dtype,
    )


def _check_llama(config: Any) -> None:
    kind = config.model_type
    window = getattr(config, "sliding_window", None)
    if window is not None and window < config.max_position_embeddings:
        raise SteerworksError(
            f"this {kind} model attends over a window of {window} of its {config.max_position_embeddings} positions, "
            "which the carrying architecture (Llama) does not have; steer it with hooks"
        )
    rope = config.rope_parameters or {}
    if rope.get("partial_rotary_factor", 1.0) != 1.0 or (kind == "phi3" and rope.get("rope_type") != "default"):
        raise SteerworksError(
            f"this {kind} model has rotary embeddings ({rope}) that the carrying architecture (Llama) computes "
            "differently; steer it with hooks"
        )


def _phi3_as_llama(state: State, config: Any) -> State:
    """Phi-3's fused projections, cut into Llama's."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    q, kv = head * config.num_attention_heads, head * config.num_key_value_heads
    cut: State = {}
    for name, tensor in state.items():
        if ".qkv_proj." in name:
            parts = dict(zip(("q_proj", "k_proj", "v_proj"), tensor.split([q, kv, kv]), strict=True))
            cut |= {name.replace("qkv_proj", p): t.contiguous() for p, t in parts.items()}
        elif ".gate_up_proj." in name:
            gate, up = tensor.chunk(2)
            cut[name.replace("gate_up_proj", "gate_proj")] = gate.contiguous()
            cut[name.replace("gate_up_proj", "up_proj")] = up.contiguous()
        else:
            cut[name] = tensor
    return cut


def _pre_norm(config: Any, sites: frozenset[Site]) -> Any:
    """OPT's config with its biases, where nothing normalises the stream behind the MLP."""
    if not config.do_layer_norm_before:
        raise SteerworksError(
            f"this {config.model_type} model cannot be folded: it normalises the stream behind each sublayer, so that "
            "no bias is a constant in it. Steer it with hooks"
        )
    return _switched(attention="enable_bias", mlp="enable_bias")(config, sites)


def _plain(with_bias: Callable[[Any, frozenset[Site]], Any], **more: Any) -> Family:
    return Family("model.layers", "self_attn.o_proj", "mlp.down_proj", with_bias, **more)


_OWN = _switched(attention="", mlp="")
_SWITCHES = _switched(attention="attention_bias", mlp="mlp_bias")
_ATTENTION = _switched(attention="attention_bias")
_USE_BIAS = _switched(attention="use_bias", mlp="use_bias")

#: `config.model_type` -> how it is folded.
FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("arcee", "llama", "nemotron", "smollm3"), _plain(_SWITCHES)),
    **dict.fromkeys(("apertus", "cohere", "cohere2", "gemma", "hunyuan_v1_dense", "olmo", "qwen3"), _plain(_ATTENTION)),
    "granite": _plain(_SWITCHES, multiplier="residual_multiplier"),
    "seed_oss": _plain(_switched(attention="attention_out_bias", mlp="mlp_bias")),
    "ernie4_5": _plain(_USE_BIAS),
    "helium": _plain(_switched(mlp="mlp_bias")),
    "mistral": _plain(_as_llama),
    "qwen2": _plain(_as_llama),
    "phi3": _plain(_as_llama, carry=_phi3_as_llama),
    "deepseek_v2": _plain(_SWITCHES, shared="mlp.shared_experts.down_proj"),
    "gpt_oss": _plain(_switched(attention="attention_bias", mlp=""), experts="mlp.experts.down_proj_bias"),
    "starcoder2": Family("model.layers", "self_attn.o_proj", "mlp.c_proj", _USE_BIAS),
    "phi": Family("model.layers", "self_attn.dense", "mlp.fc2", _OWN),
    "persimmon": Family("model.layers", "self_attn.dense", "mlp.dense_4h_to_h", _OWN),
    "opt": Family("model.decoder.layers", "self_attn.out_proj", "fc2", _pre_norm),
    "gpt2": Family("transformer.h", "attn.c_proj", "mlp.c_proj", _OWN, transposed=True),
    "gpt_bigcode": Family("transformer.h", "attn.c_proj", "mlp.c_proj", _OWN),
    "gpt_neo": Family("transformer.h", "attn.attention.out_proj", "mlp.c_proj", _OWN),
    **dict.fromkeys(("codegen", "gptj"), Family("transformer.h", "attn.out_proj", "mlp.fc_out", _switched(mlp=""))),
    "gpt_neox": Family(
        "gpt_neox.layers", "attention.dense", "mlp.dense_4h_to_h", _switched(attention="attention_bias", mlp="")
    ),
    "bloom": Family("transformer.h", "self_attention.dense", "mlp.dense_4h_to_h", _OWN),
    "falcon": Family(
        "transformer.h", "self_attention.dense", "mlp.dense_4h_to_h", _switched(attention="bias", mlp="bias")
    ),
}

_POST_NORM = "it normalises what its sublayers write, so that no bias of theirs is a constant in the stream"
_EXPERTS = "its experts have no bias, and what they write depends on the token's route"

_NO_BIAS = "what its MLP writes has no bias, no setting gives it one, and no other architecture carries its weights"
_STATE = "its layers differ in kind, and where those with a state write has no bias"

#: `config.model_type` -> why it cannot be folded.
REFUSED = {
    **dict.fromkeys(("exaone4", "gemma2", "gemma3_text", "gemma3", "glm4", "olmo2", "olmo3"), _POST_NORM),
    **dict.fromkeys(("deepseek_v3", "ernie4_5_moe", "glm4_moe", "granitemoe", "mixtral", "olmoe"), _EXPERTS),
    **dict.fromkeys(("phimoe", "qwen2_moe", "qwen3_moe"), _EXPERTS),
    **dict.fromkeys(("glm", "ministral", "mpt", "stablelm"), _NO_BIAS),
    **dict.fromkeys(("bamba", "falcon_h1", "granitemoehybrid", "jamba", "lfm2", "minimax", "nemotron_h"), _STATE),
    **dict.fromkeys(("mamba", "qwen3_next", "recurrent_gemma", "zamba2"), _STATE),
}
