"""The planner makes the grid, each setting once, and the run computes what is missing and nothing else."""

import json

import numpy as np
import polars as pl
import pytest
from behavior_world import (
    BEHAVIOR,
    PART,
    CheerfulBackend,
    make_items,
    make_vector,
    run_arms,
    score_items,
    shuffled,
    with_seed,
)

from schemas import ArmAnswers, ArmScores, ContrastExamples, Responses, SweepArms
from schemas.specs import Decoding, SweepSpec
from steer_core.evaluation.behaviors.as_items import asked_of, item_of
from steer_core.generation.backend import Finished, Generation
from steer_core.generation.run import Run
from steer_core.methods.sweeps.arms import cost_of, examples_of, missing_arms, plan_arms, with_random
from steer_core.methods.sweeps.grid import refine, strengths_of, widen
from steer_core.steering.intervention import Gate
from steer_core.steering.strength import Strength, coefficient
from steer_core.tables import Journal, SteerworksError, check
from steer_core.tables.errors import ConfigError

SWEEP = SweepSpec(random_directions=20, shuffled=2, max_new_tokens=24)
PLAIN = SweepSpec(random_directions=0, shuffled=0, max_new_tokens=24)


def plan(sweep=SWEEP, part=PART, items=None, vectors=None, behavior=BEHAVIOR, **options):
    if vectors is None:
        vectors = with_random([make_vector(), *shuffled()], behavior.name, sweep, layers=(1,))
    return plan_arms(behavior, part, sweep, vectors, make_items() if items is None else items, **options), vectors


def run(arms, vectors, backend, folder, items=None, **options):
    items = make_items() if items is None else items
    return run_arms(arms, items, vectors, Run(Journal(str(folder), Responses), backend, seed=1), **options)


def scored(arms, items, vectors, backend, folder):
    return score_items(arms, items, vectors, Run(Journal(str(folder), Responses), backend, batch_size=8))


def test_the_grid_has_the_unsteered_arm_all_strengths_and_every_control():
    arms, _ = plan()
    check(arms, SweepArms)
    assert arms["role"].value_counts(sort=True).sort("role").rows() == [
        ("off", 1),
        ("prompt", 2),
        ("random", 40),
        ("shuffled", 4),
        ("vector", 4),
    ]
    assert arms["role"][0] == "off"
    assert sorted(arms.filter(role="vector")["strength"]) == [-2.0, -1.0, 1.0, 2.0]
    assert set(arms.filter(role="random")["strength"]) == {-2.0, 2.0}
    assert dict(arms.filter(role="prompt").select("system", "side").iter_rows()) == {
        BEHAVIOR.positive_prompt: 1, BEHAVIOR.negative_prompt: -1,
    }  # fmt: skip


def test_controls_take_steps_as_long_as_the_vectors():
    long = make_vector(control="shuffled:0", seed=9)
    long = make_vector(control="shuffled:0", tensors={"direction": 5.0 * long.tensors["direction"]})
    sweep = SweepSpec(random_directions=1, shuffled=1, max_new_tokens=8)
    vectors = with_random([make_vector(), long], "cheerfulness", sweep, layers=(1,))
    arms, _ = plan(sweep, vectors=vectors)
    norms = {v.id: v.norm for v in vectors}
    for row in arms.filter(pl.col("strength") == 2.0).iter_rows(named=True):
        (step,) = json.loads(row["interventions"])
        assert step["coefficient"] * norms[step["vector"]] == pytest.approx(2.0, rel=1e-5)


def test_a_strength_that_does_nothing_is_the_unsteered_arm():
    part = PART.model_copy(update={"strengths": (-1.0, 0.0, 1.0)})
    arms, _ = plan(PLAIN, part)
    assert sorted(arms.filter(role="vector")["strength"]) == [-1.0, 1.0]
    affine = make_vector(operator="affine")
    erased, _ = plan(PLAIN, part, vectors=[affine])
    assert sorted(erased.filter(role="vector")["strength"]) == [-1.0, 0.0, 1.0]


def test_units_are_resolved_for_each_layer_and_layers_act_together():
    part = PART.model_copy(update={"layers": (0, 1), "unit": "residual_fraction", "strengths": (0.5,)})
    small, large = make_vector(0), make_vector(1, scalars={"residual_norm": 30.0})
    arms, _ = plan(PLAIN, part, vectors=[large, small])
    (row,) = arms.filter(role="vector").to_dicts()
    steps = json.loads(row["interventions"])
    assert row["layers"] == "[0,1]"
    assert [s["vector"] for s in steps] == [small.id, large.id]
    assert [s["coefficient"] for s in steps] == [
        coefficient(Strength(0.5, "residual_fraction"), v) for v in (small, large)
    ]
    assert row["coefficient"] == steps[0]["coefficient"]


def test_further_layers_positions_and_seeds_are_swept():
    sweep = PLAIN.model_copy(update={"layers": (0, 2), "positions": ("completion",), "seeds": (7,)})
    vectors = [make_vector(layer) for layer in (0, 1, 2)] + [with_seed(make_vector(), 7)]
    arms, _ = plan(sweep, vectors=vectors)
    steered = arms.filter(role="vector")
    counts = steered.group_by("layers", "positions", "seed").len().sort("layers", "positions", "seed").rows()
    assert counts == [
        ("[0]", "all", 0, 2),
        ("[1]", "all", 0, 4),
        ("[1]", "all", 7, 4),
        ("[1]", "completion", 0, 4),
        ("[2]", "all", 0, 2),
    ]


def test_settings_that_come_to_the_same_are_one_arm():
    sweep = PLAIN.model_copy(update={"layers": (1,), "positions": ("all",)})
    once, _ = plan(PLAIN)
    twice, _ = plan(sweep)
    assert sorted(once["arm_id"]) == sorted(twice["arm_id"])


def test_the_middle_layer_is_worked_out_or_asked_for():
    part = PART.model_copy(update={"layers": "middle"})
    sweep = PLAIN.model_copy(update={"layers": (0,)})
    arms, _ = plan(sweep, part, vectors=[make_vector(0), make_vector(1)])
    assert set(arms.filter(role="vector")["layers"]) == {"[0]", "[1]"}
    both = PLAIN.model_copy(update={"layers": (0, 1)})
    with pytest.raises(ConfigError, match="say which one"):
        plan(both, part, vectors=[make_vector(0), make_vector(1)])
    arms, _ = plan(both, part, vectors=[make_vector(0), make_vector(1)], layers=(1,))
    assert arms.filter(role="vector", layers="[1]").height == 4


@pytest.mark.parametrize(
    ("exclusion", "gone"),
    [
        ({"role": "random", "strength": -2.0}, 20),
        ({"role": ["random", "shuffled"]}, 44),
        ({"layers": 1, "role": "vector"}, 4),
        ({"seed": [3, 4], "role": "random"}, 4),
        ({"behavior": "cheerfulness"}, 50),
        ({"layers": [[0, 1]]}, 0),
    ],
)
def test_exclusions_leave_out_what_they_name_and_never_the_unsteered_arm(exclusion, gone):
    whole, _ = plan()
    arms, _ = plan(SWEEP.model_copy(update={"exclude": (exclusion,)}))
    assert whole.height - arms.height == gone
    assert arms["role"][0] == "off"
    assert set(arms["arm_id"]) <= set(whole["arm_id"])


def test_an_exclusion_that_names_no_field_of_an_arm_is_an_error():
    with pytest.raises(ConfigError, match="'layer'.*it may name behavior, role"):
        plan(SWEEP.model_copy(update={"exclude": ({"layer": 1},)}))


def test_a_missing_vector_or_control_is_named():
    with pytest.raises(ConfigError, match="no vector .seed 0. at layer 3"):
        plan(PLAIN.model_copy(update={"layers": (3,)}))
    with pytest.raises(ConfigError, match="20 random controls and 0 are given: `with_random`"):
        plan(vectors=[make_vector(), *shuffled()])
    with pytest.raises(ConfigError, match="2 shuffled controls and 1 are given"):
        plan(vectors=with_random([make_vector(), *shuffled(n=1)], "cheerfulness", SWEEP, layers=(1,)))
    with pytest.raises(ConfigError, match="no test items"):
        plan(PLAIN, items=make_items(behavior="other"))


def test_refined_and_widened_grids_keep_the_arms_they_had():
    assert refine((1.0, -1.0), 2) == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert refine((0.1, 0.3)) == (0.1, 0.2, 0.3)
    assert widen((-1.0, 0.5, 1.0), 2) == (-4.0, -2.5, -1.0, 0.5, 1.0, 1.5, 2.0)
    assert strengths_of(PART, PLAIN.model_copy(update={"strengths": (1.0, 2.0), "midpoints": 1})) == (1.0, 1.5, 2.0)
    with pytest.raises(ValueError, match="give at least two"):
        widen((1.0,))
    coarse, _ = plan()
    fine, _ = plan(SWEEP.model_copy(update={"midpoints": 1}))
    assert set(coarse["arm_id"]) < set(fine["arm_id"])
    new = missing_arms(fine, coarse["arm_id"].to_list())
    assert sorted(new["strength"]) == [-1.5, 1.5]  # 0 between -1 and 1 is the unsteered arm


def test_an_arm_is_another_one_when_its_answers_may_differ():
    first, _ = plan(PLAIN)
    for sweep, part, items, options in [
        (PLAIN.model_copy(update={"temperature": 0.5}), PART, make_items(), {}),
        (PLAIN.model_copy(update={"samples": 2}), PART, make_items(), {}),
        (PLAIN, PART, make_items(7), {}),
        (PLAIN, PART.model_copy(update={"positions": "prompt"}), make_items(), {}),
        (PLAIN, PART, make_items(), {"gate": Gate("v", 0, 0.1)}),
    ]:
        other, _ = plan(sweep, part, items, **options)
        steered = set(other.filter(role="vector")["arm_id"])
        assert not steered & set(first["arm_id"])
    described = BEHAVIOR.model_copy(update={"description": "otherwise described"})
    same, _ = plan(PLAIN, behavior=described)
    assert same["arm_id"].to_list() == first["arm_id"].to_list()


def test_the_cost_is_known_before_anything_runs():
    items = make_items(n_open=6, n_ab=4, n_pair=1)
    arms, _ = plan(PLAIN.model_copy(update={"samples": 2}), items=items, seconds_per_token=0.5)
    off, steered = arms.row(0, named=True), arms.filter(role="vector").row(0, named=True)
    assert (off["n_calls"], off["n_scored"], off["max_new_tokens"], off["seconds"]) == (12, 22, 288, 144.0)
    assert steered["n_scored"] == 34
    cost = cost_of(arms)
    assert (cost.arms, cost.calls, cost.tokens, cost.seconds) == (7, 84, 7 * 288, 7 * 144.0)
    assert cost_of(plan(PLAIN)[0]).seconds is None


def test_all_arms_share_batches_and_only_missing_ones_are_generated(tmp_path):
    arms, vectors = plan()
    backend = CheerfulBackend()
    done = run(arms, vectors, backend, tmp_path)
    check(done.answers, ArmAnswers)
    check(done.responses, Responses)
    assert done.answers.height == arms.height * 6 == sum(backend.batches)
    assert max(backend.batches) == 64
    fine, _ = plan(SWEEP.model_copy(update={"midpoints": 1}))
    again = CheerfulBackend()
    whole = run(fine, vectors, again, tmp_path)
    assert sum(again.batches) == 2 * 6
    assert whole.answers.height == fine.height * 6


def test_an_item_has_the_same_seed_in_every_arm_and_off_has_no_interventions(tmp_path):
    arms, vectors = plan(PLAIN)
    done = run(arms, vectors, CheerfulBackend(), tmp_path, samples=2)
    rows = done.answers.join(done.responses.select("response_id", "seed", "plan"), on="response_id")
    assert rows.group_by("item_id", "sample_index").agg(pl.col("seed").n_unique())["seed"].to_list() == [1] * 12
    off = rows.filter(pl.col("arm_id") == arms["arm_id"][0])
    assert not any("interventions" in json.loads(p) for p in off["plan"])
    prompted = rows.join(arms.filter(role="prompt"), on="arm_id", how="semi")
    assert all(json.loads(p)["messages"][0]["role"] == "system" for p in prompted["plan"])


def test_failures_are_named_and_texts_are_cleaned(tmp_path):
    class Terse(CheerfulBackend):
        def generate(self, calls, batch_size=64):
            kinds = ["stop", "length", "overlong"]
            raws = ["  <b>fine</b> ", "cut o", ""]
            for i, _ in enumerate(calls):
                yield Finished(i, Generation(raws[i % 3], kinds[i % 3], 1, 1, 0.0))

    arms, vectors = plan(PLAIN)
    done = run(arms.head(1), vectors, Terse(), tmp_path, clean=lambda t: t.replace("<b>", "").strip("</b> "))
    failures = done.answers["failure"].value_counts().sort("failure").rows()
    assert failures == [(None, 2), ("overlong", 2), ("truncated", 2)]
    assert set(done.answers["text"]) == {"fine", "cut o", ""}
    assert set(done.responses["text"]) == {"fine", "cut o", ""}


def test_vectors_that_are_not_given_or_cannot_be_applied_are_refused(tmp_path):
    arms, vectors = plan(PLAIN)
    with pytest.raises(ConfigError, match="1 vectors of the sweep's arms are not given"):
        run(arms, [], CheerfulBackend(), tmp_path)
    with pytest.raises(SteerworksError, match="cheerful backend cannot apply interventions"):
        run(arms, vectors, CheerfulBackend(interventions=False), tmp_path)
    prompts = arms.filter(pl.col("role").is_in(["off", "prompt"]))
    assert run(prompts, [], CheerfulBackend(interventions=False), tmp_path).answers.height == 18


def test_letters_give_probability_pair_mass_and_logit_difference(tmp_path):
    items = make_items(n_open=1, n_ab=4)
    arms, vectors = plan(PLAIN, items=items)
    scores = scored(arms, items, vectors, CheerfulBackend(), tmp_path)
    check(scores, ArmScores)
    strong = arms.filter(role="vector", strength=2.0)["arm_id"][0]
    found = {(i, m): v for i, m, v in scores.filter(arm_id=strong).select("item_id", "measure", "value").iter_rows()}
    pushed = 1 / (1 + np.exp(-2.0))
    for k in range(4):
        expected = pushed if k % 2 else 1 - pushed
        item = f"cheerfulness-main-ab-{k}"
        assert found[item, "p_positive"] == pytest.approx(expected)
        assert found[item, "pair_mass"] == pytest.approx(0.8)
        assert found[item, "propensity"] == pytest.approx(2.0 if k % 2 else -2.0)
        assert found[item, "accuracy"] == float(k % 2)


def test_pairs_give_propensity_in_sum_and_per_token(tmp_path):
    class Lengthy(CheerfulBackend):
        def _score(self, plan, text):
            return [-1.0, -1.0] if text == "long answer" else [-1.5]

    items = make_items(n_open=0, n_pair=1).with_columns(positive=pl.lit("long answer"), negative=pl.lit("short"))
    arms, vectors = plan(PLAIN, items=items)
    off = arms.head(1)
    scores = scored(off, items, vectors, Lengthy(), tmp_path)
    values = dict(scores.select("measure", "value").iter_rows())
    assert values == {"propensity": -0.5, "accuracy": 0.0, "propensity_per_token": 0.5}


@pytest.mark.parametrize(
    ("positive", "negative", "scored"),
    [
        ("(A)", "(B)", ("(A", "(B")),
        ("A", "B", ("A", "B")),
        ("(B", "(A", ("(B", "(A")),
        (" (A) ", " (B) ", (" (A", " (B")),
        ("Yes", "No", ("Yes", "No")),
    ],
)
def test_what_stands_behind_a_letter_is_not_scored(positive, negative, scored):
    row = make_items(n_open=0, n_ab=1).row(0, named=True) | {"positive": positive, "negative": negative}
    assert item_of(row).continuations == scored


def test_an_item_without_two_answers_is_named(tmp_path):
    items = make_items(n_open=0, n_ab=1).with_columns(negative=pl.lit(None, pl.String))
    arms, vectors = plan(PLAIN, items=items)
    with pytest.raises(ConfigError, match=r"cheerfulness-main-ab-0.*\(test, row 0\) needs two different answers"):
        scored(arms, items, vectors, CheerfulBackend(), tmp_path)


def test_a_backend_without_scores_is_refused_by_name(tmp_path):
    items = make_items(n_open=0, n_ab=1)
    arms, vectors = plan(PLAIN, items=items)
    with pytest.raises(SteerworksError, match="cheerful backend cannot score"):
        scored(arms, items, vectors, CheerfulBackend(scores=False), tmp_path)


def test_a_few_shot_arm_shows_training_answers_of_its_side_and_never_others():
    def row(k, label, **more):
        asked = json.dumps([{"role": "user", "content": f"Question {k}?"}])
        return {
            "example_id": f"{k}-{label}", "concept": "cheerfulness", "kind": "pair", "split": "train", "pair_id": str(k),
            "label": label, "messages": asked, "answer": f"answer {k} of {label}", "letter": None, "source": "t", "row": k,
            **more,
        }  # fmt: skip

    rows = [row(k, label) for k in range(4) for label in (0, 1)]
    rows += [row(9, 1, split="test"), row(8, 1, answer=""), row(7, 1, concept="other")]
    table = pl.DataFrame(rows, schema=ContrastExamples.dtypes())
    shown = examples_of("cheerfulness", table, 3)
    assert set(shown) == {1, -1}
    for side, label in ((1, 1), (-1, 0)):
        assert [t.role for t in shown[side]] == ["user", "assistant"] * 3
        assert all(t.content.endswith(f"of {label}") for t in shown[side][1::2])
        assert not {t.content for t in shown[side]} & {"Question 9?", "Question 8?", "Question 7?"}
    assert examples_of("cheerfulness", table, 5) == {}
    arms, _ = plan(shown=shown)
    few = arms.filter(pl.col("turns").is_not_null())
    assert few.select("role", "side", "system").rows() == [("prompt", 1, None), ("prompt", -1, None)]
    assert len(set(arms["arm_id"])) == arms.height
    assert asked_of(few, make_items())[0].plan("m", Decoding()).messages[0].content == shown[1][0].content
