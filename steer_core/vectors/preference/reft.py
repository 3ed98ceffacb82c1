"""What is minimised over a low-rank edit of the residual stream: LoReFT (Wu et al. 2024, arXiv:2404.03592, Eq. 2).

    edit(h) = h + R^T (W h + b - R h)      with R [rank, width] of orthonormal rows, W [rank, width], b [rank]

R is the orthonormal factor of a free matrix A (A^T = R^T U, the diagonal of U positive), so that any step keeps its
rows orthonormal. Training starts at W = R and b = 0, where nothing is edited; the published code starts W by chance.

1. `supervised`: mean over the answer's tokens of -log pi(chosen | edit), as published.
2. `preference`: -log sigmoid(beta (r_chosen - r_rejected)), r the log-ratio of the summed log-probabilities under the
   edit and without it: DPO (Rafailov et al. 2023, arXiv:2305.18290, Eq. 7) with the edit in place of the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch  # noqa: TID253
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253
from torch.nn.functional import logsigmoid  # noqa: TID253

from steer_core.tables.errors import ConfigError
from steer_core.vectors.preference.passes import Edit
from steer_core.vectors.preference.trunk import Trunk


@dataclass(frozen=True)
class Loreft:
    """A low-rank edit, trained on chosen answers or on pairs.

    Its parameters are one array [2 rank + 1, width]: A, W, and b at the start of the last row.

    Attributes:
        rank: dimensions of the edit.
        objective: `supervised` or `preference`.
        beta: sharpness of the preference.
        positions: tokens that are edited, as a part's `positions`.

    Raises:
        ConfigError: a setting makes no sense.
    """

    rank: int = 4
    objective: Literal["supervised", "preference"] = "supervised"
    beta: float = 0.1
    positions: str = "all"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"loreft: rank is at least 1; got {self.rank}")
        if self.objective not in ("supervised", "preference"):
            raise ConfigError(f"loreft: objective is 'supervised' or 'preference'; got {self.objective!r}")
        if self.beta <= 0:
            raise ConfigError(f"loreft: beta must be positive; got {self.beta}")

    def start(self, width: int, seed: int) -> NDArray[np.float32]:
        """Random A, W = R of it, b = 0: no edit.

        Raises:
            ConfigError: the rank exceeds the width.
        """
        if self.rank > width:
            raise ConfigError(f"loreft: rank {self.rank} is more than the model's width, {width}")
        drawn = np.random.default_rng([seed, 3]).standard_normal((self.rank, width)).astype(np.float32)
        rotation = orthonormal(torch.from_numpy(drawn)).numpy()
        return np.concatenate([rotation, rotation, np.zeros((1, width), np.float32)])

    def sampler(self, seed: int) -> Callable[[], tuple[float, ...]]:
        """The edit as it is, in every step."""
        return lambda: (1.0,)

    @property
    def factors_measured(self) -> tuple[float, ...]:
        """The edit as it is."""
        return (1.0,)

    def edit(self, parameters: Tensor) -> Edit:
        """What the parameters [2 rank + 1, width] do to the stream [rows, tokens, width]."""
        rotation, weight, bias = self._parts(parameters)
        return lambda hidden: hidden + (hidden @ (weight - rotation).T + bias) @ rotation

    def terms(
        self, trunk: Trunk, indices: Sequence[int], vector: Tensor, factors: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Loss of each pair, [pairs], and its margin [1, pairs]: chosen before rejected, a token or against before."""
        chosen = list(indices)
        sums = trunk.log_probs(chosen, [self.edit(vector)], self.positions)  # [1, pairs, 2]
        if self.objective == "supervised":
            each = sums / trunk.answer_tokens[chosen]
            return -each[0, :, 0], each[..., 0] - each[..., 1]
        ratios = sums - trunk.reference[chosen]
        margins = self.beta * (ratios[..., 0] - ratios[..., 1])
        return -logsigmoid(margins[0]), margins

    def fitted(self, values: NDArray[np.float32]) -> tuple[str, Mapping[str, NDArray[np.float32]]]:
        """Operator `low_rank`: `left` R, `right` W - R, both [rank, width], and `direction` R^T b [1, width]."""
        rotation, weight, bias = (t.numpy() for t in self._parts(torch.from_numpy(values).double()))
        tensors = {"left": rotation, "right": weight - rotation, "direction": (bias @ rotation)[None]}
        return "low_rank", {n: t.astype(np.float32) for n, t in tensors.items()}

    def _parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """R, W and b."""
        free, weight, last = parameters.split([self.rank, self.rank, 1])
        return orthonormal(free), weight, last[0, : self.rank]


def orthonormal(rows: Tensor) -> Tensor:
    """The orthonormal factor of rows [rank, width], with the signs that make it that of the rows where they are so."""
    q, r = torch.linalg.qr(rows.T)
    signs = torch.where(r.diagonal() < 0, -1.0, 1.0).to(rows.dtype)
    found: Tensor = (q * signs).T
    return found
