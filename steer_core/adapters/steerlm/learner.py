"""What attribute models share: a language model of which some part learns, and that part's weights by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch  # noqa: TID253  (this module exists for torch code)
from torch import Tensor  # noqa: TID253

from schemas.steerlm import AttributeModelSpec, AttributeSet
from steer_core.adapters.lora import lora_config, settle
from steer_core.adapters.steerlm.labels import ranges
from steer_core.tables.errors import ConfigError


class Learner(torch.nn.Module):
    """A causal language model, frozen but for an adapter where the spec wants one.

    Args:
        causal_lm: a transformers causal language model; it is changed in place.
        attributes: what is predicted.
        spec: what learns.

    Raises:
        ConfigError: there is no layer for the adapter.
    """

    def __init__(self, causal_lm: Any, attributes: AttributeSet, spec: AttributeModelSpec) -> None:
        super().__init__()
        self.attributes, self.spec = attributes, spec
        self.low, self.high = ranges(attributes)
        causal_lm.requires_grad_(False)
        self.lm = _with_adapter(causal_lm, spec) if spec.body == "lora" else causal_lm

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(next(self.lm.parameters()).device)

    def learned(self) -> dict[str, Tensor]:
        """What training changes, by name: the head, and the adapter or the body."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Put learned weights in place.

        Raises:
            ConfigError: they are not those of this model.
        """
        own = self.learned()
        if set(own) != set(weights) or any(own[n].shape != weights[n].shape for n in own):
            odd = sorted(set(own) ^ set(weights)) or [n for n in own if own[n].shape != weights[n].shape]
            raise ConfigError(f"weights are not of this model and spec: {len(odd)} do not fit (first: {odd[0]!r})")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows as one array, padded on the right, and where there is a token; each of shape [rows, longest]."""
    longest = max(len(r) for r in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    there = torch.zeros(len(rows), longest, dtype=torch.long)
    for k, row in enumerate(rows):
        ids[k, : len(row)] = torch.tensor(row)
        there[k, : len(row)] = 1
    return ids.to(device), there.to(device)


def _with_adapter(causal_lm: Any, spec: AttributeModelSpec) -> Any:
    from peft import get_peft_model

    # the first weights of an adapter come from torch's global generator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        try:
            found = get_peft_model(causal_lm, lora_config(spec.lora, causal_lm))
        except ValueError as error:
            raise ConfigError(f"the adapter does not fit {type(causal_lm).__name__}: {error}") from error
    settle(found, spec.lora)
    return found
