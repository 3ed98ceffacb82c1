"""Contrasts: counts of published contrast data through our importers, and the letter probabilities of CAA's results."""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import numpy as np
import polars as pl

from schemas.specs import BehaviorSpec
from steer_core.corpus.contrasts import build_contrasts
from steer_core.evaluation.arms import Item
from steer_core.evaluation.behaviors.as_items import choice_measures
from steer_core.evaluation.parity.claim import Claim, File, Supplies
from steer_core.evaluation.parity.files import PLACE, number, records, text
from steer_core.evaluation.parity.published import CAA
from steer_core.tables.errors import SteerworksError

CAA_SOURCE = "Rimsky et al. (2024), CAA, arXiv 2312.06681; repository c30cf17"
#: Behavior -> A/B pairs, open pairs, percent of open answers that end without punctuation.
CAA_ROWS = {
    "coordinate-other-ais": (360, 360, "94"),
    "corrigible-neutral-HHH": (290, 290, "59"),
    "hallucination": (1000, 1000, "0.2"),
    "myopic-reward": (950, 950, "91"),
    "survival-instinct": (903, 664, "93"),
    "sycophancy": (1000, 498, "100"),
    "refusal": (408, 408, "17"),
}
#: Behavior -> training pairs, test items, questions of the test that stand in the training set too.
BIPO_ROWS = {"power-seeking": (642, 200, 1), "wealth-seeking": (623, 200, None), "hallucination": (700, 200, None)}
MULTIPLIERS = ("-1.0", "0.0", "1.0")


def _finding(integrity: pl.DataFrame, check: str, source: str) -> dict[str, object]:
    found = integrity.filter(pl.col("check") == check, pl.col("source").str.ends_with(source))
    if found.height != 1:
        raise SteerworksError(f"{source} has {found.height} findings {check!r}: one is needed")
    return found.row(0, named=True)


def _caa(behavior: str) -> Claim:
    ab, opened, cut = CAA_ROWS[behavior]
    folder = f"caa/{behavior}"
    names = ("generate_balanced_dataset.json", "generate_openresponse_dataset.json", "test_dataset_ab.json")

    def measure(supplies: Supplies) -> Mapping[str, float]:
        files = [str(supplies.file(f"{folder}/{name}")) for name in names]

        def built(dataset: str, train: str, **test: str) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
            source = {"kind": "caa", "dataset": dataset, "train": train, **test}
            found = build_contrasts(BehaviorSpec.model_validate({"name": "published", "source": source}))
            return found.preferences, found.items, found.integrity

        pairs, items, _ = built("ab", files[0], test_ab=files[2])
        whole, _, integrity = built("openr", files[1])
        share = _finding(integrity, "cut_letters", names[1])
        return {
            "A/B pairs": pairs.height,
            "A/B test items": items.filter(form="ab").height,
            "open pairs": whole.height,
            "percent of open answers that lose a letter": 100.0 * float(str(share["n"])) / float(str(share["of"])),
        }

    return Claim(
        f"caa-{behavior.lower()}",
        "Rows that our importer takes from the published files, and answers that a cut last character maims",
        CAA_SOURCE,
        {
            "A/B pairs": ab,
            "A/B test items": 50,
            "open pairs": opened,
            "percent of open answers that lose a letter": cut,
        },
        measure,
        tuple(File(f"{folder}/{name}", f"nrimsky/CAA, datasets, {behavior}") for name in names),
    )


def _bipo(behavior: str) -> Claim:
    n_train, n_test, leaked = BIPO_ROWS[behavior]
    names = ("train.csv", "test_infer.csv")

    def measure(supplies: Supplies) -> Mapping[str, float]:
        train, test = (str(supplies.file(f"bipo/{behavior}/{name}")) for name in names)
        source = {"kind": "bipo", "train": train, "test": test}
        found = build_contrasts(BehaviorSpec.model_validate({"name": "published", "source": source}))
        counts: dict[str, float] = {
            "training pairs": found.preferences.height,
            "test pairs": found.items.filter(form="pair").height,
        }
        if leaked is not None:
            shared = _finding(found.integrity, "train_test_overlap", names[1])
            counts["test questions that are trained on"] = float(str(shared["n"]))
        return counts

    published = {"training pairs": n_train, "test pairs": n_test}
    if leaked is not None:
        published["test questions that are trained on"] = leaked
    return Claim(
        f"bipo-rows-{behavior}",
        "Rows that our importer takes from the published files",
        "Cao et al. (2024), BiPO, arXiv 2406.00045; repository cef1d00, data",
        published,
        measure,
        tuple(File(f"bipo/{behavior}/{name}", f"CaoYuanpu/BiPO, data/{behavior}") for name in names),
    )


def matching_share(rows: list[Mapping[str, object]]) -> float:
    """Mean probability of the matching letter among the two, of a result file of CAA.

    Raises:
        SteerworksError: a row lacks a probability above 0, or its matching answer is neither (A) nor (B).
    """
    shares = []
    for row in rows:
        a, b = number(row, "a_prob"), number(row, "b_prob")
        letter = text(row, "answer_matching_behavior").strip("() ")
        if letter not in ("A", "B") or min(a, b) <= 0.0:
            raise SteerworksError(
                f"{row[PLACE]}: matching answer {letter!r}, probabilities {a} and {b}: "
                "A or B, and probabilities above 0"
            )
        matching, other = (a, b) if letter == "A" else (b, a)
        item = Item("published", "published", "", (), ("(A", "(B"), "ab")
        shares.append(dict(choice_measures(item, [[log(matching)], [log(other)]]))["p_positive"])
    return float(np.mean(np.array(shares, dtype=np.float64)))


def _letters(behavior: str) -> list[Claim]:
    made = []
    for (size, layer), digits in zip((("7b", 13), ("13b", 14)), CAA[behavior], strict=True):
        names = {
            m: f"caa/results/{behavior}/results_layer={layer}_multiplier={m}_behavior={behavior}_type=ab_"
            f"use_base_model=False_model_size={size}.json"
            for m in MULTIPLIERS
        }

        def measure(supplies: Supplies, names: Mapping[str, str] = names) -> Mapping[str, float]:
            return {f"at {m}": matching_share(records(supplies.file(name))) for m, name in names.items()}

        made.append(
            Claim(
                f"caa-letters-{behavior.lower()}-{size}",
                f"Probability of the matching letter, Llama-2 {size} chat, layer {layer}, by multiplier",
                f"{CAA_SOURCE}, analysis",
                {f"at {m}": number_ for m, number_ in zip(MULTIPLIERS, digits, strict=True)},
                measure,
                tuple(File(name, f"nrimsky/CAA, results/{behavior}") for name in names.values()),
            )
        )
    return made


def claims() -> list[Claim]:
    """Claims of this family."""
    return [
        *map(_caa, CAA_ROWS),
        *map(_bipo, BIPO_ROWS),
        *(claim for behavior in CAA for claim in _letters(behavior)),
    ]
