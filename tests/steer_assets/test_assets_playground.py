"""The playground: cells answer a text of one's own as they answer the probe, measured at once, and kept."""

import itertools
import json
import shutil
import time

import polars as pl
import pytest
from starlette.testclient import TestClient
from test_assets_vectors import CELL, GRID, SHARED, vector_bench

from schemas import Tried
from steer_assets.devices import DEVICES
from steer_assets.explore import askable, keeping
from steer_assets.explore.server import explorer
from steer_assets.explore.trying import Playground
from steer_assets.settings import registry
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.journal import Journal

__all__ = ["vector_bench"]
PROMPT = "Write a text about the pilot and the bus."


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the tables of the bench are kept, once they are made."""
    return tmp_path_factory.mktemp("played") / "root"


@pytest.fixture
def played(workplace, vector_bench, made):
    if made.exists():
        shutil.copytree(made, workplace.root)
    else:
        workplace.materialize(SHARED)
        for cell in ("rewrite|embedded", CELL):
            workplace.materialize(GRID, cell)
        shutil.copytree(workplace.root, made)
    playground = Playground(registry().bench("small"), str(workplace.root))
    yield playground
    playground.rest()
    DEVICES.patience = None


@pytest.fixture
def client(played):
    return TestClient(explorer().app(), base_url="http://localhost", follow_redirects=False)


def read(workplace, table, cell=None):
    return pl.read_parquet(workplace.table(table, cell), hive_partitioning=False)


def test_a_request_of_the_probe_is_answered_as_it_was_there(workplace, played):
    assert played.cells() == ["rewrite|embedded", CELL]
    assert played.concepts() == {CELL: (["reading_difficulty", "formality", "cheerful"], "residual_fraction")}
    requests, goals = read(workplace, "requests"), read(workplace, "request_goals")
    main = requests.filter(pl.col("probe") == "main")
    moves = read(workplace, "goal_movements", CELL)
    scores = read(workplace, "steerability", CELL)
    outcomes = read(workplace, "outcomes", CELL)
    for row in main.head(3).iter_rows(named=True):
        asked = goals.filter(request_id=row["request_id"])
        deltas = {g: z - z0 for g, z0, z in asked.select("goal", "z0", "z_star").iter_rows() if z is not None}
        found = played.rewrite(row["text"], deltas, CELL)
        (text,) = outcomes.filter(request_id=row["request_id"])["text"]
        assert found.row["answer"] == text
        there = dict(moves.filter(request_id=row["request_id"]).select("goal", "z_hat").iter_rows())
        assert {g: z for g, (z, _) in found.ends.items()} == pytest.approx(there)
        (error,) = scores.filter(request_id=row["request_id"])["error"]
        assert found.row["error"] == pytest.approx(error, abs=1e-6)
    # what is tried leaves the bench as it was
    status, _ = workplace.materialize(GRID, CELL)
    assert set(status.values()) == {"unchanged"}


def test_an_arm_of_the_sweep_is_answered_as_it_was_there(workplace, played):
    arms, items = read(workplace, "sweep_arms", CELL), read(workplace, "behavior_items")
    answers = read(workplace, "arm_answers", CELL)
    item = items.filter(pl.col("form") == "open").row(0, named=True)
    (message,) = json.loads(item["messages"])
    for strength in (None, -0.4, 0.2):
        role = pl.col("role") == ("off" if strength is None else "vector")
        arm = arms.filter(role, pl.col("strength").eq_missing(pl.lit(strength)))["arm_id"][0]
        expected = answers.filter(arm_id=arm, item_id=item["item_id"])["text"][0]
        assert played.steer(message["content"], CELL, "cheerful", strength).row["answer"] == expected
    pairs = keeping.pairs(played.tried(), (), {})
    assert pairs
    assert [p["prompt"] for p in pairs] == [message["content"]] * len(pairs)
    off = played.steer(message["content"], CELL, "cheerful", None).row["answer"]
    assert {p["negative"] if p["positive"] != off else p["positive"] for p in pairs} == {off}
    assert all(p["positive"] != p["negative"] for p in pairs)


def test_what_was_tried_is_a_table_and_no_answer_is_written_twice(workplace, played):
    for _ in range(2):
        found = played.rewrite("The old baker sells warm bread near the station.", {"formality": 0.4}, CELL)
    rows = Journal(str(workplace.root / "small/tried"), Tried).read()
    assert rows.height == 2
    assert rows["response_id"].n_unique() == 1
    answers = list((workplace.root / "small/playground/model=embedded").glob("*.parquet"))
    assert sum(pl.read_parquet(f).height for f in answers) == 1
    assert json.loads(found.row["targets"])["formality"] == pytest.approx(min(1.0, found.starts["formality"][0] + 0.4))
    # the journal of the pipeline knows nothing of it
    journal = (workplace.root / "small/journal/model=embedded").glob("*.parquet")
    assert found.row["response_id"] not in {i for f in journal for i in pl.read_parquet(f)["response_id"]}


def test_values_are_those_that_were_measured_and_the_end_of_a_scale_is_said(played):
    from steer_assets.measuring import measure_texts, scorer_ids

    text = "I am."
    found = played.rewrite(text, {}, CELL)
    values = measure_texts(played.bench, pl.DataFrame({"text_id": ["t"], "text": [text]}))
    known = dict(values.select("scorer_id", "value").iter_rows())
    assert {g: raw for g, (_, raw) in found.starts.items()} == {
        g: known[i] for g, i in scorer_ids(played.bench).items()
    }
    at_the_end = next(g for g, (z, _) in found.starts.items() if z == 0.0)
    with pytest.raises(ConfigError, match=f"goal '{at_the_end}': this text stands at the end of the scale already"):
        played.rewrite(text, {at_the_end: -0.3}, CELL)


def test_what_cannot_be_asked_is_said(played, monkeypatch):
    for call, said in (
        (lambda: played.rewrite("  ", {}, CELL), "the text is empty"),
        (lambda: played.rewrite("w" * 20_001, {}, CELL), "20,000 characters here; this one has 20,001"),
        (lambda: played.rewrite("Some text.", {"height": 0.1}, CELL), "goal 'height' is not in the goal space"),
        (lambda: played.rewrite("Some text.", {"formality": 2.0}, CELL), "a move lies between -1 and 1"),
        (lambda: played.rewrite("Some text.", {"formality": float("nan")}, CELL), "a move lies between"),
        (lambda: played.rewrite("Some text.", {}, "nobody|embedded"), "cell 'nobody|embedded' cannot be asked"),
        (
            lambda: played.steer("Say it.", "rewrite|embedded", "cheerful", 0.1),
            "has no vector of 'cheerful'; it has none",
        ),
        (lambda: played.steer("Say it.", CELL, "kindness", 0.1), "it has reading_difficulty, formality, cheerful"),
        (lambda: played.steer("Say it.", CELL, "cheerful", float("inf")), "a strength lies between"),
    ):
        with pytest.raises(ConfigError, match=said):
            call()
    assert played.tried().height == 0
    # somebody else has the device: who waits is told for whom, and not left waiting
    monkeypatch.setattr(askable, "PATIENCE", 0.5)
    played.rest()
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    ready, over = context.Event(), context.Event()
    other = context.Process(target=hold, args=(ready, over, DEVICES_FOLDER()))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(
            SteerworksError, match="cpu is held by process .*: another run: try again when that is done"
        ):
            played.rewrite("Some text of the baker.", {}, CELL)
    finally:
        over.set()
        other.join()


def DEVICES_FOLDER():
    import tempfile

    return tempfile.tempdir


def hold(ready, over, folder):
    import tempfile

    from steer_assets.devices import DEVICES as theirs

    tempfile.tempdir = folder
    theirs.who = "another run"
    with theirs.lease("cpu"):
        ready.set()
        over.wait(60)


def test_the_server_takes_texts_from_its_own_pages_alone(client, played):
    asked = {"text": "The old baker sells bread.", "deltas": {"formality": 0.3}, "cell": CELL}
    good = client.post("/small/play/rewrite", json=asked)
    assert good.status_code == 200
    assert "pushed|embedded" in good.text
    assert "<ins>" in good.text
    assert client.post("/small/play/rewrite", json=asked, headers={"Origin": "http://localhost"}).status_code == 200
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ):
        answer = client.post("/small/play/rewrite", content=json.dumps(asked), headers={"Content-Type": "application/json"} | headers)  # fmt: skip
        assert answer.status_code == 403, headers
    assert client.get("/small/play/rewrite").status_code == 405
    assert client.put("/small/play/rewrite", json=asked).status_code == 405
    for body, status, said in (
        ({}, 400, "a request has the fields text, deltas, cell"),
        ({**asked, "more": 1}, 400, "a request has the fields"),
        ({**asked, "text": 7}, 400, "'text' is 7"),
        ({**asked, "deltas": {"formality": "much"}}, 400, "a move is a number"),
        ({**asked, "deltas": {"formality": True}}, 400, "a move is a number"),
        ({**asked, "cell": "../x|embedded"}, 400, "cannot be asked"),
        ({**asked, "deltas": {"formality": 10**400}}, 400, "a move lies between"),
        ({**asked, "text": "<script>alert(1)</script>" * 9000}, 413, "a request takes"),
    ):
        answer = client.post("/small/play/rewrite", json=body)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
        assert answer.headers["content-type"].startswith("text/plain")
    half = json.dumps({**asked, "text": "half \ud800 of it"})
    answer = client.post("/small/play/rewrite", content=half, headers={"Content-Type": "application/json"})
    assert (answer.status_code, "a lone surrogate" in answer.text) == (400, True)
    assert client.put("/small/play/rewrite").headers["Allow"] == "POST"
    assert client.post("/small/play/secrets", json={}).status_code == 404
    assert client.post("/other/play/rewrite", json={}).status_code == 404
    hostile = client.post(
        "/small/play/rewrite", json={**asked, "text": "<script>window.taken = 1</script> of the baker."}
    )
    assert "<script" not in hostile.text
    page = client.get("/small/play").text
    assert "Tried before" in page
    assert "<script>window" not in page
    steered = client.post("/small/play/steer", json={"text": PROMPT, "cell": CELL, "concept": "cheerful", "strength": 0.4})  # fmt: skip
    assert "cheerful at +0.40" in steered.text
    client.post("/small/play/steer", json={"text": PROMPT, "cell": CELL, "concept": "cheerful", "strength": None})
    lines = client.get("/small/tried/pairs.jsonl").text.splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == [PROMPT]


def test_who_has_gone_is_asked_nothing_even_where_nothing_is_told(played):
    class GoneError(Exception):
        pass

    def gone(number, text):
        raise GoneError

    asked = {"text": "The old baker sells warm bread.", "cell": CELL}
    with pytest.raises(GoneError):
        played.rewrite(**asked, deltas={"formality": 0.3}, drafts=gone)
    calls = []

    def leaves(number, text):
        calls.append(number)
        # as an engine that tells nothing: it is told of at the end alone
        if calls.count(-1) == 4:
            raise GoneError

    with pytest.raises(GoneError):
        played.rewrite(**asked, deltas={"formality": 0.3}, drafts=leaves)
    assert calls.count(0) > 0
    assert played.tried().height == 0
    assert not askable._ONE.locked()


def test_an_answer_is_told_while_it_is_written_and_ends_with_whoever_asked(played, monkeypatch):
    import httpx

    from steer_assets.explore.serving import in_background

    monkeypatch.setattr("steer_assets.explore.streaming.LOOK", 0.0)
    asked = {"text": "The old baker sells warm bread near the station, and we like it.", "deltas": {"formality": 0.3}}
    told = []
    with in_background(explorer(), 0) as address, httpx.Client(timeout=60) as client:
        url = f"{address}small/play/rewrite"
        silent = client.post(url, json={**asked, "cell": CELL})
        lines = {"Accept": "application/x-ndjson"}
        # kept by the answer before, so nothing is written
        answer = client.post(url, json={**asked, "cell": CELL}, headers=lines)
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        kept = [json.loads(line) for line in answer.text.splitlines()]
        assert [list(line) for line in kept] == [["html"]]
        other = {**asked, "text": f"{asked['text']} <b>The clerk</b> reads a long letter.", "cell": CELL}
        *drafts, last = [json.loads(line) for line in client.post(url, json=other, headers=lines).text.splitlines()]
        assert len(drafts) > 5
        assert all(d["attempt"] == 1 for d in drafts)
        assert all(b["draft"].startswith(a["draft"]) for a, b in itertools.pairwise(drafts))
        assert "<ins>" in last["html"]
        assert "pushed|embedded" in silent.text
        # what cannot be asked is a line that says so
        answer = client.post(url, json={**other, "cell": "nobody|embedded"}, headers=lines)
        (line,) = map(json.loads, answer.text.splitlines())
        assert line["status"] == 400
        assert "cannot be asked" in line["error"]
        assert client.post(url, json={"text": "no more"}, headers=lines).status_code == 400
        # one who goes away frees device and lock, and keeps nothing
        before = played.tried().height
        engine_draft = Playground._asking

        def slowly(self, cell, drafts=None):
            def slow(number, text):
                told.append(text)
                time.sleep(0.05)
                drafts(number, text)

            return engine_draft(self, cell, slow if drafts else None)

        monkeypatch.setattr(Playground, "_asking", slowly)
        third = {**asked, "text": f"{asked['text']} The pilot waits.", "cell": CELL}
        with client.stream("POST", url, json=third, headers=lines) as stream:
            next(stream.iter_lines())
        for _ in range(100):
            count = len(told)
            time.sleep(0.2)
            if len(told) == count and not askable._ONE.locked():
                break
        monkeypatch.setattr(Playground, "_asking", engine_draft)
        assert not askable._ONE.locked()
        assert played.tried().height == before
        whole = client.post(url, json=third)
        assert whole.status_code == 200
        (answer,) = played.tried().head(1)["answer"]
        assert 0 < len(told[-1]) < len(answer)
