"""What the page says of an adapter: with and without it, under one prompt; and how often it says so of nothing."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from fixture_tables import cell_tables

from schemas.evaluation import HEADLINE
from steer_core.reports.adapter_worth import BARE, COSTS, beside_bare, claim, costs
from steer_core.reports.sections.adapter import trained

TEXTS, EACH = 32, 4


def frames(rng, base, *, gain=0.0, words=0, lost=0):
    """Tables of a cell with and without its adapter: scores on 32 texts, the same but for noise and what is given."""
    requests = [f"r{t}-{k}" for t in range(TEXTS) for k in range(EACH)]
    hard = np.repeat(rng.normal(0.4, 0.1, TEXTS), EACH)
    rows = []
    for arm, better in ((HEADLINE, gain), ("bare", 0.0)):
        # texts differ in what an adapter does to them as well, so that requests of a text are no sample of their own
        effect = np.repeat(rng.normal(0.0, 0.05, TEXTS), EACH)
        rows.append(
            pl.DataFrame(
                {
                    "arm_id": arm,
                    "request_id": requests,
                    "text_id": np.repeat([f"t{t}" for t in range(TEXTS)], EACH),
                    "error_worst": hard + effect + rng.normal(0, 0.1, len(requests)) - better,
                    **{
                        c: 0.5 + effect + rng.normal(0, 0.1, len(requests))
                        for c, *_ in COSTS
                        if c not in ("words", "failed")
                    },
                }
            )
        )
    written = []
    for arm, more in ((HEADLINE, words), ("bare", 0)):
        long = 20 + more + rng.integers(0, 7, len(requests))
        failures = [None if arm != HEADLINE or k >= lost else "truncated" for k in range(len(requests))]
        texts = ["word " * (1000 if f else int(n)) for n, f in zip(long, failures, strict=True)]
        written.append(pl.DataFrame({"arm_id": arm, "request_id": requests, "text": texts, "failure": failures},
                                    schema_overrides={"failure": pl.String}))  # fmt: skip
    arms = pl.DataFrame({"arm_id": [HEADLINE, "bare"], "part": ["", "adapter"], "label": ["as it is used", BARE]})
    return replace(base, probe_arms=arms, scores_of_arms=pl.concat(rows), outcomes_of_arms=pl.concat(written))


def beside(tables):
    return beside_bare(tables.probe_arms, tables.scores_of_arms, tables.outcomes_of_arms, "adapter")


@pytest.fixture(scope="module")
def base():
    return cell_tables(n_texts=2, per_text=2)


def test_an_adapter_that_does_nothing_is_seldom_said_to_do_something(base):
    """The null: 95 % intervals of the claim, and of all costs together, say something of nothing one time in twenty."""
    rng, claimed, differing, n = np.random.default_rng(0), 0, 0, 400
    for _ in range(n):
        pair = beside(frames(rng, base))
        claimed += "cannot be told apart" not in claim(pair)
        differing += any(said.startswith("It ") for said in costs(pair))
    # four standard errors above .05
    assert claimed / n <= 0.05 + 4 * (0.05 * 0.95 / n) ** 0.5
    assert differing / n <= 0.05 + 4 * (0.05 * 0.95 / n) ** 0.5


def test_a_gain_is_found_and_what_it_cost_is_said_with_words_of_answers_alone(base):
    rng = np.random.default_rng(1)
    pair = beside(frames(rng, base, gain=0.08, words=5, lost=6))
    assert claim(pair).startswith("With the adapter the model steers better than without it")
    said = " ".join(costs(pair))
    # six answers of a thousand words are truncated, so no answers: they are left out
    assert "It changes: words of an answer 23." in said
    assert (pair["words"].n, pair["words"].value) == (TEXTS * EACH - 6, pytest.approx(28, abs=0.6))
    worse = beside(frames(rng, base, gain=-0.08))
    assert claim(worse).startswith("With the adapter the model steers worse than without it")


def test_without_the_arm_nothing_is_claimed(base):
    whole = frames(np.random.default_rng(2), base)
    assert beside(replace(whole, probe_arms=whole.probe_arms.head(1))) == {}
    assert beside(replace(whole, outcomes_of_arms=None)) == {}
    assert claim({}) == ""


def test_the_page_says_who_wrote_what_was_trained_on():
    row = {"step": 4, "rank": 4, "parameters": 100, "recipe_hash": "h", "recipe": '{"kind": "inheritance", "seed": 0}'}
    log = [(1, "share:own", 0.25), (1, "share:far", 0.75), (1, "pool_share:far", 0.5), (4, "loss", 1.0)]
    found = trained(
        pl.DataFrame([row]), pl.DataFrame(log, schema=["step", "measure", "value"], orient="row"), pl.DataFrame()
    )
    assert found[1:] == [
        "Several models wrote the answers. What was trained on was written 75\u00a0% by far and 25\u00a0% by own.",
    ]
