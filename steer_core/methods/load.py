"""From a method spec to a method."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from schemas.digest import digest_json
from schemas.specs import BenchSpec, GoalSpec, MethodSpec, ModelSpec, PromptPart, VectorPart
from steer_core.methods import cleaning, prompts, steered, wording
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Method, Setting, Traits
from steer_core.methods.steered import Steered
from steer_core.models.info import describe_model
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.estimator import load_estimator

#: Strategy whose answers to the training pool contrasts are mined from, and the prompt of methods without one.
POOL_STRATEGY, PLAIN_STRATEGY = "direct", "rewrite"


def strategies() -> list[str]:
    """Names of all prompt strategies: the modules of `steer_core.methods.prompts` that have `build`."""
    names = [m.name for m in pkgutil.iter_modules(prompts.__path__)]
    return sorted(n.replace("_", "-") for n in names if hasattr(_module(n), "build"))


def _module(name: str) -> object:
    return importlib.import_module(f"{prompts.__name__}.{name}")


@functools.cache
def code_digest() -> str:
    """Digest of the code that words prompts and reads answers: an edited prompt makes its responses out of date.

    The journal answers whatever is asked as before, so an edit that changes no prompt costs no generation.
    """
    files = [
        Path(cleaning.__file__),
        *map(Path, (wording.__file__, steered.__file__)),
        *Path(prompts.__path__[0]).glob("*.py"),
    ]
    return digest_json({f.name: f.read_text(encoding="utf-8") for f in files})


def build_strategy(name: str, setting: Setting, options: Mapping[str, object]) -> Method:
    """The strategy of that name, built with its options.

    Raises:
        ConfigError: unknown strategy, or an option that it does not have.
    """
    known = strategies()
    if name not in known:
        raise ConfigError(f"unknown strategy {name!r}; there are: {', '.join(known)}")
    build = _module(name.replace("-", "_")).build  # type: ignore[attr-defined]
    try:
        inspect.signature(build).bind(setting, **options)
    except TypeError as error:
        takes = ", ".join(p for p in inspect.signature(build).parameters if p != "setting") or "no options"
        raise ConfigError(f"strategy {name!r}: {error}; it takes {takes}") from error
    method: Method = build(setting, **options)
    return method


def load_method(spec: MethodSpec, model: ModelSpec, bench: BenchSpec, goals: Mapping[str, GoalSpec]) -> Method:
    """The method that a spec describes, for a model and bench.

    Raises:
        ConfigError: unknown strategy or option, or parts that cannot be combined.
    """
    if len(spec.prompts) > 1:
        raise ConfigError(f"method {spec.name!r} has {len(spec.prompts)} prompt parts: one prompt asks for a rewrite")
    if len(spec.vectors) > 1:
        raise ConfigError(
            f"method {spec.name!r} has {len(spec.vectors)} vector parts: give one part several `layers`, or combine "
            "fitted vectors with steer_core.vectors.algebra"
        )
    part = spec.prompts[0] if spec.prompts else PromptPart(strategy=PLAIN_STRATEGY)
    setting = Setting(model.identity, goals, bench.decoding, bench.seed)
    try:
        base = build_strategy(part.strategy, setting, part.options)
        return _steered(base, part, spec.vectors[0]) if spec.vectors else base
    except SteerworksError as error:
        raise type(error)(f"method {spec.name!r}: {error}") from error


def _steered(base: Method, prompt: PromptPart, part: VectorPart) -> Steered:
    if not isinstance(base, SinglePrompt) or not base.traits.calls_model:
        raise ConfigError(f"a vector needs a prompt strategy of one prompt and one answer; {prompt.strategy!r} is none")
    if base.traits.fits_on is not None:
        raise ConfigError(
            f"strategy {prompt.strategy!r} is fitted itself, and the doses of a vector are measured under a prompt "
            "that is not: they do not combine"
        )
    if "logits" in load_estimator(part.estimator).needs:
        raise ConfigError(
            f"estimator {part.estimator!r} is fitted on answer letters, which the goals of a bench have none of; "
            "fit it with steer_core.vectors.fit on A/B data"
        )
    return Steered(base, part, replace(base.traits, fits_on=POOL_STRATEGY))


def describe_method(spec: MethodSpec, model: ModelSpec, bench: BenchSpec, goals: Mapping[str, GoalSpec]) -> Traits:
    """What the method needs and does; reads nothing but configuration."""
    return load_method(spec, model, bench, goals).traits


def why_impossible(spec: MethodSpec, model: ModelSpec, bench: BenchSpec, goals: Mapping[str, GoalSpec]) -> str | None:
    """Why a cell makes no sense, by name, or None where it does. Looks at configuration and config files only."""
    traits = describe_method(spec, model, bench, goals)
    if not traits.calls_model:
        return None
    if traits.fits_on is not None and bench.train_probe is None:
        return f"{spec.name} is fitted on the training pool, and bench {bench.name!r} has no `train_probe`"
    context = describe_model(model).max_context
    if traits.needs_context is not None and context is not None and context < traits.needs_context:
        return (
            f"{spec.name} needs a context of {traits.needs_context} tokens, and {model.name} has {context}: "
            "use a model with a longer context"
        )
    return None
