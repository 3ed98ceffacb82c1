"""Forward passes that compute less than a whole one, with a family's own code.

The model's own forward always runs, so masks, rotary embeddings, layer types and what is done to logits stay the
model's. What is left out: the head where nothing is predicted, and the layers whose output is known already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from steer_core.steering.sites import find_sites
from steer_core.vectors.preference.layout import Batch

#: What is done to the residual stream after a layer, [rows, tokens, width] -> the same shape, in float32.
Edit = Callable[[Tensor], Tensor]


def sums(logits: Tensor, batch: Batch, repeats: int) -> Tensor:
    """Log-probabilities summed over each answer, [repeats, pairs, 2], of logits [reads, vocabulary]."""
    each = -torch.nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    sums = torch.zeros(repeats * 2 * batch.n_pairs, device=each.device).index_add(0, batch.slots, each)
    return sums.view(repeats, batch.n_pairs, 2)


def plain_logits(model: Any, batch: Batch) -> Tensor:
    """Logits where answers are predicted, [reads, vocabulary], of a pass with the head on every position."""
    logits: Tensor = model(**batch.inputs, use_cache=False).logits
    return logits.reshape(-1, logits.shape[-1])[batch.reads]


def packed_logits(model: Any, batch: Batch) -> Tensor:
    """The same with the head on those positions alone; what a family does to logits afterwards is kept."""

    def pack(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (inputs[0].reshape(-1, inputs[0].shape[-1])[batch.reads][None],)

    head = model.get_output_embeddings()
    if head is None:
        raise AttributeError("the model names no output embeddings")
    handle = head.register_forward_pre_hook(pack)
    try:
        logits: Tensor = model(**batch.inputs, use_cache=False).logits
    finally:
        handle.remove()
    if logits.shape[:2] != (1, len(batch.reads)):
        raise RuntimeError(f"the head gave logits of shape {tuple(logits.shape)} for {len(batch.reads)} positions")
    return logits[0]


def edited_forward(model: Any, layer: int, batch: Batch, edits: Sequence[Edit]) -> Tensor:
    """Logits of full passes in which each copy of the batch has its edit applied after the layer."""

    def edit_copies(_module: Any, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        copies = hidden.float().chunk(len(edits))
        edited = torch.cat([edit(c) for edit, c in zip(edits, copies, strict=True)]).to(hidden.dtype)
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    handle = find_sites(model).layers[layer].register_forward_hook(edit_copies)
    try:
        return plain_logits(model, batch)
    finally:
        handle.remove()


@contextmanager
def reading(model: Any, layers: Sequence[int]) -> Iterator[Mapping[int, Any]]:
    """What some layers return in the passes within; the last pass counts."""
    seen: dict[int, Any] = {}
    modules = find_sites(model).layers

    def read(layer: int) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            seen[layer] = output

        return hook

    handles = [modules[layer].register_forward_hook(read(layer)) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def bypassed(model: Any, layer: int, injected: list[Any]) -> Iterator[None]:
    """The layers up to `layer` hand on `injected[0]` instead of computing; the modules themselves stay in place."""
    modules = find_sites(model).layers[: layer + 1]
    before = [module.__dict__.get("forward") for module in modules]

    def hand_on(*_args: Any, **_kwargs: Any) -> Any:
        return injected[0]

    for module in modules:
        module.forward = hand_on
    try:
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            if own is None:
                del module.forward
            else:
                module.forward = own
        injected.clear()


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Eval mode and no gradients to weights; both as before afterwards."""
    training, wanted = model.training, [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)
        model.train(training)
