"""All vectors that a vector method needs on a bench: behaviors and goals, further layers and seeds, controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from schemas.contrasts import ContrastExamples
from schemas.specs import SweepSpec
from schemas.vector_part import VectorPart
from schemas.vectors import ActivationMap
from steer_core.models.loading import LoadedModel
from steer_core.steering.sites import find_sites
from steer_core.steering.vector import SteeringVector
from steer_core.vectors.activations import collect
from steer_core.vectors.encoding import encode_examples, fitting
from steer_core.vectors.evidence import Point
from steer_core.vectors.fit import Job, fit_many
from steer_core.vectors.gating import fit_gate
from steer_core.vectors.layers import resolve_layers

#: Examples of a concept that the map of activations shows.
SHOWN = 256


@dataclass(frozen=True)
class CellFit:
    """What a vector cell is made of.

    Attributes:
        vectors: real ones and shuffled controls, for behaviors and goals.
        activation_map: rows of `activation_map`, for behaviors at the part's layers.
    """

    vectors: tuple[SteeringVector, ...]
    activation_map: pl.DataFrame


def fit_cell(
    loaded: LoadedModel,
    behaviors: pl.DataFrame,
    goals: pl.DataFrame,
    part: VectorPart,
    sweep: SweepSpec,
    *,
    condition: pl.DataFrame | None = None,
    log: Callable[[str], None] | None = None,
    label: str = "vector",
    searched: Sequence[int] = (),
) -> CellFit:
    """Fit everything that the probe and the sweep of a vector method use.

    Args:
        loaded: the model.
        behaviors: rows of `contrast_examples` of the bench's behaviors; test examples are left out.
        goals: rows of `contrast_examples` of its goals; a goal without any gets no vector.
        part: the method's vector part.
        sweep: further layers and seeds, and how many controls of shuffled labels the behaviors get.
        condition: rows of `contrast_examples` of the gate's condition, where the part has a gate.
        log: told what is being fitted.
        label: of the part.
        searched: layers that a search steers, whose vectors of behaviors are fitted as well.

    Raises:
        SteerworksError: a concept cannot be fitted; names it.
    """
    main = resolve_layers(part.layers, len(find_sites(loaded.model).layers))
    fitted_on = fitting(loaded, behaviors.filter(pl.col("split") != "test"), log or (lambda _: None))
    # mined answers have no letter, and both sides of a pair share a prompt
    of_goals = part if part.read in ("answer", "last_token", "all") else part.model_copy(update={"read": "answer"})
    contrasted = tuple(goals["concept"].unique(maintain_order=True))
    jobs = [Job(of_goals, layers=main, concepts=contrasted)] if contrasted else []
    if fitted_on.height:
        swept = tuple(fitted_on["concept"].unique(maintain_order=True))
        jobs.append(Job(part, layers=main, concepts=swept))
        further = tuple(dict.fromkeys(layer for layer in (*sweep.layers, *searched) if layer not in main))
        jobs += [Job(part, layers=further, concepts=swept)] if further else []
        jobs += [Job(part, layers=main, seed=seed, concepts=swept) for seed in sweep.seeds if seed != part.seed]
        jobs += [Job(part, layers=main, shuffle=seed, concepts=swept) for seed in range(sweep.shuffled)]
    fitted = fit_many(loaded, pl.concat([fitted_on, goals]), jobs, log=log) if jobs else []
    points = [Point(layer, part.site) for layer in main]
    found = [vector for of_job in fitted for vector in of_job]
    if part.gate is not None:
        # a sublayer runs before the stream after its own layer is known
        sublayer = part.site != "residual" or any(v.site != "residual" for v in found)
        latest = min((*main, *sweep.layers)) - sublayer
        known = ContrastExamples.empty() if condition is None else condition
        found.append(fit_gate(loaded, known, part.gate, latest))
    return CellFit(tuple(found), map_activations(loaded, fitted_on, points, part.read, label))


def map_activations(
    loaded: LoadedModel, examples: pl.DataFrame, points: Sequence[Point], read: Any, label: str = "vector"
) -> pl.DataFrame:
    """Activations of contrast examples in the plane of their two main components, concept by concept.

    Args:
        loaded: the model.
        examples: rows of `contrast_examples`; the first `SHOWN` of each concept are shown.
        points: where activations are read.
        read: positions that are read, as in `VectorPart.read`.
        label: of the part.

    Returns:
        Rows of `activation_map`; none for concepts with fewer than three examples or with one class only.
    """
    rows: list[tuple[Any, ...]] = []
    for (concept,), of_concept in examples.group_by("concept", maintain_order=True):
        chosen = of_concept.head(SHOWN)
        labels = chosen["label"].to_numpy()
        if chosen.height < 3 or len(set(labels.tolist())) < 2:
            continue
        encoded = encode_examples(loaded, chosen, [read])[read]
        at = {p: np.zeros((chosen.height, find_sites(loaded.model).width)) for p in points}
        for batch in collect(loaded, encoded, points):
            for point, found in batch.rows.items():
                at[point][batch.indices] = found
        for point, x in at.items():
            first, second = (axis.tolist() for axis in _components(x).T)
            positive, negative = x[labels == 1].mean(axis=0), x[labels == 0].mean(axis=0)
            difference = positive - negative
            along = ((x - negative) @ difference / max(float(difference @ difference), 1e-30)).tolist()
            ids = chosen["example_id"].to_list()
            rows += [
                (label, concept, point.layer, point.site, ids[i], int(labels[i]), first[i], second[i], along[i])
                for i in range(len(x))
            ]
    return pl.DataFrame(rows, schema=ActivationMap.empty().schema, orient="row")


def _components(x: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores on the two main components, shape [n, 2], each of unit standard deviation; 0 where nothing varies."""
    left, scale, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    scores = left[:, :2] * np.sqrt(len(x))
    varies = scale[:2] > 1e-9 * max(float(scale[0]), 1e-30)
    return np.asarray(scores * varies, dtype=np.float64)
