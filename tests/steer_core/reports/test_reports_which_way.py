"""What should I use? Better and worse stand on an interval for all vectors, and what random directions do is neither."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from schemas import SweepFindings
from steer_core.reports.which_way import called, sentence, which_ways


def row(way="v", over=0.5, low=0.2, high=0.8, n=30, p=0.05, **more):
    return {"way": way, "over": over, "over_low": low, "over_high": high, "n": n, "p_random": p, "call": "",
            "effect": 2.0, "effect_low": 1.0, "effect_high": 3.0, "tokens": 0.0, "wins": 0.6, "n_random": 20, **more}  # fmt: skip


ASKED = {
    "kind": "asked",
    "way": "a system prompt",
    "effect": 1.5,
    "effect_low": 1.0,
    "effect_high": 2.0,
    "tokens": 12.4,
}


def test_intervals_are_widened_for_the_number_of_vectors():
    (alone,) = called([row()])
    assert (alone["over_low"], alone["over_high"]) == (pytest.approx(0.2), pytest.approx(0.8))
    three = called([row(), row("w"), row("x")])
    half = 0.3 * stats.t.ppf(1 - 0.025 / 3, 29) / stats.t.ppf(0.975, 29)
    assert three[0]["over_low"] == pytest.approx(0.5 - half)
    assert [r["call"] for r in three] == ["better"] * 3
    # one without a figure counts for nothing, and is called nothing
    assert [r["call"] for r in called([row(), row("w", over=None, low=None, high=None)])] == ["better", ""]


def test_what_random_directions_do_is_neither_better_nor_worse():
    found = called(
        [row(p=0.3), row("w", p=None), row("x", over=-0.5, low=-0.8, high=-0.2), row("y", low=-0.1, high=1.1)]
    )
    assert [r["call"] for r in found] == [
        "as random directions", "not held against random directions", "worse", "no difference seen",
    ]  # fmt: skip
    assert called([row(p=0.25, n_random=3)])[0]["call"] == "too few random directions"


def test_of_vectors_that_do_what_asking_does_one_is_called_other_in_few_worlds():
    """Four vectors, the same 24 items, correlated: in at most 5 % of worlds any of them is called better or worse."""
    rng, wrong, worlds = np.random.default_rng(0), 0, 1500
    for _ in range(worlds):
        shared = rng.normal(size=24)
        rows = []
        for k in range(4):
            gaps = 0.5 * shared + rng.normal(size=24)
            mean, se = gaps.mean(), gaps.std(ddof=1) / np.sqrt(24)
            half = stats.t.ppf(0.975, 23) * se
            rows.append(row(str(k), mean, mean - half, mean + half, 24))
        wrong += any(r["call"] in ("better", "worse") for r in called(rows))
    assert wrong / worlds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / worlds)
    assert wrong / worlds > 0.02


def test_the_sentence_names_what_to_use_or_says_that_it_is_not_known():
    assert sentence("glad", [ASKED], called([row("loreft"), row("w", over=0.1, low=-0.3, high=0.5)])) == (
        "glad: asking in a system prompt moves it by +1.50 [1.00 to 2.00] and adds 12 tokens to each call. At equal KL "
        "loreft moves it by +0.50 [0.15 to 0.85] more, and adds no token: use that."
    )
    assert sentence("glad", [ASKED], called([row(low=-0.3)])).endswith(
        "Of 1 vector held against it at equal KL none is known to move it farther: ask."
    )
    deaf = {**ASKED, "effect": 0.1, "effect_low": -0.4}
    assert "not known to be towards it. v moves it, beyond random directions." in sentence(
        "glad", [deaf], called([row(low=-1)])
    )
    # of two vectors one passes for beyond random directions twice as often
    assert sentence("glad", [deaf], called([row(low=-1), row("w", low=-1)])).endswith(
        "v, w may: to tell 2 vectors from random directions takes 39 of them."
    )
    assert sentence("glad", [deaf], called([row(p=0.5)])).endswith("Nothing here is known to move it.")
    assert sentence("glad", [ASKED], []).endswith("No vector was held against it at equal KL.")


def test_the_better_of_two_that_do_not_help_is_not_recommended_and_examples_are_named():
    harm = {**ASKED, "effect": -2.0, "effect_low": -3.0, "effect_high": -1.0}
    idle = row(over=1.5, low=1.0, high=2.0, effect=-0.5, effect_low=-1.0, effect_high=0.1)
    assert sentence("glad", [harm], called([idle])).endswith("Nothing here is known to move it.")
    shown = {"kind": "shown", "way": "examples", "effect": 2.0, "effect_low": 1.0, "effect_high": 3.0, "tokens": 80.0}
    said = sentence("glad", [harm, shown], called([idle]))
    assert said.endswith("Shown in examples it moves by +2.00 [1.00 to 3.00], at 80 tokens more.")
    # one that was not run at that cost is neither, and counts among none
    nearest = row(over=None, low=None, high=None, call="not run at that cost")
    assert called([nearest, row("w")])[1]["over_low"] == pytest.approx(0.2)
    assert "Of 1 vector held against it" in sentence("glad", [ASKED], called([nearest, row("w", low=-0.2)]))


def findings(method, **values):
    rows = []
    for name, (value, low, high, measure) in values.items():
        rows.append(
            {"behavior": "glad", "layers": "[1]", "positions": "all", "group": "main", "measure": measure,
             "finding": name, "value": value, "low": low, "high": high, "n": 20, "detail": "told"}
        )  # fmt: skip
    table = pl.DataFrame(rows, schema=SweepFindings.dtypes())
    return table.with_columns(model=pl.lit("m"), method=pl.lit(method))


def test_a_section_holds_asking_showing_and_each_vector_but_no_control():
    own = {
        "effect_high": (2.0, 1.0, 3.0, "judged"), "p_random_high": (0.04, None, None, "judged"),
        "asked_high": (1.5, 1.0, 2.0, "judged"), "tokens_asked_high": (12.0, 12.0, 12.0, "judged"),
        "shown_high": (1.0, 0.5, 1.5, "judged"), "tokens_shown_high": (90.0, 88.0, 92.0, "judged"),
        "over_asked_high": (0.6, 0.3, 0.9, "judged"), "wins_asked_high": (0.7, 0.5, 0.9, "judged"),
    }  # fmt: skip
    table = pl.concat([findings("vector-a", **own), findings("control", **own)])
    (way,) = which_ways(table, ["control"], {("m", "vector-a"): "page.html"})
    assert [(r["way"], r["call"], r["link"]) for r in way.rows] == [
        ("a system prompt", "", None), ("examples", "", None), ("vector-a", "better", "page.html"),
    ]  # fmt: skip
    assert [r["tokens"] for r in way.rows] == [12.0, 90.0, 0.0]
    # where nobody asked, nothing is said
    assert which_ways(findings("vector-a", effect_high=(2.0, 1.0, 3.0, "judged")), [], {}) == ()
