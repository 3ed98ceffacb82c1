"""What every trainer of transformers needs here: whole checkpoints, rows as it goes, silence, and no model cards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steer_core.adapters.run import RunFolder

#: Given a step and its figures.
Observe = Callable[[int, Mapping[str, float]], None]
#: States for resuming, beside those that are kept: about so many over a run.
RESUMABLE = 20


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

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            often = max(1, state.max_steps // RESUMABLE)
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


def no_model_card_of(trainer: Any) -> Any:
    """The trainer without model cards: they name the folders of this machine."""

    class Plain(trainer):  # type: ignore[misc]
        """Writes no card."""

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Nothing."""

    return Plain


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
