"""`vllm serve`, started by the launcher: steered over HTTP, refusing by HTTP 400, gone when it is stopped."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psutil
import pytest
from vllm_world import CONTEXT, PYTHON

from steer_core.generation.servers.command import ServeOptions
from steer_core.generation.servers.process import ServerError
from steer_core.generation.servers.proof import spec_text, worker_receipt
from steer_core.generation.servers.server import Server

pytestmark = [pytest.mark.vllm, pytest.mark.e2e]


@pytest.fixture(scope="module")
def server(world, tmp_path_factory):
    more = ("--trust-request-chat-template",)
    options = ServeOptions(str(world.model), name="llama", max_context=CONTEXT, more=more)
    with Server.start(PYTHON, options, folder=tmp_path_factory.mktemp("server")) as server:
        server.upload(world.vectors)
        yield server


def asked(ask, nonce):
    body = {"model": "llama", "prompt": list(ask.tokens), "max_tokens": ask.max_tokens, "temperature": 0}
    if ask.interventions:
        body["vllm_xargs"] = {"steer": spec_text(ask.interventions, nonce)}
    return {**body, "return_token_ids": True}


def tokens_of(answer):
    found = answer["choices"][0]["token_ids"]
    return found[:-1] if found and found[-1] == 1 else found


@pytest.mark.vllm_small
def test_steered_requests_over_http_are_the_answers_of_the_hooks(world, server):
    asks, want = world.asks[0][:40], world.answers[0][:40]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: server.post("/v1/completions", asked(asks[n], f"n{n}")), range(40)))
    assert [tokens_of(a) for a in answers] == [tokens for tokens, _ in want]
    receipts = server.receipts([f"n{n}" for n in range(40)])
    for n, (ask, answer, (_, hook)) in enumerate(zip(asks, answers, want, strict=True)):
        if ask.interventions:
            (found,) = receipts[f"n{n}"]
            fed = answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"] - 1
            receipt = worker_receipt(n, ask.interventions, len(ask.tokens), fed, found)
            assert json.loads(receipt.to_json()) == {**hook, "realisation": "worker"}


def test_the_chat_completions_take_steering_too(world, server):
    ask = next(a for a in world.asks[0] if a.interventions)
    body = {
        "model": "llama",
        "messages": [{"role": "user", "content": "w5 w6"}],
        "chat_template": "{{ messages[0].content }}",
        "max_tokens": 4,
        "vllm_xargs": {"steer": spec_text(ask.interventions, "chat")},
    }
    server.post("/v1/chat/completions", body)
    assert len(server.receipts(["chat"])["chat"]) == 1


@pytest.mark.vllm_small
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vector": "nobody"}, "'nobody' is not loaded"),
        ({"layer": 4}, "layers 0 to 3"),
        ({"operator": "explode"}, "cannot apply operator 'explode'"),
        ({"positions": "span:5:5"}, "span:5:5"),
        ({"gate": {"vector": "v", "layer": 0, "threshold": 0.5}}, "cannot wait for a gate"),
        ({"operator": "affine"}, "it lacks left"),
        (None, "is no JSON"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_400_and_the_engine_lives(world, server, change, words):
    ask = next(a for a in world.asks[0] if a.interventions and a.interventions[0].operator == "add")
    text = spec_text(ask.interventions, "bad")
    spec = json.loads(text)
    spec["interventions"][0] |= change or {}
    body = asked(ask, "bad") | {"vllm_xargs": {"steer": json.dumps(spec) if change else text[:-2]}}
    with pytest.raises(ServerError, match=words) as refused:
        server.post("/v1/completions", body)
    assert refused.value.status == 400
    assert server.healthy()
    plain = next((a, w) for a, w in zip(world.asks[0], world.answers[0], strict=True) if not a.interventions)
    assert tokens_of(server.post("/v1/completions", asked(plain[0], ""))) == plain[1][0]


def test_vectors_that_do_not_fit_are_refused(world, server):
    def said(**body):
        return server.call("steer_upload", {"name": "odd", **body}).get("error", "")

    width = world.vectors[0].width
    assert "hidden size is 128" in said(tensors={"direction": [[1.0, 2.0]]})
    assert "layers 0 to 3" in said(layer=9, tensors={"direction": [[1.0] * width]})
    assert "not finite" in said(tensors={"direction": [[float("inf")] * width]})
    assert "handed in as" in said()
    # a name is given once: what is cached under it would be wrong
    assert "error" not in server.call("steer_upload", {"name": "twice", "tensors": {"direction": [[1.0] * width]}})
    assert (
        "already" in server.call("steer_upload", {"name": "twice", "tensors": {"direction": [[2.0] * width]}})["error"]
    )


def test_a_vector_may_come_as_a_file(world, server, tmp_path):
    from safetensors.numpy import save_file

    ask, (tokens, _) = next(
        (a, w)
        for a, w in zip(world.asks[0], world.answers[0], strict=True)
        if len(a.interventions) == 1 and a.interventions[0].operator == "add"
    )
    vector = next(v for v in world.vectors if v.id == ask.interventions[0].vector)
    save_file(dict(vector.tensors), tmp_path / "vector.safetensors")
    assert "error" not in server.call("steer_upload", {"name": "filed", "file": str(tmp_path / "vector.safetensors")})
    renamed = replace(ask, interventions=(replace(ask.interventions[0], vector="filed"),))
    assert tokens_of(server.post("/v1/completions", asked(renamed, ""))) == tokens


def test_attaching_finds_it_and_stopping_leaves_it(server):
    again = Server.attach(server.address)
    again.stop()
    assert server.healthy()
    with pytest.raises(ServerError, match="nothing answers"):
        Server.attach("http://127.0.0.1:1", timeout=0.5)


def test_stopping_leaves_no_process(world, tmp_path):
    options = ServeOptions(str(world.model), max_context=CONTEXT)
    server = Server.start(PYTHON, options, folder=tmp_path)
    started = psutil.Process(server._process.pid)
    family = [started, *started.children(recursive=True)]
    assert len(family) > 2
    server.stop()
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not server.healthy()
    server.stop()


def test_a_start_that_fails_says_why_and_what_to_do(world, tmp_path):
    missing = ServeOptions(str(tmp_path / "nothing"))
    with pytest.raises(ServerError, match=r"the model was not found(.|\n)*The end of its log"):
        Server.start(PYTHON, missing, folder=tmp_path / "a")
    too_long = ServeOptions(str(world.model), max_context=CONTEXT * 4)
    with pytest.raises(ServerError, match=f"more than the model's own context, {CONTEXT} tokens"):
        Server.start(PYTHON, too_long, folder=tmp_path / "b")
    no_room = ServeOptions(str(world.model), max_context=CONTEXT, cache_bytes=1_000_000)
    with pytest.raises(ServerError, match="the cache has no room"):
        Server.start(PYTHON, no_room, folder=tmp_path / "c")
