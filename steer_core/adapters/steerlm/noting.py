"""What is written down of the answers of a phase: rows with what was asked and measured, and figures of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.adapters.steerlm.annotating import Annotated
from steer_core.adapters.steerlm.asking import LabelPrompt, asked_row

Floats = NDArray[np.float64]


def rows_of(
    annotated: Sequence[Annotated],
    asked: Sequence[Mapping[str, int]],
    used: NDArray[np.bool_],
    sources: Mapping[str, str],
    prompt: LabelPrompt,
    measure: str,
    further: Mapping[str, Floats],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `training_samples` and `training_measures`, of the first step of a phase.

    Args:
        annotated: answers with what they are.
        asked: labels that each was drawn for; empty where it was not asked by labels.
        used: which are trained on, shape [n].
        sources: request id -> its text.
        prompt: goals and levels.
        measure: what measured positions are called: `z` of the ruler, `predicted` of an attribute model.
        further: metrics by name, shape [n]; NaN where undefined. `weight` is what an answer was trained with.
    """
    samples, measures = [], []
    errors = gaps(annotated, asked, prompt)
    for i, one in enumerate(annotated):
        weight = float(further["weight"][i]) if "weight" in further else float("nan")
        own = errors[i][~np.isnan(errors[i])]
        samples.append(
            {
                "step": 1,
                "sample": i,
                "request_id": one.drawn.request_id,
                "raw": one.drawn.raw,
                "text": one.text,
                "finish_reason": one.drawn.finish_reason,
                "reward": -float(own.mean()) if len(own) else None,
                "advantage": None if np.isnan(weight) else weight,
                "copied": one.text.split() == sources[one.drawn.request_id].split(),
                "state": "kept" if used[i] else "dropped" if one.usable else "unscorable",
            }
        )
        named = {f"{measure}:{g}": float(v) / prompt.top for g, v in zip(prompt.goals, one.values, strict=True)}
        named |= {f"asked:{g}": float(level) for g, level in asked[i].items()}
        named |= {f"metric:{name}": float(values[i]) for name, values in further.items()}
        named["metric:log_likelihood"] = one.drawn.log_likelihood
        measures += [{"step": 1, "sample": i, "measure": name, "value": value} for name, value in named.items()]
    return samples, measures


def gaps(annotated: Sequence[Annotated], asked: Sequence[Mapping[str, int]], prompt: LabelPrompt) -> Floats:
    """|asked - measured| in shares of the range, shape [n, attributes]; NaN where not asked, or not known."""
    wanted = np.array([asked_row(a, prompt) for a in asked]).reshape(len(asked), len(prompt.goals))
    values = np.array([a.values for a in annotated]).reshape(wanted.shape)
    return np.asarray(np.abs(wanted - values) / prompt.top)


def figures_of(
    annotated: Sequence[Annotated], asked: Sequence[Mapping[str, int]], used: NDArray[np.bool_], prompt: LabelPrompt
) -> dict[str, float]:
    """What is logged with the first step of a phase: counts, how labels are spread, how far requests were met."""
    failed = sum(a.failure is not None for a in annotated)
    figures = {
        "answers:drawn": float(len(annotated)),
        "answers:failed": float(failed),
        "answers:unlabelled": float(sum(not a.usable for a in annotated) - failed),
        "answers:too_long": float(sum(a.usable for a in annotated) - used.sum()),
    }
    values = np.array([a.values for a in annotated])
    errors = gaps(annotated, asked, prompt)
    for k, goal in enumerate(prompt.goals):
        known = values[~np.isnan(values[:, k]), k]
        off = errors[~np.isnan(errors[:, k]), k]
        figures[f"label:{goal}:mean"] = float(known.mean()) if len(known) else float("nan")
        figures[f"label:{goal}:deviation"] = float(known.std()) if len(known) else float("nan")
        if len(off):
            figures[f"asked:{goal}:error"] = float(off.mean())
    return figures
