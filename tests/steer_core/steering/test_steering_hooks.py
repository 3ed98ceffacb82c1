"""The contract of steering a batch: positions, rows, order, gates, receipts and refusals."""

import numpy as np
import pytest
import torch
from steering_worlds import PROMPTS, VOCABULARY, WIDTH, act, batch, decode, hidden_after, steering, tiny, vector

from steer_core.steering.hooks import Steering
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.operators import available_operators
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError

SELECTORS = ["all", "prompt", "completion", "last_prompt", "index:2", "index:-2", "index:9", "span:1:3", "span:4:12"]
LENGTHS = [len(p) for p in PROMPTS]


@pytest.fixture(scope="module")
def model():
    return tiny("llama")


def fed(tokens, lengths=LENGTHS):
    return [n + tokens - 1 for n in lengths]


def by_hand(model, layer, change, prompts, tokens):
    """Greedy decoding, every row alone and without a cache; `change(stream [tokens, width], row)` after a layer."""
    found = []
    for row, prompt in enumerate(prompts):
        ids = list(prompt)
        handle = model.model.layers[layer].register_forward_hook(lambda _m, _a, out, row=row: change(out[0], row)[None])
        for _ in range(tokens):
            with torch.inference_mode():
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        handle.remove()
        found.append(ids[len(prompt) :])
    return torch.tensor(found)


@pytest.mark.parametrize("selector", SELECTORS)
def test_cached_uncached_and_by_hand_give_the_same_tokens(model, selector):
    v = vector(layer=1)
    steer = steering(model, v)
    rows = [(act(v, c, positions=selector),) for c in (1.0, -1.0, 2.0, 0.5)]
    cached, logits, applied = decode(model, steer, rows)
    uncached, others, again = decode(model, steer, rows, cache=False)
    assert torch.equal(cached, uncached)
    torch.testing.assert_close(logits, others, atol=1e-3, rtol=1e-3)
    assert applied.receipts(fed(8)) == again.receipts(fed(8))

    def change(stream, row):
        new, n = stream.clone(), LENGTHS[row]
        whole = slice(0, None)
        span = {
            "all": whole,
            "prompt": slice(0, n),
            "completion": slice(n, None),
            "last_prompt": slice(n - 1, n),
            "index:2": slice(2, 3),
            "index:-2": slice(n - 2, n - 1) if n >= 2 else slice(0, 0),
            "index:9": slice(9, 10),
            "span:1:3": slice(1, 3),
            "span:4:12": slice(4, 12),
        }[selector]
        new[span] += rows[row][0].coefficient * torch.tensor(v.direction)
        return new

    assert torch.equal(cached, by_hand(model, 1, change, PROMPTS, 8))


@pytest.mark.parametrize("operator", available_operators())
def test_every_operator_decodes_alike_with_and_without_a_cache(model, operator):
    v = vector(operator, layer=0)
    steer = steering(model, v)
    rows = [(act(v, c, positions=p),) for c, p in [(1.0, "completion"), (-0.7, "all"), (35.0, "prompt")]] + [()]
    cached, logits, applied = decode(model, steer, rows)
    uncached, others, again = decode(model, steer, rows, cache=False)
    assert torch.equal(cached, uncached)
    torch.testing.assert_close(logits, others, atol=2e-3, rtol=1e-3)
    assert applied.receipts(fed(8)) == again.receipts(fed(8))
    plain, unsteered, _ = decode(model, steer, [()] * 4)
    assert torch.equal(cached[3], plain[3])
    assert all((logits - unsteered).abs().amax(dim=(0, 2))[:3] > 1e-2)


def test_no_interventions_are_the_unsteered_model_without_a_hook(model):
    steer = steering(model, vector())
    hooked = lambda: any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())  # noqa: E731
    with steer.apply([()] * 4, LENGTHS):
        assert not hooked()
    with steer.apply([(act(vector()),), (), (), ()], LENGTHS):
        assert hooked()
    assert not hooked()
    steered, _, applied = decode(model, steer, [()] * 4)
    ids, mask = batch(PROMPTS)
    plain = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(steered, plain[:, ids.shape[1] :])
    assert applied.receipts(fed(8)) == [None] * 4


def test_hooks_are_gone_when_the_model_fails(model):
    steer = steering(model, vector())
    with pytest.raises(IndexError), steer.apply([(act(vector()),)], [3]):
        model(input_ids=torch.tensor([[VOCABULARY + 5] * 3]), attention_mask=torch.ones(1, 3))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("operator", available_operators())
@pytest.mark.parametrize("site", ["residual", "mlp"])
def test_rows_without_interventions_are_left_bit_for_bit(model, operator, site):
    v = vector(operator, layer=1)
    ids = torch.tensor([PROMPTS[0], PROMPTS[0]])
    before = hidden_after(model, 1, ids)
    after = hidden_after(
        model, 1, ids, steering(model, v), [(), (act(v, 25.0, site=site, positions="span:2:6"),)], [7, 7]
    )
    assert torch.equal(before.view(torch.int32)[0], after.view(torch.int32)[0])
    others = [0, 1, 6]
    assert torch.equal(before.view(torch.int32)[1, others], after.view(torch.int32)[1, others])
    assert not torch.equal(before[1, 2:6], after[1, 2:6])


def test_nothing_added_is_nothing_changed_even_for_negative_zeros():
    from steer_core.steering.batch import NOTHING

    odd = torch.tensor([-0.0, 0.0, 1.0, -1e-45, float("inf"), float("nan")])
    assert torch.equal((odd + NOTHING).view(torch.int32), odd.view(torch.int32))


def test_a_batch_of_strengths_is_the_single_runs_token_by_token(model):
    v, w = vector(layer=0), vector(layer=1, seed=3)
    steer = steering(model, v, w)
    strengths = [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
    rows = [(act(v, c), act(w, -c, positions="completion")) for c in strengths]
    together, _, applied = decode(model, steer, rows, [PROMPTS[0]] * 8, tokens=12)
    alone = [decode(model, steer, [row], [PROMPTS[0]], tokens=12)[0][0] for row in rows]
    assert torch.equal(together, torch.stack(alone))
    assert len({tuple(t.tolist()) for t in together}) > 4
    assert len({r.digest for r in applied.receipts([7 + 11] * 8)}) == 8


def test_rows_of_different_lengths_vectors_operators_and_places_answer_as_they_do_alone(model):
    v, w, a, r = vector(), vector(layer=1, seed=2), vector("affine", layer=1), vector("rotate", layer=0)
    steer = steering(model, v, w, a, r)
    rows = [
        (act(v, 1.0), act(w, 1.0, site="mlp"), act(a, 0.5)),
        (act(a, 1.0, positions="prompt"), act(w, 2.0, positions="completion")),
        (),
        (act(r, 120.0, positions="span:2:20"), act(v, -1.0, layer=1, site="attention")),
    ]
    together, _, applied = decode(model, steer, rows, tokens=10)
    for row, prompt, tokens in zip(rows, PROMPTS, together, strict=True):
        assert torch.equal(decode(model, steer, [row], [prompt], tokens=10)[0][0], tokens)
    assert [r is None for r in applied.receipts(fed(10))] == [False, False, True, False]


def test_interventions_of_a_place_act_in_their_order(model):
    v, p = vector(layer=1), vector("ablate", layer=1)  # the same direction: what is ablated last is gone
    ids = torch.tensor([PROMPTS[0]])
    unit = torch.tensor(p.direction) / p.norm
    steer = steering(model, v, p)
    last = hidden_after(model, 1, ids, steer, [(act(v, 1.0), act(p, 1.0))], [7])
    first = hidden_after(model, 1, ids, steer, [(act(p, 1.0), act(v, 1.0))], [7])
    torch.testing.assert_close(last @ unit, torch.zeros(1, 7), atol=1e-4, rtol=0)
    torch.testing.assert_close(first @ unit, torch.full((1, 7), v.norm), atol=1e-4, rtol=1e-4)
    # in one batch each row keeps its own order
    both = hidden_after(
        model, 1, ids.repeat(2, 1), steer, [(act(v, 1.0), act(p, 1.0)), (act(p, 1.0), act(v, 1.0))], [7, 7]
    )
    torch.testing.assert_close(both, torch.cat([last, first]), atol=1e-5, rtol=1e-5)


def test_additions_of_a_place_sum_where_each_applies(model):
    v, w = vector(layer=1), vector(layer=1, seed=5)
    ids = torch.tensor([PROMPTS[0]])
    row = (act(v, 1.0), act(w, 2.0), act(v, 0.5, positions="last_prompt"), act(w, 1.0, positions="last_prompt"))
    moved = hidden_after(model, 1, ids, steering(model, v, w), [row], [7]) - hidden_after(model, 1, ids)
    everywhere = torch.tensor(v.direction + 2 * w.direction)
    at_last = everywhere + torch.tensor(0.5 * v.direction + w.direction)
    torch.testing.assert_close(moved[0, :6], everywhere.expand(6, WIDTH), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved[0, 6], at_last, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("operator", ["add", "affine"])
def test_right_and_left_padding_steer_the_same_tokens(model, operator):
    v = vector(operator, layer=0)
    steer = steering(model, v)
    rows = [(act(v, 1.0, positions=p),) for p in ("all", "index:-1", "completion", "prompt")]
    lengths = [4, 2, 9, 1]
    kept = {}
    for left in (True, False):
        ids, mask = batch(PROMPTS, left)
        with torch.inference_mode(), steer.apply(rows, lengths) as applied:
            position = (mask.cumsum(-1) - 1).clamp_min(0)
            logits = model(input_ids=ids, attention_mask=mask, position_ids=position, use_cache=False).logits
        kept[left] = [row[m.bool()] for row, m in zip(logits, mask, strict=True)], applied.receipts(LENGTHS)
    for one, other in zip(kept[True][0], kept[False][0], strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert kept[True][1] == kept[False][1]
    assert [r.touches[0].observed for r in kept[True][1]] == [7, 1, 5, 1]


def gate_world(model):
    """A condition between the cosines of the prompts, so that some rows are steered and some are not."""
    condition = vector(seed=11)
    cosines = []
    for prompt in PROMPTS:
        stream = hidden_after(model, 0, torch.tensor([prompt]))[0]
        cosines.append(float(torch.cosine_similarity(stream.mean(0), torch.tensor(condition.direction), dim=0)))
    middle = float(np.mean(sorted(cosines)[1:3]))
    return condition, middle, [c >= middle for c in cosines], cosines


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize(("layer", "site"), [(0, "residual"), (1, "attention"), (1, "residual")])
def test_a_gate_opens_for_the_rows_whose_prompt_meets_it(model, above, layer, site):
    condition, threshold, holds, cosines = gate_world(model)
    v = vector(layer=layer)
    steer = steering(model, v, condition)
    gate = Gate(condition.id, 0, threshold, above)
    rows = [(act(v, 1.5, site=site, gate=gate),)] * 4
    gated, logits, applied = decode(model, steer, rows)
    steered, _, _ = decode(model, steer, [(act(v, 1.5, site=site),)] * 4)
    plain, bare, _ = decode(model, steer, [()] * 4)
    is_open = [h is above for h in holds]
    assert sum(is_open) == 2
    for r in range(4):
        assert torch.equal(gated[r], (steered if is_open[r] else plain)[r])
        if not is_open[r]:
            assert torch.equal(logits[:, r].view(torch.int32), bare[:, r].view(torch.int32))
    receipts = applied.receipts(fed(8))
    assert [r.touches[0].open for r in receipts] == is_open
    assert [r.touches[0].observed for r in receipts] == [
        n + 7 if o else 0 for n, o in zip(LENGTHS, is_open, strict=True)
    ]
    found = applied.decisions[gate].cosines
    assert [found[r] for r in range(4)] == pytest.approx(cosines, abs=1e-4)
    uncached, _, again = decode(model, steer, rows, cache=False)
    assert torch.equal(gated, uncached)
    assert again.receipts(fed(8)) == receipts


def test_a_gate_sees_the_stream_before_the_interventions_of_its_layer(model):
    condition, threshold, holds, _ = gate_world(model)
    v = vector(layer=0, norm=100.0, seed=11)  # would turn every row towards the condition
    steer = steering(model, v, condition)
    gate = Gate(condition.id, 0, threshold)
    rows = [(act(v, 1.0), act(v, 1.0, gate=gate))] * 4
    _, _, applied = decode(model, steer, rows, tokens=2)
    assert [r.touches[1].open for r in applied.receipts(fed(2))] == holds


def test_gated_and_other_rows_share_a_batch(model):
    condition, threshold, _, _ = gate_world(model)
    v, a = vector(layer=1), vector("affine", layer=1)
    steer = steering(model, v, a, condition)
    gate = Gate(condition.id, 0, threshold)
    rows = [(act(v, 1.0, gate=gate), act(a, 1.0, gate=gate)), (act(v, 1.0),), (), (act(a, -1.0, gate=gate),)]
    together, _, _ = decode(model, steer, rows)
    for row, prompt, tokens in zip(rows, PROMPTS, together, strict=True):
        assert torch.equal(decode(model, steer, [row], [prompt])[0][0], tokens)


def test_a_prompt_read_in_pieces_cannot_be_gated(model):
    condition = vector(seed=11)
    v = vector(layer=1)
    steer = steering(model, v, condition)
    ids, mask = torch.tensor([PROMPTS[0]]), torch.ones(1, 7)
    with (
        steer.apply([(act(v, gate=Gate(condition.id, 0, 0.0)),)], [7]),
        pytest.raises(SteerworksError, match="needs the whole prompt in one forward pass"),
    ):
        model(input_ids=ids[:, :4], attention_mask=mask[:, :4])


def test_a_prompt_read_in_pieces_is_steered_at_the_same_tokens(model):
    from transformers import DynamicCache

    v = vector(layer=0)
    steer = steering(model, v)
    row = (act(v, 1.0, positions="span:3:6"),)
    ids, mask = torch.tensor([PROMPTS[0]]), torch.ones(1, 7)
    with torch.inference_mode(), steer.apply([row], [7]):
        whole = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    cache = DynamicCache(config=model.config)
    with torch.inference_mode(), steer.apply([row], [7]) as applied:
        pieces = [
            model(input_ids=ids[:, a:b], attention_mask=mask[:, :b], past_key_values=cache).logits
            for a, b in [(0, 4), (4, 5), (5, 6), (6, 7)]
        ]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=1e-4)
    assert applied.receipts([7])[0].touches[0].observed == 3


def test_receipts_count_each_row_exactly_when_rows_stop_early(model):
    v = vector(layer=0)
    steer = steering(model, v)
    rows = [(act(v, 1.0), act(v, 0.5, positions="completion", site="mlp"))] * 4
    free, _, _ = decode(model, steer, rows, tokens=10)
    stop = int(free[0, 3])  # a token that ends row 0 early
    written, _, applied = decode(model, steer, rows, tokens=10, stop=stop)
    used = [(row == stop).nonzero()[0].item() + 1 if (row == stop).any() else 10 for row in written]
    assert used[0] <= 4
    assert max(used) > used[0]
    receipts = applied.receipts([n + u - 1 for n, u in zip(LENGTHS, used, strict=True)])
    counts = [[t.observed for t in r.touches] for r in receipts]
    assert counts == [[n + u - 1, u - 1] for n, u in zip(LENGTHS, used, strict=True)]


def test_a_receipt_that_does_not_add_up_names_row_and_layer(model):
    v = vector(layer=1)
    _, _, applied = decode(model, steering(model, v), [(), (act(v),), (), ()])
    with pytest.raises(
        SteerworksError,
        match=r"row 1: the intervention at layer 1, site 'residual' .* touched 99 tokens and touched 10",
    ):
        applied.receipts([99] * 4)


def test_a_model_that_never_ran_gives_no_receipt(model):
    v, condition = vector(layer=1), vector(seed=4)
    steer = steering(model, v, condition)
    with steer.apply([(act(v),)], [3]) as applied:
        pass
    with pytest.raises(SteerworksError, match="should have touched 3 tokens and touched 0"):
        applied.receipts([3])
    with steer.apply([(act(v, gate=Gate(condition.id, 0, 0.5)),)], [3]) as applied:
        pass
    with pytest.raises(SteerworksError, match="row 0: its gate at layer 0 was never decided"):
        applied.receipts([3])


V = vector()
HALF = SteeringVector("c", "add", 0, {"direction": np.ones((1, 16), np.float32)}, {}, "tiny")
FOREIGN = SteeringVector("c", "add", 0, {"direction": np.ones((1, WIDTH), np.float32)}, {}, "another")
MAPS = vector("transport")
REFUSALS = [
    (Intervention("add", "nowhere", 0, 1.0), "vector nowhere is not loaded; 4 others are"),
    (act(HALF), "has width 16; the model's hidden size is 32"),
    (act(FOREIGN), "fitted on model another, not on tiny"),
    (act(V, layer=2), "layer 2 is out of range: this llama model has layers 0 to 1"),
    (act(V, layer=-1), "layer -1 is out of range"),
    (Intervention("nudge", V.id, 0, 1.0), "unknown operator 'nudge'"),
    (Intervention("rotate", V.id, 0, 1.0), "it lacks plane"),
    (act(V, float("nan")), "coefficient of 'concept' at layer 0 is nan"),
    (act(V, gate=Gate(V.id, 1, 0.0)), "gate at layer 1 is decided too late for an intervention at layer 0"),
    (act(V, site="mlp", gate=Gate(V.id, 0, 0.0)), "gate at layer 0 is decided too late .* layer 0, site 'mlp'"),
    (act(V, gate=Gate(MAPS.id, 0, 0.0)), "condition vector 'concept' .transport. has no direction"),
    (act(V, gate=Gate("gone", 0, 0.0)), "vector gone is not loaded"),
]


@pytest.mark.parametrize(("intervention", "message"), REFUSALS)
def test_what_cannot_be_applied_is_refused_before_anything_runs(model, intervention, message):
    steer = Steering(model, {v.id: v for v in (V, HALF, FOREIGN, MAPS)}, "tiny")
    ran = []
    handle = model.register_forward_pre_hook(lambda *_: ran.append(1))
    with pytest.raises(SteerworksError, match=message), steer.apply([(), (intervention,)], [1, 1]):
        raise AssertionError("the context was entered")
    handle.remove()
    assert not ran


def test_an_unknown_selector_is_refused(model):
    with pytest.raises(ConfigError, match="positions 'middle' are unknown"):
        steering(model, V).check((act(V, positions="middle"),))


def test_passes_that_do_not_fit_the_batch_are_refused(model):
    steer = steering(model, V)
    ids, mask = batch(PROMPTS)
    with steer.apply([(act(V),)] * 3, [1, 1, 1]), pytest.raises(SteerworksError, match="4 rows; .* given for 3"):
        model(input_ids=ids, attention_mask=mask)
    holed = mask.clone()
    holed[2, 5] = 0
    with steer.apply([(act(V),)] * 4, LENGTHS), pytest.raises(SteerworksError, match="mask of a row has a gap"):
        model(input_ids=ids, attention_mask=holed)
    with steer.apply([(act(V),)] * 4, LENGTHS):
        model(input_ids=ids, attention_mask=mask)
        with pytest.raises(SteerworksError, match="padding changed"):
            model(input_ids=ids, attention_mask=torch.ones_like(mask))
    with steer.apply([(act(V),)] * 4, LENGTHS), pytest.raises(SteerworksError, match="must have shape .rows, past"):
        model(input_ids=ids, attention_mask=torch.zeros(4, 1, 14, 14))
    with steer.apply([(act(V),)] * 4, LENGTHS), pytest.raises(SteerworksError, match="was fed 14 tokens out of turn"):
        model.model(input_ids=ids, attention_mask=mask)
    with pytest.raises(ValueError, match="1 rows of interventions for 2 prompts"), steer.apply([()], [1, 1]):
        pass


def test_decoding_after_right_padding_is_refused(model):
    from transformers import DynamicCache

    ids, mask = batch(PROMPTS, left=False)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode(), steering(model, V).apply([(act(V),)] * 4, LENGTHS):
        model(input_ids=ids, attention_mask=mask, past_key_values=cache)
        with pytest.raises(SteerworksError, match="has a gap"):
            model(
                input_ids=ids[:, :1],
                attention_mask=torch.cat([mask, torch.ones(4, 1, dtype=mask.dtype)], dim=1),
                past_key_values=cache,
            )


def test_a_second_generation_in_one_context_is_refused(model):
    steer = steering(model, V)
    ids, mask = batch(PROMPTS)
    with torch.inference_mode(), steer.apply([(act(V),)] * 4, LENGTHS):
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)
        with pytest.raises(SteerworksError, match="open a context for each batch"):
            model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)


def test_the_trunk_alone_can_be_steered(model):
    v = vector(layer=0)
    trunk = Steering(model.model, {v.id: v}, None)
    ids = torch.tensor([PROMPTS[0]])
    with torch.inference_mode(), trunk.apply([(act(v),)], [7]) as applied:
        last = model.model(input_ids=ids).last_hidden_state
    with torch.inference_mode(), steering(model, v).apply([(act(v),)], [7]):
        logits = model(input_ids=ids).logits
        torch.testing.assert_close(model.lm_head(last), logits)
    assert applied.receipts([7])[0].touches[0].observed == 7


@pytest.mark.parametrize("operator", ["add", "affine"])
def test_models_of_half_precision_stay_so(operator):
    model = tiny("llama").to(torch.bfloat16)
    v = vector(operator, layer=0)
    rows = [(act(v, 1.0, positions="completion"),), (), (act(v, -1.0),), ()]
    _, logits, applied = decode(model, steering(model, v), rows)
    _, bare, _ = decode(model, steering(model, v), [()] * 4)
    assert applied.receipts(fed(8))[0].touches[0].observed == 7
    assert (logits[1:, 0] - bare[1:, 0]).abs().max() > 0.1
    assert torch.equal(logits[:, 1], bare[:, 1])
