"""The page says what was sent for a cell's answers, what became of it and what it cost, as the table has it."""

import datetime
from dataclasses import replace

import pytest
from fixture_tables import cell_tables, typed

import schemas
from schemas.responses import OUTCOMES as KNOWN
from steer_core.generation.engines import Money
from steer_core.reports import build_cell_report
from steer_core.reports.sections import fitted_sections
from steer_core.reports.sections.endpoint import OUTCOMES, endpoint_section

PRICES = Money(0.0, "EUR", datetime.date(2025, 1, 2))


def attempt(number, response, outcome, cost=0.0, **tokens):
    counts = {f"{kind}_tokens": 0 for kind in ("prompt", "cached", "completion", "reasoning")}
    return {
        "attempt_id": f"a{number}",
        "response_id": response,
        "number": 1,
        "started": float(number),
        "seconds": 0.5,
        "outcome": outcome,
        "status": None,
        "detail": "",
        "thinking": "",
        **counts,
        **{f"{kind}_tokens": n for kind, n in tokens.items()},
        "cost": cost,
        "reserved": 0.0,
        "request_id": "",
        "batch_id": "",
        "address": "http://one/v1",
    }


SENT = [
    attempt(1, "r1", "waiting"),
    attempt(2, "r1", "answered", 0.0025, prompt=100, cached=40, completion=20, reasoning=5),
    attempt(3, "r2", "cut", 0.004),
    attempt(4, "r2", "refused", 0.001, prompt=100, completion=10),
    attempt(5, "r3", "truncated", 0.003, prompt=1000, completion=64),
    attempt(6, "r4", "filtered", 0.0),
]


@pytest.fixture(scope="module")
def base():
    return cell_tables(n_texts=3, per_text=2, goals=("formality", "sentiment"), active=1)


def section_of(base, rows=SENT, prices=PRICES):
    tables = replace(base, attempts=typed(rows, schemas.Attempts), prices=prices)
    return endpoint_section(tables, tables.attempts)


def test_attempts_answers_tokens_and_money_are_the_tables(base):
    found = section_of(base)
    assert (found.responses, found.attempts, found.batched) == (4, 6, 0)
    assert (found.lost, found.why) == (2, "1 refused and 1 filtered")
    assert (found.cost, found.currency) == ("0.010500", "EUR")
    # the cut connection and the refusal; a truncated answer is one
    assert found.unanswered == "0.005000"
    assert found.priced == "at the prices of 2025-01-02, or as the endpoint says"
    assert found.tokens == {"prompt": 1200, "cached": 40, "completion": 94, "reasoning": 5}
    rows = {r.outcome: (r.attempts, r.prompt_tokens, r.cost) for r in found.rows}
    assert rows == {
        "answered": (1, 100, "0.002500"),
        "truncated": (1, 1000, "0.003000"),
        "refused": (1, 100, "0.001000"),
        "filtered": (1, 0, "0.000000"),
        "waiting": (1, 0, "0.000000"),
        "cut": (1, 0, "0.004000"),
    }
    assert sum(r.share for r in found.rows) == pytest.approx(1.0)


def test_what_nobody_knows_of_the_money_is_said_and_never_a_zero(base):
    unknown = section_of(base, [attempt(1, "r1", "answered", None), attempt(2, "r2", "answered", None)], None)
    assert unknown.cost == "–"
    assert unknown.priced == "without 2 attempts whose cost nobody knows"
    some = section_of(base, [attempt(1, "r1", "answered", 12.0), attempt(2, "r2", "answered", None)])
    assert some.cost == "12.0000"
    assert some.priced.endswith("without 1 attempt whose cost nobody knows")


def test_rows_that_were_not_answered_yet_are_lost_for_now(base):
    found = section_of(base, [*SENT, attempt(7, "r5", "timeout", 0.001), attempt(8, "r6", "lost", 0.001)])
    assert (found.lost, found.why) == (4, "1 refused, 1 filtered and 2 not answered yet")


def test_several_addresses_are_told_apart_and_one_is_not_mentioned(base):
    assert section_of(base).addresses == {}
    elsewhere = [{**row, "address": "http://two/v1"} for row in SENT[3:5]]
    older = {**attempt(9, "r9", "answered"), "address": None}
    found = section_of(base, [*SENT[:3], *elsewhere, older])
    assert found.addresses == {"http://one/v1": (3, 1), "http://two/v1": (2, 1), "not known": (1, 1)}


def test_every_outcome_that_a_table_may_hold_has_a_meaning():
    assert set(OUTCOMES) == set(KNOWN)


@pytest.mark.parametrize("attempts", [None, schemas.Attempts.empty()])
def test_a_cell_that_sent_nothing_has_no_such_section(base, attempts):
    assert fitted_sections(replace(base, attempts=attempts), ()) == ()


def test_the_page_has_the_section_and_its_place_in_the_contents(base):
    tables = replace(base, attempts=typed(SENT, schemas.Attempts), prices=PRICES)
    html = build_cell_report(tables).files["report.html"].decode()
    assert '<a href="#endpoint">Requests and money</a>' in html
    assert "0.010500" in html
    assert "Money, EUR" in html
    assert "1 refused and 1 filtered" in html
    assert '<section id="endpoint">' not in build_cell_report(base).files["report.html"].decode()
