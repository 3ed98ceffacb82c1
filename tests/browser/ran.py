"""A small bench, run by the command line as a person would."""

import os
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


def run(folder: Path) -> str:
    """Bring all cells up to date; returns the configuration's folders."""
    (folder / "submissions").mkdir()
    (folder / "benches.yaml").write_text(yaml.safe_dump({"small": BENCH}))
    (folder / "methods.yaml").write_text(yaml.safe_dump({"pushed": {"parts": [PART]}}))
    config = f"{shipped_config()}{os.pathsep}{folder}"
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    environment = {
        **os.environ,
        "STEERWORKS_CONFIG": config,
        "STEERWORKS_ROOT": str(folder / "root"),
        "DAGSTER_HOME": str(home),
        "TMPDIR": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-m", "steer_assets", "run", "all", "--bench", "small"],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return config
