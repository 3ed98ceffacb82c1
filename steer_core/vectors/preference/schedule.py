"""Learning rate over the steps of a training."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, warmup: int, total: int) -> float:
    """Factor of the learning rate: linear from 0 in `warmup` steps, then half a cosine down to 0 at `total`.

    The first step of a warm-up has factor 0 and moves nothing, as in the schedule that BiPO was published with.

    Args:
        step: 0-based step.
        warmup: steps of the rise; 0: none.
        total: steps of the whole.
    """
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))
