"""Behaviors of the embedded model's grammar have the ground truth that they claim; the shipped ones load."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from schemas.specs import BehaviorSpec
from steer_core.corpus.contrasts import build_contrasts
from steer_core.models.embedded.grammar import read
from steer_core.models.embedded.lexicon import TOPICS
from steer_core.registry import load_registry
from steer_core.tables.errors import ConfigError

SHIPPED = Path(__file__).parents[3] / "config"
ATTRIBUTES = ("sentiment", "formality", "difficulty", "sentences")


def build(**source):
    settings = {"kind": "grammar", "n_pairs": 24, "n_validation": 8, "n_items": 8, **source}
    return build_contrasts(BehaviorSpec.model_validate({"name": "own", "source": settings}))


@pytest.mark.parametrize(
    ("attribute", "positive", "negative"),
    [("sentiment", 2, -2), ("formality", -2, 2), ("difficulty", -2, 2), ("sentences", 5, 1)],
)
def test_both_sides_differ_in_the_attribute_and_in_nothing_else(attribute, positive, negative):
    found = build(attribute=attribute, positive=positive, negative=negative)
    for row in found.preferences.iter_rows(named=True):
        one, other = read(row["chosen"]), read(row["rejected"])
        assert (getattr(one, attribute), getattr(other, attribute)) == (positive, negative)
        assert all(getattr(one, a) == getattr(other, a) for a in ATTRIBUTES if a != attribute)
    assert Counter(found.preferences["split"]) == {"train": 24, "validation": 8}


def test_prompts_never_repeat_and_test_prompts_are_about_heldout_scenarios():
    found = build(attribute="sentiment", positive=2, negative=-2, n_items=16)
    trained = set(found.preferences["messages"])
    assert len(trained) == 32
    assert found.items["messages"].n_unique() == 48
    assert not trained & set(found.items["messages"])
    known = [
        (a, o) for t in TOPICS for i, a in enumerate(t.agents) for j, o in enumerate(t.objects) if (i + j) % 5 == 0
    ]
    for messages in found.items["messages"]:
        prompt = json.loads(messages)[0]["content"]
        assert any(f" {a} " in prompt and o in prompt for a, o in known), prompt


def test_items_are_open_paired_and_neutral():
    found = build(attribute="sentiment", positive=2, negative=-2)
    assert Counter(found.items.select("form", "group").rows()) == {
        ("open", "main"): 8,
        ("pair", "main"): 8,
        ("pair", "neutral"): 8,
    }
    for row in found.items.filter(group="neutral").iter_rows(named=True):
        assert read(row["positive"]) == read(row["negative"])
    for row in found.items.filter(form="pair", group="main").iter_rows(named=True):
        assert (read(row["positive"]).sentiment, read(row["negative"]).sentiment) == (2, -2)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    one = build(attribute="formality", positive=2, negative=-2, seed=1)
    assert one.examples.equals(build(attribute="formality", positive=2, negative=-2, seed=1).examples)
    assert not one.examples.equals(build(attribute="formality", positive=2, negative=-2, seed=2).examples)


def test_levels_that_do_not_exist_are_refused():
    with pytest.raises(
        ConfigError, match=r"behavior 'own': .*'sentiment': positive level 3 does not exist; levels are -2 to 2"
    ):
        build(attribute="sentiment", positive=3, negative=0)
    with pytest.raises(ConfigError, match="both sides have level 2, so nothing is contrasted"):
        build(attribute="sentences", positive=2, negative=2)
    with pytest.raises(ConfigError, match="too few heldout prompts .*lower n_pairs, n_validation or n_items"):
        build(attribute="sentiment", positive=2, negative=-2, n_items=5000)


def test_the_shipped_behaviors_load_and_name_their_attribute():
    shipped = load_registry([SHIPPED]).behaviors
    assert {n: (b.source.attribute, b.source.positive, b.source.negative) for n, b in shipped.items()} == {
        "cheerfulness": ("sentiment", 2, -2),
        "formal-register": ("formality", 2, -2),
        "simple-words": ("difficulty", -2, 2),
    }
    assert all(b.positive_prompt and b.negative_prompt for b in shipped.values())


def overlay(tmp_path, **files) -> list[Path]:
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return [SHIPPED, tmp_path]


def test_paths_of_a_behavior_are_relative_to_its_file(tmp_path):
    source = {"kind": "bipo", "train": "data/train.csv", "test": "/else/where.csv"}
    own = {"power": {"source": source, "judge": {"kind": "llm", "rubric": "behavior"}}}
    behavior = load_registry(overlay(tmp_path, behaviors=own)).behavior("power")
    assert (behavior.source.train, behavior.source.test) == (str(tmp_path / "data/train.csv"), "/else/where.csv")


def test_unknown_behaviors_and_judges_are_named_with_their_file(tmp_path):
    with pytest.raises(ConfigError, match="unknown behavior 'cheerfulnes'; .*Did you mean 'cheerfulness'"):
        load_registry([SHIPPED]).behavior("cheerfulnes")
    judged = {
        "own": {"source": {"kind": "bipo", "train": "a.csv"}, "judge": {"kind": "llm", "rubric": "x", "model": "gpt-9"}}
    }
    with pytest.raises(ConfigError, match=r"behaviors.yaml, behavior 'own': unknown model 'gpt-9'"):
        load_registry(overlay(tmp_path, behaviors=judged))
    untrue = {"own": {"source": {"kind": "bipo", "train": "a.csv", "test": "b.csv"}}}
    with pytest.raises(ConfigError, match=r"behavior 'own': judge `ground_truth` reads attributes of the grammar"):
        load_registry(overlay(tmp_path, behaviors=untrue))
    bench = {
        "corpus": {"sources": [{"kind": "grammar", "n_texts": 10}]},
        "goals": ["text_length"],
        "probes": [{"name": "main", "n_texts": 2, "n_goals_per_text": 2, "active": 1}],
        "models": ["embedded"],
        "methods": ["copy"],
        "behaviors": ["gloom"],
    }
    with pytest.raises(ConfigError, match=r"benches.yaml, bench 'own': unknown behavior 'gloom'"):
        load_registry(overlay(tmp_path, behaviors={}, benches={"own": bench}))
