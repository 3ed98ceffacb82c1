"""Operator calls on the flat batch of a forward pass: tokens of all its requests, one after the other.

The contract is that of `steer_core.steering.batch`. vLLM's layers hand on the stream as two tensors whose sum it is;
a token that is steered is summed first, as the hooks of transformers see it, and a token that is not is left bit for
bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .catalogue import operator

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Vector:
    """A vector that was handed in: float32 tensors [rows, width] on the model's device, and numbers."""

    tensors: dict[str, Tensor]
    scalars: dict[str, float]


@dataclass
class Pass:
    """The tokens of one forward pass.

    Attributes:
        slots: of the request that each token is of, shape [tokens]; 0: unsteered.
        positions: of each token in its own sequence, shape [tokens].
        fresh: False where the token was fed before (a request that was preempted reads its own again).
        same: whether `slots` and `fresh` are those of the pass before.
    """

    slots: Integers
    positions: Integers
    fresh: Booleans
    same: bool


class Lane:
    """One operator at one place, for the requests of all slots.

    Buffers persist; a request writes its slot once, when it comes.

    Args:
        name: of the operator.
        vector: whose tensors it uses; None for additions, where each slot has its own.
        width: hidden size.
        dtype, device: of the model's activations.
        slots: how many there are, the empty one (0) included.
    """

    def __init__(
        self, name: str, vector: Vector | None, width: int, dtype: torch.dtype, device: torch.device, slots: int
    ) -> None:
        self._apply = None if vector is None else operator(name).apply
        self._vector = vector
        self._device = device
        self.low: Integers = np.zeros(slots, dtype=np.int64)
        self.high: Integers = np.zeros(slots, dtype=np.int64)
        #: tokens of each slot that were changed, each counted once, where they are changed
        self.touched: Integers = np.zeros(slots, dtype=np.int64)
        size, kind = (width, dtype) if vector is None else (1, torch.float32)
        self.amounts = torch.zeros(slots, size, dtype=kind, device=device)
        self.members = 0
        self._stale = True
        self._inside: Booleans = np.zeros(0, dtype=bool)
        self._index: Tensor | None = None
        self._rows: Any = None
        self._counts: Integers = self.touched

    def grow(self, slots: int) -> None:
        """Make room for further slots."""
        more = slots - len(self.low)
        self.low, self.high, self.touched = (np.pad(a, (0, more)) for a in (self.low, self.high, self.touched))
        self.amounts = torch.cat([self.amounts, self.amounts.new_zeros(more, self.amounts.shape[1])])
        self._stale = True

    def put(self, slot: int, reach: tuple[int, int], amount: Tensor) -> None:
        """A request comes into a slot: which positions are steered, and by how much."""
        self.low[slot], self.high[slot] = reach
        self.touched[slot] = 0
        self.amounts[slot] = amount.to(self.amounts)
        self.members += 1
        self._stale = True

    def clear(self, slot: int) -> None:
        """The request of a slot is gone."""
        self.low[slot] = self.high[slot] = self.touched[slot] = 0
        self.members -= 1
        self._stale = True

    def prepare(self, tokens: Pass) -> bool:
        """Get ready for a pass; whether it touches any of its tokens."""
        inside = (self.low[tokens.slots] <= tokens.positions) & (tokens.positions < self.high[tokens.slots])
        if tokens.same and not self._stale and np.array_equal(inside, self._inside):
            return self._rows is not None
        self._stale, self._inside = False, inside
        if not inside.any():
            self._rows = None
            return False
        # None: every token of the pass
        self._index = None if inside.all() else torch.as_tensor(np.flatnonzero(inside), device=self._device)
        rows = torch.as_tensor(tokens.slots[inside], device=self._device)
        self._rows = self.amounts.index_select(0, rows)
        self._counts = np.bincount(tokens.slots[inside & tokens.fresh], minlength=len(self.low))
        return True

    def act(self, hidden: Tensor, residual: Tensor | None, tokens: int) -> None:
        """Change hidden (and residual) [at least `tokens`, width] in place."""
        index = self._index
        if index is None and self._apply is None:
            # nearly every pass of nearly every request: nothing is copied
            mine = hidden[:tokens]
            if residual is not None:
                mine += residual[:tokens]
                residual[:tokens] = 0
            mine += self._rows
            self.touched += self._counts
            return
        if index is None:
            part = hidden[:tokens] if residual is None else hidden[:tokens] + residual[:tokens]
        else:
            part = hidden.index_select(0, index)
            if residual is not None:
                part = part + residual.index_select(0, index)
        if self._apply is None or self._vector is None:
            new = part + self._rows
        else:
            coefficients = self._rows[:, :, None]  # [tokens, 1, 1]
            moved = self._apply(part.float()[:, None], self._vector.tensors, self._vector.scalars, coefficients)
            new = moved[:, 0].to(hidden.dtype)
        if index is None:
            hidden[:tokens] = new
        else:
            hidden.index_copy_(0, index, new)
        # the stream is whole in `hidden` now
        if residual is not None and index is None:
            residual[:tokens] = 0
        elif residual is not None and index is not None:
            residual.index_fill_(0, index, 0)
        self.touched += self._counts
