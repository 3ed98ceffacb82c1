"""A term beside the policy's loss: gaps in log-likelihood are to be proportional to gaps in reward.

Within the n completions of a request, with l_i = log p(i) - log p_ref(i) summed over tokens and reward r_i, each is
held against the mean of the others:

    loss = mean_i (l_i - mean_{j != i} l_j - (r_i - mean_{j != i} r_j) / tau)^2

Squares of a gap minus its target are those of IPO (Azar et al. 2024, eq. 17), where every target is 1 / (2 tau). Over
all pairs instead, the mean of (l_i - l_j - (r_i - r_j) / tau)^2 is 2 (n - 1) / n of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def margin_loss(
    log_ratio: torch.Tensor, rewards: torch.Tensor, groups: torch.Tensor, weights: torch.Tensor, tau: float
) -> torch.Tensor:
    """The term's mean over completions that have a reward, and another of their group that has one.

    Args:
        log_ratio: log p - log p_ref of each completion, shape [n], with gradient.
        rewards: shape [n]; NaN: it has none, and takes no part.
        groups: which request it answers, shape [n], whole numbers.
        weights: of each completion in the mean, shape [n].
        tau: reward that a nat is worth.

    Returns:
        A scalar; 0 where no group has two rewards.
    """
    import torch

    scored = ~torch.isnan(rewards)
    gap = log_ratio[scored] - rewards[scored].to(log_ratio.dtype) / tau
    _, place = torch.unique(groups[scored], return_inverse=True)
    sizes = torch.bincount(place)
    total = torch.zeros(len(sizes), dtype=gap.dtype, device=gap.device).index_add(0, place, gap)
    several = sizes[place] > 1
    others = (total[place] - gap) / (sizes[place] - 1).clamp(min=1)
    squares = weights[scored].to(gap.dtype) * (gap - others) ** 2
    return squares[several].sum() / several.sum().clamp(min=1)
