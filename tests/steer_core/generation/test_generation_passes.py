"""Rules that read further prompts along: guidance and contrastive decoding, in shared batches, as worked out by hand."""

from dataclasses import replace

import pytest
import torch
from asking import answers, of
from test_generation_adapters import made, write_adapter  # noqa: F401  (a fixture)

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Call, Capabilities
from steer_core.generation.decoding import build_rule, further_passes
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.steering import Message, Plan
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Extension
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_core.steering.steering_worlds import vector as tensors_of

TEXTS = ["a", "Please rewrite the following text.", "so that it is longer", "more formal " * 6, "x " * 20]
OTHER = [{"role": "user", "content": "the"}]


@pytest.fixture(scope="module")
def model(tiny_model):
    loaded = load_model(ModelSpec(name="tiny", source=str(tiny_model("llama", True))))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
    return loaded


def guided(scale, messages=OTHER):
    return (Extension("guidance", {"scale": scale, "messages": messages}),)


def plans(rules, **decoding):
    """A plan a text and rule; lengths differ, so that rows come and go."""
    return [
        Plan("m", Decoding(max_new_tokens=3 + 4 * (k % 3), **decoding), (Message("user", text),), extensions=rule)
        for k, text in enumerate(TEXTS)
        for rule in rules
    ]


def written(backend, asked, batch_size=64):
    found = answers(backend, [Call(p, 0, seed=i) for i, p in enumerate(asked)], batch_size)
    return [(a.raw, a.completion_tokens) for a in found]


def by_hand(loaded, plan, change):
    """Greedy tokens by whole forward passes of both prompts, token by token, nothing cached."""
    backend = TransformersBackend(loaded)
    own, (other,) = of(backend, [plan])[0], further_passes(of(backend, [plan])[0])
    prompts = [backend.encode(replace(own, extensions=())), backend.encode(other)]
    ends, tokens = backend.end_ids(), []
    while len(tokens) < plan.decoding.max_new_tokens and not (tokens and tokens[-1] in ends):
        with torch.inference_mode():
            last = [loaded.model(torch.tensor([p + tokens])).logits[0, -1] for p in prompts]
        tokens.append(int(change(*last).argmax()))
    kept = tokens[:-1] if tokens[-1] in ends else tokens
    return loaded.tokenizer.decode(kept, skip_special_tokens=True), len(tokens)


@pytest.mark.parametrize("batching", ["refill", "plain"])
def test_guided_rows_write_what_two_passes_worked_out_by_hand_write_whatever_stands_beside_them(model, batching):
    backend = TransformersBackend(model, batching=batching)
    asked = plans([(), guided(1.0), guided(3.0)])
    found = written(backend, asked, batch_size=5)

    def change(own, other):
        own, other = own.log_softmax(-1), other.log_softmax(-1)
        return other + 3.0 * (own - other)

    for k in range(len(TEXTS)):
        plain, same, far = found[3 * k : 3 * k + 3]
        # a scale of 1 is the plan as it is
        assert same == plain
        assert far == by_hand(model, asked[3 * k + 2], change)
    assert found[2::3] != found[0::3]


def test_contrastive_rows_write_what_the_expert_finds_likelier_among_what_it_finds_plausible(model):
    rule = (Extension("contrastive", {"beta": 2.0, "alpha": 0.05, "messages": OTHER}),)
    asked = plans([rule])

    def change(expert, amateur):
        likely = expert.softmax(-1) >= 0.05 * expert.softmax(-1).max()
        return (3.0 * expert - 2.0 * amateur).masked_fill(~likely, -torch.inf)

    found = written(TransformersBackend(model), asked, batch_size=4)
    assert found == [by_hand(model, p, change) for p in asked]


def test_sampled_rows_draw_the_same_alone_and_in_company(model):
    asked = plans([(), guided(2.0)], temperature=0.9, top_p=0.9)
    together = written(TransformersBackend(model), asked, batch_size=5)
    for batching in ("refill", "plain"):
        backend = TransformersBackend(model, batching=batching)
        alone = [
            (a.raw, a.completion_tokens) for i, p in enumerate(asked) for a in answers(backend, [Call(p, 0, seed=i)])
        ]
        assert alone == together


def test_an_amateur_may_be_steered_or_wear_an_adapter(made):  # noqa: F811
    loaded, folders, _ = made()
    worn = Adapter.of(folders[0])
    steer = replace(tensors_of("add", 0, 0), model=loaded.fingerprint)
    act = Intervention("add", steer.id, 0, 3.0)
    backend = TransformersBackend(loaded, [steer])
    backend.add_adapters([worn])
    rules = [
        (),
        (Extension("contrastive", {"alpha": 0.0, "beta": 4.0, "adapter": worn.digest}),),
        (Extension("contrastive", {"alpha": 0.0, "beta": 4.0, "interventions": [act.to_dict()]}),),
    ]
    found = written(backend, plans(rules), batch_size=6)
    assert found[0::3] == written(TransformersBackend(loaded), plans([()]))
    assert found[0::3] != found[1::3] != found[2::3] != found[0::3]
    unknown = (Extension("contrastive", {"adapter": "nobody"}),)
    with pytest.raises(SteerworksError, match="adapter nobody is not known"):
        written(backend, plans([unknown]))


def test_what_reading_along_costs_is_counted(model):
    backend = TransformersBackend(model)
    (plain,), (both,) = (answers(backend, [Call(p, 0, 0)]) for p in plans([(), guided(2.0)])[:2])
    other = backend.prompt_tokens(of(backend, [Plan("m", Decoding(), (Message("user", "the"),))])[0])
    assert both.prompt_tokens == plain.prompt_tokens + other


def test_rows_that_do_not_fit_the_batch_are_refused_and_nothing_waits_for_ever(model):
    with pytest.raises(ConfigError, match="batch_size = 1: a call reads 2 prompts at a time"):
        written(TransformersBackend(model), plans([guided(2.0)]), batch_size=1)


def test_an_engine_without_further_passes_refuses_by_name():
    plan = Plan("m", Decoding(), (Message("user", "a"),), extensions=guided(2.0))
    able = Capabilities("vllm", None, scores=True, extensions=("guidance",))
    with pytest.raises(SteerworksError, match="vllm backend cannot read further prompts along with a row"):
        able.refuse(plan)
    replace(able, passes=True).refuse(plan)


def test_a_contrast_with_nothing_is_refused():
    plan = Plan("m", Decoding(), (Message("user", "a"),), extensions=(Extension("contrastive", {}),))
    with pytest.raises(SteerworksError, match="say what the amateur differs in: messages, adapter, interventions"):
        further_passes(plan)
    with pytest.raises(SteerworksError, match="unknown decoding rule 'nothing'"):
        build_rule(Extension("nothing"), {})


@pytest.mark.parametrize("batching", ["refill", "plain"])
def test_a_rule_that_leaves_no_token_is_blamed_by_name_at_its_own_row(model, batching):
    backend = TransformersBackend(model, batching=batching)
    broken = replace(plans([()])[2], extensions=(Extension("nothing-left", {}),))
    asked = [*plans([guided(2.0)])[:2], broken]
    with pytest.MonkeyPatch.context() as patch:
        _with_rule(patch, "nothing-left", lambda settings, tensors: lambda logits, written: logits - torch.inf)
        with pytest.raises(SteerworksError, match="row 2: the decoding rule 'nothing-left' left no token"):
            written(backend, asked)


def _with_rule(patch, name, build):
    """A rule of that name, for a while."""
    import types

    from steer_core import extensions

    module = types.ModuleType(name)
    module.build_rule, module.__file__ = build, __file__
    found = {**extensions.available("decoding"), name: types.SimpleNamespace(load=lambda: module)}
    real = extensions.available
    patch.setattr(extensions, "available", lambda group: found if group == "decoding" else real(group))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("guidance", {"scale": 2.0}, "needs `scale` and `messages`"),
        ("guidance", {"scale": 2.0, "messages": []}, "needs `scale` and `messages`"),
        ("guidance", {"scale": float("nan"), "messages": OTHER}, "must be a finite number"),
        ("contrastive", {"messages": OTHER, "alpha": 2.0}, "alpha is a share, 0 to 1"),
        ("contrastive", {"messages": OTHER, "bta": 2.0}, "unknown setting 'bta'"),
    ],
)
def test_wrong_settings_of_a_rule_are_refused_before_anything_runs(model, name, settings, message):
    with pytest.raises(SteerworksError, match=message):
        written(TransformersBackend(model), plans([(Extension(name, settings),)]))


def test_scores_and_divergence_under_a_rule_are_refused_by_the_engine_itself(model):
    backend = TransformersBackend(model)
    asked = of(backend, plans([guided(5.0)])[:1])
    for verb in (backend.score, backend.diverge):
        with pytest.raises(SteerworksError, match="under the decoding rule 'guidance'"):
            verb(asked, ["so"])


def test_an_edited_rule_gives_other_responses_and_a_plan_without_rules_keeps_its_ids(model, monkeypatch):
    from steer_core.generation import decoding

    (plain,), (ruled,) = ([Call(p, 0, 0)] for p in plans([(), guided(2.0)])[:2])
    before = plain.response_id("here"), ruled.response_id("here")
    monkeypatch.setattr(decoding, "_source_digest", lambda file: "edited")
    assert plain.response_id("here") == before[0]
    assert ruled.response_id("here") != before[1]
