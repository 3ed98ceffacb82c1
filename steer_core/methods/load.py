"""From a method spec to a method."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from schemas.digest import digest_json
from schemas.parts import PartSpec, PromptPart
from schemas.specs import BenchSpec, GoalSpec, MethodSpec, ModelSpec
from steer_core import extensions
from steer_core.generation.engines import describe_engine
from steer_core.methods import cleaning
from steer_core.methods.part import Part, compose, refused
from steer_core.methods.protocol import Method, Setting, Traits
from steer_core.models.info import describe_model
from steer_core.tables.errors import ConfigError, SteerworksError

#: Prompt of methods without one.
PLAIN_STRATEGY = "rewrite"
#: Packages whose modules word prompts, read answers and change plans; what they import from elsewhere has versions.
_WORDING = ("steer_core.methods",)


def kind_of(spec: PartSpec) -> ModuleType:
    """The module of a part's kind.

    Raises:
        ConfigError: there is none.
    """
    return extensions.load("parts", spec.kind, what="kind of part")


def load_method(spec: MethodSpec, model: ModelSpec, bench: BenchSpec, goals: Mapping[str, GoalSpec]) -> Method:
    """The method that a spec describes, for a model and bench.

    Raises:
        ConfigError: unknown kind, strategy or option, or parts that cannot be combined.
    """
    setting = Setting(model.identity, goals, bench.decoding, bench.seed)
    try:
        built: list[tuple[PartSpec, Any]] = [
            (part, kind_of(part).build(part, label, setting))
            for part, label in zip(spec.parts, spec.labels(), strict=True)
        ]
        stepping = [made for part, made in built if _steps(part)]
        if len(stepping) > 1:
            raise ConfigError(f"{len(stepping)} parts that write the prompt: one of them asks for a rewrite")
        base = stepping[0] if stepping else _plain(setting)
        parts: list[Part] = [made for part, made in built if not _steps(part)]
        return compose(base, parts)
    except SteerworksError as error:
        raise type(error)(f"method {spec.name!r}: {error}") from error


def _steps(part: PartSpec) -> bool:
    return bool(getattr(kind_of(part), "STEPS", False))


def _plain(setting: Setting) -> Method:
    plain = PromptPart(strategy=PLAIN_STRATEGY)
    method: Method = kind_of(plain).build(plain, "prompt", setting)
    return method


def code_digest(spec: MethodSpec) -> str:
    """Digest of the code that words a method's prompts, changes its plans and reads its answers.

    An edited prompt makes responses of methods that use it out of date, and no others; a new prompt file none. The
    journal answers whatever is asked as before, so an edit that changes no prompt costs no generation.
    """
    modules = [cleaning]
    for part in (
        spec.parts if any(_steps(p) for p in spec.parts) else (*spec.parts, PromptPart(strategy=PLAIN_STRATEGY))
    ):
        modules.append(kind_of(part))
        # a part may name strategies, and a strategy others that it builds on
        named = set(_words(part.model_dump(mode="json")))
        modules += [found.load() for n, found in extensions.available("prompts").items() if n in named]
    return digest_json({k: v for m in modules for k, v in _sources(Path(str(m.__file__))).items()})


def _words(value: Any) -> Iterator[str]:
    """All texts in a dumped spec."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _words(inner)


@functools.cache
def _sources(file: Path) -> dict[str, str]:
    """Texts of a module and of the modules of `_WORDING` that it imports, directly or not, by file name and folder."""
    found: dict[str, str] = {}
    pending = [file]
    while pending:
        here = pending.pop()
        name = f"{here.parent.name}/{here.name}"
        if name in found or not here.exists():
            continue
        found[name] = here.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(found[name])):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_WORDING):
                pending += _files(node.module, [alias.name for alias in node.names])
    return found


def _files(module: str, names: list[str]) -> list[Path]:
    root = Path(inspect.getfile(cleaning)).parents[2]
    base = root.joinpath(*module.split("."))
    inside = [base / f"{name}.py" for name in ("__init__", *names)]
    return [p for p in (base.with_suffix(".py"), *inside) if p.exists()]


def describe_method(spec: MethodSpec, model: ModelSpec, bench: BenchSpec, goals: Mapping[str, GoalSpec]) -> Traits:
    """What the method needs and does; reads nothing but configuration."""
    return load_method(spec, model, bench, goals).traits


def why_impossible(spec: MethodSpec, model: ModelSpec, bench: BenchSpec, goals: Mapping[str, GoalSpec]) -> str | None:
    """Why a cell makes no sense, by name, or None where it does. Looks at configuration and config files only."""
    traits = describe_method(spec, model, bench, goals)
    if not traits.calls_model:
        return None
    if model.kind == "elsewhere":
        return f"{spec.name} asks a model, and {model.name} stands for answers that were made elsewhere"
    if (traits.fits_on is not None or traits.pool) and bench.train_probe is None:
        return f"{spec.name} is fitted on the training pool, and bench {bench.name!r} has no `train_probe`"
    if (why := refused(load_method(spec, model, bench, goals), describe_engine(model))) is not None:
        return f"{spec.name} on {model.name}: {why}"
    context = describe_model(model).max_context
    if traits.needs_context is not None and context is not None and context < traits.needs_context:
        return (
            f"{spec.name} needs a context of {traits.needs_context} tokens, and {model.name} has {context}: "
            "use a model with a longer context"
        )
    return None
