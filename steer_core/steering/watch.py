"""Where activations stop being numbers: a row is read again, alone, and every step of its steering is looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch  # noqa: TID253  (this module exists for torch code; it is imported by backends only)

from steer_core.steering.batch import Step
from steer_core.steering.hooks import Steering
from steer_core.steering.intervention import Intervention


def not_finite(
    steering: Steering, interventions: tuple[Intervention, ...], tokens: Sequence[int], prompt_length: int
) -> str | None:
    """Which operator makes a row's activations infinite or no numbers, in words; None where no intervention does.

    Args:
        steering: of the model.
        interventions: of the row.
        tokens: its token ids, prompt and answer.
        prompt_length: how many of them are prompt.
    """
    model = steering.model
    ids = torch.tensor([list(tokens)], device=next(model.parameters()).device)
    fed = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    watched: list[tuple[Step, float, float]] = []
    with torch.inference_mode():
        with steering.apply([interventions], [prompt_length]) as applied:
            applied.watch = watched
            model(**fed)
        bare = bool(model(**fed)[0].isfinite().all())
    for step, before, after in watched:
        if math.isfinite(before) and not math.isfinite(after):
            return f"{_named(step)} made activations that are not finite out of ones of size {before:.3g} at most"
    if not (bare and watched):
        return None
    step, _, after = max(watched, key=lambda w: w[2])
    return f"{_named(step)} made activations of size {after:.3g}, and the model makes of them what is not finite"


def _named(step: Step) -> str:
    return f"operator {step.operator.name!r} at layer {step.place.layer}, site {step.place.site!r},"
