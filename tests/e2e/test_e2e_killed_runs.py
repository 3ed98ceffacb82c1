"""A run that is killed outright at random moments and rerun ends with the tables of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import yaml

from schemas import Responses
from steer_core.tables import Journal

CONFIG = Path(__file__).parents[2] / "config"
#: Each is most of a run: one wherever all tests run, and there of one bench with all of it; ten in `make evidence-kills`.
KILLS = int(os.environ.get("STEERWORKS_KILLS", "1"))
#: A cell of prompts, and one that is fitted, gets doses, and is swept over a behavior with a judge.
BENCHES = {
    "prompt": {"methods": ["direct", "closed-loop"]},
    "vector": {
        "methods": ["vector-mean-difference"],
        "goals": ["sentiment"],
        "decoding": {"max_new_tokens": 96},
        "train_probe": "pool",
        "behaviors": ["cheer"],
        "sweep": {"strengths": [-0.4, 0.4], "random_directions": 2, "shuffled": 1, "max_new_tokens": 32},
    },
}
BENCHES["both"] = {**BENCHES["vector"], "methods": ["closed-loop", "vector-mean-difference"]}
BEHAVIOR = {
    "source": {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": 24, "n_items": 6},
    "positive_prompt": "You are a cheerful person.",
}
#: Times and what depends on them may differ between two honest runs.
TIMED = {"seconds"}


def bench(kind: str) -> dict:
    # fitting asks for every text of the pool at every strength
    texts, pooled = (6, 12) if kind == "prompt" else (4, 8)
    active = 2 if kind == "prompt" else 1
    pool = {
        "name": "pool", "split": "train", "n_texts": pooled, "n_goals_per_text": 4, "active": 1, "weighting": "none",
    }  # fmt: skip
    return {
        "corpus": {"sources": [{"kind": "grammar", "n_texts": 400, "seed": 1}], "min_words": 5},
        "goals": ["reading_difficulty", "text_length", "formality", "sentiment"],
        "probes": [
            {"name": "main", "n_texts": texts, "n_goals_per_text": 4, "active": active, "weighting": "none"},
            pool,
        ],
        "models": ["embedded"],
        "decoding": {"max_new_tokens": 48},
        "batch_size": 4,
        "bootstrap": 50,
        "permutations": 5,
        **BENCHES[kind],
    }


def start(folder: Path, kind: str, name: str) -> subprocess.Popen:
    (folder / "benches.yaml").write_text(yaml.safe_dump({"small": bench(kind)}))
    (folder / "behaviors.yaml").write_text(yaml.safe_dump({"cheer": BEHAVIOR}))
    (folder / name).mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "STEERWORKS_CONFIG": f"{CONFIG}{os.pathsep}{folder}",
        "STEERWORKS_ROOT": str(folder / name / "root"),
        "DAGSTER_HOME": str(folder / name),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "steer_assets.demo", "--bench", "small", "--methods", "all"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def tables(root: Path) -> dict[str, pl.DataFrame]:
    found = {}
    for path in sorted((root / "small").glob("**/part.parquet")):
        frame = pl.read_parquet(path, hive_partitioning=False)
        name = str(path.relative_to(root))
        # pages carry the time spent, so their digests do; run_plans estimate time from it
        if name.split("/")[1] in ("report", "leaderboard_page"):
            frame = frame.drop("sha256", "bytes")
        found[name] = frame.drop([c for c in frame.columns if c in TIMED])
    return found


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["both"] if KILLS == 1 else ["prompt", "vector"])
def test_kills_change_no_table_and_no_row_is_generated_twice(tmp_path, kind):
    begun = time.monotonic()
    finish(start(tmp_path, kind, "whole"))
    whole = time.monotonic() - begun
    rng = random.Random(20261)
    for _ in range(KILLS):
        process = start(tmp_path, kind, "killed")
        time.sleep(rng.uniform(0.25, 0.9) * whole)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path, kind, "killed"))
    expected, found = tables(tmp_path / "whole" / "root"), tables(tmp_path / "killed" / "root")
    assert set(found) == set(expected)
    for name, frame in expected.items():
        assert found[name].equals(frame), name
    # a kill between a compacted segment and the deletion of its parts leaves rows twice on disk, and once to readers
    journals = {p.parent for p in (tmp_path / "killed" / "root").glob("small/journal/model=*/*.parquet")}
    rows = Counter(i for folder in journals for i in Journal(str(folder), Responses).read()["response_id"])
    assert rows
    assert set(rows.values()) == {1}
    # and once more: nothing is left to do
    assert "0 tables written" in finish(start(tmp_path, kind, "killed"))
