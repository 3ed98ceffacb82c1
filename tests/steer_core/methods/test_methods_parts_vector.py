"""A request's moves become strengths through the dose-response of the training pool, and only what the prompt leaves."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from fixture_requests import GOALS, SETTING, request

from schemas import Artifacts, DoseResponse, Outcomes, ProbeArms, Responses
from schemas.specs import BenchSpec, MethodSpec, ModelSpec
from schemas.vector_part import VectorPart
from steer_core.generation.backend import Capabilities, Finished, Generation, Interventions
from steer_core.generation.run import Run
from steer_core.methods.doses import DoseCurve, Trial, is_anchored, measure_dose_response
from steer_core.methods.driver import run_method
from steer_core.methods.load import load_method
from steer_core.methods.part import Arm, Composed, arms_of, arms_table, refused
from steer_core.methods.parts.prompt import build_strategy
from steer_core.methods.parts.vector import Doses, with_doses
from steer_core.methods.protocol import Artifact, Item, Observation, Traits
from steer_core.steering.operators import load_operator
from steer_core.steering.vector import SteeringVector
from steer_core.tables import Journal, check
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.estimator import available_estimators, load_estimator

PART = VectorPart(estimator="mean-difference", strengths=(-2.0, -1.0, 1.0, 2.0, 3.0))


def vector(goal: str, layer: int = 1, scale: float = 1.0) -> SteeringVector:
    direction = np.zeros((1, 4), np.float32)
    direction[0, list(GOALS).index(goal)] = scale
    return SteeringVector(goal, "add", layer, {"direction": direction}, {"residual_norm": 2.0}, "m")


VECTORS = {g: [vector(g)] for g in ("formality", "text_length")}
GOAL_OF = {v[0].id: g for g, v in VECTORS.items()}


class Responsive:
    """A model whose answer says where it lands: each unit of a vector moves its goal by `gain`, 3 breaks the answer."""

    capabilities = Capabilities("responsive", None, scores=False, interventions=Interventions.every())
    execution = "responsive"

    def __init__(self, gain=0.1, prompt_gain=0.0):
        self.gain, self.prompt_gain, self.n_calls = gain, prompt_gain, 0

    def prompt_tokens(self, plan):
        return 5

    def generate(self, calls, batch_size=64):
        for index, call in enumerate(calls):
            self.n_calls += 1
            z = dict.fromkeys(GOALS, 0.5)
            prompt = call.plan.messages[-1].content
            for goal in z:
                if f"more {GOALS[goal].more.split()[-1]}" in prompt:
                    z[goal] += self.prompt_gain
            for i in call.plan.interventions:
                z[GOAL_OF[i.vector]] += self.gain * i.coefficient
            broken = any(abs(i.coefficient) >= 3 for i in call.plan.interventions)
            text = " ".join(f"{g}={v:.4f}" for g, v in z.items())
            yield Finished(index, Generation("" if broken else text, "stop", 5, 3, 0.1))

    def score(self, plans, continuations):
        raise AssertionError("nothing is scored here")


def ruler(texts):
    return [{g: float(dict(p.split("=") for p in t.split())[g]) for g in GOALS} for t in texts]


def pool(n=8):
    return [
        request(text=f"Text {i}.", request_id=f"{g}{i}", **{g: d})
        for i in range(n)
        for g, d in (("formality", 0.3 if i % 2 else -0.3), ("text_length", 0.2))
    ]


def trial(tmp_path, backend, strategy="rewrite", vectors=VECTORS, requests=None, method=None, **changes):
    method = method or build_strategy(strategy, SETTING, {})
    requests = pool() if requests is None else requests
    artifact = changes.pop("artifact", None)
    tried = Trial(vectors, changes.pop("strengths", PART.strengths), changes.pop("unit", PART.unit), **changes)
    run = Run(Journal(str(tmp_path), Responses), backend, ruler, batch_size=4)
    return measure_dose_response(method, requests, {r.request_id: r.text for r in requests}, tried, run, artifact)


def test_the_curve_is_what_the_model_does_and_failing_strengths_are_not_usable(tmp_path):
    table = trial(tmp_path, Responsive())
    rows = check(table, DoseResponse).filter((pl.col("goal") == "formality") & (pl.col("observed_goal") == "formality"))
    assert rows.sort("strength")["strength"].to_list() == [None, -2, -1, 1, 2, 3]
    assert rows.sort("strength")["fitted"].to_list() == [None, *map(pytest.approx, (-0.2, -0.1, 0.1, 0.2)), None]
    assert rows.sort("strength")["usable"].to_list() == [True] * 5 + [False]
    assert rows.filter(pl.col("strength") == 3)["failed"].to_list() == [1.0]
    other = table.filter((pl.col("goal") == "formality") & (pl.col("observed_goal") == "text_length"))
    assert other["move"].drop_nulls().abs().max() == pytest.approx(0.0)
    assert table.select("prompt_intercept", "prompt_slope").row(0) == pytest.approx((0.0, 0.0))


def test_what_was_measured_is_not_generated_again(tmp_path):
    trial(tmp_path, Responsive())
    again = Responsive()
    trial(tmp_path, again)
    assert again.n_calls == 0


def test_a_goal_that_nobody_asks_for_is_named(tmp_path):
    with pytest.raises(SteerworksError, match="asks for goal 'text_length'.*train_probe"):
        trial(tmp_path, Responsive(), requests=[r for r in pool() if r.request_id.startswith("formality")])


def steered(table, vectors=VECTORS):
    artifact = with_doses(Artifact(), PART, vectors, table)
    return Composed(build_strategy("rewrite", SETTING, {}), (Doses(PART),), Traits()), Artifact.from_table(
        artifact.to_table()
    )


def test_a_requested_move_becomes_the_strength_that_gives_it(tmp_path):
    method, artifact = steered(trial(tmp_path, Responsive()))
    (plan,) = method.step(request(formality=0.15, text_length=-0.05), artifact, ())
    doses = {GOAL_OF[i.vector]: i.coefficient for i in plan.interventions}
    assert doses == {"formality": pytest.approx(1.5), "text_length": pytest.approx(-0.5)}
    assert "formal" not in plan.messages[-1].content


def test_two_goals_together_use_no_more_than_one_may_use_alone(tmp_path):
    method, artifact = steered(trial(tmp_path, Responsive()))
    (plan,) = method.step(request(formality=0.2, text_length=0.2), artifact, ())
    assert [i.coefficient for i in plan.interventions] == pytest.approx([1.0, 1.0])
    (plan,) = method.step(request(formality=0.2, text_length=0.1), artifact, ())
    doses = {GOAL_OF[i.vector]: i.coefficient for i in plan.interventions}
    assert doses == {"formality": pytest.approx(2 / 1.5), "text_length": pytest.approx(1 / 1.5)}


def test_a_move_beyond_the_curve_takes_the_last_usable_strength(tmp_path):
    method, artifact = steered(trial(tmp_path, Responsive()))
    (plan,) = method.step(request(formality=0.49), artifact, ())
    assert [i.coefficient for i in plan.interventions] == [2.0]


def test_nothing_asked_is_the_very_plan_of_the_prompt_alone(tmp_path):
    method, artifact = steered(trial(tmp_path, Responsive()))
    assert method.step(request(), artifact, ()) == method.base.step(request(), Artifact(), ())


def test_a_vector_that_moves_its_goal_the_other_way_is_used_the_other_way(tmp_path):
    method, artifact = steered(trial(tmp_path, Responsive(gain=-0.1)))
    (plan,) = method.step(request(formality=0.15), artifact, ())
    assert [i.coefficient for i in plan.interventions] == pytest.approx([-1.5])


def test_a_vector_that_moves_nothing_is_left_off(tmp_path):
    method, artifact = steered(trial(tmp_path, Responsive(gain=0.0)))
    assert method.step(request(formality=0.3), artifact, ())[0].interventions == ()


def test_the_vector_is_asked_only_for_what_the_prompt_leaves(tmp_path):
    backend = Responsive(prompt_gain=0.1)
    requests = [request(text=f"T{i}.", request_id=f"r{i}", formality=0.3 if i % 2 else -0.3) for i in range(8)]
    of_formality = {"formality": VECTORS["formality"]}
    table = trial(tmp_path, backend, "direct", of_formality, requests)
    intercept, slope, start = table.select("prompt_intercept", "prompt_slope", "prompt_start").row(0)
    z0 = requests[0].goals[0].z0
    assert intercept + slope * 0.3 + start * z0 == pytest.approx(0.1)
    method, artifact = steered(table, of_formality)
    method = replace(method, base=build_strategy("direct", SETTING, {}))
    (plan,) = method.step(request(formality=0.3), artifact, ())
    assert [i.coefficient for i in plan.interventions] == pytest.approx([2.0])
    (smaller,) = method.step(request(formality=0.15), artifact, ())
    left = 0.15 - intercept - slope * 0.15 - start * z0
    assert [i.coefficient for i in smaller.interventions] == pytest.approx([left / 0.1])


def test_it_ends_with_the_answer(tmp_path):
    method, artifact = steered(trial(tmp_path, Responsive()))
    (plan,) = method.step(request(formality=0.15), artifact, ())
    choice = method.step(request(formality=0.15), artifact, (Observation("id", plan, "text", True, "stop"),))
    assert choice.response_id == "id"


def test_a_method_without_fitted_doses_says_what_is_missing():
    method = Composed(build_strategy("rewrite", SETTING, {}), (Doses(PART),), Traits())
    with pytest.raises(SteerworksError, match="no dose of goal 'formality'"):
        method.step(request(formality=0.1), Artifact(), ())


@pytest.mark.parametrize("move", [-0.9, -0.1, -0.01, 0.01, 0.1, 0.9])
def test_inversion_returns_to_the_move_wherever_the_curve_reaches(move):
    curve = DoseCurve((-2.0, -1.0, 0.0, 1.0, 3.0), (-0.4, -0.4, 0.0, 0.05, 0.6))
    reached = np.interp(curve.strength_for(move), curve.strengths, curve.moves)
    assert reached == pytest.approx(float(np.clip(move, -0.4, 0.6)))
    assert curve.strength_for(-0.4) == -1.0  # the smallest that does


def test_where_strength_0_is_a_place_off_is_a_choice_of_its_own():
    """An erased concept is set to a point: every strength may move the text, and none moves it the other way."""
    curve = DoseCurve((0.0, 1.0, 2.0), (0.1, 0.2, 0.4), anchored=False)
    assert curve.strength_for(0.3) == pytest.approx(1.5)
    assert curve.strength_for(0.9) == 2.0
    assert curve.strength_for(0.06) == 0.0
    assert curve.strength_for(0.04) is None
    assert curve.strength_for(-0.2) is None
    falling = DoseCurve((0.0, 1.0, 2.0), (0.4, 0.1, -0.2), anchored=False)
    assert falling.strength_for(-0.05) == pytest.approx(1.5)


def test_an_edit_that_sets_a_place_has_no_strength_that_is_off():
    """Coefficient 0 of an affine map is an edit like any other, also where the unit is raw."""
    assert is_anchored([vector("formality")], "raw")
    assert not is_anchored([replace(vector("formality"), operator="affine")], "raw")
    assert not is_anchored([vector("formality")], "class_alpha")


def test_a_small_kl_budget_has_an_off_to_interpolate_from(tmp_path):
    """Budgets far below 1 nat are all that the curve knows."""
    known = {g: [replace(v[0], kl_curve=((-3.0, 0.3), (3.0, 0.3)))] for g, v in VECTORS.items()}
    part = PART.model_copy(update={"unit": "kl", "strengths": (-0.2, 0.2)})
    method = build_strategy("rewrite", SETTING, {})
    table = trial(tmp_path, Responsive(), vectors=known, strengths=part.strengths, unit=part.unit)
    artifact = with_doses(Artifact(), part, known, table)
    (plan,) = Composed(method, (Doses(part),), Traits()).step(request(formality=0.1), artifact, ())
    assert [i.coefficient for i in plan.interventions] == pytest.approx([1.0])


def test_erasure_is_tried_at_its_own_0_and_beside_doing_nothing(tmp_path):
    erase = {
        g: [replace(v[0], operator="affine", scalars={**v[0].scalars, "positive_share": 0.5})]
        for g, v in VECTORS.items()
    }
    part = PART.model_copy(update={"unit": "class_alpha", "strengths": (0.0, 1.0)})
    GOAL_OF.update({v[0].id: g for g, v in erase.items()})
    method = build_strategy("rewrite", SETTING, {})
    table = trial(tmp_path, Responsive(), vectors=erase, strengths=part.strengths, unit=part.unit)
    own = table.filter((pl.col("goal") == "formality") & (pl.col("observed_goal") == "formality")).sort("strength")
    assert own["strength"].to_list() == [None, 0.0, 1.0]
    assert own["fitted"].to_list() == [None, pytest.approx(-0.05), pytest.approx(0.05)]
    steered_by = Composed(method, (Doses(part),), Traits())
    artifact = with_doses(Artifact(), part, erase, table)
    (plan,) = steered_by.step(request(formality=0.05), artifact, ())
    assert [i.coefficient for i in plan.interventions] == pytest.approx([0.5])


BENCH = BenchSpec.model_validate(
    {
        "name": "b",
        "corpus": {"sources": [{"kind": "grammar", "n_texts": 10}]},
        "goals": ["formality"],
        "probes": [{"name": "p", "n_texts": 2, "n_goals_per_text": 1, "active": 1}],
        "models": ["embedded"],
        "methods": ["m"],
    }
)


def load(*parts):
    spec = MethodSpec.model_validate({"name": "m", "parts": list(parts)})
    return load_method(spec, ModelSpec(name="embedded", source="embedded"), BENCH, GOALS)


VECTOR = {"kind": "vector", "estimator": "mean-difference"}


def test_a_vector_alone_steers_the_plain_rewrite_and_is_fitted_on_the_training_pool():
    method = load(VECTOR)
    assert isinstance(method, Composed)
    assert "rewrite the following text." in method.base.step(request(), Artifact(), ())[0].messages[-1].content
    assert method.traits.pool
    # what is asked for on purpose serves to mine in as well
    assert method.traits.fits_on is None
    mined = VECTOR | {"contrasts": ["corpus", "mined"]}
    assert load({"kind": "prompt", "strategy": "direct"}, mined).traits.fits_on == "direct"


def test_vectors_of_one_method_share_their_contrasts():
    with pytest.raises(ConfigError, match="state different `contrasts`.*give both the same"):
        load(VECTOR, VECTOR | {"contrasts": ["corpus"]})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (({"kind": "prompt", "strategy": "copy"}, VECTOR), "changes what a model is asked, and none is asked here"),
        (({"kind": "vector", "estimator": "logit-regression"},), "answer letters"),
        (({"kind": "prompt", "strategy": "closed-loop"}, VECTOR), "one prompt and one answer"),
        (({"kind": "prompt", "strategy": "direct"}, {"kind": "prompt", "strategy": "rewrite"}), "2 parts that write"),
    ],
)
def test_parts_that_do_not_combine_are_refused_by_name(parts, message):
    with pytest.raises(ConfigError, match=f"method 'm'.*{message}"):
        load(*parts)


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="unknown kind of part 'wizard'; there are: .*prompt, vector"):
        load({"kind": "wizard"})


def test_a_prompt_that_is_fitted_itself_combines_with_a_vector(tmp_path):
    method = load({"kind": "prompt", "strategy": "few-shot"}, VECTOR)
    assert method.traits.fits_on == "direct"
    example = {"request_id": "r", "source": "S.", "rewrite": "R.", "goals": [["formality", 0.5, 0.8]]}
    prompt = Artifact((Item("example", example),))
    table = trial(tmp_path, Responsive())
    artifact = with_doses(prompt, PART, VECTORS, table)
    (plan,) = method.step(request(formality=0.15), artifact, ())
    assert [m.role for m in plan.messages] == ["user", "assistant", "user"]
    assert [i.coefficient for i in plan.interventions] == pytest.approx([1.5])


def test_two_vectors_each_take_their_own_doses_and_the_second_is_tried_under_the_first(tmp_path):
    second = {"formality": [vector("formality", layer=2, scale=2.0)]}
    GOAL_OF.update({second["formality"][0].id: "formality"})
    method = load(VECTOR, VECTOR)
    assert [part.label for part in method.parts] == ["vector", "vector-2"]
    first = with_doses(Artifact(), PART, VECTORS, trial(tmp_path / "one", Responsive()))
    requests = [r for r in pool() if r.request_id.startswith("formality")]
    table = trial(
        tmp_path / "two",
        Responsive(),
        vectors=second,
        requests=requests,
        method=method.before("vector-2"),
        artifact=first,
    )
    # the first vector makes .2 of the .3 that is asked; the second is asked for the rest
    own = table.filter((pl.col("goal") == "formality") & (pl.col("strength") == 1.0), observed_goal="formality")
    assert own["prompt_slope"][0] == pytest.approx(2 / 3)
    both = with_doses(first, PART, second, table, label="vector-2")
    (plan,) = method.step(request(formality=0.15), both, ())
    assert [(i.vector, i.coefficient) for i in plan.interventions] == [
        (VECTORS["formality"][0].id, pytest.approx(1.5)),
        (second["formality"][0].id, pytest.approx(0.5)),
    ]


def test_doses_of_version_1_are_read_without_an_effect_of_the_start():
    body = {"strengths": [0.0, 1.0], "moves": [0.0, 0.1], "anchored": True, "unit": "raw", "prompt": [0.1, 0.2]}
    old = pl.DataFrame(
        {"kind": ["dose"], "item": [0], "goal": ["formality"], "direction": [0], "body": [json.dumps(body)]}
    )
    (item,) = Artifact.from_table(Artifacts.migrate(old, 1)).items
    assert (item.part, item.body["prompt"]) == ("vector", [0.1, 0.2, 0.0])


def test_an_engine_that_cannot_steer_refuses_the_part_by_name():
    deaf = Capabilities("openai", None, scores=False)
    assert refused(load(VECTOR), deaf) == "openai backend cannot apply interventions; use transformers or vllm"
    assert refused(load({"kind": "prompt", "strategy": "direct"}), deaf) is None


def test_fixed_strengths_are_arms_of_the_probe_beside_the_headline(tmp_path):
    spec = PART.model_copy(update={"on_probe": (1.0, -2.0)})
    known = with_doses(Artifact(), spec, VECTORS, trial(tmp_path / "doses", Responsive()))
    method = Composed(build_strategy("rewrite", SETTING, {}), (Doses(spec),), Traits())
    arms = arms_of(method, known)
    table = check(arms_table(arms), ProbeArms)
    assert table["label"].to_list() == ["as it is used", "strength +1", "strength -2"]
    assert table["position"].to_list() == [None, 1.0, -2.0]
    asked = [request(request_id="up", formality=0.15), request(request_id="down", formality=-0.15)]
    rows = pl.DataFrame(
        [
            {"request_id": r.request_id, "probe": "p", "split": "test", "text_id": "t", "text": r.text, "source": "s"}
            for r in asked
        ]
    )
    goals = pl.DataFrame(
        [
            {"request_id": r.request_id, "goal": t.goal, "z0": t.z0, "z_star": t.z_star, "z0_raw": 0.0}
            for r in asked
            for t in r.goals
        ],
        schema_overrides={"z_star": pl.Float64},
    )
    run = run_method(
        method, rows, goals, list(GOALS), Run(Journal(str(tmp_path / "run"), Responses), Responsive()),
        artifact=known, arms=arms,
    )  # fmt: skip
    check(run.outcomes, Outcomes)
    landed = {
        (a, r): ruler([text])[0]["formality"]
        for a, r, text in run.outcomes.select("arm_id", "request_id", "text").iter_rows()
    }
    first, second = (a.arm_id for a in arms)
    assert landed["headline", "up"] == pytest.approx(0.65)
    # a strength goes towards what is asked, whatever its size
    assert (landed[first, "up"], landed[first, "down"]) == (pytest.approx(0.6), pytest.approx(0.4))
    assert (landed[second, "up"], landed[second, "down"]) == (pytest.approx(0.3), pytest.approx(0.7))


def test_a_strategy_alone_has_no_arms():
    plain = build_strategy("rewrite", SETTING, {})
    assert arms_of(plain, Artifact()) == ()
    with pytest.raises(SteerworksError, match="no part that could be set to them"):
        run_method(
            plain, pl.DataFrame(schema={"request_id": pl.String, "probe": pl.String, "text": pl.String}),
            pl.DataFrame(schema={"request_id": pl.String, "goal": pl.String, "z0": pl.Float64, "z_star": pl.Float64}),
            [], Run(Journal("none", Responses)), arms=(Arm("vector", "x", {}),),
        )  # fmt: skip


MISFITS = [
    ("mean-difference", {}, "angle", "unit 'angle' does not fit operator 'add' of estimator 'mean-difference'"),
    ("angular", {}, "raw", "unit 'raw' does not fit operator 'rotate' of estimator 'angular': use angle or kl"),
    ("mean-difference", {"operator": "rotate"}, "raw", "unit 'raw' does not fit operator 'rotate'"),
]


@pytest.mark.parametrize(("estimator", "settings", "unit", "said"), MISFITS)
def test_a_unit_that_means_nothing_to_the_operator_is_a_mistake_before_anything_is_fitted(
    estimator, settings, unit, said
):
    spec = VectorPart(estimator=estimator, unit=unit, **settings)
    found = list(Doses(spec).mistakes(ModelSpec(name="e", source="embedded"), BENCH, []))
    assert any(said in line for line in found), found


def test_every_estimator_says_which_operator_its_fits_have_and_some_unit_fits_it():
    for name in available_estimators():
        operator = load_estimator(name).operator
        if operator is None:
            continue  # of an extension: not known before it fits
        units = load_operator(operator).units
        spec = VectorPart(estimator=name, unit=sorted(units)[0])
        lines = Doses(spec).mistakes(ModelSpec(name="e", source="embedded"), BENCH, [])
        assert not [line for line in lines if "unit" in line]
