"""A trait read off activations: figures as scikit-learn has them, chance where labels say nothing, and texts without any."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from schemas import Detections
from schemas.specs import BehaviorSpec, ModelSpec
from steer_core.corpus.contrasts import build_contrasts
from steer_core.models.loading import load_model
from steer_core.steering.vector import SteeringVector
from steer_core.tables import check
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.detection import _whitened, detect, sides_of
from steer_core.vectors.gather import shuffle_labels
from steer_core.vectors.watching import score_along, scores_of, screen, watch


def examples(n_pairs, seed):
    source = {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": n_pairs,
              "n_validation": 1, "n_items": 1, "seed": seed}  # fmt: skip
    rows = build_contrasts(BehaviorSpec.model_validate({"name": "glad", "source": source})).examples
    return rows.filter(pl.col("split") == "train")


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))


@pytest.fixture(scope="module")
def sides():
    return examples(96, 0), examples(32, 1)


@pytest.fixture(scope="module")
def found(loaded, sides):
    return detect(loaded, *sides, reads=("answer", "last_token"))


def test_figures_are_those_of_scikit_learn_at_each_layer_and_reading(loaded, sides, found):
    figures, tested = check(found.figures, Detections), sides[1]
    assert figures.height == 2 * 2 * loaded.model.config.num_hidden_layers
    labels = tested["label"].to_numpy()
    for row in figures.iter_rows(named=True):
        detector = found.detectors[row["layer"], row["read"], row["direction"]]
        scores = scores_of(loaded, detector, tested["messages"].to_list(), tested["answer"].to_list())
        probability = detector.probability(scores)
        assert row["auroc"] == pytest.approx(roc_auc_score(labels, scores))
        assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, probability > 0.5))
        assert row["brier"] == pytest.approx(brier_score_loss(labels, probability), abs=1e-6)
        assert row["low"] <= row["auroc"] <= row["high"]
        assert (row["n_fitted"], row["n_tested"]) == (192, 64)
    # what varies anyway, left out
    of = {how: figures.filter(direction=how)["auroc"].max() for how in ("mean_difference", "discriminant")}
    assert of["discriminant"] > 0.9 > of["mean_difference"] > 0.7


def test_the_best_is_chosen_without_the_tested_examples(found):
    best = found.best()
    rows = found.figures.sort("fitted_auroc", "layer", descending=[True, False])
    assert (best.layer, best.read) == rows.select("layer", "read").row(0)


def test_a_direction_is_the_unit_difference_of_means_and_the_threshold_the_even_odds(found):
    for detector in found.detectors.values():
        assert np.linalg.norm(detector.direction) == pytest.approx(1.0, abs=1e-5)
        assert detector.probability(np.array([detector.threshold]))[0] == pytest.approx(0.5)


def test_with_labels_that_say_nothing_it_is_chance_within_its_interval(loaded, sides):
    inside, values = 0, []
    for seed in range(12):
        fitted = shuffle_labels(sides[0], seed)
        row = detect(loaded, fitted, sides[1], layers=[0]).figures.row(0, named=True)
        values.append(row["fitted_auroc"])
        shuffled = shuffle_labels(sides[1], seed)
        null = detect(loaded, sides[0], shuffled, layers=[0]).figures.row(0, named=True)
        inside += null["low"] <= 0.5 <= null["high"]
    # scores of examples that a direction was fitted without say nothing of shuffled labels, in-sample ones would
    assert np.mean(values) < 0.6
    # 95 % of 12 are 11; fewer than 9 have a chance of .002
    assert inside >= 9


def test_a_conversation_is_read_turn_by_turn(loaded, sides, found):
    detector = found.best()
    tested = sides[1]
    glad, sad = (tested.filter(label=label)["answer"][0] for label in (1, 0))
    asked = json.loads(tested["messages"][0])[0]
    turns = [asked, {"role": "assistant", "content": sad}, asked, {"role": "assistant", "content": glad}]
    table = pl.DataFrame({"conversation_id": ["one"], "messages": [json.dumps(turns)]})
    rows = watch(loaded, detector, table)
    assert rows["turn"].to_list() == [0, 1]
    assert rows["drift"][0] == 0.0
    assert rows["drift"][1] == pytest.approx(rows["score"][1] - rows["score"][0])
    assert rows["drift"][1] > 0.0
    first = scores_of(loaded, detector, [json.dumps([asked])], [sad])
    assert rows["score"][0] == pytest.approx(first[0], abs=1e-4)
    with pytest.raises(SteerworksError, match="'two' has no turn of the assistant"):
        watch(loaded, detector, table.with_columns(conversation_id=pl.lit("two"), messages=pl.lit(json.dumps([asked]))))


def test_a_training_set_is_screened_from_the_most_on(loaded, sides, found):
    detector, tested = found.best(), sides[1]
    rows = tested.select("messages", "answer")
    screened = screen(loaded, detector, rows)
    assert screened["score"].is_sorted(descending=True)
    top = tested[screened["row"][:16].to_list()]["label"].mean()
    assert top > 0.9
    # a row with the model's own answer differs from it by nothing
    own = dict(tested.filter(label=0).select("messages", "answer").iter_rows())
    beside = screen(loaded, detector, rows, own)
    labels = dict(enumerate(tested["label"]))
    for row in beside.iter_rows(named=True):
        if labels[row["row"]] == 0:
            assert row["difference"] == pytest.approx(0.0, abs=1e-4)
    with pytest.raises(SteerworksError, match="no answer of the model's own"):
        screen(loaded, detector, rows, {})


def test_the_vector_that_writes_is_read_by_its_direction():
    direction = np.array([[3.0, 4.0]], dtype=np.float32)
    vector = SteeringVector("glad", "add", 1, {"direction": direction}, {}, "model")
    assert score_along(vector, np.array([[1.0, 0.0], [3.0, 4.0]])).tolist() == pytest.approx([0.6, 5.0])


def test_what_cannot_be_shown_is_refused(loaded, sides, found):
    fitted, tested = sides
    with pytest.raises(SteerworksError, match="96 pairs are fitted and tested"):
        detect(loaded, fitted, fitted)
    with pytest.raises(SteerworksError, match="1 classes are tested"):
        detect(loaded, fitted, tested.filter(label=1))
    with pytest.raises(SteerworksError, match="glad, other"):
        detect(loaded, fitted, tested.with_columns(concept=pl.lit("other")))
    from dataclasses import replace

    with pytest.raises(SteerworksError, match="was found on another model"):
        scores_of(loaded, replace(found.best(), model="x" * 32), ["[]"], ["a"])


@pytest.mark.parametrize(("n", "d"), [(12, 40), (60, 20), (8, 300)])
def test_the_discriminant_is_scikit_learns_covariance_solved_through_the_rows(n, d):
    from sklearn.covariance import ledoit_wolf

    rng = np.random.default_rng(n)
    within = rng.normal(size=(n, d)) * rng.uniform(0.2, 3.0, d)
    difference = rng.normal(size=d)
    expected = np.linalg.solve(ledoit_wolf(within, assume_centered=True)[0], difference)
    np.testing.assert_allclose(_whitened(within, difference), expected, rtol=1e-8)


def test_a_behavior_is_read_on_the_answers_of_its_items(loaded):
    behavior = BehaviorSpec.model_validate(
        {"name": "glad", "source": {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2,
                                    "n_pairs": 48, "n_validation": 8, "n_items": 24}}
    )  # fmt: skip
    made = build_contrasts(behavior)
    fitted, tested = sides_of("glad", made.examples, made.items)
    assert (fitted.height, set(fitted["split"])) == (96, {"train"})
    # neutral items and open ones have no two answers of the trait
    assert (tested.height, tested["pair_id"].n_unique()) == (48, 24)
    figures = detect(loaded, fitted, tested, layers=(1, 2)).figures
    assert figures.filter(direction="discriminant")["auroc"].max() > 0.8
