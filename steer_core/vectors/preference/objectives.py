"""What is minimised over a vector: BiPO and RePS (`reft`: over an edit).

These see log-probabilities of the two answers under edits of the residual stream, one edit a *factor*:

* BiPO (Cao et al., NeurIPS 2024, arXiv 2406.00045, Eq. 3). The factor d is +1 or -1, the edit h + d m v at every
  position of prompt and answer, and with r = log pi(answer | h + d m v) - log pi(answer | h), summed over the answer,

      loss(d) = -log sigmoid(d beta (r_chosen - r_rejected)).

  `antithetic` averages both signs of every pair in each step: the expectation over a random sign, without its variance.
  `compat` draws one sign a batch from `random.Random(11)`, as published.
* RePS (Wu et al. 2025, arXiv 2505.20809): no reference in the loss, length-normalised, and asymmetric. With
  lp = log-probability of an answer over its number of tokens, and B the log-probabilities without an edit,

      steer(a)  = b+ lp(chosen | h + a v)   - lp(rejected | h + a v),     b+ = max(B(rejected) - B(chosen), 1)
      suppress  = b- lp(rejected | null(h)) - lp(chosen | null(h)),       b- = max(B(chosen) - B(rejected), 1)
      null(h)   = h - relu(h.v) v / |v|^2
      loss      = -log sigmoid(beta steer(a)) - log sigmoid(beta suppress)

  with a drawn from `factors` in every step; factor 0 stands for nulling, as in the published code. B is summed over
  the answer, not averaged. `beta` is 1 in the paper.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch  # noqa: TID253
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253
from torch.nn.functional import logsigmoid  # noqa: TID253

from steer_core.tables.errors import ConfigError
from steer_core.vectors.preference.passes import Edit
from steer_core.vectors.preference.trunk import Trunk

#: Seed of the published stream of signs.
PUBLISHED_SEED = 11


class Objective(Protocol):
    """A loss over a vector, or over other parameters in one array."""

    def start(self, width: int, seed: int) -> NDArray[np.float32]:
        """First value, shape [width] for a vector."""

    def sampler(self, seed: int) -> Callable[[], tuple[float, ...]]:
        """A stream of factors: those of the next step."""

    @property
    def factors_measured(self) -> tuple[float, ...]:
        """Factors that validation is measured at."""

    def terms(
        self, trunk: Trunk, indices: Sequence[int], vector: Tensor, factors: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Loss of each pair, shape [pairs], and how far it stands on the right side at each factor, [factors, pairs].

        `vector` has the shape of `start`.
        """

    def fitted(self, values: NDArray[np.float32]) -> tuple[str, Mapping[str, NDArray[np.float32]]]:
        """Operator and tensors of what was trained, of the shape of `start`."""


class Logistic(Protocol):
    """An objective whose loss is a sum of -log sigmoid of margins."""

    def weights(self, factors: Sequence[float]) -> tuple[float, ...]:
        """Weight of each factor's loss in the sum."""


def loss_of(objective: Logistic, margins: Tensor, factors: Sequence[float]) -> Tensor:
    """Loss of each pair: the weighted sum of -log sigmoid(margin) over the factors, shape [pairs]."""
    weights = torch.tensor(objective.weights(factors), device=margins.device)
    return -(weights[:, None] * logsigmoid(margins)).sum(dim=0)


@dataclass(frozen=True)
class Bipo:
    """Bidirectional preference optimisation.

    Attributes:
        beta: sharpness of the preference.
        signs: `antithetic`: both in each step; `compat`: one a batch.
        multiplier: what the vector is scaled with in training; a vector trained at 2 acts at strength 2.

    Raises:
        ConfigError: a setting makes no sense.
    """

    beta: float = 0.1
    signs: Literal["antithetic", "compat"] = "antithetic"
    multiplier: float = 1.0

    def __post_init__(self) -> None:
        if self.beta <= 0 or self.multiplier <= 0:
            raise ConfigError(f"bipo: beta and multiplier must be positive; got {self.beta} and {self.multiplier}")
        if self.signs not in ("antithetic", "compat"):
            raise ConfigError(f"bipo: signs are 'antithetic' or 'compat'; got {self.signs!r}")

    def start(self, width: int, seed: int) -> NDArray[np.float32]:
        """Zero, whatever the seed: the loss starts at log 2."""
        return np.zeros(width, dtype=np.float32)

    def sampler(self, seed: int) -> Callable[[], tuple[float, ...]]:
        """Both signs, or one of the published stream, which has a seed of its own."""
        if self.signs == "antithetic":
            return lambda: (1.0, -1.0)
        stream = random.Random(PUBLISHED_SEED)
        return lambda: (float(stream.choice((-1, 1))),)

    @property
    def factors_measured(self) -> tuple[float, ...]:
        """Both signs."""
        return (1.0, -1.0)

    def margins(self, trunk: Trunk, indices: Sequence[int], vector: Tensor, factors: Sequence[float]) -> Tensor:
        """Of Eq. 3: d beta (r_chosen - r_rejected), shape [factors, pairs]."""
        edits = [_adding(vector, factor * self.multiplier) for factor in factors]
        ratios = trunk.log_probs(indices, edits) - trunk.reference[list(indices)]  # [factors, pairs, 2]
        signs = torch.tensor(factors, device=ratios.device)
        return signs[:, None] * self.beta * (ratios[..., 0] - ratios[..., 1])

    def weights(self, factors: Sequence[float]) -> tuple[float, ...]:
        """The mean over signs."""
        return (1.0 / len(factors),) * len(factors)

    def terms(
        self, trunk: Trunk, indices: Sequence[int], vector: Tensor, factors: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Loss [pairs] and margins [factors, pairs]."""
        margins = self.margins(trunk, indices, vector, factors)
        return loss_of(self, margins, factors), margins

    def fitted(self, values: NDArray[np.float32]) -> tuple[str, Mapping[str, NDArray[np.float32]]]:
        """A direction [1, width] to add."""
        return "add", {"direction": values[None]}


@dataclass(frozen=True)
class Reps:
    """Reference-free preference steering.

    Attributes:
        factors: what the vector is scaled with in training, one drawn a step.
        beta: sharpness; 1 in the paper.
        start_norm: L2 norm of the random start: nulling is undefined at zero.

    Raises:
        ConfigError: a setting makes no sense.
    """

    factors: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0)
    beta: float = 1.0
    start_norm: float = 0.5

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) <= 0:
            raise ConfigError(f"reps: factors are positive numbers; got {list(self.factors)}")
        if self.beta <= 0 or self.start_norm <= 0:
            raise ConfigError(f"reps: beta and start_norm must be positive; got {self.beta} and {self.start_norm}")

    def start(self, width: int, seed: int) -> NDArray[np.float32]:
        """A random direction of norm `start_norm`."""
        drawn = np.random.default_rng([seed, 1]).standard_normal(width)
        return (self.start_norm * drawn / np.linalg.norm(drawn)).astype(np.float32)

    def sampler(self, seed: int) -> Callable[[], tuple[float, ...]]:
        """One steering factor and nulling."""
        rng = np.random.default_rng([seed, 2])
        return lambda: (float(rng.choice(self.factors)), 0.0)

    @property
    def factors_measured(self) -> tuple[float, ...]:
        """All of them, and nulling."""
        return (*self.factors, 0.0)

    def margins(self, trunk: Trunk, indices: Sequence[int], vector: Tensor, factors: Sequence[float]) -> Tensor:
        """Terms under the sigmoid: beta steer(a), and beta suppress at factor 0, shape [factors, pairs]."""
        edits = [_adding(vector, factor) if factor else _nulling(vector) for factor in factors]
        chosen = list(indices)
        each = trunk.log_probs(indices, edits) / trunk.answer_tokens[chosen]  # [factors, pairs, 2]
        before = trunk.reference[chosen]
        up = (before[:, 1] - before[:, 0]).clamp(min=1.0)
        down = (before[:, 0] - before[:, 1]).clamp(min=1.0)
        steered = torch.tensor([bool(f) for f in factors], device=each.device)[:, None]
        return self.beta * torch.where(steered, up * each[..., 0] - each[..., 1], down * each[..., 1] - each[..., 0])

    def weights(self, factors: Sequence[float]) -> tuple[float, ...]:
        """Steering terms count together as much as nulling."""
        steering = sum(bool(f) for f in factors)
        return tuple(1.0 / steering if f else 1.0 for f in factors)

    def terms(
        self, trunk: Trunk, indices: Sequence[int], vector: Tensor, factors: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Loss [pairs] and margins [factors, pairs]."""
        margins = self.margins(trunk, indices, vector, factors)
        return loss_of(self, margins, factors), margins

    def fitted(self, values: NDArray[np.float32]) -> tuple[str, Mapping[str, NDArray[np.float32]]]:
        """A direction [1, width] to add."""
        return "add", {"direction": values[None]}


def _adding(vector: Tensor, factor: float) -> Edit:
    return lambda hidden: hidden + factor * vector


def _nulling(vector: Tensor) -> Edit:
    def edit(hidden: Tensor) -> Tensor:
        share = torch.relu(hidden @ vector) / (vector @ vector)  # [rows, tokens]
        return hidden - share[..., None] * vector

    return edit
