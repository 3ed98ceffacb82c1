"""The demo: mistakes are said before anything runs, progress is shown, Ctrl-C ends it."""

import io
import logging
import os
import signal
import subprocess
import sys
import time
import weakref

import dagster as dg
import polars as pl
import pytest
import yaml

from steer_assets import bar, interrupts
from steer_assets.demo import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bench", "tale"], "error: unknown bench 'tale'; configured are: tales. Did you mean 'tales'?"),
        (["--methods", "drect"], "error: bench 'tales' has no method 'drect'; it has copy, "),
    ],
)
def test_unknown_names_are_refused_before_anything_runs(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_broken_configuration_is_named(tmp_path, monkeypatch, capsys):
    from steer_assets import settings

    (tmp_path / "models.yaml").write_text("a: [1")
    monkeypatch.setenv("STEERWORKS_CONFIG", str(tmp_path))
    settings.registry.cache_clear()
    try:
        assert main([]) == 2
    finally:
        settings.registry.cache_clear()
    assert "models.yaml is not valid YAML" in capsys.readouterr().err


def bench_with(workplace, **changes):
    """A bench of two cells; `changes` go into its entry."""
    workplace.bench = {**workplace.bench, "methods": ["copy", "direct"]}
    workplace.configure(**changes)
    return ["--bench", "small", "--methods", "copy", "direct"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(logging.getLogger("dagster"), "level", logging.getLogger("dagster").level)


def test_paths_that_lead_nowhere_are_all_found_at_the_start_with_the_files_that_name_them(workplace, home, capsys):
    behavior = {"source": {"kind": "pairs", "path": "pairs.jsonl"}, "positive_prompt": "Be cheerful."}
    (workplace.folder / "behaviors.yaml").write_text(yaml.safe_dump({"cheer": behavior}))
    (workplace.folder / "models.yaml").write_text(yaml.safe_dump({"mine": {"source": "/nowhere/model"}}))
    corpus = {"sources": [{"kind": "file", "name": "own", "path": "text.csv", "column": "text"}], "min_words": 4}
    arguments = bench_with(workplace, corpus=corpus, behaviors=["cheer"], models=["mine"])
    assert main(arguments) == 2
    said = capsys.readouterr()
    folder = workplace.folder
    assert f"{folder / 'benches.yaml'}, entry 'small': there is no file {folder / 'text.csv'}" in said.err
    assert f"{folder / 'behaviors.yaml'}, entry 'cheer': there is no file {folder / 'pairs.jsonl'}" in said.err
    assert f"{folder / 'models.yaml'}, entry 'mine': model 'mine': /nowhere/model has no config.json" in said.err
    assert said.out == ""
    assert not workplace.root.exists()


def test_contrasts_that_fail_keep_neither_other_cells_nor_the_leaderboard_from_being_made(workplace, home, capsys):
    (workplace.folder / "pairs.jsonl").write_text("this is no JSON\n")
    behavior = {
        "source": {"kind": "pairs", "path": "pairs.jsonl"},
        "positive_prompt": "Be cheerful.",
        "judge": {"kind": "llm", "rubric": "zero-to-ten"},
    }
    (workplace.folder / "behaviors.yaml").write_text(yaml.safe_dump({"cheer": behavior}))
    assert main(bench_with(workplace, behaviors=["cheer"])) == 1
    said = capsys.readouterr().out
    assert "small__contrasts: " in said
    assert "pairs.jsonl" in said
    assert "[3/4] direct|embedded ... 11 tables written" in said
    assert "[4/4] leaderboard ... 2 tables written" in said
    assert workplace.table("leaderboard").exists()


def test_a_leaderboard_of_no_cell_says_that_one_must_be_run_first(workplace, home, capsys):
    # a method that needs a longer context than the model has
    workplace.bench = {**workplace.bench, "methods": ["few-shot"]}
    workplace.configure()
    assert main(["--bench", "small", "--methods", "all"]) == 1
    said = capsys.readouterr().out
    assert "few-shot|embedded: left out, few-shot needs a context of 2048 tokens" in said
    assert "small__leaderboard: leaderboard: no cell of bench 'small' has answers on its probes yet" in said


def test_a_model_that_never_stops_loses_its_goals_vectors_and_nothing_else(workplace, home, capsys):
    part = {"kind": "vector", "estimator": "mean-difference", "layers": [1], "strengths": [-0.4, 0.4]}
    methods = {
        name: {"parts": [part | {"contrasts": order}]}
        for name, order in (("asked", ["asked", "mined"]), ("pushed", ["asked", "corpus", "mined"]))
    }
    workplace.bench = {**workplace.bench, "methods": list(methods)}
    workplace.configure(methods=methods, decoding={"max_new_tokens": 2})
    assert main(["--bench", "small", "--methods", "all"]) == 0
    assert "FAILED" not in capsys.readouterr().out
    sources = pl.read_parquet(workplace.table("contrast_sources", "asked|embedded"))
    assert not sources["used"].any()
    assert set(sources["pairs"]) == {0}
    assert pl.read_parquet(workplace.table("vectors", "asked|embedded")).is_empty()
    # the corpus needs no answers, and its vectors are tried; where every answer is cut off, no dose can help
    sources = pl.read_parquet(workplace.table("contrast_sources", "pushed|embedded"))
    assert set(sources.filter("used")["source"]) == {"corpus"}
    assert set(pl.read_parquet(workplace.table("dose_response", "pushed|embedded"))["share"]) == {0.0}
    page = workplace.table("report", "asked|embedded").with_name("report.html").read_text()
    assert "has no vector and is left to the prompt" in page


@pytest.mark.e2e
def test_ctrl_c_ends_the_demo_at_once_with_one_line_and_starts_no_further_cell(workplace, tmp_path):
    workplace.bench = {**workplace.bench, "methods": ["best-of-8", "consensus-of-8"]}
    workplace.configure(decoding={"max_new_tokens": 192})
    (tmp_path / "home").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "steer_assets.demo", "--bench", "small", "--methods", "all"],
        env={**os.environ, "DAGSTER_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    lock = tmp_path / "steerworks-cpu.lock"
    end = time.monotonic() + 90
    while not (lock.exists() and lock.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)
    # as a terminal does: to all processes of the group
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "Traceback" not in out
    assert out.splitlines()[-1] == "Stopped. What was written so far is kept: run it again to go on."
    assert "consensus-of-8" not in out
    # the cell that ran was left in its midst
    assert "tables written" not in out.split("best-of-8")[1]


def test_an_interrupt_that_is_swallowed_on_the_way_ends_the_demo_all_the_same(workplace, home, monkeypatch, capsys):
    begun = []

    def swallows(self, what):
        # as an import with a bare `except` does, or a destructor
        begun.append(what)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        except BaseException:
            return

    monkeypatch.setattr(bar.Bar, "begins", swallows)
    assert main(bench_with(workplace)) == 130
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "Stopped. What was written so far is kept: run it again to go on."
    assert len(begun) == 1
    assert "[2/" not in said.out


def test_interrupts_are_counted_whatever_handles_them():
    earlier = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        with interrupts.counting():
            interrupts.check()
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.pressed()
            assert interrupts.pressed()
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
        assert not interrupts.pressed()
    finally:
        signal.signal(signal.SIGINT, earlier)


def test_of_an_interrupt_that_python_swallowed_nothing_is_printed_and_of_other_errors_what_was(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda swallowed: said.append(swallowed.exc_type))

    class Noted(set):
        pass

    def dies_with(error):
        def callback(_):
            raise error

        noted = Noted()
        watched = weakref.ref(noted, callback)
        del noted
        assert watched() is None

    with interrupts.counting():
        # as where a collection is freed while the signal is handled
        dies_with(KeyboardInterrupt())
        dies_with(dg.DagsterExecutionInterruptedError())
        assert said == []
        dies_with(ValueError("a fault"))
    dies_with(KeyboardInterrupt())
    assert said == [ValueError, KeyboardInterrupt]


def test_progress_is_a_line_now_and_then_where_no_terminal_is(monkeypatch):
    out, clock = io.StringIO(), iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(bar.time, "monotonic", lambda: next(clock))
    with bar.Bar("[2/4] direct|embedded", out) as shown:
        shown.counts("responses", 64, 512)
        shown.counts("responses", 128, 512)
        shown.counts("responses", 264, 512)
        shown.counts("responses", 300, 512)
        shown.says("waiting for cpu")
        shown.ends("10 tables written")
    assert out.getvalue().splitlines() == [
        "[2/4] direct|embedded ... ",
        "    264 of 512 responses, 5.0/s, 50 s left",
        "    waiting for cpu",
        "    10 tables written",
    ]


def test_progress_in_a_terminal_has_rate_and_time_left_and_leaves_one_line(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    with bar.Bar("[2/4] direct|embedded", out) as shown:
        shown.begins("responses")
        shown.counts("responses", 0, 4)
        shown._bar.start_t -= 2
        shown.counts("responses", 2, 4)
        shown._bar.refresh()
    shown.ends("10 tables written")
    drawn = out.getvalue()
    assert "2/4 [00:02<00:0" in drawn
    assert drawn.split("\r")[-1] == "[2/4] direct|embedded ... 10 tables written\n"
