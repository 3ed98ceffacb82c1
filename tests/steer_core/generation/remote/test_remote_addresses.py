"""Several addresses of one model: work is shared, who dies is given up, and each row is answered and paid once."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter

import polars as pl
import pytest
from far_models import calls_of, model_at
from pydantic import ValidationError

from schemas import Attempts
from schemas.endpoints import Endpoint
from steer_core.generation.engines import out_of_reach
from steer_core.generation.engines.openai import lacking
from steer_core.generation.remote.faults import EndpointError
from steer_core.generation.remote.ledger import FINAL, BudgetError, Ledger
from steer_core.tables.errors import SteerworksError
from steer_core.tables.validation import check


def questions(backend, n):
    return calls_of(backend.spec, [f"question {i}" for i in range(n)])


def given_up(caplog):
    return [r.getMessage() for r in caplog.records if "is given up" in r.getMessage()]


def once_each(servers, n):
    worked = Counter(p for s in servers for p in s.worked)
    assert worked == {f"question {i}": 1 for i in range(n)}


def test_work_is_shared_by_who_is_free_and_each_address_keeps_its_own_limits(serve, backend_at, caplog):
    caplog.set_level(logging.INFO, "steer_core")
    (slow, one), (fast, two), (narrow, three) = (serve(delay=d) for d in (0.6, 0.06, 0.06))
    backend = backend_at(one, concurrency=8, replicas=[two, {"base_url": three, "concurrency": 1}])
    assert sorted(f.index for f in backend.generate(questions(backend, 60))) == list(range(60))
    once_each([slow, fast, narrow], 60)
    assert (slow.most_in_flight <= 8, fast.most_in_flight <= 8, narrow.most_in_flight) == (True, True, 1)
    # who is done sooner is asked sooner
    assert len(fast.worked) > 2 * len(slow.worked)
    assert len(fast.worked) > 2 * len(narrow.worked) > 0
    rows = check(backend.ledger.attempts(), Attempts)
    assert dict(rows["address"].value_counts().iter_rows()) == {
        one: len(slow.worked),
        two: len(fast.worked),
        three: len(narrow.worked),
    }
    assert f"60 answers: {one} {len(slow.worked)} ({len(slow.worked) / 60:.0%}), {two} " in caplog.text


def test_questions_one_after_the_other_go_round(serve, backend_at):
    (a, one), (b, two) = serve(), serve()
    backend = backend_at(one, replicas=[two])
    # a judge asks in many small batches: who was asked before counts
    for call in questions(backend, 6):
        list(backend.generate([call]))
    assert (len(a.worked), len(b.worked)) == (3, 3)


@pytest.mark.parametrize("how", ["dies", "errors"])
def test_one_that_dies_in_the_middle_is_given_up_with_one_line_and_every_row_is_answered_once(
    serve, backend_at, caplog, how
):
    (dying, one), (other, two) = serve(dies_after=15), serve()
    backend = backend_at(one, replicas=[two], concurrency=8)
    if how == "errors":
        # a proxy stands before it: connections are taken, and nothing is behind
        dying.die = lambda: setattr(dying.script, "always", (502, "Bad gateway", {}))
    calls = questions(backend, 100)
    assert sorted(f.index for f in backend.generate(calls)) == list(range(100))
    once_each([dying, other], 100)
    assert len(dying.worked) == 15
    (line,) = given_up(caplog)
    assert one in line
    assert line.endswith("nothing answers there: look at `endpoint.base_url`, and whether the server runs; it is given up, "
                         "and 1 of 2 addresses go on" if how == "dies" else
                         "no answer in 5 rounds of attempts; it is given up, and 1 of 2 addresses go on")  # fmt: skip
    rows = backend.ledger.attempts()
    final = rows.filter(pl.col("outcome").is_in(FINAL))
    assert sorted(final["response_id"]) == sorted(c.response_id(backend.execution) for c in calls)
    assert dict(final["address"].value_counts().iter_rows()) == {one: 15, two: 85}
    # what was in flight as it died may have been paid; nothing else is counted twice, and nothing is left set aside
    paid = rows.filter(~pl.col("outcome").is_in(FINAL), pl.col("cost").is_null() | (pl.col("cost") > 0))
    assert paid.height <= 8
    spent, under_way = backend.ledger.money()
    assert under_way == pytest.approx(0.0, abs=1e-12)
    assert spent == pytest.approx(final["cost"].sum() + paid["reserved"].sum())
    # who is given up is not asked again by this engine, and it is not said again
    before = len(dying.requests)
    more = calls_of(backend.spec, [f"further {i}" for i in range(20)])
    assert len(list(backend.generate(more))) == 20
    assert len(dying.requests) == before
    assert len(given_up(caplog)) == 1


def test_only_when_all_are_dead_the_run_stops_with_one_message_and_what_came_is_never_asked_again(
    serve, backend_at, caplog
):
    (a, one), (_, two) = serve(dies_after=20), serve(always=(401, '{"error": {"message": "no"}}', {}))
    backend = backend_at(one, replicas=[two], concurrency=4, attempts=3)
    got = []
    with pytest.raises(SteerworksError) as caught:
        got.extend(f.index for f in backend.generate(questions(backend, 60)))
    assert len(given_up(caplog)) == 1
    # the last one that is left is treated as a single one is: it has answered, so rows are tried until they are given up
    assert "40 of 60 rows have no answer" in str(caught.value)
    assert len(got) == len(a.worked) == 20
    backend.ledger.close()
    (c, three), (d, four) = serve(), serve()
    again = backend_at(three, replicas=[four], concurrency=4)
    assert sorted(f.index for f in again.generate(questions(again, 60))) == list(range(60))
    once_each([a, c, d], 60)


def test_addresses_that_never_answered_are_all_named_in_one_message(serve, backend_at):
    (_, one), (_, two) = (serve(always=(404, '{"error": {"message": "no such model"}}', {})) for _ in range(2))
    backend = backend_at(one, replicas=[two])
    with pytest.raises(EndpointError) as caught:
        list(backend.generate(questions(backend, 40)))
    said = str(caught.value)
    assert said.startswith("none of 2 addresses answers: ")
    assert one in said
    assert two in said
    # whoever asks later has them tried anew
    with pytest.raises(EndpointError, match="none of 2 addresses"):
        list(backend.generate(questions(backend, 40)))


def test_one_that_says_to_wait_for_long_holds_nobody_up(serve, backend_at):
    (busy, one), (free, two) = serve(always=(429, "{}", {"retry-after": "20"})), serve()
    backend = backend_at(one, replicas=[two], concurrency=4)
    began = time.monotonic()
    assert len(list(backend.generate(questions(backend, 60)))) == 60
    assert time.monotonic() - began < 10
    assert len(busy.requests) <= 4
    assert len(free.worked) == 60


def test_what_one_refuses_another_is_asked_and_what_all_refuse_is_a_row_without_an_answer(serve, backend_at):
    (strict, one), (_, two) = serve(answers={"strange": "odd", "odder": "odd"}), serve(answers={"odder": "odd"})
    backend = backend_at(one, replicas=[two])
    calls = calls_of(backend.spec, [*(f"q {i}" for i in range(20)), "strange", "odder", *(f"r {i}" for i in range(20))])
    got = []
    with pytest.raises(EndpointError, match="1 of 42 rows have no answer"):
        got.extend(f.index for f in backend.generate(calls))
    assert sorted(got) == [i for i in range(42) if i != 21]
    assert strict.worked


def test_money_is_one_limit_for_all_of_them(serve, backend_at):
    (a, one), (b, two) = serve(), serve()
    backend = backend_at(one, replicas=[two], max_cost=0.002)
    with pytest.raises(BudgetError, match="Raise `max_cost`"):
        list(backend.generate(calls_of(backend.spec, [f"question {i}" for i in range(100)], max_new_tokens=20)))
    assert backend.ledger.money()[0] <= 0.002
    assert 35 <= len(a.worked) + len(b.worked) < 100
    assert a.worked
    assert b.worked


def test_each_address_has_its_own_key_and_one_that_is_not_set_is_said(serve, backend_at, monkeypatch):
    monkeypatch.setenv("KEY_ONE", "first-secret")
    monkeypatch.setenv("KEY_TWO", "second-secret")
    (a, one), (b, two) = serve(key="first-secret"), serve(key="second-secret")
    backend = backend_at(one, key="KEY_ONE", replicas=[{"base_url": two, "key": "KEY_TWO"}], concurrency=4)
    assert len(list(backend.generate(questions(backend, 40)))) == 40
    assert a.worked
    assert b.worked
    monkeypatch.delenv("KEY_TWO")
    (said,) = lacking(backend.spec)
    assert "KEY_TWO" in said


def test_addresses_are_no_part_of_what_a_model_is(backend_at):
    alone, spread = model_at("http://a/v1"), model_at("http://a/v1", replicas=["http://b/v1"])
    assert alone.identity == spread.identity
    assert (
        backend_at("http://a/v1", "one").execution
        == backend_at("http://a/v1", "two", replicas=["http://b/v1"]).execution
    )


def test_nobody_is_out_of_reach_as_long_as_one_address_answers(serve):
    _, there = serve()
    gone = "http://127.0.0.1:9/v1"
    assert out_of_reach(model_at(gone, replicas=[there])) is None
    said = out_of_reach(model_at(gone, replicas=["http://127.0.0.1:19/v1"]))
    assert said is not None
    assert said.startswith(f"nobody answers at {gone} (")
    assert " or http://127.0.0.1:19/v1 (" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"replicas": ["b:8000"]}, "is no address"),
        ({"replicas": ["http://a/v1/"]}, "http://a/v1 is named twice"),
        ({"base_url": None, "dialect": "openai", "replicas": ["http://b/v1"]}, "set `base_url` as well"),
        ({"replicas": [{"base_url": "http://b/v1", "model": "other"}]}, "model"),
        ({"replicas": [{"concurrency": 2}]}, "base_url"),
    ],
)
def test_wrong_replicas_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        Endpoint.model_validate({"base_url": "http://a/v1", **settings})


def test_a_ledger_that_knew_no_addresses_is_taken_over(tmp_path, serve, backend_at):
    _, address = serve()
    backend = backend_at(address)
    calls = questions(backend, 3)
    list(backend.generate(calls))
    backend.ledger.close()
    file = tmp_path / "ledger.sqlite"
    with sqlite3.connect(file) as db:
        db.execute("ALTER TABLE attempts DROP COLUMN address")
    older = Ledger(file)
    assert len(older.answered(c.response_id(backend.execution) for c in calls)) == 3
    rows = check(older.attempts(), Attempts)
    assert rows["address"].null_count() == 3
    older.close()
    # a table of version 1, which did not say where a request went
    assert check(Attempts.migrate(rows.drop("address"), 1), Attempts).equals(rows)
