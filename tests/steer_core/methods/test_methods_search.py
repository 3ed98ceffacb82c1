"""A search: the same trials after a kill, hopeless ones end, and what is chosen is told on items that chose nothing."""

import json

import numpy as np
import polars as pl
import pytest

from schemas import Responses, Trials
from schemas.search_spec import SearchSpec
from schemas.specs import BehaviorSpec, Decoding, ModelSpec
from schemas.vector_part import VectorPart
from steer_core.corpus.contrasts import build_contrasts
from steer_core.evaluation.judges.load import load_judge
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.run import Run
from steer_core.methods.search import Measured, Measurer, Objective, Space, Study, search, tell, validation_items
from steer_core.methods.search.cell import part_of, space_of
from steer_core.methods.search.report import beside, values_of
from steer_core.models.loading import load_model
from steer_core.steering.intervention import Gate
from steer_core.tables import Journal, check
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.fit import Job, fit_many

SPACE = Space(layers=((0,), (1,), (2,), (3,), (1, 2)), strength=(0.0, 1.2), positions=("all", "completion"))
GLAD = {
    "name": "glad",
    "source": {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": 96,
               "n_validation": 12, "n_items": 12},
    "judge": {"kind": "ground_truth", "rubric": "attribute"},
}  # fmt: skip
OBJECTIVE = (Objective("judged"),)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Vectors at all layers, and who measures on validation and on test items."""
    loaded = load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))
    behavior = BehaviorSpec.model_validate(GLAD)
    made = build_contrasts(behavior)
    part = VectorPart.model_validate(
        {"kind": "vector", "estimator": "mean-difference", "layers": [0, 1, 2, 3], "strengths": [0.5]}
    )
    fitted = made.examples.filter(pl.col("split") == "train")
    (vectors,) = fit_many(loaded, fitted, [Job(part, layers=(0, 1, 2, 3), concepts=("glad",))])
    backend = TransformersBackend(loaded, vectors)
    run = Run(Journal(str(tmp_path_factory.mktemp("search") / "responses"), Responses), backend, batch_size=32)
    decoding = Decoding(max_new_tokens=32)
    tested = made.items.filter(pl.col("group") == "main")

    def measurer(items, *wanted):
        return Measurer("glad", items, run, decoding, wanted or ("judged",), load_judge(behavior))

    return vectors, measurer, validation_items("glad", made.preferences), tested


def test_of_equally_good_trials_the_further_objectives_decide(tmp_path):
    study = study_of(tmp_path, objectives=(Objective("judged"), Objective("kl", -1)))
    for judged, kl in ((10.0, 0.5), (10.0, 0.2), (9.0, 0.1), (10.0, 0.2)):
        _, params = study.propose()
        study.finish(params, {"judged": judged, "kl": kl})
    assert study.best()["number"] == 1


def test_chance_draws_other_settings_than_the_first_of_the_estimators(tmp_path):
    proposed = []
    for sampler in ("tpe", "random"):
        study = study_of(tmp_path / sampler, sampler=sampler)
        for _ in range(5):
            _, params = study.propose()
            proposed.append((sampler, round(params["strength"], 6)))
            study.finish(params, {"judged": 0.0})
    assert len({s for _, s in proposed}) == 10


def study_of(tmp_path, space=SPACE, objectives=OBJECTIVE, **options):
    return Study(space, objectives, Journal(str(tmp_path / "trials"), Trials), **options)


class Made:
    """A measurer whose values are made up: a function of layers and strength, without a model."""

    places = tuple(f"q{k}" for k in range(8))

    def __init__(self, value, noise=0.0):
        self.value, self.noise, self.asked = value, noise, 0

    def measure(self, steps, questions=None):
        chosen = self.places if questions is None else list(questions)
        self.asked += len(chosen)
        layers, strength = steps
        rng = np.random.default_rng(abs(hash((layers, round(strength, 9)))) % 2**32)
        own = {q: self.value(layers, strength) + self.noise * rng.normal() for q in self.places}
        rows = [(q, "judged", own[q]) for q in chosen]
        return Measured(pl.DataFrame(rows, ["item_id", "measure", "value"], orient="row"), len(chosen))


@pytest.fixture
def without_vectors(monkeypatch):
    """Settings as they are, in the place of interventions."""
    monkeypatch.setattr(Space, "steps", lambda self, setting, vectors: (setting.layers, setting.strength))


def peak(layers, strength):
    """Best at layer 2 and strength .8."""
    return -((strength - 0.8) ** 2) - 0.3 * (layers != (2,))


# --- proposals


def test_a_study_that_is_killed_goes_on_with_the_same_trials(tmp_path, without_vectors):
    whole = search(study_of(tmp_path / "whole"), Made(peak), (), 30).trials
    for n in (7, 8, 19, 30):
        # a new process each time: nothing but the journal is left
        parts = search(study_of(tmp_path / "parts"), Made(peak), (), n).trials
        assert parts.height == n
    columns = ["number", "params", "state", "values", "items", "answers"]
    assert parts.select(columns).equals(whole.select(columns))
    check(whole, Trials)
    # another seed, and another measure, is another study in the same journal
    other = search(study_of(tmp_path / "parts", seed=1), Made(peak), (), 3).trials
    assert other.height == 3
    assert other["params"][0] != whole["params"][0]


def test_a_proposal_stands_until_it_is_finished(tmp_path):
    study = study_of(tmp_path)
    with pytest.raises(SteerworksError, match="no trial was proposed"):
        study.finish({}, {"judged": 1.0})
    number, params = study.propose()
    assert study.propose() == (number, params)
    study.finish(params, {"judged": 1.0})
    assert study.propose()[0] == number + 1


def test_more_trials_run_only_what_is_new(tmp_path, without_vectors):
    measurer = Made(peak)
    search(study_of(tmp_path), measurer, (), 10)
    asked = measurer.asked
    search(study_of(tmp_path), measurer, (), 10)
    assert measurer.asked == asked


def test_estimators_find_the_peak_sooner_than_chance(tmp_path, without_vectors):
    found = {"tpe": [], "random": []}
    for seed in range(4):
        for sampler, values in found.items():
            study = search(study_of(tmp_path, sampler=sampler, seed=seed), Made(peak), (), 25, stretches=(1.0,))
            values.append(json.loads(study.best()["values"])["judged"])
    assert np.mean(found["tpe"]) > np.mean(found["random"])
    assert np.mean(found["tpe"]) > -0.01


def test_a_hopeless_trial_ends_early_and_costs_less(tmp_path, without_vectors):
    study = search(study_of(tmp_path), Made(peak), (), 30)
    pruned = study.trials.filter(state="pruned")
    assert pruned.height > 5
    assert (pruned["items"] < 8).all()
    assert study.trials.filter(state="complete")["items"].unique().to_list() == [8]
    # what ended early is never the best, and the first few are never judged
    assert study.best()["state"] == "complete"
    assert set(study.trials.head(5)["state"]) == {"complete"}


def test_a_search_goes_on_from_five_hundred_trials(tmp_path, without_vectors):
    study, measurer = study_of(tmp_path), Made(peak)
    # as a journal of a long search has them
    rows = [
        {"study": study.name, "number": k, "params": json.dumps({"layers": "2", "positions": "all", "strength": k / 600}),
         "state": "complete", "values": json.dumps({"judged": peak((2,), k / 600)}),
         "reports": json.dumps({"8": peak((2,), k / 600)}), "items": 8, "answers": 8, "note": ""}
        for k in range(500)
    ]  # fmt: skip
    study.journal.append(pl.DataFrame(rows, schema=Trials.dtypes()))
    search(study, measurer, (), 510, stretches=(1.0,))
    assert study.trials.height == 510
    assert json.loads(study.best()["values"])["judged"] > -0.001


def test_with_two_objectives_there_is_a_front_and_none_is_hopeless(tmp_path, without_vectors):
    class Two(Made):
        def measure(self, steps, questions=None):
            one = super().measure(steps, questions)
            kl = one.values.with_columns(measure=pl.lit("kl"), value=pl.lit(steps[1] ** 2))
            return Measured(pl.concat([one.values, kl]), one.answers)

    study = search(study_of(tmp_path, objectives=(Objective("judged"), Objective("kl", -1))), Two(peak), (), 25)
    assert set(study.trials["state"]) == {"complete"}
    points = [json.loads(v) for v in study.front()["values"]]
    ordered = sorted(points, key=lambda p: p["kl"])
    assert len(points) > 1
    assert [p["judged"] for p in ordered] == sorted(p["judged"] for p in points)


def test_a_setting_that_cannot_be_run_is_a_failed_trial_with_the_reason(tmp_path, without_vectors):
    class Fails(Made):
        def measure(self, steps, questions=None):
            if steps[0] == (3,):
                raise SteerworksError("layer 3 cannot be steered here")
            return super().measure(steps, questions)

    study = search(study_of(tmp_path), Fails(peak), (), 25)
    failed = study.trials.filter(state="failed")
    assert failed.height > 0
    assert set(failed["note"]) == {"layer 3 cannot be steered here"}
    assert all(json.loads(p)["layers"] == "3" for p in failed["params"])


# --- honesty


def test_of_deaf_settings_the_best_is_too_good_where_it_was_chosen_and_not_on_the_test(tmp_path, without_vectors):
    gaps, beats = [], 0
    for seed in range(16):
        rng = np.random.default_rng(seed)

        class Deaf(Made):
            places = tuple(f"q{k}" for k in range(16))

            def measure(self, steps, questions=None, rng=rng):
                chosen = self.places if questions is None else list(questions)
                rows = [(q, "judged", float(rng.normal())) for q in chosen]
                return Measured(pl.DataFrame(rows, ["item_id", "measure", "value"], orient="row"), len(chosen))

        study = search(study_of(tmp_path, seed=seed), Deaf(peak), (), 12, stretches=(1.0,))
        found = told(study, Deaf(peak))
        gaps.append(found.gap)
        beats += found.effect.low > 0.0 or found.effect.high < 0.0
    # the largest of twelve means of sixteen: 1.63 / 4
    assert np.mean(gaps) == pytest.approx(1.63 / 4, abs=0.15)
    # 5 % of 16 are .8; more than 3 have a chance of .01
    assert beats <= 3


def told(study, measurer):
    """`tell` where there are no vectors: the model as it is, is strength 0."""
    original = measurer.measure
    measurer.measure = lambda steps, questions=None: original(steps or ((0,), 0.0), questions)
    return tell(study, measurer, ())


# --- on the embedded model


def test_a_search_on_the_embedded_model_finds_what_a_grid_finds_at_a_part_of_its_cost(world, tmp_path):
    vectors, measurer, chosen_by, tested = world
    space = Space(layers=((1,), (2,), (1, 2)), strength=(0.0, 1.2), positions=("all",))
    study = search(study_of(tmp_path, space, measured="glad"), measurer(chosen_by), vectors, 12)
    spent = int(study.trials["answers"].sum())
    found = tell(study, measurer(tested), vectors, random_directions=2)
    assert found.effect.low > 0.0
    assert found.random == pytest.approx(1 / 3)
    assert found.validation == pytest.approx(json.loads(study.best()["values"])["judged"])
    # the grid's arm, chosen on the same questions
    grid = space.grid([0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
    on_validation = measurer(chosen_by)
    means = [on_validation.measure(space.steps(space.setting(p), vectors)).mean("judged") for p in grid]
    best = grid[int(np.argmax(means))]
    # a small grid; of a large one it is a fifth (`make evidence-search`)
    assert spent < 0.65 * len(grid) * chosen_by.filter(form="open").height
    ours, theirs = (values_of(study, measurer(tested), vectors, p) for p in (found.params, best))
    assert beside(ours, theirs).difference > -0.2 * found.effect.difference
    assert "random directions of its size p = 0.333" in str(found)


def test_measures_are_those_of_sweeps(world):
    vectors, measurer, chosen_by, _ = world
    steps = SPACE.steps(SPACE.setting({"strength": 0.4, "layers": "2"}), vectors)
    found = measurer(chosen_by, "judged", "propensity", "kl", "perplexity", "refused", "length").measure(steps)
    for name in ("judged", "propensity", "kl", "perplexity", "refused", "length"):
        assert found.mean(name) is not None, name
    assert found.mean("kl") > 0.0
    assert measurer(chosen_by, "kl").measure(()).mean("kl") == 0.0
    assert found.answers == chosen_by.filter(form="open").height


def test_several_layers_share_the_strength(world):
    vectors, *_ = world
    both = SPACE.steps(SPACE.setting({"strength": 0.8, "layers": "1,2", "positions": "completion"}), vectors)
    alone = SPACE.steps(SPACE.setting({"strength": 0.4, "layers": "2", "positions": "completion"}), vectors)
    assert [s.layer for s in both] == [1, 2]
    assert both[1].coefficient == pytest.approx(alone[0].coefficient)
    assert {s.positions for s in both} == {"completion"}


def test_operators_are_searched_and_each_keeps_what_it_says(world, tmp_path):
    vectors, measurer, chosen_by, tested = world
    operators = ("add", "add_norm_preserving")
    space = Space(((2,),), (0.2, 0.9), unit="residual_fraction", operators=operators)
    study = search(study_of(tmp_path, space, sampler="random"), measurer(chosen_by), vectors, 6)
    tried = {json.loads(p)["operator"] for p in study.trials["params"]}
    assert tried == set(operators)
    # the same strength under two operators is two edits
    values = [
        measurer(chosen_by, "kl")
        .measure(space.steps(space.setting({"strength": 0.6, "operator": o}), vectors))
        .mean("kl")
        for o in operators
    ]
    assert values[0] != pytest.approx(values[1])
    # random directions go through the chosen operator as well
    found = tell(study, measurer(tested), vectors, random_directions=2)
    assert found.n_random == 2
    assert found.setting.operator.replace("_", " ") in str(found)
    # none named: what was searched before there was a choice is the same study
    assert study_of(tmp_path).name == study_of(tmp_path, Space(SPACE.layers, SPACE.strength, SPACE.positions)).name
    assert study_of(tmp_path, space).name != study_of(tmp_path, Space(((2,),), (0.2, 0.9), unit=space.unit)).name


def test_a_gate_goes_along_and_its_threshold_is_searched(world, tmp_path):
    vectors, measurer, chosen_by, _ = world
    condition = Gate(vectors[1].id, vectors[1].layer, 0.0)
    space = Space(((2,),), (0.3, 0.9), gate=condition, thresholds=(-1.0, 1.0))
    with pytest.raises(ConfigError, match="has no grid"):
        space.grid([0.5])
    params = {"strength": 0.8}
    plain = measurer(chosen_by).measure(())
    values = {}
    for threshold in (-1.0, 1.0):
        (step,) = space.steps(space.setting({**params, "threshold": threshold}), vectors)
        assert step.gate == Gate(condition.vector, condition.layer, threshold)
        values[threshold] = measurer(chosen_by).measure((step,)).mean("judged")
    # no cosine reaches 1: the model as it is; each reaches -1: as if there were no gate
    bare = Space(((2,),), (0.3, 0.9))
    always = measurer(chosen_by).measure(bare.steps(bare.setting(params), vectors)).mean("judged")
    assert values[1.0] == plain.mean("judged")
    assert values[-1.0] == always
    assert always > plain.mean("judged")
    study = search(study_of(tmp_path, space, sampler="random"), measurer(chosen_by), vectors, 4)
    assert len({round(json.loads(p)["threshold"], 6) for p in study.trials["params"]}) == 4
    assert "where the gate's cosine is at least" in tell(study, measurer(chosen_by), vectors).setting.label


def test_a_chosen_operator_and_threshold_become_settings_of_a_method(world):
    vectors, *_ = world
    part = VectorPart.model_validate(
        {
            "estimator": "mean-difference",
            "layers": [2],
            "gate": {"condition": "glad", "above": False},
            "strengths": [0.5],
        }
    )
    spec = SearchSpec.model_validate(
        {"layers": [[1], [2]], "operators": ["add", "add_norm_preserving"], "thresholds": [-0.5, 0.5]}
    )
    space = space_of(spec, part, 4, Gate(vectors[1].id, 1, 0.1, above=False))
    chosen = {"layers": "1", "strength": 0.4, "operator": "add_norm_preserving", "threshold": 0.25, "positions": "all"}
    written = VectorPart.model_validate(part_of(part, space.setting(chosen)))
    assert (written.operator, written.layers, written.strengths) == ("add_norm_preserving", (1,), (0.4,))
    assert written.gate.model_dump() == {"condition": "glad", "layer": 1, "threshold": 0.25, "above": False}
    # one threshold that was fitted stays
    fitted = space_of(SearchSpec.model_validate({"layers": [[1]]}), part, 4, Gate(vectors[1].id, 1, 0.1, above=False))
    assert VectorPart.model_validate(part_of(part, fitted.setting({"strength": 0.4}))).gate.threshold == 0.1


def test_what_an_operator_or_a_gate_cannot_do_is_said_before_anything_is_tried(world):
    vectors, *_ = world
    with pytest.raises(
        ConfigError, match="tries operator 'rotate', to which the unit 'raw' means nothing: it knows angle"
    ):
        Space(((2,),), (0.0, 1.0), unit="raw", operators=("add", "rotate"))
    with pytest.raises(ConfigError, match=r"search tries operators rotate: .*lacks plane"):
        Space(((2,),), (0.0, 90.0), unit="angle", operators=("rotate",)).check(vectors)
    with pytest.raises(SteerworksError, match="unknown operator 'subtract'"):
        Space(((2,),), (0.0, 1.0), operators=("subtract",))
    with pytest.raises(ConfigError, match="its vector no gate"):
        Space(((2,),), (0.0, 1.0), thresholds=(0.0, 1.0))
    with pytest.raises(ValueError, match="the lower end comes first"):
        SearchSpec.model_validate({"thresholds": [0.5, 0.5]})


def test_what_makes_no_sense_is_refused(world, tmp_path):
    vectors, measurer, chosen_by, _ = world
    with pytest.raises(ConfigError, match="the lower end comes first"):
        Space(layers=((1,),), strength=(1.0, 0.0))
    with pytest.raises(ConfigError, match="layers of a search: at least one, each once"):
        Space(layers=((1,), (1,)), strength=(0.0, 1.0))
    with pytest.raises(ConfigError, match="no vector of mean_difference at layer 9"):
        Space(layers=((9,),), strength=(0.0, 1.0)).steps(Space(((9,),), (0.0, 1.0)).setting({"strength": 1.0}), vectors)
    with pytest.raises(ConfigError, match="knows no measure 'wit'"):
        measurer(chosen_by, "wit")
    with pytest.raises(ConfigError, match="at least one objective"):
        study_of(tmp_path, objectives=())
    with pytest.raises(SteerworksError, match="none of 0 trials is complete"):
        tell(study_of(tmp_path), measurer(chosen_by), vectors)
    with pytest.raises(SteerworksError, match="keeps no pair for validation"):
        validation_items("sad", build_contrasts(BehaviorSpec.model_validate(GLAD)).preferences)
