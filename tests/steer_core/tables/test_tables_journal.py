"""The journal only grows; the same rows again are the same rows."""

import polars as pl
import pytest

from schemas import Responses
from schemas.digest import digest_text
from steer_core.tables import Journal, TableError


def response(i: int, raw: str = "x", seconds: float = 0.1) -> pl.DataFrame:
    row = {
        "response_id": f"r{i}", "plan_id": "p", "plan": "{}", "sample_index": 0, "seed": 0, "execution": "cpu", "raw": raw,
        "text": raw, "text_id": digest_text(raw), "finish_reason": "stop", "parsed": True, "prompt_tokens": 1,
        "completion_tokens": 1, "seconds": seconds, "receipt": None,
    }  # fmt: skip
    return pl.DataFrame([row], schema_overrides={"receipt": pl.String})


def test_an_absent_journal_is_empty(tmp_path):
    assert Journal(str(tmp_path / "none"), Responses).read().is_empty()


def test_rows_add_up_and_are_found_by_key(tmp_path):
    journal = Journal(str(tmp_path), Responses)
    journal.append(pl.concat([response(1), response(2)]))
    journal.append(response(3))
    assert set(journal.read()["response_id"]) == {"r1", "r2", "r3"}
    assert journal.read(["r3", "r9"])["response_id"].to_list() == ["r3"]


def test_the_same_rows_again_are_a_union_even_when_the_time_differs(tmp_path):
    journal = Journal(str(tmp_path), Responses)
    journal.append(response(1))
    journal.append(pl.concat([response(1, seconds=9.0), response(2)]))
    assert sorted(journal.read()["response_id"]) == ["r1", "r2"]


def test_two_texts_under_one_key_are_a_conflict(tmp_path):
    journal = Journal(str(tmp_path), Responses)
    journal.append(response(1, "one"))
    journal.append(pl.concat([response(1, "two"), response(2)]))
    with pytest.raises(TableError, match="r1.*disagree"):
        journal.read()


def test_a_damaged_part_is_named(tmp_path):
    journal = Journal(str(tmp_path), Responses)
    journal.append(response(1))
    (part,) = tmp_path.glob("*.parquet")
    part.write_bytes(b"rubble")
    with pytest.raises(TableError, match=part.name):
        journal.read()


def test_what_a_killed_writer_left_is_not_read(tmp_path):
    journal = Journal(str(tmp_path), Responses)
    journal.append(response(1))
    (tmp_path / ".x.parquet.1-00000000000000000000000000000000.tmp").write_bytes(b"half")
    assert journal.read().height == 1
