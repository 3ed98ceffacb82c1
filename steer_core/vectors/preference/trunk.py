"""Preference pairs up to one layer: what lies above it is run as often as a training needs, what lies below is kept.

1. `Trunk.log_probs` runs the layers above alone, from the kept states with edits applied, and the head on the positions
   that predict an answer alone. Several edits run as one batch. Nothing but the edits receives gradients.
2. For a model that does not allow this (`route` is `full`), it runs whole passes with a hook instead: the same numbers,
   at a higher price. `steer_core.vectors.preference.capture` measures which it is, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch  # noqa: TID253
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253
from torch.nn.utils.rnn import pad_sequence  # noqa: TID253

from steer_core.vectors.preference.layout import Layout, Row, collate, selected
from steer_core.vectors.preference.pair_tokens import EncodedPair
from steer_core.vectors.preference.passes import Edit, bypassed, edited_forward, frozen, packed_logits, sums

#: How log-probabilities under an edit are computed; `full`: whole passes with a hook.
Route = Literal["shared", "separate", "full"]


@dataclass
class Trunk:
    """Preference pairs up to one layer of a frozen model.

    Attributes:
        model: a `transformers` causal language model in eval mode.
        layer: 0-based layer; edits act on the residual stream after it.
        route: how log-probabilities under an edit are computed.
        pairs: the pairs.
        width: hidden size.
        rows: rows of each pair in the layout of the route.
        states: residual stream after the layer, [tokens of all rows, width]; None for `full`.
        starts: first token of each pair in `states`, shape [pairs + 1].
        reference: log-probability of the answers without an edit, in nats, [pairs, 2]: chosen, rejected.
        answer_tokens: tokens of the answers, [pairs, 2].
        residual_norm: mean L2 norm of the stream where answers are predicted from.
        arity: length of the tuple that a layer returns; 0: a tensor.
    """

    model: Any
    layer: int
    route: Route
    pairs: Sequence[EncodedPair]
    width: int
    rows: list[list[Row]]
    states: Tensor | None
    starts: NDArray[np.int64]
    reference: Tensor
    answer_tokens: Tensor
    residual_norm: float
    arity: int
    _injected: list[Any] = field(default_factory=list)
    _file: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Scope in which `log_probs` may be called: weights are frozen and layers below hand the states on.

        The model is as before when it ends, and must not be used otherwise within.
        """
        with ExitStack() as stack:
            stack.enter_context(frozen(self.model))
            if self.route != "full":
                stack.enter_context(bypassed(self.model, self.layer, self._injected))
            yield

    def indices(self, split: str) -> list[int]:
        """Places of the pairs of a split."""
        return [i for i, pair in enumerate(self.pairs) if pair.split == split]

    def log_probs(self, indices: Sequence[int], edits: Sequence[Edit], positions: str = "all") -> Tensor:
        """Log-probabilities of the answers under each edit, end of sequence included.

        Args:
            indices: places of the pairs.
            edits: what is done to the stream; all run as one batch.
            positions: tokens that are edited, as `steer_core.steering.positions` has them.

        Returns:
            Shape [edits, pairs, 2], in nats: chosen, rejected.
        """
        device = str(self.reference.device)
        layout: Layout = "separate" if self.route == "full" else self.route
        batch = collate([self.rows[i] for i in indices], layout, len(edits), self.model.dtype, device)
        if positions != "all":
            places = selected([row for i in indices for row in self.rows[i]], positions, device)
            edits = [_only_at(places, edit) for edit in edits]
        if self.states is None:
            return sums(edited_forward(self.model, self.layer, batch, edits), batch, len(edits))
        spans = [
            self.states[self.starts[i] : self.starts[i + 1]].split([len(r.ids) for r in self.rows[i]]) for i in indices
        ]
        hidden = pad_sequence([row for pair in spans for row in pair], batch_first=True).to(device)
        edited = torch.cat([edit(hidden) for edit in edits]).to(self.model.dtype)
        self._injected[:] = [(edited, *(None for _ in range(self.arity - 1))) if self.arity else edited]
        return sums(packed_logits(self.model, batch), batch, len(edits))


def _only_at(places: Tensor, edit: Edit) -> Edit:
    return lambda hidden: torch.where(places[..., None], edit(hidden), hidden)
