"""The registry: what `config/*.yaml` says about models, methods, goals, behaviors, probes and benches."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from schemas.spec import Spec
from schemas.specs import BehaviorSpec, BenchSpec, GoalSpec, GrammarBehavior, MethodSpec, ModelSpec
from steer_core import extensions
from steer_core.tables.errors import ConfigError

SpecT = TypeVar("SpecT", bound=Spec)
FILES = ("models", "methods", "goals", "behaviors", "probes", "benches")
#: Settings of a behavior's source that are paths.
BEHAVIOR_PATHS = ("train", "test", "test_ab", "test_open", "path")


@dataclass(frozen=True)
class Registry:
    """Everything that is configured, by name. Lookups of unknown names list the known ones."""

    models: Mapping[str, ModelSpec]
    methods: Mapping[str, MethodSpec]
    goals: Mapping[str, GoalSpec]
    benches: Mapping[str, BenchSpec]
    behaviors: Mapping[str, BehaviorSpec]

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

    They are `models.yaml`, `methods.yaml`, `goals.yaml`, `behaviors.yaml`, `probes.yaml` and `benches.yaml`. Each maps
    names to settings. A later folder adds entries, and replaces those of the same name; so a bench of your own is a
    folder with one `benches.yaml`. `extensions.yaml` names folders of extensions (`steer_core.extensions`). In a bench,
    a probe may say `use: NAME` to start from an entry of `probes.yaml`;
    relative paths of files, of corpora and of behaviors, are relative to the folder of the yaml file.

    Raises:
        ConfigError: names file, entry and field of what is wrong.
    """
    entries: dict[str, dict[str, tuple[Path, dict[str, Any]]]] = {kind: {} for kind in FILES}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ConfigError(f"config folder {folder} does not exist; set STEERWORKS_CONFIG to folders that do")
        _extend(folder / "extensions.yaml")
        for kind in FILES:
            for name, settings in _read(folder / f"{kind}.yaml").items():
                entries[kind][str(name)] = (folder / f"{kind}.yaml", settings)
    probes = {name: settings for name, (_, settings) in entries["probes"].items()}
    registry = Registry(
        models=_specs(entries["models"], ModelSpec),
        methods=_specs(entries["methods"], MethodSpec),
        goals=_specs(entries["goals"], GoalSpec),
        benches=_specs(
            {n: (file, _resolve(n, settings, file, probes)) for n, (file, settings) in entries["benches"].items()},
            BenchSpec,
        ),
        behaviors=_specs(
            {
                n: (file, _absolute_behavior(settings, file.parent))
                for n, (file, settings) in entries["behaviors"].items()
            },
            BehaviorSpec,
        ),
    )
    for behavior in registry.behaviors.values():
        _check_behavior(behavior, registry, entries["behaviors"][behavior.name][0])
    for bench in registry.benches.values():
        _check_bench(bench, registry, entries["benches"][bench.name][0])
    return registry


def _extend(file: Path) -> None:
    """Look for extensions in the folders that the file names, relative to it; kinds of parts are known from here on."""
    if file.exists():
        content = _yaml(file)
        folders = content.get("folders") if isinstance(content, dict) else None
        if set(content or {}) != {"folders"} or not isinstance(folders, list):
            raise ConfigError(f"{file} must be `folders: [...]`, with folders of extensions relative to it")
        extensions.add_folders([(file.parent / str(folder)).resolve() for folder in folders])
    for found in extensions.available("parts").values():
        found.load()


def _read(file: Path) -> dict[str, dict[str, Any]]:
    if not file.exists():
        return {}
    content = _yaml(file)
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise ConfigError(f"{file} must map names to settings, like `direct: {{parts: [...]}}`")
    return content


def _yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from error


def _specs(entries: Mapping[str, tuple[Path, dict[str, Any]]], kind: type[SpecT]) -> dict[str, SpecT]:
    specs = {}
    for name, (file, settings) in entries.items():
        if "name" in settings:
            raise ConfigError(f"{file}, entry {name!r}: the entry's key is its name; leave out `name`")
        try:
            specs[name] = kind.model_validate({"name": name, **settings})
        except pydantic.ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc'])) or 'entry'}: {e['msg']}" for e in error.errors()]
            raise ConfigError(f"{file}, entry {name!r}:\n  - " + "\n  - ".join(lines)) from error
    return specs


def _resolve(
    bench: str, settings: dict[str, Any], file: Path, catalogue: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Fill in `use:` of probes and make the paths of file sources absolute."""
    settings = dict(settings)
    probes = []
    for probe in settings.get("probes", []):
        probe = {"use": probe} if isinstance(probe, str) else dict(probe)
        used = probe.pop("use", None)
        if used is not None:
            if used not in catalogue:
                known = ", ".join(sorted(catalogue)) or "none"
                raise ConfigError(f"{file}, bench {bench!r}: unknown probe {used!r}; probes.yaml has: {known}")
            probe = {"name": used, **catalogue[used], **probe}
        probes.append(probe)
    settings["probes"] = probes
    corpus = dict(settings.get("corpus") or {})
    corpus["sources"] = [_absolute(source, file.parent) for source in corpus.get("sources", [])]
    settings["corpus"] = corpus
    return settings


def _absolute(source: Any, folder: Path) -> Any:
    if isinstance(source, dict) and source.get("kind") == "file" and "://" not in str(source.get("path", "")):
        return {**source, "path": str((folder / Path(str(source["path"])).expanduser()).resolve())}
    return source


def _absolute_behavior(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The paths of a behavior's source, made absolute."""
    source = settings.get("source")
    if not isinstance(source, dict):
        return settings
    found = {k: v for k, v in source.items() if k in BEHAVIOR_PATHS and isinstance(v, str) and "://" not in v}
    return {
        **settings,
        "source": {**source, **{k: str((folder / Path(v).expanduser()).resolve()) for k, v in found.items()}},
    }


def _check_behavior(behavior: BehaviorSpec, registry: Registry, file: Path) -> None:
    """A judge's model exists, and open answers are not left to a judge that only knows the grammar."""
    try:
        if behavior.judge.model is not None:
            registry.model(behavior.judge.model)
        open_items = getattr(behavior.source, "test_open", None) or getattr(behavior.source, "test", None)
        if behavior.judge.kind == "ground_truth" and open_items and not isinstance(behavior.source, GrammarBehavior):
            raise ConfigError(
                f"judge `ground_truth` reads attributes of the grammar, and the data are of kind "
                f"{behavior.source.kind!r}; set `judge: {{kind: llm, rubric: ...}}`"
            )
    except ConfigError as error:
        raise ConfigError(f"{file}, behavior {behavior.name!r}: {error}") from error


def _check_bench(bench: BenchSpec, registry: Registry, file: Path) -> None:
    """Every name that a bench mentions exists, and each probe fits its goal space."""
    try:
        for name in bench.goals:
            registry.goal(name)
        for name in (*bench.models, *filter(None, [bench.meaning_model])):
            registry.model(name)
        for name in bench.methods:
            registry.method(name)
        for name in bench.behaviors:
            registry.behavior(name)
            if name in bench.goals:
                raise ConfigError(f"behavior {name!r} has the name of a goal: rename one of them")
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
