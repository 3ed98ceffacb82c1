"""One batch under steering: which rows each operator call acts on, at which columns of each forward pass.

The contract, which tests check:

1. A row's interventions at one place act in their order; places act in the order of the forward pass.
2. A token is steered by its own position in its own row. Cached decoding, where a pass feeds one token, and uncached
   decoding, where every pass feeds all of them, steer the same tokens.
3. A row without interventions, a token outside the positions, and a row whose gate is closed are left bit for bit.
4. A row is steered as it would be alone, whatever the other rows of its batch do.
5. A gate is decided once, when the prompt has been read, and kept.

Whether a step touches all, none or some tokens of a pass is integer arithmetic on the host; only `some` needs a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch  # noqa: TID253  (this module exists for torch code; it is imported by backends and fitting only)
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253

from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.operators import Operator, load_operator
from steer_core.steering.positions import END, parse_positions
from steer_core.steering.sites import Place
from steer_core.steering.vector import Floats, SteeringVector
from steer_core.tables.errors import SteerworksError

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

#: x + NOTHING is x, bit for bit, for every x; x + 0.0 is not for x = -0.0.
NOTHING = -0.0


@dataclass
class Window:
    """The columns that the current forward pass feeds.

    Attributes:
        start, stop: first column, and the one after the last, counted over the padded batch from its first pass.
        offsets: column of each row's first token, shape [rows].
    """

    start: int
    stop: int
    offsets: Integers
    _columns: Tensor | None = None

    def advance(self) -> None:
        """Go on to the next column alone, as cached decoding does."""
        self.start, self.stop, self._columns = self.stop, self.stop + 1, None

    def columns(self, device: torch.device) -> Tensor:
        """Column numbers, shape [1, tokens]."""
        if self._columns is None:
            self._columns = torch.arange(self.start, self.stop, device=device)[None]
        return self._columns


@dataclass
class Decision:
    """What a gate said of the rows that ask it: cosine and whether it is open, by row."""

    gate: Gate
    direction: Floats  # [width]
    rows: list[int]
    cosines: dict[int, float] = field(default_factory=dict)
    open: dict[int, bool] = field(default_factory=dict)

    def decide(self, hidden: Tensor, window: Window, prompt_lengths: Integers) -> None:
        """Compare each row's mean over the prompt of hidden [rows, tokens, width] with the condition vector.

        Raises:
            SteerworksError: the pass does not hold the whole prompt.
        """
        low = window.offsets[self.rows]
        high = low + prompt_lengths[self.rows]
        if window.start > 0 or window.stop < high.max():
            raise SteerworksError(
                f"the gate at layer {self.gate.layer} needs the whole prompt in one forward pass; this one feeds "
                f"columns {window.start} to {window.stop - 1}, the prompts end at {int(high.max()) - 1}"
            )
        device = hidden.device
        columns = window.columns(device)
        inside = (columns >= torch.as_tensor(low, device=device)[:, None]) & (
            columns < torch.as_tensor(high, device=device)[:, None]
        )
        part = hidden[torch.tensor(self.rows, device=device)].float()
        total = part.where(inside[..., None], 0.0).sum(dim=1)  # [rows, width]; the mean's length does not matter
        found = torch.cosine_similarity(total, torch.tensor(self.direction, device=device)[None], dim=-1).tolist()
        for row, cosine in zip(self.rows, found, strict=True):
            self.cosines[row] = cosine
            self.open[row] = (cosine >= self.gate.threshold) is self.gate.above


@dataclass
class Seen:
    """Columns [start, stop) that a step touched: of all its rows, or those where `mask` [rows of the batch, tokens]."""

    start: int
    stop: int
    mask: Tensor | None = None


@dataclass
class Step:
    """One operator call on some rows of the batch.

    Attributes:
        operator: what is done.
        place: where.
        low, high: interval of absolute positions of each row of the batch, shape [rows]; empty for rows not in it.
        gates: the decision that a row waits for.
        amounts: additive: coefficient times direction, in units of the module's output, shape [rows, 1, width].
        coefficients: others: shape [rows, 1, 1].
        numbers: others: tensors of their one vector, for a device.
        scalars: others: its further numbers.
        seen: what was touched so far.
    """

    operator: Operator
    place: Place
    low: Integers
    high: Integers
    gates: dict[int, Decision] = field(default_factory=dict)
    amounts: Floats | None = None
    coefficients: Floats | None = None
    numbers: Callable[[torch.device], Mapping[str, Tensor]] | None = None
    scalars: Mapping[str, float] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    _armed: bool = False
    _bounds: Tensor | None = None

    def __call__(self, hidden: Tensor, window: Window) -> Tensor:
        """Hidden [rows, tokens, width] after the step; the same tensor where it touches nothing."""
        if not self._armed:
            self._arm(window.offsets, hidden)
        if window.start >= self._none_from or window.stop <= self._none_until:
            return hidden
        if window.start >= self._all_from and window.stop <= self._all_until:
            self._note(window, None)
            return self._act(hidden, None)
        mask = self._mask(window, hidden.device)
        self._note(window, mask)
        return self._act(hidden, mask)

    def _mask(self, window: Window, device: torch.device) -> Tensor:
        if self._bounds is None:
            inside = self.low < self.high
            low, high = np.where(inside, self._first, 0), np.where(inside, self._last, 0)
            self._bounds = torch.as_tensor(np.stack([low, high])[:, :, None], device=device)
        columns = window.columns(device)
        return (columns >= self._bounds[0]) & (columns < self._bounds[1])

    def settled(self, column: int) -> bool:
        """Whether the step does the same in every later pass that feeds one column, from this column on."""
        return column >= self._none_from or (column >= self._all_from and self._all_until == END)

    def act_settled(self, hidden: Tensor) -> Tensor:
        """What a settled step does to hidden [rows, 1, width], with nothing left to decide."""
        self.seen[-1].stop += 1
        return hidden + self._added if self.amounts is not None else self._act(hidden, None)

    def acts(self, column: int) -> bool:
        """Whether a settled step acts at all."""
        return column < self._none_from

    def _arm(self, offsets: Integers, hidden: Tensor) -> None:
        # gates of this step are decided by now: their layers come first
        for row, decision in self.gates.items():
            if not decision.open[row]:
                self.low[row] = self.high[row] = 0
                if self.amounts is not None:
                    self.amounts[row] = NOTHING
        device, rows = hidden.device, np.flatnonzero(self.low < self.high)
        self.rows = rows
        self._index = None if len(rows) == len(offsets) else torch.as_tensor(rows, device=device)
        if self.amounts is not None:
            self._added = torch.tensor(self.amounts, device=device, dtype=hidden.dtype)
        elif self.numbers is not None and self.coefficients is not None:
            self._tensors = self.numbers(device)
            self._coefficients = torch.tensor(self.coefficients[rows], device=device)
        first, last = self._first, self._last = self.low + offsets, np.minimum(self.high + offsets, END)
        if len(rows):
            self._none_until, self._none_from = int(first[rows].min()), int(last[rows].max())
            # what stands before a row's first token is padding: touching it does no harm
            self._all_from = int((first * (self.low > 0))[rows].max())
            self._all_until = int(last[rows].min())
        else:
            self._none_until, self._none_from = END, 0
        self._armed = True

    def _note(self, window: Window, mask: Tensor | None) -> None:
        previous = self.seen[-1] if self.seen else None
        if mask is None and previous is not None and previous.mask is None and previous.stop == window.start:
            previous.stop = window.stop
        else:
            self.seen.append(Seen(window.start, window.stop, mask))

    def _act(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        if self.amounts is not None:
            return hidden + (self._added if mask is None else self._added.where(mask[..., None], NOTHING))
        index = self._index
        part = hidden if index is None else hidden[index]
        new = operate(self.operator, self.place, part, self._tensors, self.scalars, self._coefficients)
        if mask is not None:
            new = new.where((mask if index is None else mask[index])[..., None], part)
        return new if index is None else hidden.index_copy(0, index, new)

    def touched(self, offsets: Integers, tokens: Integers) -> Integers:
        """Of each row's first `tokens` tokens, how many were touched at least once; shape [rows]."""
        width = max([int((offsets + tokens).max()), *(s.stop for s in self.seen)])
        found = np.zeros((len(offsets), width), dtype=bool)
        for seen in self.seen:
            if seen.mask is None:
                found[self.rows, seen.start : seen.stop] = True
            else:
                found[:, seen.start : seen.stop] |= seen.mask.cpu().numpy()
        position = np.arange(width)[None] - offsets[:, None]
        real = (position >= 0) & (position < tokens[:, None])
        counted: Integers = (found & real).sum(axis=1)
        return counted


def plan_steps(
    rows: Sequence[tuple[Intervention, ...]],
    prompt_lengths: Sequence[int],
    places: Mapping[tuple[int, str], Place],
    vectors: Mapping[str, SteeringVector],
    decisions: Mapping[Gate, Decision],
    numbers: Callable[[SteeringVector, torch.device], Mapping[str, Tensor]],
) -> tuple[dict[tuple[int, str], list[Step]], dict[tuple[int, int], Step]]:
    """The operator calls of a batch, place by place, and the one that carries out each intervention of each row.

    At a place, round k does the k-th thing of every row: all additions of a round are one step, and the rows that
    share another operator and vector are one. Additions of a row that follow each other at the same positions under
    the same gate are summed first.

    Args:
        rows: interventions of each row of the batch.
        prompt_lengths: tokens of each row's prompt.
        places: (layer, site) -> place.
        vectors: id -> vector.
        decisions: gate -> its decision, shared by the rows that ask it.
        numbers: tensors of a vector on a device, float32.

    Returns:
        (layer, site) -> steps in order; (row, index of the intervention) -> its step.
    """
    rounds: dict[tuple[int, str], list[dict[tuple[str, str], dict[int, list[int]]]]] = {}
    for r, interventions in enumerate(rows):
        for key, mine in things_at(interventions).items():
            stack = rounds.setdefault(key, [])
            stack += [{} for _ in range(len(mine) - len(stack))]
            for level, ks in zip(stack, mine, strict=False):
                first = interventions[ks[0]]
                additive = load_operator(first.operator).additive
                level.setdefault((first.operator, "" if additive else first.vector), {})[r] = ks
    steps: dict[tuple[int, str], list[Step]] = {}
    carried: dict[tuple[int, int], Step] = {}
    for key, stack in rounds.items():
        for level in stack:
            for (operator, vector), members in level.items():
                step = Step(
                    load_operator(operator),
                    places[key],
                    np.zeros(len(rows), dtype=np.int64),
                    np.zeros(len(rows), dtype=np.int64),
                )
                for r, ks in members.items():
                    first = rows[r][ks[0]]
                    step.low[r], step.high[r] = parse_positions(first.positions).interval(prompt_lengths[r])
                    if first.gate is not None:
                        step.gates[r] = decisions[first.gate]
                    carried |= {(r, k): step for k in ks}
                if step.operator.additive:
                    step.amounts = _amounts(rows, members, vectors) / np.float32(step.place.scale)
                else:
                    step.coefficients = _coefficients(rows, members)
                    step.numbers = partial(numbers, vectors[vector])
                    step.scalars = vectors[vector].scalars
                steps.setdefault(key, []).append(step)
    return steps, carried


def things_at(interventions: Sequence[Intervention]) -> dict[tuple[int, str], list[list[int]]]:
    """What a row does at each (layer, site), thing by thing: indices of interventions, those summed first together."""
    things: dict[tuple[int, str], list[list[int]]] = {}
    for k, intervention in enumerate(interventions):
        mine = things.setdefault((intervention.layer, intervention.site), [])
        if mine and _sums(interventions[mine[-1][0]], intervention):
            mine[-1].append(k)
        else:
            mine.append([k])
    return things


def _sums(one: Intervention, other: Intervention) -> bool:
    both = load_operator(one.operator).additive and one.operator == other.operator
    return both and (one.positions, one.gate) == (other.positions, other.gate)


def _coefficients(rows: Sequence[tuple[Intervention, ...]], members: Mapping[int, Sequence[int]]) -> Floats:
    """Coefficient of each row, shape [rows, 1, 1]; 0 for rows that are no members."""
    coefficients = np.zeros((len(rows), 1, 1), dtype=np.float32)
    for r, ks in members.items():
        coefficients[r] = rows[r][ks[0]].coefficient
    return coefficients


def _amounts(
    rows: Sequence[tuple[Intervention, ...]],
    members: Mapping[int, Sequence[int]],
    vectors: Mapping[str, SteeringVector],
) -> Floats:
    """What is added to each row, shape [rows, 1, width]; `NOTHING` for rows that are no members."""
    width = vectors[rows[next(iter(members))][0].vector].width
    amounts = np.full((len(rows), 1, width), NOTHING, dtype=np.float32)
    for r, ks in members.items():
        amounts[r] = amount([rows[r][k] for k in ks], vectors)
    return amounts


def amount(interventions: Sequence[Intervention], vectors: Mapping[str, SteeringVector]) -> Floats:
    """What additions that are summed first add together, in units of the stream, shape [1, width]."""
    first, *others = [np.float32(i.coefficient) * vectors[i.vector].direction for i in interventions]
    total: Floats = first
    for other in others:
        total = total + other
    return np.atleast_2d(total)


def operate(
    operator: Operator,
    place: Place,
    hidden: Tensor,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, float],
    coefficients: Tensor,
) -> Tensor:
    """An operator's work on a module's output [rows, tokens, width]: in units of the stream, in float32."""
    new = operator.apply(hidden.float() * place.scale, tensors, scalars, coefficients)
    return (new / place.scale).to(hidden.dtype)
