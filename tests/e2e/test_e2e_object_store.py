"""Two writers of one bench on an object store, their runs in one Postgres, killed at random: the tables of one quiet machine."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import fsspec
import pytest
import yaml
from test_e2e_killed_runs import CONFIG, finish, start, tables

from schemas import Responses
from steer_core.tables import Journal
from tests.object_store import BUCKET, serving
from tests.postgres_server import postgres

#: One wherever all tests run, twenty in `make evidence-kills`.
KILLS = int(os.environ.get("STEERWORKS_KILLS", "1"))
ROOT = f"s3://{BUCKET}/root"


class Writer:
    """A machine of its own as far as one process can be: its own device, cache and Dagster home."""

    def __init__(self, folder: Path, name: str, address: str, store) -> None:
        self.folder = folder / name
        (self.folder / "home").mkdir(parents=True)
        storage = {"postgres": {"postgres_url": address}}
        (self.folder / "home" / "dagster.yaml").write_text(
            yaml.safe_dump({"storage": storage, "telemetry": {"enabled": False}, "nux": {"enabled": False}})
        )
        self.environment = {
            **os.environ,
            "STEERWORKS_CONFIG": f"{CONFIG}{os.pathsep}{folder}",
            "STEERWORKS_ROOT": ROOT,
            "STEERWORKS_CACHE": str(self.folder / "cache"),
            "DAGSTER_HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder),
            "OMP_NUM_THREADS": "1",
            **store.environment,
        }

    def start(self) -> subprocess.Popen:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "steer_assets.demo", "--bench", "small", "--methods", "all"],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        return self.process

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.mark.e2e
def test_two_writers_on_an_object_store_make_the_tables_of_one_quiet_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    finish(start(tmp_path, "prompt", "whole"))
    expected = tables(tmp_path / "whole" / "root")
    rng = random.Random(20262)
    with serving(tmp_path, latency=0.002, faults=0.01) as store, postgres() as uri:
        # SQLAlchemy 2.1 takes psycopg for what has no driver in its address, and dagster-postgres brings psycopg2
        address = uri.replace("postgresql://", "postgresql+psycopg2://")
        writers = [Writer(tmp_path, name, address, store) for name in ("one", "other")]
        killed: set[int] = set()
        begun = time.monotonic()
        for writer in writers:
            writer.start()
        for _ in range(KILLS):
            time.sleep(rng.uniform(1, 12))
            victim = rng.choice(writers)
            killed.add(victim.process.pid)
            victim.kill()
            victim.start()
        said = [finish(w.process) for w in writers]
        print(f"{KILLS} kills, two writers: {time.monotonic() - begun:.0f} s, {store.requests()}")
        # nothing is left to do, for whoever comes
        assert "0 tables written" in finish(writers[0].start())
        fs = fsspec.filesystem("s3", use_listings_cache=False, **store.settings)
        there = {str(f).removeprefix(f"{BUCKET}/root/") for f in fs.find(f"{BUCKET}/root")}
        fs.get(f"{BUCKET}/root", str(tmp_path / "fetched"), recursive=True)
        pending = fs.call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads", [])
    found = tables(tmp_path / "fetched")
    assert set(found) == set(expected)
    for name, frame in expected.items():
        assert found[name].equals(frame), name
    # between them the two wrote each table once or twice, and generated each row once
    assert not [line for out in said for line in out.splitlines() if "FAILED" in line]
    journals = {p.parent for p in (tmp_path / "fetched").glob("small/journal/model=*/*.parquet")}
    rows = Counter(i for folder in journals for i in Journal(str(folder), Responses).read()["response_id"])
    assert rows
    assert set(rows.values()) == {1}
    # what is there beside tables: nothing that a quiet run does not leave, but for leases
    local = {str(p.relative_to(tmp_path / "whole/root")) for p in (tmp_path / "whole/root").rglob("*") if p.is_file()}
    growing = ("/.leases/", "/journal/", "/figures/", "goal_value_cache/")
    ours, wanted = ({n for n in names if not any(g in n for g in growing)} for names in (there, local))
    assert ours == wanted
    assert pending == []
    # all were given back but for those of who was killed between publishing and that: nobody waits for the dead
    held = {p: json.loads(p.read_text()) for p in (tmp_path / "fetched").glob("**/.leases/**/*.json")}
    lost = {p: state for p, state in held.items() if not state["released"]}
    assert {state["pid"] for state in lost.values()} <= killed
    assert len(lost) <= KILLS
    shutil.rmtree(tmp_path / "fetched")
