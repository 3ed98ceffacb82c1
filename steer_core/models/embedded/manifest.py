"""The manifest of the shipped weights: digests, settings of the recipe, and measured figures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

NAME = "MANIFEST.json"
#: Files whose bytes decide what the model says.
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja")


def file_digests(folder: Path) -> dict[str, str]:
    """BLAKE2b digest (16 bytes, hex) of each file in `FILES`.

    Raises:
        FileNotFoundError: the folder is not a complete model folder.
    """
    return {name: hashlib.blake2b((folder / name).read_bytes(), digest_size=16).hexdigest() for name in FILES}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model folder."""
    manifest: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
    return manifest


def write_manifest(folder: Path, **entries: Any) -> None:
    """Write the manifest anew: the entries and the digests of the files as they are now."""
    _write(folder, {"files": file_digests(folder), **entries})


def add_figures(folder: Path, figures: dict[str, Any]) -> None:
    """Put measured figures into the manifest, in place of older ones.

    Raises:
        ValueError: the files are not those of the manifest, so the figures would be of another model.
    """
    manifest = read_manifest(folder)
    if manifest["files"] != file_digests(folder):
        raise ValueError(f"the files in {folder} differ from {NAME}: train again, or restore them, then measure")
    _write(folder, {**manifest, "figures": figures})


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
