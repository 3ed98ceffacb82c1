"""From a behavior's judge spec to a judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.specs import BehaviorSpec
from steer_core import extensions
from steer_core.evaluation.judges.ground_truth import GroundTruthJudge
from steer_core.evaluation.judges.judge import Judge
from steer_core.evaluation.judges.llm import LlmJudge
from steer_core.evaluation.rubrics.attribute import AttributeRubric
from steer_core.evaluation.rubrics.rubric import Rubric
from steer_core.generation.backend import Backend
from steer_core.tables.errors import ConfigError

#: Bumped when the same spec gives a judge that judges differently.
VERSION = "1"


def rubric_names() -> list[str]:
    """Names of all rubrics: extensions of the group `rubrics` that have `build`."""
    return [name for name, found in extensions.available("rubrics").items() if hasattr(found.load(), "build")]


def build_rubric(name: str, behavior: BehaviorSpec, options: Mapping[str, Any]) -> Rubric | AttributeRubric:
    """The rubric of that name, built for a behavior.

    Raises:
        ConfigError: unknown rubric, or an option that it does not have.
    """
    known = rubric_names()
    if name not in known:
        raise ConfigError(f"behavior {behavior.name!r}: unknown rubric {name!r}; there are: {', '.join(known)}")
    build = extensions.load("rubrics", name).build
    extensions.check_options(build, options, f"behavior {behavior.name!r}, rubric {name!r}", "behavior")
    built: Rubric | AttributeRubric = build(behavior, **options)
    return built


def load_judge(
    behavior: BehaviorSpec, backend: Backend | None = None, model: str | None = None, *, seed: int = 0
) -> Judge:
    """The judge that a behavior's spec describes.

    Args:
        behavior: what is judged, and by whom.
        backend: runs the judge's model; the ground-truth judge needs none.
        model: `ModelSpec.identity` of the judge's model.
        seed: of drawn replies.

    Raises:
        ConfigError: kind and rubric do not go together, the behavior's scale is not the rubric's, or no model is given.
    """
    spec, rubric = behavior.judge, check_judge(behavior)
    if isinstance(rubric, AttributeRubric):
        return GroundTruthJudge(rubric)
    if backend is None or model is None:
        raise ConfigError(f"behavior {behavior.name!r} is judged by a model, and none was given")
    return LlmJudge(backend, model, rubric, spec.repeats, seed=seed)


def check_judge(behavior: BehaviorSpec) -> Rubric | AttributeRubric:
    """The rubric of a behavior's judge, if kind, rubric, options and scale go together; asks no model.

    Raises:
        ConfigError: they do not; says what to write.
    """
    spec = behavior.judge
    rubric = build_rubric(spec.rubric, behavior, spec.options)
    if isinstance(rubric, AttributeRubric):
        if spec.kind != "ground_truth":
            raise ConfigError(
                f"behavior {behavior.name!r}: rubric {spec.rubric!r} asks no model; write `kind: ground_truth`"
            )
        return rubric
    if spec.kind != "llm":
        raise ConfigError(f"behavior {behavior.name!r}: rubric {spec.rubric!r} asks a model; write `kind: llm`")
    if tuple(behavior.scale) != rubric.scale:
        low, high = rubric.scale
        raise ConfigError(
            f"behavior {behavior.name!r}: rubric {spec.rubric!r} goes from {low:g} to {high:g}, and `scale` says "
            f"{behavior.scale[0]:g} to {behavior.scale[1]:g}: write `scale: [{low:g}, {high:g}]`"
        )
    return rubric
