"""Stored scores: whose they are, what is missing, and errors that name file and row."""

import json

import polars as pl
import pytest

from schemas.digest import digest_text
from steer_core.evaluation.profiles.scorer import load_scorer
from steer_core.tables.errors import ConfigError, SteerworksError

ROWS = [
    {"text": "one", "attribute": "toxicity", "score": 0.25, "scorer": "perspective", "version": "2026-11"},
    {"text": "one", "attribute": "threat", "score": 0, "scorer": "perspective", "version": "2026-11"},
    {"text": "two", "attribute": "toxicity", "score": None, "scorer": "perspective", "version": "2026-11"},
]


def written(folder, kind, rows=ROWS):
    file = folder / f"scores.{kind}"
    if kind == "jsonl":
        file.write_text("".join(f"{json.dumps(r)}\n" for r in rows), encoding="utf-8")
    else:
        frame = pl.DataFrame(rows, strict=False)
        (frame.write_csv if kind == "csv" else frame.write_parquet)(file)
    return str(file)


def changed(row, **fields):
    return [r | (fields if i == row else {}) for i, r in enumerate(ROWS)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_scores_are_those_of_who_made_them(tmp_path, kind):
    stored = load_scorer("stored", path=written(tmp_path, kind))
    assert (stored.name, stored.version, stored.attributes) == ("perspective", "2026-11", ("threat", "toxicity"))
    assert "nobody has tested" in stored.tested
    one, two, other, blank = stored.score(["one", "two", "three", " "])
    assert one == {"toxicity": 0.25, "threat": 0.0}
    assert two == {"toxicity": "stored without a score", "threat": "no stored score"}
    assert set(other.values()) == {"no stored score"}
    assert set(blank.values()) == {"empty"}


def test_texts_may_be_named_by_their_key(tmp_path):
    rows = [{"text_id": digest_text("one"), **{k: v for k, v in ROWS[0].items() if k != "text"}}]
    assert load_scorer("stored", path=written(tmp_path, "csv", rows)).score(["one"]) == [{"toxicity": 0.25}]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("score", [1.5, -0.1, float("nan"), "high"])
def test_a_score_that_is_none_names_file_and_row(tmp_path, kind, score):
    if kind == "parquet" and score == "high":
        pytest.skip("a column of numbers holds no word")
    with pytest.raises(SteerworksError, match=rf"scores\.{kind}, row 2: a score that is no number in \[0, 1\]"):
        load_scorer("stored", path=written(tmp_path, kind, changed(1, score=score)))


def test_other_faults_name_file_and_row(tmp_path):
    with pytest.raises(SteerworksError, match=r"row 1: an empty text"):
        load_scorer("stored", path=written(tmp_path, "jsonl", changed(0, version="")))
    with pytest.raises(SteerworksError, match=r"row 2: toxicity 0\.5 of a text that had 0\.25 before"):
        load_scorer("stored", path=written(tmp_path, "jsonl", changed(1, attribute="toxicity", score=0.5)))
    with pytest.raises(SteerworksError, match="has no column text, score"):
        load_scorer("stored", path=written(tmp_path, "csv", [{"attribute": "a", "scorer": "b", "version": "c"}]))
    (tmp_path / "x.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(SteerworksError, match="row 1 is no JSON"):
        load_scorer("stored", path=str(tmp_path / "x.jsonl"))
    with pytest.raises(SteerworksError, match="cannot be read"):
        load_scorer("stored", path=str(tmp_path / "none.csv"))
    with pytest.raises(SteerworksError, match="scores are read from"):
        load_scorer("stored", path=str(tmp_path / "none.txt"))


def test_of_several_scorers_one_is_named(tmp_path):
    file = written(tmp_path, "jsonl", [*ROWS, *changed(0, version="2025-01")])
    with pytest.raises(ConfigError, match=r"there are: perspective 2025-01, perspective 2026-11"):
        load_scorer("stored", path=file)
    with pytest.raises(ConfigError, match="none of that name"):
        load_scorer("stored", path=file, version="1")
    assert load_scorer("stored", path=file, version="2025-01").attributes == ("toxicity",)
