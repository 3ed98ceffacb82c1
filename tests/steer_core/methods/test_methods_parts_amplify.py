"""Amplified steering: the formula on logits, the second pass is the plan unsteered, and at scale 1 nothing changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixture_requests import GOALS
from pydantic import ValidationError

from schemas.amplify_part import AmplifyPart
from schemas.specs import BenchSpec, Decoding, MethodSpec, ModelSpec
from steer_core.generation.backend import Call, Capabilities, answer_all
from steer_core.generation.decoding import build_rule, further_passes
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.methods.load import load_method
from steer_core.methods.parts.amplify import build
from steer_core.models.loading import load_model
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Message, Plan
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError

MODEL = ModelSpec(name="embedded", source="embedded")
STEP = Intervention("add", "v", 1, 2.0)
PLAN = Plan("m", Decoding(), (Message("user", "Hello."),), interventions=(STEP,))


def amplified(plan, **settings):
    return build(AmplifyPart(**settings), "amplify", None).apply(plan, None, None)


def test_the_second_pass_is_the_plan_without_steering_and_what_nothing_steers_stays():
    (plain,) = further_passes(amplified(PLAN, scale=2.0))
    assert plain == replace(PLAN, interventions=())
    worn = replace(PLAN, adapter="digest")
    (plain,) = further_passes(amplified(worn))
    assert (plain.interventions, plain.adapter) == ((), None)
    bare = replace(PLAN, interventions=())
    assert amplified(bare) == bare


def test_logits_are_the_formula():
    rng = np.random.default_rng(0)
    steered, plain = (torch.from_numpy(rng.normal(size=50)) for _ in range(2))
    (extension,) = amplified(PLAN, scale=2.5, alpha=0.0).extensions
    found = build_rule(extension, {})(steered, [], plain[None]).log_softmax(-1)
    p, q = steered.log_softmax(-1), plain.log_softmax(-1)
    expected = (q + 2.5 * (p - q)).log_softmax(-1)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    (extension,) = amplified(PLAN, scale=2.5, alpha=0.2).extensions
    cut = build_rule(extension, {})(steered, [], plain[None])
    assert torch.equal(cut.isinf(), p.exp() < 0.2 * p.exp().max())


def test_on_the_embedded_model_scale_1_is_the_vector_and_more_is_more_of_it():
    loaded = load_model(MODEL)
    table = loaded.model.get_input_embeddings().weight.detach().float().numpy()

    def mean(words):
        return np.mean([table[loaded.tokenizer(f" {w}")["input_ids"]].mean(axis=0) for w in words], axis=0)

    direction = mean(("wonderful", "lovely")) - mean(("awful", "horrible"))
    direction *= 2.0 / np.linalg.norm(direction)
    vector = SteeringVector("glad", "add", 1, {"direction": direction[None].astype(np.float32)}, {}, loaded.fingerprint)
    backend = TransformersBackend(loaded, [vector])
    asked = Message("user", "Write about the gardener and the lamp.")
    plan = Plan(loaded.spec.identity, Decoding(max_new_tokens=24), (asked,))
    pushed = replace(plan, interventions=(Intervention("add", vector.id, 1, 1.0),))
    assert amplified(pushed, scale=1.0) == pushed
    nearly = amplified(pushed, scale=1.0 + 1e-9, alpha=0.0)
    some = [pushed, nearly, amplified(pushed, scale=0.0, alpha=0.0), plan]
    answers = [a.raw for a in answer_all(backend, [Call(p, 0, 0) for p in some])]
    assert answers[0] == answers[1]
    assert answers[2] == answers[3]


def test_it_stands_behind_what_it_amplifies_and_engines_may_refuse():
    vector = {"kind": "vector", "estimator": "mean-difference", "strengths": [1.0]}
    bench = BenchSpec.model_validate(
        {
            "name": "b", "corpus": {"sources": [{"kind": "grammar", "n_texts": 10}]}, "goals": ["formality"],
            "probes": [{"name": "p", "n_texts": 2, "n_goals_per_text": 1, "active": 1}], "models": ["embedded"],
            "methods": ["m"],
        }
    )  # fmt: skip

    def method(*parts):
        return load_method(MethodSpec.model_validate({"name": "m", "parts": list(parts)}), MODEL, bench, GOALS)

    assert [p.label for p in method(vector, {"kind": "amplify"}).parts] == ["vector", "amplify"]
    with pytest.raises(ConfigError, match="put it behind the vector or adapter"):
        method({"kind": "amplify"}, vector)
    with pytest.raises(ConfigError, match="a part of kind 'amplify' acts on all others: put it last"):
        method(vector, {"kind": "amplify"}, vector)
    with pytest.raises(ConfigError, match="take one"):
        method({"kind": "prompt", "strategy": "direct"}, {"kind": "guidance"}, {"kind": "amplify"}, vector)
    with pytest.raises(ValidationError, match="there is nothing to amplify"):
        method({"kind": "amplify"})
    able = Capabilities("vllm", None, True, extensions=("contrastive",))
    part = build(AmplifyPart(), "amplify", None)
    assert part.refuse(able).startswith("vllm backend cannot amplify steering")
    assert part.refuse(replace(able, passes=True)) is None
