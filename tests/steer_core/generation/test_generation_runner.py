"""Rows done are never redone, and a resumed run meets the batches of an undisturbed one."""

import pytest

from schemas import Responses
from schemas.specs import Decoding
from steer_core.generation.backend import Call, Capabilities, Generation
from steer_core.generation.runner import run_calls
from steer_core.steering import Plan
from steer_core.tables import Journal, check


class Recorder:
    """A backend that writes the batch it was in into its answer, and dies when told to."""

    capabilities = Capabilities("recorder", None, scores=False)
    execution = "test"

    def __init__(self, dies_at=None):
        self.batches = []
        self.dies_at = dies_at

    def prompt_tokens(self, plan):
        return len(plan.text)

    def generate(self, calls):
        if self.dies_at == len(self.batches):
            raise KeyboardInterrupt
        self.batches.append([c.plan.text for c in calls])
        return [Generation(f"{c.plan.text}:{len(calls)}", "stop", 1, 1, 0.0) for c in calls]

    def score(self, plans, continuations):
        raise AssertionError("nothing is scored here")


CALLS = [Call(Plan("m", Decoding(), text="x" * n), 0, 0) for n in range(1, 12)]


def test_batches_go_by_length_and_answers_keep_the_contract(tmp_path):
    backend = Recorder()
    rows = run_calls(CALLS, backend, Journal(str(tmp_path), Responses), 4)
    assert [len(b) for b in backend.batches] == [4, 4, 3]
    assert [len(t) for b in backend.batches for t in b] == list(range(11, 0, -1))
    assert check(rows, Responses).height == 11


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_a_killed_run_goes_on_where_it_was_and_ends_the_same(tmp_path, dies_at):
    whole = run_calls(CALLS, Recorder(), Journal(str(tmp_path / "whole"), Responses), 4)
    journal = Journal(str(tmp_path / "cut"), Responses)
    first = Recorder(dies_at)
    with pytest.raises(KeyboardInterrupt):
        run_calls(CALLS, first, journal, 4)
    second = Recorder()
    resumed = run_calls(CALLS, second, journal, 4)
    done = [t for b in [*first.batches, *second.batches] for t in b]
    assert len(done) == len(set(done)) == 11
    assert resumed.drop("seconds").sort("response_id").equals(whole.drop("seconds").sort("response_id"))


def test_equal_calls_are_generated_once_and_nothing_twice(tmp_path):
    journal = Journal(str(tmp_path), Responses)
    backend = Recorder()
    run_calls([*CALLS, *CALLS], backend, journal, 100)
    run_calls(CALLS, backend, journal, 100)
    assert [len(b) for b in backend.batches] == [11]


def test_a_batch_shares_its_decoding(tmp_path):
    hot = [Call(Plan("m", Decoding(temperature=1.0), text="x" * n), 0, 0) for n in range(1, 4)]
    backend = Recorder()
    run_calls([*CALLS[:2], *hot], backend, Journal(str(tmp_path), Responses), 100)
    assert sorted(len(b) for b in backend.batches) == [2, 3]


def test_another_seed_or_sample_is_another_response():
    plan = CALLS[0].plan
    ids = {Call(plan, s, seed).response_id(e) for s in (0, 1) for seed in (0, 1) for e in ("a", "b")}
    assert len(ids) == 8
