"""Calls to a server that is played here: rows at a time, overlong prompts, receipts, and a source that waits."""

import threading

import pytest

from schemas.specs import Decoding
from steer_core.generation.backend import Call
from steer_core.generation.servers.completions import RECEIPTS, Completions, Prepared
from steer_core.generation.servers.process import ServerError
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

STEER = (Intervention("add", "v", 0, 1.0),)


class Played:
    """A server that answers a prompt [n] with the tokens n, n + 1 and the end, 0."""

    def __init__(self, fails=(), dumb=()):
        self.fails, self.dumb = fails, dumb
        self.lock, self.open, self.most, self.asked, self.looks = threading.Lock(), 0, 0, [], 0

    def complete(self, body, told=None):
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
            self.asked.append(body)
        n = body["prompt"][0]
        with self.lock:
            self.open -= 1
        if n in self.fails:
            raise ServerError("the engine died")
        return {"token_ids": [n, n + 1, 0], "finish_reason": "stop"}

    def receipts(self, nonces):
        import json

        self.looks += 1
        found = {}
        for body in self.asked:
            spec = json.loads(body.get("vllm_xargs", {}).get("steer", "{}"))
            if spec.get("nonce") in nonces and body["prompt"][0] not in self.dumb:
                touch = {"observed": len(body["prompt"]) + 2}
                found[spec["nonce"]] = [
                    {"touches": [touch], "prompt": len(body["prompt"]), "cached": 0, "reached": len(body["prompt"]) + 2}
                ]
        return found


def prepared(n, steered=False, room=8):
    plan = Plan("m", Decoding(max_new_tokens=8), tokens=(n,), interventions=STEER if steered else ())
    return Prepared(Call(plan, 0, 0), [n], room)


def completions(server, rows=4):
    return Completions(lambda: server, "m", rows, frozenset({0}), lambda tokens: " ".join(map(str, tokens)))


def test_answers_and_receipts_come_back_for_their_rows():
    server = Played()
    found = list(completions(server).of(prepared(n, steered=n % 2 == 1) for n in range(10, 110)))
    assert sorted(f.index for f in found) == list(range(100))
    for f in found:
        n = f.index + 10
        assert f.generation.raw == f"{n} {n + 1}"
        assert (f.generation.finish_reason, f.generation.prompt_tokens, f.generation.completion_tokens) == (
            "stop",
            1,
            3,
        )
        assert (f.generation.receipt is not None) == (n % 2 == 1)
    assert server.most <= 4
    # many receipts are asked for at once
    assert server.looks <= 50 / RECEIPTS + 1


def test_an_overlong_prompt_is_a_row_and_is_not_sent():
    server = Played()
    found = {f.index: f.generation for f in completions(server).of(iter([prepared(1, room=0), prepared(2)]))}
    assert (found[0].finish_reason, found[0].raw) == ("overlong", "")
    assert found[1].raw == "2 3"
    assert [b["prompt"] for b in server.asked] == [[2]]


def test_a_source_that_waits_is_asked_again_once_an_answer_was_handed_over():
    server, seen = Played(), []

    def source():
        yield prepared(5, steered=True)
        while not seen:
            yield None
        yield prepared(6)

    for f in completions(server).of(source()):
        seen.append(f.index)  # noqa: PERF401  (the source looks at it meanwhile)
    assert seen == [0, 1]
    with pytest.raises(SteerworksError, match="there are none"):
        list(completions(server).of(iter([None])))


def test_a_server_that_dies_or_a_worker_that_says_nothing_is_an_error(monkeypatch):
    monkeypatch.setattr("steer_core.generation.servers.completions.LOOKS", 2)
    with pytest.raises(ServerError, match="the engine died"):
        list(completions(Played(fails={3})).of(prepared(n) for n in range(1, 6)))
    with pytest.raises(SteerworksError, match="has no receipt"):
        list(completions(Played(dumb={3})).of(prepared(n, steered=True) for n in range(1, 6)))
