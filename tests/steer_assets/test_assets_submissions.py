"""Answers made elsewhere: the probe goes out, answers come back, good ones are scored and ranked, others told why not."""

import json

import dagster as dg
import polars as pl
import pytest
import yaml

from schemas import Leaderboard, Outcomes, Requests
from steer_assets import settings
from steer_assets.__main__ import main
from steer_assets.arriving import PROBLEMS, arrivals_sensor, arrived_cells
from steer_assets.assets import nodes_of
from steer_assets.jobs import cell_job
from steer_assets.partitions import valid_cells
from steer_core.tables.snapshot import read_table

CARD = {"model": "giant-1", "method": "a long prompt", "by": "somebody", "licence": "CC-BY-4.0"}
SHARED, GRID = "group:small_shared", "group:small_cells"


@pytest.fixture
def open_bench(workplace):
    """A bench that takes submissions, with a probe of twelve texts; and its released probe."""
    (workplace.folder / "submissions").mkdir()
    words = ["bread", "letters", "rivers", "engines", "gardens", "contracts", "violins", "maps", "bridges", "lamps"]
    texts = [
        f"The {w} of the {v} were never sold{', and nobody anywhere knows precisely why' * (k % 4)}. The {w} matter."
        for k, w in enumerate(words)
        for v in words[:4]
    ]
    (workplace.folder / "texts.csv").write_text("text\n" + "\n".join(f'"{t}"' for t in texts))
    probes = [{"name": "main", "n_texts": 12, "n_goals_per_text": 2, "active": 1, "weighting": "none"}]
    workplace.configure(
        methods=None,
        goals=["reading_difficulty", "text_length"],
        probes=probes,
        train_probe=None,
        watch={"submissions": {"folder": "submissions"}},
    )
    workplace.bench["methods"] = ["copy", "direct"]
    workplace.configure()
    workplace.materialize(SHARED)
    assert main(["export-probe", "--bench", "small", "--to", str(workplace.folder / "released")]) == 0
    return workplace


def submit(workplace, name, change=lambda rows: rows, kind="jsonl", **card):
    """A submission whose answers are the sources with two words changed, made from what was released."""
    released = workplace.folder / "released"
    rows = pl.read_csv(released / "requests.csv").select("request_id", "text_id", "text")
    rows = change(rows.with_columns(text=pl.lit("Truly, ") + pl.col("text") + pl.lit(" Indeed.")))
    folder = workplace.folder / "submissions" / name
    folder.mkdir(exist_ok=True)
    if kind == "jsonl":
        rows.write_ndjson(folder / "answers.jsonl")
    elif kind == "parquet":
        rows.write_parquet(folder / "answers.parquet")
    else:
        rows.write_csv(folder / "answers.csv")
    space = yaml.safe_load((released / "card.yaml").read_text())["goal_space_id"]
    given = {**CARD, "goal_space_id": space, **card}
    (folder / "card.yaml").write_text(yaml.safe_dump({k: v for k, v in given.items() if v is not None}))
    return folder


def test_the_released_probe_is_whole_and_says_how_to_answer(open_bench):
    released = open_bench.folder / "released"
    requests = read_table(str(open_bench.table("requests")), Requests)
    out = pl.read_parquet(released / "requests.parquet")
    assert out["request_id"].to_list() == requests["request_id"].to_list()
    assert pl.read_csv(released / "requests.csv").equals(out)
    assert out["asked"].str.contains("longer|shorter|read").all()
    assert set(pl.read_csv(released / "request_goals.csv")["request_id"]) == set(out["request_id"])
    card = (released / "README.md").read_text()
    assert "| main | 24 | 12 |" in card
    assert "| text_length |" in card
    assert "text_length@" in card
    with pytest.raises(SystemExit):
        main(["export-probe", "--bench", "small"])
    assert main(["export-probe", "--bench", "small", "--to", str(released)]) == 2


def test_a_good_submission_is_admitted_scored_and_ranked_beside_copy(open_bench, capsys):
    submit(open_bench, "Giant_1", kind="parquet")
    settings.registry.cache_clear()
    # nobody has looked yet: it is no method
    assert settings.registry().bench("small").methods == ("copy", "direct")
    assert main(["submissions", "--bench", "small"]) == 0
    assert "can be admitted: --admit" in capsys.readouterr().out
    assert main(["submissions", "--bench", "small", "--admit"]) == 0
    assert "admitted; steerworks run giant_1 --models elsewhere" in capsys.readouterr().out
    settings.registry.cache_clear()
    bench = settings.registry().bench("small")
    assert bench.methods == ("copy", "direct", "giant_1")
    assert bench.models == ("embedded", "elsewhere")
    keys = [c.key for c in valid_cells(bench)]
    # a model that nobody can ask has what asks none, and the answers are nobody else's
    assert keys == ["copy|embedded", "direct|embedded", "copy|elsewhere", "giant_1|elsewhere"]
    assert [c.key for c in arrived_cells(bench)] == ["copy|elsewhere", "giant_1|elsewhere"]
    for cell in ("copy|elsewhere", "giant_1|elsewhere"):
        open_bench.materialize(GRID, cell)
    open_bench.materialize("group:small_leaderboard")
    outcomes = read_table(str(open_bench.table("outcomes", "giant_1|elsewhere")), Outcomes)
    assert outcomes["text"].str.starts_with("Truly, ").all()
    board = read_table(str(open_bench.table("leaderboard")), Leaderboard)
    assert dict(board.select("method", "model").iter_rows()) == {"giant_1": "elsewhere", "copy": "elsewhere"}
    row = board.filter(method="giant_1").row(0, named=True)
    assert row["vs_copy"] is not None
    # what it took nobody here knows; a copy took nothing
    assert dict(board.select("method", "completion_tokens").iter_rows()) == {"giant_1": None, "copy": 0.0}
    report = open_bench.root / "small/report/model=elsewhere/method=giant_1/report.html"
    assert "not known" in report.read_text()
    assert main(["submissions", "--bench", "small"]) == 0
    assert "Giant_1: on the bench" in capsys.readouterr().out


def worse(rows):
    return rows.with_columns(text=pl.lit("Something else altogether."))


BAD = {
    "missing": ({"change": lambda r: r.head(20)}, r"4 rows \(.* and 1 more\) are without an answer"),
    "foreign": ({"change": lambda r: r.with_columns(request_id=pl.lit("x") + pl.col("request_id"))}, "are of no request of this probe"),
    "twice": ({"change": lambda r: pl.concat([r, r.head(1)])}, r"1 rows \(.*\) are twice or more"),
    "other-release": ({"change": lambda r: r.with_columns(text_id=pl.lit("old"))}, "with the text_id of another source"),
    "copies": ({"change": lambda r: r.with_columns(text=pl.col("text").str.strip_prefix("Truly, ").str.strip_suffix(" Indeed."))}, "100% of the answers are the source itself"),
    "shuffled": ({"change": lambda r: r.with_columns(text=pl.concat([r["text"].tail(12), r["text"].head(12)]))}, "are they in another order"),
    "noise": ({"change": worse}, "no more words in common with their own sources"),
    "half-shuffled": (
        {"change": lambda r: r.with_columns(text=pl.concat([r["text"].head(12), r["text"].tail(12).reverse()]))},
        "in another order",
    ),
    "nested": ({"change": lambda r: r.with_columns(text=pl.concat_list("text"))}, "column 'text' is List"),
    "no-source": (
        {"change": lambda r: r.with_columns(text_id=pl.lit(None, pl.String))},
        "with the text_id of another source",
    ),
    "direct": ({}, "there is a method 'direct' already"),
    "all": ({}, "has a meaning of its own"),
    "good.": ({}, "comes to the same name 'good'"),
    "no-text": ({"change": lambda r: r.rename({"text": "answer"})}, "column .text|no column 'text'"),
    "no-licence": ({"licence": None}, "card.yaml: licence: Field required"),
    "blank-author": ({"by": "  "}, "card.yaml: by: Value error, is blank"),
    "old-space": ({"goal_space_id": "0123"}, "it answers goal space '0123', and this probe is of"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_submission_is_told_in_words_and_stops_nobody(open_bench, capsys, name):
    settings_of, said = BAD[name]
    submit(open_bench, name, **settings_of)
    good = "good" if name != "good." else "fine"
    submit(open_bench, good)
    if name == "good.":
        submit(open_bench, "good", change=lambda rows: rows.head(3))
    settings.registry.cache_clear()
    assert main(["submissions", "--bench", "small", "--admit"]) == 2
    out = capsys.readouterr().out
    assert f"{name}: not taken" in out
    assert pl.Series([out]).str.contains(said).item(), out
    assert f"{good}: admitted" in out
    settings.registry.cache_clear()
    assert settings.registry().bench("small").methods == ("copy", "direct", good)
    # the sensor says the same, on a file beside it
    bench = settings.registry().bench("small")
    job = cell_job(bench, list(nodes_of(bench).all))
    with dg.instance_for_test() as instance:
        requests = arrivals_sensor(bench, job, "x")(dg.build_sensor_context(instance=instance))
    assert [r.partition_key for r in requests] == ["copy|elsewhere", f"{good}|elsewhere"]
    problems = (open_bench.folder / "submissions" / name / PROBLEMS).read_text()
    assert pl.Series([problems]).str.contains(said).item(), problems


def test_an_admitted_submission_that_is_edited_is_off_the_bench_until_it_is_looked_at_again(open_bench, capsys):
    folder = submit(open_bench, "giant", kind="csv")
    assert main(["submissions", "--bench", "small", "--admit"]) == 0
    (folder / "answers.csv").write_text((folder / "answers.csv").read_text().replace("Truly", "Surely"))
    settings.registry.cache_clear()
    registry = settings.registry()
    assert registry.bench("small").methods == ("copy", "direct")
    assert "was changed after it was admitted" in registry.refused["small"][0]
    (folder / "admitted.json").write_text("{}")
    settings.registry.cache_clear()
    assert "cannot be read" in settings.registry().refused["small"][0]
    capsys.readouterr()
    assert main(["submissions", "--bench", "small", "--admit"]) == 0
    assert json.loads((folder / "admitted.json").read_text())["notes"]


def test_without_a_folder_or_a_probe_it_is_one_line(workplace, capsys):
    workplace.bench["methods"] = ["copy"]
    workplace.configure()
    assert main(["submissions", "--bench", "small"]) == 2
    assert "takes no submissions: set `watch" in capsys.readouterr().err
    assert main(["export-probe", "--bench", "small", "--to", str(workplace.folder / "out")]) == 2
    assert "has no table 'requests' yet" in capsys.readouterr().err
    assert not (workplace.folder / "out").exists()


def test_a_submission_may_be_sent_from_the_explorer(open_bench, monkeypatch):
    import base64

    from starlette.testclient import TestClient

    from steer_assets.explore.server import explorer

    settings.registry.cache_clear()
    scored = []
    monkeypatch.setattr("steer_assets.explore.scoring.Scoring.start", lambda self, method: scored.append(method))
    client = TestClient(explorer().app(), base_url="http://localhost", follow_redirects=False)
    folder = open_bench.folder / "submissions"
    made = submit(open_bench, "aside", kind="parquet")
    content = base64.b64encode((made / "answers.parquet").read_bytes()).decode()
    space = yaml.safe_load((open_bench.folder / "released" / "card.yaml").read_text())["goal_space_id"]
    page = client.get("/small/submit").text
    assert f'value="{space}"' in page
    assert "aside: can be admitted" in page
    body = {
        "name": "giant-2", "ends": "parquet", "content": content,
        "card": {**CARD, "goal_space_id": space, "tokens_per_request": "180.5"},
    }  # fmt: skip
    good = client.post("/small/submit/send", json=body)
    assert (good.status_code, good.text.splitlines()[0]) == (200, "giant-2 is admitted, and is being scored."), (
        good.text
    )
    assert scored == ["giant-2"]
    page = client.get("/small/submit").text
    assert "giant-2: on the bench, not scored yet" in page
    assert "180.5 tokens a request, as its card says" in page
    assert client.post("/small/submit/score", json={"name": "giant-2"}).text == "giant-2 is being scored."
    assert scored == ["giant-2", "giant-2"]
    for name in ("aside", "nobody", "../giant-2"):
        answer = client.post("/small/submit/score", json={"name": name})
        assert (answer.status_code, "no submission" in answer.text) == (400, True)
    assert yaml.safe_load((folder / "giant-2" / "card.yaml").read_text())["tokens_per_request"] == 180.5
    settings.registry.cache_clear()
    assert "giant-2" in settings.registry().bench("small").methods
    few = base64.b64encode(pl.read_parquet(made / "answers.parquet").head(5).write_csv().encode()).decode()
    before = sorted(p.name for p in folder.iterdir())
    for change, said in (
        ({}, "there is a submission 'giant-2' already"),
        ({"name": "../escaped"}, "name '../escaped'"),
        ({"name": ".hidden"}, "name '.hidden'"),
        ({"name": "a" * 61}, "up to 60 small letters"),
        ({"name": "b", "ends": "exe"}, "this one ends in 'exe'"),
        ({"name": "b", "ends": "csv", "content": few}, "19 rows"),
        ({"name": "b", "content": "%%%"}, "the file did not arrive whole"),
        ({"name": "b", "content": base64.b64encode(b"nothing").decode()}, "answers.parquet"),
        ({"name": "b", "card": {**CARD}}, "card.yaml: goal_space_id: Field required"),
        ({"name": "b", "card": {**body["card"], "tokens_per_request": "many"}}, "'many' is no number"),
        ({"name": "b", "card": {**body["card"], "method": {"nested": "<script>"}}}, "card.yaml: method"),
    ):
        answer = client.post("/small/submit/send", json={**body, **change})
        assert (answer.status_code, said in answer.text) == (400, True), (change.keys(), answer.text)
    assert sorted(p.name for p in folder.iterdir()) == before
    assert client.post("/small/submit/send", json=body, headers={"Origin": "http://evil"}).status_code == 403


def test_a_submission_is_scored_in_a_process_of_its_own_one_at_a_time_and_failures_are_said(open_bench, monkeypatch):
    import subprocess
    import threading

    from steer_assets.explore.submitted import Submissions
    from steer_core.tables.errors import ConfigError

    # a number to the card, and a text to YAML
    made = submit(open_bench, "Giant_1", tokens_per_request="1e3")
    assert "tokens_per_request: 1e3" in (made / "card.yaml").read_text().replace("'", "")
    assert main(["submissions", "--bench", "small", "--admit"]) == 0
    bench = settings.registry().bench("small")
    submissions = Submissions(bench)
    go, asked = threading.Event(), []

    def run(command, **settings):
        asked.append(command[3:])
        assert go.wait(20)
        return subprocess.CompletedProcess(command, 1, b"starting\nerror: no space left \xff\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert submissions.listed()[0].state == "on the bench, not scored yet"
    assert submissions.listed()[0].scorable
    assert submissions.listed()[0].says == "1000 tokens a request, as its card says"
    submissions.score("Giant_1")
    for _ in range(100):
        (found,) = submissions.listed()
        if found.state == "is being scored":
            break
        threading.Event().wait(0.05)
    assert (found.state, found.going, found.scorable) == ("is being scored", True, False)
    with pytest.raises(ConfigError, match="giant_1 is being scored: look again"):
        submissions.score("Giant_1")
    go.set()
    for _ in range(100):
        (found,) = submissions.listed()
        if not found.going:
            break
        threading.Event().wait(0.05)
    assert found.state == "was not scored: starting / error: no space left \ufffd"
    assert found.scorable
    assert asked == [["run", "copy", "giant_1", "--bench", "small", "--models", "elsewhere"]]


def test_answers_that_are_swapped_between_requests_on_one_text_are_noted(open_bench):
    from steer_assets.submitting import checked

    # four requests on each of seventeen texts
    probe = {"name": "main", "n_texts": 17, "n_goals_per_text": 4, "active": 2, "weighting": "none"}
    open_bench.configure(probes=[probe])
    open_bench.materialize(SHARED)
    assert main(["export-probe", "--bench", "small", "--to", str(open_bench.folder / "again")]) == 0
    (open_bench.folder / "released").rename(open_bench.folder / "before")
    (open_bench.folder / "again").rename(open_bench.folder / "released")
    goals = pl.read_csv(open_bench.folder / "released" / "request_goals.csv").filter(goal="text_length")
    moves = goals.select("request_id", move=pl.col("z_star") - pl.col("z0"))

    def steered(rows):
        rows = rows.join(moves, on="request_id", how="left", maintain_order="left")
        more = pl.col("text") + " Indeed, they are as they are, and they stay as they were." * 2
        less = pl.col("text").str.split(" ").list.head(6).list.join(" ")
        told = pl.when(pl.col("move") > 0).then(more).when(pl.col("move") < 0).then(less).otherwise("text")
        return rows.select("request_id", "text_id", "move", text=told)

    def right(rows):
        return steered(rows).drop("move")

    def swapped(rows):
        # whoever asked for the most gets what was written for who asked for the least
        place = pl.col("move").fill_null(0.0).rank("ordinal").over("text_id").alias("place")
        told = steered(rows).with_columns(place)
        other = told.select("text_id", "text", place=pl.len().over("text_id") + 1 - pl.col("place"))
        joined = told.drop("text").join(other, on=["text_id", "place"], maintain_order="left")
        return joined.select("request_id", "text_id", "text")

    settings.registry.cache_clear()
    bench = settings.registry().bench("small")
    notes = {}
    for name, change in (("right", right), ("wrong", swapped)):
        found = checked(bench, submit(open_bench, name, change))
        assert found.problems == ()
        notes[name] = [n for n in found.notes if "what others on the same text ask" in n]
    assert notes["right"] == []
    assert len(notes["wrong"]) == 1
