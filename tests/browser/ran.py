"""A small bench, run by the command line as a person would."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import yaml

from steer_core.registry import shipped_config

BENCH = {
    "corpus": {"sources": [{"kind": "grammar", "n_texts": 200, "seed": 3}], "min_words": 10},
    "goals": ["text_length", "formality"],
    "probes": [
        {"name": "main", "n_texts": 4, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
        {"name": "pool", "split": "train", "n_texts": 16, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
    ],
    "train_probe": "pool",
    "models": ["embedded"],
    "methods": ["copy", "direct", "pushed"],
    "decoding": {"max_new_tokens": 96},
    "sweep": {"random_directions": 0, "shuffled": 0, "max_new_tokens": 64},
    "watch": {"submissions": {"folder": "submissions"}},
    "bootstrap": 50,
    "permutations": 5,
}
PART = {"kind": "vector", "estimator": "mean-difference", "unit": "residual_fraction", "strengths": [-0.3, 0.3]}


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_of(folder: Path) -> dict[str, str]:
    """What its commands run in; links lead to an explorer whose port is in a file of the folder."""
    return {
        **os.environ,
        "STEERWORKS_CONFIG": f"{shipped_config()}{os.pathsep}{folder}",
        "STEERWORKS_ROOT": str(folder / "root"),
        "STEERWORKS_EXPLORE": f"http://localhost:{(folder / 'port').read_text()}",
        "DAGSTER_HOME": str(folder / "home"),
        "TMPDIR": str(folder),
    }


def run(folder: Path) -> str:
    """Bring all cells up to date; returns the configuration's folders."""
    (folder / "submissions").mkdir()
    (folder / "benches.yaml").write_text(yaml.safe_dump({"small": BENCH}))
    (folder / "methods.yaml").write_text(yaml.safe_dump({"pushed": {"parts": [PART]}}))
    (folder / "port").write_text(str(free_port()))
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    environment = environment_of(folder)
    done = subprocess.run(
        [sys.executable, "-m", "steer_assets", "run", "all", "--bench", "small"],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return environment["STEERWORKS_CONFIG"]
