"""Paths in configurations: relative to the folder of the file that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Settings of a behavior's source that are paths.
BEHAVIOR_PATHS = ("train", "test", "test_ab", "test_open", "path", "prompts")


def absolute_source(source: Any, folder: Path) -> Any:
    """The path of a corpus's file source, made absolute."""
    path = source.get("path") if isinstance(source, dict) and source.get("kind") == "file" else None
    if isinstance(path, str) and "://" not in path:
        return {**source, "path": str((folder / Path(str(source["path"])).expanduser()).resolve())}
    return source


def absolute_behavior(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The paths of a behavior's source, made absolute."""
    source = settings.get("source")
    if not isinstance(source, dict):
        return settings
    found = {k: v for k, v in source.items() if k in BEHAVIOR_PATHS and isinstance(v, str) and "://" not in v}
    own = {**source, **{k: str((folder / Path(v).expanduser()).resolve()) for k, v in found.items()}}
    asked = source.get("questions")
    if isinstance(asked, dict):
        own["questions"] = absolute_profile({"set": asked}, folder)["set"]
    return {**settings, "source": own}


def absolute_profile(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
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


def absolute_watch(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The folders and files that a bench watches, made absolute."""
    watch = settings.get("watch")
    if not isinstance(watch, dict):
        return settings
    found = {}
    for kind, watched in watch.items():
        if isinstance(watched, dict):
            paths = {k: v for k, v in watched.items() if k in ("folder", "listed") and isinstance(v, str)}
            watched = {**watched, **{k: str((folder / Path(v).expanduser()).resolve()) for k, v in paths.items()}}
        found[kind] = watched
    return {**settings, "watch": found}
