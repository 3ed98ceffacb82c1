"""Take a direction out of every matrix that writes into the stream, and save a plain checkpoint.

Weight orthogonalisation (Arditi et al. 2024, arXiv:2406.11717, Eq. 5), with a weight w for each layer and sublayer:

    W' = W - w r (r^T W)        W [width, in], r the unit direction; biases likewise, embeddings with w = 1

1. Without `norm_preserving` this is what the operator `ablate` does to what each sublayer and each embedding writes.
   The saved checkpoint is loaded again, and must give the logits that such hooks give.
2. With it, what each input of a matrix writes (a column of W') is scaled back to the norm that it had. A column stays
   free of the direction where w = 1. Scaling rows instead would bring the direction back.
3. Embeddings that are tied to the head are untied first: the head reads the stream and is no writer.

`steer_core.evaluation.weight_edits` says what it cost.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from schemas.digest import digest_json
from steer_core.models.loading import LoadedModel
from steer_core.models.quantization import is_quantized
from steer_core.steering.folding import MANIFEST, logit_difference, refuse_difference, source_of, write_manifest
from steer_core.steering.folding_families import Family, find_family
from steer_core.steering.sites import find_sites
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.folders import new_folder

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]

Sublayer = Literal["attention", "mlp"]
#: Operators whose `direction` is that of the concept.
DIRECTED = frozenset({"add", "add_norm_preserving", "ablate", "affine"})


@dataclass(frozen=True)
class LayerProfile:
    """Weights over depth: `peak` at one layer, falling in a straight line to `floor`, and 0 further away.

    Attributes:
        peak: weight at `center`; 1 takes the direction out.
        center: 0-based layer, between two layers if need be.
        floor: weight at `distance` layers from there.
        distance: layers on either side that are edited.

    Raises:
        ConfigError: a weight is negative or no number, or the distance is not positive.
    """

    peak: float
    center: float
    floor: float
    distance: float

    def __post_init__(self) -> None:
        if (
            not (np.isfinite([self.peak, self.center, self.floor, self.distance]).all())
            or min(self.peak, self.floor) < 0
        ):
            raise ConfigError(f"weights of layers are finite and at least 0; got {self}")
        if self.distance <= 0:
            raise ConfigError(f"the distance must be positive; got {self.distance}")

    def at(self, layer: int) -> float:
        """Weight of a layer."""
        away = abs(layer - self.center)
        return 0.0 if away > self.distance else self.peak + (self.floor - self.peak) * away / self.distance


@dataclass(frozen=True)
class EditedWeights:
    """A checkpoint whose matrices write less of a direction, or nothing.

    Attributes:
        folder: a plain `save_pretrained` folder, with tokenizer.
        family: its `model_type`.
        changed: names of the parameters that differ from the source.
        difference: largest difference of logits from those of the hooks, in standard deviations of the logits; None
            with `norm_preserving`, which no hook does.
    """

    folder: Path
    family: str
    changed: tuple[str, ...]
    difference: float | None


def edit_weights(
    loaded: LoadedModel,
    vectors: SteeringVector | Sequence[SteeringVector],
    folder: str | Path,
    *,
    attention: LayerProfile | float = 1.0,
    mlp: LayerProfile | float = 1.0,
    embeddings: bool = True,
    norm_preserving: bool = False,
) -> EditedWeights:
    """Write a checkpoint whose sublayers no longer write a direction. The loaded model stays as it is.

    Args:
        loaded: the model.
        vectors: one direction for all layers, or several, each for its own layer; embeddings take the only or first.
        folder: where the checkpoint goes; must not exist, or be empty.
        attention: weight of each layer's attention: a number, or a profile over depth. 0 leaves it as it is.
        mlp: weight of each layer's MLP, likewise.
        embeddings: whether what embeddings write is edited too.
        norm_preserving: whether columns are scaled back to their norms.

    Raises:
        ConfigError: a weight that makes no sense.
        SteerworksError: a vector of another model or without a direction, a family that cannot be edited, a quantised
            model, a folder in use, or a checkpoint that does not give the logits of the hooks.
    """
    directions = [vectors] if isinstance(vectors, SteeringVector) else list(vectors)
    _check(loaded, directions)
    config, family = loaded.model.config, find_family(loaded.model.config)
    if not getattr(config, "do_layer_norm_before", True):
        raise SteerworksError(
            f"this {config.model_type} model cannot be edited: it normalises the stream behind each sublayer, which "
            "brings the direction back. Steer it with hooks"
        )
    if loaded.model.get_input_embeddings().embedding_dim != find_sites(loaded.model).width:
        raise SteerworksError(
            f"this {config.model_type} model projects its embeddings into the stream: steer it with hooks"
        )
    weights = {"attention": attention, "mlp": mlp}
    plan = [
        (site, layer, vector, weight)
        for layer in range(config.num_hidden_layers)
        for site, profile in weights.items()
        if (weight := _weight(profile, layer)) and (vector := _of_layer(directions, layer)) is not None
    ]
    if not plan and not embeddings:
        raise ConfigError("every layer has the weight 0, and embeddings are left out: nothing would be edited")
    with new_folder(Path(folder), "the edited checkpoint") as aside:
        model, changed = _edited_model(loaded, plan, directions[0] if embeddings else None, family, norm_preserving)
        model.save_pretrained(aside)
        loaded.tokenizer.save_pretrained(aside)
        difference = None
        if not norm_preserving:
            with _hooks(loaded.model, plan, directions[0] if embeddings else None, family):
                difference = logit_difference(loaded, aside)
            refuse_difference(loaded, difference, "edited")
        body = {
            "realisation": "weights",
            "source": source_of(loaded),
            "concepts": {v.id: v.concept for v in directions},
            "weights": [[site, layer, vector.id, weight] for site, layer, vector, weight in plan],
            "embeddings": embeddings,
            "norm_preserving": norm_preserving,
            "changed": list(changed),
        }
        write_manifest(aside / MANIFEST, {**body, "digest": digest_json(body["weights"])})
    return EditedWeights(Path(folder), config.model_type, changed, difference)


_Plan = Sequence[tuple[str, int, SteeringVector, float]]


def _weight(profile: LayerProfile | float, layer: int) -> float:
    weight = profile.at(layer) if isinstance(profile, LayerProfile) else float(profile)
    if not np.isfinite(weight) or weight < 0:
        raise ConfigError(f"weights of layers are finite and at least 0; got {weight} at layer {layer}")
    return weight


def _of_layer(directions: Sequence[SteeringVector], layer: int) -> SteeringVector | None:
    if len(directions) == 1:
        return directions[0]
    return next((v for v in directions if v.layer == layer), None)


def _check(loaded: LoadedModel, directions: Sequence[SteeringVector]) -> None:
    if not directions:
        raise SteerworksError("there is no vector whose direction could be taken out: give one, or one a layer")
    layers = [v.layer for v in directions]
    if len(layers) > 1 and len(set(layers)) < len(layers):
        raise SteerworksError(f"two vectors are of one layer (layers {layers}): give one for each layer, or only one")
    for v in directions:
        if v.model != loaded.fingerprint:
            raise SteerworksError(f"the vector of {v.concept!r} was fitted on another model: carry it over first")
        if v.operator not in DIRECTED or "direction" not in v.tensors or len(v.tensors["direction"]) != 1:
            raise SteerworksError(
                f"the vector of {v.concept!r} ({v.estimator}) has no direction that could be taken out"
            )
        if not np.linalg.norm(v.tensors["direction"]):
            raise SteerworksError(f"the direction of {v.concept!r} is 0")
    if is_quantized(loaded.model):
        raise SteerworksError(
            f"model {loaded.spec.name!r} is quantised: its weights are packed; edit the model without `quantization`"
        )
    if getattr(loaded.model, "peft_config", None):
        raise SteerworksError("adapters were handed to this model, which wraps its layers: load it anew to edit it")


def _embeddings(model: Any) -> dict[str, Any]:
    """Name -> embedding whose rows are of the stream's width, outside the layers: words, and learnt positions."""
    import torch

    width = model.get_input_embeddings().embedding_dim
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding) and module.embedding_dim == width
    }


def _edited_model(
    loaded: LoadedModel, plan: _Plan, of_embeddings: SteeringVector | None, family: Family, keep_norms: bool
) -> tuple[Any, tuple[str, ...]]:
    import torch
    from transformers import AutoModelForCausalLM

    model = loaded.model
    config, state = copy.deepcopy(model.config), dict(model.state_dict())
    changed: dict[str, None] = {}
    for site, layer, vector, weight in plan:
        where = f"{family.layers}.{layer}.{getattr(family, site)}"
        if f"{where}.weight" not in state:
            raise SteerworksError(
                f"layer {layer} of this {config.model_type} model writes at its {site} through experts, whose weights "
                "cannot be edited here: steer it with hooks"
            )
        changed[f"{where}.weight"] = None
        state[f"{where}.weight"] = _without(state[f"{where}.weight"], vector, weight, family.transposed, keep_norms)
        if f"{where}.bias" in state:
            changed[f"{where}.bias"] = None
            bias = _without(state[f"{where}.bias"][:, None], vector, weight, False, keep_norms)
            state[f"{where}.bias"] = bias[:, 0].contiguous()
    if of_embeddings is not None:
        _untie(model, config, state)
        for name in _embeddings(model):
            changed[f"{name}.weight"] = None
            state[f"{name}.weight"] = _without(state[f"{name}.weight"], of_embeddings, 1.0, True, keep_norms)
    with torch.device("meta"):
        edited = AutoModelForCausalLM.from_config(config, dtype=next(model.parameters()).dtype)
    edited.load_state_dict(state, strict=True, assign=True)
    edited.tie_weights()
    edited.generation_config = copy.deepcopy(model.generation_config)
    return edited, tuple(changed)


def _untie(model: Any, config: Any, state: State) -> None:
    """Give the head weights of its own, where it shares those of the words."""
    head, words = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not words.weight:
        return
    config.tie_word_embeddings = False
    named = next(n for n, module in model.named_modules() if module is head)
    state[f"{named}.weight"] = head.weight.detach().clone()


def _without(matrix: Tensor, vector: SteeringVector, weight: float, rows: bool, keep_norms: bool) -> Tensor:
    """A matrix [width, in], or [in, width] with `rows`, that writes less of a direction."""
    import torch

    written = matrix.detach().double().T if rows else matrix.detach().double()  # [width, in]
    unit = torch.from_numpy(np.asarray(vector.tensors["direction"][0], dtype=np.float64)).to(written.device)
    unit = unit / unit.norm()
    left = written - weight * unit[:, None] * (unit @ written)
    if keep_norms:
        norms = left.norm(dim=0)
        # a column that is nothing but the direction has nothing left to scale
        scale = torch.where(norms > 1e-9 * written.norm(dim=0), written.norm(dim=0) / norms.clamp_min(1e-300), 0.0)
        left = left * scale
    edited: Tensor = (left.T if rows else left).to(matrix.dtype).contiguous()
    return edited


@contextmanager
def _hooks(model: Any, plan: _Plan, of_embeddings: SteeringVector | None, family: Family) -> Iterator[None]:
    """The same edits as hooks on the modules themselves."""
    modules = dict(model.named_modules())
    edits = [(module, of_embeddings, 1.0) for module in _embeddings(model).values() if of_embeddings is not None]
    edits += [(modules[f"{family.layers}.{n}.{getattr(family, site)}"], v, weight) for site, n, v, weight in plan]
    handles = [module.register_forward_hook(_ablating(v, weight)) for module, v, weight in edits]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ablating(vector: SteeringVector | None, weight: float) -> Any:
    import torch

    assert vector is not None
    unit = torch.from_numpy(np.asarray(vector.tensors["direction"][0], dtype=np.float64))
    unit = unit / unit.norm()

    def ablated(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        wide, own = output.double(), unit.to(output.device)
        edited: Tensor = (wide - weight * (wide @ own)[..., None] * own).to(output.dtype)
        return edited

    return ablated
