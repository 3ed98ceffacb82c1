"""Vectors as files that others read and write: safetensors, GGUF control vectors, and torch files.

Layers are 0-based decoder layers everywhere, and a vector acts on the residual stream after its layer:

* safetensors: our own exchange format, nothing is lost. Tensors `<vector>.<tensor>`, everything else in the metadata.
* GGUF: what llama.cpp, repeng and forks of vLLM share. A tensor `direction.<n>` is added after 0-based layer n, and
  llama.cpp has no place for n = 0. One direction a layer, and only additions can be said.
* torch: `.pt` files with one tensor, or with a mapping of layers to tensors, read without running what a pickle says.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.digest import canonical_json
from schemas.vector_part import Site
from steer_core.steering.control_vector import control_vector_bytes, read_control_vector
from steer_core.steering.vector import Floats, SteeringVector
from steer_core.tables.damage import names_its_file
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import write_bytes

FORMAT, VERSION = "steerworks-vectors", "1"
#: Said in every file, since no two libraries count alike.
LAYER_CONVENTION = "0-based decoder layer; residual: the stream after the layer"
#: Fields of a vector that are plain data, in the metadata as they stand.
_PLAIN = (
    "concept",
    "operator",
    "layer",
    "model",
    "site",
    "estimator",
    "read",
    "template",
    "n_positive",
    "n_negative",
    "reliability",
    "control",
)
_GGUF_KEY = "steerworks.vectors"


def export_safetensors(vectors: Sequence[SteeringVector], path: str | Path) -> None:
    """Write vectors, with everything that is known of them, to one safetensors file.

    Raises:
        SteerworksError: there is none, or two are the same.
    """
    from safetensors.numpy import save

    _check_some(vectors, path)
    tensors = {
        f"{k}.{name}": np.ascontiguousarray(t, dtype=np.float32)
        for k, v in enumerate(vectors)
        for name, t in v.tensors.items()
    }
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "layer_convention": LAYER_CONVENTION,
        "vectors": canonical_json([_described(v) for v in vectors]),
    }
    write_bytes(str(path), save(tensors, metadata))


@names_its_file
def import_safetensors(path: str | Path, *, model: str | None = None, width: int | None = None) -> list[SteeringVector]:
    """The vectors that `export_safetensors` wrote.

    Args:
        path: the file.
        model: fingerprint of the model that they are meant for; None: not checked.
        width: its hidden size; None: not checked.

    Raises:
        SteerworksError: no such file, not written by `export_safetensors`, changed since, or for another model.
    """
    from safetensors import SafetensorError, safe_open

    file = _existing(path)
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (not a mapping)
    except SafetensorError as error:
        raise SteerworksError(f"{file} is not readable as safetensors: {error}") from error
    if metadata.get("format") != FORMAT:
        raise SteerworksError(
            f"{file} holds tensors ({', '.join(list(arrays)[:4])} ...) but no description of vectors: it was not "
            "written by `export_safetensors`"
        )
    if metadata.get("version") != VERSION:
        raise SteerworksError(f"{file} has format version {metadata.get('version')}; this library reads {VERSION}")
    found = []
    for k, body in enumerate(json.loads(metadata["vectors"])):
        tensors = {n.split(".", 1)[1]: a for n, a in arrays.items() if n.split(".", 1)[0] == str(k)}
        vector = SteeringVector(
            **{name: body[name] for name in _PLAIN},
            tensors=tensors,
            scalars=body["scalars"],
            lineage=body["lineage"],
            kl_curve=tuple((float(c), float(n)) for c, n in body["kl_curve"]),
        )
        if vector.id != body["id"]:
            raise SteerworksError(
                f"{file}, vector {k}: its numbers give id {vector.id}, not {body['id']}: changed by hand"
            )
        _check_model(vector, model, width, file)
        found.append(vector)
    if not found or (surplus := [n for n in arrays if n.split(".")[0] not in set(map(str, range(len(found))))]):
        raise SteerworksError(
            f"{file} describes {len(found) or 'no'} vectors, and holds {surplus if found else 'none'}"
        )
    return found


def export_gguf(
    vectors: Sequence[SteeringVector], path: str | Path, *, model_hint: str, coefficient: float = 1.0
) -> None:
    """Write a control vector that llama.cpp loads with `--control-vector`.

    Args:
        vectors: additive vectors at site residual, of one width, one a layer, none at layer 0.
        path: the file, ending in `.gguf`.
        model_hint: architecture as llama.cpp calls it, such as `llama`.
        coefficient: what the directions are multiplied by; `--control-vector-scaled` multiplies them further.

    Raises:
        SteerworksError: the vectors say something that the format cannot.
    """
    _check_some(vectors, path)
    layers = [v.layer for v in vectors]
    for v in vectors:
        what = f"the vector of {v.concept!r} at layer {v.layer}"
        if v.operator != "add" or v.site != "residual":
            raise SteerworksError(
                f"{what} is of operator {v.operator!r} at site {v.site!r}; a GGUF control vector can only add to the "
                "stream after a layer. Export it as safetensors"
            )
        if v.layer == 0:
            raise SteerworksError(f"{what} has no place in a GGUF control vector: llama.cpp steers from layer 1 on")
        if layers.count(v.layer) > 1:
            raise SteerworksError(
                f"two vectors at layer {v.layer}, and GGUF has one direction a layer: add them up first"
            )
        if v.width != vectors[0].width:
            raise SteerworksError(f"{what} has width {v.width}, the first one {vectors[0].width}")
    ordered = sorted(vectors, key=lambda v: v.layer)
    with np.errstate(over="ignore"):
        tensors = {f"direction.{v.layer}": (coefficient * v.direction).astype(np.float32) for v in ordered}
    if not all(np.isfinite(t).all() for t in tensors.values()):
        raise SteerworksError(f"coefficient {coefficient}: what it gives is not finite in 32 bits; nothing was written")
    keys: dict[str, str | int] = {
        "general.name": ", ".join(dict.fromkeys(v.concept for v in ordered)),
        "controlvector.model_hint": model_hint,
        "controlvector.layer_count": len(ordered),
        _GGUF_KEY: canonical_json({"coefficient": coefficient, "vectors": [_described(v) for v in ordered]}),
    }
    write_bytes(str(path), control_vector_bytes(keys, tensors))


@names_its_file
def import_gguf(path: str | Path, *, concept: str, model: str, width: int | None = None) -> list[SteeringVector]:
    """The directions of a GGUF control vector, by layer.

    Args:
        path: the file.
        concept: what they stand for.
        model: fingerprint of the model that they are meant for; the file's own hint is kept in the lineage.
        width: hidden size of that model; None: not checked.

    Raises:
        SteerworksError: no such file, damaged, no control vector, or of another width.
    """
    file = _existing(path)
    data = file.read_bytes()
    keys, tensors = read_control_vector(file, data)
    if keys.get("general.architecture") != "controlvector":
        raise SteerworksError(f"{file} is a GGUF file of {keys.get('general.architecture')!r}, not of a control vector")
    lineage = {**_origin(file, data), "model_hint": str(keys.get("controlvector.model_hint", ""))}
    found = []
    for name, tensor in tensors.items():
        prefix, _, layer = name.rpartition(".")
        if prefix != "direction" or not layer.isdecimal():
            raise SteerworksError(f"{file}: tensor {name!r} is no `direction.<layer>`")
        found.append(_imported(file, concept, model, int(layer), "residual", tensor, lineage))
        _check_model(found[-1], None, width, file)
    if not found:
        raise SteerworksError(f"{file} holds no direction")
    return sorted(found, key=lambda v: v.layer)


@names_its_file
def import_torch(
    path: str | Path,
    *,
    concept: str,
    model: str,
    layer: int | None = None,
    site: Site = "residual",
    width: int | None = None,
) -> list[SteeringVector]:
    """Directions of a `torch.save` file: a tensor of shape (width,) or (1, width), or a mapping of layers to such.

    Only tensors are read (`weights_only=True`); nothing that a pickle asks for is run.

    Args:
        path: the file.
        concept: what the direction stands for.
        model: fingerprint of the model that it is meant for.
        layer: 0-based decoder layer of a single tensor; the files of BiPO name it (`vec_ep20_layer15.pt`: 15).
        site: where it is added.
        width: hidden size of the model; None: not checked.

    Raises:
        SteerworksError: no such file, not plain tensors, of another shape or width, without a layer, or not finite.
    """
    import torch

    file = _existing(path)
    try:
        body = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SteerworksError(
            f"{file} is not a torch file of plain tensors, and nothing else is loaded, since a pickle can run code "
            f"({reason[:160]}). Save the tensor itself where you trust the file: torch.save(vector.cpu(), path)"
        ) from error
    by_layer = _by_layer(body, layer, file)
    lineage = _origin(file, file.read_bytes())
    found = []
    for at, tensor in sorted(by_layer.items()):
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            kind = str(tensor.dtype) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise SteerworksError(f"{file}, layer {at}: {kind} is no tensor of floating point numbers")
        found.append(_imported(file, concept, model, at, site, tensor.detach().float().numpy(), lineage))
        _check_model(found[-1], None, width, file)
    return found


def _by_layer(body: Any, layer: int | None, file: Path) -> dict[int, Any]:
    if not isinstance(body, Mapping):
        if layer is None:
            raise SteerworksError(f"{file} holds one tensor and no layer; say which with `layer`")
        return {layer: body}
    if layer is not None:
        raise SteerworksError(f"{file} names its layers ({', '.join(map(str, list(body)[:5]))} ...); leave out `layer`")
    keys = {k: str(k) for k in body}
    wrong = [k for k, text in keys.items() if not text.isdecimal()]
    if wrong or not body:
        raise SteerworksError(f"{file}: keys must be 0-based layers, like 15; there are {wrong[:5] or 'none'}")
    if len({int(text) for text in keys.values()}) < len(keys):
        raise SteerworksError(f"{file} names a layer twice: {', '.join(map(repr, keys))}")
    return {int(text): body[k] for k, text in keys.items()}


def _imported(
    file: Path, concept: str, model: str, layer: int, site: Site, numbers: Any, lineage: Mapping[str, Any]
) -> SteeringVector:
    direction: Floats = np.array(numbers, dtype=np.float32)
    if direction.ndim == 1:
        direction = direction[None]
    if direction.ndim != 2 or direction.shape[0] != 1:
        raise SteerworksError(f"{file}, layer {layer}: shape {np.shape(numbers)} is neither (width,) nor (1, width)")
    if not np.isfinite(direction).all():
        raise SteerworksError(f"{file}, layer {layer}: some numbers are not finite; the file is damaged")
    return SteeringVector(concept, "add", layer, {"direction": direction}, {}, model, site, lineage=lineage)


def _origin(file: Path, data: bytes) -> dict[str, Any]:
    return {"file": file.name, "sha256": hashlib.sha256(data).hexdigest()}


def _described(v: SteeringVector) -> dict[str, Any]:
    return {
        "id": v.id,
        **{name: getattr(v, name) for name in _PLAIN},
        "scalars": dict(v.scalars),
        "lineage": dict(v.lineage),
        "kl_curve": [list(p) for p in v.kl_curve],
    }


def _existing(path: str | Path) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise SteerworksError(f"no file at {file}")
    return file


def _check_some(vectors: Sequence[SteeringVector], path: str | Path) -> None:
    if not vectors:
        raise SteerworksError(f"there is no vector to write to {path}")


def _check_model(vector: SteeringVector, model: str | None, width: int | None, file: Path) -> None:
    what = f"{file}: the vector of {vector.concept!r} at layer {vector.layer}"
    if model is not None and vector.model != model:
        raise SteerworksError(
            f"{what} was fitted on model {vector.model}, not on {model}: fit it on this model, or transfer it with "
            "`steer_core.vectors.algebra.transfer`"
        )
    if width is not None and vector.width != width:
        raise SteerworksError(f"{what} has width {vector.width}; the model's hidden size is {width}")
