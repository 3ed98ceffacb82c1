"""Activations of contrast examples: only the positions that are read, only as deep as the last layer that is asked for.

What a forward pass computes and keeps is in `steer_core.vectors.reading`; which sequences share a row, in
`steer_core.vectors.packing`. Prompts shared by the sides of a pair are computed once where that saves work. Whether a
model gives the same activations for such packed rows is measured on the longest ones, not assumed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from steer_core.models.loading import LoadedModel
from steer_core.steering.sites import Place, find_sites
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.encoding import Encoded
from steer_core.vectors.evidence import Point
from steer_core.vectors.packing import Row, TokenSequence, batches_of, packed_row, plain_rows, shared_prefix, units_of
from steer_core.vectors.reading import Activations, run_batch

Floats = NDArray[np.float32]
log = logging.getLogger(__name__)

#: Tokens of one forward pass, padding included: on a CPU what stays in its caches, elsewhere what fills the device.
TOKENS_PER_BATCH = {"cpu": 1024, "other": 8192}
#: Largest distance of packed from plain activations, relative to their norm, that counts as rounding.
TOLERANCE = {"torch.float64": 1e-5, "torch.float32": 1e-5, "torch.bfloat16": 3e-2, "torch.float16": 5e-3}


def collect(
    loaded: LoadedModel,
    encoded: Sequence[Encoded],
    points: Sequence[Point],
    *,
    tokens_per_batch: int | None = None,
    share_prefix: bool | None = None,
    keep_pairs: bool = False,
) -> Iterator[Activations]:
    """Activations of the examples, batch by batch; every example comes once.

    Args:
        loaded: the model.
        encoded: what is run; readings of the same tokens share their pass.
        points: layers and sites.
        tokens_per_batch: most tokens, padding included, of one forward pass; None: by the device.
        share_prefix: None: compute common prefixes of pairs once where that pays and the model allows it; True:
            wherever there are any; False: never.
        keep_pairs: the sides of a pair come in one batch, so that differences can be taken at once.

    Raises:
        SteerworksError: a point that the model lacks, an activation that is not finite, or `share_prefix=True` on a
            model whose activations change with it.
    """
    if not points:
        raise SteerworksError("no layer is asked for: there is nothing to read")
    places = {point: find_sites(loaded.model).place(point.layer, point.site) for point in dict.fromkeys(points)}
    plain: list[list[Row]] = []
    packed: list[list[Row]] = []
    for unit, prefix in _layout(loaded, units_of(encoded), places, share_prefix):
        if prefix:
            packed.append([packed_row(unit, prefix)])
        elif keep_pairs:
            plain.append(plain_rows(unit))
        else:
            plain.extend([row] for row in plain_rows(unit))
    for blocks in (packed, plain):
        for batch in batches_of(blocks, tokens_per_batch or _budget(loaded)):
            yield run_batch(loaded, batch, places)


def letter_logits(
    loaded: LoadedModel,
    encoded: Sequence[Encoded],
    points: Sequence[Point],
    tokens: NDArray[np.int64],
    *,
    tokens_per_batch: int | None = None,
) -> Iterator[Activations]:
    """Activations with the logits of some next tokens, from full forward passes with the head where it is read alone.

    Args:
        loaded: the model.
        encoded: what is run; each reads one token.
        points: layers and sites.
        tokens: ids whose logits are wanted of each example, shape [examples, k].
        tokens_per_batch: as `collect`.

    Raises:
        SteerworksError: as `collect`, or an example that reads a span.
    """
    for one in encoded:
        if one.stop - one.start != 1:
            raise SteerworksError(f"contrast example {one.example_id}: logits are read at one token, not over a span")
    places = {point: find_sites(loaded.model).place(point.layer, point.site) for point in dict.fromkeys(points)}
    blocks = [[row] for unit in units_of(encoded) for row in plain_rows(unit)]
    for batch in batches_of(blocks, tokens_per_batch or _budget(loaded)):
        yield run_batch(loaded, batch, places, tokens)


def _budget(loaded: LoadedModel) -> int:
    return TOKENS_PER_BATCH["cpu" if loaded.device == "cpu" else "other"]


def _layout(
    loaded: LoadedModel, units: Sequence[list[TokenSequence]], places: Mapping[Point, Place], share: bool | None
) -> Iterator[tuple[list[TokenSequence], int]]:
    """Units with the length of the prefix that they share in a packed row; 0: plain rows."""
    width = find_sites(loaded.model).width
    prefixes = [0 if share is False else shared_prefix(unit, width, always=bool(share)) for unit in units]
    packed = [(u, p) for u, p in zip(units, prefixes, strict=True) if p]
    if packed:
        # the longest sequence shows a sliding window, the longest row everything else
        tried = {
            id(pair): pair
            for pair in (
                max(packed, key=lambda pair: max(len(s.tokens) for s in pair[0])),
                max(packed, key=lambda pair: len(packed_row(*pair).ids)),
            )
        }
        why = next(filter(None, (_packing_failure(loaded, *pair, places) for pair in tried.values())), "")
        if why and share:
            raise SteerworksError(f"model {loaded.spec.name!r} cannot share the prompts of a pair: {why}")
        if why:
            log.warning("model %r: prompts of a pair are computed for each side: %s", loaded.spec.name, why)
            prefixes = [0] * len(units)
    yield from zip(units, prefixes, strict=True)


def _packing_failure(
    loaded: LoadedModel, unit: Sequence[TokenSequence], prefix: int, places: Mapping[Point, Place]
) -> str:
    """Why packed rows do not give what plain ones give; empty where they do."""
    want = run_batch(loaded, plain_rows(unit), places)
    try:
        found = run_batch(loaded, [packed_row(unit, prefix)], places)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, SteerworksError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    order, other = np.argsort(want.indices), np.argsort(found.indices)
    tolerance = TOLERANCE[str(loaded.model.dtype)]
    for point in places:
        a, b = want.rows[point][order], found.rows[point][other]
        distance = float((np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(a, axis=1), 1e-30)).max())
        # not `distance > tolerance`: a NaN is a failure too
        if not distance <= tolerance:
            return f"activations of layer {point.layer} ({point.site}) differ by {distance:.2g} of their norm"
    return ""
