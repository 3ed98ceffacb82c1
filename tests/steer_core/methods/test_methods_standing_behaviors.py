"""Behaviors' vectors as settings of a profiled cell: both directions, and two at once."""

import json

import polars as pl
import pytest
from pydantic import ValidationError

from schemas import ProfileArms, SweepArms
from schemas.profile_spec import ProfiledSpec
from steer_core.methods.standing import behavior_arms
from steer_core.tables import check
from steer_core.tables.errors import SteerworksError

STRENGTHS = (-2.0, -1.0, 1.0, 2.0)


def step(behavior, strength, layer=1):
    return {
        "operator": "add", "vector": f"v-{behavior}", "layer": layer, "coefficient": strength, "site": "residual",
        "positions": "all",
    }  # fmt: skip


def swept(*behaviors, strengths=STRENGTHS, layers=(1, 0), roles=("vector",)):
    rows = []
    for behavior in behaviors:
        for role in ("off", *roles):
            for layer in layers:
                for s in strengths if role != "off" else (None,):
                    steps = [] if s is None else [step(behavior, s, layer)]
                    rows.append(
                        {
                            "arm_id": f"{behavior}-{role}-{layer}-{s}", "spec_hash": "h", "behavior": behavior,
                            "role": role, "strength": s, "unit": "raw" if s else None, "coefficient": s,
                            "layers": json.dumps([layer] if s else []), "site": "residual", "positions": "all",
                            "seed": 0, "vectors": "[]", "interventions": json.dumps(steps), "n_calls": 1,
                            "n_scored": 0, "max_new_tokens": 1,
                        }
                    )  # fmt: skip
    return pl.DataFrame(rows, schema=SweepArms.dtypes())


def test_a_behavior_is_profiled_in_both_directions_at_the_parts_own_layer():
    arms = behavior_arms(swept("glad", roles=("vector", "random")), ["glad"], ())
    check(arms, ProfileArms)
    assert arms["position"].to_list() == [-2.0, 2.0]
    assert arms["label"].to_list() == ["glad at -2", "glad at +2"]
    assert [json.loads(i)[0]["layer"] for i in arms["interventions"]] == [1, 1]
    assert behavior_arms(swept("glad"), ["glad"], (1.0, -1.0))["position"].to_list() == [-1.0, 1.0]
    # a cell that is not swept
    assert behavior_arms(SweepArms.empty(), ["glad"], (1.0,)).height == 0


def test_a_strength_that_is_not_swept_is_refused_with_those_that_are():
    with pytest.raises(SteerworksError, match=r"\+3 is no strength that behavior 'glad' is swept at; there are -2, -1"):
        behavior_arms(swept("glad"), ["glad"], (1.0, 3.0))


def test_a_pair_does_what_both_do_at_each_strength():
    arms = behavior_arms(swept("glad", "stiff"), ["glad", "stiff"], (), [("glad", "stiff")])
    check(arms, ProfileArms)
    assert arms["role"].to_list() == ["behavior"] * 4 + ["pair"] * 2
    both = arms.filter(role="pair").to_dicts()
    assert [r["label"] for r in both] == ["glad and stiff at -2", "glad and stiff at +2"]
    assert [json.loads(r["asked"]) for r in both] == [{"pair": ["glad", "stiff"]}] * 2
    assert json.loads(both[1]["interventions"]) == [step("glad", 2.0), step("stiff", 2.0)]
    assert arms["arm_id"].n_unique() == 6


def test_strengths_that_only_one_of_the_two_has_make_no_pair():
    arms = pl.concat([swept("glad"), swept("stiff", strengths=(-2.0, 3.0))])
    pairs = behavior_arms(arms, ["glad", "stiff"], (), [("glad", "stiff")]).filter(role="pair")
    assert pairs["position"].to_list() == [-2.0]


def test_behaviors_of_a_pair_are_profiled_alone_too():
    spec = ProfiledSpec(behaviors=("cold",), pairs=(("glad", "stiff"), ("glad", "cold")))
    assert spec.swept == ("cold", "glad", "stiff")
    with pytest.raises(ValidationError, match="'glad' twice"):
        ProfiledSpec(pairs=(("glad", "glad"),))
