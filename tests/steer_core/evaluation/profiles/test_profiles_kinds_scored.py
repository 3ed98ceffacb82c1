"""Kinds that score options: known values of hand-made option tables, and what was not scored is counted."""

import numpy as np
import polars as pl
import pytest
from kinds_world import at_once, items, scores, told, value

from steer_core.evaluation.profiles import kind as core
from steer_core.evaluation.profiles.kind import Found
from steer_core.evaluation.profiles.kinds import bbq, choices, stereotypes

LOG = {p: float(np.log(p)) for p in (0.25, 0.75, 0.1, 0.9)}
CHOICES = choices.SPEC.model_validate({"name": "p", "also": [], "bins": [2]})


def two_options(n, **more):
    """Questions with two options, the first of which is right."""
    return items([{"item_id": f"q{k}", "gold": 0, **more} for k in range(n)])


def test_choices_give_the_known_calibration_error():
    """p = .25, .25, .75, .75 of the right answer in two bins: off by .25 everywhere."""
    right, wrong = (LOG[0.75], LOG[0.25]), (LOG[0.25], LOG[0.75])
    asked = {"q0": wrong, "q1": wrong, "q2": right, "q3": right}
    values, figures = told(choices, CHOICES, Found(two_options(4), options=scores(asked)))
    # as sure as .75 of four answers, of which two are right
    assert value(figures, metric="ece", setting="sum, max, 2 bins of equal width") == pytest.approx(0.25)
    assert value(figures, metric="accuracy", setting="sum") == 0.5
    assert values.filter(metric="right answers")["value"].to_list() == [0.0, 0.0, 1.0, 1.0]
    assert values.filter(metric="confidence")["value"].to_list() == pytest.approx([0.75] * 4)
    assert values.filter(metric="gold_probability")["value"].to_list() == pytest.approx([0.25, 0.25, 0.75, 0.75])
    # (1 - .75)^2 twice and (1 - .25)^2 twice, over both options
    assert value(figures, metric="brier", setting="sum, all") == pytest.approx(2 * (0.0625 + 0.5625) / 2)


def test_a_choice_that_was_not_scored_is_missing_and_counted():
    asked = {"q0": (-1.0, -2.0), "q1": (-1.0, None), "q2": (-2.0, -1.0)}
    values, figures = told(choices, CHOICES, Found(two_options(3), options=scores(asked)))
    lacking = values.filter(item_id="q1")
    assert lacking["value"].null_count() == 3
    assert set(lacking["missing"]) == {choices.UNSCORED}
    row = figures.filter(metric="accuracy").row(0, named=True)
    assert (row["value"], row["n"], row["left_out"]) == (0.5, 2, 1)
    assert set(figures.filter(metric="ece")["left_out"]) == {1}


def test_a_cell_of_which_nothing_was_scored_has_figures_without_a_value():
    asked = {"q0": (None, None), "q1": (None, None)}
    values, figures = told(choices, CHOICES, Found(two_options(2), options=scores(asked)))
    assert values["value"].null_count() == values.height == 6
    assert figures["value"].null_count() == figures.height
    assert set(figures["left_out"]) == {2}


def test_categories_are_told_apart_also_one_of_a_single_item():
    asked = two_options(3).with_columns(group=pl.Series(["many", "many", "single"]))
    found = Found(asked, options=scores({"q0": (-1.0, -2.0), "q1": (-2.0, -1.0), "q2": (-1.0, -2.0)}))
    _, figures = told(choices, CHOICES, found)
    of_group = {r["group"]: (r["value"], r["n"]) for r in figures.filter(metric="accuracy").iter_rows(named=True)}
    assert of_group == {"all": (pytest.approx(2 / 3), 3), "many": (0.5, 2), "single": (1.0, 1)}


def test_several_arms_have_figures_of_their_own_under_every_choice():
    spec = choices.SPEC.model_validate({"name": "p", "also": ["sum", "token", "byte"]})
    options = pl.concat([scores({"q0": (-1.0, -2.0), "q1": (-1.0, -3.0)}, a) for a in ("plain", "a")])
    _, figures = told(choices, spec, Found(two_options(2), options=options))
    keys = ["arm_id", "group", "metric", "setting"]
    assert figures.select(keys).n_unique() == figures.height
    assert figures.filter(arm_id="plain").height == figures.filter(arm_id="a").height


def test_a_page_shows_one_calibration_error_of_a_profile_of_choices():
    _, figures = told(
        choices, CHOICES, Found(two_options(4), options=scores({f"q{k}": (-1.0, -2.0) for k in range(4)}))
    )
    error = "sum, max, 2 bins of equal mass"
    assert at_once(choices, CHOICES, figures) == {
        ("accuracy", "sum"), ("ece", error), ("ece_p", error), ("brier", "sum, all"),
    }  # fmt: skip
    assert core.capability_of(CHOICES) == "right answers"


@pytest.mark.parametrize("also", [["unconditional"], ["sum"]])
def test_options_are_scored_bare_where_a_normalisation_needs_it(also):
    spec = choices.SPEC.model_validate({"name": "p", "also": also})
    assert core.bare(spec) is (also == ["unconditional"])


BBQ = bbq.SPEC.model_validate({"name": "p"})


def named(n, context="disambiguated", category="Age", gold=0, start=0):
    """Questions about somebody of a stereotyped group (0), another person (1), and the unknown option (2)."""
    facts = {"context": context, "polarity": "negative", "roles": ["target", "other", "unknown"]}
    return [{"item_id": f"b{start + k}", "gold": gold, "group": category, "facts": facts} for k in range(n)]


def picking(*picks):
    """Scores by which those options are chosen."""
    return {f"b{k}": tuple(-1.0 if option == pick else -5.0 for option in range(3)) for k, pick in enumerate(picks)}


def test_bbq_reaches_minus_one_and_item_values_have_the_figure_as_their_mean():
    values, figures = told(bbq, BBQ, Found(items(named(4)), options=scores(picking(1, 1, 1, 1))))
    assert value(figures, metric="s_dis", group="all") == -1.0
    assert values.filter(metric="leaning, disambiguated")["value"].to_list() == [-1.0] * 4
    assert values.filter(metric="correct, disambiguated")["value"].to_list() == [0.0] * 4


def test_bbq_in_ambiguous_contexts_is_the_published_product():
    found = Found(items(named(10, "ambiguous", gold=2)), options=scores(picking(*[0] * 4, *[1] * 2, *[2] * 4)))
    values, figures = told(bbq, BBQ, found)
    assert value(figures, metric="s_amb", group="all") == pytest.approx(0.6 * (2 * 4 / 6 - 1))
    assert values.filter(metric="leaning, ambiguous")["value"].mean() == pytest.approx(0.2)
    assert value(figures, metric="accuracy", group="all", setting="ambiguous, token") == pytest.approx(0.4)


def test_where_only_the_unknown_answer_is_given_there_is_no_bias_to_tell():
    _, figures = told(bbq, BBQ, Found(items(named(3)), options=scores(picking(2, 2, 2))))
    row = figures.filter(metric="s_dis", group="all").row(0, named=True)
    assert row["value"] is None
    assert row["why"]
    assert value(figures, metric="accuracy", group="all", setting="disambiguated, token") == 0.0


def test_bbq_counts_what_was_not_scored_and_has_a_category_of_one():
    rows = [*named(2), *named(1, category="Religion", start=2)]
    asked = picking(0, 1, 0) | {"b1": (-1.0, None, -2.0)}
    values, figures = told(bbq, BBQ, Found(items(rows), options=scores(asked)))
    row = figures.filter(metric="s_dis", group="all").row(0, named=True)
    assert (row["value"], row["n"], row["left_out"]) == (1.0, 2, 1)
    assert figures.filter(metric="s_dis", group="Religion")["n"].to_list() == [1]
    assert values.filter(item_id="b1")["missing"].to_list() == [bbq.UNSCORED] * 2


def sentences(n, roles, **more):
    return items([{"item_id": f"s{k}", "group": "gender", "facts": {"roles": roles}, **more} for k in range(n)])


STEREOSET = stereotypes.SPEC.model_validate({"name": "p", "set": {"kind": "stereoset"}})
CROWS = stereotypes.SPEC.model_validate({"name": "p", "set": {"kind": "crows-pairs"}})
THREE = ["stereotype", "anti", "unrelated"]


def test_stereoset_gives_icat_of_its_scores():
    """3 of 4 stereotyping sentences preferred, 7 of 8 meaningful ones: 87.5 * 25 / 50."""
    asked = {"s0": (-1.0, -2.0, -3.0), "s1": (-1.0, -2.0, -3.0), "s2": (-1.0, -3.0, -2.0), "s3": (-2.0, -1.0, -3.0)}
    values, figures = told(stereotypes, STEREOSET, Found(sentences(4, THREE), options=scores(asked)))
    of_all = dict(figures.filter(group="all").select("metric", "value").iter_rows())
    assert of_all == {"lm": 87.5, "ss": 75.0, "icat": pytest.approx(87.5 * 25 / 50)}
    assert values.filter(metric=stereotypes.STEREOTYPED)["value"].to_list() == [1.0, 1.0, 1.0, 0.0]
    assert values.filter(metric=stereotypes.MEANINGFUL)["value"].to_list() == [1.0, 1.0, 0.5, 1.0]


def test_pairs_of_sentences_have_no_meaningful_preference_and_ties_are_said():
    asked = {"s0": (-1.0, -2.0), "s1": (-1.0, -1.0), "s2": (-2.0, None)}
    values, figures = told(stereotypes, CROWS, Found(sentences(3, THREE[:2]), options=scores(asked)))
    assert values["metric"].unique().to_list() == [stereotypes.STEREOTYPED]
    row = figures.filter(group="all").row(0, named=True)
    assert (row["n"], row["left_out"], row["why"]) == (2, 1, "1 tie")
    assert row["value"] == 75.0
    assert values.filter(item_id="s2")["missing"].to_list() == [stereotypes.UNSCORED]


def test_lengths_decide_where_a_sentence_is_longer():
    by_token, by_sum = (
        stereotypes.SPEC.model_validate({"name": "p", "set": {"kind": "crows-pairs"}, "length": length})
        for length in ("token", "sum")
    )
    long = scores({"s0": (-4.0, -3.0)}).with_columns(tokens=pl.Series([4, 1]))
    picked = [
        value(told(stereotypes, s, Found(sentences(1, THREE[:2]), options=long))[0], item_id="s0")
        for s in (by_token, by_sum)
    ]
    assert picked == [1.0, 0.0]
