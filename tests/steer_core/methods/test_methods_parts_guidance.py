"""Guidance as a part: the other prompt is that of the same request, it goes with strategies, and engines may refuse."""

from dataclasses import replace

import pytest
from fixture_requests import GOALS, request

from schemas.specs import BenchSpec, MethodSpec, ModelSpec
from steer_core.generation.backend import Capabilities
from steer_core.generation.decoding import further_passes
from steer_core.methods.load import load_method
from steer_core.methods.part import refused
from steer_core.methods.protocol import Artifact
from steer_core.tables.errors import ConfigError

MODEL = ModelSpec(name="embedded", source="embedded")
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


def method(strategy="direct", **settings):
    parts = [{"kind": "prompt", "strategy": strategy}, {"kind": "guidance", **settings}]
    return load_method(MethodSpec.model_validate({"name": "m", "parts": parts}), MODEL, BENCH, GOALS)


def test_the_plan_reads_the_plain_prompt_of_the_same_request_along():
    asked = request("A text to rewrite.", formality=0.3)
    (plan,) = method(scale=2.0).step(asked, Artifact(), ())
    (plain,) = method().parts[0].plain.step(asked, Artifact(), ())
    (along,) = further_passes(plan)
    assert along.messages == plain.messages != plan.messages
    assert "A text to rewrite." in along.messages[-1].content
    assert plan.extensions[0].settings["scale"] == 2.0


def test_it_goes_with_strategies_that_ask_several_times():
    asked = request("A text to rewrite.", formality=0.3)
    plans = method("best-of-n").step(asked, Artifact(), ())
    assert len(plans) > 1
    assert all(p.extensions for p in plans)


def test_an_engine_that_reads_one_prompt_at_a_time_refuses_by_name():
    able = Capabilities("vllm", None, scores=True, extensions=("guidance",))
    assert refused(method(), able).startswith("vllm backend cannot carry out guidance")
    assert refused(method(), replace(able, passes=True)) is None


@pytest.mark.parametrize("against", ["copy", "best-of-n"])
def test_a_prompt_that_is_not_asked_once_is_no_other_prompt(against):
    with pytest.raises(ConfigError, match="the other prompt must be asked once"):
        method(against=against)


@pytest.mark.parametrize("parts", [[], [{"kind": "prompt", "strategy": "rewrite"}]])
def test_guidance_against_the_methods_own_prompt_is_refused(parts):
    spec = MethodSpec.model_validate({"name": "m", "parts": [*parts, {"kind": "guidance", "scale": 3.0}]})
    with pytest.raises(ConfigError, match="the method's own prompt is the same: nothing would change"):
        load_method(spec, MODEL, BENCH, GOALS)


def test_an_edited_other_prompt_makes_the_method_out_of_date(monkeypatch):
    from steer_core.methods import load

    def spec(against):
        parts = [{"kind": "prompt", "strategy": "direct"}, {"kind": "guidance", "against": against}]
        return MethodSpec.model_validate({"name": "m", "parts": parts})

    seen = []
    real = load._sources
    monkeypatch.setattr(load, "_sources", lambda file: seen.append(file.name) or real(file))
    load.code_digest(spec("underspecified"))
    assert "underspecified.py" in seen
