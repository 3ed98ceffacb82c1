"""A model that writes attributes down behind a text: P(level | text, levels of the attributes before it).

    TEXT <end> name:level,name:level

(SteerLM, Dong et al. 2023: value tokens given text.) It learns the levels alone, by cross-entropy among the tokens of
an attribute's levels: the published loss is over the whole vocabulary, and a model that has seldom written digits then
learns first that digits come at all. What is not known is left out of the string. It predicts attribute by attribute:
the mean level under these probabilities, and hands the most likely level on to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch  # noqa: TID253  (this module exists for torch code)
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253

from schemas.steerlm import AttributeModelSpec, AttributeSet
from steer_core.adapters.steerlm.learner import Learner, padded
from steer_core.tables.errors import ConfigError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WrittenLabels:
    """A label string as tokens, piece by piece, so that a level is one token wherever it stands.

    Attributes:
        ahead: of each attribute, the tokens between what stands before it and its level.
        levels: of each attribute, the token of each level, rising; levels are written as counted from the lowest.
    """

    ahead: tuple[tuple[int, ...], ...]
    levels: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tokenizer: Any, attributes: AttributeSet) -> WrittenLabels:
        """As a tokenizer writes them.

        Raises:
            ConfigError: a level is not one token, or two levels are the same one.
        """

        def tokens(text: str) -> tuple[int, ...]:
            return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

        ahead, levels = [], []
        for k, attribute in enumerate(attributes.attributes):
            ahead.append(tokens(f"{',' if k else ''}{attribute.name}:"))
            pieces = [tokens(str(level - attribute.low)) for level in attribute.levels]
            if any(len(p) != 1 for p in pieces) or len(set(pieces)) < len(pieces):
                raise ConfigError(
                    f"attribute {attribute.name!r}: this tokenizer does not write each of its {len(pieces)} levels as "
                    "a token of its own, which `form: generative` needs: take fewer levels, or `form: regression`"
                )
            levels.append(tuple(p[0] for p in pieces))
        return cls(tuple(ahead), tuple(levels))

    def row(self, text: Sequence[int], levels: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """Tokens of a text and its known labels, and the places of the levels among them.

        Args:
            text: tokens.
            levels: counted from the lowest, shape [attributes]; below 0 where not known.
        """
        ids, places = list(text), list[int]()
        for k in np.flatnonzero(levels >= 0):
            ids += self.ahead[k]
            places.append(len(ids))
            ids.append(self.levels[k][levels[k]])
        return ids, places


class GenerativeModel(Learner):
    """Predicts levels by writing them.

    Args:
        causal_lm: a transformers causal language model; it is changed in place.
        attributes: what is predicted, in the order in which it is written.
        spec: what learns.
        written: the labels as tokens.

    Raises:
        ConfigError: there is no layer for the adapter.
    """

    def __init__(
        self, causal_lm: Any, attributes: AttributeSet, spec: AttributeModelSpec, written: WrittenLabels
    ) -> None:
        super().__init__(causal_lm, attributes, spec)
        self.written = written
        if spec.body == "full":
            self.lm.requires_grad_(True)

    def loss(self, rows: Sequence[Sequence[int]], targets: Floats) -> Tensor:
        """Mean negative log-likelihood of the known levels, nats.

        Args:
            rows: tokens of texts.
            targets: levels, shape [rows, attributes]; NaN where not known. They are rounded, halves up.
        """
        nearest = np.floor(np.clip(targets, self.low, self.high) + 0.5) - self.low
        levels = np.where(np.isnan(targets), -1.0, nearest).astype(np.int64)
        laid = [self.written.row(r, own) for r, own in zip(rows, levels, strict=True)]
        ids, there = padded([ids for ids, _ in laid], self.device)
        first = min(places[0] for _, places in laid if places) - 1
        kept = ids.shape[1] - first
        logits = self.lm(input_ids=ids, attention_mask=there, use_cache=False, logits_to_keep=kept).logits.float()
        nats = []
        for k, own in enumerate(self.written.levels):
            known = np.flatnonzero(levels[:, k] >= 0)
            if len(known):
                # how many labels stand before it in its row
                at = [laid[n][1][int((levels[n, :k] >= 0).sum())] - 1 - first for n in known]
                among = logits[torch.as_tensor(known), torch.tensor(at)][:, torch.tensor(own)]
                level = torch.as_tensor(levels[known, k], device=self.device)
                nats.append(torch.nn.functional.cross_entropy(among, level, reduction="none"))
        return torch.cat(nats).mean()

    def probabilities(self, rows: Sequence[Sequence[int]], batch_rows: int = 64) -> list[Floats]:
        """P(level | text), of each attribute, shape [rows, levels]: among its levels, whatever else could stand there.

        Args:
            rows: tokens of texts, at least one each.
            batch_rows: rows of a pass; they are of one length, so that nothing is padded.

        Raises:
            ValueError: a row has no token.
        """
        if any(not r for r in rows):
            raise ValueError("a row without a token: there is nothing to read")
        found = [np.empty((len(rows), len(levels))) for levels in self.written.levels]
        by_length = sorted(range(len(rows)), key=lambda k: len(rows[k]))
        learning = self.training
        self.eval()
        with torch.no_grad():
            for _, group in groupby(by_length, key=lambda k: len(rows[k])):
                own = list(group)
                for start in range(0, len(own), batch_rows):
                    part = own[start : start + batch_rows]
                    for k, p in enumerate(self._written([rows[i] for i in part])):
                        found[k][part] = p
        self.train(learning)
        return found

    def _written(self, rows: Sequence[Sequence[int]]) -> list[Floats]:
        """Probabilities for rows of one length."""
        given, cache, found = torch.tensor([list(r) for r in rows], device=self.device), None, []
        for ahead, levels in zip(self.written.ahead, self.written.levels, strict=True):
            piece = torch.tensor([ahead], device=self.device).expand(len(rows), -1)
            out = self.lm(
                input_ids=torch.cat([given, piece], dim=1), past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            cache = out.past_key_values
            own = torch.tensor(levels, device=self.device)
            p = out.logits[:, -1, own].double().softmax(dim=-1)
            found.append(p.cpu().numpy())
            given = own[p.argmax(dim=-1)][:, None]
        return found

    def predict(self, rows: Sequence[Sequence[int]], batch_rows: int = 64) -> Floats:
        """Mean levels, not rounded, shape [rows, attributes].

        Raises:
            ValueError: a row has no token.
        """
        found = self.probabilities(rows, batch_rows)
        steps = [self.low[k] + p @ np.arange(p.shape[1]) for k, p in enumerate(found)]
        return np.stack(steps, axis=1)
