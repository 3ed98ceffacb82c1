"""The engine without a server: the tokens and receipts of the server and the hooks; a kill loses nothing that arrived."""

import json
import os
import signal
from dataclasses import replace
from itertools import pairwise

import pytest
from test_vllm_backend import plans_of
from vllm_world import CONTEXT, PYTHON

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines import load_engine
from steer_core.generation.servers.command import ServeOptions
from steer_core.generation.servers.offline import OfflineEngine
from steer_core.generation.servers.process import ServerError
from steer_core.generation.servers.proof import spec_text

pytestmark = [pytest.mark.vllm, pytest.mark.e2e]


def engine_of(world, mode):
    spec = ModelSpec(
        name="llama",
        source=str(world.model),
        engine="vllm",
        device="cpu",
        chat=False,
        max_context=CONTEXT,
        vllm={"python": str(PYTHON), "rows": 32, "mode": mode},
    )
    backend = load_engine(spec)
    backend.add_vectors(world.vectors)
    return backend


@pytest.fixture(scope="module")
def offline(world):
    backend = engine_of(world, "offline")
    yield backend
    backend.close()


def check(world, turn, found):
    for got, (tokens, receipt) in zip(found, world.answers[turn][: len(found)], strict=True):
        assert [int(w[1:]) for w in got.raw.split()] == tokens
        assert (got.receipt is None) == (receipt is None)
        if receipt is not None:
            assert json.loads(got.receipt) == {**receipt, "realisation": "worker"}


@pytest.mark.vllm_small
def test_a_mixed_batch_gives_the_answers_and_receipts_of_the_hooks(world, offline):
    # two turns of conversations that share blocks of the cache: wrong without the salt
    for turn in (0, 1):
        check(world, turn, answer_all(offline, [Call(p, 0, 0) for p in plans_of(world, world.asks[turn])]))


@pytest.mark.vllm_small
def test_what_cannot_be_carried_out_is_refused_before_the_worker_and_the_engine_lives(world, offline):
    ask = next(a for a in world.asks[0] if a.interventions and a.interventions[0].operator == "add")
    body = {"model": "llama", "prompt": list(ask.tokens), "max_tokens": 4, "temperature": 0}
    for change, words in (
        ({"vector": "nobody"}, "'nobody' is not loaded"),
        ({"layer": 4}, "layers 0 to 3"),
        ({"operator": "affine"}, "it lacks left"),
    ):
        spec = json.loads(spec_text(ask.interventions, "bad"))
        spec["interventions"][0] |= change
        with pytest.raises(ServerError, match=words) as refused:
            offline.server.complete(body | {"vllm_xargs": {"steer": json.dumps(spec)}})
        assert refused.value.status == 400
    with pytest.raises(ServerError, match="neither a model nor a LoRA adapter is called 'nobody'"):
        offline.server.complete(body | {"model": "nobody"})
    with pytest.raises(ServerError, match="no field 'tea'"):
        offline.server.complete(body | {"tea": 1})
    plain = next(n for n, a in enumerate(world.asks[0]) if not a.interventions)
    (got,) = answer_all(offline, [Call(plans_of(world, [world.asks[0][plain]])[0], 0, 0)])
    assert [int(w[1:]) for w in got.raw.split()] == world.answers[0][plain][0]


def test_answers_are_told_as_they_grow_and_who_wants_no_more_ends_one(world, offline):
    plans = plans_of(world, world.asks[0][:6])
    assert any(p.interventions for p in plans)
    told = [[] for _ in plans]
    check(world, 0, answer_all(offline, [Call(p, 0, 0, draft=told[k].append) for k, p in enumerate(plans)]))
    for k, texts in enumerate(told):
        assert [int(w[1:]) for w in texts[-1].split()] == world.answers[0][k][0]
        assert all(after.startswith(before) for before, after in pairwise(texts))
    assert any(len(set(texts)) > 1 for texts in told)

    class Enough(Exception):
        pass

    def listen(text):
        raise Enough

    with pytest.raises(Enough):
        answer_all(offline, [Call(plans[0], 0, 0, draft=listen)])
    # the engine has let go of it, and answers as before
    check(world, 0, answer_all(offline, [Call(p, 0, 0) for p in plans]))


def test_drawn_answers_and_log_probabilities_are_those_of_the_server(world, offline):
    asks = world.asks[0][:28]
    plans = plans_of(world, asks)
    drawn = [replace(p, decoding=Decoding(max_new_tokens=12, temperature=1.0, top_p=0.9)) for p in plans]
    calls = [Call(p, 0, seed) for seed, p in enumerate(drawn)]
    texts = [" ".join(f"w{2 + (7 * k + n) % 300}" for n in range(4 + k % 3)) for k in range(len(asks))]
    server = engine_of(world, "server")
    try:
        want = [(g.raw, g.finish_reason, g.receipt) for g in answer_all(server, calls)]
        scores = server.score(plans, texts)
    finally:
        server.close()
    assert [(g.raw, g.finish_reason, g.receipt) for g in answer_all(offline, calls)] == want
    assert len({raw for raw, _, _ in want}) > 20
    for mine, theirs in zip(offline.score(plans, texts), scores, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


@pytest.mark.vllm_small
def test_a_kill_is_one_clear_error_and_loses_no_answer_that_had_arrived(world, offline):
    calls = [Call(p, 0, 0) for p in plans_of(world, world.asks[0])]
    arrived = []

    def take():
        for f in offline.generate(calls):
            arrived.append(f)
            if len(arrived) == 5:
                os.killpg(offline.server._process.pid, signal.SIGKILL)

    with pytest.raises(ServerError, match=r"vLLM ended with \d+ requests under way: it was killed"):
        take()
    assert 5 <= len(arrived) < len(calls)
    for f in arrived:
        tokens, receipt = world.answers[0][f.index]
        assert [int(w[1:]) for w in f.generation.raw.split()] == tokens
        assert (f.generation.receipt is None) == (receipt is None)
    with pytest.raises(ServerError, match="vLLM ended"):
        answer_all(offline, calls[:1])
    offline.close()


def test_closed_it_starts_again_when_it_is_asked_with_its_vectors(world, offline):
    offline.close()
    found = answer_all(offline, [Call(p, 0, 0) for p in plans_of(world, world.asks[0][:16])])
    for got, (tokens, _) in zip(found, world.answers[0], strict=False):
        assert [int(w[1:]) for w in got.raw.split()] == tokens


def test_a_start_that_fails_says_why_and_what_to_do(world, tmp_path):
    too_long = ServeOptions(str(world.model), max_context=CONTEXT * 4)
    with pytest.raises(ServerError, match=f"more than the model's own context, {CONTEXT} tokens"):
        OfflineEngine.start(PYTHON, too_long, folder=tmp_path / "a")
    strange = ServeOptions(str(world.model), more=("--tea",))
    with pytest.raises(ServerError, match="does not know the arguments --tea"):
        OfflineEngine.start(PYTHON, strange, folder=tmp_path / "b")
