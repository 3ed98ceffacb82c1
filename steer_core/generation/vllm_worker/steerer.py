"""The requests under way in an engine, what is done to their tokens, and the proof of it.

A receipt is plain JSON:

    {"request": id, "nonce": ..., "prompt": tokens, "cached": tokens taken from the prefix cache when it began,
     "reached": tokens of the sequence that are in the cache now, "fed": tokens fed, those read again included,
     "touches": [{"layer", "site", "operator", "planned": by arithmetic alone, "observed": where they were changed}]}

`planned` and `observed` count positions from `cached` to `reached`, each once. What lies before `cached` was steered
when the request that left it there was: the salt of the cache sees to that. `reached` is prompt + answer - 1, or one
more where vLLM had scheduled a further token before it saw that the answer had ended.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .lanes import Integers, Lane, Pass, Vector
from .spec import Spec, SpecError, interval, things

#: Receipts kept until they are asked for; the oldest go.
KEPT = 65536

Place = tuple[int, str]


@dataclass
class Row:
    """A request under way."""

    spec: Spec
    slot: int
    prompt: int
    cached: int
    lanes: dict[int, Lane] = field(default_factory=dict)
    fed: int = 0
    #: how far it had come when its receipt was asked for
    told: int = -1
    keys: list[tuple[Place, tuple[int, str, str]]] = field(default_factory=list)


class Steerer:
    """Steering of whatever a worker runs.

    Args:
        layers: decoder layers of the model.
        sites: what may be steered in each.
        width: hidden size.
        dtype, device: of its activations.
    """

    def __init__(self, layers: int, sites: Sequence[str], width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.layers, self.sites, self.width = layers, tuple(sites), width
        self.vectors: dict[str, Vector] = {}
        #: places of the pass under way that something is done at
        self.active: dict[Place, list[Lane]] = {}
        self.tokens = 0
        self._dtype, self._device = dtype, device
        self._rows: dict[str, Row] = {}
        self._lanes: dict[Place, dict[tuple[int, str, str], Lane]] = {}
        self._receipts: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self._free = [1]
        self._slots = 65
        self._reached: Integers = np.zeros(self._slots, dtype=np.int64)
        self._last: Pass | None = None

    @property
    def requests(self) -> Set[str]:
        """Ids of the steered requests under way."""
        return self._rows.keys()

    def join(self, request: str, spec: Spec, prompt: int, cached: int) -> None:
        """A request is read for the first time.

        Raises:
            KeyError: a vector is not there; nothing was changed.
        """
        for edit in spec.edits:
            _ = self.vectors[edit.vector]
        slot = self._free.pop()
        if not self._free:
            self._free.append(slot + 1)
        if slot >= self._slots:
            self._slots *= 2
            self._reached = np.pad(self._reached, (0, self._slots - len(self._reached)))
            for lanes in self._lanes.values():
                for lane in lanes.values():
                    lane.grow(self._slots)
        self._reached[slot] = cached
        row = self._rows[request] = Row(spec, slot, prompt, cached)
        for place, mine in things(spec.edits).items():
            for level, ks in enumerate(mine):
                first = spec.edits[ks[0]]
                key = (level, first.operator, "" if first.operator == "add" else first.vector)
                lane = self._lane(place, key)
                lane.put(slot, interval(first.positions, prompt), self._amount([spec.edits[k] for k in ks]))
                row.lanes |= dict.fromkeys(ks, lane)
                row.keys.append((place, key))

    def _lane(self, place: Place, key: tuple[int, str, str]) -> Lane:
        lanes = self._lanes.setdefault(place, {})
        if key not in lanes:
            vector = self.vectors[key[2]] if key[2] else None
            lanes[key] = Lane(key[1], vector, self.width, self._dtype, self._device, self._slots)
            self._lanes[place] = dict(sorted(lanes.items()))
        return self._lanes[place][key]

    def _amount(self, edits: Sequence[Any]) -> torch.Tensor:
        """What additions add together, in float32, or the coefficient of another operator."""
        if edits[0].operator != "add":
            return torch.tensor([edits[0].coefficient], dtype=torch.float32)
        first, *others = [
            torch.tensor(e.coefficient, dtype=torch.float32) * self.vectors[e.vector].tensors["direction"][0]
            for e in edits
        ]
        for other in others:
            first = first + other
        return first

    def leave(self, request: str) -> None:
        """A request has ended; its receipt stays until it is asked for."""
        row = self._rows.pop(request, None)
        if row is None:
            return
        # a client that has read the answer may ask before the worker hears that it has ended
        if row.spec.nonce and row.told != self._reached[row.slot]:
            self._receipts.setdefault(row.spec.nonce, []).append(self._receipt(request, row))
            while len(self._receipts) > KEPT:
                self._receipts.popitem(last=False)
        for place, key in row.keys:
            lane = self._lanes[place][key]
            lane.clear(row.slot)
            # additions keep their buffer: some request will want that place again
            if not lane.members and key[2]:
                del self._lanes[place][key]
        self._free.append(row.slot)

    def begin(self, requests: Sequence[str], computed: Integers, scheduled: Integers) -> None:
        """Get ready for a forward pass.

        Args:
            requests: in the order of the batch.
            computed: tokens of each that are in the cache.
            scheduled: tokens of each that the pass feeds.
        """
        self.active, self.tokens = {}, int(scheduled.sum())
        if not self._rows:
            return
        slots = np.array([self._rows[r].slot if r in self._rows else 0 for r in requests], dtype=np.int64)
        if not slots.any():
            return
        owner = np.repeat(slots, scheduled)
        starts = np.cumsum(scheduled) - scheduled
        positions = np.arange(self.tokens) - np.repeat(starts - computed, scheduled)
        fresh = positions >= self._reached[owner]
        last = self._last
        same = last is not None and np.array_equal(owner, last.slots) and np.array_equal(fresh, last.fresh)
        tokens = self._last = Pass(owner, positions, fresh, same)
        for place, lanes in self._lanes.items():
            if acting := [lane for lane in lanes.values() if lane.members and lane.prepare(tokens)]:
                self.active[place] = acting
        np.maximum.at(self._reached, slots, computed + scheduled)
        self._reached[0] = 0
        for request, count in zip(requests, scheduled.tolist(), strict=True):
            if request in self._rows:
                self._rows[request].fed += count

    def end(self) -> None:
        """The pass is over: what runs without `begin`, as a warm-up, is left alone."""
        self.active = {}

    def receipts(self, nonces: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Receipts by nonce, of requests that ended and of those under way; one that is complete is given once."""
        wanted = set(nonces)
        found = {n: self._receipts.pop(n) for n in nonces if n in self._receipts}
        for request, row in self._rows.items():
            if row.spec.nonce in wanted:
                found.setdefault(row.spec.nonce, []).append(self._receipt(request, row))
                row.told = int(self._reached[row.slot])
        return found

    def _receipt(self, request: str, row: Row) -> dict[str, Any]:
        reached = int(self._reached[row.slot])
        touches = []
        for k, edit in enumerate(row.spec.edits):
            low, high = interval(edit.positions, row.prompt)
            planned = max(0, min(high, reached) - max(low, row.cached))
            observed = int(row.lanes[k].touched[row.slot])
            touches.append(
                {"layer": edit.layer, "site": edit.site, "operator": edit.operator}
                | {"planned": planned, "observed": observed}
            )
        return {
            "request": request,
            "nonce": row.spec.nonce,
            "prompt": row.prompt,
            "cached": row.cached,
            "reached": reached,
            "fed": row.fed,
            "touches": touches,
        }

    def add_vector(self, name: str, tensors: dict[str, torch.Tensor], scalars: dict[str, float]) -> None:
        """Let requests refer to a further vector.

        Raises:
            SpecError: tensors are no matrices of the model's width, or not finite.
        """
        for tensor, values in tensors.items():
            if values.ndim != 2 or not len(values) or values.shape[1] != self.width:
                raise SpecError(
                    f"vector {name!r}: tensor {tensor!r} has shape {list(values.shape)}; the model's hidden size is "
                    f"{self.width}, and a tensor has shape [rows, {self.width}]"
                )
            if not torch.isfinite(values).all():
                raise SpecError(f"vector {name!r}: numbers of its tensor {tensor!r} are not finite")
        if not tensors:
            raise SpecError(f"vector {name!r} has no tensor")
        on_device = {n: t.to(device=self._device, dtype=torch.float32).contiguous() for n, t in tensors.items()}
        self.vectors[name] = Vector(on_device, scalars)
