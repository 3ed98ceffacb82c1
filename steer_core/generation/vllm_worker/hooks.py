"""Where activations are changed: forward hooks on decoder layers, through a custom op that no compiler looks into.

The op changes its arguments in place. Its body is Python that runs with every pass, which a replayed CUDA graph would
skip: the worker refuses those.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .steerer import Place, Steerer
from .support import FAMILIES

#: Where decoder layers stand in vLLM's models.
_PATHS = ("model.layers", "model.decoder.layers", "transformer.h", "gpt_neox.layers", "language_model.model.layers")

_steerers: list[Steerer] = []
_places: list[Place] = []
_library: list[Any] = []


def steer(hidden: Tensor, residual: Tensor | None, place: int) -> None:
    """Body of the op: what is active at a place is done to the first tokens of a batch, padding excluded."""
    steerer = _steerers[0]
    for lane in steerer.active.get(_places[place], ()):
        lane.act(hidden, residual, steerer.tokens)


def _nothing(hidden: Tensor, residual: Tensor | None, place: int) -> None:
    return None


def _register() -> None:
    if _library:
        return
    from vllm.utils.torch_utils import direct_register_custom_op

    library = torch.library.Library("steerworks", "FRAGMENT")
    direct_register_custom_op(
        "steer_", steer, mutates_args=["hidden", "residual"], fake_impl=_nothing, target_lib=library
    )
    _library.append(library)


def find_layers(model: nn.Module) -> list[nn.Module]:
    """Decoder layers of a model of vLLM.

    Raises:
        RuntimeError: they stand elsewhere.
    """
    for path in _PATHS:
        found: Any = model
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.ModuleList):
            return list(found)
    raise RuntimeError(
        f"the decoder layers of {type(model).__name__} are at none of {', '.join(_PATHS)}: it cannot be steered here"
    )


def set_hooks(model: nn.Module, model_type: str, steerer: Steerer, compiled: bool) -> None:
    """Hook every place of a model, for good.

    Args:
        model: of vLLM, before it is compiled.
        model_type: of its config.
        steerer: what is done there.
        compiled: whether passes are compiled, so that hooks are traced once.
    """
    _register()
    _steerers[:] = [steerer]
    act: Any = torch.ops.steerworks.steer_ if compiled else steer
    for number, layer in enumerate(find_layers(model)):
        _hook(layer, (number, "residual"), act)
        for site, name in FAMILIES[model_type].items():
            _hook(getattr(layer, name), (number, site), act)


def _hook(module: nn.Module, place: Place, act: Any) -> None:
    number = len(_places)
    _places.append(place)

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, tuple):
            act(output[0], output[1], number)
        else:
            act(output, None, number)

    module.register_forward_hook(after)
