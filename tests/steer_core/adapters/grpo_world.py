"""A small GRPO run on the embedded model: texts should be long, in characters."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from schemas.recipes import GrpoRecipe
from schemas.specs import Decoding, ModelSpec
from steer_core.adapters.recipe import Training, train
from steer_core.adapters.rewards import Target
from steer_core.adapters.run import RunFolder
from steer_core.models import load_model
from steer_core.steering import Message, Plan

SPEC = ModelSpec(name="embedded", source="embedded")
SOURCES = ("The cat went home.", "A dog sleeps.", "My sister reads a book.", "The clerk is late.")
RECIPE = {
    "kind": "grpo",
    "steps": 6,
    "checkpoints": 2,
    "prompts_per_step": 2,
    "completions": 4,
    "max_new_tokens": 12,
    "learning_rate": 0.01,
    "warmup": 0.0,
    "min_p": 0.0,
    "failures": "worst",
    "lora": {"rank": 4},
}


def recipe(**more) -> GrpoRecipe:
    return GrpoRecipe.model_validate({**RECIPE, **more})


def ruler(texts):
    return [{"length": min(len(t) / 80, 1.0)} for t in texts]


def training(folder: Path, spec: ModelSpec = SPEC, **more) -> Training:
    asked = Decoding(max_new_tokens=64)
    requests = {f"r{k}": source for k, source in enumerate(SOURCES)}
    return Training(
        **{
            "load": lambda: load_model(spec),
            "plans": {
                r: Plan(spec.identity, asked, (Message("user", f"Rewrite this text so that it is longer: {s}"),))
                for r, s in requests.items()
            },
            "targets": {r: Target(s, np.array([len(s) / 80]), np.array([1.0])) for r, s in requests.items()},
            "goals": ("length",),
            "ruler": ruler,
            # whatever was written counts, cut off or not
            "failure": lambda request, raw, finish: (raw.strip(), None if raw.strip() else "empty"),
            "run": RunFolder(folder),
            "base": "embedded",
            **more,
        }
    )


def killed_at(step: int):
    def observe(at: int, figures) -> None:
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return observe


if __name__ == "__main__":
    # FOLDER STEP: train, and be killed when that step was logged
    train(recipe(), training(Path(sys.argv[1]), observe=killed_at(int(sys.argv[2]))))
