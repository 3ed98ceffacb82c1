"""Tasks by name: those of given folders, then those that come with the harness.

The harness parses its fourteen thousand task files to find one. Here their text is looked through once, and the file
that names the task is parsed; all are parsed only for its groups and tags.
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from steer_core.evaluation.profiles.harness.needs import HarnessRefusalError, harness

_NAMES = re.compile(r"""(?m)^(task|group|tag):[ \t]*["']?([^\s"'#\[\]{}]+)""")
_LISTED = re.compile(r"""(?m)^[ \t]*-[ \t]+["']?([\w.\-]+)["']?[ \t]*$""")


class Catalogue:
    """Where tasks are found.

    Args:
        folders: of YAML files, looked at before the harness's own.
        data: task -> folder with its splits (`local.load_folder`), in place of the data that its YAML names.
    """

    def __init__(self, folders: Sequence[Path], data: Mapping[str, Path]) -> None:
        harness()
        from lm_eval.tasks import TaskManager

        self._data = data
        self._own = TaskManager(include_path=[str(f) for f in folders], include_defaults=False)

    def load(self, name: str) -> Any:
        """A task, group or tag with its data, as the harness's `TaskManager.load` has it.

        Raises:
            HarnessRefusalError: there is none of this name, or its data cannot be reached; says what to do.
        """
        own = self._own.task_index.get(name)
        places = [] if own is not None else files_of(name)
        file = own.yaml_path if own is not None else (places[0] if places else None)
        if own is None and not places and not is_named(name):
            near = difflib.get_close_matches(name, [*self._own.all_tasks, *_named()[0]], 3)
            raise HarnessRefusalError(f"no task is called {name!r}" + (f"; near it: {', '.join(near)}" if near else ""))
        try:
            if name in self._data:
                return self._with_data(name, file)
            if file is not None and own is None:
                return self._own.load([str(file)])
            return (self._own if own is not None else _everything()).load([name])
        except HarnessRefusalError:
            raise
        except Exception as error:  # data sets, templates and modules of tasks raise whatever they like
            raise HarnessRefusalError(_why(name, error)) from error

    def _with_data(self, name: str, file: Path | None) -> Any:
        if file is None or re.search(r"(?m)^(class|group):", file.read_text(encoding="utf-8")):
            raise HarnessRefusalError(
                f"{name!r} is a group, a tag or a class with data of its own: give data to single tasks, by name"
            )
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "task.yaml"
            place.write_text(
                f"include: {file.resolve()}\n"
                f"task: {name}\n"
                f"custom_dataset: !function {__package__}.local.load_folder\n"
                f"dataset_kwargs:\n  folder: {self._data[name].resolve()}\n",
                encoding="utf-8",
            )
            return self._own.load([str(place)])


def _why(name: str, error: Exception) -> str:
    said = (str(error).splitlines() or [type(error).__name__])[0][:300]
    if isinstance(error, ConnectionError | FileNotFoundError) or "offline" in said.lower():
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
        return (
            f"the data of {name!r} cannot be reached{offline}: {said}. Load it once where there is a network, into the "
            f"HF_HOME that this run has; or give its splits as files: task_data={{{name!r}: folder}}"
        )
    return f"task {name!r} cannot be loaded: {type(error).__name__}: {said}"


def files_of(name: str) -> list[Path]:
    """Files of the harness that define a task of this name."""
    return list(_named()[0].get(name, ()))


def is_named(name: str) -> bool:
    """Whether files of the harness name a task, a group or a tag so."""
    tasks, others = _named()
    return name in tasks or name in others


@cache
def _named() -> tuple[dict[str, list[Path]], frozenset[str]]:
    """Files by the task that they define, and names of groups and tags."""
    tasks: dict[str, list[Path]] = {}
    others: set[str] = set()
    for file in sorted((Path(harness().__file__).parent / "tasks").rglob("*.yaml")):
        text = file.read_text(encoding="utf-8", errors="replace")
        for kind, name in _NAMES.findall(text):
            if kind == "task":
                tasks.setdefault(name, []).append(file)
            else:
                others.add(name)
        others.update(_LISTED.findall(text))
    return tasks, frozenset(others)


@cache
def _everything() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()
