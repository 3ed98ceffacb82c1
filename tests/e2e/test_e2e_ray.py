"""Cells of two models on a Ray cluster of two nodes, one of which dies, and whose head is started again."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml
from test_e2e_killed_runs import CONFIG, tables

from tests.ray_cluster import cluster

#: A small bench wherever all tests run; all of it in `make evidence-ray`.
WHOLE = os.environ.get("STEERWORKS_RAY") == "whole"
METHODS = ["copy", "rewrite", "direct", "closed-loop"] if WHOLE else ["copy", "direct"]
LENGTH = 96 if WHOLE else 48


def configure(folder: Path, **changes: object) -> None:
    shipped = yaml.safe_load((CONFIG / "models.yaml").read_text())["embedded"]
    (folder / "models.yaml").write_text(yaml.safe_dump({"twin": shipped}))
    bench = {
        "corpus": {"sources": [{"kind": "grammar", "n_texts": 400, "seed": 1}], "min_words": 5},
        "goals": ["reading_difficulty", "text_length", "sentiment"],
        "probes": [
            {"name": "main", "n_texts": 8 if WHOLE else 6, "n_goals_per_text": 4, "active": 1, "weighting": "none"}
        ],
        "models": ["embedded", "twin"],
        "methods": METHODS,
        "decoding": {"max_new_tokens": LENGTH},
        "batch_size": 4,
        "bootstrap": 50,
        "permutations": 5,
        **changes,
    }
    (folder / "benches.yaml").write_text(yaml.safe_dump({"small": bench}))


def run(folder: Path, name: str, *more: str) -> subprocess.Popen:
    (folder / name / "home").mkdir(parents=True, exist_ok=True)
    (folder / name / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    environment = {
        **os.environ,
        "STEERWORKS_CONFIG": f"{CONFIG}{os.pathsep}{folder}",
        "STEERWORKS_ROOT": str(folder / name / "root"),
        "DAGSTER_HOME": str(folder / name / "home"),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder / name),
    }
    command = [sys.executable, "-u", "-m", "steer_assets", "run", "all", "--bench", "small", *more]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def lines_until(process: subprocess.Popen, wanted: str) -> list[str]:
    said = []
    for line in process.stdout:
        said.append(line.rstrip())
        if wanted in line:
            return said
    raise AssertionError("\n".join(said))


@pytest.mark.e2e
def test_a_cluster_that_loses_a_node_and_its_head_makes_the_tables_of_one_quiet_machine(tmp_path):
    configure(tmp_path)
    quiet = run(tmp_path, "quiet")
    begun = time.monotonic()
    assert quiet.wait(600) == 0, quiet.stdout.read()
    alone = time.monotonic() - begun
    with cluster(tmp_path / "ray") as ray:
        begun = time.monotonic()
        process = run(tmp_path, "spread", "--ray", ray.address, "--per-worker", "place=1")
        said = lines_until(process, "corpus, goal space, probes")
        # both nodes are at a cell
        said += lines_until(process, "[2/")
        ray.nodes["one"].kill()
        said += lines_until(process, " is gone")
        ray.head.kill()
        ray.start_head()
        ray.add("third")
        said += [line.rstrip() for line in process.stdout]
        assert process.wait(60) == 0, "\n".join(said)
        spread = time.monotonic() - begun
    print("\n".join(said))
    print(f"{2 * len(METHODS)} cells: {alone:.0f} s alone, {spread:.0f} s over two nodes, with a death and a new head")
    expected, found = tables(tmp_path / "quiet" / "root"), tables(tmp_path / "spread" / "root")
    assert set(found) == set(expected)
    for name, frame in expected.items():
        assert found[name].equals(frame), name
    journals = {p.parent for p in (tmp_path / "spread" / "root").glob("small/journal/model=*/*.parquet")}
    assert len(journals) == 2
    for folder in journals:
        # in the files themselves: read by the journal, a row that was written twice would be one
        written = pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in folder.glob("*.parquet")])
        assert written.height == written["response_id"].n_unique()
    assert any("is given to another worker" in line for line in said)
    assert any(line.startswith("Where the time went: ") for line in said)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)


@pytest.mark.e2e
def test_the_arms_of_one_sweep_are_written_by_two_nodes(tmp_path):
    behavior = {
        "source": {
            "kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": 16,
            "n_validation": 4, "n_items": 4,
        },
        "positive_prompt": "You are a cheerful person.",
    }  # fmt: skip
    (tmp_path / "behaviors.yaml").write_text(yaml.safe_dump({"cheerful": behavior}))
    part = {"kind": "vector", "estimator": "mean-difference", "unit": "residual_fraction", "strengths": [-0.4, 0.4]}
    (tmp_path / "methods.yaml").write_text(yaml.safe_dump({"pushed": {"parts": [part]}}))
    probes = [
        {"name": "main", "n_texts": 3, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
        {"name": "pool", "split": "train", "n_texts": 12, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
    ]
    sweep = {"random_directions": 4, "shuffled": 1, "max_new_tokens": 48}
    configure(
        tmp_path, methods=["copy", "pushed"], models=["embedded"], behaviors=["cheerful"], probes=probes, sweep=sweep,
        train_probe="pool", goals=["reading_difficulty", "sentiment"],
    )  # fmt: skip
    quiet = run(tmp_path, "quiet")
    assert quiet.wait(600) == 0, quiet.stdout.read()
    with cluster(tmp_path / "ray") as ray:
        process = run(tmp_path, "spread", "--ray", ray.address, "--per-worker", "place=1")
        said = process.communicate(timeout=600)[0]
        assert process.returncode == 0, said
    assert "the arms of pushed|embedded are written by 2 workers" in said
    assert "shares of sweeps" in said
    expected, found = tables(tmp_path / "quiet" / "root"), tables(tmp_path / "spread" / "root")
    assert set(found) == set(expected)
    for name, frame in expected.items():
        assert found[name].equals(frame), name
    files = (tmp_path / "spread" / "root").glob("small/journal/model=*/*.parquet")
    written = pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in files])
    assert written.height == written["response_id"].n_unique()


@pytest.mark.e2e
def test_no_cluster_and_none_with_the_wanted_resources_are_one_line(tmp_path):
    configure(tmp_path)
    process = run(tmp_path, "none", "--ray", "127.0.0.1:1")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out.splitlines()[-1].startswith("error: no Ray head answers at 127.0.0.1:1 ")
    assert "Traceback" not in out
