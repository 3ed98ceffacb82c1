"""Supervised fine-tuning on prompts and completions: trl's trainer on rows that are laid out here, token by token.

1. Loss is on the completion alone, the token that ends it included. trl masks whole conversations not at all, and says
   nothing of it; so it is handed token ids and labels, and prepares nothing.
2. No row is cut: one that does not fit the context is left out and counted.
3. The order of rows is drawn once for the whole run, which is one epoch of the trainer's: a run that is taken up again
   goes on with the row that it would have come to.
4. Several processes share the rows of a step. Where the last step has fewer, rows without loss fill it up: the trainer
   would take some a second time.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from schemas.tuning import TuningRecipe
from steer_core.adapters.lora import lora_config, settle
from steer_core.adapters.ranks import unequal
from steer_core.adapters.recipe import Training
from steer_core.adapters.run import kept_steps
from steer_core.adapters.training import book_of, order, ours, quiet, shared_settings, train_on
from steer_core.models.loading import LoadedModel
from steer_core.tables.errors import ConfigError

#: What carries no loss.
IGNORED = -100
#: Columns of the trainer's own log that become rows, and what they are called here.
LOGGED = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "mean_token_accuracy": "token_accuracy",
}


@dataclass(frozen=True)
class Row:
    """A prompt and what is to follow it, as token ids; the completion ends in the token that ends an answer."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    def laid_out(self) -> dict[str, Any]:
        """`input_ids` and `labels`, both of shape [prompt + completion]; labels are `IGNORED` over the prompt."""
        return {
            "input_ids": [*self.prompt, *self.completion],
            "labels": [IGNORED] * len(self.prompt) + [*self.completion],
        }


class Objective(Protocol):
    """Another loss than the mean over the tokens of the completions."""

    def trainer(self, base: Any, figures: dict[str, float]) -> Any:
        """A subclass of trl's trainer with that loss, which puts figures of a step where they are logged from."""
        ...

    def collator(self, pad: int) -> Any:
        """What makes a batch of rows that are laid out."""
        ...


def not_shared(recipe: TuningRecipe, processes: int) -> str | None:
    """Why so many processes cannot take the steps that one would take."""
    parts = int(recipe.trl.get("gradient_accumulation_steps", 1))
    return unequal(f"batch = {recipe.batch}", recipe.batch, processes, parts)


def fitting(rows: Sequence[Row], training: Training, loaded: LoadedModel) -> list[Row]:
    """The rows that the model's context holds; says how many it does not.

    Raises:
        ConfigError: a row has nothing to learn, or none is left.
    """
    if empty := sum(not r.completion for r in rows):
        raise ConfigError(f"{empty} of {len(rows)} rows have no completion: there is nothing to learn from them")
    room = loaded.info.max_context
    fit = [r for r in rows if room is None or len(r.prompt) + len(r.completion) <= room]
    if len(fit) < len(rows):
        training.say(f"{len(rows) - len(fit)} of {len(rows)} rows are left out: they do not fit the context of {room}")
    if not fit:
        raise ConfigError(f"none of {len(rows)} rows fits the context of {room} tokens")
    return fit


def steps_of(recipe: TuningRecipe, rows: int) -> int:
    """Optimiser steps over so many rows; the last one may have fewer than a whole batch."""
    return -(-recipe.epochs * rows // recipe.batch)


def fine_tune(
    recipe: TuningRecipe,
    rows: Sequence[Row],
    training: Training,
    loaded: LoadedModel,
    further: Mapping[str, float],
    *,
    schedule: Sequence[int] | None = None,
    start: Path | None = None,
    objective: Objective | None = None,
) -> dict[int, Path]:
    """Train to the end, from the last whole checkpoint of the run; returns the folders of the states that are kept.

    Args:
        recipe: epochs, batch, optimiser, adapter.
        rows: what is trained on, all of which must fit (`fitting`), in the same order in every call of one run.
        training: where the run lies, begun already (`RunFolder.begin`), and who is told.
        loaded: the model; the adapter is put on it.
        further: figures that are logged with the first step.
        schedule: places of rows in the order in which steps take them; None: each `epochs` times, in an order drawn
            from the recipe's seed.
        start: the adapter that training starts from; None: a new one.
        objective: the loss; None: the mean over all tokens of a step's completions.

    Raises:
        ConfigError: an option that trl does not have, or that contradicts the recipe.
    """
    places = order(len(rows), recipe.epochs * len(rows), recipe.seed) if schedule is None else schedule
    run, steps = training.run, -(-len(places) // recipe.batch)
    kept = kept_steps(steps, recipe.checkpoints)
    done = max(run.checkpoints(), default=0)
    if done:
        training.say(f"training goes on after step {done} of {steps}")
    figures = {} if done else dict(further)
    laid = [rows[i].laid_out() for i in places]
    if run.ranks.size > 1:
        laid += [_without_loss(laid[-1])] * (-len(laid) % recipe.batch)
    train_on(_trainer(recipe, laid, training, loaded, kept, figures, start, objective), run.checkpoints().get(done))
    return {s: p for s, p in run.checkpoints().items() if s in kept}


def _without_loss(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "labels": [IGNORED] * len(row["labels"])}


def _settings(recipe: TuningRecipe, folder: Path, steps: int, on_cpu: bool, processes: int = 1) -> dict[str, Any]:
    """Arguments of trl's `SFTConfig`.

    Raises:
        ConfigError: a step cannot be cut as asked.
    """
    more = dict(recipe.trl)
    parts = int(more.pop("gradient_accumulation_steps", 1))
    if recipe.batch % parts:
        raise ConfigError(
            f"batch = {recipe.batch} cannot be cut into gradient_accumulation_steps = {parts} equal parts"
        )
    return {
        **shared_settings(recipe, folder, steps, recipe.batch, parts, on_cpu, processes),
        "train_sampling_strategy": "sequential",
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "max_length": None,
        "packing": False,
        **more,
    }


def _trainer(
    recipe: TuningRecipe,
    laid: Sequence[Mapping[str, Any]],
    training: Training,
    loaded: LoadedModel,
    kept: Sequence[int],
    figures: dict[str, float],
    start: Path | None = None,
    objective: Objective | None = None,
) -> Any:
    from datasets import Dataset
    from peft import PeftModel
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer
    from trl.trainer.utils import disable_dropout_in_model

    run, trainer = training.run, ours(SFTTrainer, lambda model: settle(model, recipe.lora))
    steps = -(-len(laid) // recipe.batch)
    settings = _settings(recipe, run.path, steps, loaded.device == "cpu", run.ranks.size)
    try:
        args = SFTConfig(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"recipe {recipe.kind!r}: trl refuses its settings: {error}") from error
    # dropout would make a resumed run another one, and SFTConfig has no setting for it
    disable_dropout_in_model(loaded.model)
    more: dict[str, Any] = {"model": loaded.model, "peft_config": lora_config(recipe.lora, loaded.model)}
    if start is not None:
        more = {"model": PeftModel.from_pretrained(loaded.model, str(start), is_trainable=True)}
    if objective is not None:
        trainer = objective.trainer(trainer, figures)
        more["data_collator"] = objective.collator(loaded.tokenizer.pad_token_id)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        return trainer(
            args=args,
            train_dataset=Dataset.from_list(list(laid)),
            processing_class=loaded.tokenizer,
            callbacks=[book_of(run, kept, training.observe, LOGGED, figures)],
            **more,
        )
