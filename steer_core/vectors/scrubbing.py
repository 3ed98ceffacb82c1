"""Concept scrubbing through depth (Belrose et al. 2023, section 6): each sublayer's edit is fitted under all before it.

The stream is a sum of what attention and MLPs write. Going down through the layers, the write of each sublayer is read
while every write above it is already edited, an affine edit is fitted on what is read, and joins the chain. So an edit
sees the activations that it will meet, and not those of the untouched model.

Each edit is fitted from a run of the model that stops at its sublayer: 2 L runs of half depth on average. That needs
nothing of a family but where its sublayers write (`steer_core.steering.sites`), and no memory that grows with depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.vector_part import Site
from steer_core.models.loading import LoadedModel
from steer_core.steering.intervention import Intervention
from steer_core.steering.sites import Place
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.evidence import Evidence, Fit, Point
from steer_core.vectors.moments import Moments

#: Sublayers of a decoder layer, in the order that they write.
SUBLAYERS: tuple[Site, ...] = ("attention", "mlp")


@dataclass(frozen=True)
class Reading:
    """A text to fit on.

    Attributes:
        tokens: token ids.
        start, stop: positions whose mean activation is read, end excluded.
        positive: whether it shows the concept.
    """

    tokens: tuple[int, ...]
    start: int
    stop: int
    positive: bool


def scrub(
    loaded: LoadedModel,
    readings: Sequence[Reading],
    concept: str,
    layers: Sequence[int],
    fit: Callable[[Evidence], Fit],
    *,
    multiplier: float = 0.0,
    tokens_per_batch: int = 4096,
) -> list[tuple[Point, Fit]]:
    """Fit an affine edit of every sublayer's write, in the order of depth.

    Args:
        loaded: the model.
        readings: texts of both classes.
        concept: behavior or goal.
        layers: 0-based decoder layers that are edited; the writes of others stay as they are.
        fit: estimator of an affine edit, such as `leace.fit`; it is given second moments.
        multiplier: coefficient that the edits above act with while an edit is fitted: apply them with the same.
        tokens_per_batch: most tokens, padding included, of one forward pass.

    Returns:
        One fit a sublayer. A sublayer whose class means agree within rounding gets none: nothing is to be edited there.

    Raises:
        SteerworksError: the model lacks a layer, or its sublayers are not known; a class is empty, or the class means
            agree at every sublayer.
    """
    from steer_core.steering.hooks import Steering

    vectors: dict[str, SteeringVector] = {}
    steering = Steering(loaded.model, vectors, loaded.fingerprint)
    places = [steering.sites.place(layer, site) for layer in sorted(set(layers)) for site in SUBLAYERS]
    chain: tuple[Intervention, ...] = ()
    found: list[tuple[Point, Fit]] = []
    for place in places:
        sides = Moments(steering.sites.width, second=True), Moments(steering.sites.width, second=True)
        for batch, rows in _read(loaded, steering, place, readings, chain, tokens_per_batch):
            positive = np.array([r.positive for r in batch])
            sides[0].update(rows[positive])
            sides[1].update(rows[~positive])
        point = Point(place.layer, place.site)
        evidence = Evidence(concept, point, sides[0], sides[1])
        if sides[0].n and sides[1].n and not evidence.distinct:
            continue
        edit = fit(evidence)
        vector = SteeringVector(
            concept=concept,
            operator=edit.operator,
            layer=place.layer,
            site=place.site,
            tensors={n: np.asarray(t, dtype=np.float32) for n, t in edit.tensors.items()},
            scalars=edit.scalars,
            model=loaded.fingerprint,
        )
        vectors[vector.id] = vector
        chain += (Intervention(edit.operator, vector.id, place.layer, multiplier, site=place.site),)
        found.append((point, edit))
    if not found:
        raise SteerworksError(
            f"{concept!r}: the class means agree at every sublayer of layers {sorted(set(layers))}, so there is "
            "nothing to scrub; read the examples where their tokens differ"
        )
    return found


class _ReachedError(Exception):
    """Ends a forward pass whose later layers are not needed."""


def _read(
    loaded: LoadedModel,
    steering: Any,
    place: Place,
    readings: Sequence[Reading],
    chain: tuple[Intervention, ...],
    tokens_per_batch: int,
) -> Iterator[tuple[list[Reading], NDArray[np.float32]]]:
    """The write of a sublayer under the chain: batches, and rows of shape [batch, width]."""
    import torch

    kept: list[Any] = []
    for batch in _batches(readings, tokens_per_batch):
        width = len(batch[-1].tokens)
        # padding on the right: no token looks at it, and positions count from 0 in every family
        ids = torch.tensor([[*r.tokens, *[0] * (width - len(r.tokens))] for r in batch], device=loaded.device)
        mask = torch.tensor([[1] * len(r.tokens) + [0] * (width - len(r.tokens)) for r in batch], device=loaded.device)
        span = torch.tensor([[r.start <= t < r.stop for t in range(width)] for r in batch], device=loaded.device)

        def stop(_module: Any, _args: Any, output: Any, span: Any = span) -> None:
            hidden = place.read(output).float()  # [rows, tokens, width]
            kept.append((hidden.where(span[..., None], 0.0).sum(dim=1) / span.sum(dim=1, keepdim=True)).cpu().numpy())
            raise _ReachedError

        handle = place.module.register_forward_hook(stop)
        try:
            with torch.no_grad(), steering.apply([chain] * len(batch), [len(r.tokens) for r in batch]):
                loaded.model(input_ids=ids, attention_mask=mask, use_cache=False)
        except _ReachedError:
            pass
        finally:
            handle.remove()
        yield batch, kept.pop()


def _batches(readings: Sequence[Reading], tokens_per_batch: int) -> Iterator[list[Reading]]:
    """Readings sorted by length, in batches that hold at most so many tokens when padded (at least one reading)."""
    batch: list[Reading] = []
    for reading in sorted(readings, key=lambda r: len(r.tokens)):
        if batch and len(reading.tokens) * (len(batch) + 1) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(reading)
    if batch:
        yield batch
