"""Questions with several right options: mc1 and mc2 of TruthfulQA, beside items with one right option."""

import json
import math

import polars as pl
import pytest

from schemas import OptionScores
from schemas.profile_spec import read_profile
from steer_core.evaluation.profiles import asking, kind
from steer_core.evaluation.profiles.kinds import choices

ROWS = [
    ("Where is the moon?", ["Up", "In the sky", "Down", "Gone"], [1, 1, 0, 0]),
    ("Is it cheese?", ["No", "Yes"], [1, 0]),
    ("What is it?", ["A rock", "A lamp", "A stone", "A god"], [1, 0, 1, 0]),
]


@pytest.fixture
def spec(tmp_path):
    file = tmp_path / "truth.jsonl"
    lines = [
        {"question": q, "category": "moon", "mc2_targets": {"choices": c, "labels": labels}} for q, c, labels in ROWS
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    return read_profile(
        {"name": "truth", "kind": "choices", "set": {"kind": "choices", "path": str(file), "layout": "truthfulqa-mc2"}}
    )


def scored(spec, scores):
    """What comes back where the options of each item, in the order of the file, have these probabilities."""
    items = asking.items_table([spec])
    rows = []
    for item, own in zip(items.iter_rows(named=True), scores, strict=True):
        for k, p in enumerate(own):
            value = None if p is None else math.log(p) if p else -math.inf
            rows.append(("plain", "truth", item["item_id"], k, value, 1 + k, 4, 0.0, "gone" if p is None else None))
    return kind.Found(items, options=pl.DataFrame(rows, schema=OptionScores.dtypes(), orient="row"))


def told(spec, found):
    values = choices.measure(spec, found)
    figures = kind.figures_table("truth", choices.figures(spec, found, values, kind.How(draws=50)))
    return values, {(r["metric"], r["setting"]): r for r in figures.iter_rows(named=True)}


@pytest.mark.parametrize(
    ("probabilities", "labels", "mc1", "mc2"),
    [
        ((0.1, 0.3, 0.2, 0.2), (1, 1, 0, 0), 0.0, 0.5),
        # another right option that is likelier takes nothing from the first
        ((0.3, 0.5, 0.2), (1, 1, 0), 1.0, 0.8),
        ((0.2, 0.2, 0.2), (1, 0, 0), 1 / 3, 1 / 3),
        ((0.0, 0.4, 0.1), (1, 1, 0), 0.0, 0.8),
        # not normalised: only the options of the item count
        ((0.02, 0.02), (0, 1), 0.5, 0.5),
        ((0.5, 0.5), (1, 1), 1.0, 1.0),
    ],
)
def test_mc1_and_mc2_of_an_item(probabilities, labels, mc1, mc2):
    logs = [math.log(p) if p else -math.inf for p in probabilities]
    assert choices.mass(logs, labels) == pytest.approx((mc1, mc2))
    # long options: what is left of their probability is far below the smallest number that there is
    assert choices.mass([s - 5000.0 for s in logs], labels) == pytest.approx((mc1, mc2))


def test_what_has_no_mass_or_no_right_option_is_said():
    assert choices.mass([-math.inf, -math.inf], [1, 0]) is None
    for scores, labels in (([0.0], [1, 0]), ([0.0, 0.0], [0, 0])):
        with pytest.raises(ValueError, match="one each, and a right one among them"):
            choices.mass(scores, labels)


def test_a_profile_of_such_items_has_both_measures_and_what_was_not_scored_is_left_out(spec):
    found = scored(spec, [(0.1, 0.5, 0.2, 0.2), (0.9, 0.1), (0.4, None, 0.2, 0.1)])
    values, figures = told(spec, found)
    of = {m: part["value"].to_list() for (m,), part in values.partition_by("metric", as_dict=True).items()}
    order = values.filter(metric="mc1")["item_id"].to_list()
    places = [found.items["item_id"].to_list().index(i) for i in order]
    expected = {0: (1.0, 0.0, 0.6), 1: (1.0, 1.0, 0.9), 2: (None, None, None)}
    for k, place in enumerate(places):
        assert (of["right answers"][k], of["mc1"][k], of["mc2"][k]) == pytest.approx(expected[place])
    assert figures["mc1", "sum"]["value"] == 0.5
    assert figures["mc2", "sum"]["value"] == pytest.approx(0.75)
    assert figures["mc2", "sum"]["left_out"] == 1
    assert figures["mc2", "sum"]["why"] == "1 an option was not scored"
    assert figures["accuracy, any right answer", "sum"]["value"] == 1.0
    assert {m for m, _ in figures} == {"mc1", "mc2", "accuracy, any right answer"}
    assert all(choices.shown(spec, r) for r in figures.values())


def test_accuracy_goes_by_the_normalisation_asked_for_and_the_two_measures_by_sums(spec):
    # per token the last, longest option is the best of the first item
    found = scored(spec, [(0.3, 0.2, 0.1, 0.25), (0.9, 0.1), (0.4, 0.1, 0.2, 0.1)])
    by_token = spec.model_copy(update={"normalisation": "token"})
    assert told(spec, found)[1]["accuracy, any right answer", "sum"]["value"] == 1.0
    _, figures = told(by_token, found)
    assert figures["accuracy, any right answer", "token"]["value"] < 1.0
    assert figures["mc1", "sum"]["value"] == 1.0


def test_items_with_one_right_option_are_what_they_were(tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"question": "Two?", "options": ["2", "3"], "answer": 0}))
    spec = read_profile({"name": "truth", "kind": "choices", "set": {"kind": "choices", "path": str(file)}})
    values, figures = told(spec, scored(spec, [(0.8, 0.2)]))
    assert dict(values.select("metric", "value").iter_rows()) == pytest.approx(
        {"right answers": 1.0, "confidence": 0.8, "gold_probability": 0.8}
    )
    assert figures["accuracy", "sum"]["value"] == 1.0
    assert not {m for m, _ in figures} & {"mc1", "mc2"}
