"""A journal whose writers are killed outright at random moments holds every row that an append returned for, once."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import polars as pl
import pytest

from schemas import Responses
from steer_core.tables import Journal

KILLS = int(os.environ.get("STEERWORKS_KILLS", "3"))
ROOM = Path(__file__).parents[1] / "steer_core" / "tables"
#: Reports on one line what is there: a line is whole or not.
APPENDING = """
    import os, sys
    from journals import responses
    from schemas import Responses
    from steer_core.tables import Journal
    journal = Journal(sys.argv[1], Responses)
    n = int(sys.argv[2])
    while True:
        journal.append(responses(n, n + 3))
        os.write(1, b"%d\\n" % n)
        n += 3
"""
COMPACTING = """
    import os, sys
    from journals import responses
    from schemas import Responses
    from steer_core.tables import Journal, compaction
    compaction.SEGMENT_ROWS = 150
    journal = Journal(sys.argv[1], Responses)
    os.write(1, b"ready\\n")
    while True:
        journal.compact(1)
"""


def started(body: str, *args: object) -> subprocess.Popen:
    paths = os.pathsep.join([str(ROOM), os.environ.get("PYTHONPATH", str(ROOM.parents[2]))])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(body), *map(str, args)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths, "POLARS_MAX_THREADS": "1"},
    )  # fmt: skip


def killed(process: subprocess.Popen) -> list[str]:
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    return [line for line in out.split("\n")[:-1] if line]


def equal(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    return found.sort("seed").equals(expected.sort("seed"))


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOM))
    from journals import responses

    return responses


@pytest.mark.e2e
def test_kills_of_an_appending_process_lose_no_row(tmp_path, rows):
    rng = random.Random(1)
    journal = Journal(str(tmp_path), Responses)
    said: list[int] = []
    for turn in range(KILLS):
        process = started(APPENDING, tmp_path, turn * 100_000)
        first = process.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        said += [int(line) for line in [first, *killed(process)]]
    expected = {f"r{n + k}" for n in said for k in range(3)}
    found = journal.read()
    # the last append of a killed process may stand without having been told
    assert expected <= set(found["response_id"])
    assert found.height == found["response_id"].n_unique() <= len(expected) + 3 * KILLS
    assert equal(found, pl.concat([rows(n, n + 1) for n in found["seed"]]))
    assert equal(journal.read(sorted(expected)), pl.concat([rows(n, n + 3) for n in said]))
    assert journal.compact(1)
    assert journal.read().height == found.height
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.e2e
def test_kills_of_a_compacting_process_lose_no_row(tmp_path, rows):
    rng = random.Random(2)
    journal = Journal(str(tmp_path), Responses)
    height = 0
    for _ in range(KILLS):
        for _ in range(60):
            journal.append(rows(height, height + 3))
            height += 3
        process = started(COMPACTING, tmp_path)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.25))
        killed(process)
        assert equal(journal.read(), rows(0, height))
        some = sorted(rng.sample(range(height), 20))
        assert equal(journal.read([f"r{i}" for i in some]), pl.concat([rows(i, i + 1) for i in some]))
    # a process that was quick has left nothing to merge
    journal.append(rows(height, height + 3))
    height += 3
    assert journal.compact(1)
    assert equal(journal.read(), rows(0, height))
    # and on disk, too, every row is there once
    assert pl.read_parquet(tmp_path / "*.parquet").height == height


@pytest.mark.e2e
def test_two_writers_and_two_compactions_at_once_lose_no_row(tmp_path, rows):
    journal = Journal(str(tmp_path), Responses)
    writers = [started(APPENDING, tmp_path, start) for start in (0, 1_000_000)]
    compactors = [started(COMPACTING, tmp_path) for _ in range(2)]
    for process in [*writers, *compactors]:
        process.stdout.readline()
    until = time.monotonic() + 3
    seen: set[str] = {"r0", "r1000000"}
    while time.monotonic() < until:
        now = set(journal.read()["response_id"])
        assert seen <= now
        assert equal(journal.read(["r0", "r1000002"]), pl.concat([rows(0, 1), rows(1_000_002, 1_000_003)]))
        seen = now
    said = [int(line) for w in writers for line in killed(w)]
    for process in compactors:
        killed(process)
    expected = {f"r{n + k}" for n in said for k in range(3)}
    found = journal.read()
    assert expected <= set(found["response_id"])
    assert equal(found, pl.concat([rows(n, n + 1) for n in found["seed"]]))
