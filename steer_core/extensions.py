"""Extensions by name: our own modules, those of installed packages, and files in folders that a configuration names.

A *group* is one kind of extension: goals (scorers), prompts, estimators, operators, rubrics, parts, decoding, engines,
recipes of training, sections of pages, characteristics of texts, profiles, scorers of toxicity.
An extension is one module; what it must have is said where its group is loaded. Three places are looked at:

1. the package of the group here, e.g. `steer_core/steering/operators`;
2. entry points `steerworks.<group>` of installed packages: `my-bias = "my_package.bias"`;
3. `<folder>/<group>/*.py` of folders that `extensions.yaml` names (see `registry.load_registry`).

Names are written with dashes or underscores alike. A name that two places have is an error: nothing is shadowed.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

#: Groups with the package that holds our own.
GROUPS = {
    "goals": "steer_core.goals.scorers",
    "prompts": "steer_core.methods.prompts",
    "estimators": "steer_core.vectors.estimators",
    "operators": "steer_core.steering.operators",
    "rubrics": "steer_core.evaluation.rubrics",
    "parts": "steer_core.methods.parts",
    "decoding": "steer_core.generation.decoding",
    "engines": "steer_core.generation.engines",
    "recipes": "steer_core.adapters.recipes",
    "sections": "steer_core.reports.sections",
    "characteristics": "steer_core.evaluation.profiles.families",
    "profiles": "steer_core.evaluation.profiles.kinds",
    "scorers": "steer_core.evaluation.profiles.scorers",
}
_FOLDERS: list[Path] = []


@dataclass(frozen=True)
class Found:
    """Where an extension is: `place` is its module's name, or its file."""

    name: str
    place: str | Path

    def load(self) -> ModuleType:
        """The module.

        Raises:
            ConfigError: it cannot be imported; names the place and why.
        """
        try:
            return _from_file(self.place) if isinstance(self.place, Path) else importlib.import_module(self.place)
        except Exception as error:
            raise _config(f"extension {self.name!r} of {self.place} cannot be imported: {error}") from error


def add_folders(folders: Iterable[Path]) -> None:
    """Also look for extensions below these folders.

    Raises:
        ConfigError: a folder does not exist, or has a folder that is no group.
    """
    for folder in folders:
        if not folder.is_dir():
            raise _config(f"extensions.yaml names the folder {folder}, which does not exist")
        odd = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in GROUPS and p.name[0] not in "._")
        if odd:
            raise _config(f"{folder / odd[0]} is no group of extensions; there are: {', '.join(GROUPS)}")
        if folder not in _FOLDERS:
            _FOLDERS.append(folder)
            available.cache_clear()


def folders() -> tuple[Path, ...]:
    """The folders that are looked in."""
    return tuple(_FOLDERS)


@cache
def available(group: str) -> dict[str, Found]:
    """Extensions of a group by name, with dashes.

    Raises:
        ConfigError: two places have one name.
    """
    found: dict[str, Found] = {}
    places: list[tuple[str, str | Path]] = [(name, f"{GROUPS[group]}.{name}") for name in _modules(GROUPS[group])]
    places += [(e.name, e.value) for e in importlib.metadata.entry_points(group=f"steerworks.{group}")]
    for folder in _FOLDERS:
        places += [(f.stem, f) for f in sorted((folder / group).glob("*.py")) if not f.stem.startswith("_")]
    for name, place in places:
        slug = name.replace("_", "-")
        if slug in found:
            raise _config(f"two extensions of group {group!r} are called {slug!r}: {found[slug].place} and {place}")
        found[slug] = Found(slug, place)
    return dict(sorted(found.items()))


def load(group: str, name: str, *, what: str = "") -> ModuleType:
    """The module of an extension.

    Args:
        group: its group.
        name: its name, with dashes or underscores.
        what: how such a thing is called in messages, e.g. `estimator`; by default the group.

    Raises:
        ConfigError: there is none of that name; the message lists those there are and guesses what was meant.
    """
    known = available(group)
    slug = name.replace("_", "-")
    if slug not in known:
        near = difflib.get_close_matches(slug, known, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise _config(f"unknown {what or group} {name!r}; there are: {', '.join(known)}.{guess}")
    return known[slug].load()


def check_options(function: Callable[..., Any], given: Mapping[str, Any], what: str, *fixed: str) -> None:
    """Refuse options that a function does not take, or of another type than it says.

    Args:
        function: what they are passed to.
        given: option -> value, as a configuration has it: JSON, where a list may stand for a tuple.
        what: how the function is called in messages: `strategy 'direct'`.
        fixed: its arguments that are no options.

    Raises:
        ConfigError: names the option, what it is, and the options that there are.
    """
    parameters = {n: p for n, p in inspect.signature(function).parameters.items() if n not in fixed}
    named = {n for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    takes = f"it takes: {', '.join(n for n in parameters if n in named) or 'no options'}"
    needed = [n for n, p in parameters.items() if n in named and p.default is p.empty]
    if missing := [n for n in needed if n not in given]:
        raise _config(f"{what}: it needs the option {missing[0]!r}; {takes}")
    if named == set(parameters) and (unknown := sorted(set(given) - named)):
        raise _config(f"{what}: unknown option {unknown[0]!r}; {takes}")
    try:
        types = get_type_hints(function, include_extras=True)
    except NameError:
        # a type that is imported for type checkers only
        return
    for name in sorted(named & set(given) & set(types)):
        _check_option(f"{what}: option {name!r}", types[name], given[name])


def _check_option(what: str, kind: Any, value: Any) -> None:
    # imported late: a worker process that measures texts needs no specs
    import pydantic

    try:
        reader = pydantic.TypeAdapter(kind)
    except pydantic.errors.PydanticUserError:
        return
    try:
        # read as JSON, since that has lists for tuples, and strictly, since "3" and true are no numbers
        reader.validate_json(json.dumps(value, default=str), strict=True)
    except pydantic.ValidationError as error:
        raise _config(f"{what} cannot be {value!r}: {error.errors()[0]['msg'].lower()}") from error


def _modules(package: str) -> list[str]:
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        return []
    return [m.name for m in pkgutil.iter_modules(found.submodule_search_locations) if not m.name.startswith("_")]


def _from_file(file: Path) -> ModuleType:
    name = f"steerworks_extension_{file.parent.name}_{file.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(file):
        return known
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses and pickling look their module up by name
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _config(message: str) -> Exception:
    # imported late: a worker process that measures texts needs no tables
    from steer_core.tables.errors import ConfigError

    return ConfigError(message)
