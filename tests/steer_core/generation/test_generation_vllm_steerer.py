"""Steering on flat batches, as vLLM runs them: the operators of the hooks, token by token, counted where they act."""

import json

import numpy as np
import pytest
import torch

from steer_core.generation.vllm_worker.catalogue import operator
from steer_core.generation.vllm_worker.spec import SpecError, read_spec, write_spec
from steer_core.generation.vllm_worker.steerer import Steerer

WIDTH = 8


@pytest.fixture
def steerer():
    made = Steerer(4, ("residual", "mlp"), WIDTH, torch.float32, torch.device("cpu"))
    torch.manual_seed(0)
    for name in ("a", "b"):
        made.add_vector(name, {"direction": torch.randn(1, WIDTH)}, {})
    made.add_vector("plane", {"plane": torch.linalg.qr(torch.randn(WIDTH, 2))[0].T}, {"adaptive": 1.0})
    return made


def spec(*edits, nonce="n"):
    plain = {"operator": "add", "vector": "a", "layer": 1, "coefficient": 1.0}
    return read_spec(write_spec([{**plain, **e} for e in edits], nonce))


def run(steerer, requests, layer=1, site="residual", split=True):
    """One pass over (request, computed, scheduled) rows, padded by three: the stream before and after."""
    names, computed, scheduled = zip(*requests, strict=True)
    steerer.begin(names, np.array(computed, dtype=np.int64), np.array(scheduled, dtype=np.int64))
    hidden = torch.randn(sum(scheduled) + 3, WIDTH)
    residual = torch.randn_like(hidden) if split else None
    before = hidden.clone(), None if residual is None else residual.clone()
    for lane in steerer.active.get((layer, site), ()):
        lane.act(hidden, residual, steerer.tokens)
    steerer.end()
    return before, (hidden, residual)


def stream(pair):
    return pair[0] if pair[1] is None else pair[0] + pair[1]


def receipt(steerer, nonce="n"):
    (found,) = steerer.receipts([nonce])[nonce]
    return found


@pytest.mark.parametrize("split", [True, False])
def test_a_token_is_steered_by_its_own_position_and_others_are_left_bit_for_bit(steerer, split):
    steerer.join("x", spec({"positions": "span:3:6", "coefficient": 2.0}), prompt=10, cached=0)
    before, after = run(steerer, [("other", 0, 4), ("x", 2, 3), ("more", 7, 1)], split=split)
    # x reads positions 2, 3, 4 in rows 4, 5, 6
    moved = stream(after) - stream(before)
    assert torch.allclose(moved[5:7], 2.0 * steerer.vectors["a"].tensors["direction"].expand(2, -1), atol=1e-6)
    left = [0, 1, 2, 3, 4, 7, 8, 9, 10]
    assert torch.equal(after[0][left], before[0][left])
    assert not split or torch.equal(after[1][left], before[1][left])


def test_other_operators_do_what_they_do_in_the_hooks(steerer):
    steerer.join("x", spec({"operator": "rotate", "vector": "plane", "coefficient": 70.0}), prompt=5, cached=0)
    before, after = run(steerer, [("x", 0, 5)])
    vector = steerer.vectors["plane"]
    want = operator("rotate").apply(
        stream(before)[None, :5], vector.tensors, vector.scalars, torch.full((1, 1, 1), 70.0)
    )
    assert torch.allclose(stream(after)[:5], want[0], atol=1e-6)
    assert torch.equal(stream(after)[5:], stream(before)[5:])


def test_edits_of_a_place_act_in_their_order(steerer):
    edits = ({"coefficient": 3.0}, {"operator": "ablate"}, {"vector": "b"})
    steerer.join("x", spec(*edits), prompt=5, cached=0)
    before, after = run(steerer, [("x", 0, 5)])
    a, b = (steerer.vectors[n].tensors["direction"] for n in "ab")
    added = stream(before)[:5] + 3.0 * a
    unit = a / a.norm()
    assert torch.allclose(stream(after)[:5], added - added @ unit.T * unit + b, atol=1e-5)


def test_other_places_are_left_alone(steerer):
    steerer.join("x", spec({"site": "mlp"}), prompt=5, cached=0)
    for layer, site in ((1, "residual"), (0, "mlp"), (2, "mlp")):
        before, after = run(steerer, [("x", 0, 5)], layer, site)
        assert torch.equal(stream(after), stream(before))


def test_what_runs_without_a_beginning_is_left_alone(steerer):
    steerer.join("x", spec({}), prompt=5, cached=0)
    run(steerer, [("x", 0, 5)])
    assert not steerer.active


def test_receipts_count_each_position_once_though_a_request_is_preempted_and_read_again(steerer):
    steerer.join("x", spec({}, {"positions": "completion", "layer": 2}), prompt=5, cached=2)
    for computed, scheduled in ((2, 3), (5, 1), (6, 1), (2, 5), (7, 1)):
        steerer.begin(["x"], np.array([computed]), np.array([scheduled]))
        for lanes in steerer.active.values():
            for lane in lanes:
                lane.act(torch.randn(scheduled, WIDTH), None, steerer.tokens)
        steerer.end()
    found = receipt(steerer)
    assert (found["prompt"], found["cached"], found["reached"], found["fed"]) == (5, 2, 8, 11)
    assert [(t["planned"], t["observed"]) for t in found["touches"]] == [(6, 6), (3, 3)]


def test_a_pass_that_never_came_to_a_layer_is_seen(steerer):
    steerer.join("x", spec({}), prompt=5, cached=0)
    steerer.begin(["x"], np.array([0]), np.array([5]))
    steerer.end()
    (touch,) = receipt(steerer)["touches"]
    assert (touch["planned"], touch["observed"]) == (5, 0)


def test_slots_grow_are_used_again_and_stay_apart(steerer):
    draw = np.random.default_rng(0)
    alive = {}
    for step in range(300):
        for _ in range(draw.integers(0, 6)):
            name = f"r{step}-{len(alive)}"
            alive[name] = float(draw.normal())
            steerer.join(name, spec({"coefficient": alive[name]}, nonce=name), prompt=1, cached=0)
        for name in [n for n in alive if draw.random() < 0.02]:
            steerer.leave(name)
            del alive[name]
        if not alive:
            continue
        names = list(alive)
        draw.shuffle(names)
        before, after = run(steerer, [(n, 0, 1) for n in names])
        moved = (stream(after) - stream(before))[: len(names)]
        want = torch.tensor([alive[n] for n in names])[:, None] * steerer.vectors["a"].tensors["direction"]
        assert torch.allclose(moved, want, atol=1e-5)
    assert len(alive) > 65
    assert len(steerer.requests) == len(alive)


def test_a_receipt_is_given_once_and_kept_until_then(steerer):
    for name in ("asked late", "asked early", "went on"):
        steerer.join(name, spec({}, nonce=name), prompt=5, cached=0)
        run(steerer, [(name, 0, 5)])
    # the answer is complete, and the worker has not heard of it
    assert len(steerer.receipts(["asked early", "went on", "nobody"])) == 2
    run(steerer, [("went on", 5, 1)])
    for name in ("asked late", "asked early", "went on", "never came"):
        steerer.leave(name)
    found = steerer.receipts(["asked late", "asked early", "went on"])
    assert json.dumps(found)
    assert {n: r[0]["reached"] for n, r in found.items()} == {"asked late": 5, "went on": 6}
    assert steerer.receipts(["asked late", "went on"]) == {}


def test_an_unknown_vector_changes_nothing(steerer):
    with pytest.raises(KeyError):
        steerer.join("x", spec({}, {"vector": "nobody"}), prompt=5, cached=0)
    assert not steerer.requests
    with pytest.raises(SpecError, match="hidden size is 8"):
        steerer.add_vector("c", {"direction": torch.randn(1, 9)}, {})
    with pytest.raises(SpecError, match="not finite"):
        steerer.add_vector("c", {"direction": torch.full((1, 8), torch.nan)}, {})
    with pytest.raises(SpecError, match="no tensor"):
        steerer.add_vector("c", {}, {})
