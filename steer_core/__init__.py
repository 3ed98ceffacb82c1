"""Steerworks: measure and build steering for language models.

    import steer_core as steer

    model = steer.load("embedded")
    vector = model.fit([("Say something.", "What a lovely day!", "What a dreadful day."), ...], "cheerfulness")
    model.generate("Tell me about the town.", vector, strength=[-0.4, None, 0.4])
    with vector.apply(model, 0.4):
        model.transformers_model.generate(...)

Names here are public: they keep working within a minor version (see CONTRIBUTING). Everything heavy is imported when it
is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steer_core.front.measured import Measured, compare
    from steer_core.front.measuring import measure, score_answers
    from steer_core.front.model import Model, load
    from steer_core.front.sweeping import Swept, sweep
    from steer_core.front.vector import Vector, read_vector

#: Public name -> module that has it.
_PUBLIC = {
    "Measured": "measured",
    "Model": "model",
    "Swept": "sweeping",
    "Vector": "vector",
    "compare": "measured",
    "load": "model",
    "measure": "measuring",
    "read_vector": "vector",
    "score_answers": "measuring",
    "sweep": "sweeping",
}

__all__ = [
    "Measured",
    "Model",
    "Swept",
    "Vector",
    "compare",
    "load",
    "measure",
    "read_vector",
    "score_answers",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"steer_core.front.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'steer_core' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
