"""Preference data in the format of BiPO (Cao et al. 2024): CSV with question, matching, not_matching.

Fields may hold line breaks inside quotes. Test files come in two layouts: the same columns, or question, A, B and the
letter of the matching option.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from schemas.specs import BipoBehavior
from steer_core.corpus.contrasts.files import columns_of, read_rows, source_labels
from steer_core.corpus.contrasts.integrity import check_letters, check_overlap, check_pairs, check_validation
from steer_core.corpus.contrasts.letters import write_question
from steer_core.corpus.contrasts.records import Finding, Imported, Item, Pair, held_out
from steer_core.tables.errors import SteerworksError


def import_bipo(source: BipoBehavior) -> Imported:
    """Training and validation pairs, and test items.

    A share of train.csv (by hash of the question) is kept for choosing checkpoints, so that test items never are. A
    test row with options gives three items: `ab` (the letters), `pair` (the two full answers) and `open` (the question
    alone, with the two answers as examples for a judge). A test row without options gives the last two.

    Raises:
        SteerworksError: a file is missing or damaged, or a letter names no option; names file, row and column.
    """
    labels = source_labels(p for p in (source.train, source.test) if p is not None)
    label = labels[source.train]
    rows = read_rows(source.train, required=("question", "matching", "not_matching"))
    pairs = [Pair(r["question"], r["matching"], r["not_matching"], label, r.number) for r in rows]
    pairs = [
        replace(p, split="validation") if held_out(p.prompt, source.validation_share, source.seed) else p for p in pairs
    ]
    findings = check_pairs(label, pairs)
    findings.append(check_validation(label, sum(p.split == "validation" for p in pairs), len(pairs)))
    items: list[Item] = []
    if source.test is not None:
        items, found = _tests(source.test, labels[source.test], [p.prompt for p in pairs])
        findings += found
    return Imported("bipo", pairs, items=items, findings=findings)


def _tests(path: str, label: str, train: Sequence[str]) -> tuple[list[Item], list[Finding]]:
    if "not_matching" in columns_of(path):
        rows = read_rows(path, required=("question", "matching", "not_matching"))
        pairs = [Pair(r["question"], r["matching"], r["not_matching"], label, r.number) for r in rows]
        items = _worded(pairs)
        return items, [check_overlap(label, items, train), *check_pairs(label, pairs)]
    pairs, asked = [], []
    for row in read_rows(path, required=("question", "A", "B", "matching")):
        letter = row["matching"].strip().strip("()")
        if letter not in ("A", "B"):
            raise SteerworksError(
                f"{path}, row {row.number} (0-based), column 'matching': {row['matching'][:60]!r} names none of the "
                "options A and B"
            )
        other = "B" if letter == "A" else "A"
        pairs.append(Pair(row["question"], row[letter], row[other], label, row.number, letters=(letter, other)))
        question = write_question(row["question"], row["A"], row["B"])
        asked.append(Item("ab", question, label, row.number, f"({letter})", f"({other})"))
    items = [*asked, *_worded(pairs)]
    unlettered = [replace(p, letters=None) for p in pairs]
    return items, [
        check_letters(label, pairs, None, 0),
        check_overlap(label, items, train),
        *check_pairs(label, unlettered),
    ]


def _worded(pairs: Sequence[Pair]) -> list[Item]:
    return [Item(form, p.prompt, p.source, p.row, p.positive, p.negative) for form in ("pair", "open") for p in pairs]
