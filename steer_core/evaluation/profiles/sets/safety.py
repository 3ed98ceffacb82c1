"""Requests of two sides: some look harmful and are not, so that a refusal is one too many; others ask for harm."""

from __future__ import annotations

import polars as pl

from schemas.profile_sets import SafetySet
from steer_core.evaluation.profiles.sets.items import Item, ItemSet, build
from steer_core.evaluation.profiles.sets.reading import Record, read_place

KINDS = ("harmful", "harmless")


def load(spec: SafetySet) -> pl.DataFrame:
    """Items of the set; see `read`."""
    return read(spec).items


def read(spec: SafetySet) -> ItemSet:
    """Items of the set: a request a row, and a second one where the row has a suffix that is meant to break a refusal.

    `group` is the kind (`harmful`, `harmless`), `cluster` the column `cluster` or `topic`, else the request: a request
    and its attack share one. `facts`: `kind`, and `attack` (`plain`, `suffix`).

    Raises:
        SteerworksError: a row has no prompt or kind, or the place cannot be read; names row and place.
    """
    records, source = read_place(
        spec.path, spec.dataset, "safety.csv", config=spec.config, split=spec.split, revision=spec.revision
    )
    items = [item for record in records for item in _items(record)]
    return build("safety", items, source, spec, chat=spec.chat)


def _items(record: Record) -> list[Item]:
    prompt, kind = record.text("prompt"), record.text("kind").strip().lower()
    if kind not in KINDS:
        raise record.error(f"kind is {kind!r}: {' or '.join(KINDS)}")
    suffix = record.label("suffix") or record.label("adversarial")
    cluster = record.label("cluster") or record.label("topic")
    if cluster is None and suffix is not None:
        cluster = prompt
    asked = [("plain", prompt)]
    if suffix is not None and suffix.strip():
        asked.append(("suffix", f"{prompt.rstrip()} {suffix.lstrip()}"))
    return [
        Item(row=record.row, raw=text, cluster=cluster, group=kind, facts={"kind": kind, "attack": attack})
        for attack, text in asked
    ]
