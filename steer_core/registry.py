"""The registry: what `config/*.yaml` says about models, methods, goals, behaviors, probes and benches."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from schemas.profile_spec import ProfileSpec, read_profile
from schemas.spec import Spec
from schemas.specs import BehaviorSpec, BenchSpec, GoalSpec, MethodSpec, ModelSpec
from steer_core import extensions
from steer_core.registry_arrivals import RESERVED, arrivals
from steer_core.registry_checks import check_behavior, check_bench, check_method
from steer_core.registry_paths import absolute_behavior, absolute_profile, absolute_source, absolute_watch
from steer_core.strict_yaml import read_yaml
from steer_core.tables.errors import ConfigError

SpecT = TypeVar("SpecT", bound=Spec)
FILES = ("models", "methods", "goals", "behaviors", "profiles", "probes", "benches")


@dataclass(frozen=True)
class Registry:
    """Everything that is configured, by name. Lookups of unknown names list the known ones.

    Attributes:
        models: also those that turned up in a watched folder or on a list.
        methods: also adapters that turned up.
        goals: axes.
        benches: with what turned up among their models and methods.
        behaviors: by name.
        profiles: by name.
        arrived: bench -> names of models and methods that are there because they turned up.
        refused: bench -> what turned up and cannot be taken, with why.
    """

    models: Mapping[str, ModelSpec]
    methods: Mapping[str, MethodSpec]
    goals: Mapping[str, GoalSpec]
    benches: Mapping[str, BenchSpec]
    behaviors: Mapping[str, BehaviorSpec]
    profiles: Mapping[str, ProfileSpec]
    arrived: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def model(self, name: str) -> ModelSpec:
        """The model of that name; `ConfigError` if there is none."""
        return look_up(self.models, name, "model")

    def method(self, name: str) -> MethodSpec:
        """The method of that name; `ConfigError` if there is none."""
        return look_up(self.methods, name, "method")

    def goal(self, name: str) -> GoalSpec:
        """The goal of that name; `ConfigError` if there is none."""
        return look_up(self.goals, name, "goal")

    def bench(self, name: str) -> BenchSpec:
        """The bench of that name; `ConfigError` if there is none."""
        return look_up(self.benches, name, "bench")

    def behavior(self, name: str) -> BehaviorSpec:
        """The behavior of that name; `ConfigError` if there is none."""
        return look_up(self.behaviors, name, "behavior")

    def profile(self, name: str) -> ProfileSpec:
        """The profile of that name; `ConfigError` if there is none."""
        return look_up(self.profiles, name, "profile")

    def profiles_of(self, bench: BenchSpec) -> dict[str, ProfileSpec]:
        """The profiles of a bench, in its order."""
        return {name: self.profile(name) for name in bench.profiles}

    def goals_of(self, bench: BenchSpec) -> dict[str, GoalSpec]:
        """The goals of a bench, in the order of its axes."""
        return {name: self.goal(name) for name in bench.goals}

    def behaviors_of(self, bench: BenchSpec) -> dict[str, BehaviorSpec]:
        """The behaviors of a bench, in its order."""
        return {name: self.behavior(name) for name in bench.behaviors}


def look_up(known: Mapping[str, SpecT], name: str, kind: str) -> SpecT:
    """`known[name]`, or an error that lists what there is and guesses what was meant."""
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown {kind} {name!r}; configured are: {', '.join(sorted(known)) or 'none'}.{guess}")


def shipped_config() -> Path:
    """The configuration that comes with the package."""
    return Path(__file__).resolve().parent / "config"


def load_registry(folders: Iterable[str | Path]) -> Registry:
    """Read the configuration files of some folders.

    They are `models.yaml`, `methods.yaml`, `goals.yaml`, `behaviors.yaml`, `profiles.yaml`, `probes.yaml` and
    `benches.yaml`. Each maps names to settings. A later folder adds entries, and replaces those of the same name; so a
    bench of your own is a folder with one `benches.yaml`. `extensions.yaml` names folders of extensions
    (`steer_core.extensions`). In a bench, a probe may say `use: NAME` to start from an entry of `probes.yaml`;
    relative paths of files, of corpora and of behaviors, are relative to the folder of the yaml file.

    Raises:
        ConfigError: names file, entry and field of what is wrong.
    """
    entries: dict[str, dict[str, tuple[Path, dict[str, Any]]]] = {kind: {} for kind in FILES}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ConfigError(f"config folder {folder} does not exist; set STEERWORKS_CONFIG to folders that do")
        _extend(folder / "extensions.yaml")
        _check_names(folder)
        for kind in FILES:
            for name, settings in _read(folder / f"{kind}.yaml").items():
                entries[kind][name] = (folder / f"{kind}.yaml", settings)
    wrong: list[str] = []
    probes = {name: settings for name, (_, settings) in entries["probes"].items()}
    benches = {}
    for name, (file, settings) in entries["benches"].items():
        with _noting(wrong):
            benches[name] = (file, absolute_watch(_resolve(name, settings, file, probes), file.parent))
    behaviors = {
        n: (file, absolute_behavior(settings, file.parent)) for n, (file, settings) in entries["behaviors"].items()
    }
    profiles = {
        n: (file, absolute_profile(settings, file.parent)) for n, (file, settings) in entries["profiles"].items()
    }
    registry = Registry(
        models=_specs(entries["models"], ModelSpec, wrong),
        methods=_specs(entries["methods"], MethodSpec, wrong),
        goals=_specs(entries["goals"], GoalSpec, wrong),
        benches=_specs(benches, BenchSpec, wrong),
        behaviors=_specs(behaviors, BehaviorSpec, wrong),
        profiles=_specs(profiles, ProfileSpec, wrong, read_profile),
    )
    registry = _with_arrivals(registry)
    for method in registry.methods.values():
        # of one that turned up, what stands beside its adapter is the bench's
        file = entries["methods"][method.name][0] if method.name in entries["methods"] else Path("benches.yaml")
        with _noting(wrong):
            check_method(method, file)
    if not wrong:
        # what refers to entries that could not be read would only repeat them
        for behavior in registry.behaviors.values():
            with _noting(wrong):
                check_behavior(behavior, registry, entries["behaviors"][behavior.name][0])
        for bench in registry.benches.values():
            with _noting(wrong):
                check_bench(bench, registry, entries["benches"][bench.name][0])
        with _noting(wrong):
            _check_folders(registry)
    if wrong:
        raise ConfigError("\n".join(wrong))
    return registry


def _with_arrivals(registry: Registry) -> Registry:
    """What lies in watched folders joins its bench; what cannot be taken is noted, and stops nobody else."""
    for bench in registry.benches.values():
        found = arrivals(bench, registry.models, registry.methods)
        if not found.watched:
            continue
        joined = {"models": [*bench.models, *found.models], "methods": [*bench.methods, *found.methods]}
        new = {k: tuple(dict.fromkeys(names)) for k, names in joined.items()}
        registry = replace(
            registry,
            models={**registry.models, **found.models},
            methods={**registry.methods, **found.methods},
            benches={**registry.benches, bench.name: bench.model_copy(update=new)},
            arrived={**registry.arrived, bench.name: (*found.models, *found.methods)},
            refused={**registry.refused, bench.name: found.refused},
        )
    return registry


@contextlib.contextmanager
def _noting(wrong: list[str]) -> Iterator[None]:
    """Note what is wrong, and go on: all of it is said at once."""
    try:
        yield
    except ConfigError as error:
        wrong.append(str(error))


def _check_names(folder: Path) -> None:
    """Refuse files that are nearly called what is read: they would be passed over in silence.

    Raises:
        ConfigError: names the file and what it should be called.
    """
    known = {f"{kind}.yaml" for kind in (*FILES, "extensions")}
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        if file.name not in known and (
            near := difflib.get_close_matches(file.with_suffix(".yaml").name, known, 1, 0.8)
        ):
            raise ConfigError(f"{file} is not read: rename it to {near[0]}, or move it out of the configuration")


def _check_folders(registry: Registry) -> None:
    """Refuse benches whose names come to one where Dagster and files spell them."""
    spelt: dict[str, str] = {}
    for name in registry.benches:
        plain = re.sub(r"[^a-z0-9]", "_", name)
        if plain in spelt:
            raise ConfigError(f"benches {spelt[plain]!r} and {name!r} come to the same name {plain!r}: rename one")
        spelt[plain] = name


def _extend(file: Path) -> None:
    """Look for extensions in the folders that the file names; kinds of parts and profiles are known from here on."""
    if _stands(file):
        content = read_yaml(file)
        folders = content.get("folders") if isinstance(content, dict) else None
        if not isinstance(folders, list) or set(content) != {"folders"}:
            raise ConfigError(f"{file} must be `folders: [...]`, with folders of extensions relative to it")
        extensions.add_folders([(file.parent / str(folder)).resolve() for folder in folders])
    for group in ("parts", "profiles"):
        for found in extensions.available(group).values():
            found.load()


def _stands(file: Path) -> bool:
    """Whether there is such a file; a link that leads nowhere is one, and cannot be read."""
    return file.exists() or file.is_symlink()


def _read(file: Path) -> dict[str, dict[str, Any]]:
    content = read_yaml(file) if _stands(file) else {}
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise ConfigError(f"{file} must map names to settings, like `direct: {{parts: [...]}}`")
    # YAML reads 1.10 as the number 1.1, and `no` as false: another name than the one that was written
    for name in content:
        if not isinstance(name, str):
            raise ConfigError(
                f"{file}: the name {name!r} is read as {type(name).__name__}: write it in quotes, and a number with a "
                "letter, like 'v1'"
            )
        if name in RESERVED.get(file.stem, ()):
            raise ConfigError(f"{file}, entry {name!r}: the name has a meaning of its own: choose another one")
    return content


def _specs(
    entries: Mapping[str, tuple[Path, dict[str, Any]]],
    kind: type[SpecT],
    wrong: list[str],
    read: Callable[[Any], SpecT] | None = None,
) -> dict[str, SpecT]:
    """Specs of those entries that are right; what is wrong with the others is noted."""
    read, specs = read or kind.model_validate, {}
    for name, (file, settings) in entries.items():
        if "name" in settings:
            wrong.append(f"{file}, entry {name!r}: the entry's key is its name; leave out `name`")
            continue
        try:
            specs[name] = read({"name": name, **{str(k): v for k, v in settings.items()}})
        except ValueError as error:
            if not isinstance(error, pydantic.ValidationError):
                wrong.append(f"{file}, entry {name!r}: {error}")
                continue
            lines = [f"{'.'.join(map(str, e['loc'])) or 'entry'}: {e['msg']}" for e in error.errors()]
            wrong.append(f"{file}, entry {name!r}:\n  - " + "\n  - ".join(lines))
    return specs


def _resolve(
    bench: str, settings: dict[str, Any], file: Path, catalogue: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Fill in `use:` of probes and make the paths of file sources absolute."""
    settings = dict(settings)
    if not isinstance(settings.get("probes"), list) or not isinstance(settings.get("corpus") or {}, dict):
        # of the wrong shape altogether: left as it is, to be refused by its field
        return settings
    probes = []
    for probe in settings["probes"]:
        if not isinstance(probe, str | dict):
            probes.append(probe)
            continue
        probe = {"use": probe} if isinstance(probe, str) else dict(probe)
        used = probe.pop("use", None)
        if used is not None:
            if not isinstance(used, str) or used not in catalogue:
                known = ", ".join(sorted(catalogue)) or "none"
                raise ConfigError(f"{file}, bench {bench!r}: unknown probe {used!r}; probes.yaml has: {known}")
            probe = {"name": used, **catalogue[used], **probe}
        probes.append(probe)
    settings["probes"] = probes
    corpus = dict(settings.get("corpus") or {})
    if isinstance(corpus.get("sources"), list):
        corpus["sources"] = [absolute_source(source, file.parent) for source in corpus["sources"]]
    settings["corpus"] = corpus
    return settings
