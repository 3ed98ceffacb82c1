"""Preference tuning on pairs of token ids: trl's trainers of DPO, IPO, KTO and ORPO, on rows that are laid out here.

1. trl renders messages and text once more, and starts an answer where the renderings part; so it is handed token ids,
   and prepares nothing.
2. No row is cut: a pair that does not fit the context is left out and counted.
3. The order of pairs is drawn once for the whole run, which is one epoch of the trainer's, as in `sft`.
4. KTO holds each prompt against an answer to another one. trl takes that of the row before, whoever's it is; here it is
   the nearest before, in the same pass, that belongs to another prompt and fits. Better answers of a pass come first.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.preference_recipe import PreferenceRecipe
from steer_core.adapters.lora import lora_config, settle
from steer_core.adapters.recipe import Training
from steer_core.adapters.run import kept_steps
from steer_core.adapters.training import book_of, order, ours, quiet, shared_settings, train_on
from steer_core.models.loading import LoadedModel
from steer_core.tables.errors import ConfigError

#: Columns of the trainers' own logs that become rows, and what they are called here.
LOGGED = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "rewards/margins": "preference_margin",
    "rewards/accuracies": "preference_accuracy",
    "logps/chosen": "chosen_log_prob",
    "logps/rejected": "rejected_log_prob",
    "kl": "kl",
}


@dataclass(frozen=True)
class PairRow:
    """A prompt with a better and a worse answer, as token ids; the answers end in the token that ends an answer."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


def fitting_pairs(rows: Sequence[PairRow], training: Training, loaded: LoadedModel) -> list[PairRow]:
    """The pairs that the model's context holds, both sides; says how many it does not.

    Raises:
        ConfigError: none is left.
    """
    room = loaded.info.max_context
    fit = [r for r in rows if room is None or len(r.prompt) + max(len(r.chosen), len(r.rejected)) <= room]
    if len(fit) < len(rows):
        training.say(f"{len(rows) - len(fit)} of {len(rows)} pairs are left out: they do not fit the context of {room}")
    if not fit:
        raise ConfigError(f"none of {len(rows)} pairs fits the context of {room} tokens")
    return fit


def steps_of(recipe: PreferenceRecipe, pairs: int) -> int:
    """Optimiser steps over so many pairs; the last one may have fewer than a whole batch."""
    return -(-recipe.epochs * pairs // recipe.batch)


def prefer(
    recipe: PreferenceRecipe,
    rows: Sequence[PairRow],
    training: Training,
    loaded: LoadedModel,
    further: Mapping[str, float],
) -> dict[int, Path]:
    """Train to the end, from the last whole checkpoint of the run; returns the folders of the states that are kept.

    Args:
        recipe: loss, epochs, batch (pairs of a step), optimiser, adapter.
        rows: what is trained on, all of which must fit, in the same order in every call of one run.
        training: where the run lies, begun already (`RunFolder.begin`), and who is told.
        loaded: the model; the adapter is put on it.
        further: figures that are logged with the first step.

    Raises:
        ConfigError: an option that trl does not have, or that contradicts the recipe.
    """
    places = order(len(rows), recipe.epochs * len(rows), recipe.seed)
    run, steps = training.run, steps_of(recipe, len(rows))
    kept = kept_steps(steps, recipe.checkpoints)
    done = max(run.checkpoints(), default=0)
    if done:
        training.say(f"training goes on after step {done} of {steps}")
    figures = {} if done else dict(further)
    trainer = trainer_of(recipe, [rows[i] for i in places], run.path, steps, loaded, [
        book_of(run, kept, training.observe, LOGGED, figures)
    ])  # fmt: skip
    train_on(trainer, run.checkpoints().get(done))
    return {s: p for s, p in run.checkpoints().items() if s in kept}


def trainer_of(
    recipe: PreferenceRecipe,
    rows: Sequence[PairRow],
    folder: Path,
    steps: int,
    loaded: LoadedModel,
    callbacks: Sequence[Any] = (),
) -> Any:
    """The trainer of trl for the recipe's loss, on rows in the order in which steps take them.

    Raises:
        ConfigError: an option that trl does not have, or a step that cannot be cut as asked.
    """
    from datasets import Dataset

    base, config, loss = _trl(recipe.loss)
    more = dict(recipe.trl)
    parts = int(more.pop("gradient_accumulation_steps", 1))
    if recipe.batch % parts or (recipe.loss == "kto" and recipe.batch // parts < 2):
        raise ConfigError(
            f"batch = {recipe.batch} cannot be cut into gradient_accumulation_steps = {parts} equal parts"
            + (" of two pairs or more" if recipe.loss == "kto" else "")
        )
    sides = 2 if recipe.loss == "kto" else 1
    settings = shared_settings(recipe, folder, steps, sides * recipe.batch, parts, loaded.device == "cpu", 1)
    del settings["shuffle_dataset"]
    settings |= {"train_sampling_strategy": "sequential", "beta": recipe.beta, "max_length": None, **loss, **more}
    try:
        args = config(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"recipe {recipe.kind!r}: trl refuses its settings: {error}") from error
    laid = laid_out(rows, recipe.loss, recipe.batch // parts, loaded.info.max_context)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        try:
            return _token_by_token(base, recipe)(
                args=args,
                model=loaded.model,
                peft_config=lora_config(recipe.lora, loaded.model),
                train_dataset=Dataset.from_list(laid),
                processing_class=loaded.tokenizer,
                callbacks=list(callbacks),
            )
        except ValueError as error:
            raise ConfigError(f"recipe {recipe.kind!r}: trl refuses to train so: {error}") from error


def laid_out(rows: Sequence[PairRow], loss: str, together: int, room: int | None = None) -> list[dict[str, Any]]:
    """Rows as the trainer's collator takes them.

    Args:
        rows: pairs in the order in which steps take them.
        loss: of the recipe.
        together: pairs of one pass.
        room: most tokens of prompt and answer; None: not known.

    Raises:
        ConfigError: kto, and a prompt has no answer to another one that fits behind it.
    """
    if loss == "orpo":
        return [_labelled(r) for r in rows]
    if loss != "kto":
        return [{"prompt_ids": [*r.prompt], "chosen_ids": [*r.chosen], "rejected_ids": [*r.rejected]} for r in rows]
    found: list[dict[str, Any]] = []
    for first in range(0, len(rows), together):
        some = rows[first : first + together]
        block = [
            {"prompt_ids": [*r.prompt], "completion_ids": [*answer], "label": better}
            for better in (True, False)
            for r, answer in ((r, r.chosen if better else r.rejected) for r in some)
        ]
        found += block
    size = 2 * together
    for k, row in enumerate(found):
        start = k - k % size
        # the rows before it in its pass, then those behind, then any other: one of another prompt that fits
        near = [*range(k - 1, start - 1, -1), *range(min(start + size, len(found)) - 1, k, -1)]
        row["KL_completion_ids"] = _of_another(row, found, [*near, *range(len(found))], room)
    return found


def _of_another(
    row: dict[str, Any], rows: Sequence[dict[str, Any]], places: Sequence[int], room: int | None
) -> list[int]:
    for k in places:
        other = rows[k]
        if other["prompt_ids"] == row["prompt_ids"]:
            continue
        if room is None or len(row["prompt_ids"]) + len(other["completion_ids"]) <= room:
            answer: list[int] = other["completion_ids"]
            return answer
    raise ConfigError(
        "kto holds each prompt against an answer to another one, and there is none that fits: give two prompts or more"
    )


def _labelled(row: PairRow) -> dict[str, Any]:
    """Both sides of a pair with labels over the answers alone."""
    found: dict[str, Any] = {"prompt": "", "chosen": "", "rejected": ""}
    for side, answer in (("chosen", row.chosen), ("rejected", row.rejected)):
        ids = [*row.prompt, *answer]
        found[f"{side}_input_ids"] = ids
        found[f"{side}_attention_mask"] = [1] * len(ids)
        found[f"{side}_labels"] = [-100] * len(row.prompt) + [*answer]
    return found | {"prompt_input_ids": [*row.prompt], "prompt_attention_mask": [1] * len(row.prompt)}


def _trl(loss: str) -> tuple[Any, Any, dict[str, Any]]:
    """Trainer, configuration and settings of a loss."""
    if loss == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOTrainer, ORPOConfig, {}
    if loss == "kto":
        from trl.trainer.kto_config import KTOConfig
        from trl.trainer.kto_trainer import KTOTrainer

        return KTOTrainer, KTOConfig, {"loss_type": "kto"}
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    return DPOTrainer, DPOConfig, {"loss_type": ["sigmoid" if loss == "dpo" else "ipo"]}


def _token_by_token(base: Any, recipe: PreferenceRecipe) -> Any:
    """A trainer that takes rows as they are."""

    class Tokens(ours(base, lambda model: settle(model, recipe.lora))):  # type: ignore[misc]
        """Prepares nothing: rows are token ids already."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def tokenize_row(self, feature: Any, *args: Any, **kwargs: Any) -> Any:
            """The row as it is."""
            return dict(feature)

    return Tokens
