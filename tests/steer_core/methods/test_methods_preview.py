"""A plan before a run: prompts to read, calls, tokens, time, and the smallest effect that shows."""

import json

import pytest
from fixture_requests import GOALS, SETTING, TEXT, request
from test_methods_driver import tables

from schemas import RunPlans
from steer_core.methods.parts.prompt import build_strategy
from steer_core.methods.preview import plan_run, preview_prompts
from steer_core.methods.protocol import Artifact
from steer_core.steering import Plan
from steer_core.tables import check

ASKED = [request(f"text {i}", f"r{i}", formality=0.3 if i % 2 else -0.3) for i in range(6)]


def planned(strategy, **options):
    return plan_run(
        build_strategy(strategy, SETTING, options), *tables(*ASKED), list(GOALS), artifact=Artifact(),
        count_tokens=lambda plan: 10, seconds_per_token=0.5, max_new_tokens=64,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("strategy", "options", "calls"),
    [("copy", {}, 0), ("direct", {}, 6), ("best-of-n", {"n": 4}, 24), ("closed-loop", {"rounds": 3}, 18)],
)
def test_calls_are_counted_at_most(strategy, options, calls):
    frame = check(planned(strategy, **options), RunPlans)
    row = frame.row(0, named=True)
    assert (row["n_requests"], row["max_calls"], row["max_new_tokens"]) == (6, calls, 64 * calls)
    assert row["seconds"] == pytest.approx(32.0 * calls)


def test_equal_prompts_are_counted_once():
    same = [request(TEXT, f"r{i}", formality=0.3) for i in range(5)]
    frame = plan_run(
        build_strategy("rewrite", SETTING, {}), *tables(*same), list(GOALS), artifact=Artifact(),
        count_tokens=lambda plan: 10, seconds_per_token=None, max_new_tokens=64,
    )  # fmt: skip
    assert frame.select("max_calls", "prompt_tokens", "seconds").row(0) == (1, 10, None)


def test_the_prompts_can_be_read_before_any_is_run():
    prompts = preview_prompts(build_strategy("direct", SETTING, {}), *tables(*ASKED), list(GOALS))
    assert prompts.height == 6
    assert prompts["prompt"][1].startswith("[user]\nPlease rewrite the following text so that it is more formal.")
    assert [Plan.from_json(p).id for p in prompts["plan"]] == prompts["plan_id"].to_list()
    shown = json.loads(planned("direct")["preview"][0])
    assert [s["request_id"] for s in shown] == ["r0", "r1", "r2"]
