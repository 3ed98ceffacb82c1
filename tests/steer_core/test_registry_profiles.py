"""Profiles in the configuration: every mistake is named with its file, and paths are relative to theirs."""

from pathlib import Path

import pytest
import yaml

from steer_core.evaluation.profiles.kind import capability_of_bench
from steer_core.registry import load_registry
from steer_core.tables.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "config"
BENCH = {
    "corpus": {"sources": [{"kind": "grammar", "n_texts": 10}]},
    "goals": ["text_length"],
    "probes": [{"name": "main", "n_texts": 2, "n_goals_per_text": 2, "active": 1}],
    "models": ["embedded"],
    "methods": ["copy"],
    "profiles": ["facts", "style"],
}


def load(tmp_path, own=None, **changes):
    (tmp_path / "benches.yaml").write_text(yaml.safe_dump({"own": {**BENCH, **changes}}))
    if own is not None:
        (tmp_path / "profiles.yaml").write_text(yaml.safe_dump(own))
    return load_registry([SHIPPED, tmp_path])


def test_every_profile_that_ships_is_read_and_a_bench_has_those_that_it_lists(tmp_path):
    shipped = load_registry([SHIPPED]).profiles
    assert {"style", "facts", "tales-facts", "bbq", "stereoset", "crows-pairs", "associations"} <= set(shipped)
    assert all(spec.description for spec in shipped.values())
    registry = load(tmp_path)
    assert list(registry.profiles_of(registry.bench("own"))) == ["facts", "style"]


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (
            {"kind": "wizardry"},
            r"profiles.yaml, entry 'own': unknown kind of profile 'wizardry'; there are: bbq, choices",
        ),
        ({"kind": "choices", "bin": [5]}, r"profiles.yaml, entry 'own':\n  - bin: Extra inputs"),
        ({"kind": "choices", "name": "other"}, "leave out `name`"),
        ({"kind": "bbq", "set": {"kind": "choices"}}, r"entry 'own':\n  - set.kind"),
        (
            {"kind": "choices", "set": {"kind": "choices", "path": "a.csv", "dataset": "b/c"}},
            "are two places: give one",
        ),
        ({"kind": "choices", "set": {"kind": "choices", "template": "Q:"}}, "does not say where the question goes"),
    ],
)
def test_mistakes_in_a_profile_are_named_with_their_file(tmp_path, profile, said):
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, {"own": profile})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"profiles": ["fatcs"]}, r"benches.yaml, bench 'own': unknown profile 'fatcs'.* Did you mean 'facts'"),
        ({"profiled": {"asked": [{"formality": 0.2}]}}, r"profiled.asked: goal 'formality' is not in the goal space \(text_length\)"),
        ({"profiled": {"behaviors": ["refusal"]}}, "profiled.behaviors: 'refusal' is no behavior of the bench"),
        (
            {"profiled": {"budget": {"profile": "bbq", "most": 0.1}}},
            r"profiled.budget: 'bbq' is no profile of the bench \(facts, style\)",
        ),
        (
            {"profiled": {"budget": {"profile": "style", "most": 0.1}}},
            "profile 'style' measures no capability of its own: give the `metric`",
        ),
        ({"profiled": {"budget": {"profile": "facts", "most": 0.0}}}, "most: Input should be greater than 0"),
        ({"profiled": {"asked": [{"text_length": 0.7}]}}, "a move from the middle is within -0.5 and 0.5"),
    ],
)  # fmt: skip
def test_mistakes_in_what_a_bench_profiles_are_named_with_their_file(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, **changes)


def test_paths_of_items_are_relative_to_their_file_and_addresses_stay(tmp_path):
    sets = {
        "near": {"kind": "choices", "set": {"kind": "choices", "path": "own/facts.csv"}},
        "far": {"kind": "choices", "set": {"kind": "choices", "path": "s3://bucket/facts.csv"}},
        "whole": {"kind": "choices", "set": {"kind": "choices", "path": str(tmp_path / "there.csv")}},
    }
    found = load(tmp_path, sets).profiles
    assert {n: found[n].set.path for n in sets} == {
        "near": str(tmp_path / "own/facts.csv"),
        "far": "s3://bucket/facts.csv",
        "whole": str(tmp_path / "there.csv"),
    }


def test_costs_are_counted_in_the_budgets_metric_and_else_in_the_first_capability(tmp_path):
    registry = load(tmp_path, profiles=["style", "bbq", "facts"])
    profiles = registry.profiles_of(registry.bench("own"))
    assert capability_of_bench(profiles) == ("facts", "right answers", 1)
    budget = {"budget": {"profile": "style", "metric": "empty", "most": 0.1}}
    held = load(tmp_path, profiled=budget).bench("own").profiled.budget
    assert capability_of_bench(profiles, held) == ("style", "empty", -1)
    assert capability_of_bench({"style": profiles["style"]}) is None


def test_a_budget_that_nobody_says_the_better_way_of_is_refused(tmp_path):
    budget = {"profile": "style", "metric": "truncated", "most": 0.1}
    with pytest.raises(ConfigError, match=r"more of 'truncated' is better or less: give `better: 1` or `-1`"):
        load(tmp_path, profiled={"budget": budget})
    held = load(tmp_path, profiled={"budget": budget | {"better": -1}})
    bench = held.bench("own")
    assert capability_of_bench(held.profiles_of(bench), bench.profiled.budget) == ("style", "truncated", -1)
