"""Stock vLLM with the worker writes what the hooks of transformers write, token for token, and its receipts add up."""

import pytest
from vllm_world import run_vllm

from steer_core.generation.vllm_worker.spec import interval

pytestmark = pytest.mark.vllm

ENGINES = {
    "prefix-cache": {},
    "no-cache": {"enable_prefix_caching": False},
    "chunked-prefill": {"max_num_batched_tokens": 64, "max_num_seqs": 24},
    # blocks for three or four requests
    "preemption": {"num_gpu_blocks_override": 10, "max_num_batched_tokens": 512},
    "compiled": {"enforce_eager": False},
}


def without_end(tokens):
    return tokens[:-1] if tokens and tokens[-1] == 1 else tokens


def equal_rows(world, found):
    """How many answers of each pass are those of the hooks; turns: the first, the second, the second again."""
    counts = []
    for done, want in zip(found["passes"], [world.answers[0], world.answers[1], world.answers[1]], strict=True):
        got = [without_end(a["tokens"]) for a in done["answers"]]
        counts.append(sum(g == tokens for g, (tokens, _) in zip(got, want, strict=True)))
    return counts


def check_receipts(world, found):
    """Every touch was planned, seen where it happened, and is what the receipt of the hooks says of the same row."""
    for p, done in enumerate(found["passes"]):
        turn = min(p, 1)
        for n, (ask, (_, hook)) in enumerate(zip(world.asks[turn], world.answers[turn], strict=True)):
            if not ask.interventions:
                continue
            (receipt,) = done["receipts"][f"{p}-{n}"]
            fed = len(ask.tokens) + len(done["answers"][n]["tokens"]) - 1
            assert receipt["prompt"] == len(ask.tokens)
            # one more where a further token was under way when the answer ended
            assert fed <= receipt["reached"] <= fed + 1
            for i, touch, theirs in zip(ask.interventions, receipt["touches"], hook["touches"], strict=True):
                assert touch["planned"] == touch["observed"]
                low, high = interval(i.positions, len(ask.tokens))
                cached = max(0, min(high, receipt["cached"]) - low)
                late = max(0, min(high, receipt["reached"]) - max(low, fed))
                assert cached + touch["observed"] - late == theirs["observed"] == theirs["expected"]


def test_the_world_is_worth_testing(world):
    assert len(world.asks[0]) >= 64
    assert len({a.interventions for a in world.asks[0]}) >= 16
    assert all(len(a.tokens) > 128 for a in world.asks[0])
    rows = zip(world.asks[0], world.answers[0], world.unsteered, strict=True)
    steered = [a.interventions for a, (w, _), u in rows if w != u]
    assert len(set(steered)) == len({a.interventions for a in world.asks[0]}) - 1


@pytest.mark.parametrize("name", ENGINES)
def test_every_answer_is_that_of_the_hooks(world, name, tmp_path):
    first, second = world.asks
    found = run_vllm(tmp_path, world.model, world.vectors, [first, second, second], **ENGINES[name])
    assert equal_rows(world, found) == [len(first), len(second), len(second)]
    check_receipts(world, found)
    receipts = [r for done in found["passes"] for rows in done["receipts"].values() for r in rows]
    cached = sum(a["cached"] or 0 for done in found["passes"] for a in done["answers"])
    again = [r for r in receipts if r["fed"] > r["reached"] - r["cached"]]
    assert found["state"]["requests"] == 0
    print(f"\n{name}: {len(receipts)} receipts, {cached} cached tokens, {len(again)} requests read again")
    assert cached == 0 if name == "no-cache" else cached > 0 or name == "preemption"
    assert bool(again) == (name == "preemption")


def test_without_the_salt_answers_are_wrong(world, tmp_path):
    # the test above fails when blocks of differently steered requests are shared
    first, second = world.asks
    switch = {"STEERWORKS_VLLM_TEST_WITHOUT_SALT": "1"}
    found = run_vllm(tmp_path, world.model, world.vectors, [first, second, second], environment=switch)
    counts = equal_rows(world, found)
    print(f"\nwithout salt: {counts} of {len(first)} equal")
    assert sum(counts) < 3 * len(first)
