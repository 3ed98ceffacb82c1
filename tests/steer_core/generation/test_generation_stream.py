"""Streaming: rows that end make room, and every row answers as it does alone, whatever stands beside it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from asking import answers, calls_of, of

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, Finished, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.stream import WINDOW
from steer_core.models import load_model
from steer_core.steering import Message, Plan
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.operators import available_operators
from steer_core.steering.sites import FAMILIES
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from tests.steer_core.steering.steering_worlds import vector as tensors_of

#: Families of the fixture whose rows can take each other's places.
EVERY = [
    "llama", "mistral", "mistral_window", "ministral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_wrapper",
    "phi", "phi3", "olmo", "olmo2", "olmo3", "granite", "cohere", "cohere2", "stablelm", "stablelm_parallel",
    "starcoder2", "smollm3", "nemotron", "ernie4_5", "glm", "glm4", "exaone4", "helium", "apertus", "arcee", "seed_oss",
    "hunyuan", "persimmon", "gpt2", "gptj", "codegen", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_neox_sequential",
    "falcon", "falcon_alibi", "opt", "opt_post_norm", "biogpt", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe",
    "gpt_oss", "granitemoe", "ernie4_5_moe", "glm4_moe", "deepseek_v2", "deepseek_v3",
]  # fmt: skip
TEXTS = ["a", "Please rewrite the following text.", "so that it is longer", "x " * 20, "more formal", "the " * 9]
#: Answers of different lengths: rows leave and come in nearly every pass.
TOKENS = [3, 14, 1, 9, 5, 12, 2, 7, 11, 4, 6, 10, 8]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    made = {}

    def make(family="llama"):
        if family not in made:
            made[family] = load_model(ModelSpec(name="tiny", source=str(tiny_model(family, True))))
            torch.manual_seed(1)
            with torch.no_grad():
                for parameter in made[family].model.parameters():
                    if parameter.ndim > 1:
                        parameter.normal_(0.0, 0.25)
        return made[family]

    return make


def vector_of(model, operator="add", layer=0, seed=0) -> SteeringVector:
    return replace(tensors_of(operator, layer, seed), model=model.fingerprint)


def act(v, coefficient=1.0, **place) -> Intervention:
    return Intervention(v.operator, v.id, **{"layer": v.layer, "coefficient": coefficient, **place})


def calls(count=13, steer=lambda _: (), temperature=lambda _: 0.0, **decoding) -> list[Call]:
    found = []
    for i in range(count):
        drawn = Decoding(max_new_tokens=TOKENS[i % len(TOKENS)], temperature=temperature(i), **decoding)
        turns = (Message("user", TEXTS[i % len(TEXTS)]),)
        found.append(Call(Plan("m", drawn, turns, interventions=steer(i)), 0, seed=i))
    return found


def alone(model, asked, vectors=()):
    """Each call in a batch of its own, by plain `generate` of transformers."""
    plain = TransformersBackend(model, vectors, batching="plain")
    return [answers(plain, [c])[0] for c in asked]


def said(found):
    return [(g.raw, g.finish_reason, g.prompt_tokens, g.completion_tokens, g.receipt) for g in found]


@pytest.mark.parametrize("family", EVERY)
def test_rows_of_every_family_write_what_they_write_alone(loaded, family):
    model = loaded(family)
    backend = TransformersBackend(model)
    assert backend.capabilities.batching == "refill"
    asked = calls(temperature=lambda i: 1.3 * (i % 2))
    found = answers(backend, asked, batch_size=4)
    assert said(found) == said(alone(model, asked))
    assert len({g.completion_tokens for g in found}) > 5


@pytest.mark.parametrize("family", EVERY)
def test_steered_rows_of_every_family_write_what_they_write_alone(loaded, family):
    model = loaded(family)
    v, w, a = vector_of(model), vector_of(model, layer=1, seed=3), vector_of(model, "affine", layer=1)
    sites = ["residual", *(["attention", "mlp"] if model.model.config.get_text_config().model_type in FAMILIES else [])]
    kinds = [
        lambda site: (act(v, 1.5),),
        lambda site: (),
        lambda site: (act(w, -1.0, positions="completion", site=site), act(a, 0.5)),
        lambda site: (act(v, 2.0, positions="prompt"), act(w, 1.0, positions="span:4:40", site=site)),
        lambda site: (act(a, 1.0, positions="last_prompt"),),
    ]
    asked = calls(20, steer=lambda i: kinds[i % 5](sites[i % len(sites)]))
    backend = TransformersBackend(model, [v, w, a])
    found = answers(backend, asked, batch_size=4)
    assert said(found) == said(alone(model, asked, [v, w, a]))
    for g, call in zip(found, asked, strict=True):
        touches = json.loads(g.receipt)["touches"] if g.receipt else []
        assert len(touches) == len(call.plan.interventions)
        assert all(t["expected"] == t["observed"] for t in touches)


@pytest.mark.parametrize(
    "positions", ["all", "prompt", "completion", "last_prompt", "index:9", "index:-2", "span:6:11"]
)
@pytest.mark.parametrize("operator", available_operators())
def test_every_operator_and_selector_keeps_to_its_row_and_positions(loaded, operator, positions):
    model = loaded()
    v, w = vector_of(model, operator, layer=1), vector_of(model, layer=1, seed=5)
    # one thing after another at a place, summed additions among them, in an order that differs by row
    kinds = [
        (act(v, 0.8, positions=positions),),
        (act(w, 1.0), act(v, -0.6, positions=positions)),
        (),
        (act(w), act(w)),
    ]
    asked = calls(steer=lambda i: kinds[i % 4])
    found = answers(TransformersBackend(model, [v, w]), asked, batch_size=3)
    assert said(found) == said(alone(model, asked, [v, w]))


@pytest.mark.parametrize("above", [True, False])
def test_gates_are_decided_on_each_rows_own_prompt(loaded, above):
    model = loaded()
    condition, v, a = vector_of(model, seed=11), vector_of(model, layer=1), vector_of(model, "affine", layer=1)
    gate = Gate(condition.id, 0, 0.0, above)
    asked = calls(18, steer=lambda i: [(act(v, 1.5, gate=gate),), (act(a, 1.0, gate=gate), act(v)), ()][i // 6])
    found = answers(TransformersBackend(model, [condition, v, a]), asked, batch_size=4)
    assert said(found) == said(alone(model, asked, [condition, v, a]))
    is_open = [json.loads(g.receipt)["touches"][0]["open"] for g in found if g.receipt]
    assert len(set(is_open)) == 2


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_decodings_share_passes_and_draws_belong_to_the_row(loaded, batch_size):
    model = loaded()
    asked = calls(temperature=lambda i: [0.0, 1.5, 0.7][i % 3])
    asked += calls(temperature=lambda _: 1.0, top_p=0.8) + calls(temperature=lambda _: 1.2, min_p=0.05)
    backend = TransformersBackend(model)
    assert said(answers(backend, asked, batch_size)) == said(alone(model, asked))


def test_long_answers_outgrow_their_blocks_and_stay_the_same(loaded):
    model = loaded()
    tokens = [150, 3, 90, 40, 200, 8, 70, 120, 20, 5]
    asked = [
        replace(c, plan=replace(c.plan, decoding=Decoding(max_new_tokens=n)))
        for c, n in zip(calls(10), tokens, strict=True)
    ]
    assert said(answers(TransformersBackend(model), asked, batch_size=3)) == said(alone(model, asked))


def test_no_pass_carries_a_row_that_has_ended(loaded):
    asked = [replace(c, plan=replace(c.plan, decoding=Decoding(max_new_tokens=60, temperature=1.5))) for c in calls(40)]
    plain, refill = (TransformersBackend(loaded(), batching=b) for b in ("plain", "refill"))
    for backend in (plain, refill):
        # one token of twenty ends an answer
        backend.end_ids = lambda: set(range(0, 400, 20))
    found = answers(plain, asked, 8)
    assert said(found) == said(answers(refill, asked, 8))
    assert plain.stats.written == refill.stats.written == sum(g.completion_tokens for g in found)
    assert plain.stats.share < 0.8
    assert refill.stats.share == 1.0
    assert TransformersBackend(loaded()).stats.share == 1.0


def test_rows_are_handed_over_as_they_end(loaded):
    asked = calls(6)
    backend = TransformersBackend(loaded())
    order = [f.index for f in backend.generate(calls_of(backend, asked), batch_size=6)]
    lengths = [g.completion_tokens for g in answers(backend, asked)]
    assert sorted(order) == list(range(6))
    assert [lengths[i] for i in order] == sorted(lengths)


def test_calls_are_taken_a_bounded_window_ahead(loaded):
    backend = TransformersBackend(loaded())
    asked, taken = calls_of(backend, calls(60)), 0

    def source():
        nonlocal taken
        for call in asked:
            taken += 1
            yield call

    ended, most = 0, 0
    for _ in backend.generate(source(), batch_size=2):
        ended += 1
        most = max(most, taken - ended)
    assert ended == 60
    assert most <= 2 * WINDOW + 2


def test_an_answer_may_decide_on_later_calls_while_others_still_run(loaded):
    """Three rounds: each answer becomes the next prompt; one long row runs through all of them."""
    backend = TransformersBackend(loaded())

    def call(text, tokens):
        return calls_of(backend, [Call(Plan("m", Decoding(max_new_tokens=tokens), text=text), 0, 0)])[0]

    queue, under_way = [call("x", 60), call("a", 4)], 2

    def source():
        while queue or under_way:
            yield queue.pop(0) if queue else None

    order, texts, rounds = [], {}, 0
    for finished in backend.generate(source(), batch_size=4):
        assert isinstance(finished, Finished)
        order.append(finished.index)
        texts[finished.index] = finished.generation.raw
        under_way -= 1
        if finished.index != 0 and rounds < 2:
            rounds += 1
            queue.append(call(f"a{rounds}", 4))
            under_way += 1
    assert order == [1, 2, 3, 0]
    assert [texts[i] for i in range(4)] == [
        answer_all(backend, [call(t, n)])[0].raw for t, n in [("x", 60), ("a", 4), ("a1", 4), ("a2", 4)]
    ]


@pytest.mark.parametrize("batching", ["plain", "refill"])
def test_a_source_that_waits_for_nothing_is_an_error(loaded, batching):
    backend = TransformersBackend(loaded(), batching=batching)
    with pytest.raises(SteerworksError, match="waits for rows under way, and there are none"):
        list(backend.generate(iter([None, *calls_of(backend, calls(1))])))


def test_between_two_answers_the_model_is_free(loaded):
    model = loaded()
    v = vector_of(model)
    backend = TransformersBackend(model, [v])
    asked = calls(12, steer=lambda i: (act(v, 1.0 + i),) if i % 2 else ())
    expected = said(alone(model, asked, [v]))
    found = {}
    for finished in backend.generate(calls_of(backend, asked), batch_size=4):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())
        assert not torch.is_inference_mode_enabled()
        # the same model answers somebody else in between, steered and unsteered
        assert said(answers(backend, asked[:2])) == expected[:2]
        found[finished.index] = finished.generation
    assert said(found[i] for i in range(12)) == expected


def test_a_stream_that_is_given_up_leaves_the_model_as_it_was(loaded):
    model = loaded()
    v = vector_of(model)
    backend = TransformersBackend(model, [v])
    asked = calls(12, steer=lambda _: (act(v),))
    stream = backend.generate(calls_of(backend, asked), batch_size=4)
    next(stream)
    stream.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())
    assert said(answers(backend, asked)) == said(alone(model, asked, [v]))


def test_overlong_prompts_are_answered_beside_others(loaded):
    backend = TransformersBackend(loaded())
    asked = calls(5)
    long = replace(asked[2], plan=replace(asked[2].plan, messages=(Message("user", "xyz " * 300),)))
    found = answers(backend, [*asked[:2], long, *asked[3:]], batch_size=2)
    assert [g.finish_reason == "overlong" for g in found] == [False, False, True, False, False]
    assert said(found[:2]) == said(alone(loaded(), asked[:2]))
    assert answers(backend, [long])[0].completion_tokens == 0


def test_seconds_add_up_to_the_time_of_the_passes(loaded):
    ticks = iter(range(10_000))
    backend = TransformersBackend(loaded(), clock=lambda: float(next(ticks)))
    found = answers(backend, calls(), batch_size=4)
    # the clock is read twice a pass, so each pass takes a second
    assert sum(g.seconds for g in found) == pytest.approx(backend.stats.passes)


def test_a_batch_holds_at_least_one_row(loaded):
    with pytest.raises(SteerworksError, match="batch_size = 0"):
        TransformersBackend(loaded()).generate([], batch_size=0)
    assert list(TransformersBackend(loaded()).generate([])) == []


def test_a_model_whose_cache_cannot_be_refilled_says_so_and_runs_plain_batches(loaded):
    import transformers

    from steer_core.models.info import ModelInfo

    torch.manual_seed(0)
    model = loaded()
    config = transformers.MambaConfig(
        vocab_size=len(model.tokenizer),
        hidden_size=16,
        state_size=4,
        num_hidden_layers=2,
        pad_token_id=0,
        eos_token_id=1,
    )
    mamba = replace(model, model=transformers.MambaForCausalLM(config).eval(), info=ModelInfo(256, True))
    backend = TransformersBackend(mamba)
    assert backend.capabilities.batching == "plain"
    assert "'mamba'" in backend.capabilities.batching_reason
    assert [g.completion_tokens > 0 for g in answers(backend, calls(3))] == [True] * 3
    with pytest.raises(SteerworksError, match="cannot take each other's places: models of type 'mamba'"):
        TransformersBackend(mamba, batching="refill")
    assert TransformersBackend(model).capabilities.batching_reason == ""


def test_rows_on_both_sides_of_a_longrope_boundary_answer_and_score_as_they_do_alone(loaded):
    import transformers

    torch.manual_seed(0)
    model = loaded()
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [6.0] * 4, "rope_theta": 10000.0}
    config = transformers.Phi3Config(
        vocab_size=len(model.tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, bos_token_id=None,
        eos_token_id=1, original_max_position_embeddings=40, rope_parameters=rope,
    )  # fmt: skip
    phi = transformers.Phi3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in phi.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
    model = replace(model, model=phi)
    v = vector_of(model)
    backend = TransformersBackend(model, [v])
    assert "longrope" in backend.capabilities.batching_reason
    # before the boundary, across it, and behind it
    texts = ["a", "x " * 12, "x " * 14, "so that it is longer", "x " * 30, "the " * 25]
    plans = [Plan("m", Decoding(max_new_tokens=14), messages=(Message("user", t),)) for t in texts]
    asked = [Call(p, 0, i) for i, p in enumerate(plans)]
    lengths = [backend.prompt_tokens(p) for p in plans]
    assert min(lengths) + 14 <= 40 < max(lengths)
    assert any(n <= 40 < n + 14 for n in lengths)
    assert said(answers(backend, asked)) == said(alone(model, asked))
    steered = [replace(p, interventions=(act(v, 1.0),)) for p in plans]
    for rows in (of(backend, plans), of(backend, steered)):
        for together, (row, text) in zip(
            backend.score(rows, ["longer text"] * 6), [(r, "longer text") for r in rows], strict=True
        ):
            assert together == pytest.approx(backend.score([row], [text])[0], abs=1e-5)


@pytest.mark.parametrize("batching", ["plain", "refill"])
def test_a_plan_of_another_model_is_refused_by_name(loaded, batching):
    model = loaded()
    backend = TransformersBackend(model, batching=batching)
    ran = []
    handle = model.model.register_forward_pre_hook(lambda *_: ran.append(1))
    odd = calls(1)
    with pytest.raises(SteerworksError, match=rf"a plan is of model m, and this backend runs {model.spec.identity}"):
        backend.generate([*calls_of(backend, calls(3)), *odd])
    assert not ran  # of a list, not even what the model allows is measured
    _ = backend.capabilities, backend._regime
    ran.clear()
    with pytest.raises(SteerworksError, match="a plan is of model m"):
        list(backend.generate(iter(odd)))
    with pytest.raises(SteerworksError, match="a plan is of model m"):
        backend.score([odd[0].plan], ["x"])
    handle.remove()
    assert not ran


@pytest.mark.parametrize("batching", ["plain", "refill"])
@pytest.mark.parametrize("positions", ["all", "completion"])
def test_activations_that_are_no_numbers_are_an_error_that_names_row_operator_and_place(
    loaded, monkeypatch, batching, positions
):
    from steer_core.steering import operators
    from steer_core.steering.operators import load_operator

    model = loaded()
    v, w = vector_of(model, "ablate", layer=1), vector_of(model)
    broken = replace(load_operator("ablate"), apply=lambda hidden, *_: hidden / 0.0)
    real = load_operator
    for module in ("batch", "running", "hooks"):
        monkeypatch.setattr(
            f"steer_core.steering.{module}.load_operator", lambda name: broken if name == "ablate" else real(name)
        )
    assert operators.load_operator("ablate") is not broken
    backend = TransformersBackend(model, [v, w], batching=batching)
    steer = lambda i: (act(w), act(v, positions=positions, site="mlp")) if i == 4 else (act(w),)  # noqa: E731
    message = r"row 4: operator 'ablate' at layer 1, site 'mlp', made activations that are not finite"
    with pytest.raises(SteerworksError, match=message):
        answers(backend, calls(7, steer), batch_size=7)
    # the backend is good for others afterwards
    assert said(answers(backend, calls(3))) == said(alone(model, calls(3)))


def test_strengths_that_the_model_overflows_on_are_an_error_too(loaded):
    """Each addition is finite, and the stream that sums the two is not."""
    model = loaded()
    v = vector_of(model)
    backend = TransformersBackend(model, [v])
    most = 3e38 / float(np.abs(v.direction).max())
    asked = calls(3, lambda _: (act(v, most, site="attention"), act(v, most, site="mlp")))
    message = (
        r"row \d: operator 'add' at layer 0, site '(attention|mlp)', made activations of size 3e\+38, and the model "
        "makes of them what is not finite"
    )
    with pytest.raises(SteerworksError, match=message):
        answers(backend, asked)
    with pytest.raises(SteerworksError, match=message):
        backend.score([c.plan for c in calls_of(backend, asked)], ["so that"] * 3)


def test_damaged_weights_are_an_error_of_the_model(tiny_model):
    model = load_model(ModelSpec(name="tiny", source=str(tiny_model("llama", True))))
    with torch.no_grad():
        model.model.lm_head.weight[3] = float("nan")
    with pytest.raises(SteerworksError, match="row 0: the model's logits .* no intervention made them so"):
        answers(TransformersBackend(model), calls(1))


def test_half_precision_streams_with_receipts(loaded, tiny_model):
    spec = ModelSpec(name="tiny", source=str(tiny_model("llama", True)), dtype="bfloat16")
    model = load_model(spec)
    v = vector_of(model)
    found = answers(TransformersBackend(model, [v]), calls(9, lambda i: (act(v, float(i)),) if i else ()), batch_size=3)
    assert [g.receipt is None for g in found] == [True] + [False] * 8


def test_the_embedded_model_writes_nine_of_ten_row_steps_and_the_same_answers():
    from steer_core.models.embedded.examples import draw_example

    model = load_model(ModelSpec(name="embedded", source="embedded"))
    rng = np.random.default_rng(0)
    turns = [e.messages for e in (draw_example(rng) for _ in range(150)) if e.messages][:80]
    plans = [
        Plan(model.spec.identity, Decoding(max_new_tokens=96), messages=tuple(Message(*turn) for turn in t))
        for t in turns
    ]
    asked = [Call(p, 0, i) for i, p in enumerate(plans)]
    plain, refill = (TransformersBackend(model, batching=b) for b in ("plain", "refill"))
    assert said(answer_all(plain, asked, 16)) == said(answer_all(refill, asked, 16))
    assert plain.stats.share < 0.85
    assert refill.stats.share >= 0.9
