"""`steerworks`: cells with state, age and cost; plans; runs; comparisons; rebuilding; tidying; pages."""

import datetime
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest
import yaml

from schemas import Responses
from steer_assets.__main__ import main
from steer_assets.assets import nodes_of
from steer_assets.io import table_url
from steer_assets.settings import registry
from steer_assets.status import State, age, status_of
from steer_core.tables import Journal


@pytest.fixture
def bench(workplace, tmp_path, monkeypatch):
    """A bench of two controls and a prompt, nothing run yet."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    workplace.bench = {**workplace.bench, "methods": ["copy", "rewrite", "direct"]}
    workplace.configure()
    return workplace


def states():
    bench = registry().bench("small")
    from steer_assets.partitions import all_cells
    from steer_assets.settings import storage_root

    return {c.method.name: status_of(c, nodes_of(bench), storage_root()) for c in all_cells(bench)}


def test_cells_go_from_not_run_to_up_to_date_and_out_of_date_with_their_cost(bench, capsys):
    assert {s.state for s in states().values()} == {State.ABSENT}
    assert main(["run", "copy", "direct", "--bench", "small"]) == 0
    found = states()
    assert {m: s.state for m, s in found.items()} == {
        "copy": State.CURRENT,
        "rewrite": State.ABSENT,
        "direct": State.CURRENT,
    }
    responses = pl.read_parquet(table_url(str(bench.root), "small", "responses", "direct|embedded"))
    spent = found["direct"]
    assert (spent.answers, spent.tokens) == (responses.height, responses["completion_tokens"].sum())
    assert spent.seconds == pytest.approx(responses["seconds"].sum())
    # the source handed back costs nothing
    assert (found["copy"].answers, found["copy"].tokens) == (24, 0)
    assert datetime.datetime.now(datetime.UTC) - found["copy"].made < datetime.timedelta(minutes=5)

    capsys.readouterr()
    assert main(["cells", "--bench", "small"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["cell", "state", "age", "answers", "tokens", "model", "seconds"]
    assert any(line.startswith("direct|embedded") and "up to date" in line for line in said)

    Path(table_url(str(bench.root), "small", "comparisons", "direct|embedded")).unlink()
    assert (states()["direct"].state, states()["direct"].why) == (State.UNFINISHED, "comparisons")
    # another control appears: what is held against it is out of date
    assert main(["run", "rewrite", "--bench", "small"]) == 0
    assert main(["run", "direct", "--bench", "small"]) == 0
    assert states()["direct"].state is State.CURRENT
    bench.configure(seed=17)
    assert {s.state for s in states().values()} == {State.STALE}


def test_a_plan_says_what_a_run_then_asks_for_and_asks_nothing(bench, capsys):
    assert main(["plan", "all", "--bench", "small"]) == 0
    said = capsys.readouterr().out
    assert not (bench.root / "small" / "journal").exists()
    [planned] = [line.split() for line in said.splitlines() if line.startswith("direct|embedded")]
    header = ["cell", "of", "requests", "calls at most", "prompt tokens", "new tokens at most", "seconds at most"]
    assert all(name in said.splitlines()[0] for name in header)
    assert main(["run", "direct", "--bench", "small"]) == 0
    responses = pl.read_parquet(table_url(str(bench.root), "small", "responses", "direct|embedded"))
    calls, prompt_tokens = (int(v.replace(",", "")) for v in planned[4:6])
    assert responses.height <= calls
    assert responses["prompt_tokens"].sum() == prompt_tokens


def test_a_cell_that_is_not_fitted_yet_is_planned_with_what_fitting_asks_for(bench, capsys):
    part = {"kind": "vector", "estimator": "mean-difference", "unit": "residual_fraction", "strengths": [-0.2, 0.2]}
    bench.bench = {**bench.bench, "methods": ["pushed"]}
    bench.configure(methods={"pushed": {"parts": [part]}})
    assert main(["plan", "pushed", "--bench", "small"]) == 0
    said = capsys.readouterr().out
    assert not (bench.root / "small" / "journal").exists()
    of = {
        line.split("  ")[1].strip(): line.split() for line in said.splitlines() if line.startswith("pushed|embedded ")
    }
    assert set(of) == {"fit, goal_contrasts of vector", "fit, dose_response of vector", "probe main"}
    # none and two strengths, four goals, 32 texts each at most
    assert "384" in of["fit, dose_response of vector"]
    assert "pushed|embedded: is fitted first" in said


def test_a_plan_tells_every_mistake_of_the_configuration_at_once(bench, capsys):
    behavior = {"source": {"kind": "pairs", "path": "pairs.jsonl"}, "positive_prompt": "Be cheerful."}
    (bench.folder / "behaviors.yaml").write_text(yaml.safe_dump({"cheer": behavior}))
    (bench.folder / "models.yaml").write_text(yaml.safe_dump({"mine": {"source": "/nowhere/model"}}))
    bench.configure(behaviors=["cheer"], models=["mine"])
    assert main(["plan", "all", "--bench", "small"]) == 2
    said = capsys.readouterr().err
    assert "pairs.jsonl" in said
    assert "/nowhere/model" in said


def test_two_cells_are_compared_in_a_sentence_and_names_are_checked(bench, capsys):
    assert main(["run", "copy", "direct", "--bench", "small"]) == 0
    capsys.readouterr()
    assert main(["compare", "direct", "copy|embedded", "--bench", "small"]) == 0
    assert capsys.readouterr().out.startswith("direct|embedded ")
    assert main(["compare", "direct", "rewrite", "--bench", "small"]) == 2
    assert "rewrite|embedded has no scores yet: steerworks run rewrite" in capsys.readouterr().err
    assert main(["compare", "direct", "drect", "--bench", "small"]) == 2
    assert "has no method 'drect'" in capsys.readouterr().err


def test_rebuilding_makes_every_table_again_without_asking_the_model_again(bench, capsys):
    assert main(["run", "direct", "--bench", "small"]) == 0
    journal = Journal(str(bench.root / "small" / "journal" / "model=embedded"), Responses)
    before = journal.parts()
    capsys.readouterr()
    assert main(["rebuild", "direct", "--bench", "small"]) == 0
    said = capsys.readouterr().out
    (cell,) = [line for line in said.splitlines() if "direct|embedded ..." in line]
    assert "0 unchanged" in cell
    # what all cells share is up to date, and is left alone
    (shared,) = [line for line in said.splitlines() if "corpus, goal space, probes ..." in line]
    assert "0 tables written" in shared
    assert journal.parts() == before
    assert main(["run", "direct", "--bench", "small"]) == 0
    assert "direct|embedded ... 0 tables written" in capsys.readouterr().out


def test_cleaning_merges_the_journal_and_drops_leftovers_and_keeps_every_row(bench, capsys):
    assert main(["run", "direct", "rewrite", "--bench", "small"]) == 0
    journal = Journal(str(bench.root / "small" / "journal" / "model=embedded"), Responses)
    rows = journal.read().sort("response_id")
    # a writer that is gone: no process has the largest number that there can be
    leftover = bench.root / "small" / f".part.parquet.4194304-{'0' * 32}.tmp"
    leftover.write_bytes(b"half")
    assert len(journal.parts()) > 1
    assert main(["clean", "--bench", "small"]) == 0
    assert not leftover.exists()
    assert len(journal.parts()) == 1
    assert journal.read().sort("response_id").equals(rows)
    assert "files before, 1 now" in capsys.readouterr().out


def test_a_page_is_opened_where_there_is_one(bench, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["open", "copy", "--bench", "small"]) == 2
    assert "steerworks run copy" in capsys.readouterr().err
    assert main(["run", "copy", "--bench", "small"]) == 0
    assert main(["open", "copy", "--bench", "small"]) == 0
    assert main(["open", "--print", "--bench", "small"]) == 0
    assert [unquote(o).endswith("/small/report/model=embedded/method=copy/report.html") for o in opened] == [True]
    assert capsys.readouterr().out.splitlines()[-1].endswith("/small/leaderboard_page/report.html")


@pytest.mark.parametrize(
    ("span", "said"),
    [({"seconds": 59}, "0 min"), ({"minutes": 59}, "59 min"), ({"hours": 47}, "47 h"), ({"hours": 48}, "2 d")],
)
def test_ages_are_told_in_their_largest_unit(span, said):
    assert age(datetime.timedelta(**span)) == said


def test_what_a_vector_or_a_judge_gets_wrong_is_found_before_a_model_is_asked(bench, capsys):
    good = {"kind": "vector", "estimator": "mean-difference", "unit": "raw"}
    source = {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": 8, "n_items": 2}
    behaviors = {
        "cheer": {"source": source},
        "odd": {"source": source, "judge": {"kind": "llm", "rubric": "zero-to-ten"}, "scale": [1, 4]},
        "odder": {"source": source, "judge": {"rubric": "nobody"}},
    }
    (bench.folder / "behaviors.yaml").write_text(yaml.safe_dump(behaviors))
    parts = {
        "deep": {**good, "layers": [1, 99]},
        "unknown": {**good, "estimator": "magic"},
        "opted": {**good, "options": {"nothing": 1}},
        "operated": {**good, "operator": "surgery"},
        "gated": {**good, "gate": {"condition": "nobody", "layer": 50}},
    }
    bench.bench = {**bench.bench, "methods": list(parts), "behaviors": list(behaviors)}
    bench.configure(
        methods={n: {"parts": [p]} for n, p in parts.items()}, sweep={"layers": [77], "exclude": [{"colour": "red"}]}
    )
    for command in ("plan", "run"):
        assert main([command, "all", "--bench", "small"]) == 2
        said = capsys.readouterr().err
        for words in (
            "entry 'deep', part 'vector' on embedded: there is no layer 99: the model has layers 0 to 3",
            "there is no layer 77",
            "unknown estimator 'magic'",
            "estimator 'mean-difference': unknown option 'nothing'",
            "unknown operator 'surgery'",
            "the gate's condition 'nobody' is no behavior; configured are cheer, odd, odder",
            "the gate looks at layer 50, and the model has layers 0 to 3",
            "rubric 'zero-to-ten' goes from 0 to 10, and `scale` says 1 to 4",
            "unknown rubric 'nobody'",
            "an exclusion of the sweep names 'colour'",
        ):
            assert words in said, words
    assert not (bench.root / "small").exists()


def test_storage_that_is_none_is_told_before_anything_runs(bench, capsys, monkeypatch):
    monkeypatch.setenv("STEERWORKS_ROOT", "foo://nowhere")
    assert main(["run", "copy", "--bench", "small"]) == 2
    assert "STEERWORKS_ROOT: foo://nowhere cannot be reached" in capsys.readouterr().err
