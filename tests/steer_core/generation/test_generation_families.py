"""Answers and scores of every architecture, rows of all lengths in one batch, against passes of the test's own."""

from dataclasses import replace

import pytest
import torch
from asking import answers, calls_of
from test_generation_stream import EVERY, TEXTS, act, said, vector_of

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.sharing import Sharing, sharing_of
from steer_core.models import load_model
from steer_core.steering import Message, Plan
from steer_core.tables.errors import SteerworksError
from tests.own_hooks import adding, enliven, greedy, log_probs, middle_of
from tests.tiny_configs import ARCHITECTURES

#: Architectures whose rows cannot take each other's places, and a word of the reason.
PLAIN = {
    "phi3_longrope": "longrope positions turn a row by the longest one",
    **dict.fromkeys(["bloom", "mpt", "mamba"], "take no position_ids"),
    **dict.fromkeys(
        ["bamba", "falcon_h1", "jamba", "zamba2", "nemotron_h", "granitemoehybrid", "qwen3_next", "recurrent_gemma"],
        "keep a state that is no cache of keys and values",
    ),
    "minimax": "keep a state that is no cache of keys and values",
    "lfm2": "do not cache every token's keys and values",
}
#: Of those, the ones whose rows answer otherwise beside longer ones.
EQUAL = {"recurrent_gemma", "minimax"}
ANSWERS = ["longer text so", " that", "the more formal"]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    made = {}

    def make(family):
        if family not in made:
            made[family] = load_model(ModelSpec(name="tiny", source=str(tiny_model(family, True))))
            enliven(made[family].model)
        return made[family]

    return make


def plans(model, steer=lambda _: (), tokens=7):
    turns = [(Message("user", text),) for text in TEXTS]
    return [
        Plan(model.spec.identity, Decoding(max_new_tokens=tokens), t, interventions=steer(i))
        for i, t in enumerate(turns)
    ]


def steered_by(v):
    """All tokens, none, the answer's: row after row."""
    return lambda i: [(act(v, 1.5),), (), (act(v, -1.0, positions="completion"),)][i % 3]


def own(model, plan, v, prompt):
    """The context in which a pass of the whole text does what a plan says."""
    coefficient = plan.interventions[0].coefficient if plan.interventions else 0.0
    late = bool(plan.interventions) and plan.interventions[0].positions == "completion"
    return adding(model.model, v.layer, coefficient * torch.tensor(v.direction), len(prompt) if late else 0)


def test_every_architecture_of_the_matrix_is_run_or_refused():
    assert sorted([*EVERY, *PLAIN, "gemma3n", "rwkv", "doge"]) == sorted(ARCHITECTURES)


@pytest.mark.parametrize("family", [*EVERY, *PLAIN])
def test_answers_in_a_batch_are_those_of_whole_passes_under_a_hook_of_our_own(loaded, family):
    model = loaded(family)
    v = vector_of(model, layer=middle_of(model.model))
    backend = TransformersBackend(model, [v])
    asked = plans(model, steered_by(v))
    found = answers(backend, [Call(p, 0, 0) for p in asked])
    for g, plan in zip(found, asked, strict=True):
        prompt = backend.encode(plan)
        with own(model, plan, v, prompt):
            want = greedy(model.model, prompt, 7, backend.end_ids())
        assert g.raw == model.tokenizer.decode(want, skip_special_tokens=True)
        assert (g.receipt is None) == (not plan.interventions)
    plain = answers(backend, [Call(p, 0, 0) for p in plans(model)])
    assert [g.raw for g in plain[1::3]] == [g.raw for g in found[1::3]]
    assert [g.raw for g in plain[::3]] != [g.raw for g in found[::3]]


@pytest.mark.parametrize("family", [*EVERY, *PLAIN])
def test_scores_in_a_batch_are_those_of_whole_passes_under_a_hook_of_our_own(loaded, family):
    model = loaded(family)
    v = vector_of(model, layer=middle_of(model.model))
    backend = TransformersBackend(model, [v])
    asked = plans(model, steered_by(v))
    texts = [ANSWERS[i % 3] for i in range(len(asked))]
    together = backend.score(asked, texts)
    for plan, text, got in zip(asked, texts, together, strict=True):
        prompt = backend.encode(plan)
        tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        with own(model, plan, v, prompt):
            want = log_probs(model.model, prompt, tokens)
        # a recurrence is summed up in chunks, which padding shifts
        assert got == pytest.approx(want, abs=1e-4 if family in PLAIN else 2e-5)
        assert backend.score([plan], [text])[0] == pytest.approx(want, abs=1e-4 if family in PLAIN else 2e-5)
    unsteered = backend.score(plans(model), texts)
    assert unsteered[1] == pytest.approx(together[1], abs=1e-4)
    assert abs(unsteered[0][0] - together[0][0]) > 1e-2


@pytest.mark.parametrize("family", PLAIN)
def test_what_cannot_be_refilled_says_why_and_answers_in_batches_as_alone(loaded, family):
    model = loaded(family)
    v = vector_of(model, layer=middle_of(model.model))
    backend = TransformersBackend(model, [v])
    assert backend.capabilities.batching == "plain"
    assert PLAIN[family] in backend.capabilities.batching_reason
    assert sharing_of(model) is (Sharing.EQUAL if family in EQUAL else Sharing.ANY)
    # rows of equal length among them, and answers of several lengths
    kinds = [(), (act(v, 1.5),), (act(v, -1.0, positions="completion"),), (act(v, 2.0, positions="span:2:9"),)]
    asked = [
        Call(Plan("m", Decoding(max_new_tokens=(5, 9)[i % 2], temperature=1.3 * (i % 5 == 4)), t, interventions=kinds[i % 4]), 0, i)
        for i, t in enumerate((Message("user", text),) for text in [*TEXTS, *TEXTS, "b", "so that it is shorter"])
    ]  # fmt: skip
    together = said(answers(backend, asked, batch_size=8))
    assert together == [said(answers(backend, [c]))[0] for c in asked]


@pytest.mark.parametrize(
    ("family", "sharing"), [("gemma3n", Sharing.ANY), ("rwkv", Sharing.NONE), ("recurrent_gemma", Sharing.EQUAL)]
)
def test_models_without_a_place_for_vectors_answer_in_batches_as_alone(loaded, family, sharing):
    model = loaded(family)
    backend = TransformersBackend(model)
    assert sharing_of(model) is sharing
    asked = calls_of(backend, [Call(p, 0, 0) for p in plans(model)])
    assert said(answers(backend, asked)) == [said(answers(backend, [c]))[0] for c in asked]
    for plan, got in zip(plans(model), backend.score(plans(model), ["longer text"] * 6), strict=True):
        tokens = model.tokenizer("longer text", add_special_tokens=False)["input_ids"]
        assert got == pytest.approx(log_probs(model.model, backend.encode(plan), tokens), abs=1e-5)


def test_rows_that_mix_in_a_pass_are_never_refilled(loaded, monkeypatch):
    """Two rows of one pass swap a little of what they say, as no architecture should have it."""
    model = replace(loaded("llama"), model=load_model(loaded("llama").spec).model)
    head = model.model.lm_head
    head.register_forward_hook(lambda _m, _a, out: out + 0.5 * out.flip(0) if len(out) > 1 else out)
    assert sharing_of(model) is Sharing.NONE
    backend = TransformersBackend(model)
    assert backend.capabilities.batching_reason == "models of type 'llama' mix the rows of a pass: each row runs alone"
    with pytest.raises(SteerworksError, match="cannot take each other's places: models of type 'llama' mix the rows"):
        TransformersBackend(model, batching="refill")
    asked = calls_of(backend, [Call(p, 0, 0) for p in plans(model)])
    assert said(answers(backend, asked)) == [said(answers(backend, [c]))[0] for c in asked]


def test_a_model_whose_tokens_see_later_ones_is_refused(loaded):
    """Doge's mask says nothing of the future where no row is padded (transformers 5.17)."""
    model = loaded("doge")
    message = r"model 'tiny' .type 'doge'. says something else of a text that it reads at once"
    for run in (
        lambda b: answers(b, [Call(plans(model)[0], 0, 0)]),
        lambda b: b.score(plans(model)[:1], ["longer"]),
    ):
        with pytest.raises(SteerworksError, match=message):
            run(TransformersBackend(model))
