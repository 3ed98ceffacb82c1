"""A key-value cache whose rows come and go: it grows in blocks, and a row that ends makes room for another.

All rows end at the same column, so each pass appends one column for everybody, and a row's tokens stand together
behind its padding, as left padding has it. What a column means to a row is told by its mask and positions alone: keys
carry the position that they were made with, so a row may be copied to other columns.

The window [start, stop) that is handed to the model is a view: no pass copies what is cached. Columns are moved to the
front, or to larger tensors, only when the window meets their end, which happens once in many passes.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import torch  # noqa: TID253  (this module subclasses torch code; it is imported by the transformers backend only)
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253
from transformers.cache_utils import (  # noqa: TID253
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from steer_core.generation.regimes import rotary_kind

#: Columns that are added at least when the tensors grow.
BLOCK = 64


def why_not_refillable(model: Any, accepted: Set[str]) -> str | None:
    """Why rows of a model's cache cannot be exchanged, in words; None where they can.

    Args:
        model: a causal language model of transformers.
        accepted: names of the arguments of its forward pass.
    """
    config = model.config.get_text_config(decoder=True)
    name = f"models of type {config.model_type!r}"
    if lacking := [a for a in ("attention_mask", "position_ids", "past_key_values") if a not in accepted]:
        return f"{name} take no {', '.join(lacking)}"
    if model.config.is_encoder_decoder or model._is_stateful or not model._supports_default_dynamic_cache():
        return f"{name} keep a state that is no cache of keys and values"
    if getattr(config, "num_kv_shared_layers", None):
        return f"{name} share keys and values between layers"
    if (rotary := rotary_kind(config)) is not None:
        return f"{name} with {rotary[0]} positions turn a row by the longest one beside it"
    kinds = set(getattr(config, "layer_types", None) or [])
    layers = {type(layer) for layer in DynamicCache(config=config).layers}
    if "chunked_attention" in kinds or not layers <= {DynamicLayer, DynamicSlidingWindowLayer}:
        return f"{name} have layers that do not cache every token's keys and values by themselves"
    return None


class Columns:
    """Which part of the tensors is in use, shared by all layers.

    Attributes:
        rows: rows under way; they stand in the slots before it.
        start, stop: the window's first column, and the one that the next token is written to.
    """

    def __init__(self) -> None:
        self.rows = self.start = self.stop = 0


class Layer(CacheLayerMixin):
    """Keys and values of one layer.

    Attributes:
        columns: what of them is in use.
        pair: keys and values of shape [slots, heads, columns, width]; the two may differ in heads and width.
    """

    is_sliding = False

    def __init__(self, columns: Columns, pair: list[Tensor]) -> None:
        super().__init__()
        self.columns, self.pair = columns, pair
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: the tensors are there from the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one column; return the window, that column included."""
        at, (keys, values) = self.columns, self.pair
        column = (slice(0, at.rows), slice(None), slice(at.stop, at.stop + 1))
        keys[column], values[column] = key_states, value_states
        window = (slice(0, at.rows), slice(None), slice(at.start, at.stop + 1))
        return keys[window], values[window]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of the mask, and which the first one is."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Columns that are cached."""
        return self.columns.stop - self.columns.start

    def get_max_length(self) -> int:
        """No limit."""
        return -1


#: Rows [first, stop) that take `count` columns from column `column` of a row: (first, stop, row, column, count).
Copy = tuple[int, int, int, int, int]


class Continued(CacheLayerMixin):
    """Keys and values of one layer that rows go on from, copied when the layer runs, with room for what it adds.

    Args:
        source: keys and values of the pass before, [rows, heads, columns, width].
        copies: what each row takes of them, at the right end of the known columns.
        known: columns that are there before the pass.
        shared: tensors that layers use one after the other, where nothing goes on from this pass; None: each layer
            keeps its own.

    Attributes:
        keys, values: of the pass, once the layer has run and where they are kept.
    """

    is_sliding = False

    def __init__(
        self, source: Sequence[Tensor], copies: Sequence[Copy], known: int, shared: dict[Any, Tensor] | None
    ) -> None:
        super().__init__()
        self._source, self._copies, self._known, self._shared = source, copies, known, shared
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: what is known is known from the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """What is known, and what the pass adds."""
        keys, values = (self._joined(k, new) for k, new in enumerate((key_states, value_states)))
        if self._shared is None:
            self.keys, self.values = keys, values
        return keys, values

    def _joined(self, which: int, new: Tensor) -> Tensor:
        source, known = self._source[which], self._known
        shape = (new.shape[0], new.shape[1], known + new.shape[2], new.shape[3])
        held = None if self._shared is None else self._shared.get((which, shape))
        if held is None:
            held = new.new_empty(shape)
            if self._shared is not None:
                self._shared[which, shape] = held
        for first, stop, row, column, count in self._copies:
            held[first:stop, :, known - count : known] = source[row, :, column : column + count]
            # masked, and yet it must be numbers: 0 times none is none
            held[first:stop, :, : known - count] = 0.0
        held[:, :, known:] = new
        return held

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of the mask, and which the first one is."""
        return self._known + query_length, 0

    def get_seq_length(self) -> int:
        """Columns that are known before the pass."""
        return self._known

    def get_max_length(self) -> int:
        """No limit."""
        return -1


class RowCache:
    """The cache of the rows under way, with their masks and positions.

    Args:
        slots: most rows.
        device: torch device.
    """

    def __init__(self, slots: int, device: str) -> None:
        self.slots, self.device = slots, device
        self.cache = Cache(layers=[])
        self._layers: list[Layer] = []
        self._columns = Columns()
        self._first: NDArray[np.int64] = np.zeros(slots, dtype=np.int64)  # column of each row's first token
        self._mask = torch.zeros((0, 0), dtype=torch.long, device=device)  # [slots, columns]
        self._positions = torch.zeros(slots, dtype=torch.long, device=device)

    @property
    def rows(self) -> int:
        """Rows under way."""
        return self._columns.rows

    def inputs(self) -> dict[str, Any]:
        """Arguments of the next forward pass, which feeds one token a row."""
        at = self._columns
        if at.stop == self._mask.shape[1]:
            self._relocate(at.rows, at.stop - at.start)
        return {
            "attention_mask": self._mask[: at.rows, at.start : at.stop + 1],
            "position_ids": self._positions[: at.rows, None],
            "past_key_values": self.cache,
            "use_cache": True,
        }

    def advance(self) -> None:
        """The pass has been made: its column is part of the window."""
        self._positions[: self._columns.rows] += 1
        self._columns.stop += 1

    def join(self, read: Cache, lengths: Sequence[int]) -> None:
        """Take in rows that a pass of their own has read.

        Args:
            read: their cache, padded on the left; all its columns are kept, whatever a layer's window is.
            lengths: tokens of each.
        """
        at, added = self._columns, len(lengths)
        layers: list[Any] = read.layers
        states: list[tuple[Tensor, Tensor]] = [(layer.keys, layer.values) for layer in layers]
        width = states[0][0].shape[2]
        if at.rows == 0:
            at.start = at.stop = min(width, self._mask.shape[1])
        if not self._layers:
            self._layers = [Layer(at, [t.new_zeros((0, t.shape[1], 0, t.shape[3])) for t in pair]) for pair in states]
            self.cache = Cache(layers=[*self._layers])
        if at.rows + added > self._mask.shape[0] or width > at.stop:
            self._relocate(at.rows + added, width)
        new = slice(at.rows, at.rows + added)
        for layer, pair in zip(self._layers, states, strict=True):
            for kept, state in zip(layer.pair, pair, strict=True):
                kept[new, :, at.stop - width : at.stop] = state
        self._first[new] = at.stop - np.asarray(lengths)
        self._mask[new] = self._masks(new)
        self._positions[new] = torch.tensor(list(lengths), device=self.device)
        at.rows += added
        at.start = int(self._first[: at.rows].min())

    def leave(self, slot: int) -> None:
        """Let a row go; the last row takes its slot."""
        at = self._columns
        last = at.rows = at.rows - 1
        if slot != last:
            window = slice(int(self._first[last]), at.stop)
            for layer in self._layers:
                for kept in layer.pair:
                    kept[slot, :, window] = kept[last, :, window]
            self._first[slot] = self._first[last]
            self._mask[slot] = self._mask[last]
            self._positions[slot] = self._positions[last]
        if last:
            at.start = int(self._first[:last].min())

    def _masks(self, rows: slice) -> Tensor:
        # columns that are still to come are no padding either
        columns = torch.arange(self._mask.shape[1], device=self.device)[None]
        return (columns >= torch.as_tensor(self._first[rows], device=self.device)[:, None]).long()

    def _relocate(self, rows: int, width: int) -> None:
        """Make room for so many rows, and for a window of `width` columns and the columns to come."""
        at = self._columns
        held = at.stop - at.start
        stop = max(width, held)
        slots, columns = self._mask.shape
        if rows > slots or stop + BLOCK > columns:
            # twice what is needed, so that moving costs one copy of a column a pass at most
            columns = max(columns, -(-(stop + max(stop, BLOCK)) // BLOCK) * BLOCK)
            slots = max(slots, min(self.slots, max(rows, 2 * slots)))
        source, target = slice(at.start, at.stop), slice(stop - held, stop)
        for layer in self._layers:
            layer.pair = [_moved(t, at.rows, source, target, slots, columns) for t in layer.pair]
        self._first += stop - at.stop
        at.start, at.stop = stop - held, stop
        self._mask = torch.zeros((slots, columns), dtype=torch.long, device=self.device)
        self._mask[: at.rows] = self._masks(slice(0, at.rows))


def _moved(kept: Tensor, rows: int, source: slice, target: slice, slots: int, columns: int) -> Tensor:
    """A tensor [slots, heads, columns, width] with the columns of `source` at `target`; itself where it is large."""
    held = kept[:rows, :, source]
    if (slots, columns) == (kept.shape[0], kept.shape[2]):
        # the two may overlap
        kept[:rows, :, target] = held.clone()
        return kept
    larger = kept.new_zeros((slots, kept.shape[1], columns, kept.shape[3]))
    larger[:rows, :, target] = held
    return larger
