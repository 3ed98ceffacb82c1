"""Contrast data of your own: a JSONL, JSON, CSV or Parquet file with columns prompt, positive, negative."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.contrasts import SPLITS
from schemas.specs import PairsBehavior
from steer_core.corpus.contrasts.files import Row, read_rows, source_labels
from steer_core.corpus.contrasts.integrity import check_overlap, check_pairs, check_validation
from steer_core.corpus.contrasts.records import Imported, Item, Pair, held_out
from steer_core.tables.errors import SteerworksError

#: Share of the pairs that are for choosing checkpoints, in files that do not say it themselves.
VALIDATION_SHARE = 0.1

_COLUMNS = ("prompt", "positive", "negative")


def import_pairs(source: PairsBehavior) -> Imported:
    """Pairs and test items of a file.

    With a column `split` (train, validation, test) the file decides; test rows become items. Without it, one pair in
    ten, by hash of the prompt, is kept for choosing checkpoints. Rows of `test` give an `open` item each, and a `pair`
    item where both answers are there; a column `group` names the set that they are reported in.

    Raises:
        SteerworksError: a file is missing or damaged, or lacks a value; names file, row and column.
    """
    labels = source_labels(p for p in (source.path, source.test) if p is not None)
    label = labels[source.path]
    rows = read_rows(source.path, required=_COLUMNS, optional=("split", "group"))
    with_split = [r.number for r in rows if "split" in r.values]
    if 0 < len(with_split) < len(rows):
        missing = next(r.number for r in rows if "split" not in r.values)
        raise SteerworksError(
            f"{source.path}, row {missing} (0-based): no value in column 'split', which other rows have; fill it in "
            "everywhere or leave the column out"
        )
    fitted, tested = [], []
    for row in rows:
        split = _split(source, row) if with_split else None
        if split == "test":
            tested.append(row)
            continue
        if split is None:
            split = "validation" if held_out(row["prompt"], VALIDATION_SHARE, source.seed) else "train"
        fitted.append(Pair(row["prompt"], row["positive"], row["negative"], label, row.number, split))
    if not any(p.split == "train" for p in fitted):
        raise SteerworksError(f"{source.path} has no row for fitting: none of its {len(rows)} rows has split `train`")
    findings = check_pairs(label, fitted)
    findings.append(check_validation(label, sum(p.split == "validation" for p in fitted), len(fitted)))
    prompts = [p.prompt for p in fitted]
    items = _items(tested, label)
    if items:
        findings.append(check_overlap(label, items, prompts))
    if source.test is not None:
        extra = _items(
            read_rows(source.test, required=("prompt",), optional=("positive", "negative", "group")),
            labels[source.test],
        )
        findings.append(check_overlap(labels[source.test], extra, prompts))
        items += extra
    return Imported("pairs", fitted, items=items, findings=findings)


def _split(source: PairsBehavior, row: Row) -> str:
    if row["split"] not in SPLITS:
        raise SteerworksError(
            f"{source.path}, row {row.number} (0-based), column 'split': {row['split'][:60]!r} is none of "
            f"{', '.join(SPLITS)}"
        )
    return row["split"]


def _items(rows: Sequence[Row], label: str) -> list[Item]:
    items = []
    for row in rows:
        positive, negative = row.values.get("positive"), row.values.get("negative")
        group = row.values.get("group") or "main"
        items.append(Item("open", row["prompt"], label, row.number, positive, negative, group))
        if positive is not None and negative is not None:
            items.append(Item("pair", row["prompt"], label, row.number, positive, negative, group))
    return items
