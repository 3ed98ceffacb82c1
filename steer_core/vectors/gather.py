"""One pass over activations serves many: every concept, point, labelling and reading listens to the same batches.

1. A tally keeps moments of both classes, by half of the pairs; second moments, paired differences and rows only where
   an estimator needs them. Without rows its memory does not grow with the number of examples.
2. Where the sides of a pair come in different batches, the first waits for the second; `collect(keep_pairs=True)` makes
   that rare.
3. With an activation store the model is run for what the store lacks, and everything is read back from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.digest import digest_json, digest_text
from steer_core.models.loading import LoadedModel
from steer_core.steering.sites import find_sites
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.activations import collect
from steer_core.vectors.encoding import Encoded, Read, encode_examples, template_digest
from steer_core.vectors.evidence import Evidence, Point
from steer_core.vectors.moments import Moments
from steer_core.vectors.reading import Activations
from steer_core.vectors.store import ActivationStore, Subject

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

#: Rows read from a store at a time.
_CHUNK = 1024
_SITE_ORDER = ("attention", "mlp", "residual")


class Listener(Protocol):
    """Something that wants the activations of one concept."""

    @property
    def concept(self) -> str:
        """Whose examples."""

    @property
    def read(self) -> Read:
        """Where they are read."""

    @property
    def points(self) -> Sequence[Point]:
        """Layers and sites."""

    def add(self, point: Point, examples: Ints, rows: Floats) -> None:
        """Take rows [n, width] of some of the concept's examples (places among them), each once."""


@dataclass(frozen=True, eq=False)
class Sides:
    """Labels and pairs of the examples of one concept, in their order.

    Attributes:
        labels: 1 or 0, shape [n].
        pairs: number of the pair, in order of first appearance; negative where an example has no other side, shape [n].
        halves: which half of the data the pair (or example) belongs to, shape [n].
    """

    labels: Ints
    pairs: Ints
    halves: Ints

    @classmethod
    def of(cls, examples: pl.DataFrame, *, halve: bool = True) -> Sides:
        """Sides of the rows of one concept.

        Halves are equally large and go by hash: whatever the source's order goes with (letters that alternate, topics
        in blocks) is in both.
        """
        labels = examples["label"].to_numpy().astype(np.int64)
        names: dict[str, int] = {}
        of_pair = np.array([names.setdefault(p, len(names)) for p in examples["pair_id"]], dtype=np.int64)
        counts = np.zeros((len(names), 2), dtype=np.int64)
        np.add.at(counts, (of_pair, labels), 1)
        paired = (counts == 1).all(axis=1)[of_pair]
        pairs = np.full(len(labels), -1)
        pairs[paired] = np.unique(of_pair[paired], return_inverse=True)[1]
        halves = np.zeros(len(labels), dtype=np.int64)
        if halve:
            keys = np.array([digest_text(f"half:{pair}") for pair in examples["pair_id"]])
            for group in (paired, ~paired & (labels == 1), ~paired & (labels == 0)):
                halves[group] = np.unique(keys[group], return_inverse=True)[1] % 2
        return cls(labels, pairs, halves)


def shuffle_labels(examples: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The examples with labels that say nothing: a control.

    In each concept exactly half of the pairs (chosen by hash) have their sides exchanged, so that what the labels meant
    cancels; labels of unpaired examples are dealt out again by hash.

    Args:
        examples: rows of `schemas.ContrastExamples`.
        seed: another seed exchanges others.

    Raises:
        SteerworksError: a concept has fewer than two pairs or examples of a kind.
    """
    shuffled = examples["label"].to_numpy().astype(np.int64).copy()
    for concept in examples["concept"].unique(maintain_order=True):
        at = np.flatnonzero((examples["concept"] == concept).to_numpy())
        own = examples[at]
        sides = Sides.of(own)
        keys = np.array([digest_text(f"shuffle:{seed}:{pair}") for pair in own["pair_id"]])
        paired = sides.pairs >= 0
        if (not paired.any() and len(at) < 2) or (paired.any() and sides.pairs.max() < 1):
            raise SteerworksError(f"{concept!r} has too few examples to shuffle their labels: at least two pairs")
        ranked = np.unique(keys[paired])
        swapped = np.isin(keys, ranked[: len(ranked) // 2]) & paired
        labels = np.where(swapped, 1 - sides.labels, sides.labels)
        alone = np.flatnonzero(~paired)
        labels[alone] = sides.labels[alone][np.argsort(keys[alone], kind="stable")]
        shuffled[at] = labels
    return examples.with_columns(label=pl.Series(shuffled, dtype=examples.schema["label"]))


@dataclass(eq=False)
class Tally:
    """What the activations of one concept say at some points, under one labelling.

    Attributes:
        concept, read: see `Listener`.
        sides: labels and pairs.
        width: hidden size.
        needs: point -> what is kept there, see `steer_core.vectors.estimator.NEEDS`.
    """

    concept: str
    read: Read
    sides: Sides
    width: int
    needs: dict[Point, frozenset[str]] = field(default_factory=dict)
    _classes: dict[tuple[Point, int, int], Moments] = field(default_factory=dict)
    _differences: dict[tuple[Point, int], Moments] = field(default_factory=dict)
    _waiting: dict[Point, dict[int, tuple[int, Floats]]] = field(default_factory=dict)
    _rows: dict[Point, Floats] = field(default_factory=dict)

    @property
    def points(self) -> Sequence[Point]:
        """Points that are listened to."""
        return list(self.needs)

    @property
    def waiting(self) -> int:
        """Sides that wait for the other one of their pair."""
        return sum(map(len, self._waiting.values()))

    def want(self, point: Point, needs: frozenset[str]) -> None:
        """Listen to a point, and keep at least this there."""
        self.needs[point] = self.needs.get(point, frozenset()) | needs

    def add(self, point: Point, examples: Ints, rows: Floats) -> None:
        """See `Listener`."""
        needs = self.needs[point]
        labels, halves = self.sides.labels[examples], self.sides.halves[examples]
        for half in np.unique(halves):
            for label in np.unique(labels[halves == half]):
                chosen = (halves == half) & (labels == label)
                self._moments(point, int(half), int(label)).update(rows[chosen])
        if needs & {"differences", "difference_covariance"}:
            self._difference(point, examples, rows)
        if "rows" in needs:
            kept = self._rows.setdefault(point, np.empty((len(self.sides.labels), self.width), dtype=np.float32))
            kept[examples] = rows

    def evidence(self, point: Point, half: int | None = None) -> Evidence:
        """What was heard of a point, of all examples or of one half."""
        halves = (0, 1) if half is None else (half,)
        sides = [self._moments(point, halves[0], label) for label in (1, 0)]
        for other in halves[1:]:
            sides = [side + self._moments(point, other, label) for side, label in zip(sides, (1, 0), strict=True)]
        # a half may have no pairs
        parts = [self._differences[point, h] for h in halves if (point, h) in self._differences]
        difference = reduce(add, parts) if parts else None
        rows: list[Floats | None] = [None, None]
        if "rows" in self.needs[point]:
            rows = [self._rows[point][self._order(label, halves)] for label in (1, 0)]
        return Evidence(self.concept, point, sides[0], sides[1], difference, rows[0], rows[1])

    def _order(self, label: int, halves: Sequence[int]) -> Ints:
        """Examples of a class in the order of their pairs."""
        chosen = np.flatnonzero((self.sides.labels == label) & np.isin(self.sides.halves, halves))
        return chosen[np.argsort(self.sides.pairs[chosen], kind="stable")]

    def _moments(self, point: Point, half: int, label: int) -> Moments:
        key = (point, half, label)
        if key not in self._classes:
            self._classes[key] = Moments(self.width, second="covariance" in self.needs[point])
        return self._classes[key]

    def _difference(self, point: Point, examples: Ints, rows: Floats) -> None:
        waiting = self._waiting.setdefault(point, {})
        found: dict[int, list[Floats]] = {0: [], 1: []}
        for example, row in zip(examples.tolist(), rows, strict=True):
            pair = int(self.sides.pairs[example])
            if pair < 0:
                continue
            if pair not in waiting:
                waiting[pair] = (example, row.copy())
                continue
            other, first = waiting.pop(pair)
            positive, negative = (row, first) if self.sides.labels[example] > self.sides.labels[other] else (first, row)
            found[int(self.sides.halves[example])].append(positive - negative)
        for half, differences in found.items():
            if differences:
                second = "difference_covariance" in self.needs[point]
                moments = self._differences.setdefault((point, half), Moments(self.width, second=second))
                moments.update(np.stack(differences))


def gather(
    loaded: LoadedModel,
    examples: pl.DataFrame,
    listeners: Sequence[Listener],
    *,
    keep_pairs: bool = False,
    store: ActivationStore | None = None,
    **options: Any,
) -> int:
    """Run the examples once, and let everybody hear what was asked for.

    Args:
        loaded: the model.
        examples: rows of `schemas.ContrastExamples`.
        listeners: who hears what.
        keep_pairs: see `collect`.
        store: where activations are kept and looked up.
        **options: of `collect`.

    Returns:
        How many token sequences of examples were read, readings counted apart.

    Raises:
        SteerworksError: an example cannot be encoded, or a point does not exist.
    """
    reads = list(dict.fromkeys(listener.read for listener in listeners))
    points = sorted({p for listener in listeners for p in listener.points}, key=_depth)
    encoded = encode_examples(loaded, examples, reads)
    names = {c: k for k, c in enumerate(examples["concept"].unique(maintain_order=True))}
    concepts = np.array([names[c] for c in examples["concept"]], dtype=np.int64)
    # place of each row among the examples of its concept
    places = np.zeros(len(concepts), dtype=np.int64)
    for k in range(len(names)):
        places[concepts == k] = np.arange((concepts == k).sum())
    run: Callable[..., Iterator[Activations]] = collect if store is None else _Stored(store, examples, reads).collect
    everything = [one for read in reads for one in encoded[read]]
    for batch in run(loaded, everything, points, keep_pairs=keep_pairs, **options):
        reading, rows = np.divmod(batch.indices, len(examples))
        for listener in listeners:
            chosen = (reading == reads.index(listener.read)) & (concepts[rows] == names[listener.concept])
            if chosen.any():
                for point in listener.points:
                    listener.add(point, places[rows[chosen]], batch.rows[point][chosen])
    return len(everything)


@dataclass(frozen=True, eq=False)
class _Stored:
    """`collect` through a store."""

    store: ActivationStore
    examples: pl.DataFrame
    reads: Sequence[Read]

    def collect(
        self, loaded: LoadedModel, encoded: Sequence[Encoded], points: Sequence[Point], **options: Any
    ) -> Iterator[Activations]:
        model = digest_json([loaded.fingerprint, str(loaded.model.dtype)])
        ids, template = tuple(self.examples["example_id"]), template_digest(loaded)
        subjects = [Subject(model, template, read, ids) for read in self.reads]
        n, width = len(ids), find_sites(loaded.model).width
        for k, subject in enumerate(subjects):
            if missing := self.store.missing(subject, points):
                with ExitStack() as stack:
                    arrays = stack.enter_context(self.store.writing(subject, missing, width))
                    for batch in collect(loaded, encoded[k * n : (k + 1) * n], missing, **options):
                        for point in missing:
                            arrays[point][batch.indices] = batch.rows[point]
        for k, subject in enumerate(subjects):
            kept = {point: self.store.read(subject, point) for point in points}
            for start in range(0, n, _CHUNK):
                some = np.arange(start, min(start + _CHUNK, n))
                yield Activations(k * n + some, {point: np.array(rows[some]) for point, rows in kept.items()})


def _depth(point: Point) -> tuple[int, int]:
    return point.layer, _SITE_ORDER.index(point.site)
