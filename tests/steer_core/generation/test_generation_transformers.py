"""The transformers backend on several families: batching changes nothing, seeds belong to rows, scores are log-probs."""

from dataclasses import replace

import pytest
import torch
from asking import answers, of

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.forced import score_all, score_greedy_all
from steer_core.models import load_model
from steer_core.steering import Message, Plan

FAMILIES = [("llama", True), ("qwen2", True), ("mistral", False), ("gpt2", False), ("gpt_neox", False)]


@pytest.fixture
def backend(tiny_model):
    def make(family="llama", chat=True, context=256):
        return TransformersBackend(load_model(ModelSpec(name="tiny", source=str(tiny_model(family, chat, context)))))

    return make


def plan(text: str, tokens: int = 12, temperature: float = 0.0, **decoding) -> Plan:
    return Plan(
        "m", Decoding(max_new_tokens=tokens, temperature=temperature, **decoding), messages=(Message("user", text),)
    )


def call(p: Plan, sample: int = 0, seed: int = 0) -> Call:
    return Call(p, sample, seed)


TEXTS = ["a", "Please rewrite the following text.", "so that it is longer", "x " * 40]


@pytest.mark.parametrize(("family", "chat"), FAMILIES)
def test_a_batch_answers_as_its_rows_do_alone(backend, family, chat):
    made = backend(family, chat)
    together = answers(made, [call(plan(t)) for t in TEXTS])
    alone = [answers(made, [call(plan(t))])[0] for t in TEXTS]
    assert [g.raw for g in together] == [g.raw for g in alone]
    assert [g.completion_tokens for g in together] == [g.completion_tokens for g in alone]


def test_greedy_is_what_plain_transformers_generates(backend):
    made = backend()
    ids = torch.tensor([made.encode(plan(TEXTS[1]))])
    out = made.loaded.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    expected = made.loaded.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert answers(made, [call(plan(TEXTS[1]))])[0].raw == expected


def test_a_sampled_row_depends_on_its_seed_and_not_on_its_neighbours(backend):
    made = backend()
    hot = [plan(t, temperature=1.5) for t in TEXTS]
    together = answers(made, [call(p, seed=i) for i, p in enumerate(hot)])
    alone = [answers(made, [call(p, seed=i)])[0] for i, p in enumerate(hot)]
    assert [g.raw for g in together] == [g.raw for g in alone]
    other = answers(made, [call(p, seed=i + 99) for i, p in enumerate(hot)])
    assert [g.raw for g in together] != [g.raw for g in other]


def test_sampling_follows_the_softmax(backend):
    made = backend()
    p = plan("a", tokens=1, temperature=1.0)
    draws = answers(made, [call(p, i, seed=i) for i in range(3000)])
    ids = torch.tensor([made.encode(p)])
    probs = made.loaded.model(ids).logits[0, -1].softmax(-1)
    top = int(probs.argmax())
    text = made.loaded.tokenizer.decode([top], skip_special_tokens=True)
    same = {made.loaded.tokenizer.decode([i], skip_special_tokens=True): 0.0 for i in range(len(probs))}
    for i, q in enumerate(probs.tolist()):
        same[made.loaded.tokenizer.decode([i], skip_special_tokens=True)] += q
    share = sum(g.raw == text for g in draws) / len(draws)
    assert share == pytest.approx(same[text], abs=4 * (same[text] / len(draws)) ** 0.5)


def test_min_p_and_top_p_near_their_limits_are_greedy(backend):
    made = backend()
    greedy = answers(made, [call(plan("a"))])[0].raw
    assert answers(made, [call(plan("a", temperature=1.0, min_p=0.999), seed=5)])[0].raw == greedy
    assert answers(made, [call(plan("a", temperature=1.0, top_p=1e-6), seed=5)])[0].raw == greedy


def test_truncation_is_a_finish_reason(backend):
    (answer,) = answers(backend(), [call(plan("a", tokens=3))])
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 3)


@pytest.mark.parametrize(("family", "chat"), FAMILIES)
def test_a_prompt_beside_the_context_is_answered_as_far_as_there_is_room(backend, family, chat):
    made = backend(family, chat, 64)
    room = 64 - made.prompt_tokens(plan("a"))
    short, long, none = (plan("a", tokens=200), plan("xyz " * 10, tokens=200), plan("xyz " * 60, tokens=200))
    found = answers(made, [call(p) for p in (short, long, none)])
    assert found[0].completion_tokens <= room
    assert found[1].completion_tokens <= 64 - made.prompt_tokens(long)
    assert (found[2].finish_reason, found[2].raw) == ("overlong", "")


def test_scores_are_the_log_probabilities_of_the_continuation(backend):
    made = backend()
    plans, asked = [plan(TEXTS[0]), plan(TEXTS[1])], ["so that it is", " longer"]
    scores = made.score(of(made, plans), asked)
    for p, answer, got in zip(plans, asked, scores, strict=True):
        prompt = made.encode(p)
        tokens = made.loaded.tokenizer(answer, add_special_tokens=False)["input_ids"]
        logits = made.loaded.model(torch.tensor([prompt + tokens])).logits[0].log_softmax(-1).detach()
        expected = [float(logits[len(prompt) - 1 + k, t]) for k, t in enumerate(tokens)]
        assert got == pytest.approx(expected, abs=1e-5)


def test_a_row_beyond_the_context_has_no_numbers_and_keeps_nobody_from_theirs(backend):
    made = backend(context=64)
    plans, texts = of(made, [plan("One two."), plan("One two."), plan("Three.")]), [" yes", " word" * 65, " no"]
    scores = made.score(plans, texts)
    assert scores[1] == []
    for k in (0, 2):
        assert scores[k] == pytest.approx(made.score(plans[k : k + 1], texts[k : k + 1])[0], abs=1e-5)
    # nothing is done to the model: it is as far from itself as 0
    assert made.diverge(plans, texts) == [[0.0] * len(s) for s in scores]


def test_tokens_are_scored_as_the_text_that_they_spell(backend):
    made = backend()
    plans, texts = of(made, [plan(t) for t in TEXTS]), [" longer", " and more formal", "x", " text"]
    spelt = [tuple(made.loaded.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
    mixed = [s if k % 2 else t for k, (s, t) in enumerate(zip(spelt, texts, strict=True))]
    scores = made.score(plans, texts)
    assert made.score(plans, spelt) == made.score(plans, mixed) == scores
    twice = score_all([*plans, *plans], [*spelt, *texts], made, 3)
    for row, one in zip(twice, [*scores, *scores], strict=True):
        assert row == pytest.approx(one, abs=1e-5)
    assert score_greedy_all(plans, spelt, made, 64) == made.score_greedy(plans, texts)


def test_a_token_is_flagged_where_greedy_decoding_writes_it(backend):
    made = backend()
    asked = of(made, [replace(plan(t), decoding=Decoding(max_new_tokens=5)) for t in TEXTS])
    written = [tuple(answer_all(made, [Call(p, 0, 0, log_probs=True)])[0].tokens) for p in asked]
    # another token in the third place: it was not the likeliest, and those before it were
    other = [(*w[:2], (w[2] + 1) % 400, *w[3:]) for w in written]
    for answers_, expected in ((written, [True] * 5), (other, [True, True, False])):
        for row, numbers in zip(made.score_greedy(asked, answers_), made.score(asked, answers_), strict=True):
            assert row.log_probs == pytest.approx(numbers, abs=1e-6)
            assert list(row.greedy[: len(expected)]) == expected[: len(row.greedy)]


def test_an_empty_continuation_cannot_be_scored(backend):
    made = backend()
    with pytest.raises(ValueError, match="continuation 0 has no tokens"):
        made.score(of(made, [plan("a")]), [""])


def test_the_execution_fingerprint_follows_the_weights(backend):
    assert backend("llama").execution != backend("qwen2").execution
    assert backend("llama").execution == backend("llama").execution


def test_a_models_own_decoding_defaults_do_not_act(tiny_model):
    spec = ModelSpec(name="tiny", source=str(tiny_model()))
    loaded = load_model(spec)
    loaded.model.generation_config.repetition_penalty = 5.0
    loaded.model.generation_config.no_repeat_ngram_size = 1
    asked = [call(plan(t)) for t in TEXTS]
    plain = answers(TransformersBackend(load_model(spec)), asked)
    assert [g.raw for g in answers(TransformersBackend(loaded), asked)] == [g.raw for g in plain]
    # the model is as it was: a second backend on it ends where the first one does
    assert loaded.model.generation_config.repetition_penalty == 5.0
    assert TransformersBackend(loaded).end_ids() == TransformersBackend(load_model(spec)).end_ids()
