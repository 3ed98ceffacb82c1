"""A base model with an adapter's update in its weights: a plain checkpoint, held against the adapter as it is worn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.specs import ModelSpec
from steer_core.generation.adapters import Adapter, wardrobe_of
from steer_core.models.loading import LoadedModel, load_model
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

#: Largest difference of logits, root mean square in their standard deviations: what rounding the weights once may do.
LIMITS = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}


def write_merged(spec: ModelSpec, adapter: Adapter, folder: Path) -> float:
    """Write a checkpoint that answers without PEFT as the base does with the adapter, and look whether it does.

    Weights keep the number type that the model has in its cell. Where input and output embeddings are one matrix and
    the adapter sits on either, they are two in the checkpoint: the other one has no update.

    Args:
        spec: the base, which is loaded afresh.
        adapter: the adapter.
        folder: is there, and empty.

    Returns:
        Difference of the checkpoint's logits from those of the adapter as it is worn: root mean square, in their
        standard deviations.

    Raises:
        ConfigError: the base cannot be loaded.
        SteerworksError: the base is quantised, the adapter does not fit, a layer has no place for its bias, or the
            checkpoint does something else.
    """
    if spec.quantization:
        raise SteerworksError(
            f"model {spec.name!r} is quantised: its weights are packed, and what adapter {adapter.folder} adds to them "
            "would be rounded away. Export it as `peft`"
        )
    # nobody's device is taken for it
    loaded = load_model(spec.model_copy(update={"device": "cpu"}))
    wardrobe_of(loaded.model).add([adapter])
    tokens = _tokens(loaded)
    worn = _logits(loaded.model, tokens, adapter.digest)
    _untie(loaded.model, adapter)
    _merge(loaded.model, adapter)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    again = _reloaded(folder, loaded)
    if lost := _lost(loaded.model, again):
        raise SteerworksError(
            f"{lost} does not come back from the checkpoint with adapter {adapter.folder} in its weights: this variant "
            "of the architecture cannot be merged; export it as `peft`"
        )
    difference = float((_logits(again, tokens) - worn).square().mean().sqrt() / worn.std())
    limit = LIMITS[spec.dtype]
    if not difference <= limit:
        raise SteerworksError(
            f"the checkpoint with adapter {adapter.folder} in its weights differs from the adapter as it is worn by "
            f"{difference:.3g} standard deviations of the logits (at most {limit:g}): export it as `peft`"
        )
    return difference


def _tokens(loaded: LoadedModel) -> Tensor:
    """Tokens from all over the vocabulary, shape [1, 24]; 7919 is prime."""
    import torch

    vocabulary = loaded.model.config.get_text_config().vocab_size
    tokens: Tensor = (torch.arange(24) * 7919 % vocabulary).unsqueeze(0).to(loaded.device)
    return tokens


def _logits(model: Any, tokens: Tensor, worn: str | None = None) -> Any:
    """Logits, shape [1, tokens, vocabulary]."""
    import torch

    with torch.no_grad(), wardrobe_of(model).worn([worn]):
        return model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits.float()


def _reloaded(folder: Path, loaded: LoadedModel) -> Any:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=loaded.model.dtype, trust_remote_code=False)
    return model.to(loaded.device).eval()


def _lost(model: Any, again: Any) -> str | None:
    """Name of a weight that a checkpoint gives back otherwise than it was written; None where all are the same."""
    import torch

    read = again.state_dict()
    return next((n for n, w in model.state_dict().items() if n not in read or not torch.equal(w, read[n])), None)


def _untie(model: Any, adapter: Adapter) -> None:
    """Make two matrices of tied embeddings where the adapter sits on one of them: merging would change both."""
    import torch

    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    bases = [getattr(end, "base_layer", end) for end in ends]
    wrapped = any(adapter.digest in getattr(end, "scaling", {}) for end in ends)
    if wrapped and bases[1] is not None and bases[0].weight is bases[1].weight:
        bases[1].weight = torch.nn.Parameter(bases[1].weight.detach().clone(), requires_grad=False)
        for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
            config.tie_word_embeddings = False


def _merge(model: Any, adapter: Adapter) -> None:
    """Add the update to the weights, and take PEFT's layers off."""
    from peft.tuners.lora import LoraLayer

    for name, module in [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]:
        try:
            module.merge(safe_merge=True, adapter_names=[adapter.digest])
        except (RuntimeError, ValueError) as error:
            raise SteerworksError(f"adapter {adapter.folder} cannot be merged at {name}: {error}") from error
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.get_base_layer())
    # transformers would save the adapter beside the weights, or instead of them
    model.__dict__.pop("peft_config", None)
    model._hf_peft_config_loaded = False
