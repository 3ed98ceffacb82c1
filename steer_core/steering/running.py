"""Steering of rows that come and go while they decode: one token a row and pass, vectors and strengths per row.

1. A row's prompt is read under `Steering.apply`; what that pass touched, and what its gates said, goes along (`join`).
2. In every later pass each row feeds one token. Its position follows from the row's prompt and passes, and decides
   whether it is steered; what stands in the other slots does not.
3. Rows stand in slots 0 to n-1. Where one leaves, the last one takes its slot, as in `generation.cache`.
4. Tokens are counted where they are changed, slot by slot, and leave with their row as its receipt.

Which rows a pass touches changes seldom, so what is handed to an operator is kept until it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch  # noqa: TID253  (this module exists for torch code; it is imported by backends only)
from torch import Tensor  # noqa: TID253

from steer_core.steering.batch import NOTHING, Booleans, Integers, amount, operate, things_at
from steer_core.steering.hooks import Applied, Steering
from steer_core.steering.intervention import Intervention
from steer_core.steering.operators import Operator, load_operator
from steer_core.steering.positions import parse_positions
from steer_core.steering.receipts import Receipt, make_receipt
from steer_core.steering.sites import Place
from steer_core.steering.vector import Floats
from steer_core.tables.errors import SteerworksError


class Lane:
    """One operator call at a place, for the rows of some slots.

    Attributes:
        low, high: interval of absolute positions that each slot's row is steered at; empty for rows not in it.
        touched: tokens of each slot's row that were changed so far.
    """

    def __init__(self, operator: Operator, place: Place, slots: int, width: int) -> None:
        self.operator, self.place = operator, place
        self.low: Integers = np.zeros(slots, dtype=np.int64)
        self.high: Integers = np.zeros(slots, dtype=np.int64)
        self.touched: Integers = np.zeros(slots, dtype=np.int64)
        #: additive: what is added, in units of the module's output; others: the coefficient
        size = width if operator.additive else 1
        self.amounts: Floats = np.full((slots, 1, size), NOTHING, dtype=np.float32)
        #: others: tensors and numbers of their one vector
        self.numbers: Callable[[torch.device], Mapping[str, Tensor]] = lambda _device: {}
        self.scalars: Mapping[str, float] = {}
        self._on_device: Tensor | None = None
        self._stale: set[int] = set()
        self._ready: tuple[bytes, Tensor | None, Tensor] | None = None

    @property
    def members(self) -> int:
        """Rows that it steers, now or later."""
        return int((self.low < self.high).sum())

    def put(self, slot: int, interval: tuple[int, int], amounts: Floats) -> None:
        """A row comes into a slot."""
        self.low[slot], self.high[slot] = interval
        self.amounts[slot] = amounts
        self.touched[slot] = 0
        self._changed(slot)

    def move(self, source: int, target: int) -> None:
        """The row of a slot goes to another one, and its own is empty."""
        for numbers in (self.low, self.high, self.touched, self.amounts):
            numbers[target] = numbers[source]
        self._changed(target)
        self.clear(source)

    def clear(self, slot: int) -> None:
        """The row of a slot is gone."""
        self.low[slot] = self.high[slot] = self.touched[slot] = 0
        self.amounts[slot] = NOTHING
        self._changed(slot)

    def _changed(self, slot: int) -> None:
        self._stale.add(slot)
        self._ready = None

    def __call__(self, hidden: Tensor, positions: Integers) -> Tensor:
        """Hidden [rows, 1, width] after the call; the same tensor where it touches nothing."""
        rows = len(positions)
        inside = (self.low[:rows] <= positions) & (positions < self.high[:rows])
        if not inside.any():
            return hidden
        asked = inside.tobytes()
        if self._ready is None or self._ready[0] != asked:
            self._ready = (asked, *self._prepare(inside, hidden))
        _, index, amounts = self._ready
        if self.operator.additive:
            new = hidden + amounts
        else:
            part = hidden if index is None else hidden[index]
            changed = operate(self.operator, self.place, part, self.numbers(hidden.device), self.scalars, amounts)
            new = changed if index is None else hidden.index_copy(0, index, changed)
        self.touched[:rows] += inside
        return new

    def _prepare(self, inside: Booleans, hidden: Tensor) -> tuple[Tensor | None, Tensor]:
        """The rows that are steered (None: all) and their coefficients; for additions, what is added to every row."""
        device, dtype = hidden.device, hidden.dtype if self.operator.additive else torch.float32
        if self._on_device is None:
            self._on_device = torch.tensor(self.amounts, device=device, dtype=dtype)
        elif self._stale:
            stale = sorted(self._stale)
            self._on_device[stale] = torch.tensor(self.amounts[stale], device=device, dtype=dtype)
        self._stale.clear()
        amounts = self._on_device[: len(inside)]
        if self.operator.additive:
            if np.array_equal(inside, self.low[: len(inside)] < self.high[: len(inside)]):
                return None, amounts
            return None, amounts.where(torch.tensor(inside, device=device)[:, None, None], NOTHING)
        if inside.all():
            return None, amounts
        index = torch.as_tensor(np.flatnonzero(inside), device=device)
        return index, amounts[index]


@dataclass
class _Row:
    """A row under way: its interventions, what its prompt's pass said, and the lanes that carry them on."""

    interventions: tuple[Intervention, ...]
    prompt_length: int
    touched: list[int]
    is_open: list[bool]
    lanes: dict[tuple[tuple[int, str], tuple[int, str, str]], list[int]] = field(default_factory=dict)


class Running:
    """The steering of all rows under way.

    Args:
        steering: gives the hooks of the model; asked only where a row has interventions.
        slots: most rows.
    """

    def __init__(self, steering: Callable[[], Steering], slots: int) -> None:
        self._steering, self._slots = steering, slots
        self._rows: list[_Row] = []
        self._positions: Integers = np.zeros(slots, dtype=np.int64)
        # (layer, site) -> (round, operator, vector) -> its lane; rounds act in their order
        self._lanes: dict[tuple[int, str], dict[tuple[int, str, str], Lane]] = {}

    def join(
        self, rows: Sequence[tuple[Intervention, ...]], prompt_lengths: Sequence[int], applied: Applied | None
    ) -> None:
        """Take in rows whose prompts have been read.

        Args:
            rows: interventions of each.
            prompt_lengths: tokens of each.
            applied: what the pass that read them did; None where no row has interventions.
        """
        touched = applied.touched(prompt_lengths) if applied is not None else [[]] * len(rows)
        is_open = applied.is_open() if applied is not None else [[]] * len(rows)
        for interventions, length, counts, gates in zip(rows, prompt_lengths, touched, is_open, strict=True):
            slot = len(self._rows)
            row = _Row(interventions, length, counts, gates)
            self._rows.append(row)
            self._positions[slot] = length
            self._enter(slot, row)

    def _enter(self, slot: int, row: _Row) -> None:
        for key, things in things_at(row.interventions).items():
            for level, ks in enumerate(things):
                first = row.interventions[ks[0]]
                low, high = parse_positions(first.positions).interval(row.prompt_length)
                if not row.is_open[ks[0]] or high <= row.prompt_length:
                    continue
                steering, operator = self._steering(), load_operator(first.operator)
                name = (level, first.operator, "" if operator.additive else first.vector)
                lanes = self._lanes.setdefault(key, {})
                vector = steering.vectors[first.vector]
                if name not in lanes:
                    place = steering.sites.place(first.layer, first.site)
                    lanes[name] = lane = Lane(operator, place, self._slots, vector.width)
                    if not operator.additive:
                        lane.numbers, lane.scalars = steering.numbers_of(vector), vector.scalars
                    self._lanes[key] = dict(sorted(lanes.items()))
                lane = self._lanes[key][name]
                if operator.additive:
                    amounts = amount([row.interventions[k] for k in ks], steering.vectors)
                    amounts = amounts / np.float32(lane.place.scale)
                else:
                    amounts = np.full((1, 1), first.coefficient, dtype=np.float32)
                lane.put(slot, (low, high), amounts)
                row.lanes[key, name] = ks

    def leave(self, slot: int, number: int, tokens: int) -> Receipt | None:
        """Let a row go; the last row takes its slot.

        Args:
            slot: where it stands.
            number: what it is called in messages.
            tokens: tokens of the row that were fed: its prompt, and what was written but for the last.

        Returns:
            The proof that the tokens were touched that should be; None for a row without interventions.

        Raises:
            SteerworksError: a count is not what prompt length and tokens fed alone say.
        """
        row, last = self._rows[slot], len(self._rows) - 1
        for (key, name), ks in row.lanes.items():
            for k in ks:
                row.touched[k] += int(self._lanes[key][name].touched[slot])
        for key, lanes in list(self._lanes.items()):
            for name, lane in list(lanes.items()):
                lane.clear(slot)
                if slot != last:
                    lane.move(last, slot)
                if not lane.members:
                    del lanes[name]
            if not lanes:
                del self._lanes[key]
        self._rows[slot] = self._rows[last]
        self._positions[slot] = self._positions[last]
        self._rows.pop()
        if not row.interventions:
            return None
        return make_receipt(number, row.interventions, row.prompt_length, tokens, row.touched, row.is_open)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Steer the one forward pass inside the context, which feeds one token of every row."""
        positions = self._positions[: len(self._rows)]
        handles = []
        try:
            for lanes in self._lanes.values():
                place = next(iter(lanes.values())).place
                handles.append(place.module.register_forward_hook(_hook(place, tuple(lanes.values()), positions)))
            yield
        finally:
            for handle in handles:
                handle.remove()
        positions += 1


def _hook(place: Place, lanes: Sequence[Lane], positions: Integers) -> Any:
    def after(_module: Any, _args: Any, output: Any) -> Any:
        hidden = place.hidden(output)
        if hidden.shape[:2] != (len(positions), 1):
            raise SteerworksError(
                f"layer {place.layer} was fed {hidden.shape[1]} tokens of {hidden.shape[0]} rows; one token of each of "
                f"{len(positions)} rows is under way"
            )
        new = hidden
        for lane in lanes:
            new = lane(new, positions)
        if new is hidden:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return after
