"""A small run of active inheritance on the embedded model: of its answers the longest, in characters, are learnt."""

from __future__ import annotations

import sys
from pathlib import Path

from schemas.recipes import InheritanceRecipe
from steer_core.adapters.recipe import train
from tests.steer_core.adapters.grpo_world import killed_at, training

RECIPE = {
    "kind": "inheritance",
    "samples": 4,
    "max_new_tokens": 12,
    "objectives": [{"metric": "goal:length", "direction": "max"}],
    "epochs": 3,
    "batch": 2,
    "checkpoints": 2,
    "learning_rate": 0.01,
    "warmup": 0.0,
    "lora": {"rank": 4},
}


def recipe(**more) -> InheritanceRecipe:
    return InheritanceRecipe.model_validate({**RECIPE, **more})


if __name__ == "__main__":
    # FOLDER STEP: train, and be killed when that step was logged
    train(recipe(), training(Path(sys.argv[1]), observe=killed_at(int(sys.argv[2]))))
