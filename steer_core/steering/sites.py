"""Where a model can be read and steered: its decoder layers, and in each the modules whose outputs enter the stream.

A site is a module and its output. `residual` is the stream after the layer. `attention` and `mlp` are what the sublayer
writes into the stream: where a family normalises the write (Gemma 2 and 3, OLMo 2 and 3), the output of that
post-norm. They are known of families whose every layer has one of each; of others (state space models, and those whose
modules add the stream to what they write) only `residual` is.

Where a family multiplies the write before adding it (Granite's `residual_multiplier`), the module's output is not yet
what enters the stream. Activations, vectors and operators of a site are always meant in the stream: `Place.read` gives
the output times the multiplier, and what is changed is divided by it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.vector_part import Site
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Where the list of decoder layers stands, in a causal model or in its headless trunk.
_LAYER_PATHS = (
    "model.layers",
    "model.language_model.layers",
    "model.decoder.layers",
    "transformer.h",
    "transformer.blocks",
    "gpt_neox.layers",
    "backbone.layers",
    "biogpt.layers",
    "language_model.layers",
    "decoder.layers",
    "layers",
    "h",
    "blocks",
)


#: Config fields that say how many streams a model keeps beside each other (Gemma 3n, hyper-connections).
_STREAMS = ("altup_num_inputs", "hc_mult")


@dataclass(frozen=True)
class Family:
    """Names of the modules, inside a decoder layer, whose outputs are the sublayers' writes.

    Attributes:
        attention, mlp: module names.
        multiplier: attribute of the layer that the write is multiplied by before it enters the stream; empty: none.
    """

    attention: str
    mlp: str
    multiplier: str = ""


_PLAIN = Family("self_attn", "mlp")
_NORMED = Family("post_attention_layernorm", "post_feedforward_layernorm")

#: Families whose sublayers write into the stream themselves.
_PLAIN_FAMILIES = (
    *("apertus", "arcee", "cohere", "cohere2", "deepseek_v2", "deepseek_v3"),
    *("ernie4_5", "ernie4_5_moe", "gemma", "glm", "glm4_moe", "gpt_oss", "helium", "hunyuan_v1_dense", "llama"),
    *("ministral", "mistral", "mixtral", "nemotron", "olmo", "olmoe", "persimmon", "phi"),
    *("phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2"),
)

#: `config.model_type` -> how its layers are built. A new family is one entry here and one in the matrix test.
FAMILIES = {
    **dict.fromkeys(_PLAIN_FAMILIES, _PLAIN),
    **dict.fromkeys(("exaone4", "gemma2", "gemma3_text", "olmo2", "olmo3"), _NORMED),
    "glm4": Family("post_self_attn_layernorm", "post_mlp_layernorm"),
    "granite": Family("self_attn", "mlp", "residual_multiplier"),
    "granitemoe": Family("self_attn", "block_sparse_moe", "residual_multiplier"),
    **dict.fromkeys(("codegen", "gpt2", "gpt_bigcode", "gpt_neo", "gptj"), Family("attn", "mlp")),
    "gpt_neox": Family("attention", "mlp"),
    "falcon": Family("self_attention", "mlp"),
}


@dataclass(frozen=True)
class Place:
    """A module whose output is a site of a layer.

    Attributes:
        layer: 0-based decoder layer.
        site: which of its sites.
        module: its output, or the first element of it, has shape [rows, tokens, width].
        scale: what the output is multiplied by before it enters the stream; 1 for nearly all families.
    """

    layer: int
    site: Site
    module: nn.Module
    scale: float = 1.0

    def hidden(self, output: Any) -> Tensor:
        """The module's output, or the first element of it, shape [rows, tokens, width].

        Raises:
            SteerworksError: it has another shape, as where an architecture keeps several streams beside each other.
        """
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        if hidden.ndim != 3:
            raise SteerworksError(
                f"layer {self.layer}, site {self.site!r} ({type(self.module).__name__}) gives activations of shape "
                f"{list(hidden.shape)} and not [rows, tokens, width]: this architecture keeps no single stream, and "
                "can be neither read nor steered there"
            )
        return hidden

    def read(self, output: Any) -> Tensor:
        """The activation of the site, in units of the stream, from the module's output.

        Falcon adds attention's write to the MLP's in place: whoever keeps what is read must copy it.

        Raises:
            SteerworksError: see `hidden`.
        """
        hidden = self.hidden(output)
        return hidden if self.scale == 1.0 else hidden * self.scale


@dataclass(frozen=True)
class Sites:
    """The places of one model.

    Attributes:
        family: its `model_type`.
        layers: its decoder layers, in order.
        width: hidden size.
    """

    family: str
    layers: tuple[nn.Module, ...]
    width: int

    def place(self, layer: int, site: Site) -> Place:
        """The place of a layer and site.

        Raises:
            SteerworksError: the model has no such layer, or its family's sublayers are not known.
        """
        if not 0 <= layer < len(self.layers):
            raise SteerworksError(
                f"layer {layer} is out of range: this {self.family} model has layers 0 to {len(self.layers) - 1}"
            )
        block = self.layers[layer]
        if site == "residual":
            return Place(layer, site, block)
        family = FAMILIES.get(self.family)
        module = getattr(block, getattr(family, site), None) if family else None
        if family is None or module is None:
            raise SteerworksError(
                f"site {site!r} is not known for models of type {self.family!r} ({type(block).__name__}): use site "
                f"'residual', or a family whose sublayers are known ({', '.join(sorted(FAMILIES))})"
            )
        return Place(layer, site, module, float(getattr(block, family.multiplier)) if family.multiplier else 1.0)


def find_sites(model: Any) -> Sites:
    """The places of a causal language model, of its headless trunk, or of one that PEFT has wrapped.

    Raises:
        SteerworksError: its decoder layers cannot be found, or it keeps several streams.
    """
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()  # PEFT's wrapper around the very same layers
    config = model.config.get_text_config()
    for field in _STREAMS:
        if (getattr(config, field, None) or 1) > 1:
            raise SteerworksError(
                f"{type(model).__name__} (type {config.model_type!r}) keeps {getattr(config, field)} streams beside "
                f"each other ({field}), and a vector is meant in one: this architecture cannot be steered"
            )
    for path in _LAYER_PATHS:
        layers = model
        for name in path.split("."):
            layers = getattr(layers, name, None)
        if layers is not None and len(layers) == config.num_hidden_layers:
            return Sites(config.model_type, tuple(layers), config.hidden_size)
    raise SteerworksError(
        f"the decoder layers of {type(model).__name__} (type {config.model_type!r}) cannot be found at any of "
        f"{', '.join(_LAYER_PATHS)}: this architecture cannot be steered"
    )
