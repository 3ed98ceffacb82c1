"""Marks of thinking stay in an answer's text where they are special tokens; all other special tokens go."""

import pytest
from tokenizers import AddedToken

from steer_core.generation.marks import Writer
from steer_core.methods.cleaning import clean_answer
from tests.conftest import tiny_tokenizer


@pytest.fixture
def tokenizer():
    made = tiny_tokenizer(True)
    marks = ["<think>", "</think>", "<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|tool_call|>"]
    made.add_special_tokens({"additional_special_tokens": [AddedToken(m, special=True) for m in marks]})
    return made


def written(tokenizer, text):
    return Writer(tokenizer)(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_thinking_keeps_its_marks_and_is_cleaned_away(tokenizer):
    raw = written(tokenizer, "<think>more formal, longer</think>Please rewrite.<end>")
    assert raw == "<think>more formal, longer</think>Please rewrite."
    assert clean_answer(raw) == "Please rewrite."
    channels = "<|channel|>analysis<|message|>longer<|end|><|start|>assistant<|channel|>final<|message|>The text.<end>"
    assert clean_answer(written(tokenizer, channels)) == "The text."


def test_other_special_tokens_and_plain_answers_are_written_as_before(tokenizer):
    for text in ("Please rewrite.<end>", "<|tool_call|>Please rewrite.", "more formal"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert Writer(tokenizer)(ids) == tokenizer.decode(ids, skip_special_tokens=True)
