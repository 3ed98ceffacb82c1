"""The importers on published data sets, which are not shipped: their known counts.

Set STEERWORKS_SAMPLE_DATA to a folder with `caa/<behavior>/*.json` and `bipo/power-seeking/*.csv`.
"""

import os
from pathlib import Path

import polars as pl
import pytest

from schemas.specs import BehaviorSpec
from steer_core.corpus.contrasts import build_contrasts

FOLDER = os.environ.get("STEERWORKS_SAMPLE_DATA")
published = pytest.mark.skipif(
    FOLDER is None, reason="STEERWORKS_SAMPLE_DATA is not set: no folder with the published CAA and BiPO files"
)
ROOT = Path(FOLDER or "no-sample-data")


def build(**source):
    return build_contrasts(BehaviorSpec.model_validate({"name": "own", "source": source}))


def finding(found, check: str, source: str) -> dict:
    return found.integrity.row(
        by_predicate=(pl.col("check") == check) & pl.col("source").str.ends_with(source), named=True
    )


def caa(behavior: str, dataset: str):
    folder = ROOT / "caa" / behavior
    train = "generate_balanced_dataset.json" if dataset == "ab" else "generate_openresponse_dataset.json"
    return build(
        kind="caa",
        dataset=dataset,
        train=str(folder / train),
        test_ab=str(folder / "test_dataset_ab.json"),
        test_open=str(folder / "test_dataset_open_ended.json"),
    )


@published
@pytest.mark.parametrize(
    ("behavior", "n", "cut"), [("coordinate-other-ais", 360, 0.94), ("corrigible-neutral-HHH", 290, 0.59)]
)
def test_caa_files_have_their_known_counts(behavior, n, cut):
    ab = caa(behavior, "ab")
    assert ab.examples.height == 2 * n
    balance = finding(ab, "letter_balance", "generate_balanced_dataset.json")
    assert (balance["n"], balance["of"]) == (0, n)
    assert f"in the file A {n // 2} and B {n // 2}" in balance["detail"]
    assert ab.items.group_by("form").len().sort("form").rows() == [("ab", 50), ("open", 50)]
    opened, cut_open = caa(behavior, "open"), caa(behavior, "openr")
    assert opened.preferences.height == cut_open.preferences.height == n
    share = finding(cut_open, "cut_letters", "generate_openresponse_dataset.json")
    assert share["n"] / share["of"] == pytest.approx(cut, abs=0.005)
    assert finding(opened, "cut_letters", "generate_openresponse_dataset.json")["passed"]


@published
def test_power_seeking_has_its_known_counts_and_one_leaked_test_question():
    folder = ROOT / "bipo" / "power-seeking"
    found = build(kind="bipo", train=str(folder / "train.csv"), test=str(folder / "test_infer.csv"))
    assert found.preferences.height == 642
    assert found.items.group_by("form").len().sort("form").rows() == [("ab", 200), ("open", 200), ("pair", 200)]
    leaked = finding(found, "train_test_overlap", "test_infer.csv")
    assert (leaked["n"], leaked["of"], leaked["passed"]) == (1, 200, False)
    assert (
        found.preferences["rejected"].str.contains("\n").any()
        or found.preferences["messages"].str.contains(r"\\n").any()
    )


@published
def test_the_matching_letter_of_power_seeking_names_the_matching_text():
    folder = ROOT / "bipo" / "power-seeking"
    lettered = build(kind="bipo", train=str(folder / "train.csv"), test=str(folder / "test_infer.csv"))
    worded = build(kind="bipo", train=str(folder / "train.csv"), test=str(folder / "test.csv"))
    columns = ["messages", "positive", "negative"]
    assert lettered.items.filter(form="pair").select(columns).equals(worded.items.filter(form="pair").select(columns))
