"""Where configuration and tables are: the one place that reads the environment."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from steer_core.registry import Registry, load_registry, shipped_config

#: The configuration that comes with the package.
SHIPPED_CONFIG = shipped_config()


def config_folders() -> list[Path]:
    """Folders of `STEERWORKS_CONFIG` (separated like `PATH`), else the shipped one. Later ones add and override."""
    named = os.environ.get("STEERWORKS_CONFIG")
    return [Path(p).expanduser() for p in named.split(os.pathsep) if p] if named else [SHIPPED_CONFIG]


def repository() -> Path | None:
    """The clone that this file lies in; None where the package was installed from a wheel."""
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").exists() else None


def storage_root() -> str:
    """`STEERWORKS_ROOT`: a folder or any fsspec URL; by default `.steerworks` in the repository, or where you are."""
    return os.environ.get("STEERWORKS_ROOT") or str((repository() or Path.cwd()) / ".steerworks")


def sample_data() -> Path | None:
    """`STEERWORKS_SAMPLE_DATA`: a folder of files that others published and that do not ship; None where unset."""
    named = os.environ.get("STEERWORKS_SAMPLE_DATA")
    return Path(named).expanduser() if named else None


def dagster_home() -> Path:
    """`DAGSTER_HOME`, else the repository, with its `dagster.yaml`; from a wheel, `.dagster_home` where you are.

    That folder is made, and tells Dagster to send nothing home.
    """
    named = os.environ.get("DAGSTER_HOME") or repository()
    if named:
        return Path(named)
    home = Path.cwd() / ".dagster_home"
    home.mkdir(exist_ok=True)
    if not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    return home


def explore_url() -> str:
    """`STEERWORKS_EXPLORE`: the address of the explorer; by default the one that `make dev` serves."""
    return (os.environ.get("STEERWORKS_EXPLORE") or "http://localhost:3001").rstrip("/")


def pages_url() -> str:
    """`STEERWORKS_PAGES`: the address at which pages of the storage root are handed out; by default the explorer's."""
    return (os.environ.get("STEERWORKS_PAGES") or f"{explore_url()}/files").rstrip("/")


def webserver_url() -> str:
    """`STEERWORKS_WEBSERVER`: the address of Dagster's web interface; empty where nobody says."""
    return (os.environ.get("STEERWORKS_WEBSERVER") or "").rstrip("/")


@functools.cache
def registry() -> Registry:
    """What is configured, read once a process: partitions must not change under a running server."""
    return load_registry(config_folders())
