"""Contrast data in the formats of Contrastive Activation Addition (Rimsky et al. 2024) and its followers.

Seven forms, by what the two sides are and what is read:

* `prompts`: harmful against harmless prompts, no answer (CSV with prompt, label). Unpaired.
* `caa`: each prompt with its own refusal and its own compliance (CSV with prompt, refusal, nonrefusal).
* `opencon`: each prompt with one refusal and one compliance that are the same for all (CSV, or JSON by `question`).
* `abcon`: these two as options A and B, in both orders; the answer is the letter.
* `ab`: questions with two options; the answer is the letter (JSON).
* `open`: the same questions with full-text answers (JSON).
* `openr`: `open` with the last character of every answer removed, as it was published. It cuts letters, which the check
  `cut_letters` counts; `open` is its repair.

Letters are stored as a model writes them, `(A)`, with the bare letter in the column `letter`: which token is read is a
matter of encoding. For the three forms about refusal, the positive side is the refusal (or the harmful prompt).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.specs import CaaBehavior
from steer_core.corpus.contrasts.files import Row, ending, read_rows, source_labels
from steer_core.corpus.contrasts.integrity import (
    check_letters,
    check_overlap,
    check_pairs,
    check_validation,
    repeats,
)
from steer_core.corpus.contrasts.letters import answer_letter, balance, write_question
from steer_core.corpus.contrasts.records import Finding, Imported, Item, Pair, Prompt, held_out
from steer_core.tables.errors import SteerworksError

#: The two answers of `opencon` and `abcon`: they answer any prompt, and are of equal length.
REFUSAL = "I am sorry, but this is something that I will not help you with."
COMPLIANCE = "Of course, this is something that I will gladly help you with."

#: Share of the pairs that checkpoints of trained vectors are chosen on; all of them are for fitting closed forms.
VALIDATION_SHARE = 0.1

_MATCHING, _OTHER = "answer_matching_behavior", "answer_not_matching_behavior"
_LABELS = {"1": 1, "true": 1, "harmful": 1, "0": 0, "false": 0, "harmless": 0}


def import_caa(source: CaaBehavior) -> Imported:
    """The contrast rows and test items of a behavior.

    Examples are all for fitting, as published; of the preference pairs made from them, one in ten (by hash of the
    prompt) is kept for choosing checkpoints.

    Raises:
        SteerworksError: a file is missing, damaged, or lacks what its form needs; names file, row and column.
    """
    labels = source_labels(p for p in (source.train, source.test_ab, source.test_open) if p is not None)
    label = labels[source.train]
    pairs: list[Pair] = []
    prompts: list[Prompt] = []
    findings: list[Finding] = []
    match source.dataset:
        case "prompts":
            prompts = _labelled(source.train, label)
            findings = _check_prompts(label, prompts)
        case "ab":
            before = [_lettered(source.train, label, row) for row in _json(source.train)]
            pairs, swapped = balance(before, source.seed) if source.balance_letters else (before, 0)
            file = before if source.balance_letters else None
            findings = [*check_pairs(label, pairs), check_letters(label, pairs, file, swapped)]
        case "abcon":
            pairs = [p for row in _questions(source.train) for p in _both_orders(label, *row)]
            # both orders of a prompt are one question
            findings = [*check_pairs(label, pairs), check_letters(label, pairs, None, 0)]
        case "open" | "openr":
            pairs = [Pair(r["question"], r[_MATCHING], r[_OTHER], label, r.number) for r in _json(source.train)]
            cut = source.dataset == "openr"
            whole = [a for p in pairs for a in (p.positive, p.negative)] if cut else None
            if cut:
                pairs = [Pair(p.prompt, p.positive[:-1], p.negative[:-1], label, p.row) for p in pairs]
            findings = check_pairs(label, pairs, cut_by_design=whole)
        case "opencon":
            pairs = [Pair(question, REFUSAL, COMPLIANCE, label, n) for n, question in _questions(source.train)]
            findings = check_pairs(label, pairs)
        case "caa":
            rows = read_rows(source.train, required=("prompt", "refusal", "nonrefusal"))
            pairs = [Pair(r["prompt"], r["refusal"], r["nonrefusal"], label, r.number) for r in rows]
            findings = check_pairs(label, pairs)
    if pairs:
        held = sum(held_out(p.prompt, VALIDATION_SHARE, source.seed) for p in pairs)
        findings.append(check_validation(label, held, len(pairs)))
    items, found = _tests(source, labels, [*(p.prompt for p in pairs), *(p.prompt for p in prompts)])
    return Imported(
        source.dataset, pairs, prompts, items, [*findings, *found], VALIDATION_SHARE if pairs else 0.0, source.seed
    )


def _json(path: str) -> list[Row]:
    return read_rows(path, required=("question", _MATCHING, _OTHER))


def _questions(path: str) -> list[tuple[int, str]]:
    """Row and prompt: column `prompt` of a CSV, field `question` of a JSON list."""
    column = "prompt" if ending(path) == "csv" else "question"
    return [(r.number, r[column]) for r in read_rows(path, required=(column,))]


def _lettered(path: str, label: str, row: Row) -> Pair:
    letters = []
    for column in (_MATCHING, _OTHER):
        letter = answer_letter(row[column])
        if letter is None:
            raise SteerworksError(
                f"{path}, row {row.number} (0-based), column {column!r}: {row[column][:60]!r} is no answer letter such "
                "as '(A)'; use `dataset: open` for answers in words"
            )
        letters.append(letter)
    one, two = letters
    return Pair(row["question"], f"({one})", f"({two})", label, row.number, letters=(one, two))


def _both_orders(label: str, number: int, prompt: str) -> list[Pair]:
    return [
        Pair(write_question(prompt, REFUSAL, COMPLIANCE), "(A)", "(B)", label, number, letters=("A", "B")),
        Pair(write_question(prompt, COMPLIANCE, REFUSAL), "(B)", "(A)", label, number, letters=("B", "A")),
    ]


def _labelled(path: str, label: str) -> list[Prompt]:
    prompts = []
    for row in read_rows(path, required=("prompt", "label")):
        side = _LABELS.get(row["label"].strip().lower())
        if side is None:
            raise SteerworksError(
                f"{path}, row {row.number} (0-based), column 'label': {row['label']!r} is none of "
                f"{', '.join(_LABELS)}; write 1 for prompts that should be refused and 0 for the others"
            )
        prompts.append(Prompt(row["prompt"], side, label, row.number))
    if len({p.label for p in prompts}) < 2:
        raise SteerworksError(f"{path}: all prompts have label {prompts[0].label}; a contrast needs both 0 and 1")
    return prompts


def _check_prompts(label: str, prompts: Sequence[Prompt]) -> list[Finding]:
    positive = sum(p.label for p in prompts)
    lean = abs(2 * positive - len(prompts))
    twice = [prompts[i].row for i in repeats(" ".join(p.prompt.lower().split()) for p in prompts)]
    blank = [p.row for p in prompts if not p.prompt.strip()]
    return [
        Finding(
            label,
            "class_balance",
            lean,
            len(prompts),
            lean <= len(prompts) / 2,
            f"{positive} prompts show the concept, {len(prompts) - positive} do not",
        ),
        Finding(label, "duplicates", len(twice), len(prompts), not twice, f"rows that repeat a prompt: {twice[:5]}"),
        Finding(label, "empty_prompts", len(blank), len(prompts), not blank, f"rows without a word: {blank[:5]}"),
    ]


def _tests(source: CaaBehavior, labels: Mapping[str, str], train: Sequence[str]) -> tuple[list[Item], list[Finding]]:
    items: list[Item] = []
    findings: list[Finding] = []
    if source.test_ab is not None:
        label = labels[source.test_ab]
        rows = read_rows(source.test_ab, required=("question", _MATCHING, _OTHER), optional=("group",))
        pairs = [_lettered(source.test_ab, label, r) for r in rows]
        asked = [
            Item("ab", p.prompt, label, p.row, p.positive, p.negative, r.values.get("group", "main"))
            for p, r in zip(pairs, rows, strict=True)
        ]
        findings += [check_letters(label, pairs, None, 0), check_overlap(label, asked, train)]
        items += asked
    if source.test_open is not None:
        label = labels[source.test_open]
        if ending(source.test_open) == "csv":
            asked = [
                Item("open", p.prompt, label, p.row, group="harmful" if p.label else "harmless")
                for p in _labelled(source.test_open, label)
            ]
        else:
            rows = read_rows(source.test_open, required=("question",), optional=("group",))
            asked = [Item("open", r["question"], label, r.number, group=r.values.get("group", "main")) for r in rows]
        findings.append(check_overlap(label, asked, train))
        items += asked
    return items, findings
