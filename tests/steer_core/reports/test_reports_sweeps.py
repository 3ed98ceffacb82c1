"""The page says what the sweep's tables say: movements with their intervals, controls that were run and those that were
not, missing verdicts, failed checks and receipts."""

import hashlib
import re
from dataclasses import replace

import polars as pl
import pytest
from fixture_sweeps import STRENGTHS, sweep_tables
from fixture_tables import cell_tables
from page_reader import read

import schemas
from steer_core.reports import build_cell_report
from steer_core.reports.drawing import render
from steer_core.reports.sections.vector import vector_section
from steer_core.reports.sweep_costs import costs_figure, frontier_table
from steer_core.reports.sweep_examples import sweep_examples
from steer_core.reports.sweep_headline import sentences
from steer_core.reports.sweep_plots import _limits, propensity_figure, settings_figure, strength_figure
from steer_core.reports.sweep_section import sweep_sections
from steer_core.reports.sweeps import layer_words, position_words, strength_words, sweeps
from steer_core.reports.text import visible
from steer_core.reports.vector_plots import dose_figure

HOSTILE = "</div></main><script>alert(1)</script>\u202egnp.exe <style>*{display:none}</style>"


def cell(**changes):
    """A small cell of a vector method; the probe's side is as small as it can be."""
    base = cell_tables(n_texts=3, per_text=2, goals=("formality", "sentiment"), active=1, method="vector-x")
    return replace(base, **changes)


def small(**options):
    settings = {"behaviors": ("cheerfulness",), "n_items": 10, "draws": 60, "n_random": 5, "layers": (1,)}
    return sweep_tables(**(settings | options))


def without(tables, *names):
    return {name: None if name in names else rows for name, rows in tables.items()}


def one(tables):
    """The only sweep of these fields."""
    (sweep,) = sweeps(cell(**tables))
    return sweep


@pytest.fixture(scope="module")
def swept():
    found = small(behaviors=("cheerfulness", "formal-register"), positions=("completion",), layers=(0, 1))
    # fewer panels to draw; the figures of vectors have tests of their own
    of_behaviors = found["fitted"]["activation_map"].filter(concept="cheerfulness", layer=2)
    few = ["cheerfulness", "formal-register"]
    cosines = found["fitted"]["vector_cosines"].filter(pl.col("left").is_in(few), pl.col("right").is_in(few), layer=2)
    return found | {"fitted": {**found["fitted"], "activation_map": of_behaviors, "vector_cosines": cosines}}


@pytest.fixture(scope="module")
def plain():
    """One behavior; tests take tables away from a copy."""
    return small()


@pytest.fixture(scope="module")
def tables(swept):
    return cell(**swept)


@pytest.fixture(scope="module")
def report(tables):
    return build_cell_report(tables)


@pytest.fixture(scope="module")
def page(report):
    return read(report.files["report.html"])


def test_the_page_is_well_formed_and_links_arrive(page, report):
    assert page.unbalanced == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    targets = [attrs["href"] for tag, attrs in page.tags if tag in ("a", "use") and "href" in attrs]
    assert {str(target).removeprefix("#") for target in targets} <= set(page.ids)
    assert {"behaviors", "behavior-1", "behavior-2", "vectors", "dose", "evidence"} <= set(page.ids)
    assert not re.search(r"url\((?!#)", report.files["report.html"].decode())


def test_the_headline_is_that_of_the_tables(swept, page):
    summary = swept["arm_summary"].filter(behavior="cheerfulness", measure="judged", group="main", layers="[2]")
    main = summary.filter(role="vector", positions="all").sort("strength")
    off = swept["arm_summary"].filter(behavior="cheerfulness", measure="judged", role="off")["mean"][0]
    low, high = main["mean"][0], main["mean"][-1]
    said = f"moves from {off:.1f} unsteered to {low:.1f} at −2 and {high:.1f} at +2 on a scale of 0 to 10"
    assert f"cheerfulness {said}" in page.said
    assert "At −2, none of 5 random directions of equal size moves it as far or farther" in page.said
    assert "5 random directions cannot carry a verdict: that takes 19 of them." in page.said


def test_every_figure_has_a_still_and_its_rows(report):
    schemas.Reports.validate(report.manifest)
    for kind in ("strength", "propensity", "costs", "frontier", "settings"):
        for behavior in ("cheerfulness", "formal-register"):
            assert report.files[f"figures/{kind}_{behavior}.svg"].startswith(b"<svg")
            assert f"tables/{kind}_{behavior}.parquet" in report.files
    for name in ("cosines", "activations", "dose"):
        assert f"figures/{name}.svg" in report.files
    digests = {row["file"]: row["sha256"] for row in report.manifest.iter_rows(named=True)}
    assert digests == {name: hashlib.sha256(data).hexdigest() for name, data in report.files.items()}


def test_the_same_tables_give_the_same_figures(report, tables):
    html = report.files["report.html"].decode()
    _, figures = sweep_sections(tables)
    for figure in (figures[0], figures[3], dose_figure(tables.fitted["dose_response"])):
        again = render(figure)
        assert all(svg in html for svg in again.svgs)
        assert again.still.encode() == report.files[f"figures/{figure.name}.svg"]


def test_the_effects_are_among_the_figures_to_plot_over_time(report, swept):
    effect = swept["sweep_findings"].filter(
        behavior="cheerfulness", layers="[2]", positions="all", group="main", measure="judged", finding="effect_high"
    )
    assert report.headline["cheerfulness_effect_high"] == effect["value"][0]
    assert "cheerfulness moves from" in report.preview_markdown


def test_a_method_without_vectors_has_none_of_the_sections():
    empty = cell(sweep_arms=schemas.SweepArms.empty(), fitted={"vectors": schemas.Vectors.empty()})
    for plain in (cell(), empty):
        assert sweep_sections(plain) == ((), ())
        assert vector_section(plain, ()) == (None, ())
    page = read(build_cell_report(empty).files["report.html"])
    assert {"behaviors", "vectors", "dose", "evidence"} & set(page.ids) == set()
    assert "Behavior" not in page.said


def test_missing_controls_are_said():
    bare = small(n_random=0, n_shuffled=0, prompts=False)
    said = " ".join(sentences(one(bare)))
    assert "No random direction was run" in said
    (section,), _ = sweep_sections(cell(**bare))
    assert section.controls[:2] == (
        "No random direction.",
        "No vector was fitted on shuffled labels: what the fit makes of noise is not known.",
    )
    assert "No system prompt was run" in section.controls[2]


def test_a_vector_that_does_nothing_is_not_said_to_move_anything():
    text = sentences(one(small(lift=0.0)))[0]
    assert text.startswith("cheerfulness does not measurably move")
    assert "no interval of the difference excludes 0" in text


def test_a_vector_within_its_random_directions_is_not_said_to_be_beyond_them():
    sweep = one(small(lift=0.02))
    assert sweep.found("p_random_high")["value"] > 0.05
    said = " ".join(sentences(sweep))
    assert re.search(r"at \+2, \d+ of \d+ random directions of equal size moves? it as far or farther", said)
    assert "moves farther than" not in said


def test_a_missing_unsteered_arm_makes_no_movement(plain):
    found = dict(plain)
    found["arm_summary"] = found["arm_summary"].filter(pl.col("role") != "off")
    assert "without a value of the unsteered arm" in sentences(one(found))[0]


def test_arms_that_were_planned_and_not_measured_are_said(plain):
    planned = without(plain, "arm_summary", "sweep_findings", "arm_scores", "arm_answers") | {"fitted": {}}
    n = planned["sweep_arms"].height
    assert sentences(one(planned)) == (
        f"cheerfulness: {n} arms planned and nothing measured yet; materialize `arm_summary`.",
    )
    page = read(build_cell_report(cell(**planned)).files["report.html"])
    assert page.unbalanced == []
    assert f"{n} planned arms without any measure" in page.said


def test_a_cell_without_a_vector_arm_is_said(plain):
    found = dict(plain)
    found["sweep_arms"] = found["sweep_arms"].filter(pl.col("role").is_in(["off", "prompt"]))
    sweep = one(found)
    assert sweep.layers is None
    assert "no arm with a vector was planned" in sentences(sweep)[0]


def test_missing_verdicts_are_counted():
    found = small(unparsed=0.6)
    rows = found["arm_summary"].filter(measure="judged", group="main")
    (section,), _ = sweep_sections(cell(**found))
    worst = 100 * rows["missing"].max()
    assert worst > 0
    assert f"at most in {worst:.1f}\u00a0%" in section.missing[0]
    lost = found["judgements"].filter(state="unparsed").height
    assert f"{lost} not parsed" in section.missing[-1]


def test_answers_that_were_cut_off_are_counted(plain):
    rows = plain["arm_summary"].filter(measure="truncated")
    steered = rows.filter(role="vector", layers="[2]")["mean"].mean()
    (section,), _ = sweep_sections(cell(**plain))
    off = rows.filter(role="off")["mean"][0]
    said = f"{100 * steered:.0f}\u00a0% of the vector's answers cut off at the token limit, {100 * off:.0f}\u00a0% unsteered."
    assert said in section.missing


def test_the_main_setting_is_the_one_with_controls(swept):
    arms = swept["sweep_arms"]
    sweep = sweeps(cell(**swept))[0]
    assert (sweep.layers, sweep.positions, sweep.unit) == ("[2]", "all", "raw")
    # as many strengths at other positions, in whatever order
    turned = sweeps(cell(**{**swept, "sweep_arms": arms.reverse()}))
    assert {(s.layers, s.positions) for s in turned} == {("[2]", "all")}


def test_the_strength_figure_has_its_curve_and_its_controls(swept):
    sweep = sweeps(cell(**swept))[0]
    assert sweep.curve("judged")["strength"].to_list() == list(STRENGTHS)
    assert set(sweep.control("random", "judged")["strength"]) == {-2.0, 2.0}
    figure = strength_figure(sweep)
    assert len(figure.panels) == 1
    assert set(figure.table["role"]) == {"off", "vector", "random", "shuffled", "prompt"}
    assert [label for label, _ in sweep.prompts("judged")] == ["asked in words", "asked for the opposite"]


def test_groups_that_are_reported_apart_have_panels_of_their_own(plain):
    found = dict(plain)
    for name in ("arm_summary", "sweep_findings"):
        rows = found[name]
        main = rows.filter(group="main")
        found[name] = pl.concat(
            [
                rows.filter(pl.col("group") != "main"),
                *(main.with_columns(group=pl.lit(g)) for g in ("harmless", "harmful")),
            ]
        )
    sweep = one(found)
    assert [panel.title for panel in strength_figure(sweep).panels] == ["harmful items", "harmless items"]
    assert sweep.group == "harmful"


def test_letters_and_pairs_are_drawn_as_what_they_are():
    letters = propensity_figure(one(small(forms=("open", "ab"))))
    assert [p.title for p in letters.panels][:2] == [
        "probability of the matching answer",
        "probability of either letter",
    ]
    none = propensity_figure(one(small(forms=("open",))))
    assert none.panels == ()
    assert "no items with two answers" in none.note


def test_a_behavior_without_open_items_is_told_by_its_propensity():
    sweep = one(small(forms=("pair",)))
    assert sweep.measure == "propensity_per_token"
    assert "nats a token" in sentences(sweep)[0]
    assert "has a verdict" in strength_figure(sweep).note


def test_costs_show_every_side_effect_that_was_measured(swept):
    titles = [panel.title.replace("\n", " ") for panel in costs_figure(sweeps(cell(**swept))[0]).panels]
    assert titles[:3] == ["perplexity", "KL (nats a token)", "length (tokens)"]
    assert {"formality", "judged: formal-register", "accuracy, neutral set"} <= set(titles)
    # nothing was refused, so a panel would be a line at 0
    assert "share refused" not in titles


def test_the_frontier_holds_every_arm_with_its_effect_and_price(swept):
    sweep = sweeps(cell(**swept))[0]
    table = frontier_table(sweep)
    assert set(table["role"]) == {"vector", "elsewhere", "random", "shuffled", "prompt"}
    row = table.filter(role="vector", strength=2.0).row(0, named=True)
    arm = swept["arm_summary"].filter(arm_id=row["arm_id"], group="main")
    off = swept["arm_summary"].filter(behavior="cheerfulness", role="off", measure="perplexity")["mean"][0]
    assert row["effect"] == arm.filter(measure="judged")["difference"][0]
    assert row["perplexity_ratio"] == pytest.approx(arm.filter(measure="perplexity")["mean"][0] / off)
    assert table.filter(role="prompt")["kl"].null_count() == 2


def test_the_heat_map_has_a_row_a_setting_or_says_that_there_is_one(swept):
    figure = settings_figure(sweeps(cell(**swept))[0])
    assert figure.table.select("layers", "positions").n_unique() == 4
    assert figure.table.filter("main")["positions"].unique().to_list() == ["all"]
    alone = settings_figure(one(small(layers=())))
    assert alone.panels == ()
    assert "one layer and one set of positions" in alone.note


def test_one_strength_has_figures_and_a_headline_of_its_own():
    (section,), figures = sweep_sections(cell(**small(strengths=(1.5,), n_random=1, n_shuffled=1)))
    assert "at +1.5" in section.sentences[0]
    assert section.sentences[1] == "At +1.5 the one random direction of equal size does not move it as far."
    assert "1 random direction cannot carry a verdict" in section.sentences[2]
    assert [bool(render(figure).still) for figure in figures] == [True] * 5


def test_thirty_strengths_have_no_more_numbers_than_there_is_room_for():
    many = [s / 10 for s in range(-15, 16) if s]
    sweep = one(small(strengths=many, unit="residual_fraction", n_items=4))
    (strength,) = render(strength_figure(sweep)).svgs
    assert "share of the activation norm" in strength
    (heat,) = render(settings_figure(sweep)).svgs
    assert heat.count("<text") < 20


def test_examples_show_items_that_go_against_the_vector(tables):
    sweep = sweeps(tables)[0]
    shown, note = sweep_examples(tables, sweep)
    assert note == ""
    assert [e.kind for e in shown][:2] == ["typical", "moves most"]
    against = [e for e in shown if e.kind == "against the vector"]
    assert against
    assert all(e.slope < 0 for e in against)
    assert [a.label for a in shown[0].answers] == ["at −2", "unsteered", "at +2"]
    low, off, high = shown[1].answers
    assert low.value < off.value < high.value


def test_examples_say_what_they_lack(plain):
    found = dict(plain)
    sweep = one(found)
    unjudged, note = sweep_examples(cell(**without(found, "arm_scores")), sweep)
    assert "`arm_scores`" in note
    assert {e.kind for e in unjudged} == {"item"}
    assert unjudged[0].answers[0].value is None
    assert "`arm_answers`" in sweep_examples(cell(**without(found, "arm_answers")), sweep)[1]


def test_what_a_model_wrote_stays_text():
    found = small(strengths=(-1.0, 1.0), layers=(), forms=("open",))
    found |= {"fitted": {}, "sweep_findings": None}
    found["arm_answers"] = found["arm_answers"].with_columns(text=pl.lit(HOSTILE + "word " * 5000))
    report = build_cell_report(cell(**found))
    page = read(report.files["report.html"])
    assert page.unbalanced == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert [tag for tag, _ in page.tags].count("style") == 1
    assert any(text.startswith(visible(HOSTILE)) for text in page.blocks["model-text"])
    assert "\u202e" not in "".join(page.text)
    assert "more characters not shown" in page.said


def test_receipts_and_doses_stand_on_the_page(page, swept):
    steered = swept["sweep_responses"].filter(pl.col("receipt").is_not_null()).height
    assert f"behaviors: all {steered:,} steered responses carry a receipt" in page.said
    assert "−0.5, +0.5" in page.said
    assert "50 % of what is left, from 0.2 on; takes 0.03 [0.00 to 0.06] of error away" in page.said
    assert "nothing: no dose took error away" in page.said
    assert "requests got a dose" in page.said


def test_where_the_contrasts_of_a_goal_come_from_stands_on_the_page(page):
    assert "asked for on purpose" in page.said
    assert "texts of the corpus, matched" in page.said


def test_failed_checks_of_the_data_are_shown(page, swept):
    failed = swept["data_integrity"].filter(~pl.col("passed"))
    assert f"{failed.height} checks of {swept['data_integrity'].height} on the contrast data did not pass" in page.said
    assert failed["detail"][0] in page.said


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (-2.0, "raw", "−2"),
        (0.25, "raw", "+0.25"),
        (0.0, "class_alpha", "0"),
        (90.0, "angle", "90°"),
        (None, None, "off"),
    ],
)
def test_strengths_in_words(value, unit, words):
    assert strength_words(value, unit) == words


@pytest.mark.parametrize(
    ("layers", "words"), [("[2]", "layer 2"), ("[1,2,3]", "layers 1–3"), ("[0,2]", "layers 0, 2"), ("[]", "no layer")]
)
def test_layers_in_words(layers, words):
    assert layer_words(layers) == words
    assert position_words("all") == "all positions"
    assert position_words("last_prompt") == "last prompt"


def test_a_control_that_went_as_far_the_other_way_counts(plain):
    """A side chosen after looking is no test: 3.54 the other way is as far as 2.19 this way."""
    findings = plain["sweep_findings"].with_columns(
        value=pl.when(pl.col("finding") == "p_random_high").then(2 / 21).otherwise("value"),
        n=pl.when(pl.col("finding").str.starts_with("p_random")).then(20).otherwise("n"),
    )
    said = " ".join(sentences(one({**plain, "sweep_findings": findings})))
    assert "at +2, 1 of 20 random directions of equal size moves it as far or farther (rank p = 0.095)" in said


def test_random_directions_that_can_carry_a_verdict_give_one(plain):
    findings = plain["sweep_findings"].with_columns(
        value=pl.when(pl.col("finding").str.starts_with("p_random")).then(1 / 21).otherwise("value"),
        n=pl.when(pl.col("finding").str.starts_with("p_random")).then(20).otherwise("n"),
    )
    said = " ".join(sentences(one({**plain, "sweep_findings": findings})))
    assert "at +2 it moves farther than all 20 random directions of equal size (rank p = 0.048)" in said
    assert "cannot carry a verdict" not in said


def test_findings_of_an_older_version_are_said_to_lack_the_rank(plain):
    findings = plain["sweep_findings"].filter(~pl.col("finding").str.starts_with("p_"))
    said = " ".join(sentences(one({**plain, "sweep_findings": findings})))
    assert "Its rank among the random directions is not in the findings" in said


def test_on_a_logarithmic_scale_an_interval_that_reaches_below_0_has_its_end_left_off():
    bottom, top = _limits([-0.5, 0.0, 2.0, 40.0], log=True)
    assert (bottom, top) == (2.0 / 1.25, 50.0)
    assert _limits([-1.0], log=True)[0] > 0.0
