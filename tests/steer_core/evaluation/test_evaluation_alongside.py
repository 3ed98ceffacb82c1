"""A judge that works while answers are written says what it would say afterwards, and neither side loses what it paid."""

from __future__ import annotations

import threading

import polars as pl
import pytest
from fake_endpoint import Servers

from schemas.responses import Responses
from schemas.specs import BehaviorSpec, Decoding, ModelSpec
from schemas.sweeps import Judgements
from steer_core.evaluation.arms import Arm, Item, answers, pair
from steer_core.evaluation.judges import judge as judging
from steer_core.evaluation.judges.alongside import Alongside
from steer_core.evaluation.judges.llm import LlmJudge
from steer_core.evaluation.judges.load import build_rubric
from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.remote.faults import EndpointError
from steer_core.generation.remote.ledger import Ledger
from steer_core.generation.run import Run
from steer_core.steering.plan import Message
from steer_core.tables.journal import Journal

N = 40
JUDGES = "judge-1"
#: Words of the judge's prompts.
ASKS = "one whole number"


@pytest.fixture(scope="module")
def servers():
    started = Servers()
    yield started
    started.stop()


class House:
    """A policy and a judge at one server, a journal for each; items to ask."""

    def __init__(self, folder, address, **endpoint):
        self.folder = folder
        settings = {"base_url": address, "backoff": 0.005, "concurrency": 4, **endpoint}

        def far(source):
            return ModelSpec(name=source, source=f"served:{source}", engine="openai", endpoint=settings)

        policy, judge = far("policy-1"), far(JUDGES)
        self.policy = OpenAiBackend(policy, Ledger(folder / "policy.sqlite"))
        self.judging = OpenAiBackend(judge, Ledger(folder / "judge.sqlite"))
        behavior = BehaviorSpec.model_validate(
            {
                "name": "cheer",
                "source": {"kind": "pairs", "path": "x.jsonl"},
                "positive_prompt": "Be cheerful.",
                "judge": {"kind": "llm", "rubric": "zero-to-ten"},
                "scale": [0, 10],
            }
        )
        self.judge = LlmJudge(self.judging, judge.identity, build_rubric("zero-to-ten", behavior, {}), repeats=2)
        self.run = Run(Journal(str(folder / "responses"), Responses), self.policy, batch_size=4)
        self.verdicts = Journal(str(folder / "verdicts"), Judgements)
        items = [Item(f"i{k}", "cheer", "test", (Message("user", f"question {k:02d}"),)) for k in range(N)]
        # two arms that ask the same share an answer
        self.asked = pair([Arm("off", "cheer"), Arm("same", "cheer")], items)
        rows = [
            {
                "item_id": i.item_id,
                "messages": '[{"content":"' + i.messages[0].content + '","role":"user"}]',
                "positive": None,
                "negative": None,
            }
            for i in items
        ]
        self.items = pl.DataFrame(rows, schema_overrides={"positive": pl.String, "negative": pl.String})
        self.by_id = {r["item_id"]: r for r in rows}

    def alongside(self, **options):
        with Alongside(self.verdicts.append, self.verdicts.read(), **options) as beside:

            def told(item_id, response_id, text):
                return beside.put(self.judge, [judging.case_of(response_id, text, self.by_id[item_id])])

            return answers.write(self.asked, self.run, Decoding(max_new_tokens=8), each=told)

    def afterwards(self):
        return answers.write(self.asked, self.run, Decoding(max_new_tokens=8))

    def table(self, written):
        """The table, as the step that makes it does."""
        cases = judging.cases_of(written.answers, self.items)
        return judging.judge_cases(self.judge, cases, self.verdicts.read(), keep=self.verdicts.append)


def of_judge(server):
    return [r for r in server.requests if r["body"]["model"] == JUDGES]


@pytest.fixture
def house_at(tmp_path):
    return lambda address, name="house", **endpoint: House(_made(tmp_path / name), address, **endpoint)


def _made(folder):
    folder.mkdir()
    return folder


def test_the_first_verdict_is_asked_before_the_last_answer_has_come(servers, house_at):
    # the last question is answered once the judge was asked; judged afterwards, it would be answered before
    server, address = servers.serve(hold={f"question {N - 1:02d}": ASKS}, answers={ASKS: "say:7"})
    house = house_at(address)
    house.alongside()
    first = next(k for k, (what, prompt) in enumerate(server.events) if what == "asked" and ASKS in prompt)
    assert first < server.events.index(("answered", f"question {N - 1:02d}"))
    assert house.verdicts.read().height == 2 * N


def test_verdicts_rows_and_keys_are_those_of_judging_afterwards(servers, house_at):
    script = {"answers": {ASKS: "say:7", "question 07": "empty"}}
    one, first = servers.serve(**script)
    two, second = servers.serve(**script)
    a, b = house_at(first, "alongside"), house_at(second, "afterwards")
    written, later = a.alongside(batch_size=8, room=3), b.afterwards()
    drop = ["seconds"]
    assert written.responses.drop(drop).equals(later.responses.drop(drop))
    assert written.answers.equals(later.answers)
    asked = len(of_judge(one))
    found, expected = a.table(written), b.table(later)
    assert found.equals(expected)
    assert found.height == 2 * N
    # the table's step found all of them done, and each was asked for once
    assert len(of_judge(one)) == asked == len(of_judge(two))
    assert a.verdicts.read().sort("response_id", "repeat").equals(b.verdicts.read().sort("response_id", "repeat"))
    ledgers = [h.judging.ledger.attempts().select("response_id", "outcome").sort("response_id") for h in (a, b)]
    assert ledgers[0].equals(ledgers[1])


def test_a_judge_that_fails_stops_the_policy_with_its_error_and_nothing_that_was_paid_is_lost(servers, house_at):
    server, address = servers.serve(answers={ASKS: "odd"})
    house = house_at(address)
    with pytest.raises(EndpointError, match="this prompt is malformed"):
        house.alongside()
    sent = {r["body"]["messages"][-1]["content"] for r in server.requests if r["body"]["model"] != JUDGES}
    kept = house.run.journal.read()
    # what had been begun was ended and kept; the rest was not begun
    assert kept.height == len(sent)
    before = len(server.requests)
    server.script.answers = {ASKS: "say:7"}
    table = house.table(house.alongside())
    assert table.height == 2 * N
    assert len([r for r in server.requests[before:] if r["body"]["model"] != JUDGES]) == N - len(sent)


def test_a_policy_that_fails_ends_with_its_own_error_and_keeps_the_verdicts_so_far(servers, house_at):
    server, address = servers.serve(
        # the row that fails waits until the judge is at work
        hold={f"question {N - 1:02d}": ASKS},
        answers={ASKS: "say:7", f"question {N - 1:02d}": "odd"},
    )
    house = house_at(address, attempts=1)
    with pytest.raises(EndpointError, match=f"1 of {N} rows have no answer"):
        house.alongside(batch_size=2)
    kept = house.verdicts.read()
    answered = house.judging.ledger.attempts().filter(outcome="answered")
    assert 0 < kept.height == answered.height
    assert house.run.journal.read().height == N - 1
    server.script.answers = {ASKS: "say:7"}
    before = len(of_judge(server))
    assert house.table(house.alongside()).height == 2 * N
    assert len(of_judge(server)) - before == 2 * N - kept.height


class Slow:
    """A judge that works when it is let."""

    judge_id, rubric, scale, repeats, method = "slow", "r@1", (0.0, 1.0), 1, "text"

    def __init__(self):
        self.go, self.seen = threading.Event(), []

    def judge(self, asked):
        self.go.wait(20)
        self.seen.append(len(asked))
        return [judging.Verdict(1.0, "text", "1") for _ in asked]


def cases(n):
    return [judging.Case(f"r{k}", f"i{k}", (Message("user", "q"),), "text") for k in range(n)]


def test_no_more_than_the_room_waits():
    judge, kept = Slow(), []
    put = []

    def bring(beside):
        for case in cases(20):
            beside.put(judge, [case])
            put.append(case)

    with Alongside(kept.append, Judgements.empty(), batch_size=2, room=3) as beside:
        bringing = threading.Thread(target=bring, args=(beside,))
        bringing.start()
        bringing.join(0.3)
        # a batch is with the judge, and the room is full: the rest waits with who brings it
        assert len(put) <= 2 + 3
        judge.go.set()
        bringing.join()
    assert sum(judge.seen) == 20
    assert max(judge.seen) <= 2
    assert pl.concat(kept)["response_id"].n_unique() == 20


def test_what_is_kept_already_is_not_judged_again():
    judge, kept = Slow(), []
    judge.go.set()
    with Alongside(kept.append, Judgements.empty()) as beside:
        assert beside.put(judge, cases(3))
    with Alongside(kept.append, pl.concat(kept)) as beside:
        beside.put(judge, cases(5))
        beside.put(judge, cases(5))
    assert [k["response_id"].to_list() for k in kept] == [["r0", "r1", "r2"], ["r3", "r4"]]
