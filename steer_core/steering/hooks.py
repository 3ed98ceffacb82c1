"""Steering by forward hooks: the one place where activations of a running model are changed.

    steering = Steering(model, {v.id: v for v in vectors}, fingerprint)
    with steering.apply([(intervention,), ()], prompt_lengths=[12, 9]) as applied:
        model.generate(...)
    receipts = applied.receipts(tokens=[12 + 29, 9 + 29])

What happens to which token is contracted in `steer_core.steering.batch`. Positions are read from the 2-D attention mask
of past and current tokens, and from the number of tokens that a pass feeds; padding may stand on either side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch  # noqa: TID253  (this module exists for torch code; it is imported by backends and fitting only)
from torch import Tensor  # noqa: TID253

from steer_core.steering.batch import Decision, Integers, Step, Window, plan_steps
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.operators import load_operator
from steer_core.steering.positions import parse_positions
from steer_core.steering.receipts import Receipt, make_receipt
from steer_core.steering.sites import Place, find_sites
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError


class Steering:
    """Applies interventions to the forward passes of a model.

    Args:
        model: a causal language model or its headless trunk: the module that will be called.
        vectors: id -> vector; may grow later.
        fingerprint: of the model; vectors of another one are refused. None: not checked.
    """

    def __init__(self, model: Any, vectors: Mapping[str, SteeringVector], fingerprint: str | None = None) -> None:
        self.model = model
        self.vectors = vectors
        self.fingerprint = fingerprint
        self.sites = find_sites(model)
        self._loaded: dict[tuple[str, torch.device], dict[str, Tensor]] = {}

    def check(self, interventions: Sequence[Intervention]) -> None:
        """Refuse what cannot be applied, before anything runs.

        Raises:
            SteerworksError: an unknown vector or operator, a vector of another model or width, a layer or site that the
                model lacks, a tensor that the operator needs, a coefficient that is no number, or a gate that is
                decided too late.
            ConfigError: an unknown position selector.
        """
        for i in interventions:
            vector = self.check_vector(i.vector)
            self.sites.place(i.layer, i.site)
            load_operator(i.operator).check(vector)
            parse_positions(i.positions)
            if not math.isfinite(i.coefficient):
                raise SteerworksError(f"the coefficient of {vector.concept!r} at layer {i.layer} is {i.coefficient}")
            if i.gate is not None:
                self._check_gate(i.gate, i)

    def check_vector(self, vector_id: str) -> SteeringVector:
        """The vector of that id, if it was fitted on this model.

        Raises:
            SteerworksError: there is none, or it is of another model or width.
        """
        vector = self.vectors.get(vector_id)
        if vector is None:
            raise SteerworksError(
                f"vector {vector_id} is not loaded; {len(self.vectors)} others are. Hand it to the backend with "
                "`add_vectors`"
            )
        if self.fingerprint is not None and vector.model != self.fingerprint:
            raise SteerworksError(
                f"the vector of {vector.concept!r} at layer {vector.layer} was fitted on model {vector.model}, not on "
                f"{self.fingerprint}: fit it on this model, or transfer it"
            )
        if vector.width != self.sites.width:
            raise SteerworksError(
                f"the vector of {vector.concept!r} has width {vector.width}; the model's hidden size is "
                f"{self.sites.width}"
            )
        return vector

    def _check_gate(self, gate: Gate, intervention: Intervention) -> None:
        condition = self.check_vector(gate.vector)
        self.sites.place(gate.layer, "residual")
        if "direction" not in condition.tensors:
            raise SteerworksError(f"the condition vector {condition.concept!r} ({condition.operator}) has no direction")
        # the stream after a layer is known only when its sublayers have run
        latest = intervention.layer - (intervention.site != "residual")
        if gate.layer > latest:
            raise SteerworksError(
                f"a gate at layer {gate.layer} is decided too late for an intervention at layer {intervention.layer}, "
                f"site {intervention.site!r}: it may look at layer {latest} or earlier"
            )

    @contextmanager
    def apply(self, rows: Sequence[tuple[Intervention, ...]], prompt_lengths: Sequence[int]) -> Iterator[Applied]:
        """Steer the forward passes inside the context: one batch of sequences, in as many passes as it takes.

        Where no row has an intervention, no hook is set and the model runs as it is.

        Args:
            rows: interventions of each row of the batch, in order; an empty tuple leaves the row alone.
            prompt_lengths: tokens of each row's prompt, without padding.

        Yields:
            What was applied; ask it for receipts after the context.

        Raises:
            SteerworksError: see `check`; or, while the model runs, a pass whose rows or mask do not fit.
        """
        if len(rows) != len(prompt_lengths):
            raise ValueError(f"{len(rows)} rows of interventions for {len(prompt_lengths)} prompts")
        for interventions in dict.fromkeys(rows):
            self.check(interventions)
        applied = self._prepare(rows, prompt_lengths)
        handles = []
        try:
            if any(rows):
                handles.append(self.model.register_forward_pre_hook(applied.before, with_kwargs=True))
                applied.reader = handles[0]
                handles += [p.module.register_forward_hook(applied.hook(p)) for p in applied.places.values()]
            yield applied
        finally:
            for handle in handles:
                handle.remove()

    def _prepare(self, rows: Sequence[tuple[Intervention, ...]], prompt_lengths: Sequence[int]) -> Applied:
        decisions: dict[Gate, Decision] = {}
        places: dict[tuple[int, str], Place] = {}
        for r, interventions in enumerate(rows):
            for i in interventions:
                places[i.layer, i.site] = self.sites.place(i.layer, i.site)
                if i.gate is None:
                    continue
                places[i.gate.layer, "residual"] = self.sites.place(i.gate.layer, "residual")
                if i.gate not in decisions:
                    decisions[i.gate] = Decision(i.gate, self.vectors[i.gate.vector].direction, [])
                if r not in decisions[i.gate].rows:
                    decisions[i.gate].rows.append(r)
        steps, carried = plan_steps(rows, prompt_lengths, places, self.vectors, decisions, self._numbers)
        return Applied(rows, prompt_lengths, places, steps, carried, decisions)

    def numbers_of(self, vector: SteeringVector) -> Callable[[torch.device], Mapping[str, Tensor]]:
        """What gives a vector's tensors on a device, float32."""
        return partial(self._numbers, vector)

    def _numbers(self, vector: SteeringVector, device: torch.device) -> dict[str, Tensor]:
        # kept: a map of a large model takes a while to get to its device
        key = (vector.id, device)
        if key not in self._loaded:
            self._loaded[key] = {
                name: torch.tensor(np.asarray(t, dtype=np.float32), device=device) for name, t in vector.tensors.items()
            }
        return self._loaded[key]


class Applied:
    """Steering of one batch while it runs, and the count of what it touched."""

    def __init__(
        self,
        rows: Sequence[tuple[Intervention, ...]],
        prompt_lengths: Sequence[int],
        places: Mapping[tuple[int, str], Place],
        steps: Mapping[tuple[int, str], list[Step]],
        carried: Mapping[tuple[int, int], Step],
        decisions: Mapping[Gate, Decision],
    ) -> None:
        self.rows = rows
        self.prompt_lengths: Integers = np.asarray(prompt_lengths, dtype=np.int64)
        self.places = places
        self.decisions = decisions
        self._steps = steps
        self._carried = carried
        #: handle of `before`, which reads the attention mask; removed when the mask has no more to say
        self.reader: Any = None
        #: where it is a list: each step that was made, and the largest activation before and after it
        self.watch: list[tuple[Step, float, float]] | None = None
        self._window: Window | None = None
        self._decoding = False
        self._fresh = False
        self._ends_together = False

    def before(self, _model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the model: which columns this pass feeds, and where each row begins."""
        fed = kwargs.get("input_ids", args[0] if args else None)
        fed = kwargs["inputs_embeds"] if fed is None else fed
        rows, tokens = fed.shape[0], fed.shape[1]
        if rows != len(self.rows):
            raise SteerworksError(f"a forward pass has {rows} rows; interventions were given for {len(self.rows)}")
        mask = kwargs.get("attention_mask")
        if mask is None:
            past, previous = kwargs.get("past_key_values"), self._window
            if past is None and kwargs.get("cache_params") is not None and previous is not None:
                # a recurrent state (Mamba) tells no length: it goes on where the last pass ended
                self._window = Window(previous.stop, previous.stop + tokens, previous.offsets)
                return
            start = 0 if past is None else int(past.get_seq_length())
            self._window = Window(start, start + tokens, np.zeros(rows, dtype=np.int64))
            return
        if not isinstance(mask, Tensor) or mask.ndim != 2:
            raise SteerworksError(
                "steering reads positions from the attention mask, which must have shape [rows, past and current "
                "tokens]; this one has not (a static cache prepares another: use the dynamic one)"
            )
        stop, previous = mask.shape[1], self._window
        cached = self._ends_together and kwargs.get("past_key_values") is not None
        if previous is not None and cached and tokens == 1 and stop == previous.stop + 1:
            # cached decoding: from here on every pass appends one column, and the mask tells nothing new
            self._window = Window(stop - 1, stop, previous.offsets)
            self._decoding = self._fresh = True
            self.reader.remove()
            return
        offsets, self._ends_together = _read(mask)
        if previous is not None and not np.array_equal(offsets, previous.offsets):
            raise SteerworksError(
                "the padding changed between two forward passes of one context: open a context for each batch"
            )
        self._window = Window(stop - tokens, stop, offsets)

    def carry_on(self, is_open: Sequence[Sequence[bool]]) -> None:
        """Take over what gates said in an earlier pass, which read the prompts: for each row and intervention."""
        for r, (interventions, said) in enumerate(zip(self.rows, is_open, strict=True)):
            for i, one in zip(interventions, said, strict=True):
                if i.gate is not None:
                    self.decisions[i.gate].open[r] = one

    def hook(self, place: Place) -> Any:
        """Forward hook of a place's module."""
        key = (place.layer, place.site)
        steps = self._steps.get(key, [])
        gates = [d for d in self.decisions.values() if (d.gate.layer, "residual") == key]
        leads = key == min(self.places, key=_when)
        settled: list[Step] | None = None

        def after(_module: Any, _args: Any, output: Any) -> Any:
            nonlocal settled
            hidden = place.hidden(output)
            window = self._window
            if leads and self._decoding and window is not None:
                if self._fresh:
                    self._fresh = False
                else:
                    window.advance()
            if window is None or hidden.shape[1] != window.stop - window.start:
                raise SteerworksError(
                    f"layer {place.layer} was fed {hidden.shape[1]} tokens out of turn: call the module that "
                    "`Steering` was made for, and open a context for each batch (its prompt, then one token a pass)"
                )
            new = hidden
            if settled is not None:
                for step in settled:
                    new = step.act_settled(new)
            else:
                for decision in gates:
                    if not decision.open:
                        decision.decide(place.read(output), window, self.prompt_lengths)
                for step in steps:
                    before, new = new, step(new, window)
                    if self.watch is not None:
                        self.watch.append((step, float(before.abs().max()), float(new.abs().max())))
                if self._decoding and all(s.settled(window.start) for s in steps):
                    settled = [s for s in steps if s.acts(window.start)]
            if new is hidden:
                return None
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return after

    def receipts(self, tokens: Sequence[int]) -> list[Receipt | None]:
        """The proof for each row that the tokens were touched that should be; None for rows without interventions.

        Args:
            tokens: tokens of each row that were fed to the model: its prompt, and what was written but for the last.

        Raises:
            SteerworksError: a count is not what prompt length and tokens fed alone say; names row and layer.
        """
        if not any(self.rows):
            return [None] * len(self.rows)
        touched, is_open = self.touched(tokens), self.is_open()
        return [
            make_receipt(r, i, int(self.prompt_lengths[r]), int(tokens[r]), touched[r], is_open[r]) if i else None
            for r, i in enumerate(self.rows)
        ]

    def touched(self, tokens: Sequence[int]) -> list[list[int]]:
        """For each row and intervention: how many of the row's first `tokens` tokens were touched at least once."""
        window = self._window
        offsets = np.zeros(len(self.rows), dtype=np.int64) if window is None else window.offsets
        fed = np.asarray(tokens, dtype=np.int64)
        counts = {id(s): s.touched(offsets, fed) for steps in self._steps.values() for s in steps}
        return [
            [int(counts[id(self._carried[r, k])][r]) for k in range(len(interventions))]
            for r, interventions in enumerate(self.rows)
        ]

    def is_open(self) -> list[list[bool]]:
        """For each row and intervention: whether its gate is open; True without one.

        Raises:
            SteerworksError: a gate was never decided.
        """
        return [
            [i.gate is None or self._is_open(i.gate, r) for i in interventions]
            for r, interventions in enumerate(self.rows)
        ]

    def _is_open(self, gate: Gate, row: int) -> bool:
        if row not in self.decisions[gate].open:
            raise SteerworksError(f"row {row}: its gate at layer {gate.layer} was never decided: no prompt was read")
        return self.decisions[gate].open[row]


def _when(key: tuple[int, str]) -> tuple[int, int]:
    """When a place is met in a forward pass."""
    return key[0], ("attention", "mlp", "residual").index(key[1])


def _read(mask: Tensor) -> tuple[Integers, bool]:
    """Column of each row's first token, and whether all rows end at the last column."""
    real = mask.cpu().numpy() != 0
    if real.all():
        return np.zeros(len(real), dtype=np.int64), True
    offsets: Integers = real.argmax(axis=1)
    position = np.arange(real.shape[1]) - offsets[:, None]
    if not np.array_equal(real, (position >= 0) & (position < real.sum(axis=1)[:, None])):
        raise SteerworksError(
            "the attention mask of a row has a gap: steering needs each row's tokens to stand together (decoding after "
            "right padding leaves one: pad on the left)"
        )
    return offsets, bool(real[:, -1].all())
