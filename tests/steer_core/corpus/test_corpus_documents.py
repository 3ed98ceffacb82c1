"""Whole JSON documents and JSON lines are told apart by what they hold, and errors name where."""

import json

import pytest

from steer_core.corpus.contrasts.files import read_document, read_records
from steer_core.tables import SteerworksError


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    ("text", "body"),
    [
        ('{"x": 1}', {"x": 1}),
        ('{\n "x": 1\n}\n', {"x": 1}),
        ('{"x": 1}\n\n{"x": 2}\n', [{"x": 1}, {"x": 2}]),
        ('[{"x": 1}]', [{"x": 1}]),
        ("[1, 2]", [1, 2]),
    ],
)
def test_the_ending_does_not_decide(tmp_path, name, text, body):
    (tmp_path / name).write_text(text)
    assert read_document(str(tmp_path / name)) == body


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"x": 1}\n{"x": 2', r"a\.json, line 2: not valid JSON"),
        ('{"x": 1}\n[2]', r"a\.json, line 2 is no JSON object"),
        ('{"x": 1, "x": 2}', r"a\.json: field 'x' stands twice"),
        ('[{"x": 1}, {"x": "\\ud800"}]', r"a\.json, row 1 .*half a character"),
        ('{"x": {"y": "\\ud800"}}', r"a\.json.*half a character"),
        ("", r"a\.json, line 1: not valid JSON"),
        ("[" * 100_000, r"a\.json: brackets inside brackets"),
    ],
)
def test_what_is_no_json_says_where(tmp_path, text, said):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SteerworksError, match=said):
        read_document(str(tmp_path / "a.json"))


def test_rows_keep_their_values_and_a_missing_file_says_where_it_was_named(tmp_path):
    rows = [{"x": 1, "y": {"z": [1.5]}}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert read_records(str(tmp_path / "a.json")) == rows
    with pytest.raises(SteerworksError, match=r"no file at .*b\.json; correct the path in here"):
        read_records(str(tmp_path / "b.json"), named_in="here")
