"""Fold interventions into the weights of a plain checkpoint, which stock engines serve at no cost.

What can be folded, at all positions and without a gate:

1. `add` at site `residual`: in a block that ends by adding what the MLP writes (all families here), a constant in the
   stream after the layer is a bias of the MLP's last projection.
2. `add`, `ablate` and `affine` at sites `attention` and `mlp`: an affine map A w + t of what a sublayer writes,
   w = W x + b, is the projection with weight A W and bias A b + t. With ablation at every write this is the weight
   orthogonalisation of Arditi et al. (2024), apart from the embedding, which no site stands for.

A bias needs a place: the architecture has one, has a switch for it in its config, or its weights are carried by another
architecture that has one (Mistral, Qwen2 and Phi-3 by Llama). Everything else is refused by name. The folded checkpoint
is loaded again and must give the logits that the hooks give.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.digest import digest_json
from schemas.vector_part import Site
from steer_core.models.loading import LoadedModel
from steer_core.models.quantization import is_quantized
from steer_core.steering.folding_families import Family, find_family
from steer_core.steering.intervention import Intervention
from steer_core.steering.operators import load_operator
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.tables.folders import new_folder

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]

#: Tokens that a checkpoint is compared on.
_TRIED = 24
#: Written beside the weights: what was folded into what.
MANIFEST = "folded.json"
#: Largest difference of logits from those of the hooks, in standard deviations of the logits.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}


@dataclass(frozen=True)
class Folded:
    """A folded checkpoint.

    Attributes:
        folder: a plain `save_pretrained` folder, with tokenizer.
        family: `model_type` of the source.
        carrier: `model_type` of the checkpoint.
        changed: names of the parameters that differ from the source.
        difference: largest difference of logits from those of the hooks, in standard deviations of the logits.
    """

    folder: Path
    family: str
    carrier: str
    changed: tuple[str, ...]
    difference: float


def fold(
    loaded: LoadedModel,
    interventions: Sequence[Intervention],
    vectors: Mapping[str, SteeringVector],
    folder: str | Path,
) -> Folded:
    """Write a plain checkpoint that does by itself what the interventions do.

    The loaded model stays as it is. `AutoModelForCausalLM.from_pretrained(folder)` needs nothing of this library.

    Args:
        loaded: the model that is steered.
        interventions: what is done to every row; several layers and several vectors may be given.
        vectors: id -> vector, of this model.
        folder: where the checkpoint goes; must not exist, or be empty.

    Raises:
        SteerworksError: an intervention or family that cannot be folded, a folder in use, or a checkpoint that does not
            give the logits of the hooks.
    """
    target = Path(folder)
    with new_folder(target, "the folded checkpoint") as aside:
        model, changed = _folded_model(loaded, interventions, vectors)
        model.save_pretrained(aside)
        loaded.tokenizer.save_pretrained(aside)
        with _hooked(loaded, interventions, vectors):
            difference = logit_difference(loaded, aside)
        refuse_difference(loaded, difference, "folded")
        body = {
            "realisation": "fold",
            "source": source_of(loaded),
            "interventions": [i.to_dict() for i in interventions],
            "digest": digest_json([i.to_dict() for i in interventions]),
            "concepts": {i.vector: vectors[i.vector].concept for i in interventions},
            "changed": list(changed),
        }
        write_manifest(aside / MANIFEST, body)
    return Folded(target, loaded.model.config.model_type, model.config.model_type, changed, difference)


def check_foldable(
    loaded: LoadedModel, interventions: Sequence[Intervention], vectors: Mapping[str, SteeringVector]
) -> None:
    """Refuse what `fold` would refuse, without writing anything.

    Raises:
        SteerworksError: an intervention or family that cannot be folded, by name and with the reason.
    """
    _folded_model(loaded, interventions, vectors)


def _folded_model(
    loaded: LoadedModel, interventions: Sequence[Intervention], vectors: Mapping[str, SteeringVector]
) -> tuple[Any, tuple[str, ...]]:
    """The folded model, without rotary buffers, and names of what was changed; the rest is shared with the source."""
    import torch
    from transformers import AutoModelForCausalLM

    from steer_core.steering.hooks import Steering

    if getattr(loaded.model, "peft_config", None):
        raise SteerworksError(
            "adapters were handed to this model, which wraps its layers: load it anew to fold into it"
        )
    if is_quantized(loaded.model):
        raise SteerworksError(
            f"model {loaded.spec.name!r} is quantised: its weights are packed, and nothing can be folded into them; "
            "fold into the model without `quantization`, or steer this one with hooks"
        )
    Steering(loaded.model, vectors, loaded.fingerprint).check(interventions)
    config = loaded.model.config
    family = find_family(config)
    for i in interventions:
        _check(i)
    shifted = frozenset(_written(i.site) for i in interventions if i.operator != "ablate")
    new_config = family.with_bias(copy.deepcopy(config), shifted) if shifted else copy.deepcopy(config)
    dtype = next(loaded.model.parameters()).dtype
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(new_config, dtype=dtype)
    state = dict(loaded.model.state_dict())
    if new_config.model_type != config.model_type:
        state = family.carry(state, config)
    for name, parameter in model.state_dict().items():
        if name not in state and name.endswith(".bias"):
            state[name] = torch.zeros(parameter.shape, dtype=parameter.dtype, device=loaded.device)
    changed: dict[str, None] = {}
    # a constant in the stream is written last, whatever stands before it in the list
    for site in ("attention", "mlp", "residual"):
        for i in interventions:
            if i.site == site:
                changed |= dict.fromkeys(_edit(state, i, vectors[i.vector], family, config))
    model.load_state_dict(state, strict=True, assign=True)
    model.tie_weights()
    model.generation_config = copy.deepcopy(loaded.model.generation_config)
    return model, tuple(changed)


def _written(site: Site) -> Site:
    """The sublayer whose projection takes the change: a constant in the stream is written by the MLP."""
    return "mlp" if site == "residual" else site


def _check(i: Intervention) -> None:
    what = f"operator {i.operator!r} at layer {i.layer}, site {i.site!r}"
    if i.positions != "all" or i.gate is not None:
        why = "has a gate" if i.gate is not None else f"steers positions {i.positions!r}"
        raise SteerworksError(f"{what} {why}: weights act on every token; steer it with hooks")
    if load_operator(i.operator).affine_map is None:
        raise SteerworksError(f"{what} is no affine map of the activation and cannot be folded; steer it with hooks")
    if i.site == "residual" and i.operator != "add":
        raise SteerworksError(
            f"{what} also edits what earlier layers wrote, which no weight of this layer can; fold it at sites "
            "'attention' and 'mlp', or steer it with hooks"
        )


def _edit(state: State, i: Intervention, vector: SteeringVector, family: Family, config: Any) -> list[str]:
    """Replace the projection's weight and bias by those that write the edited activation; names what changed."""
    import torch

    if family.experts and _written(i.site) == "mlp":
        return [_edit_experts(state, i, vector, f"{family.layers}.{i.layer}.{family.experts}", config)]
    where = f"{family.layers}.{i.layer}.{getattr(family, _written(i.site))}"
    if f"{where}.weight" not in state and family.shared:
        if i.operator != "add":
            raise SteerworksError(
                f"operator {i.operator!r} cannot be folded at layer {i.layer}, site {i.site!r}, of this "
                f"{config.model_type} model: its experts write there too; steer it with hooks"
            )
        # a layer of experts: what the shared one writes reaches every token
        where = f"{family.layers}.{i.layer}.{family.shared}"
    weight = state[f"{where}.weight"]
    bias = state.get(f"{where}.bias")
    scale = float(getattr(config, family.multiplier)) if family.multiplier else 1.0
    t = {n: torch.from_numpy(a).to(weight.device, torch.float64) for n, a in vector.tensors.items()}
    mapped = load_operator(i.operator).affine_map
    assert mapped is not None  # `_check` looked
    left, right, shift = mapped(t, i.coefficient)
    changed = []
    if len(left):
        changed.append(f"{where}.weight")
        w = weight.double().T if family.transposed else weight.double()  # [width, in]
        w = w - left.T @ (right @ w)
        state[f"{where}.weight"] = (w.T if family.transposed else w).to(weight.dtype).contiguous()
    if bias is not None:
        changed.append(f"{where}.bias")
        b = bias.double()
        state[f"{where}.bias"] = (b - left.T @ (right @ b) + shift / scale).to(bias.dtype)
    return changed


def _edit_experts(state: State, i: Intervention, vector: SteeringVector, name: str, config: Any) -> str:
    """Add a constant to the biases of all experts of a layer; names them."""
    import torch

    mapped = load_operator(i.operator).affine_map
    assert mapped is not None  # `_check` looked
    biases = state[name]  # [experts, width]
    t = {n: torch.from_numpy(a).to(biases.device, torch.float64) for n, a in vector.tensors.items()}
    left, _, shift = mapped(t, i.coefficient)
    if len(left):
        raise SteerworksError(
            f"operator {i.operator!r} cannot be folded at layer {i.layer}, site {i.site!r}, of this "
            f"{config.model_type} model: its experts write there; steer it with hooks"
        )
    state[name] = (biases.double() + shift).to(biases.dtype)
    return name


def refuse_difference(loaded: LoadedModel, difference: float, done: str) -> None:
    """Refuse a checkpoint that does not give the logits of the hooks.

    Args:
        loaded: the source.
        difference: as `logit_difference` gives it.
        done: what was done to it, in a word.

    Raises:
        SteerworksError: it is not within `TOLERANCE`.
    """
    limit = TOLERANCE.get(loaded.spec.dtype, TOLERANCE["float32"])
    if not difference <= limit:
        raise SteerworksError(
            f"the {done} checkpoint of this {loaded.model.config.model_type} model differs from the hooks by "
            f"{difference:.3g} standard deviations of the logits (at most {limit:g}): this variant of the "
            f"architecture cannot be {done}; steer it with hooks"
        )


@contextmanager
def _hooked(
    loaded: LoadedModel, interventions: Sequence[Intervention], vectors: Mapping[str, SteeringVector]
) -> Iterator[None]:
    from steer_core.steering.hooks import Steering

    steering = Steering(loaded.model, vectors, loaded.fingerprint)
    with steering.apply([tuple(interventions)], [_TRIED]):
        yield


def logit_difference(loaded: LoadedModel, folder: Path) -> float:
    """Largest difference between the logits of a checkpoint and those of the model, in standard deviations.

    Args:
        loaded: the source, with hooks on it, whose logits are those that are wanted.
        folder: the checkpoint.
    """
    import torch
    from transformers import AutoModelForCausalLM

    reloaded = AutoModelForCausalLM.from_pretrained(folder, dtype=loaded.model.dtype)
    reloaded.to(loaded.device).eval()  # type: ignore[arg-type]  # a decorator hides the signature
    vocabulary = loaded.model.config.get_text_config().vocab_size
    # tokens from all over the vocabulary; 7919 is prime
    tokens = (torch.arange(_TRIED) * 7919 % vocabulary).unsqueeze(0).to(loaded.device)  # [1, tokens]
    mask = torch.ones_like(tokens)
    with torch.no_grad():
        hooked = loaded.model(input_ids=tokens, attention_mask=mask).logits.float()
        found = reloaded(input_ids=tokens, attention_mask=mask).logits.float()
    return float((hooked - found).abs().max() / hooked.std())


def source_of(loaded: LoadedModel) -> dict[str, Any]:
    """What a manifest says of the model that a checkpoint was made from."""
    source = {"model": loaded.spec.source, "revision": loaded.spec.revision, "fingerprint": loaded.fingerprint}
    if loaded.spec.kind == "local":
        # a path of this machine means nothing elsewhere; the fingerprint does
        del source["model"]
    return source


def write_manifest(file: Path, body: Mapping[str, Any]) -> None:
    """Write a manifest."""
    file.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
