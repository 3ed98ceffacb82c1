"""What steering inside vLLM can carry out: the one place that says so. What is not named here is refused by name."""

from __future__ import annotations

#: Operators of `steer_core.steering.operators`; all act on each token by itself, so a flat batch is as good as rows.
OPERATORS = ("ablate", "add", "add_norm_preserving", "affine", "gated_transport", "low_rank", "rotate", "transport")
#: Forms of position selectors, by their first word.
POSITIONS = ("all", "prompt", "completion", "last_prompt", "index", "span")
#: Places of a layer; which of them, a family says.
SITES = ("residual", "attention", "mlp")
#: Families (`model_type`) whose answers were compared with the hooks of transformers, and the modules inside a decoder
#: layer, by site, whose outputs are what the sublayers write into the stream. Others are refused: some hand on the
#: stream in other ways, and would be steered wrongly.
FAMILIES: dict[str, dict[str, str]] = {
    "llama": {"attention": "self_attn", "mlp": "mlp"},
    "mistral": {"attention": "self_attn", "mlp": "mlp"},
    "qwen2": {"attention": "self_attn", "mlp": "mlp"},
    "qwen3": {"attention": "self_attn", "mlp": "mlp"},
    "phi3": {"attention": "self_attn", "mlp": "mlp"},
    "granite": {},
    "gpt2": {"attention": "attn", "mlp": "mlp"},
    "gpt_neox": {"attention": "attention", "mlp": "mlp"},
}
#: Whether an intervention may wait for a condition on the prompt: chunks of a prompt are read in different passes.
GATES = False
#: Ways of running an engine that the worker refuses to start with, for nobody has measured them.
REFUSED = (
    "tensor parallelism",
    "pipeline parallelism",
    "speculative decoding",
    "CUDA graphs (use --enforce-eager)",
    "vLLM's transformers backend",
)


def sites_of(model_type: str) -> tuple[str, ...]:
    """What may be steered in a layer of a family of models; nothing where the family is not known."""
    return ("residual", *FAMILIES[model_type]) if model_type in FAMILIES else ()
