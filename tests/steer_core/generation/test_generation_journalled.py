"""Rows that ended are kept, whatever stops a run, and never made again."""

from dataclasses import replace

import pytest

from schemas import Responses
from schemas.specs import Decoding
from steer_core.generation.backend import Call, Capabilities, Finished, Generation
from steer_core.generation.journalled import run_calls, stream_calls
from steer_core.generation.run import Run
from steer_core.steering import Plan
from steer_core.steering.intervention import Intervention
from steer_core.tables import Journal, SteerworksError, check


class Recorder:
    """A backend that answers in order, remembers what it was asked, and dies when told to."""

    capabilities = Capabilities("recorder", None, scores=False)
    execution = "test"

    def __init__(self, dies_at=None):
        self.asked = []
        self.dies_at = dies_at

    def prompt_tokens(self, plan):
        return len(plan.text)

    def generate(self, calls, batch_size=64):
        for index, call in enumerate(calls):
            if self.dies_at == len(self.asked):
                raise KeyboardInterrupt
            self.asked.append(call.plan.text)
            yield Finished(index, Generation(f"{call.plan.text}:{call.seed}", "stop", 1, 1, 0.0))

    def score(self, plans, continuations):
        raise AssertionError("nothing is scored here")


CALLS = [Call(Plan("m", Decoding(), text="x" * n), 0, 0) for n in range(1, 12)]


def test_long_prompts_come_first_and_answers_keep_the_contract(tmp_path):
    backend = Recorder()
    rows = run_calls(CALLS, Run(Journal(str(tmp_path), Responses), backend, batch_size=4))
    assert [len(t) for t in backend.asked] == list(range(11, 0, -1))
    assert check(rows, Responses).height == 11


@pytest.mark.parametrize("dies_at", [0, 1, 5, 10])
def test_a_stopped_run_keeps_every_row_that_had_ended_and_ends_the_same(tmp_path, dies_at):
    whole = run_calls(CALLS, Run(Journal(str(tmp_path / "whole"), Responses), Recorder(), batch_size=4))
    journal = Journal(str(tmp_path / "cut"), Responses)
    first = Recorder(dies_at)
    with pytest.raises(KeyboardInterrupt):
        run_calls(CALLS, Run(journal, first, batch_size=4))
    assert journal.read().height == dies_at
    second = Recorder()
    resumed = run_calls(CALLS, Run(journal, second, batch_size=4))
    done = [*first.asked, *second.asked]
    assert len(done) == len(set(done)) == 11
    assert resumed.drop("seconds").sort("response_id").equals(whole.drop("seconds").sort("response_id"))


def test_equal_calls_are_generated_once_and_nothing_twice(tmp_path):
    journal = Journal(str(tmp_path), Responses)
    backend = Recorder()
    run_calls([*CALLS, *CALLS], Run(journal, backend, batch_size=100))
    run_calls(CALLS, Run(journal, backend, batch_size=100))
    assert len(backend.asked) == 11


def test_rows_are_journalled_a_batch_at_a_time_and_when_time_has_passed(tmp_path):
    told = []
    now = iter(range(0, 1000, 20))
    source = stream_calls(CALLS, Run(Journal(str(tmp_path), Responses), Recorder(), batch_size=8), told=told.append)
    assert [c.plan.text for c, _ in source] == [c.plan.text for c in CALLS]
    assert told == [8, 11]
    told.clear()
    slow = Journal(str(tmp_path / "slow"), Responses)
    list(stream_calls(CALLS[:4], Run(slow, Recorder(), batch_size=8), told=told.append, clock=lambda: next(now)))
    # every answer takes 20 seconds: two are the 30 after which rows are written
    assert told == [2, 4]


def test_many_small_parts_are_compacted_on_the_way_and_when_a_run_ends(tmp_path, monkeypatch):
    calls = [Call(Plan("m", Decoding(), text=f"{n:03}"), 0, 0) for n in range(70)]
    journal = Journal(str(tmp_path), Responses)
    rows = run_calls(calls, Run(journal, Recorder(), batch_size=1))
    assert len(journal.parts()) == 1
    assert journal.read().sort("response_id").equals(rows.sort("response_id"))
    on_the_way = Journal(str(tmp_path / "way"), Responses)
    monkeypatch.setattr("steer_core.generation.journalled.COMPACT_PARTS", 66)
    with pytest.raises(KeyboardInterrupt):
        run_calls(calls, Run(on_the_way, Recorder(dies_at=68), batch_size=1))
    assert len(on_the_way.parts()) == 3
    assert run_calls(calls, Run(on_the_way, Recorder(), batch_size=1)).height == 70


def test_a_plan_beyond_the_backend_is_refused_before_anything_runs(tmp_path):
    backend = Recorder()
    steered = replace(CALLS[0], plan=replace(CALLS[0].plan, interventions=(Intervention("add", "v", 0, 1.0),)))
    with pytest.raises(SteerworksError, match="recorder backend cannot apply interventions"):
        run_calls([*CALLS, steered], Run(Journal(str(tmp_path), Responses), backend, batch_size=4))
    assert not backend.asked


def test_another_seed_or_sample_is_another_response():
    plan = CALLS[0].plan
    ids = {Call(plan, s, seed).response_id(e) for s in (0, 1) for seed in (0, 1) for e in ("a", "b")}
    assert len(ids) == 8
