"""A vector beside asking: interpolated by hand, honest where it never costs as much, and silent where nothing differs."""

import json

import numpy as np
import polars as pl
import pytest

from steer_core.evaluation.behaviors.beside_asking import Ladder, beside_asking

STEPS = json.dumps([{"operator": "add", "vector": "v", "layer": 1, "coefficient": 1.0}])


def rows_of(arms):
    """Scores of arms: (id, role, strength, side, turns, {measure: values an item})."""
    found = []
    for arm, role, strength, side, turns, measures in arms:
        for measure, values in measures.items():
            found += [
                {
                    "arm_id": arm, "role": role, "strength": strength, "unit": None if strength is None else "raw",
                    "side": side, "turns": turns, "seed": 0, "interventions": STEPS if role == "vector" else "[]",
                    "item_id": f"i{k}", "measure": measure, "value": v,
                }
                for k, v in enumerate(values)
            ]  # fmt: skip
    kinds = {"strength": pl.Float64, "side": pl.Int64, "turns": pl.String, "value": pl.Float64, "unit": pl.String}
    return pl.DataFrame(found, schema_overrides=kinds)


def world(vector_at_two=(6.0, 7.0, 8.0), asked=(5.0, 5.0, 5.0), asked_kl=1.5, turns=None, side=1):
    return rows_of(
        [
            ("off", "off", None, None, None, {"judged": [1, 2, 3], "kl": [0, 0, 0], "prompt_tokens": [10, 10, 10]}),
            ("v1", "vector", side * 1.0, None, None, {"judged": [3, 4, 5], "kl": [1, 1, 1]}),
            ("v2", "vector", side * 2.0, None, None, {"judged": list(vector_at_two), "kl": [2, 2, 2]}),
            ("p", "prompt", None, side, turns,
             {"judged": list(asked), "kl": [asked_kl] * 3, "prompt_tokens": [25, 25, 28]}),
        ]
    )  # fmt: skip


def found(rows, measure="judged"):
    return {r["finding"]: r for r in beside_asking(rows, "off", measure)}


def test_figures_are_those_by_hand():
    rows = found(world())
    assert rows["asked_high"]["value"] == pytest.approx(3.0)  # 5 less 1, 2, 3
    assert rows["tokens_asked_high"]["value"] == pytest.approx(16.0)
    # at 1.5 nats halfway from (3, 4, 5) to (6, 7, 8): 4.5, 5.5, 6.5 less 5
    over = rows["over_asked_high"]
    assert over["value"] == pytest.approx(0.5)
    assert "at 1.5 nats a token, strength 1.5" in over["detail"]
    # the strongest that costs no more is strength 1: 3, 4 and 5 against 5 each
    assert rows["wins_asked_high"]["value"] == pytest.approx((0 + 0 + 0.5) / 3)
    assert "strength 1" in rows["wins_asked_high"]["detail"]


def test_examples_and_the_other_end_have_names_of_their_own():
    turns = json.dumps([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])
    assert set(found(world(turns=turns))) == {"shown_high", "over_shown_high", "wins_shown_high", "tokens_shown_high"}
    low = found(world((-6.0, -7.0, -8.0), (-5.0, -5.0, -5.0), side=-1))
    # further down is further that way
    assert low["over_asked_low"]["value"] == pytest.approx((-1.5 + 5 - 1.5 + 5 - 1.5 + 5) / 3)


@pytest.mark.parametrize(("kl", "said"), [(9.0, "strength 2 stands for it"), (0.4, "strength 0.4")])
def test_a_cost_that_the_vector_was_not_run_at_is_said(kl, said):
    over = found(world(asked_kl=kl))["over_asked_high"]
    assert said in over["detail"]
    expected = {9.0: np.mean([6, 7, 8]) - 5, 0.4: np.mean([1, 2, 3]) + 0.4 * 2 - 5}[kl]
    assert over["value"] == pytest.approx(expected)


def test_without_kl_there_is_the_effect_alone_and_without_prompts_nothing():
    rows = world().filter(pl.col("measure") != "kl")
    assert set(found(rows)) == {"asked_high", "tokens_asked_high"}
    assert found(world().filter(pl.col("role") != "prompt")) == {}


def test_items_without_a_value_are_left_out_pair_by_pair():
    rows = found(world(asked=(5.0, None, 5.0)))
    assert rows["over_asked_high"]["n"] == 2
    assert rows["over_asked_high"]["value"] == pytest.approx((4.5 - 5 + 6.5 - 5) / 2)


def test_where_vector_and_prompt_do_the_same_an_interval_without_0_is_rare():
    """Both move items by the same, with noise of their own, at costs that are themselves noisy: 5 % may be called."""
    rng, called = np.random.default_rng(0), 0
    for _ in range(400):
        n = 24
        base = rng.normal(5, 2, n)
        cost = np.abs(rng.normal(1.0, 0.3, n))
        kl = np.column_stack([np.zeros(n), cost * 0.5, cost * 2.0])
        values = base[:, None] + kl * 1.0 + rng.normal(0, 0.5, (n, 3))
        # the prompt costs what its items cost, and moves them by as much a nat
        asked_kl = np.abs(rng.normal(1.0, 0.3, n))
        asked = base + asked_kl + rng.normal(0, 0.5, n)
        rows = rows_of(
            [
                ("off", "off", None, None, None, {"judged": values[:, 0], "kl": kl[:, 0]}),
                ("v1", "vector", 1.0, None, None, {"judged": values[:, 1], "kl": kl[:, 1]}),
                ("v2", "vector", 2.0, None, None, {"judged": values[:, 2], "kl": kl[:, 2]}),
                ("p", "prompt", None, 1, None, {"judged": asked, "kl": asked_kl}),
            ]
        )
        over = found(rows)["over_asked_high"]
        called += over["low"] > 0 or over["high"] < 0
    assert called <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)
    assert called >= 4, "an interval that never errs is too wide"


def test_a_ladder_takes_the_first_crossing():
    ladder = Ladder(np.array([1.0, 2.0, 3.0]), np.array([[1.0, 2.0, 3.0]] * 2), np.array([[1.0, 3.0, 2.0]] * 2))
    values, strength, reached = ladder.at(2.0, np.arange(2))
    assert (values.tolist(), strength, reached) == ([1.5, 1.5], 1.5, True)
    assert ladder.affordable(2.5) == 2
