"""A judge that shares no device with the model judges a sweep's answers as they come; the tables are the same."""

import shutil

import polars as pl
import pytest
import yaml
from fake_endpoint import Servers

from schemas.specs import ModelSpec
from steer_assets import compute, judging

CELL = "pushed|embedded"
CHEERFUL = {
    "source": {
        "kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": 24, "n_validation": 8,
        "n_items": 6,
    },
    "positive_prompt": "You are a cheerful person.",
    "judge": {"kind": "llm", "rubric": "zero-to-ten", "model": "far"},
    "scale": [0, 10],
}  # fmt: skip
PART = {
    "kind": "vector", "estimator": "mean-difference", "unit": "residual_fraction", "strengths": [0.2], "layers": [1],
}  # fmt: skip


def spec(name, **fields):
    return ModelSpec.model_validate({"name": name, "source": "embedded", "device": "cpu", **fields})


def served(name, address="http://127.0.0.1:9/v1"):
    return spec(name, source=f"served:{name}", engine="openai", endpoint={"base_url": address})


@pytest.mark.parametrize(
    ("writer", "judge", "apart"),
    [
        (spec("a"), spec("a"), False),
        (spec("a"), spec("b", dtype="bfloat16"), False),
        (spec("a"), served("far"), True),
        (served("far"), spec("a"), True),
        (served("far"), served("farther"), True),
        # one backend, and one thread
        (served("far"), served("far"), False),
        (spec("a", device="cuda:0"), spec("b", device="cuda:1", dtype="float16"), True),
        (spec("a", device="cuda:0"), spec("b", device="cpu", dtype="float16"), True),
        # any of them, so perhaps the same
        (spec("a", device="cuda"), spec("b", device="cuda:1", dtype="float16"), False),
        (spec("a", device="cuda:1"), spec("b", device="cuda:1", dtype="float16"), False),
    ],
)
def test_who_shares_no_device_may_work_at_the_same_time(writer, judge, apart):
    assert judging.apart(writer, judge) is apart


def test_an_endpoint_stands_beside_the_loaded_model_until_both_are_let_go(monkeypatch, tmp_path):
    monkeypatch.setenv("STEERWORKS_CACHE", str(tmp_path))
    local, far = compute.backend_for(spec("a")), compute.backend_for(served("far"))
    assert compute.backend_for(spec("a")) is local
    assert compute.backend_for(served("far")) is far
    # one that has a device of its own is asked to stand beside, and found there afterwards
    other = compute.backend_for(spec("b", dtype="bfloat16"), beside=True)
    assert compute.backend_for(spec("b", dtype="bfloat16")) is other
    assert compute.backend_for(spec("a")) is local
    compute.let_go()
    assert compute.backend_for(served("far")) is not far
    compute.let_go()


@pytest.fixture
def judged(workplace, tmp_path, monkeypatch):
    monkeypatch.setenv("STEERWORKS_CACHE", str(tmp_path / "cache"))
    servers = Servers()
    workplace.server, address = servers.serve(answers={"one whole number": "say:7"})
    models = {
        "embedded": {"source": "embedded", "device": "cpu"},
        "far": {"source": "served:far-1", "engine": "openai", "endpoint": {"base_url": address, "backoff": 0.005}},
    }
    (workplace.folder / "models.yaml").write_text(yaml.safe_dump(models))
    (workplace.folder / "behaviors.yaml").write_text(yaml.safe_dump({"cheerful": CHEERFUL}))
    workplace.bench = {**workplace.bench, "methods": ["pushed"], "goals": ["formality"]}
    workplace.configure(
        methods={"pushed": {"parts": [PART]}},
        corpus={"sources": [{"kind": "grammar", "n_texts": 80, "seed": 3}], "min_words": 10},
        probes=[
            {"name": "main", "n_texts": 4, "n_goals_per_text": 1, "active": 1, "weighting": "none"},
            {"name": "pool", "split": "train", "n_texts": 8, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
        ],
        behaviors=["cheerful"],
        sweep={"random_directions": 1, "shuffled": 0, "max_new_tokens": 16},
        decoding={"max_new_tokens": 16},
    )
    yield workplace
    compute.let_go()
    servers.stop()


def read(path) -> pl.DataFrame:
    return pl.read_parquet(path, hive_partitioning=False)


def test_a_sweep_is_judged_as_it_is_written_and_its_tables_are_those_of_judging_afterwards(judged, monkeypatch):
    asked_when_written = []
    write = judging.Alongside.__exit__

    def leaves(self, *error):
        write(self, *error)
        asked_when_written.append(len(judged.server.requests))

    monkeypatch.setattr(judging.Alongside, "__exit__", leaves)
    judged.materialize("group:small_shared")
    select = 'key:"small/behaviors" or (+key:"small/behaviors" and group:small_cells)'
    status, _ = judged.materialize(select, CELL)
    assert status["sweep_responses"] == status["judgements"] == "written"
    tables = {n: read(judged.table(n, CELL)) for n in ("judgements", "arm_scores", "arm_answers")}
    answers = tables["arm_answers"]["response_id"].n_unique()
    assert tables["judgements"].height == answers > 6
    # all verdicts were there when the answers were; what followed asked only what the judge is worth
    assert asked_when_written == [answers]
    calibration = read(judged.table("judge_calibration", CELL)).height
    assert len(judged.server.requests) == answers + calibration

    for name in ("judgements", "arm_scores", "sweep_responses", "arm_answers"):
        judged.table(name, CELL).unlink()
    for folder in judged.root.rglob("judgements-embedded"):
        shutil.rmtree(folder)
    for file in (judged.folder / "cache").rglob("*.sqlite*"):
        file.unlink()
    compute.let_go()
    monkeypatch.setattr(judging, "apart", lambda *_: False)
    judged.server.requests.clear()
    judged.materialize(select, CELL)
    assert len(asked_when_written) == 1
    assert len(judged.server.requests) == answers
    for name, before in tables.items():
        assert read(judged.table(name, CELL)).equals(before)
