"""Sampling whose randomness belongs to the row: the same row draws the same tokens in any batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch  # noqa: TID253  (this module subclasses nothing else; it is imported by the transformers backend only)
from torch import Tensor  # noqa: TID253

from schemas.specs import Decoding


class RowSampling:
    """A transformers logits processor that draws each row's token itself and leaves it as the only choice.

    One uniform number per row and step (Philox, keyed by the row's seed) is looked up in the cumulative distribution.
    Temperature comes first, then min-p (Nguyen et al. 2024), then top-p (Holtzman et al. 2020).
    """

    def __init__(self, decoding: Decoding, seeds: Sequence[int], prompt_length: int, steps: int) -> None:
        self.decoding = decoding
        self.prompt_length = prompt_length
        draws = [np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds]
        self.uniform = torch.tensor(np.array(draws))  # [rows, steps], float64

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [rows, vocabulary] to scores in which one token a row is left."""
        step = input_ids.shape[1] - self.prompt_length
        probs = torch.softmax(scores.double() / self.decoding.temperature, dim=-1)
        if self.decoding.min_p > 0:
            floor = self.decoding.min_p * probs.amax(dim=-1, keepdim=True)
            probs = torch.where(probs < floor, 0.0, probs)
        if self.decoding.top_p < 1:
            probs = _nucleus(probs / probs.sum(dim=-1, keepdim=True), self.decoding.top_p)
        mass = probs.cumsum(dim=-1)
        point = self.uniform[:, step].to(mass.device) * mass[:, -1]
        chosen = (mass <= point[:, None]).sum(dim=-1, keepdim=True).clamp_max(probs.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)


def _nucleus(probs: Tensor, top_p: float) -> Tensor:
    ordered, order = probs.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept: Any = torch.where(before < top_p, ordered, 0.0)
    return torch.zeros_like(probs).scatter_(1, order, kept)
