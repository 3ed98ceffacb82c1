"""The transformers backend under steering: mixed batches, receipts, scores, divergence, refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from asking import answers, of

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, Capabilities, Interventions
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.trunk import shares_trunk, untouched
from steer_core.models import load_model
from steer_core.steering import Message, Plan
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.sites import find_sites
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

TEXTS = ["a", "Please rewrite the following text.", "so that it is longer", "x " * 20]
LAYER = 0


@pytest.fixture(scope="module")
def loaded(tiny_model):
    made = {}

    def make(family="llama"):
        if family not in made:
            made[family] = load_model(ModelSpec(name="tiny", source=str(tiny_model(family, family != "gpt2"))))
            torch.manual_seed(1)
            with torch.no_grad():
                for parameter in made[family].model.parameters():
                    if parameter.ndim > 1:
                        parameter.normal_(0.0, 0.25)
        return made[family]

    return make


def vector(loaded, seed=0, model=None, width=32) -> SteeringVector:
    direction = np.random.default_rng(seed).normal(size=(1, width)).astype(np.float32)
    return SteeringVector("concept", "add", LAYER, {"direction": direction}, {}, model or loaded.fingerprint)


def plan(text, *interventions, tokens=12, temperature=0.0) -> Plan:
    decoding = Decoding(max_new_tokens=tokens, temperature=temperature)
    return Plan("m", decoding, messages=(Message("user", text),), interventions=interventions)


def act(v, coefficient=1.0, **place) -> Intervention:
    return Intervention("add", v.id, **{"layer": LAYER, "coefficient": coefficient, **place})


def calls(plans) -> list[Call]:
    return [Call(p, 0, seed) for seed, p in enumerate(plans)]


def logits_by_hand(loaded, ids, steered_from, v=None, coefficient=0.0):
    """Logits [tokens, vocabulary] of one row; the vector is added from a position on."""

    def after(_module, _args, out):
        new = out.clone()
        new[:, steered_from:] += coefficient * torch.tensor(v.direction)
        return new

    layers = loaded.model.model.layers if hasattr(loaded.model, "model") else loaded.model.transformer.h
    handle = None if v is None else layers[LAYER].register_forward_hook(after)
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([ids]), use_cache=False).logits[0]
    if handle:
        handle.remove()
    return logits.log_softmax(-1)


@pytest.mark.parametrize("temperature", [0.0, 1.2])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_steered_and_unsteered_rows_of_a_batch_answer_as_they_do_alone(loaded, family, temperature):
    v, w = vector(loaded(family)), vector(loaded(family), 1)
    backend = TransformersBackend(loaded(family), [v, w])
    asked = calls(
        [
            plan(TEXTS[0], act(v, 2.0), temperature=temperature),
            plan(TEXTS[1], temperature=temperature),
            plan(TEXTS[2], act(v, -2.0), act(w, 1.0, positions="completion", layer=1), temperature=temperature),
            plan(TEXTS[3], act(w, 3.0, positions="last_prompt"), temperature=temperature),
        ]
    )
    together = answers(backend, asked)
    alone = [answers(backend, [c])[0] for c in asked]
    assert [(g.raw, g.receipt) for g in together] == [(g.raw, g.receipt) for g in alone]
    plain = answers(
        TransformersBackend(loaded(family)), [Call(plan(t, temperature=temperature), 0, s) for s, t in enumerate(TEXTS)]
    )
    assert together[1].raw == plain[1].raw
    assert together[0].raw != plain[0].raw
    assert together[2].raw != plain[2].raw


def test_receipts_count_what_was_read(loaded):
    v = vector(loaded())
    backend = TransformersBackend(loaded(), [v])
    rows = answers(
        backend,
        calls(
            [
                plan(TEXTS[0], act(v), act(v, 0.5, positions="completion", site="mlp")),
                plan(TEXTS[1]),
                plan(TEXTS[3], act(v, positions="prompt"), tokens=12),
            ]
        ),
    )
    first, none, third = rows
    assert none.receipt is None
    receipt = json.loads(first.receipt)
    assert receipt["realisation"] == "hook"
    read = first.prompt_tokens + first.completion_tokens - 1
    assert [(t["expected"], t["observed"]) for t in receipt["touches"]] == [
        (read, read),
        (first.completion_tokens - 1, first.completion_tokens - 1),
    ]
    assert receipt["touches"][1]["site"] == "mlp"
    assert json.loads(third.receipt)["touches"][0]["observed"] == third.prompt_tokens


def test_a_row_that_ends_early_counts_to_its_end(loaded):
    v = vector(loaded())
    backend = TransformersBackend(loaded(), [v])
    asked = calls([plan(t, act(v, 2.0), tokens=10) for t in TEXTS])
    ids = [backend.loaded.tokenizer(g.raw, add_special_tokens=False)["input_ids"] for g in answers(backend, asked)]
    # some token of the first answer becomes an end
    backend.end_ids = lambda: {ids[0][2]}
    ended = answers(backend, asked)
    assert ended[0].finish_reason == "stop"
    assert len({g.completion_tokens for g in ended}) > 1
    for g in ended:
        assert json.loads(g.receipt)["touches"][0]["observed"] == g.prompt_tokens + g.completion_tokens - 1


def test_an_answer_without_room_has_no_receipt(loaded):
    v = vector(loaded())
    (none,) = answers(TransformersBackend(loaded(), [v]), calls([plan("xyz " * 200, act(v))]))
    assert (none.finish_reason, none.receipt) == ("overlong", None)


def test_the_fingerprint_of_the_execution_does_not_follow_the_vectors(loaded):
    assert TransformersBackend(loaded(), [vector(loaded())]).execution == TransformersBackend(loaded()).execution


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_scores_under_steering_are_those_of_a_manual_forward(loaded, family):
    model = loaded(family)
    v = vector(model)
    backend = TransformersBackend(model, [v])
    rows = [(TEXTS[0], " is longer", 2.0, "all"), (TEXTS[3], "so that", -1.5, "completion"), (TEXTS[1], "x", None, "")]
    plans = [plan(t) if c is None else plan(t, act(v, c, positions=p)) for t, _, c, p in rows]
    scores = backend.score(of(backend, plans), [answer for _, answer, _, _ in rows])
    for p, (_, answer, c, positions), got in zip(plans, rows, scores, strict=True):
        prompt = backend.encode(p)
        tokens = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
        start = len(prompt) if positions == "completion" else 0
        found = logits_by_hand(model, prompt + tokens, start, None if c is None else v, c or 0.0)
        expected = [float(found[len(prompt) - 1 + k, t]) for k, t in enumerate(tokens)]
        assert got == pytest.approx(expected, abs=1e-4)


def test_a_score_runs_the_head_on_the_continuation_only(loaded):
    model = loaded()
    seen = []
    handle = model.model.lm_head.register_forward_hook(lambda _m, args, _o: seen.append(tuple(args[0].shape)))
    backend = TransformersBackend(model)
    texts = [" is longer", "x"]
    backend.score(of(backend, [plan(TEXTS[3]), plan(TEXTS[0])]), texts)
    handle.remove()
    longest = max(len(model.tokenizer(a, add_special_tokens=False)["input_ids"]) for a in texts)
    assert seen == [(2, longest, 32)]


def test_the_letters_after_one_prompt_are_one_row(loaded):
    model = loaded()
    v = vector(model)
    backend = TransformersBackend(model, [v])
    assert shares_trunk(model)
    rows = []
    handle = model.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    plans = [plan(TEXTS[0]), plan(TEXTS[0]), plan(TEXTS[0], act(v)), plan(TEXTS[0], act(v)), plan(TEXTS[1])]
    letters = ["A", "B", "A", "B", "A"]
    scores = backend.score(of(backend, plans), letters)
    handle.remove()
    assert rows == [3]
    alone = [backend.score(of(backend, [p]), [letter])[0] for p, letter in zip(plans, letters, strict=True)]
    assert [s[0] for s in scores] == pytest.approx([s[0] for s in alone], abs=1e-5)
    assert scores[0] != scores[1]
    assert scores[0] != scores[2]


def test_divergence_is_the_kl_of_steered_from_unsteered(loaded):
    model = loaded()
    v = vector(model)
    backend = TransformersBackend(model, [v])
    plans = [plan(TEXTS[1], act(v, 1.5)), plan(TEXTS[0]), plan(TEXTS[3], act(v, -0.5, positions="completion"))]
    texts = ["so that it is", "longer", " text"]
    found = backend.diverge(of(backend, plans), texts)
    assert set(found[1]) == {0.0}
    for p, answer, got in zip(plans, texts, found, strict=True):
        prompt = backend.encode(p)
        tokens = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
        assert len(got) == len(tokens)
        if not p.interventions:
            continue
        (i,) = p.interventions
        start = len(prompt) if i.positions == "completion" else 0
        after = logits_by_hand(model, prompt + tokens, start, v, i.coefficient)
        before = logits_by_hand(model, prompt + tokens, 0)
        kl = (after.exp() * (after - before)).sum(-1)[len(prompt) - 1 : -1]
        assert got == pytest.approx(kl.tolist(), abs=1e-4)
    assert found[2][0] == 0.0  # nothing before the completion is steered
    assert found[0][0] > 1e-3


def test_strengths_share_the_unsteered_pass(loaded):
    model = loaded()
    v = vector(model)
    backend = TransformersBackend(model, [v])
    assert shares_trunk(model)
    rows = []
    handle = model.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    small, none, large = backend.diverge(
        of(backend, [plan(TEXTS[0], act(v, c)) for c in (0.5, 0.0, 4.0)]), ["so that"] * 3
    )
    handle.remove()
    assert rows == [4]
    assert none == pytest.approx([0.0] * len(none), abs=1e-6)
    assert sum(small) < sum(large)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "qwen2"])
@pytest.mark.parametrize("layer", [0, 1])
def test_rows_of_one_text_share_the_layers_below_their_interventions(loaded, family, layer):
    model = loaded(family)
    v = vector(model)
    backend = TransformersBackend(model, [v])
    assert shares_trunk(model)
    # what is measured once is measured here
    backend.score(of(backend, [plan(TEXTS[0])]), ["so that"])
    layers = find_sites(model.model).layers
    rows = {}
    handles = [
        one.register_forward_hook(
            lambda _m, _a, out, k=k: rows.setdefault(k, []).append(len(out[0] if isinstance(out, tuple) else out))
        )
        for k, one in enumerate(layers)
    ]
    asked = [plan(t, act(v, c, layer=layer)) for t in TEXTS[:2] for c in (-1.0, 0.5, 2.0)] + [plan(TEXTS[0])]
    together = backend.score(of(backend, asked), ["so that"] * 7)
    for handle in handles:
        handle.remove()
    # this hook comes before the one that spreads what leaves the last shared layer
    assert rows == {k: [7 if k > layer else 2] for k in range(len(layers))}
    alone = [backend.score(of(backend, [p]), ["so that"])[0] for p in asked]
    for found, want in zip(together, alone, strict=True):
        assert found == pytest.approx(want, abs=2e-5)
    assert len({round(sum(s), 3) for s in together}) == 7


def test_gates_and_sublayers_bound_what_is_shared():
    add = Intervention("add", "v", 3, 1.0)
    assert untouched([add]) == 3
    assert untouched([replace(add, site="mlp")]) == 2
    assert untouched([add, replace(add, layer=1)]) == 1
    assert untouched([replace(add, gate=Gate("c", 2, 0.1))]) == 2
    assert untouched([replace(add, layer=0, site="attention")]) == -1


def test_a_model_whose_layers_cannot_be_shared_is_read_whole(loaded, monkeypatch):
    model = loaded()
    v = vector(model)
    backend = TransformersBackend(model, [v])
    asked = of(backend, [plan(TEXTS[0], act(v, c)) for c in (-1.0, 0.5)])
    shared = backend.score(asked, ["so that"] * 2)
    monkeypatch.setattr("steer_core.generation.reading.shares_trunk", lambda _: False)
    for found, want in zip(backend.score(asked, ["so that"] * 2), shared, strict=True):
        assert found == pytest.approx(want, abs=2e-5)


def test_a_vector_of_another_model_or_width_is_not_taken(loaded):
    backend = TransformersBackend(loaded(), [vector(loaded())])
    with pytest.raises(SteerworksError, match="was fitted on model elsewhere"):
        backend.add_vectors([vector(loaded(), 5), vector(loaded(), 1, model="elsewhere")])
    with pytest.raises(SteerworksError, match="has width 16; the model's hidden size is 32"):
        backend.add_vectors([vector(loaded(), 1, width=16)])
    # none of a refused list is kept
    with pytest.raises(SteerworksError, match="is not loaded; 1 others are"):
        answers(backend, calls([plan("a", act(vector(loaded(), 5)))]))


@pytest.mark.parametrize("verb", ["generate", "score", "diverge"])
def test_a_plan_that_cannot_be_executed_is_refused_before_anything_runs(loaded, verb):
    backend = TransformersBackend(loaded(), [vector(loaded())])
    ran = []
    handle = loaded().model.register_forward_pre_hook(lambda *_: ran.append(1))
    odd = plan("a", act(vector(loaded()), layer=9))
    with pytest.raises(SteerworksError, match="layer 9 is out of range"):
        answers(backend, calls([plan("a"), odd])) if verb == "generate" else getattr(backend, verb)(
            of(backend, [odd]), ["x"]
        )
    handle.remove()
    assert not ran


def test_a_backend_says_by_name_what_it_cannot_do():
    steered = plan("a", Intervention("add", "v", 0, 1.0))
    weak = Capabilities("openai", None, scores=False)
    with pytest.raises(SteerworksError, match="openai backend cannot apply interventions; use transformers or vllm"):
        weak.refuse(steered)
    with pytest.raises(SteerworksError, match="openai backend cannot score continuations"):
        weak.refuse(plan("a"), "score")
    with pytest.raises(SteerworksError, match="openai backend cannot measure divergence"):
        weak.refuse(plan("a"), "diverge")
    weak.refuse(plan("a"))
    able = Capabilities("transformers", None, scores=True, interventions=Interventions.every(), diverges=True)
    for verb in ("generate", "score", "diverge"):
        able.refuse(steered, verb)


def test_a_model_of_an_unknown_architecture_still_answers_unsteered(tiny_model):
    backend = TransformersBackend(load_model(ModelSpec(name="tiny", source=str(tiny_model("rwkv", True)))))
    (answer,) = answers(backend, calls([plan("a", tokens=3)]))
    assert answer.completion_tokens > 0
    assert len(backend.score(of(backend, [plan("a")]), ["longer"])[0]) > 0
    with pytest.raises(SteerworksError, match="decoder layers of RwkvForCausalLM"):
        answers(backend, calls([plan("a", Intervention("add", "v", 0, 1.0))]))
