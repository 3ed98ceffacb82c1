"""Adapters from the Hugging Face hub: the files of a repository at one revision; safetensors, never pickles."""

from __future__ import annotations

from pathlib import Path

from steer_core.adapters.states import State, copy_state, state_of, states_in
from steer_core.generation.adapters import CONFIG, WEIGHTS
from steer_core.tables.errors import ConfigError
from steer_core.tables.folders import Folders

#: What is taken of a repository: an adapter, or a folder of checkpoints of one.
FILES = (CONFIG, WEIGHTS, f"*/{CONFIG}", f"*/{WEIGHTS}")


def hub_folder(repository: str, revision: str) -> Path:
    """A local copy of an adapter's files, in the hub's own cache.

    Args:
        repository: `org/name`.
        revision: commit, tag or branch.

    Raises:
        ConfigError: the hub cannot be reached, it has no such repository or revision, or that holds no adapter with
            weights in safetensors.
    """
    from huggingface_hub import snapshot_download

    what = f"adapter {repository!r} (revision {revision!r})"
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # the hub's client raises whatever its transport does
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ConfigError(
            f"{what} cannot be had from the hub: {first}. Check name, revision and network, or give a `folder` with "
            "its files"
        ) from error
    configs = sorted(folder.rglob(CONFIG))
    if not configs:
        raise ConfigError(f"{what} is no adapter: its repository holds no {CONFIG}")
    if bare := [c.parent for c in configs if not (c.parent / WEIGHTS).is_file()]:
        where = bare[0].relative_to(folder)
        place = "" if where == Path() else f" in {where}"
        raise ConfigError(
            f"{what} has no {WEIGHTS}{place}: pickled weights are not read. Ask for safetensors, or load it with PEFT "
            "where you trust it, save it with `save_pretrained`, and give that `folder`"
        )
    return folder


def states_of_hub(repository: str, revision: str, folders: Folders, place: str) -> tuple[list[State], list[str]]:
    """States of a repository, and where copies of them lie: the hub's cache may be emptied at any time.

    Args:
        repository: `org/name`.
        revision: commit, tag or branch.
        folders: of the bench.
        place: below which copies go.

    Raises:
        ConfigError: as `hub_folder`, or an adapter cannot be worn.
    """
    source = hub_folder(repository, revision)
    states, names = [], []
    for found in states_in(source):
        name = f"{place}/hub-{found.adapter.digest}"
        copy_state(found.adapter.folder, folders.local(name))
        folders.publish(name)
        label = f"{repository}@{revision}" if found.adapter.folder == source else found.label
        states.append(state_of(folders.local(name), found.step, label))
        names.append(name)
    return states, names
