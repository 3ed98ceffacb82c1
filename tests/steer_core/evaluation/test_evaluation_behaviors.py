"""What a sweep says: measures of open answers, summaries clustered by item, findings that the known effects give."""

from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
from behavior_world import (
    BEHAVIOR,
    DECODING,
    PART,
    CheerfulBackend,
    make_items,
    make_vector,
    run_arms,
    score_items,
    shuffled,
)
from scipy.stats import spearmanr

from schemas import ArmScores, ArmSummary, Responses, SweepArms, SweepFindings
from schemas.specs import BehaviorSpec, GrammarBehavior, SweepSpec
from steer_core.evaluation.arms.measures import form_scores, kl_scores, perplexity_scores, text_scores
from steer_core.evaluation.behaviors.as_items import asked_of
from steer_core.evaluation.behaviors.findings import item_slopes, rank_correlation
from steer_core.evaluation.behaviors.side_effects import goal_scores, judged_scores, selectivity
from steer_core.evaluation.behaviors.summary import summarise_arms
from steer_core.evaluation.judges.judge import cases_of, judge_cases
from steer_core.evaluation.judges.load import load_judge
from steer_core.generation.run import Run
from steer_core.methods.sweeps.arms import plan_arms, with_random
from steer_core.models.embedded.grammar import read
from steer_core.tables import Journal, SteerworksError, check

FORMAL = BehaviorSpec(name="formality", source=GrammarBehavior(attribute="formality", positive=2, negative=-2))
STATS = {"draws": 300, "seed": 5}


class World:
    """One sweep with everything measured."""

    def __init__(self, folder, backend=None, n_open=8, n_ab=0):
        sweep = SweepSpec(random_directions=20, shuffled=2, max_new_tokens=24)
        self.items = make_items(n_open, n_ab)
        self.vectors = with_random([make_vector(), *shuffled()], "cheerfulness", sweep, layers=(1,))
        self.arms = plan_arms(BEHAVIOR, PART, sweep, self.vectors, self.items)
        self.backend = backend or CheerfulBackend()
        self.going = Run(Journal(str(folder), Responses), self.backend, seed=1)
        self.run = run_arms(self.arms, self.items, self.vectors, self.going)
        self.asked = asked_of(self.arms, self.items)

    def judged(self, behavior=BEHAVIOR, **options):
        judge = load_judge(behavior)
        rows = judge_cases(judge, cases_of(self.run.answers, self.items))
        return judged_scores(self.run.answers, self.asked, rows, judge_id=judge.judge_id, **options)

    def mean(self, scores, measure, **arm):
        chosen = self.arms.filter(**arm)
        return scores.filter(measure=measure).join(chosen, on="arm_id", how="semi")["value"].mean()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("journal"))


@pytest.fixture(scope="module")
def judged(world):
    return world.judged()


@pytest.fixture(scope="module")
def found(world, judged):
    return summarise_arms(world.arms, judged, **STATS)


def finding(table, name, measure="judged"):
    (row,) = table.filter(finding=name, measure=measure).to_dicts()
    return row


def test_verdicts_follow_the_strength_and_leave_the_controls_alone(world, judged):
    check(judged, ArmScores)
    levels = {s: world.mean(judged, "judged", role="vector", strength=s) for s in (-2.0, -1.0, 1.0, 2.0)}
    assert levels == {-2.0: 0.0, -1.0: 2.5, 1.0: 7.5, 2.0: 10.0}
    assert world.mean(judged, "judged", role="off") == 5.0
    assert world.mean(judged, "judged", role="random") == 5.0
    prompted = judged.join(world.arms.filter(role="prompt"), on="arm_id", how="semi")
    assert set(prompted["value"]) == {0.0, 10.0}


def test_summaries_keep_their_contract_and_pair_with_the_unsteered_arm(world, found):
    summary, findings = found
    check(summary, ArmSummary)
    check(findings, SweepFindings)
    assert summary.height == world.arms.height
    (off,) = summary.filter(role="off").to_dicts()
    assert (off["mean"], off["difference"], off["n"], off["n_clusters"]) == (5.0, None, 8, 8)
    (top,) = summary.filter(role="vector", strength=2.0).to_dicts()
    assert (top["difference"], top["difference_low"], top["difference_high"]) == (5.0, 5.0, 5.0)


def test_findings_of_a_clean_sweep_are_its_closed_forms(found):
    findings = found[1]
    assert finding(findings, "slope")["value"] == pytest.approx(2.5)
    assert finding(findings, "spearman")["value"] == 1.0
    assert finding(findings, "anti_steerable")["value"] == 0.0
    assert finding(findings, "effect_low")["value"] == -5.0
    assert finding(findings, "effect_high")["value"] == 5.0
    for end in ("low", "high"):
        rank = finding(findings, f"p_random_{end}")
        assert (rank["value"], rank["n"]) == (pytest.approx(1 / 21), 20)
        assert "0 of 20 random directions" in rank["detail"]
        few = finding(findings, f"p_shuffled_{end}")
        assert (few["n"], few["value"]) == (2, pytest.approx(1 / 3))


def test_findings_and_summaries_give_the_same_effect_and_interval(world, judged):
    noisy = judged.with_columns(value=pl.col("value") + pl.Series(np.random.default_rng(1).normal(0, 1, judged.height)))
    # items of another form must not thin out the draws
    other = noisy.with_columns(item_id=pl.lit("pair-") + pl.col("item_id"), measure=pl.lit("propensity"))
    summary, findings = summarise_arms(world.arms, pl.concat([noisy, other]), **STATS)
    for end, strength in (("low", -2.0), ("high", 2.0)):
        (row,) = summary.filter(role="vector", strength=strength, measure="judged").to_dicts()
        found = finding(findings, f"effect_{end}")
        assert found["n"] == row["n_clusters"] == 8
        expected = (row["difference"], row["difference_low"], row["difference_high"])
        assert (found["value"], found["low"], found["high"]) == pytest.approx(expected)


def test_a_vector_no_better_than_its_controls_has_no_small_rank(world, judged):
    # the scores of one random direction take the vector's place at both ends
    ends = world.arms.filter(role="random", seed=3).select("strength", control="arm_id")
    ends = ends.join(world.arms.filter(role="vector").select("strength", "arm_id"), on="strength")
    noisy = judged.with_columns(value=pl.col("value") + pl.Series(np.random.default_rng(0).normal(0, 1, judged.height)))
    control = noisy.join(ends, left_on="arm_id", right_on="control").select(
        pl.col("arm_id_right").alias("arm_id"), "item_id", "sample_index", "group", "measure", "value"
    )
    swapped = pl.concat([noisy.join(ends, on="arm_id", how="anti"), control])
    findings = summarise_arms(world.arms, swapped, **STATS)[1]
    for end in ("low", "high"):
        row = finding(findings, f"p_random_{end}")
        # the control it is stands beside it, and ties count against it
        assert 2 / 21 <= row["value"] <= 1.0


def test_items_that_move_against_the_vector_are_counted(tmp_path):
    # A is positive for every second item, and the backend pushes A whatever the item
    here = World(tmp_path, n_open=1, n_ab=8)
    scores = score_items(here.arms, here.items, here.vectors, here.going)
    findings = summarise_arms(here.arms, scores, **STATS)[1]
    share = finding(findings, "anti_steerable", "propensity")
    assert (share["value"], share["n"]) == (0.5, 8)
    assert 0.0 < share["low"] < 0.5 < share["high"] < 1.0
    slope = finding(findings, "slope", "propensity")
    assert slope["value"] == pytest.approx(0.0, abs=1e-12)
    assert slope["low"] < 0.0 < slope["high"]


def test_a_missing_verdict_is_left_out_and_counted_never_zero(world, judged):
    gone = judged.with_columns(
        value=pl.when(pl.col("item_id") == "cheerfulness-main-open-0").then(None).otherwise(pl.col("value"))
    )
    summary, findings = summarise_arms(world.arms, gone, **STATS)
    (top,) = summary.filter(role="vector", strength=2.0).to_dicts()
    assert (top["mean"], top["missing"], top["n"]) == (10.0, 1 / 8, 7)
    assert finding(findings, "slope")["n"] == 7
    nothing = summarise_arms(world.arms, judged.with_columns(value=pl.lit(None, pl.Float64)), **STATS)
    assert set(nothing[0]["missing"]) == {1.0}
    assert nothing[0]["mean"].null_count() == nothing[0].height
    assert finding(nothing[1], "spearman")["value"] is None
    check(nothing[1], SweepFindings)


def test_sides_of_open_answers_are_measured(world):
    median = world.run.answers["text"].str.len_chars().median()

    def refused(texts):
        return [{"refused": float(len(text) > median)} for text in texts]

    plain = pl.concat([form_scores(world.run, world.asked), text_scores(world.run, world.asked, refused)])
    check(plain, ArmScores)
    lengths = plain.filter(measure="length")
    tokens = dict(world.run.responses.select("response_id", "completion_tokens").iter_rows())
    expected = [float(tokens[r]) for r in world.run.answers["response_id"]]
    assert lengths["value"].to_list() == expected
    long = (world.run.answers["text"].str.len_chars() > median).mean()
    assert 0.0 < plain.filter(measure="refused")["value"].mean() == long < 1.0
    assert plain.filter(measure="failed")["value"].sum() == 0.0


def test_perplexity_is_that_of_the_unsteered_model_after_the_items_own_prompt(world):
    scores = perplexity_scores(world.run, world.asked, world.going, DECODING)
    check(scores, ArmScores)
    # the fake charges more under steering or a system prompt, so one figure everywhere shows that neither is there
    assert scores["value"].unique().to_list() == [pytest.approx(np.e)]
    assert scores.height == world.run.answers.height


def test_kl_is_of_what_was_done_and_of_a_prompt_against_the_items_own(world):
    scores = kl_scores(world.run, world.asked, world.going, DECODING)
    assert world.mean(scores, "kl", role="off") == 0.0
    assert world.mean(scores, "kl", role="vector", strength=2.0) == pytest.approx(0.4)
    assert world.mean(scores, "kl", role="prompt") == pytest.approx(0.3)
    with pytest.raises(SteerworksError, match="cannot measure divergence"):
        kl_scores(world.run, world.asked, replace(world.going, backend=CheerfulBackend(diverges=False)), DECODING)


def test_goals_are_measured_once_a_text_and_other_behaviors_on_the_swept_scale(world, judged):
    asked = []

    def ruler(texts):
        asked.extend(texts)
        return [{"sentiment": (read(t).sentiment + 2) / 4, "length": None} for t in texts]

    goals = goal_scores(world.run, world.asked, ruler)
    check(goals, ArmScores)
    assert len(asked) == len(set(asked)) == world.run.answers["text"].n_unique()
    assert world.mean(goals, "goal:sentiment", role="vector", strength=2.0) == 1.0
    assert goals.filter(measure="goal:length")["value"].null_count() == world.run.answers.height
    wide = FORMAL.model_copy(update={"scale": (0.0, 100.0)})
    other = world.judged(wide, measure="other:formality", scale=(0.0, 100.0), onto=BEHAVIOR.scale)
    assert other["value"].drop_nulls().is_between(0.0, 10.0).all()
    assert other["value"].mean() == pytest.approx(world.judged(FORMAL, measure="other:formality")["value"].mean())
    findings = summarise_arms(world.arms, pl.concat([judged, other, goals]), **STATS)[1]
    entangled = finding(findings, "entanglement_high", "other:formality")
    assert entangled["low"] <= entangled["value"] <= entangled["high"]
    share = finding(findings, "selectivity")
    low = finding(findings, "entanglement_low", "other:formality")["value"]
    assert share["value"] == pytest.approx(selectivity(10.0, [entangled["value"] - low]))
    assert finding(findings, "effect_high", "goal:sentiment")["value"] == 0.5


def test_selectivity_is_the_share_that_the_behavior_moves():
    assert selectivity(3.0, [0.0, 0.0]) == 1.0
    assert selectivity(-3.0, [3.0, -3.0]) == 0.5
    assert selectivity(0.0, [0.0]) is None
    assert selectivity(1.0, []) is None


def test_perplexity_at_the_ends_is_a_ratio_of_geometric_means(world):
    rows = world.run.answers.select("arm_id", "item_id", "sample_index").with_columns(
        group=pl.lit("main"), measure=pl.lit("perplexity")
    )
    items = {i: float(k + 1) for k, i in enumerate(world.items["item_id"])}
    factor = dict.fromkeys(world.arms["arm_id"], 1.0)
    factor[world.arms.filter(role="vector", strength=2.0)["arm_id"][0]] = 3.0
    values = [items[i] * factor[a] for a, i in rows.select("arm_id", "item_id").iter_rows()]
    findings = summarise_arms(world.arms, rows.with_columns(value=pl.Series(values)), **STATS)[1]
    high = finding(findings, "ratio_high", "perplexity")
    assert (high["value"], high["low"], high["high"]) == pytest.approx((3.0, 3.0, 3.0))
    assert finding(findings, "ratio_low", "perplexity")["value"] == pytest.approx(1.0)
    assert findings.filter(finding="slope").is_empty()


def test_a_neutral_group_has_effects_but_is_no_target(world, judged):
    neutral = judged.with_columns(group=pl.lit("neutral"), measure=pl.lit("p_positive"))
    findings = summarise_arms(world.arms, neutral, **STATS)[1]
    assert set(findings["finding"]) == {"effect_low", "effect_high"}


def test_item_slopes_are_least_squares_of_what_is_defined():
    rng = np.random.default_rng(2)
    x, values = np.array([-2.0, -1.0, 0.5, 2.0]), rng.normal(size=(5, 4))
    values[1, 2], values[2, 1:] = np.nan, np.nan
    slopes = item_slopes(x, values)
    for k in (0, 1, 3, 4):
        kept = ~np.isnan(values[k])
        assert slopes[k] == pytest.approx(np.polyfit(x[kept], values[k][kept], 1)[0])
    assert np.isnan(slopes[2])


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(4)
    x, means = np.array([-2.0, -1.0, 1.0, 2.0, 3.0]), rng.integers(0, 4, size=(20, 5)).astype(float)
    means[0] = 1.0
    found = rank_correlation(means, x)
    assert np.isnan(found[0])
    for row, value in zip(means[1:], found[1:], strict=True):
        assert value == pytest.approx(spearmanr(row, x).statistic, nan_ok=True)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    @cache
    def arms():
        sweep = SweepSpec(random_directions=0, shuffled=0, max_new_tokens=4)
        return plan_arms(BEHAVIOR, PART, sweep, [make_vector()], make_items(2))

    rng, held = np.random.default_rng(8), 0
    table = arms().filter(pl.col("role").is_in(["off", "vector"]))
    for _ in range(60):
        own = rng.normal(0, 1, 30)  # items differ in how far they move
        rows = []
        for arm in table.iter_rows(named=True):
            moved = (arm["strength"] or 0.0) * (1.0 + own)
            rows += [(arm["arm_id"], f"{i}", 0, "main", "judged", float(v)) for i, v in enumerate(moved)]
        scores = pl.DataFrame(rows, schema=ArmScores.empty().schema, orient="row")
        row = finding(summarise_arms(table, scores, draws=200, seed=1)[1], "slope")
        held += row["low"] <= 1.0 <= row["high"]
    assert 50 <= held <= 60


def test_a_sweep_without_its_unsteered_arm_or_with_foreign_scores_is_refused(world, judged):
    with pytest.raises(SteerworksError, match="'cheerfulness' has 0 unsteered arms"):
        summarise_arms(world.arms.filter(pl.col("role") != "off"), judged.head(0), **STATS)
    with pytest.raises(SteerworksError, match="1 arms have scores and are not in the table"):
        summarise_arms(world.arms, judged.with_columns(arm_id=pl.lit("x")), **STATS)


def test_arms_of_the_world_keep_their_contract(world):
    check(world.arms, SweepArms)
