"""What a judge doubts waits for a person, whose word is kept and comes first; two cells before a judge."""

import csv
import re

import polars as pl
import pytest
import yaml
from fake_endpoint import Servers

from schemas import GoalAgreement, GroundednessSummary, SettledGroundedness
from steer_assets import compute, review
from steer_assets.__main__ import _parser, main
from steer_assets.commands.results import _reviewer
from steer_assets.partitions import named_cell
from steer_assets.settings import registry
from steer_core.tables.errors import ConfigError
from steer_core.tables.snapshot import read_table

SHARED, GRID, CELL = "group:small_shared", "group:small_cells", "direct|far"


def verdict(prompt):
    """A judge that sees words: whether most of the answer's stand in the source."""
    source = re.search(r"Rewrite this text\.\n\n(.*?)\n</conversation>", prompt, re.S)[1]
    answer = re.search(r"<answer>\n(.*?)\n</answer>", prompt, re.S)[1]
    said = set(answer.split())
    return "say:Yes" if len(said & set(source.split())) > 0.7 * len(said) else "say:No"


@pytest.fixture
def judged(workplace, tmp_path, monkeypatch):
    """The small bench, written and judged by a model behind an endpoint."""
    monkeypatch.setenv("STEERWORKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(workplace.folder)
    servers = Servers()
    workplace.server, address = servers.serve(
        answers={
            "Reply with Yes or No.": verdict,
            "Reply with A, with B": "say:A",
            "terrible book": "say:Cows moo.",
        }
    )
    settings = {"source": "served:far-1", "engine": "openai", "endpoint": {"base_url": address, "backoff": 0.005}}
    (workplace.folder / "models.yaml").write_text(yaml.safe_dump({"far": settings}))
    workplace.bench |= {
        "models": ["far"],
        "methods": ["rewrite", "direct"],
        "validated_by": "far",
        "validated_against": ["rewrite"],
    }
    workplace.configure()
    workplace.materialize(SHARED)
    yield workplace
    compute.let_go()
    servers.stop()


def table(workplace, name, contract, cell=CELL):
    return read_table(str(workplace.table(name, cell)), contract)


def page(workplace):
    return workplace.table("report", CELL).with_name("report.html").read_text()


def test_a_persons_word_is_kept_on_the_terminal_or_in_a_file_and_changes_the_page(judged, capsys, tmp_path):
    judged.materialize(GRID, CELL)
    summary = table(judged, "groundedness_summary", GroundednessSummary).row(0, named=True)
    assert summary["p_value"] < 0.025
    assert (summary["own_accepted"], summary["other_accepted"]) == (1.0, 0.25)
    waiting = review.waiting(named_cell(registry().bench("small"), "direct"), spot=3)
    assert waiting.filter("spot_check").height == 3
    lines = iter(["maybe", "no", "tells another story", "skip", "quit"])
    shown = []
    cell = named_cell(registry().bench("small"), "direct")
    assert review.ask(cell, "ada", spot=3, read=lambda _: next(lines), show=shown.append) == 1
    assert "'maybe' is none of yes, no, skip, quit." in shown
    assert waiting["source"][0] in shown[0]
    kept = review.kept_rulings(cell).read()
    assert kept.select("grounded", "by", "note").row(0) == (False, "ada", "tells another story")
    asked = len(judged.server.requests)
    status, _ = judged.materialize(GRID, CELL)
    assert {k for k, v in status.items() if v == "written"} == {
        "settled_groundedness", "groundedness_summary", "report",
    }  # fmt: skip
    assert len(judged.server.requests) == asked
    after = table(judged, "groundedness_summary", GroundednessSummary).row(0, named=True)
    assert after["looked_at"] == 1
    settled = table(judged, "settled_groundedness", SettledGroundedness)
    row = settled.filter(response_id=kept["response_id"][0]).row(0, named=True)
    assert (row["ruled"], row["grounded"]) == (False, False)
    assert "People looked at 1" in page(judged)
    # the file reads like a table, in one line
    folder = judged.root / "small" / "rulings"
    assert pl.read_parquet(folder / "**" / "*.parquet", hive_partitioning=True)["method"].to_list() == ["direct"]
    through_a_file(cell, capsys, tmp_path)


def through_a_file(cell, capsys, tmp_path):
    """What waits is written to a file, filled in, and taken: all of it or nothing."""
    file = tmp_path / "look.csv"
    assert main(["review", "direct", "--bench", "small", "--spot", "4", "--export", str(file)]) == 0
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == review.waiting(cell).height + 4
    rows[0] |= {"stays": "Yes", "note": 'a comma, a "quote"\nand a line'}
    rows[1] |= {"stays": "no"}

    def write(changed):
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, review.COLUMNS)
            writer.writeheader()
            writer.writerows(changed)

    take = ["review", "direct", "--bench", "small", "--by", "ada", "--import", str(file)]
    for wrong, said in (
        ([*rows[:2], {**rows[2], "stays": "perhaps"}], "`stays` is 'perhaps': write yes or no"),
        ([rows[0], rows[0]], "stands twice"),
        ([{**rows[0], "response_id": "abc"}], "does not wait for a look"),
    ):
        write(wrong)
        assert main(take) == 2
        shown = capsys.readouterr().err
        assert said in shown
        assert f"{file}, line " in shown
    file.write_text("a,b\n1,2\n")
    assert main(take) == 2
    assert "has no column 'request_id'" in capsys.readouterr().err
    assert review.kept_rulings(cell).read().height == 1
    write(rows)
    assert main(take) == 0
    assert "2 rulings kept" in capsys.readouterr().out
    kept = review.kept_rulings(cell).read().sort("at")
    assert set(kept["note"][1:]) == {'a comma, a "quote"\nand a line', ""}
    # what somebody has said of does not wait any more, and can be overruled
    assert main(take) == 2
    assert "--again" in capsys.readouterr().err
    assert main([*take, "--again"]) == 0


def test_a_cell_is_compared_with_another_on_the_same_requests(judged, capsys):
    judged.materialize(GRID, CELL)
    found = table(judged, "goal_agreement", GoalAgreement)
    assert set(found["against"]) == {"source"}
    judged.materialize(GRID, "rewrite|far")
    status, _ = judged.materialize(GRID, CELL)
    assert status["goal_agreement"] == "written"
    found = table(judged, "goal_agreement", GoalAgreement)
    assert set(found["against"]) == {"source", "rewrite"}
    assert found.height == 2 * len(judged.bench["goals"])
    # a judge that always names the first text prefers nothing
    assert (found.filter(pl.col("toward_n") > 0)["toward"] == 0.0).all()
    assert "rewrite" in page(judged)
    # the compared method is not compared with itself
    assert set(table(judged, "goal_agreement", GoalAgreement, "rewrite|far")["against"]) == {"source"}
    assert main(["compare", "direct", "rewrite", "--bench", "small", "--judge", "far"]) == 0
    said = capsys.readouterr().out
    assert "direct|far beside rewrite|far, two at a time, by far" in said


def test_without_a_user_of_its_own_a_system_reads_all_commands_and_a_ruling_asks_for_a_name(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(OSError("no username set")))
    assert _parser().parse_args(["review", "direct"]).by is None
    assert _reviewer("ada") == "ada"
    with pytest.raises(ConfigError, match="give --by NAME"):
        _reviewer(None)


def test_what_cannot_be_reviewed_or_compared_is_said(judged, capsys):
    assert main(["review", "direct", "--bench", "small"]) == 2
    assert "was not judged yet" in capsys.readouterr().err
    judged.configure(validated_against=["copy"])
    with pytest.raises(ConfigError, match="'copy', which is no method of the bench"):
        registry()
    judged.configure(validated_by=None, validated_against=["rewrite"])
    with pytest.raises(ConfigError, match="set `validated_by`"):
        registry()
    judged.configure(validated_against=[])
    assert main(["review", "direct", "--bench", "small"]) == 2
    assert "set `validated_by` to a model in benches.yaml" in capsys.readouterr().err


def test_the_queue_in_the_explorer_takes_a_word_and_goes_on(judged):
    from starlette.testclient import TestClient

    from steer_assets.explore.server import explorer

    judged.materialize(GRID, CELL)
    client = TestClient(explorer().app(), base_url="http://localhost", follow_redirects=False)
    cell = named_cell(registry().bench("small"), "direct")
    rows, total = review.queue(cell, spot=2)
    assert rows.filter("spot_check").height == 2
    page = client.get("/small/review?spot=2&by=ada")
    assert page.status_code == 200
    assert f"<b>{total} of {total}</b> wait for somebody to look" in page.text
    assert f'data-request="{rows["request_id"][0]}"' in page.text
    assert 'data-by="ada"' in page.text
    assert f'data-request="{rows["request_id"][1]}"' in client.get("/small/review?spot=2&at=1").text
    word = {
        "cell": CELL, "request_id": rows["request_id"][0], "response_id": rows["response_id"][0], "stays": False,
        "by": "ada", "note": "tells <b>another</b> story",
    }  # fmt: skip
    assert client.post("/small/review/rule", json=word).text == "it does not stay"
    kept = review.kept_rulings(cell).read()
    assert kept.select("grounded", "by", "note").rows() == [(False, "ada", "tells <b>another</b> story")]
    # the next one comes up, and the draw stays as it was
    after, all_ = review.queue(cell, spot=2)
    assert all_ == total
    assert after["request_id"].to_list() == rows["request_id"].to_list()[1:]
    # the last word counts, and it may be taken back
    assert client.post("/small/review/rule", json={**word, "stays": True, "note": ""}).text == "it stays"
    assert client.post("/small/review/rule", json={**word, "stays": None}).text == "taken back"
    assert review.queue(cell, spot=2)[0].height == total
    for change, status, said in (
        ({"by": " "}, 400, "a ruling needs a name"),
        ({"by": "a" * 81}, 400, "a name takes 80 characters"),
        ({"note": "a" * 501}, 400, "a note takes 500 characters"),
        ({"cell": "copy|far"}, 400, "was not judged"),
        ({"request_id": "x"}, 400, "no such answer to request 'x'"),
        ({"stays": 1}, 400, "'stays' is 1"),
        ({"stays": "yes"}, 400, "'stays' is 'yes'"),
    ):
        answer = client.post("/small/review/rule", json={**word, **change})
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert client.post("/small/review/rule", json=word, headers={"Origin": "http://evil.example"}).status_code == 403
    assert review.kept_rulings(cell).read().height == 3
    # all looked at: it says what follows
    for row in review.queue(cell, spot=2)[0].iter_rows(named=True):
        client.post("/small/review/rule", json={**word, "request_id": row["request_id"], "response_id": row["response_id"], "stays": True})  # fmt: skip
    done = client.get("/small/review?spot=2").text
    assert f"<b>0 of {total}</b>" in done
    assert "steerworks run direct" in done
