"""A head for levels in order: cumulative links (McCullagh 1980), so that P(level | text) is trained, not assumed.

    P(level <= k) = s(theta_k - f(h)),   theta_1 < theta_2 < ...,   f linear in the hidden state

Attributes have thresholds of their own; one with fewer levels than another has probability 0 beyond its own.
"""

from __future__ import annotations

import torch  # noqa: TID253  (this module exists for torch code)
from torch import Tensor  # noqa: TID253
from torch.nn.functional import logsigmoid, softplus  # noqa: TID253

from schemas.steerlm import AttributeSet

#: Least distance of neighbouring thresholds, so that no level's probability vanishes.
LEAST_GAP = 1e-3


class CumulativeLinkHead(torch.nn.Module):
    """Log-probabilities of levels from hidden states.

    Args:
        width: of the hidden state.
        attributes: which, with their levels.
    """

    def __init__(self, width: int, attributes: AttributeSet) -> None:
        super().__init__()
        counts = [len(a.levels) for a in attributes.attributes]
        self.score = torch.nn.Linear(width, len(counts), bias=False)
        most = max(counts)
        start = torch.tensor([-(n - 2) / 2 for n in counts])
        self.first = torch.nn.Parameter(start)  # [attributes]
        # softplus of it, and the least gap, is 1
        self.gaps = torch.nn.Parameter(torch.full((len(counts), max(most - 2, 0)), 0.5398))
        self.counts: Tensor
        self.register_buffer("counts", torch.tensor(counts))

    def thresholds(self) -> Tensor:
        """Rising, shape [attributes, most levels - 1]; those beyond an attribute's own levels mean nothing."""
        steps = softplus(self.gaps) + LEAST_GAP
        return torch.cat([self.first[:, None], self.first[:, None] + steps.cumsum(1)], dim=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of levels, lowest first.

        Args:
            hidden: shape [rows, width].

        Returns:
            Shape [rows, attributes, most levels]; -inf beyond an attribute's own levels.
        """
        return level_log_probabilities(self.score(hidden), self.thresholds(), self.counts)


def level_log_probabilities(scores: Tensor, thresholds: Tensor, counts: Tensor) -> Tensor:
    """Log P(level) of cumulative links, in a form that does not cancel.

    s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)) for a < b.

    Args:
        scores: f(h), shape [rows, attributes].
        thresholds: rising, shape [attributes, k - 1].
        counts: levels of each attribute, at most k, shape [attributes].

    Returns:
        Shape [rows, attributes, k]; -inf from `counts` on.
    """
    at = thresholds - scores[..., None]  # [rows, attributes, k - 1]
    k = thresholds.shape[1] + 1
    level = torch.arange(k, device=scores.device)
    last = counts[:, None] - 1  # [attributes, 1]
    below = torch.nn.functional.pad(logsigmoid(at), (0, 1))
    above = torch.nn.functional.pad(logsigmoid(-at), (1, 0))
    between = torch.log(-torch.expm1(thresholds[:, :-1] - thresholds[:, 1:]))
    between = torch.nn.functional.pad(between, (1, 1))  # the lowest and the highest level have one border each
    log_p = torch.where(level < last, below, 0.0) + above + torch.where((level > 0) & (level < last), between, 0.0)
    return log_p.masked_fill(level > last, -torch.inf)


def ordinal_loss(log_probabilities: Tensor, target: Tensor, lowest: Tensor) -> Tensor:
    """Mean negative log-probability of known levels.

    Args:
        log_probabilities: shape [rows, attributes, levels].
        target: levels, NaN where not known, shape [rows, attributes].
        lowest: lowest level of each attribute, shape [attributes].

    Raises:
        ValueError: nothing is known, or a target is none of its attribute's levels.
    """
    known = ~target.isnan()
    if not bool(known.any()):
        raise ValueError(f"none of the {target.numel()} targets of the batch is known: leave such rows out beforehand")
    place = torch.where(known, target - lowest, 0.0)
    index = place.long()
    if bool((place != index).any()) or bool((index < 0).any()) or bool((index >= log_probabilities.shape[2]).any()):
        raise ValueError("a target is no level of its attribute")
    picked = log_probabilities.gather(2, index[..., None])[..., 0][known]
    if bool(picked.isneginf().any()):
        raise ValueError("a target is no level of its attribute")
    return -picked.mean()


def expected_level(log_probabilities: Tensor, lowest: Tensor) -> Tensor:
    """Mean of the distribution of levels, shape [rows, attributes]."""
    level = torch.arange(log_probabilities.shape[2], device=log_probabilities.device, dtype=lowest.dtype)
    return lowest + (log_probabilities.exp() * level).sum(-1)
