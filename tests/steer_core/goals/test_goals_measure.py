import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import GoalValues
from schemas.digest import digest_text
from schemas.specs import GoalSpec
from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.errors import ScoringError
from steer_core.goals.measure import measure, measure_stream
from steer_core.goals.scorer import Scorer, load_scorer
from steer_core.tables.errors import SteerworksError

DEFAULT = ("reading_difficulty", "textual_diversity", "text_length", "formality", "sentiment")


@dataclass(frozen=True)
class Breaks(Scorer):
    """Fails on texts that hold its word; gives infinity for another."""

    word: str = "poison"
    name: ClassVar[str] = "breaks"
    version: ClassVar[int] = 1

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        if any(self.word in a.text for a in analyses):
            raise ZeroDivisionError("it broke")
        return [float("inf") if "endless" in a.text else 1.0 for a in analyses]


def scorers() -> list[Scorer]:
    return [load_scorer(GoalSpec(name=n, scorer=n, unit="-", noun=n, more="m", less="l")) for n in DEFAULT]


def table(texts: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {"text_id": [digest_text(t) for t in texts], "text": list(texts)},
        schema={"text_id": pl.String, "text": pl.String},
    )


TEXTS = [f"The cat number {i} didn't like the {'very ' * (i % 7)}old house. It left! Why?" for i in range(40)] + [
    "",
    "?!",
]


def test_values_follow_the_contract_in_the_order_of_the_texts() -> None:
    values = measure(table(TEXTS), scorers())
    GoalValues.validate(values)
    assert values["text_id"].unique(maintain_order=True).to_list() == [digest_text(t) for t in TEXTS]
    assert values["scorer_id"].to_list()[:5] == [f"{n}@2" for n in DEFAULT]
    assert values.filter(pl.col("value").is_null())["state"].unique().to_list() == ["undefined"]
    assert values.filter(pl.col("value").is_not_null())["state"].unique().to_list() == ["ok"]


def test_each_value_is_that_of_the_text_alone() -> None:
    chosen = scorers()
    together = measure(table(TEXTS), chosen)
    alone = pl.concat([measure(table([t]), [s]) for t in TEXTS for s in chosen])
    assert together.equals(alone)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=12), st.integers(1, 5), st.integers(1, 4))
def test_values_depend_on_neither_chunks_nor_batches(texts: list[str], chunk_size: int, batch: int) -> None:
    chosen, whole = scorers(), table([t.encode("utf-8", "ignore").decode() for t in texts])
    expected = measure(whole, chosen)
    assert measure(whole, chosen, chunk_size=chunk_size).equals(expected)
    parts = [whole[i : i + batch] for i in range(0, len(whole), batch)] or [whole]
    streamed = pl.concat(measure_stream(parts, chosen)).unique(
        ["text_id", "scorer_id"], keep="first", maintain_order=True
    )
    assert streamed.equals(expected)


def test_several_processes_give_the_same_rows_in_order() -> None:
    whole, chosen = table(TEXTS), scorers()
    assert measure(whole, chosen, workers=2, chunk_size=5).equals(measure(whole, chosen))


def test_a_repeated_text_is_measured_once() -> None:
    values = measure(table(["One two three.", "Four.", "One two three."]), scorers())
    assert len(values) == 2 * len(DEFAULT)


def test_an_empty_table_gives_an_empty_table() -> None:
    GoalValues.validate(measure(table([]), scorers()))
    assert len(measure(table(TEXTS), [])) == 0


def test_batches_are_read_as_values_are_taken() -> None:
    taken = []

    def batches() -> Iterator[pl.DataFrame]:
        for i in range(50):
            taken.append(i)
            yield table([f"Text {i}."])

    stream = measure_stream(batches(), scorers())
    next(stream)
    next(stream)
    stream.close()
    assert len(taken) <= 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_scorer_names_itself_and_the_text(workers: int) -> None:
    texts = ["fine", "also fine", "poison here", "fine again"]
    with pytest.raises(ScoringError, match=rf"breaks@1 failed on text_id {digest_text('poison here')} .*it broke"):
        measure(table(texts), [Breaks()], workers=workers, chunk_size=2)


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(ScoringError, match=rf"breaks@1 returned inf for text_id {digest_text('endless')}"):
        measure(table(["fine", "endless"]), [Breaks()])


def test_wrong_tables_and_arguments_are_refused_in_words() -> None:
    with pytest.raises(SteerworksError, match="string column 'text'; the columns are text_id: String"):
        measure(pl.DataFrame({"text_id": ["a"]}), scorers())
    with pytest.raises(SteerworksError, match="'text' is null in row 1"):
        measure(pl.DataFrame({"text_id": ["a", "b"], "text": ["x", None]}), scorers())
    with pytest.raises(SteerworksError, match="scorers given twice: text_length@2"):
        measure(table(["x"]), [scorers()[2], scorers()[2]])
    with pytest.raises(SteerworksError, match="chunk_size must be at least 1"):
        measure(table(["x"]), scorers(), chunk_size=0)
    with pytest.raises(SteerworksError, match="workers must be at least 1"):
        measure(table(["x"]), scorers(), workers=0)


PARALLEL = """
import signal, sys
import polars as pl
from steer_core.goals.measure import measure_stream
from steer_core.goals.scorers import formality

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    batch = pl.DataFrame({"text_id": [str(i) for i in range(500)], "text": ["Some words. " * 40] * 500})
    for values in measure_stream((batch for _ in range(10**6)), [formality.build()], workers=2, chunk_size=100):
        print(len(values), flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "run.py"
    script.write_text(PARALLEL)
    run = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert run.stdout is not None
    assert run.stdout.readline() == b"500\n"
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) >= 2
    os.kill(run.pid, how)
    assert run.wait(60) != 0
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
