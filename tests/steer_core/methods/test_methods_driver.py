"""The driver runs rounds; the strategies of several calls choose by the right distance."""

import math

import polars as pl
import pytest
from fixture_requests import GOALS, SETTING, TEXT, request

from schemas import Outcomes, Responses
from steer_core.generation.backend import Capabilities, Finished, Generation
from steer_core.generation.run import Run
from steer_core.methods.distance import error_of
from steer_core.methods.driver import failure_of, run_method
from steer_core.methods.parts.prompt import build_strategy
from steer_core.methods.protocol import Artifact, Choose, Observation
from steer_core.tables import Journal, check
from steer_core.tables.errors import SteerworksError


class Scripted:
    """Answers with `answer(prompt, sample_index)`; counts what it was asked."""

    capabilities = Capabilities("scripted", None, scores=False)
    execution = "scripted"

    def __init__(self, answer):
        self.answer = answer
        self.calls = []

    def prompt_tokens(self, plan):
        return len(plan.messages[-1].content)

    def generate(self, calls, batch_size=64):
        for index, call in enumerate(calls):
            self.calls.append(call)
            found = self.answer(call.plan.messages[-1].content, call.sample_index)
            made = found if isinstance(found, Generation) else Generation(found, "stop", 5, 3, 0.5)
            yield Finished(index, made)

    def score(self, plans, continuations):
        raise AssertionError("nothing is scored here")


def tables(*requests):
    rows = [
        {"request_id": r.request_id, "probe": "main", "split": "test", "text_id": "t", "text": r.text, "source": "s"}
        for r in requests
    ]
    goals = [
        {"request_id": r.request_id, "goal": t.goal, "z0": t.z0, "z_star": t.z_star, "z0_raw": 0.0}
        for r in requests
        for t in r.goals
    ]
    return pl.DataFrame(rows), pl.DataFrame(goals, schema_overrides={"z_star": pl.Float64})


def ruler(texts):
    """z of a text `f=.8 l=.5`: formality and length as written in it, .5 otherwise; undefined for `?`."""
    found = []
    for text in texts:
        z = dict.fromkeys(GOALS, 0.5)
        for part in text.split():
            for letter, goal in (("f", "formality"), ("l", "text_length")):
                if part.startswith(f"{letter}="):
                    z[goal] = float(part[2:])
        found.append(dict.fromkeys(z) if text == "?" else z)
    return found


def run(tmp_path, strategy, answer, *requests, options=None):
    backend = Scripted(answer)
    made = run_method(
        build_strategy(strategy, SETTING, options or {}), *tables(*requests), list(GOALS),
        Run(Journal(str(tmp_path / "journal"), Responses), backend, ruler, batch_size=8),
    )  # fmt: skip
    check(made.responses, Responses)
    check(made.outcomes, Outcomes)
    return made, backend


def test_copy_returns_the_source_and_calls_nothing(tmp_path):
    hostile = " <think>x</think> مرحبا \x00\r\n"
    made, backend = run(tmp_path, "copy", None, request(hostile, "a", formality=0.2))
    assert not backend.calls
    row = made.outcomes.row(0, named=True)
    assert (row["text"], row["copied"], row["failure"], row["n_calls"]) == (hostile, True, None, 0)


def test_direct_asks_once_and_keeps_raw_and_cleaned(tmp_path):
    made, _ = run(tmp_path, "direct", lambda p, s: "Here is the rewritten text:\nf=.8", request(formality=0.3))
    assert made.responses.select("raw", "text").row(0) == ("Here is the rewritten text:\nf=.8", "f=.8")
    assert made.outcomes.select("text", "rounds", "n_calls", "completion_tokens").row(0) == ("f=.8", 1, 1, 3)


def test_equal_prompts_of_several_requests_are_generated_once(tmp_path):
    asked = [request(request_id=f"r{i}", formality=0.1 * i + 0.01) for i in range(4)]
    made, backend = run(tmp_path, "rewrite", lambda p, s: "x", *asked)
    assert len(backend.calls) == 1
    assert made.outcomes.height == 4
    assert made.responses.height == 1


def test_failures_are_data(tmp_path):
    answers = {
        "a": "",
        "b": Generation("cut", "length", 1, 1, 0.0),
        "c": Generation("", "overlong", 9, 0, 0.0),
        "d": "no heading",
    }
    asked = [request(t, t, formality=0.2) for t in answers]
    made, _ = run(tmp_path, "chain-of-thought", lambda p, s: answers[p[-1]], *asked)
    found = dict(made.outcomes.select("request_id", "failure").iter_rows())
    assert found == {"a": "unparsable", "b": "truncated", "c": "overlong", "d": "unparsable"} | {"a": "empty"}


def test_failure_names():
    assert failure_of("x", "stop", True) is None
    assert failure_of(" \n", "stop", True) == "empty"
    assert failure_of("x", "length", True) == "truncated"
    assert failure_of("x", "stop", False) == "unparsable"
    assert failure_of("", "imported", True) == "empty"
    assert failure_of("I'm sorry, but I can't help with that.", "stop", True) == "refused"
    assert failure_of("I'm sorry, but I can't help with that.", "source", True) is None


def test_hostile_answers_keep_the_contract(tmp_path):
    hostile = ["<script>alert(1)</script>", "\x00\x1b[31m\u202e", "x" * 100_000, "\ud800 lone", "\n\n"]
    asked = [request(f"text {i}", f"r{i}", formality=0.2) for i in range(len(hostile))]
    made, _ = run(tmp_path, "direct", lambda p, s: hostile[int(p[-1])], *asked)
    assert made.outcomes.height == len(hostile)


def test_the_oracle_takes_the_sample_nearest_to_the_target(tmp_path):
    answers = ["f=.5", "f=.95", "f=.79", "f=.8 l=.1"]
    made, backend = run(tmp_path, "best-of-n", lambda p, s: answers[s], request(formality=0.3), options={"n": 4})
    assert made.outcomes["text"].to_list() == ["f=.79"]
    assert made.outcomes["n_calls"].to_list() == [4]
    assert len({c.seed for c in backend.calls}) == 4


def test_an_untouched_goal_counts_from_the_source_not_from_minus_one():
    # the published choice fills inactive targets with -1, and would take the second one
    asked = request(formality=0.3)
    stays, drops = {**dict.fromkeys(GOALS, 0.5), "formality": 0.7}, {**dict.fromkeys(GOALS, 0.0), "formality": 0.8}
    assert error_of(asked, stays) < error_of(asked, drops)
    assert error_of(asked, stays) == pytest.approx(0.1)
    assert error_of(asked, {**stays, "text_length": None}) == math.inf


def test_samples_that_failed_are_not_chosen_while_one_stands(tmp_path):
    answers = [Generation("f=.8", "length", 1, 1, 0.0), "", "f=.6", "?"]
    made, _ = run(tmp_path, "best-of-n", lambda p, s: answers[s], request(formality=0.3), options={"n": 4})
    assert made.outcomes.select("text", "failure").row(0) == ("f=.6", None)


def test_consensus_takes_the_answer_most_like_the_others(tmp_path):
    answers = ["the cat sat on the mat", "the cat sat on a mat", "completely different words", "a cat sat on the mat"]
    made, _ = run(
        tmp_path, "best-of-n", lambda p, s: answers[s], request(formality=0.3), options={"n": 4, "select": "consensus"}
    )
    assert made.outcomes["text"][0] in {answers[0], answers[1], answers[3]}
    assert not build_strategy("best-of-n", SETTING, {"select": "consensus"}).traits.measures


def test_the_closed_loop_asks_for_what_is_left(tmp_path):
    prompts = []

    def answer(prompt, sample):
        prompts.append(prompt)
        return ["f=.65", "f=.82"][len(prompts) - 1]

    made, _ = run(tmp_path, "closed-loop", answer, request(formality=0.3))
    assert prompts[0].startswith("Please rewrite the following text so that it is more formal.")
    assert prompts[1].startswith("Please rewrite the following text so that it is slightly more formal.")
    assert prompts[1].endswith("\n\nf=.65")
    assert made.outcomes.select("text", "rounds", "n_calls").row(0) == ("f=.82", 2, 2)


def test_the_closed_loop_asks_drifted_goals_back_and_keeps_the_best(tmp_path):
    prompts = []

    def answer(prompt, sample):
        prompts.append(prompt)
        return ["f=.8 l=.9", "f=.1 l=.1", "f=.2 l=.2"][len(prompts) - 1]

    made, _ = run(tmp_path, "closed-loop", answer, request(formality=0.3))
    assert "so that it is shorter." in prompts[1]
    assert made.outcomes["text"].to_list() == ["f=.8 l=.9"]
    assert made.outcomes["rounds"].to_list() == [2]


class Overlapping(Scripted):
    """Keeps slow rows under way while others end."""

    def generate(self, calls, batch_size=64):
        slow, index = [], 0
        for call in calls:
            if call is None:
                assert slow, "the source waits for nothing"
                yield slow.pop(0)
                continue
            self.calls.append(call)
            prompt = call.plan.messages[-1].content
            found = Finished(index, Generation(self.answer(prompt, call.sample_index), "stop", 5, 3, 0.5))
            index += 1
            if "slow" in prompt:
                slow.append(found)
            else:
                yield found
        yield from slow


def test_a_request_goes_on_when_its_own_answers_are_in_and_the_ruler_sees_what_ended_together(tmp_path):
    steps = {"slow source": "f=.55 slow", "f=.55 slow": "f=.6 slow", "f=.6 slow": "f=.8 slow"}
    steps |= {"fast": "f=.55", "f=.55": "f=.6", "f=.6": "f=.8"}
    backend, measured = Overlapping(lambda p, s: steps[p.rsplit("\n\n", 1)[-1]]), []

    def noted(texts):
        measured.append(list(texts))
        return ruler(texts)

    asked = [request("slow source", "a", formality=0.3), request("fast", "b", formality=0.3)]
    made = run_method(
        build_strategy("closed-loop", SETTING, {}), *tables(*asked), list(GOALS),
        Run(Journal(str(tmp_path), Responses), backend, noted, batch_size=8),
    )  # fmt: skip
    order = [c.plan.messages[-1].content.rsplit("\n\n", 1)[-1] for c in backend.calls]
    # the fast request has had all three rounds before the slow one's first answer is in
    assert order.index("f=.55 slow") > order.index("f=.6")
    assert measured[0] == ["f=.55"]
    assert dict(made.outcomes.select("request_id", "rounds").iter_rows()) == {"a": 3, "b": 3}
    check(made.outcomes, Outcomes)


def test_a_stopped_run_takes_later_rounds_from_the_journal_as_well(tmp_path):
    def answer(prompt, sample):
        return {0: "f=.65", 1: "f=.82"}["f=.65" in prompt]

    whole, first = run(tmp_path, "closed-loop", answer, request(formality=0.3))
    again, second = run(tmp_path, "closed-loop", answer, request(formality=0.3))
    assert (len(first.calls), len(second.calls)) == (2, 0)
    assert again.outcomes.equals(whole.outcomes)


def test_the_closed_loop_survives_answers_that_cannot_be_measured(tmp_path):
    made, _ = run(tmp_path, "closed-loop", lambda p, s: "", request(formality=0.3))
    assert made.outcomes.select("failure", "rounds").row(0) == ("empty", 1)


def test_recorded_answers_are_imported_and_scored_like_any_other(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"request_id": "a", "text": "<think>x</think>done"}\n{"request_id": "b", "text": null}\n')
    asked = [request(request_id=i, formality=0.2) for i in "ab"]
    made, backend = run(tmp_path, "imported", None, *asked, options={"path": str(path)})
    assert not backend.calls
    assert made.outcomes.select("text", "failure").rows() == [("done", None), ("", "empty")]
    assert made.responses.sort("raw")["raw"].to_list() == ["", "<think>x</think>done"]


def test_an_import_that_lacks_or_repeats_a_request_is_refused(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("request_id,text\na,x\n")
    with pytest.raises(SteerworksError, match=r"answers.csv has no answer to request b"):
        run(tmp_path, "imported", None, request(request_id="b"), options={"path": str(path)})
    path.write_text("request_id,text\na,x\na,y\n")
    with pytest.raises(SteerworksError, match=r"request a stands in 2 rows \(first: row 0\)"):
        run(tmp_path, "imported", None, request(request_id="a"), options={"path": str(path)})
    path.write_text("id,text\na,x\n")
    with pytest.raises(SteerworksError, match="no column 'request_id'; it has id, text"):
        run(tmp_path, "imported", None, request(request_id="a"), options={"path": str(path)})


def test_a_measuring_method_without_a_ruler_is_refused(tmp_path):
    method = build_strategy("closed-loop", SETTING, {})
    with pytest.raises(SteerworksError, match="no ruler"):
        run_method(
            method, *tables(request(formality=0.3)), list(GOALS),
            Run(Journal(str(tmp_path), Responses), Scripted(None)),
        )  # fmt: skip


def test_steps_are_pure():
    for name in ("direct", "best-of-n", "closed-loop", "goal-enumeration"):
        method = build_strategy(name, SETTING, {})
        asked = request(formality=0.3)
        plans = method.step(asked, Artifact(), ())
        assert plans == method.step(asked, Artifact(), ())
        seen = tuple(
            Observation(f"o{i}", p, f"f=.{i}", True, "stop", ruler([f"f=.{i}"])[0]) for i, p in enumerate(plans, 1)
        )
        again = method.step(asked, Artifact(), seen)
        assert again == method.step(asked, Artifact(), seen)
        assert isinstance(again, Choose | tuple)
    assert asked == request(formality=0.3)
    assert asked.text == TEXT


@pytest.mark.parametrize("select", ["oracle", "consensus"])
def test_a_refusal_is_not_chosen_over_an_answer(tmp_path, select):
    refusal = "I'm sorry, but I can't assist with that. f=.8"
    answers = [refusal, "f=.6", refusal]
    asked = request(formality=0.3)
    made, _ = run(tmp_path, "best-of-n", lambda p, s: answers[s], asked, options={"n": 3, "select": select})
    assert made.outcomes.select("text", "failure").row(0) == ("f=.6", None)
