"""One forward pass over a batch of rows: what is read on the way, and as little as possible besides.

1. The pass ends once every point has been read: later layers, the final norm and the head are never run.
2. In the last layer, modules that act on each token by itself act only on the tokens that are read.
3. Spans are averaged on the device; what leaves it is one vector an example and point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.models.loading import LoadedModel
from steer_core.steering.sites import FAMILIES, Place, find_sites
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.evidence import Point
from steer_core.vectors.packing import Row

Floats = NDArray[np.float32]
#: Row of the batch, place of the example, and the runs (start, stop) of the row that are read.
_Reading = tuple[int, int, tuple[tuple[int, int], ...]]

#: Modules of a decoder layer that act on each token by itself, where a family has them under these names.
TOKENWISE = ("mlp", "self_attn.q_proj", "self_attn.o_proj")
#: Tokens that may be read, as a share of all, for it to be worth picking them out.
FEW = 0.5


@dataclass(frozen=True)
class Activations:
    """What one batch gave.

    Attributes:
        indices: places of the examples in the list that was encoded, shape [n].
        rows: point -> activations, shape [n, width].
        logits: scores of the wanted tokens after what was read, shape [n, k]; None unless asked for.
    """

    indices: NDArray[np.int64]
    rows: Mapping[Point, Floats]
    logits: Floats | None = None


class _ReadError(Exception):
    """Ends a forward pass of which everything has been read."""


def run_batch(
    loaded: LoadedModel, batch: Sequence[Row], places: Mapping[Point, Place], wanted: NDArray[np.int64] | None = None
) -> Activations:
    """Activations that the rows of a batch read.

    Args:
        loaded: the model.
        batch: rows, all packed or all plain.
        places: where each point is read.
        wanted: ids of tokens whose logits are wanted too, shape [examples, k]; the pass then runs to the head, which
            sees the read positions alone. Each example reads one token.

    Raises:
        SteerworksError: a point was never reached, or an activation is not finite.
    """
    import torch

    model, device = loaded.model, loaded.device
    width = max(len(row.ids) for row in batch)
    reads = [(r, place, runs) for r, row in enumerate(batch) for place, runs in row.reads]
    indices = np.array([place for _, place, _ in reads])
    reduce, flat = _reducer(reads, len(batch), width, device)
    kept: dict[Point, Any] = {}
    logits = None

    def read(point: Point, place: Place) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            kept[point] = reduce(place.read(output))
            if len(kept) == len(places) and wanted is None:
                raise _ReadError

        return hook

    with torch.inference_mode(), ExitStack() as stack:
        for point, place in places.items():
            stack.callback(place.module.register_forward_hook(read(point, place)).remove)
        if wanted is not None:
            stack.callback(_head_on(model, flat).remove)
        else:
            stack.enter_context(_only_read(model, max(p.layer for p in places), reads, width, device))
        try:
            output = model(**_inputs(batch, width, model.dtype, device), use_cache=False)
            if wanted is not None:
                asked = torch.from_numpy(wanted[indices]).to(device)
                logits = output.logits[0].float().gather(1, asked).cpu().numpy()
        except _ReadError:
            pass
    if len(kept) < len(places):
        missing = next(p for p in places if p not in kept)
        raise SteerworksError(f"model {loaded.spec.name!r}: layer {missing.layer} ({missing.site}) was never run")
    found = {point: rows.cpu().numpy() for point, rows in kept.items()}
    for point, rows in found.items():
        if not np.isfinite(rows).all():
            raise SteerworksError(
                f"activations of layer {point.layer} ({point.site}) are not finite at {model.dtype}: load model "
                f"{loaded.spec.name!r} in float32 or bfloat16"
            )
    return Activations(indices, found, logits)


def _inputs(batch: Sequence[Row], width: int, dtype: Any, device: str) -> dict[str, Any]:
    """Arguments of the model. Pads repeat their row's first token, so no model has to know a pad id."""
    import torch

    ids = np.stack([np.pad(r.ids, (0, width - len(r.ids)), constant_values=r.ids[0]) for r in batch]).astype(np.int64)
    inputs = {"input_ids": torch.from_numpy(ids).to(device)}
    if any(row.packed for row in batch):
        positions = np.stack([np.pad(r.positions, (0, width - len(r.ids))) for r in batch])
        parts = np.stack([np.pad(r.parts, (0, width - len(r.ids)), constant_values=-1) for r in batch])
        inputs["position_ids"] = torch.from_numpy(positions).to(device)
        inputs["attention_mask"] = _mask(torch.from_numpy(parts).to(device), dtype)
    return inputs


def _mask(parts: Any, dtype: Any) -> Any:
    """Additive mask [rows, 1, tokens, tokens]: causal, and from a tail only to the prefix and itself."""
    import torch

    width = parts.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=parts.device).tril()
    own = (parts[:, None, :] == 0) | (parts[:, None, :] == parts[:, :, None])
    mask = torch.zeros(parts.shape[0], width, width, dtype=dtype, device=parts.device)
    return mask.masked_fill_(~(causal & own), torch.finfo(dtype).min)[:, None]


def _reducer(reads: Sequence[_Reading], n_rows: int, width: int, device: str) -> tuple[Callable[[Any], Any], Any]:
    """What takes hidden [rows, tokens, d] to means [reads, d] in float32, and the flat index of each read."""
    import torch

    # of a span this is its first token: used only where every read is one token
    flat = torch.tensor([row * width + runs[0][0] for row, _, runs in reads], device=device)
    if all(len(runs) == 1 and runs[0][1] - runs[0][0] == 1 for _, _, runs in reads):
        return lambda hidden: hidden.reshape(n_rows * width, -1)[flat].float(), flat
    counts = np.zeros(n_rows, dtype=np.int64)
    slots = []
    for row, _, _ in reads:
        slots.append((row, int(counts[row])))
        counts[row] += 1
    weights = np.zeros((n_rows, int(counts.max()), width), dtype=np.float32)
    for slot, (_, _, runs) in zip(slots, reads, strict=True):
        for start, stop in runs:
            weights[slot][start:stop] = 1.0 / sum(b - a for a, b in runs)
    on_device = torch.from_numpy(weights).to(device)
    chosen = tuple(torch.tensor(axis, device=device) for axis in zip(*slots, strict=True))
    # a batched product and no scatter: sums on a GPU come out the same every time
    return lambda hidden: torch.bmm(on_device, hidden.float())[chosen], flat


@contextmanager
def _only_read(model: Any, layer: int, reads: Sequence[_Reading], width: int, device: str) -> Iterator[None]:
    """In the last layer, tokens that nobody reads need no more than their keys and values: the rest is left zero."""
    import torch

    sites = find_sites(model)
    wanted = sorted({row * width + t for row, _, runs in reads for start, stop in runs for t in range(start, stop)})
    rows = 1 + max(row for row, _, _ in reads)
    picked = torch.tensor(wanted, device=device)
    # of an unknown family nothing is known of what its modules mix
    few = len(wanted) <= FEW * rows * width and sites.family in FAMILIES
    block = sites.layers[layer]
    modules = [find(block) for find in map(attrgetter, TOKENWISE) if _has(block, find)] if few else []

    def narrow(forward: Callable[..., Any]) -> Callable[..., Any]:
        def on_read_tokens(hidden: Any, *args: Any, **kwargs: Any) -> Any:
            found = forward(hidden.reshape(-1, hidden.shape[-1])[picked][None], *args, **kwargs)
            some = found[0] if isinstance(found, tuple) else found  # [1, tokens read, d]
            whole = some.new_zeros(hidden.shape[0] * hidden.shape[1], some.shape[-1])
            whole[picked] = some[0]
            whole = whole.view(*hidden.shape[:2], -1)
            return (whole, *found[1:]) if isinstance(found, tuple) else whole

        return on_read_tokens

    before = [module.__dict__.get("forward") for module in modules]
    for module in modules:
        module.forward = narrow(module.forward)
    try:
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            if own is None:
                del module.forward
            else:
                module.forward = own


def _has(block: Any, find: attrgetter[Any]) -> bool:
    try:
        return find(block) is not None
    except AttributeError:
        return False


def _head_on(model: Any, flat: Any) -> Any:
    """Let the head see the read positions alone; what a family does to logits afterwards is kept."""
    head = model.get_output_embeddings()
    if head is None:
        raise SteerworksError(f"{type(model).__name__} names no output embeddings, so logits cannot be read")

    def pack(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any]:
        return (inputs[0].reshape(-1, inputs[0].shape[-1])[flat][None],)

    return head.register_forward_pre_hook(pack)
