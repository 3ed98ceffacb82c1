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


#: Place of 1.5 between 1 and 2 nats.
W = (1.5**0.5 - 1) / (2**0.5 - 1)


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
    # at 1.5 nats a share w from (3, 4, 5) to (6, 7, 8), along the root of the nats; less 5
    over = rows["over_asked_high"]
    assert over["value"] == pytest.approx(4 + 3 * W - 5)
    assert f"at 1.5 nats a token, strength {1 + W:.3g}" in over["detail"]
    # the strongest that costs no more is strength 1: 3, 4 and 5 against 5 each
    assert rows["wins_asked_high"]["value"] == pytest.approx((0 + 0 + 0.5) / 3)
    assert "strength 1" in rows["wins_asked_high"]["detail"]


def test_examples_and_the_other_end_have_names_of_their_own():
    turns = json.dumps([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])
    assert set(found(world(turns=turns))) == {"shown_high", "over_shown_high", "wins_shown_high", "tokens_shown_high"}
    low = found(world((-6.0, -7.0, -8.0), (-5.0, -5.0, -5.0), side=-1))
    # further down is further that way
    assert low["over_asked_low"]["value"] == pytest.approx((1 - W) * 4 - W * 7 + 5)


def test_a_cost_that_the_vector_was_not_run_at_has_another_name_and_is_said():
    rows = found(world(asked_kl=9.0))
    assert "over_asked_high" not in rows
    nearest = rows["nearest_asked_high"]
    assert "was not run at 9 nats a token, at strength 2" in nearest["detail"]
    assert nearest["value"] == pytest.approx(np.mean([6, 7, 8]) - 5)
    # the strongest that costs no more is its strongest
    assert "strength 2" in rows["wins_asked_high"]["detail"]
    # between the model as it is and the weakest: .4 nats are .63 of the way
    cheap = found(world(asked_kl=0.4))["over_asked_high"]
    assert cheap["value"] == pytest.approx(2 + 0.4**0.5 * 2 - 5)
    # an edit that is never idle has no arm as cheap as that, and wins nothing
    dear = world(asked_kl=0.4).with_columns(pl.col("interventions").str.replace("add", "rotate"))
    assert {n for n in found(dear) if "over" in n or "wins" in n} == set()
    assert "nearest_asked_high" in found(dear)


def test_where_effects_grow_with_the_root_of_kl_as_steps_do_a_vector_like_asking_is_not_worse():
    """KL grows with the square of a small step and effects with the step: between two arms the line is over its root."""
    rows = found(world((5.0, 6.0, 7.0), asked=(2.0, 3.0, 4.0), asked_kl=0.25))
    # 1 nat moves by 2, a quarter of one by 1
    assert rows["over_asked_high"]["value"] == pytest.approx(0.0)


def test_seeds_of_the_fit_are_averaged_and_arms_without_kl_are_no_rungs():
    other = world().filter(pl.col("arm_id") == "v1").with_columns(
        pl.lit("v1b").alias("arm_id"), pl.lit(7, pl.Int64).alias("seed"),
        pl.when(pl.col("measure") == "judged").then(pl.col("value") + 2).otherwise(pl.col("value")).alias("value"),
    )  # fmt: skip
    both = found(pl.concat([world(), other.select(world().columns)]))["over_asked_high"]["value"]
    assert both == pytest.approx((1 - W) * 5 + W * 7 - 5)
    lost = world().with_columns(
        value=pl.when((pl.col("arm_id") == "v1") & (pl.col("measure") == "kl")).then(None).otherwise(pl.col("value"))
    )
    # from the model as it is to strength 2
    share = (1.5 / 2) ** 0.5
    assert found(lost)["over_asked_high"]["value"] == pytest.approx((1 - share) * 2 + share * 7 - 5)
    none = world().filter(~((pl.col("role") == "vector") & (pl.col("measure") == "kl")))
    assert set(found(none)) == {"asked_high", "tokens_asked_high"}


def test_without_kl_there_is_the_effect_alone_and_without_prompts_nothing():
    rows = world().filter(pl.col("measure") != "kl")
    assert set(found(rows)) == {"asked_high", "tokens_asked_high"}
    assert found(world().filter(pl.col("role") != "prompt")) == {}


def test_items_without_a_value_are_left_out_pair_by_pair():
    rows = found(world(asked=(5.0, None, 5.0)))
    assert rows["over_asked_high"]["n"] == 2
    assert rows["over_asked_high"]["value"] == pytest.approx(4 + 3 * W - 5)
    # what the vector has no answer to is counted in words, and not among the items
    rows = found(world(vector_at_two=(6.0, None, 8.0)))
    assert rows["over_asked_high"]["n"] == 2
    assert "1 items are left out, for the vector has no answer to them" in rows["over_asked_high"]["detail"]


def test_where_vector_and_prompt_do_the_same_an_interval_without_0_is_rare():
    """Both move items by the same, with noise of their own, at costs that are themselves noisy: 5 % may be called."""
    rng, called = np.random.default_rng(0), 0
    for _ in range(400):
        n = 24
        base = rng.normal(5, 2, n)
        cost = np.abs(rng.normal(1.0, 0.3, n))
        # a step of s costs about its square, and moves by s
        kl = np.column_stack([np.zeros(n), cost * 0.5, cost * 2.0])
        values = base[:, None] + np.array([0.0, 0.5**0.5, 2.0**0.5]) + rng.normal(0, 0.5, (n, 3))
        # the prompt costs what its items cost, and moves them by as much
        asked_kl = np.abs(rng.normal(1.0, 0.3, n))
        asked = base + 1.0 + rng.normal(0, 0.5, n)
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
    share = (2**0.5 - 1) / (3**0.5 - 1)
    assert (values.tolist(), strength, reached) == (pytest.approx([1 + share] * 2), pytest.approx(1 + share), True)
    assert ladder.affordable(2.5, np.arange(2)) == 2
    assert ladder.affordable(0.5, np.arange(2)) is None
