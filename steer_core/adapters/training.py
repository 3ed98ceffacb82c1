"""What every trainer of transformers needs here: settings, one order for the whole run, whole checkpoints, silence."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.recipes import GrpoRecipe
from schemas.tuning import TuningRecipe
from steer_core.adapters.run import RunFolder
from steer_core.steering.plan import Plan

if TYPE_CHECKING:
    from steer_core.generation.engines.transformers import TransformersBackend

#: Given a step and its figures.
Observe = Callable[[int, Mapping[str, float]], None]
#: States for resuming, beside those that are kept: about so many over a run.
RESUMABLE = 20


def shared_settings(
    recipe: GrpoRecipe | TuningRecipe,
    folder: Path,
    steps: int,
    rows: int,
    parts: int,
    on_cpu: bool,
    processes: int = 1,
) -> dict[str, Any]:
    """Arguments of trl's configurations that all trainers have in common.

    Args:
        recipe: how is trained.
        folder: where the run lies.
        steps: optimiser steps.
        rows: rows of a step, of all processes together.
        parts: passes that a step is cut into.
        on_cpu: whether the model is on a CPU.
        processes: that train together; each has an equal share of the rows.
    """
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(recipe.schedule, recipe.schedule),
        "warmup_steps": round(recipe.warmup * steps),
        "weight_decay": recipe.weight_decay,
        "adam_beta1": recipe.betas[0],
        "adam_beta2": recipe.betas[1],
        "max_grad_norm": recipe.grad_norm,
        "per_device_train_batch_size": rows // (parts * processes),
        "gradient_accumulation_steps": parts,
        # the order is ours (`order`): trl's own draws anew after a resumed epoch
        "shuffle_dataset": False,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "remove_unused_columns": False,
        "use_cpu": on_cpu,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        **(_AMONG_SEVERAL if processes > 1 else {}),
    }


#: A loss takes several passes (`tight`): each would look for parameters without a gradient, which none is, and send
#: buffers about, which are constants.
_AMONG_SEVERAL = {"ddp_find_unused_parameters": False, "ddp_broadcast_buffers": False}


def order(n: int, wanted: int, seed: int) -> list[int]:
    """Places 0 .. n - 1 in the order in which steps take them, for the whole run: each once before any comes again.

    As one epoch of the trainer's, so that a run that is taken up again finds its place.
    """
    draw, found = np.random.default_rng(seed), list[int]()
    while len(found) < wanted:
        found += draw.permutation(n).tolist()
    return found[:wanted]


def with_room(
    plans: Mapping[str, Plan], backend: TransformersBackend, max_new_tokens: int, say: Callable[[str], None]
) -> dict[str, list[int]]:
    """Request id -> token ids of its prompt, for prompts that leave room for an answer; says how many do not."""
    room = backend.loaded.info.max_context
    found = {r: backend.encode(p) for r, p in plans.items()}
    fit = {r: t for r, t in found.items() if room is None or len(t) + max_new_tokens <= room}
    if len(fit) < len(found):
        say(f"{len(found) - len(fit)} of {len(found)} prompts are left out: they leave no room for an answer")
    return fit


def book_of(
    run: RunFolder,
    kept: Sequence[int],
    observe: Observe,
    logged: Mapping[str, str],
    further: dict[str, float],
) -> Any:
    """A trainer's callback that saves, says that a checkpoint is whole, and writes figures down.

    Args:
        run: the run's folder.
        kept: steps whose states are kept.
        observe: given the figures of each step.
        logged: names in the trainer's log -> names of measures.
        further: figures of the step from elsewhere; emptied when they are written.
    """
    from transformers import TrainerCallback

    class Book(TrainerCallback):
        """Saves at the steps that are kept, and now and then between them."""

        begun = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.begun = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            often = max(1, state.max_steps // RESUMABLE)
            further["seconds"] = time.perf_counter() - self.begun
            control.should_save = state.global_step in kept or state.global_step % often == 0
            return control

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            run.whole(state.global_step, kept)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            # the trainer writes what is not a number as None
            found = {name: logs[key] for key, name in logged.items() if key in (logs or {})}
            figures = {name: float("nan") if v is None else float(v) for name, v in found.items()}
            if "loss" not in figures:
                # the summary at the end
                return
            figures |= further
            further.clear()
            step = state.global_step
            run.append("log", [{"step": step, "measure": name, "value": v} for name, v in figures.items()])
            observe(step, figures)

    return Book()


def train_on(trainer: Any, checkpoint: Path | None) -> None:
    """Train to the end, from a checkpoint or from the start."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    with quiet():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def ours(trainer: Any, settle: Callable[[Any], None]) -> Any:
    """A class of trl's, as all of ours are.

    Args:
        trainer: the class.
        settle: makes the model ready to learn, whoever loaded its adapter, before the optimiser is made.
    """

    class Ours(trainer):  # type: ignore[misc]
        """Writes no model card: it would name the folders of this machine."""

        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            """The trainer's, for what is left to learn."""
            settle(self.model)
            return super().create_optimizer(*args, **kwargs)

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Nothing."""

    return Ours


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the trainers' own lines: what there is to say goes through `say`."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    silence = os.environ.get("TRL_EXPERIMENTAL_SILENCE")
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    logging.set_verbosity(40)  # errors alone
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if silence is None:
            del os.environ["TRL_EXPERIMENTAL_SILENCE"]
        else:
            os.environ["TRL_EXPERIMENTAL_SILENCE"] = silence
