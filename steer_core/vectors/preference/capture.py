"""One pass over all pairs makes the trunks of all layers wanted.

1. It keeps the residual stream after each layer (float32; in a temporary file above a size) and the log-probabilities
   without an edit, so there is one copy of the model and one pass.
2. Whether a model allows cutting there is measured, not assumed: on the longest pairs, an edited pass from kept states
   must give what a plain pass with a hook gives. Shared prompts, then separate rows, then whole passes with a hook are
   tried in this order, and the log names the model and why where one is given up.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch  # noqa: TID253
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253

from steer_core.models.loading import LoadedModel
from steer_core.steering.sites import find_sites
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.preference.layout import PAYS, Layout, collate, prompt_saving, rows_of
from steer_core.vectors.preference.pair_tokens import EncodedPair
from steer_core.vectors.preference.passes import Edit, frozen, packed_logits, plain_logits, reading, sums
from steer_core.vectors.preference.trunk import Route, Trunk

log = logging.getLogger(__name__)

#: Largest difference in a token's log-probability, in nats, that counts as rounding.
TOLERANCE = {torch.float64: 3e-4, torch.float32: 3e-4, torch.bfloat16: 0.15, torch.float16: 0.05}
#: Bytes of states kept in memory, for each layer; beyond them they go to a temporary file.
MEMORY_LIMIT = 2 << 30
#: Tokens of one batch of the pass.
CAPTURE_TOKENS = 2048


def capture(
    loaded: LoadedModel,
    pairs: Sequence[EncodedPair],
    layers: Sequence[int],
    *,
    share_prompts: bool = True,
    memory_limit: int = MEMORY_LIMIT,
    batch_tokens: int = CAPTURE_TOKENS,
) -> dict[int, Trunk]:
    """One forward pass over all pairs: states after each layer and reference log-probabilities.

    Args:
        loaded: the model.
        pairs: what is run.
        layers: 0-based layers to keep the stream after.
        share_prompts: compute the prompt of the two answers once, where that saves a tenth of the tokens.
        memory_limit: bytes of states kept in memory, for each layer; beyond it they go to a temporary file.
        batch_tokens: tokens of one batch.

    Returns:
        Layer -> trunk. All share one pass.

    Raises:
        SteerworksError: a layer that the model does not have, or an activation that is not finite.
    """
    model = loaded.model
    count = len(find_sites(model).layers)
    for layer in layers:
        if not 0 <= layer < count:
            raise SteerworksError(f"model {loaded.spec.name!r} has layers 0 to {count - 1}; there is no layer {layer}")
    wanted = dict.fromkeys(layers)
    trunks: dict[int, Trunk] = {}
    routes: tuple[Route, ...] = (
        ("shared", "separate") if share_prompts and prompt_saving(pairs) >= PAYS else ("separate",)
    )
    with frozen(model), torch.no_grad():
        for route in routes:
            left = [layer for layer in wanted if layer not in trunks]
            good = _working(loaded, pairs, left, route) if left else []
            if good:
                trunks |= _capture(model, pairs, good, route, memory_limit, batch_tokens)
        left = [layer for layer in wanted if layer not in trunks]
        if left:
            log.warning(
                "model %r (%s): layers above %s cannot be run alone; every step runs full forward passes with a hook",
                loaded.spec.name,
                type(model).__name__,
                left,
            )
            trunks |= _capture(model, pairs, left, "full", memory_limit, batch_tokens)
    return trunks


def _working(loaded: LoadedModel, pairs: Sequence[EncodedPair], layers: Sequence[int], route: Route) -> list[int]:
    """The layers at which a route gives what plain passes with a hook give, on the longest pairs."""
    # the longest show a sliding window, if anything does
    tried = sorted(pairs, key=lambda p: len(p.prompt) + max(len(p.chosen), len(p.rejected)))[-2:]
    failed = {layer: _failure(loaded.model, tried, layer, route) for layer in layers}
    for why in sorted({why for why in failed.values() if why}):
        log.info(
            "model %r (%s), layers %s: no %s rows: %s",
            loaded.spec.name,
            type(loaded.model).__name__,
            [layer for layer, reason in failed.items() if reason == why],
            route,
            why,
        )
    return [layer for layer, why in failed.items() if not why]


def _failure(model: Any, pairs: Sequence[EncodedPair], layer: int, route: Route) -> str:
    """Why a route does not give what plain passes with a hook give; empty where it does."""
    plain = _capture(model, pairs, [layer], "full", MEMORY_LIMIT, CAPTURE_TOKENS)[layer]
    drawn = torch.from_numpy(np.random.default_rng(layer).standard_normal(plain.width, dtype=np.float32))
    step = (drawn * (0.2 * plain.residual_norm / drawn.norm())).to(plain.reference.device)
    edits: list[Edit] = [lambda hidden: hidden + step, lambda hidden: hidden - step]
    everything = range(len(pairs))
    try:
        fast = _capture(model, pairs, [layer], route, MEMORY_LIMIT, CAPTURE_TOKENS)[layer]
        with fast.running():
            found = fast.log_probs(everything, edits)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    difference = ((found - plain.log_probs(everything, edits)).abs() / plain.answer_tokens).max().item()
    if difference <= TOLERANCE[model.dtype]:
        return ""
    return f"log-probabilities differ from those of plain passes by up to {difference:.2g} nats a token"


def _capture(
    model: Any, pairs: Sequence[EncodedPair], layers: Sequence[int], route: Route, memory_limit: int, batch_tokens: int
) -> dict[int, Trunk]:
    layout: Layout = "separate" if route == "full" else route
    rows = [rows_of(pair, layout) for pair in pairs]
    tokens = np.array([sum(len(r.ids) for r in pair) for pair in rows])
    starts = np.concatenate([[0], np.cumsum(tokens)])
    width, device = find_sites(model).width, str(model.device)
    kept = {layer: _Store(int(starts[-1]), width, device, memory_limit, route != "full") for layer in layers}
    reference = torch.zeros(len(pairs), 2, device=device)
    norms = dict.fromkeys(layers, 0.0)
    n_reads = 0
    for some in _batches(tokens, batch_tokens):
        batch = collate([rows[i] for i in some], layout, 1, model.dtype, device)
        with reading(model, layers) as seen:
            logits = plain_logits(model, batch) if route == "full" else packed_logits(model, batch)
        reference[some] = sums(logits, batch, 1)[0]
        n_reads += len(batch.reads)
        for layer in layers:
            output = seen[layer]
            hidden = (output[0] if isinstance(output, tuple) else output).float()  # [rows, tokens, width]
            norms[layer] += hidden.reshape(-1, width)[batch.reads].norm(dim=-1).sum().item()
            if not np.isfinite(norms[layer]):
                raise SteerworksError(
                    f"the residual stream after layer {layer} overflows at {model.dtype}: load the model in float32"
                )
            row = 0
            for i in some:
                at = int(starts[i])
                for r in rows[i]:
                    kept[layer].put(at, hidden[row, : len(r.ids)])
                    at, row = at + len(r.ids), row + 1
    lengths = torch.tensor([[len(p.chosen), len(p.rejected)] for p in pairs], device=device)
    return {
        layer: Trunk(
            model=model,
            layer=layer,
            route=route,
            pairs=pairs,
            width=width,
            rows=rows,
            states=kept[layer].states,
            starts=starts,
            reference=reference,
            answer_tokens=lengths,
            residual_norm=norms[layer] / n_reads,
            arity=len(seen[layer]) if isinstance(seen[layer], tuple) else 0,
            _file=kept[layer].file,
        )
        for layer in layers
    }


class _Store:
    """States of all tokens: a tensor on the model's device, or a temporary file that goes when it is let go of."""

    def __init__(self, tokens: int, width: int, device: str, limit: int, keep: bool) -> None:
        self.states: Tensor | None = None
        self.file: Any = None
        if not keep:
            return
        if tokens * width * 4 <= limit:
            self.states = torch.empty(tokens, width, device=device)
        else:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the states
            self.states = torch.from_numpy(np.memmap(self.file, np.float32, "w+", shape=(tokens, width)))

    def put(self, at: int, rows: Tensor) -> None:
        if self.states is not None:
            self.states[at : at + len(rows)] = rows.to(self.states.device)


def _batches(tokens: NDArray[np.int64], budget: int) -> list[list[int]]:
    """Pairs sorted by length, in batches of about so many tokens."""
    batches: list[list[int]] = [[]]
    for i in np.argsort(tokens, kind="stable"):
        if batches[-1] and (len(batches[-1]) + 1) * tokens[i] > budget:
            batches.append([])
        batches[-1].append(int(i))
    return batches
