"""Export the vectors of a cell, with a card made from the cell's tables."""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path

import polars as pl

from steer_assets.assets import nodes_of
from steer_assets.io import footer_of, read_published, table_url
from steer_assets.partitions import Cell
from steer_assets.settings import registry, storage_root
from steer_assets.status import node_is_current
from steer_assets.steps import placed
from steer_assets.tables import Work
from steer_core.models.info import layers_of
from steer_core.reports.vector_card import VectorFacts, vector_card
from steer_core.steering.exchange import export_safetensors
from steer_core.steering.vector import from_tables
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.files import write_bytes
from steer_core.tables.folders import new_folder
from steer_core.tables.snapshot import table_exists
from steer_core.vectors.estimators.imported import FILE
from steer_core.vectors.layers import resolve_layers

#: Tables whose digests the card names, those that are there.
NAMED = ("vectors", "vector_tensors", "contrast_examples", "sweep_findings")


def export_vectors(cell: Cell, folder: str | Path, concepts: tuple[str, ...] = ()) -> tuple[Path, tuple[str, ...]]:
    """Write the vectors of a cell to a new folder: one safetensors file, and a card.

    Args:
        cell: model and method.
        folder: where they go.
        concepts: behaviors and goals; none named: all.

    Returns:
        The folder, and what a person should know.

    Raises:
        ConfigError: the method has no vector, or no such concept.
        SteerworksError: nothing is fitted yet.
    """
    if not cell.method.of_kind("vector"):
        raise ConfigError(
            f"{cell.key} has no vector: its method is made of {', '.join(p.kind for p in cell.method.parts)}"
        )
    nodes = nodes_of(cell.bench)
    work = Work(cell.bench, storage_root(), logging.getLogger(__name__), cell)

    def url(name: str) -> str:
        return table_url(work.root, cell.bench.name, name, cell.key if nodes.maker(name).grid else None)

    def read(name: str) -> pl.DataFrame | None:
        contract = nodes.maker(name).outputs[name]
        return placed(read_published(url(name), contract), contract, work) if table_exists(url(name)) else None

    vectors, tensors = read("vectors"), read("vector_tensors")
    if vectors is None or tensors is None:
        raise SteerworksError(f"{cell.key} has no vectors to export yet: steerworks run {cell.method.name}")
    label = next(n for n, p in zip(cell.method.labels(), cell.method.parts, strict=True) if p.kind == "vector")
    own = vectors.filter(pl.col("control") == "", pl.col("part") == label)
    own = of_the_part(own, cell)
    known = own["concept"].unique(maintain_order=True).to_list()
    if wrong := [c for c in concepts if c not in known]:
        raise ConfigError(f"{cell.key} has no vector of {wrong[0]!r}; it has {', '.join(known)}")
    if concepts:
        own = own.filter(pl.col("concept").is_in(list(concepts)))
    findings = read("sweep_findings")
    if not node_is_current(next(n for n in nodes.all if n.name == "behaviors"), work, nodes):
        # figures of other vectors than those in the file are none
        findings = None
    if findings is not None and concepts:
        findings = findings.filter(pl.col("behavior").is_in(list(concepts)))
    footers = {name: footer_of(url(name)) for name in NAMED if table_exists(url(name))}
    facts = VectorFacts(
        bench=cell.bench.name,
        base=cell.model,
        fingerprint=str(own["model"][0]),
        method=cell.method,
        part=label,
        vectors=own,
        findings=findings,
        behaviors=registry().behaviors_of(cell.bench),
        digests={name: footer.content for name, footer in footers.items() if footer is not None},
        version=importlib.metadata.version("steerworks"),
    )
    with new_folder(Path(folder), "the vectors") as aside:
        export_safetensors(from_tables(own, tensors.join(own, on="vector_id", how="semi")), aside / FILE)
        write_bytes(str(aside / "README.md"), vector_card(facts).encode("utf-8"))
    notes = []
    if not node_is_current(next(n for n in nodes.all if n.name == "vectors"), work, nodes):
        notes.append(f"{cell.key} has changed since its vectors were fitted: they are those")
    if findings is None:
        notes.append("its card says that nothing was measured on behaviors: none was swept, or not with these vectors")
    return Path(folder), tuple(notes)


def of_the_part(vectors: pl.DataFrame, cell: Cell) -> pl.DataFrame:
    """Vectors that the first vector part itself steers by: its layers and seed, not what a sweep or a search has."""
    label, spec = next(
        (n, p) for n, p in zip(cell.method.labels(), cell.method.parts, strict=True) if p.kind == "vector"
    )
    part = spec.model_dump(mode="json")
    own = vectors.filter(pl.col("part") == label, pl.col("seed") == part["seed"])
    n_layers = layers_of(cell.model)
    layers = part["layers"] if n_layers is None else resolve_layers(part["layers"], n_layers)
    return own if isinstance(layers, str) else own.filter(pl.col("layer").is_in(list(layers)))
