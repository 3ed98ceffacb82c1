"""Answers with the log-probabilities of their tokens: those that a forward pass over the whole row gives."""

from dataclasses import replace

import pytest
import torch
from asking import calls_of

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.steering import Message, Plan

TEXTS = ["a", "Please rewrite the following text.", "x " * 20, "more formal", "the " * 9]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    model = load_model(ModelSpec(name="tiny", source=str(tiny_model("llama", True))))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
    return model


def calls(**decoding):
    return [
        Call(
            Plan("m", Decoding(**{"max_new_tokens": 4 + k, **decoding}), (Message("user", text),)), 0, k, log_probs=True
        )
        for k, text in enumerate(TEXTS)
    ]


@pytest.mark.parametrize("batching", ["plain", "refill"])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_they_are_those_of_one_pass_over_prompt_and_answer_at_the_temperature(loaded, batching, temperature):
    backend = TransformersBackend(loaded, batching=batching)
    # min-p takes candidates away, and leaves the model's own probabilities
    asked = calls_of(backend, calls(temperature=temperature, min_p=0.05 if temperature else 0.0))
    for call, answer in zip(asked, answer_all(backend, asked, 3), strict=True):
        assert len(answer.tokens) == len(answer.log_probs) == answer.completion_tokens
        prompt = backend.encode(call.plan)
        with torch.no_grad():
            logits = loaded.model(torch.tensor([[*prompt, *answer.tokens]])).logits[0, len(prompt) - 1 : -1]
        wanted = torch.log_softmax(logits.double() / (temperature or 1.0), -1)
        at = wanted[torch.arange(len(answer.tokens)), list(answer.tokens)]
        assert torch.tensor(answer.log_probs) == pytest.approx(at.numpy(), abs=1e-5)


@pytest.mark.parametrize("batching", ["plain", "refill"])
def test_asking_for_them_changes_no_answer_and_no_id(loaded, batching):
    backend = TransformersBackend(loaded, batching=batching)
    asked = calls_of(backend, calls(temperature=1.0))
    plain = [replace(c, log_probs=k % 2 == 0) for k, c in enumerate(asked)]
    told, mixed = answer_all(backend, asked), answer_all(backend, plain)
    assert [a.raw for a in told] == [a.raw for a in mixed]
    assert [bool(a.log_probs) for a in mixed] == [k % 2 == 0 for k in range(len(asked))]
    assert mixed[0].log_probs == pytest.approx(told[0].log_probs, abs=1e-6)
    assert [c.response_id("x") for c in asked] == [c.response_id("x") for c in plain]
