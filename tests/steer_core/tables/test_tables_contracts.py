"""Tables are checked when written and when read; bad rows name column, rule, count and first offender."""

import polars as pl
import pytest

from schemas import CONTRACTS, GoalValues, SeedCorpus
from schemas.digest import digest_text
from steer_core.tables import ContractError, check


def corpus_row(text: str = "a b", **changes: object) -> pl.DataFrame:
    row = {"text_id": digest_text(text), "text": text, "source": "s", "source_row": 0, "n_words": 2, "split": "train"}
    return pl.DataFrame({**row, **changes})


def test_a_good_frame_comes_back_as_it_is():
    frame = corpus_row()
    assert check(frame, SeedCorpus).equals(frame)


def test_a_lazy_frame_is_checked_to_its_values():
    with pytest.raises(ContractError, match="n_words"):
        check(corpus_row(n_words=pl.Series([0], dtype=pl.Int64)).lazy(), SeedCorpus)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (corpus_row().drop("split"), r"missing column 'split'"),
        (corpus_row(extra=1), r"unknown column 'extra'"),
        (corpus_row(text="  "), r"text is blank.*row 0"),
        (corpus_row(source=pl.Series([None], dtype=pl.String)), r"column 'source': 1 null row \(first at row 0\)"),
        (corpus_row(split="both"), r"split.*both"),
        (corpus_row(n_words=pl.Series([2], dtype=pl.Int32)), r"n_words.*Int32"),
        (pl.concat([corpus_row("x y"), corpus_row(), corpus_row()]), r"2 rows share a key \(first at row 1\)"),
    ],
)
def test_each_broken_rule_is_named(frame, said):
    with pytest.raises(ContractError, match=said):
        check(frame, SeedCorpus, where="here.parquet")


def test_nan_is_never_data():
    frame = pl.DataFrame(
        {"text_id": ["a", "b"], "scorer_id": ["s@1"] * 2, "value": [1.0, float("nan")], "state": ["ok"] * 2}
    )
    with pytest.raises(ContractError, match=r"'value': 1 NaN or infinite value \(first at row 1\)"):
        check(frame, GoalValues)


def test_every_contract_has_a_key_among_its_columns_and_describes_every_column():
    for name, contract in CONTRACTS.items():
        columns = contract.to_schema().columns
        assert contract.key(), name
        assert set(contract.key()) <= set(columns), name
        assert all(c.description for c in columns.values()), name
        assert check(contract.empty(), contract).is_empty()
