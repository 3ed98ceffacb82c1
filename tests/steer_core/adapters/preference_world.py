"""A small run of preference tuning on the embedded model: of its answers the longest is preferred to the shortest."""

from __future__ import annotations

import sys
from pathlib import Path

from schemas.preference_recipe import PreferenceRecipe
from steer_core.adapters.recipe import train
from tests.steer_core.adapters.grpo_world import killed_at, training

RECIPE = {
    "kind": "preference",
    "samples": 4,
    "max_new_tokens": 12,
    "objectives": [{"metric": "goal:length", "direction": "max"}],
    "epochs": 3,
    "batch": 2,
    "checkpoints": 2,
    "learning_rate": 0.01,
    "warmup": 0.0,
    "duplicates": None,
    "lora": {"rank": 4},
}


def recipe(**more) -> PreferenceRecipe:
    return PreferenceRecipe.model_validate({**RECIPE, **more})


if __name__ == "__main__":
    # FOLDER STEP: train, and be killed when that step was logged
    train(recipe(), training(Path(sys.argv[1]), observe=killed_at(int(sys.argv[2]))))
