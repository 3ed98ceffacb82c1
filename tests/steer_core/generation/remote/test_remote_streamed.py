"""Replies that come piece by piece: told as they come, kept like those that come whole, paid for where they break off."""

import json
from dataclasses import replace

import pytest
from far_models import calls_of

from steer_core.generation.backend import answer_all
from steer_core.generation.remote.streamed import Gathered


def drafted(calls):
    told = [[] for _ in calls]
    return [replace(c, draft=told[k].append) for k, c in enumerate(calls)], told


HOW = {"two": "think", "three": "refuse", "four": "truncate", "five": "filter", "six": "empty"}


def test_a_reply_in_pieces_is_the_reply_that_comes_whole(serve, backend_at):
    server, address = serve(answers=HOW)
    prompts = ["one", *HOW]
    whole = backend_at(address, ledger="whole")
    expected = answer_all(whole, calls_of(whole.spec, prompts))
    backend = backend_at(address)
    calls, told = drafted(calls_of(backend.spec, prompts))
    found = answer_all(backend, calls)
    assert [replace(f, seconds=0) for f in found] == [replace(e, seconds=0) for e in expected]
    assert told[0] == ["answer", "answer to", "answer to one"]
    # what is thought is no part of the answer, and neither is a refusal; that it is under way is told
    assert told[1] == ["", "", "", "answer", "answer to", "answer to two"]
    assert set(told[2]) == {""}
    asked = [r["body"] for r in server.requests]
    assert all("stream" not in body for body in asked[: len(prompts)])
    assert all(body["stream_options"] == {"include_usage": True} for body in asked[len(prompts) :])
    columns = ["outcome", "thinking", "prompt_tokens", "completion_tokens", "cost"]
    kept = [b.ledger.attempts().sort("response_id").select(columns) for b in (whole, backend)]
    assert kept[0].equals(kept[1])
    # and what is kept is not asked for again
    answer_all(backend, calls)
    assert len(server.requests) == 2 * len(prompts)


def test_an_endpoint_that_knows_no_pieces_answers_whole(serve, backend_at):
    _, address = serve(streams=False)
    backend = backend_at(address)
    calls, told = drafted(calls_of(backend.spec, ["one"]))
    assert [a.raw for a in answer_all(backend, calls)] == ["answer to one"]
    assert told == [[]]


def test_a_stream_that_is_cut_is_asked_for_again_and_counts_as_paid(serve, backend_at):
    server, address = serve(breaks_after=2)
    backend = backend_at(address, max_cost=1.0)
    calls, told = drafted(calls_of(backend.spec, ["one"]))
    assert [a.raw for a in answer_all(backend, calls)] == ["answer to one"]
    assert told == [["answer", "answer to", "answer", "answer to", "answer to one"]]
    rows = backend.ledger.attempts()
    assert rows["outcome"].to_list() == ["cut", "answered"]
    spent, under_way = backend.ledger.money()
    assert under_way == 0
    assert spent > rows.filter(outcome="answered")["cost"].item()
    assert len(server.requests) == 2


class Enough(Exception):
    """Whoever listens wants no more."""


def test_who_wants_no_more_ends_it_and_nothing_stays_set_aside(serve, backend_at):
    server, address = serve()
    backend = backend_at(address, max_cost=1.0)

    def listen(text):
        raise Enough

    with pytest.raises(Enough):
        answer_all(backend, [replace(c, draft=listen) for c in calls_of(backend.spec, ["one"])])
    rows = backend.ledger.attempts()
    assert rows["outcome"].to_list() == ["cut"]
    assert backend.ledger.money()[1] == 0
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["429", "500", "half", "html", "inside"])
def test_faults_are_told_as_of_a_reply_that_comes_whole(serve, backend_at, fault):
    server, address = serve(faults={fault: 0.5}, seed=4)
    backend = backend_at(address)
    calls, _ = drafted(calls_of(backend.spec, [f"q{k}" for k in range(12)]))
    assert [a.raw for a in answer_all(backend, calls)] == [f"answer to q{k}" for k in range(12)]
    assert len(server.requests) > 12


def test_lines_end_at_line_feeds_alone(serve, backend_at):
    odd = "one\u2028two\u2029three\x85four\x0bfive"
    server, address = serve(answers={"odd": f"say:{odd}"}, escapes=False)
    backend = backend_at(address)
    calls, told = drafted(calls_of(backend.spec, ["odd"]))
    assert [a.raw for a in answer_all(backend, calls)] == [odd]
    assert len(server.requests) == 1
    assert told[0]


@pytest.mark.parametrize("event", ["1", '"text"', '{"choices": [{"delta": {"content": 7}}]}', "{"])
def test_what_is_no_event_is_a_fault_and_no_answer(event):
    gathered = Gathered(lambda text: None, ())
    with pytest.raises(ValueError):
        gathered.take(f"data: {event}")


def test_text_may_come_in_parts():
    told = []
    gathered = Gathered(told.append, ("reasoning",))
    for content in ([{"type": "text", "text": "Hel"}], "lo", [{"type": "text", "text": "!"}, {"type": "image"}]):
        gathered.take("data: " + json.dumps({"id": "x", "choices": [{"delta": {"content": content}}]}))
    gathered.take('data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}')
    gathered.take("data: [DONE]")
    assert told[-1] == "Hello!"
    assert json.loads(gathered.body())["choices"][0]["message"]["content"] == "Hello!"


def test_others_in_flight_are_settled_when_one_is_stopped_and_can_be_asked_again(serve, backend_at, monkeypatch):
    monkeypatch.setattr("steer_core.generation.remote.pump.GRACE", 0.3)
    server, address = serve(hold={"slow": "released"})
    backend = backend_at(address, max_cost=1.0)

    def listen(text):
        if text:
            raise Enough

    first, second = calls_of(backend.spec, ["quick", "slow"])
    with pytest.raises(Enough):
        answer_all(backend, [replace(first, draft=listen), replace(second, draft=listen)])
    assert set(backend.ledger.attempts()["outcome"]) == {"cut"}
    assert backend.ledger.money()[1] == 0
    server.script.hold.clear()
    assert [a.raw for a in answer_all(backend, [second])] == ["answer to slow"]
