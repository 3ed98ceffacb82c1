"""Answers that are told while they are written: nothing else changes, and whoever listens may end it."""

from dataclasses import replace

import polars as pl
import pytest
from asking import calls_of

from schemas import Responses
from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.journalled import run_calls
from steer_core.generation.marks import Writer
from steer_core.generation.run import Run
from steer_core.models import load_model
from steer_core.steering import Message, Plan
from steer_core.tables.journal import Journal

TEXTS = ["Please rewrite the following text.", "a", "x " * 20, "more formal"]


class Enough(Exception):
    """Whoever listens wants no more."""


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelSpec(name="embedded", source="embedded"))


def calls(backend, **decoding):
    decoding = Decoding(**{"max_new_tokens": 12, **decoding})
    return calls_of(backend, [Call(Plan("m", decoding, (Message("user", t),)), 0, k) for k, t in enumerate(TEXTS)])


@pytest.mark.parametrize("batching", ["plain", "refill"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_tells_its_text_as_it_grows_and_answers_are_those_of_a_silent_run(loaded, batching, temperature):
    backend = TransformersBackend(loaded, batching=batching)
    assert backend.capabilities.streams
    silent = answer_all(backend, calls(backend, temperature=temperature))
    told = [[] for _ in TEXTS]
    asked = [
        replace(c, draft=told[k].append if k != 1 else None)
        for k, c in enumerate(calls(backend, temperature=temperature))
    ]
    assert [c.response_id("x") for c in asked] == [c.response_id("x") for c in calls(backend, temperature=temperature)]
    found = answer_all(backend, asked, batch_size=2)
    assert [f.raw for f in found] == [s.raw for s in silent]
    assert told[1] == []
    for k in (0, 2, 3):
        # one word for each token but the one that ends it
        assert len(told[k]) == found[k].completion_tokens - (found[k].finish_reason == "stop")
        assert told[k][-1] == found[k].raw
        assert all(after.startswith(before) for before, after in zip(told[k], told[k][1:], strict=False))


@pytest.mark.parametrize("batching", ["plain", "refill"])
def test_who_wants_no_more_ends_it_and_leaves_the_model_as_it_was(loaded, batching):
    backend = TransformersBackend(loaded, batching=batching)
    silent = [a.raw for a in answer_all(backend, calls(backend))]
    told = []

    def listen(text):
        told.append(text)
        if len(told) == 3:
            raise Enough

    with pytest.raises(Enough):
        answer_all(backend, [replace(c, draft=listen) for c in calls(backend)])
    assert len(told) == 3
    assert [a.raw for a in answer_all(backend, calls(backend))] == silent


def test_a_run_tells_texts_by_the_number_of_the_call_and_keeps_the_same_rows(loaded, tmp_path):
    backend = TransformersBackend(loaded)
    told = {}
    kept = []
    for name, drafts in (("silent", None), ("told", lambda n, text: told.setdefault(n, []).append(text))):
        run = Run(Journal(str(tmp_path / name), Responses), backend, drafts=drafts)
        kept.append(run_calls(calls(backend), run).drop("seconds").sort("response_id"))
    assert kept[0].equals(kept[1])
    assert sorted(told) == [0, 1, 2, 3]
    assert {texts[-1] for texts in told.values()} == set(kept[0]["raw"])
    assert isinstance(kept[0], pl.DataFrame)


def test_half_a_character_waits_for_its_other_half():
    class Bytes:
        all_special_ids = ()

        def decode(self, tokens, skip_special_tokens):
            return bytes(tokens).decode("utf-8", "replace")

    writer = Writer(Bytes())
    tokens = list("né – 😀".encode())
    drafts = [writer.draft(tokens[: n + 1]) for n in range(len(tokens))]
    assert "\ufffd" not in "".join(drafts)
    assert drafts[-1] == "né – 😀"
    assert drafts[1] == "n"
