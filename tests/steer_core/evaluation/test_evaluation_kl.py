"""Strength as a KL budget, and a whole sweep on the embedded model."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from behavior_world import BEHAVIOR, PART, make_items, run_arms, score_items

from schemas import Responses
from schemas.specs import Decoding, ModelSpec, SweepSpec
from steer_core.evaluation.arms.measures import kl_scores, perplexity_scores
from steer_core.evaluation.behaviors.as_items import asked_of
from steer_core.evaluation.behaviors.side_effects import judged_scores
from steer_core.evaluation.behaviors.summary import summarise_arms
from steer_core.evaluation.judges.judge import cases_of, judge_cases
from steer_core.evaluation.judges.load import load_judge
from steer_core.generation.backend import Call, Capabilities, Interventions, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.forced import diverge_all
from steer_core.generation.run import Run
from steer_core.methods.sweeps.arms import plan_arms, with_random
from steer_core.models.loading import load_model
from steer_core.steering.plan import Plan, messages_of
from steer_core.steering.strength import Strength, coefficient
from steer_core.steering.vector import SteeringVector
from steer_core.tables import Journal, SteerworksError
from steer_core.vectors.kl_curves import calibrate_kl, kl_curve

DECODING = Decoding(max_new_tokens=20, temperature=0.0)
SPEC = ModelSpec(name="embedded", source="embedded")


class Quadratic:
    """Costs c squared, up to a ceiling, for every token; counts the rows."""

    def __init__(self, ceiling=np.inf):
        self.capabilities = Capabilities("quadratic", None, True, Interventions.every(), True)
        self.ceiling, self.rows = ceiling, 0

    def prompt_tokens(self, plan):
        return 3

    def diverge(self, plans, continuations):
        self.rows += len(plans)
        return [
            [min(p.interventions[0].coefficient ** 2, self.ceiling)] * len(c.split())
            for p, c in zip(plans, continuations, strict=True)
        ]


def a_vector(**changes):
    fields = {
        "concept": "cheerfulness",
        "operator": "add",
        "layer": 1,
        "tensors": {"direction": np.ones((1, 8), np.float32)},
        "scalars": {},
        "model": "m",
    }
    return SteeringVector(**{**fields, **changes})


PLANS = [Plan("m", DECODING, text=t) for t in ("one", "two")]
ANSWERS = ["a b c", "d"]


def test_the_curve_is_the_mean_over_tokens_in_rising_order():
    curve = kl_curve(Quadratic(), PLANS, a_vector(), [2.0, -1.0, 0.0, 1.0], ANSWERS, batch_size=3)
    assert curve == ((-1.0, 1.0), (1.0, 1.0), (2.0, 4.0))

    class Uneven(Quadratic):
        def diverge(self, plans, continuations):
            return [[float(len(c.split()))] * len(c.split()) for c in continuations]

    # three tokens of 3 and one of 1: tokens weigh the same, not answers
    assert kl_curve(Uneven(), PLANS, a_vector(), [1.0], ANSWERS) == ((1.0, 2.5),)


@pytest.mark.parametrize("budget", [0.003, 0.5, 7.0, -0.5])
def test_a_budget_is_met_within_the_tolerance_from_either_side(budget):
    vector = calibrate_kl(Quadratic(), PLANS, a_vector(), [budget], ANSWERS, tolerance=0.01)
    found = coefficient(Strength(budget, "kl"), vector)
    assert np.sign(found) == np.sign(budget)
    assert found**2 == pytest.approx(abs(budget), rel=0.02)
    assert vector.id == a_vector().id


@pytest.mark.parametrize("scale", [0.0985, 0.099, 0.0999, 0.1, 0.101])
def test_a_budget_just_beyond_the_first_point_is_within_the_calibrated_curve(scale):
    # the first coefficient tried costs a hair less than the budget: near, and not enough
    class Scaled(Quadratic):
        def diverge(self, plans, continuations):
            return [[scale * k for k in row] for row in super().diverge(plans, continuations)]

    calibrated = calibrate_kl(Scaled(), PLANS, a_vector(), [0.1], ANSWERS, start=1.0)
    found = coefficient(Strength(0.1, "kl"), calibrated)
    assert scale * found**2 == pytest.approx(0.1, rel=0.02)


def test_known_points_of_the_curve_are_used_again():
    once = calibrate_kl(Quadratic(), PLANS, a_vector(), [0.5], ANSWERS)
    backend = Quadratic()
    assert calibrate_kl(backend, PLANS, once, [0.5], ANSWERS).kl_curve == once.kl_curve
    assert backend.rows == 0


def test_a_budget_out_of_reach_is_said():
    with pytest.raises(SteerworksError, match="KL budget of 9 nats a token is out of reach.*costs 4"):
        calibrate_kl(Quadratic(ceiling=4.0), PLANS, a_vector(), [9.0], ANSWERS)
    with pytest.raises(SteerworksError, match="unsteered plans"):
        kl_curve(Quadratic(), [], a_vector(), [1.0], [])


@pytest.fixture(scope="module")
def loaded():
    return load_model(SPEC)


def test_what_asking_costs_is_the_divergence_from_the_items_own_prompt(loaded):
    import torch

    backend, answer = TransformersBackend(loaded), "The baker was glad."
    plain = Plan(loaded.spec.identity, DECODING, messages_of('[{"role": "user", "content": "Write about the baker."}]'))
    told = replace(plain, messages=messages_of('[{"role": "user", "content": "Be brief. Write about the baker."}]'))
    found, own = diverge_all([told, plain], [answer] * 2, backend, 8, against=[plain, plain])
    tokens = loaded.tokenizer(answer, add_special_tokens=False)["input_ids"]
    log_probs = []
    for plan in (told, plain):
        prompt = backend.encode(plan)
        with torch.no_grad():
            logits = loaded.model(torch.tensor([[*prompt, *tokens]])).logits[0]
        log_probs.append(logits[len(prompt) - 1 : -1].float().log_softmax(-1))
    expected = (log_probs[0].exp() * (log_probs[0] - log_probs[1])).sum(-1)
    assert found == pytest.approx(expected.tolist(), abs=1e-5)
    assert min(found) >= 0 < max(found)
    # the same prompt costs nothing
    assert own == [0.0] * len(tokens)


@pytest.fixture(scope="module")
def vector(loaded):
    """Difference of the mean input embeddings of glad and gloomy words: crude, and enough to push the model."""
    glad, gloomy = ("wonderful", "brilliant", "lovely", "magnificent"), ("awful", "horrible", "terrible", "dreadful")
    table = loaded.model.get_input_embeddings().weight.detach().float().numpy()

    def mean(words):
        return np.mean([table[loaded.tokenizer(f" {w}")["input_ids"]].mean(axis=0) for w in words], axis=0)

    direction = mean(glad) - mean(gloomy)
    direction *= 4.0 / np.linalg.norm(direction)
    return SteeringVector(
        "cheerfulness", "add", 1, {"direction": direction[None].astype(np.float32)}, {}, loaded.fingerprint
    )


@pytest.fixture(scope="module")
def sweep(loaded, vector, tmp_path_factory):
    """A small sweep on the embedded model."""
    items = make_items(n_open=4, n_pair=4)
    spec = SweepSpec(strengths=(-1.0, 1.0), random_directions=2, shuffled=0, max_new_tokens=20)
    part = PART.model_copy(update={"layers": (1,)})
    vectors = with_random([vector], "cheerfulness", spec, layers=(1,))
    arms = plan_arms(BEHAVIOR, part, spec, vectors, items)
    backend = TransformersBackend(loaded)
    going = Run(Journal(str(tmp_path_factory.mktemp("journal")), Responses), backend)
    return arms, items, vectors, backend, run_arms(arms, items, vectors, going, DECODING), going


def test_the_unsteered_arm_writes_what_a_plain_model_writes(loaded, sweep):
    arms, items, _, _, run, _ = sweep
    plain = TransformersBackend(loaded)
    off = run.answers.filter(arm_id=arms["arm_id"][0]).join(items, on="item_id", maintain_order="left")
    calls = [Call(Plan(SPEC.identity, DECODING, messages_of(m)), 0, 0) for m in off["messages"]]
    assert off["text"].to_list() == [g.raw.strip() for g in answer_all(plain, calls)]


def test_steered_responses_carry_receipts_and_unsteered_ones_none(sweep):
    arms, _, _, _, run, _ = sweep
    rows = run.answers.join(arms.select("arm_id", "role"), on="arm_id").join(run.responses, on="response_id")
    steered = rows.filter(pl.col("role").is_in(["vector", "random"]))
    assert steered["receipt"].null_count() == 0
    assert rows.filter(pl.col("role").is_in(["off", "prompt"]))["receipt"].null_count() == 3 * 4


def test_a_whole_sweep_gives_measures_findings_and_a_judged_effect_of_prompts(sweep):
    arms, items, vectors, _, run, going = sweep
    asked = asked_of(arms, items)
    judge = load_judge(BEHAVIOR)
    judgements = judge_cases(judge, cases_of(run.answers, items))
    scores = pl.concat(
        [
            judged_scores(run.answers, asked, judgements, judge_id=judge.judge_id),
            score_items(arms, items, vectors, going, DECODING),
            perplexity_scores(run, asked, going, DECODING),
            kl_scores(run, asked, going, DECODING),
        ]
    )
    summary, findings = summarise_arms(arms, scores, draws=100, seed=0)

    def mean(measure, **arm):
        return summary.filter(measure=measure, **arm)["mean"].to_list()

    prompts = dict(zip(arms.filter(role="prompt")["system"], mean("judged", role="prompt"), strict=True))
    assert prompts[BEHAVIOR.positive_prompt] > prompts[BEHAVIOR.negative_prompt]
    assert mean("propensity", role="vector", strength=1.0) != mean("propensity", role="off")
    assert mean("kl", role="off") == [0.0]
    assert min(mean("kl", role="vector")) > 0.0
    assert min(mean("perplexity")) >= 1.0
    assert {"slope", "effect_low", "p_random_high", "ratio_low"} <= set(findings["finding"])


def test_a_kl_budget_is_spent_on_the_embedded_model(sweep, vector):
    arms, items, _, backend, run, _ = sweep
    off = run.answers.filter(arm_id=arms["arm_id"][0]).join(items, on="item_id", maintain_order="left")
    plans = [Plan(SPEC.identity, DECODING, messages_of(m)) for m in off["messages"]]
    for budget in (0.05, -0.2):
        calibrated = calibrate_kl(backend, plans, vector, [budget], off["text"].to_list(), tolerance=0.03)
        found = coefficient(Strength(budget, "kl"), calibrated)
        ((_, nats),) = kl_curve(backend, plans, vector, [found], off["text"].to_list())
        assert nats == pytest.approx(abs(budget), rel=0.06)
        part = PART.model_copy(update={"unit": "kl", "strengths": (budget,), "layers": (1,)})
        spec = SweepSpec(random_directions=0, shuffled=0, max_new_tokens=20)
        planned = plan_arms(BEHAVIOR, part, spec, [replace(calibrated)], items)
        (step,) = json.loads(planned.filter(role="vector")["interventions"][0])
        assert step["coefficient"] == found
