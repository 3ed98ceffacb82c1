"""What entries of a configuration say of each other: names that there are, settings that go together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from schemas.specs import BehaviorSpec, BenchSpec, DescribedBehavior, GrammarBehavior, MethodSpec
from steer_core import extensions
from steer_core.evaluation.profiles.kind import capability_of, capability_of_bench, reads
from steer_core.tables.errors import ConfigError

if TYPE_CHECKING:
    from steer_core.registry import Registry


def check_behavior(behavior: BehaviorSpec, registry: Registry, file: Path) -> None:
    """A judge's model exists, and open answers are not left to a judge that only knows the grammar."""
    try:
        if behavior.judge.model is not None:
            registry.model(behavior.judge.model)
        if isinstance(behavior.source, DescribedBehavior):
            for name in filter(None, (behavior.source.author, behavior.source.writer)):
                registry.model(name)
        open_items = getattr(behavior.source, "test_open", None) or getattr(behavior.source, "test", None)
        if behavior.judge.kind == "ground_truth" and open_items and not isinstance(behavior.source, GrammarBehavior):
            raise ConfigError(
                f"judge `ground_truth` reads attributes of the grammar, and the data are of kind "
                f"{behavior.source.kind!r}; set `judge: {{kind: llm, rubric: ...}}`"
            )
    except ConfigError as error:
        raise ConfigError(f"{file}, behavior {behavior.name!r}: {error}") from error


def check_method(method: MethodSpec, file: Path) -> None:
    """What the parts of a method name is there, as far as that is known without a bench and a model.

    Raises:
        ConfigError: says what is unknown, and what there is.
    """
    for part in method.parts:
        asked = getattr(extensions.load("parts", part.kind), "unknown", None)
        for said in asked(part) if asked is not None else ():
            raise ConfigError(f"{file}, method {method.name!r}, part {part.kind!r}: {said}")


def check_bench(bench: BenchSpec, registry: Registry, file: Path) -> None:
    """Every name that a bench mentions exists, and each probe fits its goal space."""
    try:
        for name in bench.goals:
            registry.goal(name)
        for name in (*bench.models, *filter(None, [bench.meaning_model, bench.validated_by])):
            registry.model(name)
        for name in bench.methods:
            registry.method(name)
        for name in bench.validated_against:
            if bench.validated_by is None:
                raise ConfigError("`validated_against` names methods, and no model compares: set `validated_by`")
            if name not in bench.methods:
                raise ConfigError(f"validated_against names {name!r}, which is no method of the bench")
        for name in bench.behaviors:
            registry.behavior(name)
            if name in bench.goals:
                raise ConfigError(f"behavior {name!r} has the name of a goal: rename one of them")
        _check_profiles(bench, registry)
        names = [p.name for p in bench.probes]
        if len(set(names)) < len(names):
            raise ConfigError(f"two probes share a name: {', '.join(names)}")
        if all(p.split == "train" for p in bench.probes):
            raise ConfigError("no probe on the test side of the split: there is nothing to report")
        for probe in bench.probes:
            for goal in (*(probe.goals or ()), *probe.null_goals):
                if goal not in bench.goals:
                    raise ConfigError(
                        f"probe {probe.name!r} asks for goal {goal!r}, which is not in the goal space "
                        f"({', '.join(bench.goals)})"
                    )
            room = len(probe.goals or bench.goals) - (0 if probe.goals else len(probe.null_goals))
            if probe.active > room:
                raise ConfigError(f"probe {probe.name!r} wants {probe.active} active goals of only {room}")
            if probe.matched is not None:
                other = bench.probe(probe.matched)
                if (other.split, other.unit) != (probe.split, probe.unit) or other.matched:
                    raise ConfigError(
                        f"probe {probe.name!r} is matched to {probe.matched!r}, which must have the same split and "
                        "unit "
                        "and draw its own texts"
                    )
        if bench.train_probe is not None and (mixed := [p.name for p in bench.probes if p.split == "all"]):
            raise ConfigError(
                f"probe {mixed[0]!r} has split: all, so methods would be fitted on texts that they are tested on; "
                "use split: test, or leave out train_probe"
            )
        if bench.train_probe is not None and bench.probe(bench.train_probe).split != "train":
            raise ConfigError(f"train_probe {bench.train_probe!r} must have split: train")
        for goal in bench.bounds.fixed:
            if goal not in bench.goals:
                raise ConfigError(f"fixed bounds for {goal!r}, which is not in the goal space")
    except (ConfigError, KeyError) as error:
        message = error.args[0] if error.args else error
        raise ConfigError(f"{file}, bench {bench.name!r}: {message}") from error


def _check_profiles(bench: BenchSpec, registry: Registry) -> None:
    """Profiles exist, and what they are to be taken of is on the bench.

    Raises:
        ConfigError: says which name is unknown.
    """
    for name in bench.profiles:
        profile = registry.profile(name)
        for model in (profile.judge_model, *reads(profile).values()):
            if model is not None:
                registry.model(model)
    for request in bench.profiled.asked or ():
        if odd := [goal for goal in request if goal not in bench.goals]:
            raise ConfigError(f"profiled.asked: goal {odd[0]!r} is not in the goal space ({', '.join(bench.goals)})")
    if odd := [name for name in bench.profiled.swept if name not in bench.behaviors]:
        where = "behaviors" if odd[0] in bench.profiled.behaviors else "pairs"
        raise ConfigError(f"profiled.{where}: {odd[0]!r} is no behavior of the bench")
    budget = bench.profiled.budget
    if budget is not None and budget.profile not in bench.profiles:
        raise ConfigError(
            f"profiled.budget: {budget.profile!r} is no profile of the bench ({', '.join(bench.profiles)})"
        )
    if budget is not None and budget.metric is None and capability_of(registry.profile(budget.profile)) is None:
        raise ConfigError(
            f"profiled.budget: profile {budget.profile!r} measures no capability of its own: give the `metric` that "
            "may not be lost"
        )
    if budget is not None:
        capability_of_bench({budget.profile: registry.profile(budget.profile)}, budget)
