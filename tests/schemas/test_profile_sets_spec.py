"""Specs of item sets say one place, and say it early when they do not."""

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.profile_sets import BbqSet, ChoicesSet, ItemSetSpec, PromptsSet, SeatSet


@pytest.mark.parametrize(
    ("spec", "origin"),
    [
        (BbqSet(), "shipped"),
        (BbqSet(path="a.jsonl"), "file"),
        (BbqSet(dataset="a/b"), "hub"),
        (SeatSet(path="a"), "file"),
    ],
)
def test_the_place_follows_from_what_is_given(spec, origin):
    assert spec.origin == origin


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "bbq", "path": "a", "dataset": "b"}, "two places"),
        ({"kind": "bbq", "split": "test"}, "`split` is of a hub data set"),
        ({"kind": "seat", "dataset": "a/b"}, "Extra inputs"),
        ({"kind": "choices", "template": "Q: {q}"}, "where the question goes"),
        ({"kind": "nothing"}, "does not match any of the expected tags"),
        ({"kind": "prompts", "sample": 0}, "greater than 0"),
    ],
)
def test_what_makes_no_sense_is_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(ItemSetSpec).validate_python(given)


def test_a_set_is_told_by_its_kind():
    found = TypeAdapter(ItemSetSpec).validate_python({"kind": "choices", "layout": "hellaswag", "path": "x.jsonl"})
    assert found == ChoicesSet(layout="hellaswag", path="x.jsonl")


def test_a_changed_setting_is_another_hash():
    assert PromptsSet(seed=1).spec_hash != PromptsSet(seed=2).spec_hash
