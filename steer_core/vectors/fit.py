"""Fit steering vectors: one pass over the activations of contrast examples serves all layers, concepts and estimators.

Estimators that train on the model take preference pairs instead, and run it themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from schemas.digest import digest_json
from schemas.vector_part import VectorPart
from steer_core.models.loading import LoadedModel
from steer_core.steering.operators import load_operator
from steer_core.steering.sites import find_sites
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.encoding import Read, fitting, pairs_of, template_digest
from steer_core.vectors.estimator import Estimator, load_estimator
from steer_core.vectors.evidence import Evidence, Fit, Point
from steer_core.vectors.gather import Sides, Tally, gather
from steer_core.vectors.gather import shuffle_labels as with_shuffled_labels
from steer_core.vectors.layers import resolve_layers
from steer_core.vectors.letters import letter_evidence
from steer_core.vectors.store import ActivationStore

_logger = logging.getLogger(__name__)

Log = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Job:
    """One estimator on one labelling of the examples.

    Attributes:
        part: estimator, options, site, reading.
        layers: 0-based layers; None: the part's.
        seed: of estimators that draw; None: the part's.
        shuffle: seed of shuffled labels; None: the labels as they are.
        concepts: whose vectors are fitted; None: all concepts of the examples.
    """

    part: VectorPart
    layers: tuple[int, ...] | None = None
    seed: int | None = None
    shuffle: int | None = None
    concepts: tuple[str, ...] | None = None


def fit_vectors(
    loaded: LoadedModel,
    examples: pl.DataFrame,
    part: VectorPart,
    *,
    shuffle_labels: int | None = None,
    halves: bool = True,
    store: ActivationStore | None = None,
    log: Log | None = None,
) -> list[SteeringVector]:
    """One vector for each concept and layer.

    Args:
        loaded: the model.
        examples: rows of `schemas.ContrastExamples`; split `train` is fitted on, `validation` chooses the checkpoint of
            estimators that train, `test` is never looked at.
        part: estimator, options, layers, site, reading.
        shuffle_labels: seed of shuffled labels, for a control; None: the labels as they are.
        halves: fit both halves of the data too, for the vector's reliability.
        store: where activations are kept and looked up; None: they are not kept.
        log: told what is done.

    Raises:
        ConfigError: an unknown estimator, option, operator or layer.
        SteerworksError: an example cannot be read, or a concept gives no vector. Pairs that do not fit the model's
            context are left out, and named to `log`.
    """
    return fit_many(loaded, examples, [Job(part, shuffle=shuffle_labels)], halves=halves, store=store, log=log)[0]


def fit_many(
    loaded: LoadedModel,
    examples: pl.DataFrame,
    jobs: Sequence[Job],
    *,
    halves: bool = True,
    store: ActivationStore | None = None,
    log: Log | None = None,
) -> list[list[SteeringVector]]:
    """The vectors of several jobs, from one pass over the activations.

    Args:
        loaded: the model.
        examples: as `fit_vectors`.
        jobs: what is fitted.
        halves: as `fit_vectors`.
        store: as `fit_vectors`.
        log: told what is done.

    Returns:
        The vectors of each job, by concept and layer.

    Raises:
        ConfigError, SteerworksError: as `fit_vectors`.
    """
    told = log or _logger.warning
    run = _Run(loaded, fitting(loaded, examples, told), halves, store, log or (lambda _: None))
    prepared = [run.prepare(job) for job in jobs]
    run.listen()
    return [run.finish(task) for task in prepared]


@dataclass(frozen=True, eq=False)
class _Task:
    """A job with what it listens to."""

    job: Job
    estimator: Estimator
    concepts: tuple[str, ...]
    points: list[Point]
    read: Read
    tallies: dict[str, Tally]


class _Run:
    """One call of `fit_many`: tallies that jobs share, then the fits."""

    def __init__(
        self, loaded: LoadedModel, examples: pl.DataFrame, halves: bool, store: ActivationStore | None, log: Log
    ) -> None:
        self.loaded, self.examples, self.halves, self.store, self.log = loaded, examples, halves, store, log
        self.sites = find_sites(loaded.model)
        self.training = examples.filter(pl.col("split") == "train")
        self.known = tuple(self.training["concept"].unique(maintain_order=True))
        self.template = template_digest(loaded)
        self.tallies: dict[tuple[str, Read, int | None], Tally] = {}
        self.labelled: dict[int | None, pl.DataFrame] = {None: self.training}

    def prepare(self, job: Job) -> _Task:
        estimator = load_estimator(job.part.estimator)
        estimator.check(job.part.options)
        if job.part.operator is not None:
            load_operator(job.part.operator.replace("-", "_"))
        layers = resolve_layers(job.part.layers if job.layers is None else job.layers, len(self.sites.layers))
        points = [Point(layer, job.part.site) for layer in layers]
        concepts = self.known if job.concepts is None else job.concepts
        if missing := sorted(set(concepts) - set(self.known)) or ([] if concepts else ["any concept"]):
            raise SteerworksError(f"there are no training examples of {missing[0]}: nothing to fit a vector on")
        tallies = {}
        if not estimator.needs & {"model", "logits"}:
            for concept in concepts:
                tallies[concept] = self._tally(concept, job.part.read, job.shuffle)
                for point in points:
                    tallies[concept].want(point, estimator.needs)
        return _Task(job, estimator, concepts, points, job.part.read, tallies)

    def listen(self) -> None:
        tallies = list(self.tallies.values())
        if tallies:
            needs = {need for tally in tallies for kept in tally.needs.values() for need in kept}
            wanted = self.training.filter(pl.col("concept").is_in({tally.concept for tally in tallies}))
            together = bool(needs & {"differences", "difference_covariance"})
            n = gather(self.loaded, wanted, tallies, keep_pairs=together, store=self.store)
            self.log(f"read {n} examples at {len({p for tally in tallies for p in tally.points})} points")

    def finish(self, task: _Task) -> list[SteeringVector]:
        found = []
        for concept in task.concepts:
            where = f"{task.estimator.name} of {concept!r}"
            if task.estimator.trains:
                found += self._train(task, concept)
            elif "logits" in task.estimator.needs:
                found += self._fit_letters(task, concept)
            else:
                found += [self._fit(task, concept, point) for point in task.points]
            self.log(f"fitted {where} at {len(task.points)} layers")
        return found

    def _labelled(self, shuffle: int | None) -> pl.DataFrame:
        if shuffle not in self.labelled:
            assert shuffle is not None
            self.labelled[shuffle] = with_shuffled_labels(self.training, shuffle)
        return self.labelled[shuffle]

    def _tally(self, concept: str, read: Read, shuffle: int | None) -> Tally:
        key = (concept, read, shuffle)
        if key not in self.tallies:
            own = self._labelled(shuffle).filter(pl.col("concept") == concept)
            self.tallies[key] = Tally(concept, read, Sides.of(own, halve=self.halves), self.sites.width)
        return self.tallies[key]

    def _fit(self, task: _Task, concept: str, point: Point) -> SteeringVector:
        tally = task.tallies[concept]
        evidence = tally.evidence(point)
        halves = [tally.evidence(point, half) for half in (0, 1)] if self.halves else []
        fit = task.estimator.fit(evidence, task.job.part.options, self._seed(task.job))
        scalars = {
            "positive_share": evidence.positive_share,
            "residual_norm": evidence.residual_norm,
            "difference_norm": float(np.linalg.norm(evidence.mean_difference)),
        }
        return self._vector(task, concept, point, fit, scalars, evidence, self._reliability(task, fit, halves))

    def _fit_letters(self, task: _Task, concept: str) -> list[SteeringVector]:
        own = self._labelled(task.job.shuffle).filter(pl.col("concept") == concept)
        found = []
        for point, (evidence, *halves) in letter_evidence(self.loaded, own, task.points, halves=self.halves).items():
            fit = task.estimator.fit(evidence, task.job.part.options, self._seed(task.job))
            # one class only: there is no share of positives, and no scale between two classes
            scalars = {"residual_norm": evidence.residual_norm}
            reliability = self._reliability(task, fit, halves)
            found.append(self._vector(task, concept, point, fit, scalars, evidence, reliability, "before_letter"))
        return found

    def _train(self, task: _Task, concept: str) -> list[SteeringVector]:
        examples = self.examples.filter(pl.col("concept") == concept, pl.col("split") != "test")
        if task.job.shuffle is not None:
            examples = with_shuffled_labels(examples, task.job.shuffle)
        options = dict(task.job.part.options)
        if "read" in (task.estimator.options or ()):
            options.setdefault("read", task.job.part.read)
        if "positions" in (task.estimator.options or ()):
            options.setdefault("positions", task.job.part.positions)
        trained = task.estimator.module.train(
            self.loaded, pairs_of(examples), examples, concept, task.points, self._seed(task.job), **options
        )
        # preference training reads no activations
        read = str(options.get("read", ""))
        return [self._vector(task, concept, point, fit, {}, examples, None, read) for point, fit in trained]

    def _reliability(self, task: _Task, fit: Fit, halves: Iterable[Evidence]) -> float | None:
        """Cosine of the directions of the halves; None where there is none, or it is drawn, or there are few pairs."""
        if "direction" not in fit.tensors or task.estimator.draws:
            return None
        directions = []
        for evidence in halves:
            if evidence.positive.n < 2 or (evidence.negative.n < 2 and "logits" not in task.estimator.needs):
                return None
            try:
                half = task.estimator.fit(evidence, task.job.part.options, self._seed(task.job))
            except SteerworksError as error:
                self.log(f"no reliability, half of the data gives no vector: {error}")
                return None
            directions.append(np.asarray(half.tensors["direction"][0], dtype=np.float64))
        if len(directions) < 2:
            return None
        norms = np.linalg.norm(directions[0]) * np.linalg.norm(directions[1])
        return float(np.clip(directions[0] @ directions[1] / norms, -1.0, 1.0)) if norms else None

    def _vector(
        self,
        task: _Task,
        concept: str,
        point: Point,
        fit: Fit,
        scalars: dict[str, float],
        counted: Evidence | pl.DataFrame,
        reliability: float | None,
        read: str | None = None,
    ) -> SteeringVector:
        job = task.job
        if isinstance(counted, Evidence):
            n_positive, n_negative = counted.positive.n, counted.negative.n
        else:
            training = counted.filter(pl.col("split") == "train")["label"]
            n_positive, n_negative = int((training == 1).sum()), int((training == 0).sum())
        vector = SteeringVector(
            concept=concept,
            operator=fit.operator,
            layer=point.layer,
            site=point.site,
            tensors={n: np.asarray(t, dtype=np.float32) for n, t in fit.tensors.items()},
            scalars={**scalars, **fit.scalars},
            model=self.loaded.fingerprint,
            estimator=task.estimator.name,
            read=job.part.read if read is None else read,
            template=self.template,
            n_positive=n_positive,
            n_negative=n_negative,
            reliability=reliability,
            control="" if job.shuffle is None else f"shuffled:{job.shuffle}",
            lineage=self._lineage(task, concept, fit),
        )
        if job.part.operator is not None:
            vector = replace(vector, operator=job.part.operator.replace("-", "_"))
        load_operator(vector.operator).check(vector)
        return vector

    def _lineage(self, task: _Task, concept: str, fit: Fit) -> dict[str, Any]:
        own = self.examples.filter(pl.col("concept") == concept, pl.col("split") != "test")
        if not task.estimator.trains:
            own = own.filter(pl.col("split") == "train")
        told = {"examples": digest_json(sorted(own["example_id"])), "part": task.job.part.spec_hash}
        return told | {"options": _without_paths(task.job.part.options), "seed": self._seed(task.job), **fit.lineage}

    def _seed(self, job: Job) -> int:
        return job.part.seed if job.seed is None else job.seed


def _without_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a lineage keeps them: it travels with the vector, and a path means nothing elsewhere."""
    return {
        name: Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value
        for name, value in options.items()
    }
