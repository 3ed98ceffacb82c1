"""Recipes: the ways to train, each a module of the group `recipes`.

A module has

* `SPEC`: its settings, a subclass of `schemas.adapter_part.Recipe`;
* `train(recipe, training)`: trains, or goes on, and returns the folders of the states that are kept, by step;
* `VERSION`: raised when the same recipe and data give other weights;
* `not_shared(recipe, processes)`: why so many processes cannot train by it together, in words; None where they can. A
  recipe without it is trained by one process;
* optionally `prepare(recipe, training)`: what is done before several processes train, in the one that starts them;
* optionally `unknown(recipe)`: what the recipe names and there is not, in words, without loading anything heavy; and
  `follows(recipe)`: what training follows from beside settings, files and data: versions of what answers are scored by.

It streams rows into `training.run` (`log`, `samples`, `measures`) as it goes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.adapter_part import Recipe
from steer_core import extensions
from steer_core.adapters.books import Failure
from steer_core.adapters.rewards import Ruler, Target
from steer_core.adapters.run import RunFolder
from steer_core.adapters.training import Observe
from steer_core.generation.backend import Backend
from steer_core.models.loading import LoadedModel
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError


@dataclass(frozen=True)
class Training:
    """What a recipe is given.

    Attributes:
        load: loads the model afresh: training changes it, so it is nobody else's.
        plans: request id -> its prompt, for the training requests.
        targets: request id -> what it asks for; none of a prompt that is no request (`Recipe.asked`).
        goals: axes of the goal space, in order.
        ruler: measures texts.
        failure: cleans an answer and says why it is none.
        run: where the run lies.
        base: what the base model is called in an adapter's settings.
        also: strategy -> the prompts of the training requests under it, for the strategies that the recipe wants.
        say: told what happens.
        observe: given the figures of each step.
        comparatives: goal -> (less, more) of it in words, as a request says them.
        name: what the configuration calls the model.
        others: name -> an engine over another model of the configuration that the recipe has write, for as long as
            the context is open; not while the model is loaded, which may be on the same device.
    """

    load: Callable[[], LoadedModel]
    plans: Mapping[str, Plan]
    targets: Mapping[str, Target]
    goals: tuple[str, ...]
    ruler: Ruler
    failure: Failure
    run: RunFolder
    base: str
    also: Mapping[str, Mapping[str, Plan]] = field(default_factory=dict)
    say: Callable[[str], None] = field(default=lambda line: None)
    observe: Observe = field(default=lambda step, figures: None)
    comparatives: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    name: str = "own"
    others: Mapping[str, Callable[[], AbstractContextManager[Backend]]] = field(default_factory=dict)


def recipe_module(kind: str) -> Any:
    """The module that trains by a recipe.

    Raises:
        ConfigError: there is none.
    """
    return extensions.load("recipes", kind, what="recipe")


def unknown(recipe: Recipe) -> Iterator[str]:
    """What a recipe names and there is not, in words; known without a bench."""
    if (asked := getattr(recipe_module(recipe.kind), "unknown", None)) is not None:
        yield from asked(recipe)


def follows(recipe: Recipe) -> list[Any]:
    """What training by a recipe follows from beside settings, files and data; most follow from nothing else."""
    asked = getattr(recipe_module(recipe.kind), "follows", None)
    return [] if asked is None else list(asked(recipe))


def lacking(recipe: Recipe) -> str | None:
    """What training by a recipe needs and is not installed, in words; None where all is there."""
    for package in ("trl", "accelerate"):
        if importlib.util.find_spec(package) is None:
            return f"recipe {recipe.kind!r} needs {package}: pip install 'steerworks[train]'"
    return None


def not_shared(recipe: Recipe, processes: int) -> str | None:
    """Why so many processes cannot train by a recipe together, in words; None where they can."""
    if processes == 1:
        return None
    asked = getattr(recipe_module(recipe.kind), "not_shared", None)
    if asked is None:
        return f"recipe {recipe.kind!r} trains in one process: leave `training_processes` of the model out"
    why: str | None = asked(recipe, processes)
    return None if why is None else f"recipe {recipe.kind!r}: {why}"


def prepare(recipe: Recipe, training: Training) -> None:
    """What is to be done before several processes train, in the one that starts them; most recipes have nothing.

    Raises:
        ConfigError: what the recipe needs is not installed.
        SteerworksError: as the recipe says.
    """
    if (missing := lacking(recipe)) is not None:
        raise ConfigError(missing)
    if (own := getattr(recipe_module(recipe.kind), "prepare", None)) is not None:
        own(recipe, training)


def train(recipe: Recipe, training: Training) -> dict[int, Path]:
    """Train by a recipe, or go on where a run of the same folder stopped.

    Raises:
        ConfigError: what it needs is not installed, or it cannot be done by so many processes; or as the recipe says.
        SteerworksError: as the recipe says.
    """
    if (wrong := lacking(recipe) or not_shared(recipe, training.run.ranks.size)) is not None:
        raise ConfigError(wrong)
    found: dict[int, Path] = recipe_module(recipe.kind).train(recipe, training)
    return found
