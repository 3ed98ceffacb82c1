"""Rows that read the same tokens share the layers below what is done to them.

A sweep reads one text under many arms, and below the layer that an arm steers all of them see the same activations. So
the model runs on the distinct texts up to that layer, and on all rows from there on. Whether a model allows it is
measured once, on a short text, and not assumed of its architecture: where its layers hand on something else than the
stream, all rows run through all layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from steer_core.models.loading import LoadedModel
from steer_core.steering.intervention import Intervention
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

#: Largest difference of logits, in standard deviations of the logits, that counts as rounding.
TOLERANCE = 1e-3
#: Whether a model's layers below may be shared, for as long as it lives.
_MEASURED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def untouched(interventions: Sequence[Intervention]) -> int:
    """The last layer whose output nothing has changed yet; -1: none. Gates look at activations, so they count."""
    places = [(i.layer, i.site) for i in interventions]
    places += [(i.gate.layer, "residual") for i in interventions if i.gate is not None]
    # the stream is changed after its layer, a sublayer within
    return min(layer if site == "residual" else layer - 1 for layer, site in places)


@contextmanager
def below(model: Any, layers: Sequence[Any], last: int, owner: Sequence[int]) -> Iterator[Any]:
    """Run distinct texts up to and with layer `last`, and all rows from there on.

    Set the hooks that steer inside this context; call what it yields in front of the model's pass, inside theirs.

    Args:
        model: a causal language model.
        layers: its decoder layers.
        last: the last layer that is shared, 0-based.
        owner: for each row the number of its text; texts are numbered as they come.
    """
    import torch

    n = max(owner) + 1
    first = [owner.index(text) for text in range(n)]

    def spread(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            several = value.ndim >= 2 and value.shape[0] == n and n > 1
            return value[torch.tensor(owner, device=value.device)] if several else value
        return tuple(spread(v) for v in value) if isinstance(value, tuple) else value

    def fan_out(_module: Any, _args: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        wide = hidden[torch.tensor(owner, device=hidden.device)]
        return (wide, *output[1:]) if isinstance(output, tuple) else wide

    def later(_module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        # the stream is wide already; masks and positions are not
        return (args[0], *map(spread, args[1:])), {k: spread(v) for k, v in kwargs.items()}

    def narrow(_module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        rows = len(owner)
        picked = {
            k: v[torch.tensor(first, device=v.device)] if isinstance(v, torch.Tensor) and v.shape[:1] == (rows,) else v
            for k, v in kwargs.items()
        }
        return args, picked

    with ExitStack() as stack:
        stack.callback(layers[last].register_forward_hook(fan_out).remove)
        for layer in layers[last + 1 :]:
            stack.callback(layer.register_forward_pre_hook(later, with_kwargs=True).remove)

        def begin() -> None:
            # behind the hooks that read the mask of all rows
            stack.callback(model.register_forward_pre_hook(narrow, with_kwargs=True).remove)

        yield begin


def shares_trunk(loaded: LoadedModel) -> bool:
    """Whether rows of the model may share its lower layers."""
    if loaded.model not in _MEASURED:
        _MEASURED[loaded.model] = _measure(loaded)
    return _MEASURED[loaded.model]


def _measure(loaded: LoadedModel) -> bool:
    """Two texts in four rows, with layers shared and without."""
    import torch

    from steer_core.steering.sites import find_sites

    try:
        layers = find_sites(loaded.model).layers
    except SteerworksError:
        return False
    if len(layers) < 2:
        return False
    vocabulary = loaded.model.config.get_text_config().vocab_size
    # tokens from all over the vocabulary; 7919 is prime
    tokens = (torch.arange(12) * 7919 % vocabulary).reshape(2, 6)[[0, 1, 1, 0]].to(loaded.device)
    options = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "use_cache": False}
    with torch.inference_mode():
        whole: Tensor = loaded.model(**options).logits
        try:
            with below(loaded.model, layers, len(layers) // 2 - 1, [0, 1, 1, 0]) as begin:
                begin()
                shared: Tensor = loaded.model(**options).logits
        except Exception:  # a model that does not allow it fails in whatever way it likes
            return False
    if shared.shape != whole.shape:
        return False
    return bool((shared.float() - whole.float()).abs().max() <= TOLERANCE * whole.float().std())
