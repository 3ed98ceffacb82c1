"""Pairs and test items of a described behavior, from its answers that were kept; the yield is a finding."""

from __future__ import annotations

import polars as pl

from schemas.specs import DescribedBehavior
from steer_core.corpus.contrasts.integrity import check_overlap, check_pairs, check_validation
from steer_core.corpus.contrasts.records import Finding, Imported, Item, Pair
from steer_core.tables.errors import SteerworksError

#: Share of the answers that may be refused before it is worth a look.
REFUSED = 0.1
#: Share of the pairs that should be kept.
KEPT = 0.5


def import_described(source: DescribedBehavior, answers: pl.DataFrame, filters: pl.DataFrame) -> Imported:
    """Pairs of kept answers to the fitted questions; test items from the others.

    Args:
        source: the behavior's.
        answers: rows of `trait_answers` of it.
        filters: rows of `trait_filters` of it.

    Raises:
        SteerworksError: fewer than two pairs to fit on were kept; says how many were refused, and who filtered.
    """
    label = f"described:{source.trait}"
    keys = ["question_id", "sample_index"]
    kept = answers.filter("kept")
    sides = [kept.filter(pl.col("side") == side).select(*keys, text="text") for side in (1, 0)]
    asked = kept.filter(pl.col("side") == 1).select(*keys, "question", "split")
    both = asked.join(sides[0].rename({"text": "positive"}), on=keys, how="inner", maintain_order="left").join(
        sides[1].rename({"text": "negative"}), on=keys, how="inner", maintain_order="left"
    )
    rows = list(both.with_row_index("row").iter_rows(named=True))
    pairs = [
        Pair(r["question"], r["positive"], r["negative"], label, r["row"], r["split"])
        for r in rows
        if r["split"] != "test"
    ]
    findings = _yield(label, answers, filters)
    if sum(p.split == "train" for p in pairs) < 2:
        raise SteerworksError(
            f"{sum(p.split == 'train' for p in pairs)} pairs to fit on are left, and two are needed: "
            + "; ".join(f.detail for f in findings)
        )
    known = {r["question"]: r for r in reversed(rows) if r["split"] == "test"}
    tested = answers.filter(pl.col("split") == "test")["question"].unique(maintain_order=True).to_list()
    items: list[Item] = []
    for place, question in enumerate(tested):
        own = known.get(question)
        examples = (own["positive"], own["negative"]) if own is not None else (None, None)
        items.append(Item("open", question, label, place, *examples))
        if own is not None:
            items.append(Item("pair", question, label, place, *examples))
    findings += check_pairs(label, pairs)
    findings.append(check_validation(label, sum(p.split == "validation" for p in pairs), len(pairs)))
    findings.append(check_overlap(label, items, [p.prompt for p in pairs]))
    return Imported("described", pairs, items=items, findings=findings, seed=source.seed)


def _yield(label: str, answers: pl.DataFrame, filters: pl.DataFrame) -> list[Finding]:
    """How much was kept, refused and empty, and whether the two sides differ."""
    n = answers.height
    refused = int((answers["failure"] == "refusal").sum())
    failed = int(answers["failure"].is_not_null().sum()) - refused
    kept = int(answers["kept"].sum())
    found = [
        Finding(
            label, "yield", kept, n, kept >= KEPT * n,
            f"{kept} of {n} answers are kept: on the side that they were asked for, as their partner is",
        ),
        Finding(label, "refusals", refused, n, refused <= REFUSED * n, f"{refused} of {n} answers decline"),
        Finding(label, "no_answer", failed, n, failed <= REFUSED * n, f"{failed} of {n} answers are empty or too long"),
    ]  # fmt: skip
    for row in filters.iter_rows(named=True):
        who = "the judge" if row["filter"] == "judge" else "the instructions"
        tells = row["low"] is not None and row["low"] > 0.5
        told = "says nothing of one side" if row["auroc"] is None else f"AUROC {row['auroc']:.2f}"
        told += "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
        says = "they" if row["filter"] == "instructions" else "it"
        said = f"{who}: {told} between the two sides over {row['n']} answers"
        said += "" if tells else f"; {says} cannot tell them apart, or the model answers no differently"
        said += f"; {'these' if says == 'they' else 'this'} filtered" if row["used"] else "; not used to filter"
        found.append(Finding(label, f"told_apart_by_{row['filter']}", row["n"], n, tells, said))
    return found
