"""Which rows of a model may share a pass: measured once, on a short text, and not assumed of its architecture.

A row is padded on the left where it shares a pass with longer ones. Attention masks its padding; recurrent layers have
to let it pass without a trace, and some do not. Some cannot even tell rows of equal length apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from steer_core.models.loading import LoadedModel
from steer_core.models.quantization import is_quantized, mixes_rows
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

#: What is read, as far as `MOST` tokens; half of it is the short row.
TEXT = "One, two, three, four, five, six, seven, eight, nine and ten."
MOST = 20
#: Tokens that are written: the first comes from the prompt's pass, the others from a cache.
STEPS = 3
#: Largest mean difference of logits, in standard deviations of the logits, that counts as rounding.
TOLERANCE = {"torch.float64": 1e-3, "torch.float32": 1e-3, "torch.bfloat16": 0.15, "torch.float16": 0.05}


class Sharing(Enum):
    """Which rows answer beside each other as they do alone."""

    ANY = ""
    EQUAL = "keep a trace of padding: rows share passes with rows of their own length"
    NONE = "mix the rows of a pass: each row runs alone"


#: What was measured, for as long as the model lives.
_MEASURED: WeakKeyDictionary[Any, Sharing] = WeakKeyDictionary()


def sharing_of(loaded: LoadedModel) -> Sharing:
    """Which rows of the model may share a pass.

    Raises:
        SteerworksError: it says something else of a text that it reads at once than of one that it reads by and by:
            its answers and its scores would be those of two models.
    """
    if loaded.model not in _MEASURED:
        _MEASURED[loaded.model] = _measure(loaded)
    return _MEASURED[loaded.model]


def _measure(loaded: LoadedModel) -> Sharing:
    import torch

    ids = list(loaded.tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    ids = ids[: min(MOST, (loaded.info.max_context or MOST + STEPS) - STEPS)]
    short, tail = ids[: len(ids) // 2], ids[:STEPS]
    if not short:
        return Sharing.ANY  # no room for a text
    alone = _written(loaded, [short], tail)
    with torch.inference_mode():
        whole = torch.tensor([[*short, *tail[:-1]]], device=loaded.device)
        options = {"attention_mask": torch.ones_like(whole), "use_cache": False}
        at_once = loaded.model(input_ids=whole, **options).logits[0, len(short) - 1 :]
    # packed weights are multiplied in coarser numbers than those that come out
    tolerance = TOLERANCE["torch.bfloat16"] if is_quantized(loaded.model) else TOLERANCE.get(str(at_once.dtype), 0.15)
    if _differ(at_once, alone, tolerance):
        raise SteerworksError(
            f"model {loaded.spec.name!r} (type {loaded.model.config.model_type!r}) says something else of a text that "
            "it reads at once than of one that it reads token by token, so its scores would not be those of its "
            "answers: it cannot be run by this version of transformers as it is loaded here"
        )
    if mixes_rows(loaded.model):
        return Sharing.NONE
    if not _differ(_written(loaded, [short, ids], tail), alone, tolerance):
        return Sharing.ANY
    # another row of equal length: the text backwards
    beside = _written(loaded, [short, ids[::-1][: len(short)]], tail)
    return Sharing.NONE if _differ(beside, alone, tolerance) else Sharing.EQUAL


def _written(loaded: LoadedModel, rows: Sequence[Sequence[int]], tail: Sequence[int]) -> Tensor:
    """Logits [steps, vocabulary] of the first row of a batch that writes given tokens."""
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    from steer_core.generation.prompt_tokens import pad_left

    model, pad = loaded.model, loaded.tokenizer.pad_token_id
    ids, mask = pad_left([list(row) for row in rows], pad, loaded.device)

    def force(written: Tensor, scores: Tensor) -> Tensor:
        chosen = torch.full_like(scores, -torch.inf)
        chosen[:, tail[written.shape[1] - ids.shape[1]]] = 0.0
        return chosen

    config = GenerationConfig(
        max_new_tokens=len(tail),
        do_sample=False,
        pad_token_id=pad,
        bos_token_id=loaded.tokenizer.bos_token_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    # a model's own defaults would act on what is written
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids, attention_mask=mask, generation_config=config,
                logits_processor=LogitsProcessorList([force]),
            )  # fmt: skip
    finally:
        model.generation_config = own
    return torch.stack([logits[0] for logits in out.logits])


def _differ(found: Tensor, want: Tensor, tolerance: float) -> bool:
    """Whether two rows say something else; no where they are no numbers, which is found out and told elsewhere."""
    found, want = found.float(), want.float()
    return bool((found - want).square().mean().sqrt() > tolerance * want.std())
