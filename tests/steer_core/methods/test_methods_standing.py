"""Settings that a cell is profiled in: what a method does on the probe, where there is no text to rewrite."""

import json
from dataclasses import replace

import polars as pl
import pytest
from fixture_requests import GOALS, SETTING, TEXT
from test_methods_parts_vector import PART, Responsive, steered, trial

from schemas import ProfileArms, SweepArms
from schemas.adapter_part import AdapterPart
from schemas.specs import BenchSpec, MethodSpec, ModelSpec
from steer_core.methods.load import load_method
from steer_core.methods.part import Composed
from steer_core.methods.parts.adapter import Worn
from steer_core.methods.parts.prompt import build_strategy
from steer_core.methods.parts.vector import Doses
from steer_core.methods.protocol import Artifact, GoalTarget, Item, Request, Traits
from steer_core.methods.standing import behavior_arms, profile_arms, why_not_profiled
from steer_core.tables import check

ASKED = ({"formality": 0.4}, {"formality": -0.4, "text_length": 0.2})
BENCH = BenchSpec.model_validate(
    {
        "name": "b",
        "corpus": {"sources": [{"kind": "grammar", "n_texts": 10}]},
        "goals": list(GOALS),
        "probes": [{"name": "p", "n_texts": 2, "n_goals_per_text": 1, "active": 1}],
        "models": ["embedded"],
        "methods": ["m"],
    }
)


def load(*parts):
    spec = MethodSpec.model_validate({"name": "m", "parts": list(parts)})
    return load_method(spec, ModelSpec(name="embedded", source="embedded"), BENCH, GOALS)


def strategy(name, **options):
    return {"kind": "prompt", "strategy": name, "options": options}


def arms_of(method, artifact=None, asked=ASKED):
    return check(profile_arms(method, artifact or Artifact(), asked, tuple(GOALS)), ProfileArms)


def as_asked(moves):
    """What a request on the probe with the same moves is, of another id and with a text."""
    return Request(
        "r1", TEXT, tuple(GoalTarget(g, 0.5, 0.5 + moves[g] if g in moves else None) for g in GOALS)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked_by", "first", "second"),
    [
        (strategy("direct"), "more formal", "longer"),
        (strategy("direct", negative=True), "Change nothing else about how you answer", "longer"),
        (strategy("one-to-ten"), "raise the formality by 4 levels", "lower the formality by 4 levels"),
        (strategy("one-to-ten", negative=True), "Change nothing else about how you answer", "raise the length by 2"),
        (strategy("labels"), "formality:8", "formality:1"),
        (strategy("labels", wording="words"), "more formal", "more informal"),
        (strategy("underspecified"), "answer as well as you can", "answer as well as you can"),
    ],
)
def test_what_a_strategy_says_stands_as_a_system_prompt_without_a_text(asked_by, first, second):
    method = load(asked_by)
    assert why_not_profiled(method) is None
    plain, one, two = arms_of(method).iter_rows(named=True)
    assert (plain["arm_id"], plain["role"], plain["system"]) == ("plain", "plain", None)
    assert [one["role"], two["role"]] == ["request", "request"]
    assert first in one["system"]
    assert second in two["system"]
    assert json.loads(two["asked"]) == ASKED[1]
    for row in (one, two):
        assert "following text" not in row["system"]
        assert "{" not in row["system"]
        assert (row["interventions"], row["adapter"], row["extensions"]) == ("[]", None, "[]")


def test_the_plain_rewrite_is_the_model_as_it_is():
    assert why_not_profiled(load(strategy("rewrite"))) is None
    assert arms_of(load(strategy("rewrite")))["arm_id"].to_list() == ["plain"]


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ((strategy("copy"),), "it calls no model"),
        ((strategy("best-of-n"),), "asks several times"),
        ((strategy("closed-loop"),), "asks several times"),
        ((strategy("few-shot"),), "cannot be said without a text to rewrite"),
        ((strategy("chain-of-thought"),), "cannot be said without a text to rewrite"),
        ((strategy("direct"), {"kind": "guidance"}), "its part 'guidance' holds a rewrite against another rewrite"),
    ],
)
def test_what_means_nothing_without_a_text_is_refused_by_name(parts, why):
    assert why in why_not_profiled(load(*parts))


@pytest.fixture
def pushed(tmp_path):
    """A vector that was fitted, with three strengths on the probe."""
    method, artifact = steered(trial(tmp_path, Responsive()))
    part = Doses(PART.model_copy(update={"on_probe": (-1.0, 1.0, 2.0)}))
    return replace(method, parts=(part,)), artifact


def test_a_vector_does_to_a_profile_what_it_does_to_a_request_with_the_same_moves(pushed):
    method, artifact = pushed
    asked = ({"formality": 0.15}, {"formality": -0.1, "text_length": 0.1})
    rows = arms_of(method, artifact, asked)
    for moves in asked:
        request = as_asked(moves)
        own = rows.filter(asked=json.dumps(moves, separators=(",", ":"), sort_keys=True))
        assert own.height == 4
        (used,) = own.filter(role="request").iter_rows(named=True)
        (plan,) = method.step(request, artifact, ())
        assert json.loads(used["interventions"]) == [i.to_dict() for i in plan.interventions]
        assert plan.interventions
        assert (used["system"], used["probe_arm"]) == (None, "headline")
        for arm in method.arms(artifact):
            (row,) = own.filter(probe_arm=arm.arm_id).iter_rows(named=True)
            (plan,) = method.at(arm).step(request, artifact, ())
            assert json.loads(row["interventions"]) == [i.to_dict() for i in plan.interventions]
            assert (row["role"], row["position"], row["axis"]) == ("arm", arm.position, arm.axis)


def test_a_prompt_and_a_vector_are_both_there(pushed):
    method, artifact = pushed
    (_, used, *_) = arms_of(replace(method, base=build_strategy("direct", SETTING, {})), artifact).iter_rows(named=True)
    assert "more formal" in used["system"]
    assert json.loads(used["interventions"])


def test_an_adapter_is_worn_at_the_same_states():
    steps = {0: "a" * 32, 10: "b" * 32}
    states = [
        Item("state", {"adapter": digest, "step": step, "label": f"step {step}", "picked": step == 10}, part="adapter")
        for step, digest in steps.items()
    ]
    method = Composed(build_strategy("rewrite", SETTING, {}), (Worn(AdapterPart(served="*")),), Traits())
    artifact = Artifact(tuple(states))
    rows = arms_of(method, artifact, ASKED[:1])
    (plan,) = method.step(as_asked(ASKED[0]), artifact, ())
    assert rows.filter(role="request")["adapter"].to_list() == [plan.adapter] == [steps[10]]
    of_arms = {
        arm.arm_id: method.at(arm).step(as_asked(ASKED[0]), artifact, ())[0].adapter for arm in method.arms(artifact)
    }
    assert dict(rows.filter(role="arm").select("probe_arm", "adapter").iter_rows()) == of_arms
    assert set(of_arms.values()) == {None, *steps.values()}


def test_ids_are_the_same_again_and_another_one_where_anything_else_is_done(pushed):
    method, artifact = pushed
    rows, again = arms_of(method, artifact), arms_of(method, artifact)
    assert rows.equals(again)
    assert rows["arm_id"].n_unique() == rows.height == 1 + 2 * 4
    other = arms_of(load(strategy("direct")))
    assert not set(other["arm_id"][1:]) & set(arms_of(load(strategy("direct", negative=True)))["arm_id"][1:])
    # a further request leaves those there were
    assert set(arms_of(method, artifact, ASKED[:1])["arm_id"]) < set(rows["arm_id"])


def swept(**changes):
    """A row of `sweep_arms`."""
    return {
        "behavior": "cheerful", "role": "vector", "strength": 1.0, "unit": "raw", "layers": "[1]", "positions": "all",
        "seed": 0, "system": None, "interventions": "[]",
    } | changes  # fmt: skip


def sweep_table(rows):
    empty = SweepArms.empty()
    filled = [
        {n: row.get(n, f"arm{k}" if n == "arm_id" else None) for n in empty.columns} for k, row in enumerate(rows)
    ]
    return pl.DataFrame(filled, schema=empty.schema)


SWEPT = sweep_table(
    [
        swept(role="off", strength=0.0, layers="[]"),
        *[swept(strength=s, interventions=f'["own {s}"]') for s in (-2.0, -1.0, 1.0, 2.0)],
        *[swept(strength=s, layers="[2]", interventions=f'["other layer {s}"]') for s in (-3.0, 3.0)],
        *[swept(strength=s, positions="prompt", interventions=f'["elsewhere {s}"]') for s in (-4.0, 4.0)],
        *[swept(strength=s, seed=1, interventions=f'["seed {s}"]') for s in (-5.0, 5.0)],
        swept(role="random", strength=2.0, interventions='["random"]'),
        swept(behavior="rude", strength=1.0, interventions='["rude"]'),
    ]
)


def test_a_behavior_is_profiled_at_the_ends_of_its_sweep_on_the_parts_own_layers():
    found = check(behavior_arms(SWEPT, ["cheerful"], []), ProfileArms)
    assert [json.loads(i) for i in found["interventions"]] == [["own -2.0"], ["own 2.0"]]
    assert found["label"].to_list() == ["cheerful at -2", "cheerful at +2"]
    assert found["role"].unique().to_list() == ["behavior"]
    assert found["position"].to_list() == [-2.0, 2.0]


def test_or_at_the_strengths_that_are_asked_for_and_a_behavior_that_was_not_swept_has_none():
    found = behavior_arms(SWEPT, ["rude", "cheerful", "unswept"], [1.0])
    assert [json.loads(i) for i in found["interventions"]] == [["rude"], ["own 1.0"]]
    assert found["arm_id"].n_unique() == 2
