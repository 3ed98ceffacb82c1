"""lm-evaluation-harness through our engines: its tasks and metrics, our forward passes, every arm.

`EngineLM` is what the harness calls a model; `run_harness` runs tasks and gives frames. Both need the extra `lm-eval`.
"""

from typing import TYPE_CHECKING, Any

from steer_core.evaluation.profiles.harness.result import SAMPLES, TASKS, HarnessResult
from steer_core.evaluation.profiles.harness.run import DEFAULT_TASKS, OWN_TASKS, run_harness

if TYPE_CHECKING:
    from steer_core.evaluation.profiles.harness.lm import EngineLM

__all__ = ["DEFAULT_TASKS", "OWN_TASKS", "SAMPLES", "TASKS", "EngineLM", "HarnessResult", "run_harness"]


def __getattr__(name: str) -> Any:
    # its base class is the harness's, which not every installation has
    if name == "EngineLM":
        from steer_core.evaluation.profiles.harness.needs import harness

        harness()
        from steer_core.evaluation.profiles.harness.lm import EngineLM

        return EngineLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
