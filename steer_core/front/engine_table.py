"""What each engine can do, as the table of the documentation, made from what the engines say of themselves."""

from __future__ import annotations

from collections.abc import Callable

from schemas.specs import ModelSpec
from steer_core.generation.backend import Capabilities
from steer_core.generation.engines import describe_engine

_ADDRESS = "http://127.0.0.1:8000/v1"


def examples() -> dict[str, ModelSpec]:
    """A model of each engine, for what it says of itself."""
    plain = {"name": "x", "source": "embedded", "device": "cpu"}
    far = {"name": "x", "source": "served:x", "engine": "openai", "endpoint": {"base_url": _ADDRESS}}
    return {
        "transformers": ModelSpec.model_validate(plain),
        "vllm": ModelSpec.model_validate({**plain, "engine": "vllm", "vllm": {"adapter_slots": 1}}),
        "openai": ModelSpec.model_validate(far),
    }


def engine_table() -> str:
    """The table, as Markdown."""
    found = {name: describe_engine(model) for name, model in examples().items()}
    rows: dict[str, Callable[[Capabilities], str]] = {
        "operators": lambda c: _list(c, "operators"),
        "positions": lambda c: _list(c, "positions"),
        "sites (of a Llama)": lambda c: _list(c, "sites"),
        "gates": lambda c: _yes(c.interventions is not None and c.interventions.gates),
        "LoRA adapters, row by row": lambda c: _yes(c.adapters),
        "decoding rules": lambda c: ", ".join(f"`{e}`" for e in c.extensions) or "no",
        "further prompts read along": lambda c: _yes(c.passes),
        "log-probabilities of given texts": _scores,
        "whether each token was the likeliest": lambda c: _yes(c.greedy_flags),
        "mean hidden states of texts": lambda c: _yes(c.embeds),
        "tells an answer while it is written": lambda c: _yes(c.streams),
        "KL from unsteered": lambda c: _yes(c.diverges),
        "a drawn answer follows from its seed": lambda c: "yes" if c.seeds else "no; it is kept" if c.keeps else "no",
    }
    lines = ["| | " + " | ".join(f"`{n}`" for n in found) + " |", "|---" * (len(found) + 1) + "|"]
    lines += [f"| {what} | " + " | ".join(said(c) for c in found.values()) + " |" for what, said in rows.items()]
    return "\n".join(lines)


def _scores(capabilities: Capabilities) -> str:
    if capabilities.scores:
        return "yes"
    # an endpoint that gives log-probabilities, and the tokenizer that they take
    endpoint = {"base_url": _ADDRESS, "dialect": "vllm", "tokenizer": "package:x", "scores": "prompt_logprobs"}
    far = {"name": "x", "source": "served:x", "engine": "openai", "endpoint": endpoint}
    able = describe_engine(ModelSpec.model_validate(far))
    same = able.name.split()[0] == capabilities.name.split()[0]
    return "where `scores` says how" if same and able.scores else "no"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _list(capabilities: Capabilities, what: str) -> str:
    held = capabilities.interventions
    return "none" if held is None else ", ".join(f"`{name}`" for name in getattr(held, what))
