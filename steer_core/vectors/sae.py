"""Sparse autoencoders, read from the formats that they are published in, and their features as things that steer.

* **SAELens**: a folder with `cfg.json` and `sae_weights.safetensors`: `W_enc` [width, features], `W_dec` [features,
  width], `b_enc`, `b_dec`, and `threshold` of a jump ReLU.
* **Gemma Scope** (Lieberum et al. 2024): `params.npz` with the same names, a jump ReLU; it says neither layer nor site.

Pickles are never read. Architectures whose activations hang on all features at once (top-k, gated) can be added, not
clamped or scaled, and are refused there by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.digest import digest_bytes
from schemas.vector_part import Site
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

Floats = NDArray[np.float32]
How = Literal["add", "clamp", "scale"]
#: Architectures whose features are each a function of its own row.
LOCAL = ("standard", "jumprelu")
#: Hooks of SAELens -> site, and what is added to their layer: the stream before a layer is that after the one before.
_HOOKS: Mapping[str, tuple[Site, int]] = {
    "hook_resid_post": ("residual", 0),
    "hook_resid_pre": ("residual", -1),
    "hook_mlp_out": ("mlp", 0),
    "hook_attn_out": ("attention", 0),
}


@dataclass(frozen=True, eq=False)
class Sae:
    """A sparse autoencoder of one place of a model.

    Attributes:
        encoder: shape [features, width].
        decoder: shape [features, width].
        bias: of the encoder, shape [features]; what is taken off the input before it is folded in.
        threshold: above which a feature speaks, shape [features]; 0 for a ReLU.
        center: what the decoder adds to all features, shape [width].
        layer: 0-based decoder layer.
        site: where in the layer.
        architecture: as published.
        source: file that it was read from, by digest.
    """

    encoder: Floats
    decoder: Floats
    bias: Floats
    threshold: Floats
    center: Floats
    layer: int
    site: Site
    architecture: str
    source: str

    @property
    def width(self) -> int:
        """Hidden size."""
        return int(self.decoder.shape[1])

    @property
    def features(self) -> int:
        """How many there are."""
        return int(self.decoder.shape[0])

    def encode(self, activations: NDArray[Any]) -> Floats:
        """Activations of all features, [n, width] to [n, features].

        Raises:
            SteerworksError: the architecture's activations hang on all features at once.
        """
        self._local("encoded")
        z = activations.astype(np.float32) @ self.encoder.T + self.bias
        return np.where(z > np.maximum(self.threshold, 0.0), z, np.float32(0.0)).astype(np.float32)

    def decode(self, features: Floats) -> Floats:
        """What the features say of the input, [n, features] to [n, width]."""
        return np.asarray(features @ self.decoder + self.center, dtype=np.float32)

    def vector(self, feature: int, model: str, how: How = "add", *, concept: str = "") -> SteeringVector:
        """A feature as something that steers.

        Args:
            feature: its number.
            model: fingerprint of the model that the autoencoder is of.
            how: `add` its decoder row; `clamp` its activation to the strength; `scale` it by 1 + strength.
            concept: what it stands for; its number where nothing is said.

        Raises:
            SteerworksError: there is no such feature, or the architecture cannot be clamped or scaled.
        """
        if not 0 <= feature < self.features:
            raise SteerworksError(f"feature {feature}: this autoencoder has {self.features}, counted from 0")
        lineage = {"sae": self.source, "feature": feature, "architecture": self.architecture}
        named = concept or f"feature {feature}"
        row = self.decoder[feature : feature + 1]
        place: dict[str, Any] = {"site": self.site, "estimator": "sae", "lineage": lineage}
        if how == "add":
            return SteeringVector(named, "add", self.layer, {"direction": row}, {}, model, **place)
        self._local(f"{how}d" if how.endswith("e") else f"{how}ed")
        tensors = {"encoder": self.encoder[feature : feature + 1], "decoder": row}
        scalars = {"bias": float(self.bias[feature]), "threshold": float(self.threshold[feature])}
        return SteeringVector(named, f"feature_{how}", self.layer, tensors, scalars, model, **place)

    def _local(self, what: str) -> None:
        if self.architecture not in LOCAL:
            raise SteerworksError(
                f"features of a {self.architecture!r} autoencoder cannot be {what} one by one: what one of them says "
                f"hangs on the others; their decoder rows can be added ({', '.join(LOCAL)} can be {what})"
            )


def load_sae(place: str | Path, *, layer: int | None = None, site: Site | None = None) -> Sae:
    """A sparse autoencoder from a folder of SAELens, or a `params.npz` of Gemma Scope.

    Args:
        place: the folder, or the file.
        layer: 0-based layer; needed where the file does not say it, and overrides it where it does.
        site: likewise.

    Raises:
        SteerworksError: nothing is there, an array is missing or has another shape, or the place is not known.
    """
    path = Path(place)
    if path.is_dir():
        return _saelens(path, layer, site)
    if path.suffix == ".npz" and path.is_file():
        return _gemma_scope(path, layer, site)
    raise SteerworksError(f"{path}: neither a folder with cfg.json and sae_weights.safetensors, nor a params.npz")


def _saelens(folder: Path, layer: int | None, site: Site | None) -> Sae:
    from safetensors.numpy import load_file

    config, weights = folder / "cfg.json", folder / "sae_weights.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise SteerworksError(f"{folder}: there is no {file.name}")
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
        arrays = load_file(weights)
    except Exception as error:  # damaged files raise whatever they like
        raise SteerworksError(f"{folder} cannot be read: {error}") from error
    # newer files keep what belongs to the hook apart
    meta = {**told, **(told.get("metadata") or {})}
    normalised = meta.get("normalize_activations") or "none"
    if normalised != "none":
        raise SteerworksError(
            f"{folder}: it was trained on activations that were normalised ({normalised!r}): fold that into its "
            "weights first (`fold_activation_norm_scaling_factor` of SAELens)"
        )
    found_layer, found_site = _place(str(meta.get("hook_name", "")), meta.get("hook_layer"))
    return _made(
        arrays,
        str(weights),
        digest_bytes(weights.read_bytes()),
        layer if layer is not None else found_layer,
        site or found_site,
        str(meta.get("architecture") or "standard"),
        centred=bool(meta.get("apply_b_dec_to_input", True)),
    )


def _gemma_scope(file: Path, layer: int | None, site: Site | None) -> Sae:
    try:
        with np.load(file, allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
    except Exception as error:  # damaged files raise whatever they like
        raise SteerworksError(f"{file} cannot be read: {error}") from error
    digest = digest_bytes(file.read_bytes())
    return _made(arrays, str(file), digest, layer, site or "residual", "jumprelu", centred=False)


def _place(hook: str, layer: Any) -> tuple[int | None, Site | None]:
    """Layer and site of a hook of SAELens; None for what it does not say."""
    found = re.fullmatch(r"blocks\.(\d+)\.(hook_\w+)", hook)
    if found is None or found[2] not in _HOOKS:
        return (int(layer) if isinstance(layer, int) else None), None
    site, shift = _HOOKS[found[2]]
    return int(found[1]) + shift, site


def _made(
    arrays: Mapping[str, NDArray[Any]],
    where: str,
    digest: str,
    layer: int | None,
    site: Site | None,
    architecture: str,
    *,
    centred: bool,
) -> Sae:
    if lacking := [name for name in ("W_enc", "W_dec", "b_enc", "b_dec") if name not in arrays]:
        raise SteerworksError(f"{where}: there is no array {lacking[0]!r}; it has {', '.join(arrays)}")
    if layer is None or site is None or layer < 0:
        raise SteerworksError(
            f"{where}: it does not say after which layer it reads, or before the first: give `layer`, `site`"
        )
    encoder, decoder = (np.asarray(arrays[n], dtype=np.float32) for n in ("W_enc", "W_dec"))
    bias, center = (np.asarray(arrays[n], dtype=np.float32) for n in ("b_enc", "b_dec"))
    n, width = decoder.shape if decoder.ndim == 2 else (0, 0)
    threshold = np.asarray(arrays.get("threshold", np.zeros(n)), dtype=np.float32)
    wanted = {
        "W_enc": (encoder, (width, n)),
        "b_enc": (bias, (n,)),
        "b_dec": (center, (width,)),
        "threshold": (threshold, (n,)),
    }
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise SteerworksError(f"{where}: {name!r} has shape {array.shape}, and W_dec {decoder.shape} wants {shape}")
    rows = np.ascontiguousarray(encoder.T)
    if centred:
        # the input less the decoder's bias, through the encoder: a shift of the encoder's bias
        bias = bias - rows @ center
    return Sae(rows, decoder, bias, threshold, center, layer, site, architecture, digest)
