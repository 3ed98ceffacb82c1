"""A cell with a vector, its sweep and a judge that is a language model, through `vllm serve` started from Dagster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import psutil
import pytest
import yaml
from vllm_world import PYTHON

from steer_core.generation.receipts import check_receipts

pytestmark = [pytest.mark.vllm, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
BENCH = {
    "corpus": {"sources": [{"kind": "grammar", "n_texts": 300, "seed": 7}], "min_words": 10, "max_words": 60},
    "goals": ["reading_difficulty", "text_length", "formality", "sentiment"],
    "probes": [
        {"name": "main", "n_texts": 6, "n_goals_per_text": 2, "active": 2, "weighting": "none"},
        {"name": "pool", "split": "train", "n_texts": 24, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
    ],
    "train_probe": "pool",
    "methods": ["direct", "pushed"],
    "behaviors": ["cheerful"],
    "sweep": {"random_directions": 2, "shuffled": 0, "max_new_tokens": 24},
    "decoding": {"max_new_tokens": 48},
    "bootstrap": 100,
}
VECTOR = {
    "kind": "vector",
    "estimator": "mean-difference",
    "unit": "residual_fraction",
    "strengths": [-0.3, 0.3],
    "doses": [-0.6, 0.6],
}
BEHAVIOR = {
    "source": {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": 24, "n_items": 4},
    "judge": {"kind": "llm", "rubric": "yes-no", "options": {"question": "Is it cheerful?", "examples": False}},
    "scale": [0.0, 1.0],
    "positive_prompt": "You are a cheerful person.",
    "negative_prompt": "You are a desperate person.",
}


def configure(folder, engines):
    """A small bench; the same model on each engine."""
    vllm = {"python": str(PYTHON), "rows": 32}
    models = {
        name: {"source": "embedded", "engine": engine, "device": "cpu", **({"vllm": vllm} if engine == "vllm" else {})}
        for name, engine in engines.items()
    }
    for kind, content in (
        ("models", models),
        ("methods", {"pushed": {"parts": [{"kind": "prompt", "strategy": "direct"}, VECTOR]}}),
        ("behaviors", {"cheerful": BEHAVIOR}),
        ("benches", {"quick": {**BENCH, "models": list(engines)}}),
    ):
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump(content))


def materialize(folder, select, partition=None):
    words = [
        sys.executable,
        "-m",
        "dagster",
        "asset",
        "materialize",
        "-m",
        "steer_assets.definitions",
        "--select",
        select,
    ]
    done = subprocess.run(
        [*words, *(["--partition", partition] if partition else [])],
        cwd=ROOT,
        env={
            **os.environ,
            "STEERWORKS_CONFIG": f"{ROOT / 'config'}{os.pathsep}{folder}",
            "STEERWORKS_ROOT": str(folder / "root"),
            "DAGSTER_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def test_a_vector_cell_with_its_sweep_and_judge_is_what_transformers_makes_of_it(tmp_path):
    configure(tmp_path, {"served": "vllm", "plain": "transformers"})
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("")
    materialize(tmp_path, "group:quick_shared")
    said = materialize(tmp_path, "group:quick_cells", "pushed|served")
    assert "the sweep has no KL" in said
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    materialize(tmp_path, "group:quick_cells", "pushed|plain")

    def table(name, model):
        folder = tmp_path / "root" / "quick" / name / f"model={model}" / "method=pushed"
        return pl.read_parquet(folder / "part.parquet", hive_partitioning=False)

    # greedy answers under the same plans: vectors are fitted on the same weights, by the same code
    for name in ("responses", "sweep_responses"):
        served, plain = (table(name, m).sort("plan_id", "sample_index") for m in ("served", "plain"))
        assert served["plan_id"].to_list() == plain["plan_id"].to_list()
        assert (served["raw"] == plain["raw"]).mean() == 1.0
        found = check_receipts(served)
        assert found.ok
        assert found.steered == found.receipts == check_receipts(plain).steered
        assert all('"vllm"' in e for e in served["execution"])
    assert found.steered > 0
    judged = table("judgements", "served")
    assert judged.height > 0
    assert set(judged["method"]) == {"expected"}
    # a model of stories has no yes or no to give; how far from it is the same all the same
    mass = [sorted(json.loads(raw)["mass"] for raw in table("judgements", m)["raw"]) for m in ("served", "plain")]
    assert mass[0] == pytest.approx(mass[1], abs=1e-5)
    page = tmp_path / "root/quick/report/model=served/method=pushed/report.html"
    assert "<html" in page.read_text()
