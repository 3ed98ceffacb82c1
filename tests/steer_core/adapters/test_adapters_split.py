"""Texts of a test probe that adapters were trained on are found in the tables, whatever case and white space do."""

import polars as pl
import pytest

from schemas import TrainingSamples
from steer_core.adapters.split import split_by_text

REQUESTS = pl.DataFrame(
    [
        ("r1", "main", "t1", "The old baker sells bread."),
        ("r2", "main", "t2", "It rains."),
        ("r3", "pool", "t3", "A tired clerk reads."),
        ("r4", "pool", "t3", "A tired clerk reads."),
        ("r5", "other", "t5", "Nobody knows why."),
    ],
    schema=["request_id", "probe", "text_id", "text"],
    orient="row",
)


def samples(*requests):
    rows = [{"request_id": r} for r in requests]
    return pl.DataFrame(rows, schema={"request_id": pl.String}) if rows else TrainingSamples.empty()


def split(drawn=("r3",), requests=REQUESTS):
    return split_by_text(requests, samples(*drawn), "pool", ["main"])


def retold(request, text, text_id="t9"):
    here = pl.col("request_id") == request
    return REQUESTS.with_columns(
        text=pl.when(here).then(pl.lit(text)).otherwise("text"),
        text_id=pl.when(here).then(pl.lit(text_id)).otherwise("text_id"),
    )


@pytest.mark.parametrize(("drawn", "trained"), [(("r3", "r3", "r4"), 1), ((), 0), (("r5", "r3"), 2)])
def test_texts_of_their_own_hold(drawn, trained):
    found = split(drawn)
    assert found.holds
    assert (found.tested, found.pool, found.trained) == (2, 1, trained)
    assert found.said().startswith("None of the 2 texts of the test probes is among the 1 of the training pool")


def test_a_completion_that_was_drawn_for_a_request_of_the_probe_is_a_leak():
    found = split(("r3", "r2"))
    assert not found.holds
    assert found.shared == (("t2", "t2"),)
    assert "1 texts of the test probes" in found.said()
    assert "white space aside: t2. What" in found.said()


@pytest.mark.parametrize("text", ["It rains.", "  it  RAINS.", "It\nrains."])
def test_a_text_of_the_pool_is_the_same_text_in_another_case_and_with_other_white_space(text):
    # nothing was drawn for it: states are picked on texts of the pool, too
    found = split((), retold("r4", text))
    assert found.shared == (("t2", "t9"),)
    assert "t2 (in the pool as t9)" in found.said()


def test_a_probe_that_is_neither_tested_nor_trained_on_may_hold_any_text():
    assert split(("r3",), retold("r5", "It rains.", "t2")).holds
    # once something was drawn for it, it may not
    assert split(("r5",), retold("r5", "It rains.", "t2")).shared == (("t2", "t2"),)


def test_requests_that_nobody_knows_show_nothing():
    found = split(("r3", "gone"))
    assert not found.holds
    assert "1 requests that were trained on are in no probe (first: gone)" in found.said()


def test_no_more_texts_are_named_than_a_person_reads():
    many = pl.DataFrame({"n": range(9)}).select(
        request_id=pl.format("q{}", "n"),
        probe=pl.lit("main"),
        text_id=pl.format("u{}", "n"),
        text=pl.format("Text {}.", "n"),
    )
    both = pl.concat(
        [many, many.with_columns(pl.lit("pool").alias("probe"), pl.format("p{}", "request_id").alias("request_id"))]
    )
    said = split_by_text(both, samples(), "pool", ["main"]).said()
    assert "9 texts" in said
    assert "u0, u1, u2, u3, u4 and 4 more" in said


def test_prompts_of_a_set_are_of_no_probe_and_counted_apart():
    found = split(("r3", "item:a", "item:b", "item:a"))
    assert found.holds
    assert (found.trained, found.prompts) == (1, 2)
    assert found.said().endswith("completions were drawn for 1 of the latter, and for 2 prompts of a set.")
    assert split(("item:a", "r9")).unknown == ("r9",)
