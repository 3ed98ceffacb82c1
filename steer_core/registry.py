"""The registry: what `config/*.yaml` says about models, methods, goals, behaviors, probes and benches."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from schemas.profile_spec import ProfileSpec, read_profile
from schemas.spec import Spec
from schemas.specs import BehaviorSpec, BenchSpec, GoalSpec, GrammarBehavior, MethodSpec, ModelSpec
from steer_core import extensions
from steer_core.evaluation.profiles.kind import capability_of
from steer_core.strict_yaml import read_yaml
from steer_core.tables.errors import ConfigError

SpecT = TypeVar("SpecT", bound=Spec)
FILES = ("models", "methods", "goals", "behaviors", "profiles", "probes", "benches")
#: Names that mean something else: every method or model, the figure over all goals, and the home of published numbers.
RESERVED = {"methods": ("all", "source"), "models": ("all",), "goals": ("overall",), "benches": ("parity",)}
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
    profiles: Mapping[str, ProfileSpec]

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
            benches[name] = (file, _resolve(name, settings, file, probes))
    behaviors = {
        n: (file, _absolute_behavior(settings, file.parent)) for n, (file, settings) in entries["behaviors"].items()
    }
    profiles = {n: (file, _absolute_set(settings, file.parent)) for n, (file, settings) in entries["profiles"].items()}
    registry = Registry(
        models=_specs(entries["models"], ModelSpec, wrong),
        methods=_specs(entries["methods"], MethodSpec, wrong),
        goals=_specs(entries["goals"], GoalSpec, wrong),
        benches=_specs(benches, BenchSpec, wrong),
        behaviors=_specs(behaviors, BehaviorSpec, wrong),
        profiles=_specs(profiles, ProfileSpec, wrong, read_profile),
    )
    for method in registry.methods.values():
        with _noting(wrong):
            _check_method(method, entries["methods"][method.name][0])
    if not wrong:
        # what refers to entries that could not be read would only repeat them
        for behavior in registry.behaviors.values():
            with _noting(wrong):
                _check_behavior(behavior, registry, entries["behaviors"][behavior.name][0])
        for bench in registry.benches.values():
            with _noting(wrong):
                _check_bench(bench, registry, entries["benches"][bench.name][0])
        with _noting(wrong):
            _check_folders(registry)
    if wrong:
        raise ConfigError("\n".join(wrong))
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
        corpus["sources"] = [_absolute(source, file.parent) for source in corpus["sources"]]
    settings["corpus"] = corpus
    return settings


def _absolute(source: Any, folder: Path) -> Any:
    path = source.get("path") if isinstance(source, dict) and source.get("kind") == "file" else None
    if isinstance(path, str) and "://" not in path:
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


def _absolute_set(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The paths of a profile, made absolute: of its items, of folders of tasks and of their data."""

    def absolute(value: Any) -> Any:
        return str((folder / Path(value).expanduser()).resolve()) if isinstance(value, str) else value

    if isinstance(found := settings.get("task_folders"), list):
        settings = {**settings, "task_folders": [absolute(v) for v in found]}
    if isinstance(data := settings.get("task_data"), dict):
        settings = {**settings, "task_data": {k: absolute(v) for k, v in data.items()}}
    items = settings.get("set")
    path = items.get("path") if isinstance(items, dict) else None
    if not isinstance(items, dict) or not isinstance(path, str) or "://" in path:
        return settings
    return {**settings, "set": {**items, "path": absolute(path)}}


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


def _check_method(method: MethodSpec, file: Path) -> None:
    """What the parts of a method name is there, as far as that is known without a bench and a model.

    Raises:
        ConfigError: says what is unknown, and what there is.
    """
    for part in method.parts:
        asked = getattr(extensions.load("parts", part.kind), "unknown", None)
        for said in asked(part) if asked is not None else ():
            raise ConfigError(f"{file}, method {method.name!r}, part {part.kind!r}: {said}")


def _check_bench(bench: BenchSpec, registry: Registry, file: Path) -> None:
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
        judge = registry.profile(name).judge_model
        if judge is not None:
            registry.model(judge)
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
