"""What the page says of profiles: claims only that stand, a budget in words, and nothing where nothing was profiled."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from fixture_tables import cell_tables, leaderboard_table
from page_reader import read

from schemas import Frontier, ProfileArms, ProfileContrasts, ProfileFigures, ProfileItems, ProfileValues
from schemas.profile_spec import BudgetSpec
from schemas.profiles import PLAIN
from steer_core.evaluation.profiles.changes import changes_of
from steer_core.evaluation.profiles.kinds.choices import ChoicesProfile
from steer_core.evaluation.profiles.kinds.judged import HARMONIC, JudgedProfile
from steer_core.reports import build_cell_report, build_leaderboard
from steer_core.reports.sections.profiles import sections
from steer_core.tables import check

N = 80
SPEC = ChoicesProfile.model_validate({"name": "facts", "description": "Easy questions"})
UP = '{"formality":0.4}'
#: Arm -> role, label, position on its axis, share of answers that it loses.
ARMS = {
    PLAIN: (PLAIN, "the model as it is", None, 0.0),
    "used": ("request", "formality +0.4", None, 0.0),
    "weak": ("arm", "formality +0.4, strength +0.1, held to what was usable for 1 of 2 goals", 0.1, 0.0),
    "strong": ("arm", "formality +0.4, strength +0.5", 0.5, 0.6),
}


def typed(rows, contract):
    schema = contract.dtypes()
    return check(pl.DataFrame([{n: row.get(n) for n in schema} for row in rows], schema=schema), contract)


def profiled(used=0.0, arms=ARMS):
    """Tables of a cell's profile of facts, in which the method as it is used loses that share of right answers."""
    lost = {arm: share for arm, (*_, share) in arms.items()} | {"used": used}
    items = [
        {"item_id": f"i{k}", "profile": "facts", "form": "scored", "cluster": f"i{k}", "group": "", "text": "?",
         "options": "[]", "gold": 0, "facts": "{}", "source": "test", "row": k}
        for k in range(N)
    ]  # fmt: skip
    settings = [
        {"arm_id": arm, "label": label, "role": role, "asked": "{}" if arm == PLAIN else UP, "position": place,
         "axis": "strength (raw)" if place is not None else "", "interventions": "[]", "extensions": "[]",
         "system": "Be formal." if arm == "used" else None}
        for arm, (role, label, place, _) in arms.items()
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    values, figures = [], []
    for arm in arms:
        right = (np.arange(N) >= lost[arm] * N).astype(float)
        body = {"arm_id": arm, "profile": "facts", "sample_index": 0}
        for metric, of in (("right answers", right), ("confidence", rng.uniform(0.4, 1.0, N))):
            values += [body | {"item_id": f"i{k}", "metric": metric, "value": float(v)} for k, v in enumerate(of)]
        figures += [
            {"arm_id": arm, "profile": "facts", "group": group, "metric": "accuracy", "setting": "sum", "why": "",
             "value": float(right.mean()), "low": 0.1, "high": 0.9, "n": N, "n_clusters": N, "left_out": 0}
            for group in ("all", "topic")
        ]  # fmt: skip
    tables = {
        "profile_items": typed(items, ProfileItems), "profile_arms": typed(settings, ProfileArms),
        "profile_values": typed(values, ProfileValues), "profile_figures": typed(figures, ProfileFigures),
    }  # fmt: skip
    return tables | {"profile_changes": changes_of(tables["profile_values"], tables["profile_items"])}


def cell(profiles, budget=None):
    plain = cell_tables(n_texts=4, per_text=2, goals=("formality", "sentiment"), active=1)
    most = None if budget is None else BudgetSpec(profile="facts", most=budget)
    return replace(plain, profiles=profiles, profile_specs={"facts": SPEC}, budget=most)


def content(profiles, budget=None):
    (section,) = sections(cell(profiles, budget), [])
    return section.content


@pytest.fixture(scope="module")
def page():
    return read(build_cell_report(cell(profiled(used=0.3), budget=0.2)).files["report.html"])


def test_the_page_has_the_section_once_and_is_well_formed(page):
    assert page.ids.count("profiles") == 1
    assert (page.unbalanced, page.open) == ([], [])
    assert len(page.ids) == len(set(page.ids))
    assert "In front: “Be formal.”" in page.said


def test_the_page_says_what_differs_and_what_the_budget_allows(page):
    assert "1 of 2 figures differs from the model as it is: right answers (facts) −0.30." in page.said
    assert "Under the budget" in page.said
    assert "Easy questions" in page.said


def test_without_profiles_there_is_no_section():
    assert sections(cell({}), []) == []
    found = read(build_cell_report(cell({})).files["report.html"])
    assert "profiles" not in found.ids
    assert "Apart from the requests" not in found.said


def test_a_deaf_cell_is_said_to_be_one():
    said = content(profiled(used=0.0)).sentences
    assert said == ("formality +0.4: none of 2 figures can be told apart from the model as it is.",)


def test_settings_beside_the_one_that_is_used_have_no_sentence_and_stand_in_the_list():
    found = content(profiled(used=0.0))
    assert [(r["label"], r["metric"]) for r in found.stands] == [("formality +0.4, strength +0.5", "right answers")]
    assert found.n_tests == 6


def test_a_budget_names_the_strongest_setting_that_is_known_to_stay_below_it():
    (said,) = content(profiled(), budget=0.2).allowed
    assert said.startswith(
        "formality +0.4: the strongest setting known to stay below a loss of 0.200 in right answers of"
    )
    assert "is +0.10 on strength (raw): it loses 0.000" in said
    assert "+0.50 may lose up to" in said


def test_a_budget_that_nothing_is_known_to_keep_says_what_the_weakest_may_cost():
    (said,) = content(profiled(), budget=0.01).allowed
    assert "no setting is known to stay below a loss of 0.010" in said
    assert "already the weakest, +0.10, may lose up to 0.0" in said


def test_a_budget_that_all_keep_says_that_no_stronger_one_was_measured():
    (said,) = content(profiled(), budget=0.9).allowed
    assert said.endswith("no stronger one was measured.")
    assert content(profiled()).allowed == ()


def test_a_setting_that_does_nothing_is_no_strength_of_a_budget():
    bare = {**ARMS, "bare": ("arm", "formality +0.4, without the adapter", 0.0, 0.0)}
    assert len(content(profiled(arms=bare), budget=0.2).allowed) == 1


def test_the_model_as_it_is_alone_is_said_and_has_no_changes():
    alone = content(profiled(arms={PLAIN: ARMS[PLAIN]}), budget=0.2)
    assert alone.sentences[0].startswith("Only the model as it is was profiled")
    assert (alone.stands, alone.allowed) == ((), ())


def test_figures_over_all_items_are_shown_at_once_and_categories_on_request():
    (table,) = content(profiled()).tables
    assert [line["group"] for line in table.at_once] == ["all"]
    assert [line["group"] for line in table.more] == ["topic"]
    assert len(table.at_once[0]["cells"]) == len(ARMS)
    assert table.figure == "reliability_facts"


def test_missing_values_are_counted_with_their_reasons():
    tables = profiled()
    gone = pl.col("item_id").is_in(["i0", "i1"]) & (pl.col("metric") == "right answers")
    values = tables["profile_values"].with_columns(
        value=pl.when(gone).then(None).otherwise(pl.col("value")),
        missing=pl.when(gone).then(pl.lit("an option was not scored")).otherwise(pl.col("missing")),
    )
    said = content(tables | {"profile_values": values}).missing
    assert said == ("facts: 8 of 640 values are missing: 8 an option was not scored.",)


def point(method, arm, error, cost, n_different=0, **more):
    return {
        "model": "embedded", "method": method, "probe": "main", "arm_id": arm, "label": f"{arm} of {method}",
        "headline": True, "error": error, "error_low": error - 0.05, "error_high": error + 0.05, "profile": "facts",
        "metric": "right answers", "cost": cost, "cost_low": (cost or 0.0) - 0.02, "cost_high": (cost or 0.0) + 0.02,
        "n_different": n_different, "n_metrics": 5, "best": False, "outdated": "",
    } | more  # fmt: skip


def board(*rows, pairs=None):
    frontier = typed(rows, Frontier) if rows else None
    return build_leaderboard(leaderboard_table(), bench="b", frontier=frontier, pairs=pairs)


def pair(one, other, metric="words", difference=1.0, different=True, **more):
    return {
        "model": "embedded", "method": one, "other_method": other, "request": UP, "arm_id": "used", "other_arm_id": "a",
        "profile": "free", "metric": metric, "value": 3.0 + difference, "other_value": 3.0, "difference": difference,
        "low": difference - 0.2, "high": difference + 0.2, "effect_size": difference / 2.0, "p": 0.001 if different else 0.5,
        "p_adjusted": 0.01 if different else 1.0, "different": different, "n": 40, "n_clusters": 40, "missing": 0.0,
        "other_missing": 0.0,
    } | more  # fmt: skip


def test_the_board_has_effect_against_side_effect_where_there_is_a_frontier():
    report = board(
        point("rewrite", PLAIN, 0.5, 0.0, n_metrics=0),
        point("direct", "a", 0.3, 0.1, 2, best=True),
        point("tuned", "a", 0.4, 0.0),
    )
    found = read(report.files["report.html"])
    assert found.unbalanced == []
    assert found.ids.count("frontier-1") == 1
    assert "Known to change the model apart from the request: direct (2 of 5)." in found.said
    assert "Not known to: tuned." in found.said
    assert "The largest loss of right answers of facts among 2 settings is 0.100" in found.said
    assert "frontier-1" not in read(board().files["report.html"]).ids


def test_the_board_counts_metrics_where_no_profile_measures_a_capability():
    bare = {"profile": "", "metric": "", "cost": None, "cost_low": None, "cost_high": None}
    report = board(point("direct", "a", 0.3, 0.0, 2) | bare)
    found = read(report.files["report.html"])
    assert "No profile of the bench measures a capability" in found.said
    assert not any(name.startswith("tables/frontier") for name in report.files)


def test_only_plain_rewrites_are_no_method_under_steering():
    found = read(board(point("rewrite", PLAIN, 0.5, 0.0, n_metrics=0)).files["report.html"])
    assert "No method was profiled under steering yet." in found.said


def test_what_could_not_be_compared_is_not_called_equal():
    tables = profiled()
    left = tables["profile_changes"].filter(pl.col("arm_id") != "used")
    gone = content(tables | {"profile_changes": left})
    assert gone.sentences[0] == (
        "formality +0.4: nothing could be compared with the model as it is; what is missing is listed below."
    )


def test_costs_that_are_not_known_do_not_hide_what_differs():
    unknown = {"cost": None, "cost_low": None, "cost_high": None}
    found = read(board(point("direct", "a", 0.3, 0.0, 2) | unknown).files["report.html"])
    assert "Known to change the model apart from the request: direct (2 of" in found.said
    assert "is not known of any" in found.said


def test_a_method_that_is_asked_for_two_things_is_told_with_what_was_asked():
    both = [point("direct", "a", 0.3, 0.0, 2), point("direct", "b", 0.3, 0.1, 0)]
    found = read(board(*both).files["report.html"])
    assert "Known to change the model apart from the request: direct at a of direct (2 of 5)." in found.said
    assert "Not known to: direct at b of direct." in found.said


def test_a_page_says_what_the_cell_differs_in_from_each_control_that_was_asked_for_the_same():
    rows = [pair("here", "copy"), pair("here", "copy", "sentences", 0.1, different=False)]
    found = content(profiled() | {"profile_contrasts": typed(rows, ProfileContrasts)}).beside
    assert found.sentences == (
        "here against copy, asked for formality +0.4: 1 of 2 figures differs: words (free) +1.000.",
    )
    assert [r["metric"] for r in found.stands] == ["words"]
    assert found.n_tests == 2
    none = [pair("here", "copy", "words", 0.1, different=False)]
    deaf = content(profiled() | {"profile_contrasts": typed(none, ProfileContrasts)}).beside
    assert deaf.sentences == ("here against copy, asked for formality +0.4: none of 1 figure can be told apart.",)
    few = [pair("here", "copy", "words", 0.1, different=False, n_clusters=3)]
    assert (
        "these items are too few"
        in content(profiled() | {"profile_contrasts": typed(few, ProfileContrasts)}).beside.sentences[0]
    )


def test_who_is_beside_nobody_is_named_on_the_page():
    tables = profiled() | {"profile_contrasts": ProfileContrasts.empty()}
    plain = replace(cell(tables), control_steerability={"copy": pl.DataFrame()})
    (section,) = sections(plain, [])
    assert section.content.beside.alone == "Beside no other: copy, without a request and a current profile in common."
    # the model as it is was asked for nothing: there is nothing to hold beside anything
    (section,) = sections(
        cell(profiled(arms={PLAIN: ARMS[PLAIN]}) | {"profile_contrasts": ProfileContrasts.empty()}), []
    )
    assert section.content.beside is None


def test_the_page_and_the_board_draw_cells_beside_each_other():
    rows = typed([pair("here", "copy"), pair("here", "copy", "sentences", 0.1, different=False)], ProfileContrasts)
    report = build_cell_report(cell(profiled() | {"profile_contrasts": rows}))
    found = read(report.files["report.html"])
    assert found.unbalanced == []
    assert "Beside the controls" in found.said
    assert "fig-profile_beside" in found.ids
    costs = [point("direct", "a", 0.3, 0.1, 2), point("tuned", "a", 0.4, 0.0)]
    pairs = typed([pair("direct", "tuned")], ProfileContrasts)
    whole = read(board(*costs, pairs=pairs).files["report.html"])
    assert whole.unbalanced == []
    assert "direct against tuned, asked for formality +0.4: 1 of 1 figure differs: words (free) +1.000." in whole.said
    assert "fig-pairs_1" in whole.ids
    # one method is no pair
    assert "pairs-1" not in read(board(costs[0], pairs=pairs.clear()).files["report.html"]).ids
    # two that have nothing in common are named
    assert "Beside no other: direct and tuned" in read(board(*costs, pairs=pairs.clear()).files["report.html"]).said


def test_a_cell_that_was_profiled_before_an_edit_is_named_with_what_was_edited():
    old = point("direct", "a", 0.3, None, 0, cost_low=None, cost_high=None, n_metrics=0, outdated="facts")
    found = read(board(old, point("tuned", "a", 0.4, 0.0)).files["report.html"])
    assert "count for nothing until they are run again: direct (facts)." in found.said
    assert "profiled before facts changed" in found.said


def test_where_a_kind_chooses_a_strength_the_page_tells_it_by_the_other_half():
    spec = JudgedProfile.model_validate({"name": "facts", "rubrics": ["instruct", "fluency"], "judge": {"kind": "llm"}})
    tables = profiled()
    rows = tables["profile_values"].filter(metric="right answers").with_columns(metric=pl.lit(HARMONIC))
    placed = tables["profile_arms"].with_columns(
        position=pl.col("arm_id").replace_strict({"weak": 0.1, "strong": 0.5}, default=None)
    )
    tables |= {"profile_values": rows, "profile_arms": placed}
    (section,) = sections(replace(cell(tables), profile_specs={"facts": spec}), [])
    (said,) = section.content.chosen
    assert said.startswith(
        f"formality +0.4: {HARMONIC} of facts: of 2 strengths +0.10 on strength (raw) is best on half"
    )
    assert "which choosing made too good" in said
    assert "on the other half it is 1.00 [1.00 to 1.00] over 40 items" in said
    # one strength is no choice
    left = placed.with_columns(position=pl.when(pl.col("arm_id") != "strong").then("position"))
    alone = tables | {"profile_arms": left}
    (section,) = sections(replace(cell(alone), profile_specs={"facts": spec}), [])
    assert section.content.chosen == ()
