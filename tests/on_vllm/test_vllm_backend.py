"""The engine `vllm`: the same plans give the tokens, receipts and log-probabilities of the transformers engine."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from vllm_world import CONTEXT, PYTHON

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines import load_engine
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

pytestmark = [pytest.mark.vllm, pytest.mark.e2e]


@pytest.fixture(scope="module")
def backend(world):
    spec = ModelSpec(
        name="llama",
        source=str(world.model),
        engine="vllm",
        device="cpu",
        chat=False,
        max_context=CONTEXT,
        vllm={"python": str(PYTHON), "rows": 32},
    )
    backend = load_engine(spec)
    backend.add_vectors(world.vectors)
    yield backend
    backend.close()


def plans_of(world, asks):
    return [
        Plan(
            world.reference.backend.model_identity,
            Decoding(max_new_tokens=a.max_tokens),
            tokens=a.tokens,
            interventions=a.interventions,
        )
        for a in asks
    ]


def test_the_same_plans_give_the_same_answers_and_receipts(world, backend):
    for turn in (0, 1):
        plans = plans_of(world, world.asks[turn])
        found = answer_all(backend, [Call(p, 0, 0) for p in plans])
        for got, (tokens, receipt) in zip(found, world.answers[turn], strict=True):
            assert [int(w[1:]) for w in got.raw.split()] == tokens
            if receipt is None:
                assert got.receipt is None
            else:
                assert json.loads(got.receipt) == {**receipt, "realisation": "worker"}


@pytest.mark.vllm_small
def test_answers_are_told_token_by_token_and_stay_the_same(world, backend):
    plans = plans_of(world, world.asks[0][:6])
    assert any(p.interventions for p in plans)
    told = [[] for _ in plans]
    calls = [Call(p, 0, 0, draft=told[k].append) for k, p in enumerate(plans)]
    for k, (got, (tokens, receipt)) in enumerate(zip(answer_all(backend, calls), world.answers[0][:6], strict=True)):
        assert [int(w[1:]) for w in got.raw.split()] == tokens
        assert (got.receipt is None) == (receipt is None)
        assert told[k][-1] == got.raw
        assert all(after.startswith(before) for before, after in zip(told[k], told[k][1:], strict=False))
    # how many tokens an event brings is the server's own choice, and grows with what else the machine does
    assert any(len(set(texts)) > 1 for texts in told)


def test_log_probabilities_are_those_of_the_hooks(world, backend):
    asks = world.asks[0][:28]
    plans = plans_of(world, asks)
    texts = [" ".join(f"w{2 + (7 * k + n) % 300}" for n in range(4 + k % 3)) for k in range(len(asks))]
    want = world.reference.backend.score(plans, texts)
    got = backend.score(plans, texts)
    assert [len(g) for g in got] == [len(w) for w in want]
    # this model's weights are large: in single precision the hooks themselves are 1.6e-5 off what double precision gives
    model = world.reference.backend.loaded.model
    model.double()
    try:
        truth = np.concatenate(world.reference.backend.score(plans, texts))
    finally:
        model.float()
    off, hooks_off = np.abs(np.concatenate(got) - truth).max(), np.abs(np.concatenate(want) - truth).max()
    assert off < 2e-5
    assert off < 2 * hooks_off
    # and steering mattered
    plain = world.reference.backend.score([replace(p, interventions=()) for p in plans], texts)
    assert max(np.abs(np.subtract(g, w)).max() for g, w in zip(got, plain, strict=True)) > 0.1
    too_long = replace(plans[0], tokens=tuple([5] * (CONTEXT - 2)), interventions=())
    assert backend.score([too_long], ["w3 w4 w5"]) == [[]]


def test_what_it_cannot_do_is_refused_by_name_and_overlong_prompts_are_rows(world, backend):
    plan = next(p for p in plans_of(world, world.asks[0]) if p.interventions)
    with pytest.raises(SteerworksError, match="cannot measure divergence"):
        backend.diverge([plan], ["w3"])
    gated = replace(plan.interventions[0], gate=Gate(plan.interventions[0].vector, 0, 0.5))
    with pytest.raises(SteerworksError, match="vllm backend cannot wait for a gate"):
        list(backend.generate([Call(replace(plan, interventions=(gated,)), 0, 0)]))
    stranger = Intervention("add", "nobody", 0, 1.0)
    with pytest.raises(SteerworksError, match="vector nobody is not known"):
        list(backend.generate([Call(replace(plan, interventions=(stranger,)), 0, 0)]))
    with pytest.raises(SteerworksError, match="cannot load adapters"):
        list(backend.generate([Call(replace(plan, adapter="x"), 0, 0)]))
    with pytest.raises(SteerworksError, match="a plan is of model"):
        list(backend.generate([Call(replace(plan, model="other"), 0, 0)]))
    (answer,) = answer_all(backend, [Call(replace(plan, tokens=tuple([3] * CONTEXT)), 0, 0)])
    assert answer.finish_reason == "overlong"


def test_drawn_answers_follow_from_their_seeds(world, backend):
    plan = replace(plans_of(world, world.asks[0])[0], decoding=Decoding(max_new_tokens=12, temperature=1.0, top_p=0.9))
    calls = [Call(plan, k, seed) for k, seed in enumerate([1, 2, 3, 1])]
    first, again = (
        [g.raw for g in answer_all(backend, calls)],
        [g.raw for g in answer_all(backend, calls[::-1])][::-1],
    )
    assert first == again
    assert first[0] == first[3]
    assert len(set(first)) > 1


def test_closing_leaves_no_server(world, backend):
    process = backend.server._process.pid
    backend.close()
    with pytest.raises(ProcessLookupError):
        os.killpg(process, 0)
    # and it starts again when it is needed, with its vectors
    plan = next(p for p in plans_of(world, world.asks[0]) if p.interventions)
    assert answer_all(backend, [Call(plan, 0, 0)])[0].receipt is not None
