import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.digest import digest_text
from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.cache import MISSING, GoalCache, text_keys
from steer_core.goals.measure import measure
from steer_core.goals.scorer import Scorer
from steer_core.tables.errors import TableError


@dataclass(frozen=True)
class Counting(Scorer):
    """Length of a text, undefined for an empty one; remembers what it was asked."""

    asked: list[str] = field(default_factory=list, metadata={"identity": False}, compare=False)
    name: ClassVar[str] = "counting"
    version: ClassVar[int] = 1

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        self.asked.extend(a.text for a in analyses)
        return [float(len(a.text)) or None for a in analyses]


class Other(Counting):
    """The same under another name."""

    name: ClassVar[str] = "other"


class Newer(Counting):
    """The next version."""

    version: ClassVar[int] = 2


def table(texts: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame({"text_id": [digest_text(t) for t in texts], "text": list(texts)})


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    cache, scorer = GoalCache(str(tmp_path)), Counting()
    first = measure(table(["a", "bb", ""]), [scorer], cache=cache, chunk_size=2)
    again = measure(table(["", "bb", "a", "dddd"]), [scorer], cache=cache)
    assert scorer.asked == ["a", "bb", "", "dddd"]
    assert again.sort("text_id").head(9).join(first, on=list(first.columns), nulls_equal=True).height == 3
    assert again.filter(pl.col("text_id") == digest_text(""))["state"].item() == "undefined"


def test_only_what_a_scorer_lacks_is_measured(tmp_path: Path) -> None:
    cache, one, two = GoalCache(str(tmp_path)), Counting(), Other()
    measure(table(["a", "bb"]), [one], cache=cache)
    measure(table(["bb", "ccc"]), [two], cache=cache)
    measure(table(["a", "bb", "ccc"]), [one, two], cache=cache)
    assert one.asked == ["a", "bb", "ccc"]
    assert two.asked == ["bb", "ccc", "a"]


def test_a_new_version_is_measured_anew(tmp_path: Path) -> None:
    cache, old, new = GoalCache(str(tmp_path)), Counting(), Newer()
    measure(table(["a"]), [old], cache=cache)
    measure(table(["a"]), [new], cache=cache)
    assert new.asked == ["a"]


def test_the_cache_goes_by_the_text_not_by_its_name(tmp_path: Path) -> None:
    cache, scorer = GoalCache(str(tmp_path)), Counting()
    measure(pl.DataFrame({"text_id": ["x"], "text": ["a"]}), [scorer], cache=cache)
    values = measure(pl.DataFrame({"text_id": ["x"], "text": ["bb"]}), [scorer], cache=cache)
    assert values["value"].to_list() == [2.0]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.text(max_size=4), max_size=6), max_size=5))
def test_cached_values_equal_measured_ones(tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]]) -> None:
    cache = GoalCache(str(tmp_path_factory.mktemp("cache")))
    for texts in batches:
        clean = table([t.encode("utf-8", "ignore").decode() for t in texts]).cast(
            {"text_id": pl.String, "text": pl.String}
        )
        assert measure(clean, [Counting()], cache=cache).equals(measure(clean, [Counting()]))


def test_keys_are_the_content_hash() -> None:
    (high, low) = text_keys(["some text"])[0]
    assert f"{int(high):016x}{int(low):016x}" == digest_text("some text")


def test_half_a_key_in_common_is_not_enough(tmp_path: Path) -> None:
    cache = GoalCache(str(tmp_path))
    cache.add(np.array([[1, 1], [1, 2]], dtype=np.uint64), ["s@1"], np.array([[10.0], [20.0]]))
    found = cache.index(["s@1"]).find(np.array([[1, 1], [1, 2], [1, 3], [2, 1]], dtype=np.uint64))[:, 0]
    assert set(found[:2]) <= {10.0, 20.0, MISSING}
    assert found[0] in (10.0, MISSING)
    assert found[1] in (20.0, MISSING)
    assert found[2:].tolist() == [MISSING, MISSING]


@pytest.mark.parametrize("damage", ["cut", "foreign", "text"])
def test_a_damaged_part_is_named(tmp_path: Path, damage: str) -> None:
    cache = GoalCache(str(tmp_path))
    measure(table(["a", "bb"]), [Counting()], cache=cache)
    (part,) = tmp_path.glob("*.parquet")
    if damage == "cut":
        part.write_bytes(part.read_bytes()[:-20])
    elif damage == "text":
        part.write_text("not a table")
    else:
        pl.DataFrame({"counting@1": ["x"]}).write_parquet(part)
    with pytest.raises(TableError, match=rf"{part.name} cannot be read .*Delete this one file"):
        measure(table(["a"]), [Counting()], cache=cache)
    part.unlink()
    assert measure(table(["a"]), [Counting()], cache=cache)["value"].to_list() == [1.0]


def test_what_a_killed_writer_left_behind_is_no_part(tmp_path: Path) -> None:
    (tmp_path / ".abc.parquet.1-0123.tmp").write_bytes(b"half")
    (tmp_path / ".hidden.parquet").write_bytes(b"half")
    assert GoalCache(str(tmp_path)).parts() == []


SLOW = """
import signal, sys, time
import polars as pl
from schemas.digest import digest_text
from steer_core.goals.cache import GoalCache
from steer_core.goals.measure import measure
from steer_core.goals.scorers import text_length

class Slow(text_length.TextLength):
    def measure(self, analyses):
        time.sleep(0.02)
        return super().measure(analyses)

signal.signal(signal.SIGINT, signal.default_int_handler)
texts = [f"Text number {i}." for i in range(2000)]
measure(pl.DataFrame({"text_id": list(map(digest_text, texts)), "text": texts}), [Slow()], chunk_size=2,
        cache=GoalCache(sys.argv[1]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_finished_chunks_survive_a_kill(tmp_path: Path, how: signal.Signals) -> None:
    cache = GoalCache(str(tmp_path / "cache"))
    run = subprocess.Popen([sys.executable, "-c", SLOW, cache.folder], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(cache.parts()) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, how)
    run.wait(60)
    index = cache.index(["text_length@2"])
    found = index.find(text_keys([f"Text number {i}." for i in range(2000)]))[:, 0]
    assert 10 <= int((found == 4.0).sum()) < 2000
    assert set(found) == {4.0, MISSING}
