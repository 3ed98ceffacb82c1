"""A small SteerLM run on the embedded model: how long a text is, and how much of it is vowels."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from schemas.steerlm_recipe import SteerlmRecipe
from steer_core.adapters.recipe import Training, train
from steer_core.adapters.rewards import Target
from steer_core.adapters.steerlm.asking import LabelPrompt
from tests.steer_core.adapters.grpo_world import SOURCES, killed_at
from tests.steer_core.adapters.grpo_world import training as plain

GOALS = ("length", "vowels")
PROMPT = LabelPrompt(GOALS)
ASKED = {"length": 9, "vowels": 2}
RECIPE = {
    "kind": "steerlm",
    "samples": 3,
    "max_new_tokens": 10,
    "epochs": 2,
    "batch": 4,
    "rounds": 1,
    "round_samples": 2,
    "iterations": 1,
    "answers": 3,
    "prompts_per_step": 2,
    "iteration_epochs": 2,
    "iteration_rate": 0.01,
    "learning_rate": 0.01,
    "warmup": 0.0,
    "lora": {"rank": 4},
}


def recipe(**more) -> SteerlmRecipe:
    return SteerlmRecipe.model_validate({**RECIPE, **more})


def ruler(texts):
    return [
        {"length": min(len(t) / 80, 1.0), "vowels": min(1.0, sum(c in "aeiou" for c in t) / max(len(t), 1) * 2)}
        for t in texts
    ]


def training(folder: Path, prompt: LabelPrompt = PROMPT, **more) -> Training:
    """Requests of the small GRPO run, asked by labels; the first answers are drawn under its plain request."""
    found = plain(folder)
    plans = {r: replace(p, messages=prompt.messages(ASKED, found.targets[r].source)) for r, p in found.plans.items()}
    wanted = np.array([ASKED[g] / prompt.top for g in GOALS])
    targets = {f"r{k}": Target(s, np.array([len(s) / 80, 0.5]), wanted) for k, s in enumerate(SOURCES)}
    given = {"plans": plans, "also": {"direct": found.plans}, "targets": targets, "goals": GOALS, "ruler": ruler}
    return replace(found, **{**given, **more})


if __name__ == "__main__":
    # FOLDER STEP: train, and be killed when that step was logged
    train(recipe(), training(Path(sys.argv[1]), observe=killed_at(int(sys.argv[2]))))
