"""Vectors that were fitted elsewhere: a file that `export_safetensors` wrote, in a folder or on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from steer_core.models.loading import LoadedModel
from steer_core.tables.errors import ConfigError
from steer_core.vectors.evidence import Fit, Point

NEEDS: frozenset[str] = frozenset({"model"})
#: Nothing is fitted: there are no labels that could be shuffled for a control.
FITTED = False
#: What a folder, or a repository, holds.
FILE = "vectors.safetensors"


def train(
    loaded: LoadedModel,
    pairs: pl.DataFrame,
    examples: pl.DataFrame,
    concept: str,
    points: Sequence[Point],
    seed: int,
    *,
    folder: str | None = None,
    hub: str | None = None,
    revision: str | None = None,
    concepts: Mapping[str, str] | None = None,
) -> list[tuple[Point, Fit]]:
    """The vectors of a concept as they lie in a file; nothing is fitted.

    Args:
        loaded: the model, which must be the one that they were fitted on.
        pairs: not used; likewise `examples` and `seed`.
        examples: not used.
        concept: concept that is wanted.
        points: layers and sites.
        seed: not used.
        folder: a folder with `vectors.safetensors`, or that file; from the root or home.
        hub: repository of the hub, `org/name`, in its place; with `revision`.
        revision: commit, tag or branch.
        concepts: concept -> what the file calls it; None: the same.

    Returns:
        A fit for each point, with the operator that the file says.

    Raises:
        ConfigError: neither or both places, or the file lacks the concept at a layer.
        SteerworksError: no such file, or vectors of another model.
    """
    from steer_core.steering.exchange import import_safetensors

    check({"folder": folder, "hub": hub, "revision": revision})
    file = place_of(folder, hub, revision)
    known = import_safetensors(file, model=loaded.fingerprint)
    called = (concepts or {}).get(concept, concept)
    found = []
    for point in points:
        own = [
            v for v in known if v.concept == called and (v.layer, v.site) == (point.layer, point.site) and not v.control
        ]
        if not own:
            having = sorted({(v.concept, v.layer, v.site) for v in known if not v.control})
            raise ConfigError(
                f"{file} has no vector of {called!r} at layer {point.layer} ({point.site}); it has "
                f"{', '.join(f'{c} at layer {k} ({s})' for c, k, s in having)}"
            )
        v = own[0]
        lineage = {"imported": v.id, "estimator": v.estimator, "of": dict(v.lineage)}
        found.append((point, Fit(v.operator, v.tensors, v.scalars, lineage)))
    return found


def place_of(folder: str | None, hub: str | None, revision: str | None) -> Path:
    """The file, fetched from the hub where it lies there.

    Raises:
        ConfigError: the hub cannot be reached, or has no such file.
    """
    if folder is not None:
        place = Path(folder).expanduser()
        return place / FILE if place.is_dir() else place
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(hub), FILE, revision=revision))
    except Exception as error:  # the hub's client raises whatever its transport does
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ConfigError(
            f"vectors {hub!r} (revision {revision!r}) cannot be had from the hub: {first}. Check name, revision and "
            "network, or give a `folder` with the file"
        ) from error


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that make no sense.

    Raises:
        ConfigError: says which.
    """
    folder, hub, revision = (options.get(name) for name in ("folder", "hub", "revision"))
    if (folder is None) == (hub is None):
        raise ConfigError("imported vectors are in a `folder` or on the `hub`: give exactly one of them")
    if folder is not None and not str(folder).startswith(("/", "~")):
        raise ConfigError(f"folder {folder!r} is relative, and to what is not said: write the whole path")
    if (hub is None) != (revision is None):
        raise ConfigError("`hub` and `revision` belong together: a repository changes, a commit does not")


def follows(options: Mapping[str, Any]) -> list[Any]:
    """What the vectors follow from beside the options: the bytes of a file; a revision of the hub says itself."""
    from schemas.digest import digest_bytes

    if options.get("folder") is None:
        return []
    file = place_of(str(options["folder"]), None, None)
    return [digest_bytes(file.read_bytes()) if file.is_file() else None]
