"""Each kind of extension is one file outside the package: a goal, prompt, estimator, operator, rubric, and a third part."""

import importlib.metadata
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.specs import BehaviorSpec, BenchSpec, Decoding, GoalSpec, MethodSpec, ModelSpec
from steer_core import extensions
from steer_core.evaluation.judges.load import build_rubric
from steer_core.generation.backend import Call, Capabilities, answer_all
from steer_core.generation.decoding import Rule, tensor_digest
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.goals.analysis import Analyzer, TextAnalysis
from steer_core.goals.scorer import load_scorer
from steer_core.methods.load import code_digest, load_method
from steer_core.methods.part import refused
from steer_core.methods.protocol import Artifact, GoalTarget, Item, Request
from steer_core.models.loading import load_model
from steer_core.registry import load_registry
from steer_core.steering.operators import load_operator
from steer_core.steering.plan import Extension, Plan
from steer_core.steering.random_vectors import random_like
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.estimator import load_estimator

FOLDER = Path(__file__).parent / "fixtures" / "extensions"
GOAL = GoalSpec(
    name="formality", scorer="formality", unit="F", noun="formality", more="more formal", less="less formal"
)
MODEL = ModelSpec(name="embedded", source="embedded")
BENCH = BenchSpec.model_validate(
    {
        "name": "b",
        "corpus": {"sources": [{"kind": "grammar", "n_texts": 10}]},
        "goals": ["formality"],
        "probes": [{"name": "p", "n_texts": 2, "n_goals_per_text": 1, "active": 1}],
        "models": ["embedded"],
        "methods": ["m"],
        "decoding": {"max_new_tokens": 12},
    }
)


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """A configuration whose `extensions.yaml` names the folder; what it adds is gone afterwards."""
    monkeypatch.setattr(extensions, "_FOLDERS", [])
    extensions.available.cache_clear()
    shutil.copytree(FOLDER, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "extensions.yaml").write_text("folders: [mine]\n")
    (tmp_path / "methods.yaml").write_text(
        "biased:\n  parts: [{kind: prompt, strategy: shouting}, {kind: logit-bias, goal: formality}]\n"
    )
    yield load_registry([tmp_path])
    monkeypatch.undo()
    extensions.available.cache_clear()
    load_operator.cache_clear()


#: What the toy part would have learnt: token 7 alone.
BIAS = np.eye(1, 1408, 7, dtype=np.float32)[0]
LEARNT = Artifact((Item("bias", {"tensor": tensor_digest(BIAS)}, "formality", part="logit-bias"),))


def request(move):
    return Request("r", "A text.", (GoalTarget("formality", 0.5, 0.5 + move),))


def test_every_kind_is_one_file(configured):
    files = sorted(p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*.py"))
    assert files == [
        "engines/echo.py",
        "estimators/first_difference.py",
        "goals/exclamations.py",
        "operators/shrink.py",
        "parts/logit_bias.py",
        "prompts/shouting.py",
        "rubrics/thumbs.py",
    ]
    scorer = load_scorer(GOAL.model_copy(update={"scorer": "exclamations"}))
    assert scorer.measure([TextAnalysis(t, Analyzer()) for t in ("So! It is. Is it?", "")]) == [
        pytest.approx(1 / 3),
        None,
    ]
    assert load_estimator("first-difference").options == {"share"}
    behavior = BehaviorSpec.model_validate(
        {"name": "b", "source": {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2}}
    )
    assert build_rubric("thumbs", behavior, {}).scale == (0.0, 1.0)
    vector = SteeringVector("c", "shrink", 0, {"direction": np.ones((1, 4), np.float32)}, {}, "m")
    load_operator("shrink").check(random_like(vector, 0))


def test_a_third_kind_of_part_is_a_method_of_the_configuration(configured):
    method = load_method(configured.method("biased"), MODEL, BENCH, {"formality": GOAL})
    (plan,) = method.step(request(0.3), LEARNT, ())
    assert plan.messages[-1].content.startswith("REWRITE THIS!!!")
    (rule,) = plan.extensions
    assert (rule.name, rule.settings) == ("logit-bias", {"by": pytest.approx(0.3)})
    assert Plan.from_json(plan.to_json()) == plan
    assert method.step(request(0.0), Artifact(), ())[0].extensions == ()


def test_the_engine_carries_out_the_parts_rule_row_by_row(configured):
    method = load_method(configured.method("biased"), MODEL, BENCH, {"formality": GOAL})
    backend = TransformersBackend(load_model(MODEL))
    (plan,) = method.step(request(0.3), LEARNT, ())
    pushed = replace(plan, extensions=(replace(plan.extensions[0], settings={"by": 1e4}),))
    plain = replace(plan, extensions=())
    with pytest.raises(SteerworksError, match="needs tensor .* `add_tensors`"):
        answer_all(backend, [Call(pushed, 0, 0)])
    backend.add_tensors({tensor_digest(BIAS): BIAS})
    calls = [Call(p, 0, 0) for p in (plain, pushed, plain)]
    first, biased, again = answer_all(backend, calls)
    # only its own row is pushed to write the one token, to the end
    assert biased.completion_tokens == 12
    assert biased.raw == backend.loaded.tokenizer.decode([7] * 12, skip_special_tokens=True)
    assert first.raw == again.raw == answer_all(backend, [Call(plain, 0, 0)])[0].raw
    assert TransformersBackend(load_model(MODEL), batching="plain").add_tensors({tensor_digest(BIAS): BIAS}) is None


def test_an_engine_that_does_not_know_the_rule_refuses_by_name(configured):
    method = load_method(configured.method("biased"), MODEL, BENCH, {"formality": GOAL})
    deaf = Capabilities("openai", None, scores=True)
    assert refused(method, deaf) == "openai backend cannot carry out the extension 'logit-bias'"
    (plan,) = method.step(request(0.3), LEARNT, ())
    with pytest.raises(
        SteerworksError, match="openai backend cannot carry out the extension 'logit-bias'; it knows: none"
    ):
        deaf.refuse(plan)
    with pytest.raises(SteerworksError, match="cannot score under the decoding rule"):
        replace(deaf, extensions=("logit-bias",)).refuse(plan, "score")
    with pytest.raises(SteerworksError, match="openai backend cannot load adapters"):
        deaf.refuse(Plan("m", Decoding(), text="x", adapter="digest"))


def test_a_tensor_is_the_one_that_its_digest_says():
    backend = TransformersBackend(load_model(MODEL))
    with pytest.raises(SteerworksError, match="it is another one"):
        backend.add_tensors({"0" * 32: np.zeros(3)})


def test_an_unused_new_prompt_makes_no_other_method_out_of_date(tmp_path, configured):
    direct = MethodSpec.model_validate({"name": "direct", "parts": [{"kind": "prompt", "strategy": "direct"}]})
    shouting = configured.method("biased")
    before = code_digest(direct), code_digest(shouting)
    (tmp_path / "mine" / "prompts" / "whispering.py").write_text("def build(setting):\n    raise NotImplementedError\n")
    extensions.available.cache_clear()
    assert (code_digest(direct), code_digest(shouting)) == before
    assert code_digest(direct) != code_digest(shouting)


def test_a_name_that_two_places_have_is_an_error(tmp_path, configured):
    (tmp_path / "mine" / "operators" / "add.py").write_text("")
    extensions.available.cache_clear()
    with pytest.raises(ConfigError, match="two extensions of group 'operators' are called 'add'"):
        extensions.available("operators")


def test_packages_bring_extensions_by_entry_points(monkeypatch):
    entry = importlib.metadata.EntryPoint("my-own", "steer_core.steering.operators.add", "steerworks.operators")
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [entry] if group == entry.group else real(group=group)
    )
    extensions.available.cache_clear()
    load_operator.cache_clear()
    assert load_operator("my_own").additive
    extensions.available.cache_clear()
    load_operator.cache_clear()


@pytest.mark.parametrize(
    ("content", "message"),
    [("folders: [nowhere]", "does not exist"), ("folder: mine", "must be `folders"), ("- mine", "must be `folders")],
)
def test_a_wrong_extensions_file_is_refused(tmp_path, content, message):
    (tmp_path / "extensions.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_registry([tmp_path])


def test_a_broken_extension_is_named_with_its_file(tmp_path, configured):
    (tmp_path / "mine" / "rubrics" / "broken.py").write_text("import nothing_of_that_name\n")
    extensions.available.cache_clear()
    with pytest.raises(ConfigError, match=r"extension 'broken' of .*broken.py cannot be imported: No module named"):
        extensions.load("rubrics", "broken")


def test_a_rule_changes_no_other_row_of_the_models_logits():
    from steer_core.generation.sampling import Draws, next_tokens

    logits = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    seen = []

    def rule(row, written):
        seen.append(list(written))
        return row + torch.tensor([9.0, 0.0, 0.0])

    draws = [Draws(Decoding(max_new_tokens=4), 0, 4), Draws(Decoding(max_new_tokens=4), 0, 4, (Rule(rule),))]
    assert next_tokens(logits, draws, [0, 2], lambda r: [5, 6]).tolist() == [2, 0]
    assert seen == [[5, 6]]
    assert logits[1].tolist() == [0.0, 1.0, 2.0]
    assert Extension("x").to_dict() == {"name": "x"}
