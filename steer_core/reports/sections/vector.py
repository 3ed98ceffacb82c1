"""What the page says of the vectors: what was fitted, what it was fitted on, and the proof that it was applied."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from steer_core.generation.receipts import check_receipts
from steer_core.reports.drawing import Figure
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import number, plural, slug_words
from steer_core.reports.sections import Section
from steer_core.reports.sections._doses import (
    ContrastRow,
    DoseRow,
    contrast_rows,
    dose_caveats,
    dose_rows,
    dosed_share,
)
from steer_core.reports.sweeps import Sweep
from steer_core.reports.vector_plots import (
    MOST_CONCEPTS,
    MOST_COSINE_PANELS,
    MOST_MAPS,
    activations_figure,
    cosines_figure,
    dose_figure,
    real_cosines,
)
from steer_core.steering.vector import from_tables
from steer_core.vectors.algebra import compare
from steer_core.vectors.transferring import OPERATION

#: Tables of which each part has rows of its own.
PER_PART = ("vectors", "activation_map", "dose_response")
#: Operators whose vectors are directions, and so have cosines; the others are maps.
DIRECTIONS = ("add", "add_norm_preserving", "ablate")
#: Cosine of the directions of two halves of the data below which there is hardly a direction.
RELIABLE = 0.3
#: Vectors from which the page folds away those of layers that no behavior steers.
MOST_ROWS = 12


@dataclass(frozen=True)
class ReceiptRow:
    """Receipts of one table: steered responses, those with a receipt, those whose receipt does not hold or is empty."""

    where: str
    steered: int
    receipts: int
    wrong: int
    untouched: int = 0


@dataclass(frozen=True)
class VectorSection:
    """The vectors of a cell on the page.

    Attributes:
        how: estimator, where it reads and operator, where all vectors share them; else empty, and the table says it.
        moved: which model they were fitted on, where it is another; else empty.
        rows: rows of `vectors` without controls, with `relative`: norm over the mean activation norm. Where there are
            many, those of the layers that the behaviors steer; the others are in `more_rows`.
        more_rows: the rest, which the page folds away.
        seeds: whether they were fitted with several seeds, so that the table has to say which.
        controls: what was fitted as a control, in words.
        left_out: what the figures leave to the tables.
        doses: a row a goal; empty where no dose-response was measured.
        contrasts: a row a goal: where its contrast pairs come from, or why it has none.
        dosed: how many requests got a dose, in words.
        integrity: rows of `data_integrity`, failed checks first.
        n_failed: checks that did not pass.
        receipts: a row a table with steered responses.
        label: of the part, where the method has several.
        suffix: of anchors and figures.
    """

    how: str
    moved: str
    rows: tuple[dict[str, Any], ...]
    more_rows: tuple[dict[str, Any], ...]
    seeds: bool
    controls: str
    left_out: tuple[str, ...]
    doses: tuple[DoseRow, ...]
    contrasts: tuple[ContrastRow, ...]
    dosed: str
    integrity: tuple[dict[str, Any], ...]
    n_failed: int
    receipts: tuple[ReceiptRow, ...]
    label: str = ""
    suffix: str = ""


def sections(tables: CellTables, swept: Sequence[Sweep]) -> list[Section]:
    """A section for each vector part of a cell; none where the method has none."""
    vectors = filled(tables.fitted.get("vectors"))
    if vectors is None:
        return []
    labels = vectors["part"].unique(maintain_order=True).to_list()
    found = []
    for k, label in enumerate(labels):
        own = {n: rows.filter(pl.col("part") == label) for n in PER_PART if (rows := tables.fitted.get(n)) is not None}
        content, figures = vector_section(replace(tables, fitted={**tables.fitted, **own}), swept)
        assert content is not None
        # the first keeps the plain names, so that links to it stay what they were
        suffix = f"_{k + 1}" if k else ""
        content = replace(content, label=label if len(labels) > 1 else "", suffix=suffix)
        figures = tuple(replace(f, name=f"{f.name}{suffix}") for f in figures)
        title = f" ({label})" if len(labels) > 1 else ""
        links = [(f"vectors{suffix}", f"Vectors{title}"), (f"dose{suffix}", f"Strength and movement{title}")]
        if not k:
            links.append(("evidence", "Data and receipts"))
        found.append(Section("vectors.html.jinja", content, tuple(links), figures))
    return found


def vector_section(tables: CellTables, swept: Sequence[Sweep]) -> tuple[VectorSection | None, tuple[Figure, ...]]:
    """The vectors of a cell with their figures; None and no figures where the method has no vector."""
    vectors, doses = filled(tables.fitted.get("vectors")), filled(tables.fitted.get("dose_response"))
    if vectors is None:
        return None, ()
    real = vectors.filter(pl.col("control") == "")
    cosines, activations = cosines_of(tables.fitted), filled(tables.fitted.get("activation_map"))
    concepts = list(dict.fromkeys([*(s.behavior for s in swept), *real["concept"]]))
    steered = {layer for s in swept if s.layers for layer in json_layers(s.layers)}
    figures = [cosines_figure(cosines), activations_figure(activations, concepts, steered), dose_figure(doses)]
    place = {concept: i for i, concept in enumerate(concepts)}
    ordered = sorted(real.to_dicts(), key=lambda r: (place[r["concept"]], r["layer"], r["site"], r["seed"]))
    rows = [row | {"relative": _relative(row)} for row in ordered]
    layers = set(real["layer"])
    shown = steered & layers if real.height > MOST_ROWS and steered & layers else layers
    integrity = filled(tables.data_integrity)
    checks = [] if integrity is None else integrity.sort("passed", "concept", "source", "check").to_dicts()
    return (
        VectorSection(
            how=_how(real),
            moved=_moved(real),
            rows=tuple(row for row in rows if row["layer"] in shown),
            more_rows=tuple(row for row in rows if row["layer"] not in shown),
            seeds=real["seed"].n_unique() > 1,
            controls=_controls(vectors),
            left_out=_left_out(cosines, activations),
            doses=() if doses is None else tuple(dose_rows(doses)),
            contrasts=contrast_rows(tables),
            dosed=dosed_share(tables),
            integrity=tuple(checks),
            n_failed=sum(not row["passed"] for row in checks),
            receipts=tuple(_receipts(tables)),
        ),
        tuple(figures),
    )


def cosines_of(fitted: Mapping[str, pl.DataFrame]) -> pl.DataFrame | None:
    """Cosines of the real vectors with one another, layer by layer; None where there is nothing to compare."""
    vectors, tensors = fitted["vectors"], fitted.get("vector_tensors")
    if tensors is None:
        return filled(fitted.get("vector_cosines"))
    directed = vectors.filter((pl.col("control") == "") & pl.col("operator").is_in(DIRECTIONS))
    if directed.height < 2:
        return None
    return compare(from_tables(directed, tensors.join(directed, on="vector_id", how="semi")))


def _how(vectors: pl.DataFrame) -> str:
    kinds = vectors.select("estimator", "read", "operator").unique().rows()
    if len(kinds) > 1:
        return ""
    estimator, read, operator = (slug_words(str(word)) for word in kinds[0])
    return f"Fitted by {estimator}, read at {read}, applied by {operator}."


def _moved(vectors: pl.DataFrame) -> str:
    """That vectors were fitted on another model, and what that says."""
    lineages = [json.loads(own) for own in vectors["lineage"]]
    sources = [str(own.get("source", own["source_model"])) for own in lineages if own.get("operation") == OPERATION]
    if not sources:
        return ""
    return (
        f"Fitted on {' and '.join(dict.fromkeys(sources))}, another model of the same width and as many layers, and "
        "carried over: that both share their spaces is a claim, and what they do here is what was measured here."
    )


def json_layers(layers: str) -> list[int]:
    """Layers from their JSON."""
    return [int(layer) for layer in json.loads(layers)]


def _relative(row: dict[str, Any]) -> float | None:
    norm, residual = row["norm"], row["residual_norm"]
    return None if norm is None or not residual else norm / residual


def _controls(vectors: pl.DataFrame) -> str:
    kinds = (
        vectors.filter(pl.col("control") != "")
        .with_columns(kind=pl.col("control").str.split(":").list.first())
        .group_by("kind")
        .len()
        .sort("kind")
    )
    names = {"shuffled": "fitted on shuffled labels", "random": "drawn at random"}
    said = [f"{plural(n, 'vector')} {names.get(kind, kind)}" for kind, n in kinds.iter_rows()]
    return (
        f"Fitted as controls beside them: {' and '.join(said)}." if said else "No control is among the fitted vectors."
    )


def _left_out(cosines: pl.DataFrame | None, activations: pl.DataFrame | None) -> tuple[str, ...]:
    said = []
    if cosines is not None:
        real = real_cosines(cosines)
        maps, concepts = real.select("layer", "site").n_unique(), real["left"].n_unique()
        if maps > MOST_COSINE_PANELS or concepts > MOST_CONCEPTS:
            said.append(
                f"Cosine maps show {min(maps, MOST_COSINE_PANELS)} of {plural(maps, 'place')} and "
                f"{min(concepts, MOST_CONCEPTS)} of {plural(concepts, 'concept')}; the rest is in the table."
            )
    if activations is not None:
        n = activations.select("concept", "layer", "site").n_unique()
        if n > MOST_MAPS:
            said.append(f"Activations show {MOST_MAPS} of {plural(n, 'map')}; the rest is in the table.")
    return tuple(said)


def _receipts(tables: CellTables) -> list[ReceiptRow]:
    found = []
    for where, responses in (("probe", tables.responses), ("behaviors", filled(tables.sweep_responses))):
        if responses is None:
            continue
        count = check_receipts(responses)
        if count.steered or count.wrong:
            found.append(ReceiptRow(where, count.steered, count.receipts, len(count.wrong), count.untouched))
    return found


def caveats(tables: CellTables, concepts: Sequence[str]) -> tuple[str, ...]:
    """Goals that their vector moves the wrong way or not at all, and concepts of which there is hardly a direction."""
    return (*dose_caveats(tables, concepts), *_unreliable(tables, concepts))


def _unreliable(tables: CellTables, concepts: Sequence[str]) -> list[str]:
    vectors = filled(tables.fitted.get("vectors"))
    if vectors is None:
        return []
    said = []
    labels = vectors["part"].unique(maintain_order=True).to_list()
    for concept in concepts:
        for label in labels:
            own = pl.col("part") == label, pl.col("concept") == concept, pl.col("control") == ""
            known = vectors.filter(*own).drop_nulls("reliability")
            if known.height and max(known["reliability"]) < RELIABLE:
                best = number(max(known["reliability"]))
                of_part = f" ({label})" if len(labels) > 1 else ""
                said.append(
                    f"There is hardly a direction of {slug_words(concept)}{of_part}: vectors of two halves of its data "
                    f"have a cosine of {best}."
                )
    return said
