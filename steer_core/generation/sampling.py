"""Sampling whose randomness belongs to the row: the same row draws the same tokens whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch  # noqa: TID253  (this module exists for torch code; it is imported by the transformers backend only)
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253

from schemas.specs import Decoding
from steer_core.generation.decoding import Rule


class NotFiniteError(Exception):
    """Rows of a pass have no largest logit: not a number, infinite, or all minus infinity.

    Attributes:
        rows: which.
        written: what all rows of the pass had written, where it is known to whoever chose the tokens.
        rule: the decoding rule that made them so; empty: the model did.
    """

    def __init__(self, rows: Sequence[int], written: Sequence[list[int]] = (), rule: str = "") -> None:
        super().__init__(f"rows {list(rows)} have no largest logit")
        self.rows, self.written, self.rule = tuple(rows), tuple(written), rule


class Draws:
    """One row's uniform numbers, one a step: a Philox stream keyed by the row's seed.

    Args:
        decoding: how the row is drawn; greedy ones draw nothing.
        seed: the row's seed.
        steps: most tokens to write.
        rules: decoding rules of the row's plan, in order.
    """

    def __init__(self, decoding: Decoding, seed: int, steps: int, rules: Sequence[Rule] = ()) -> None:
        self.decoding = decoding
        self.rules = tuple(rules)
        self._points: NDArray[np.float64] | None = None
        if decoding.temperature > 0:
            self._points = np.random.Generator(np.random.Philox(key=seed)).random(steps)

    def __getitem__(self, step: int) -> float:
        """The number of a step, in [0, 1); 0 for greedy rows."""
        return 0.0 if self._points is None else float(self._points[step])


def next_tokens(
    logits: Tensor,
    draws: Sequence[Draws],
    steps: Sequence[int],
    written: Callable[[int], Sequence[int]],
    further: Callable[[int], Tensor | None] = lambda row: None,
) -> Tensor:
    """The next token of each row, shape [rows].

    A row's uniform number is looked up in the cumulative distribution of its step. Temperature comes first, then min-p
    (Nguyen et al. 2024), then top-p (Holtzman et al. 2020). Temperature 0 takes the likeliest token. A row's decoding
    rules come before all that.

    Args:
        logits: shape [rows, vocabulary].
        draws: of each row.
        steps: tokens that each row has written.
        written: those tokens, of a row; asked only of rows with rules.
        further: logits [passes, vocabulary] of the further passes of a row; asked only of rows with rules.

    Raises:
        NotFiniteError: a row has no largest logit.
    """
    highest, tokens = logits.max(dim=-1)
    check_finite(highest)
    if ruled := [r for r, d in enumerate(draws) if d.rules]:
        # the model's own tensor is not written to
        logits = logits.clone()
        for r in ruled:
            for rule in draws[r].rules:
                logits[r] = rule(logits[r], written(r), further(r))
                if not bool(logits[r].max().isfinite()):
                    raise NotFiniteError([r], rule=rule.name)
        tokens = logits.argmax(dim=-1)
    drawn = [r for r, d in enumerate(draws) if d.decoding.temperature > 0]
    if not drawn:
        return tokens
    device = logits.device
    own = [draws[r].decoding for r in drawn]

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)[:, None]

    part = logits if len(drawn) == len(draws) else logits[drawn]
    probs = torch.softmax(part.double() / column([d.temperature for d in own]), dim=-1)
    if any(d.min_p > 0 for d in own):
        floor = column([d.min_p for d in own]) * probs.amax(dim=-1, keepdim=True)
        probs = torch.where(probs < floor, 0.0, probs)
    if nuclear := [k for k, d in enumerate(own) if d.top_p < 1]:
        kept = probs[nuclear]
        probs[nuclear] = _nucleus(kept / kept.sum(dim=-1, keepdim=True), column([own[k].top_p for k in nuclear]))
    mass = probs.cumsum(dim=-1)
    point = column([draws[r][steps[r]] for r in drawn]) * mass[:, -1:]
    chosen = (mass <= point).sum(dim=-1).clamp_max(probs.shape[-1] - 1)
    if len(drawn) == len(draws):
        return chosen
    tokens[drawn] = chosen
    return tokens


def token_log_probs(logits: Tensor, tokens: Tensor, draws: Sequence[Draws]) -> Tensor:
    """Log-probabilities (nats) of chosen tokens at each row's temperature, shape [rows]; at 1 for greedy rows.

    Args:
        logits: shape [rows, vocabulary], as the model gave them.
        tokens: shape [rows].
        draws: of each row.
    """
    heat = torch.tensor([d.decoding.temperature or 1.0 for d in draws], dtype=torch.float64, device=logits.device)
    scaled = logits.double() / heat[:, None]
    return scaled.gather(1, tokens[:, None])[:, 0] - scaled.logsumexp(dim=-1)


def check_finite(highest: Tensor) -> None:
    """Look whether every row has a largest logit.

    Raises:
        NotFiniteError: some have none.
    """
    finite = highest.isfinite()
    if not bool(finite.all()):
        raise NotFiniteError([int(r) for r in (~finite).nonzero()[:, 0]])


def _nucleus(probs: Tensor, top_p: Tensor) -> Tensor:
    ordered, order = probs.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    return torch.zeros_like(probs).scatter_(1, order, torch.where(before < top_p, ordered, 0.0))


class RowSampling:
    """A transformers logits processor that chooses each row's token itself and leaves it as the only choice.

    Args:
        draws: of each row that chooses.
        prompt_length: columns of the prompts.
        leads: for each row of the batch, which of those it follows: its own place among them, or that of the row that
            it is a further pass of. None: every row chooses.
        ends: tokens that end an answer; rows that have ended choose no more.
        told: which of the rows that choose keep the log-probabilities of their tokens.
        drafts: row that chooses -> who is told its tokens so far, at each step.

    Attributes:
        log_probs: of each row that chooses, token by token; empty for those that keep none.
    """

    def __init__(
        self,
        draws: Sequence[Draws],
        prompt_length: int,
        leads: Sequence[int] | None = None,
        ends: frozenset[int] = frozenset(),
        told: Sequence[int] = (),
        drafts: Mapping[int, Callable[[list[int]], None]] | None = None,
    ) -> None:
        self._drafts = drafts or {}
        self.draws, self.prompt_length, self.ends = draws, prompt_length, ends
        self.leads = list(range(len(draws))) if leads is None else list(leads)
        self._rows = [[k for k, lead in enumerate(self.leads) if lead == row] for row in range(len(draws))]
        self._open = list(range(len(draws)))
        self._told = frozenset(told)
        self.log_probs: list[list[float]] = [[] for _ in draws]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [rows, vocabulary] to scores in which one token a row is left."""
        step = input_ids.shape[1] - self.prompt_length
        own = input_ids[:, self.prompt_length :]
        if step:
            last = own[:, -1].tolist()
            self._open = [r for r in self._open if last[self._rows[r][0]] not in self.ends]
        first = [self._rows[r][0] for r in self._open]
        # rows that have ended are fed on with padding: whatever they say is nobody's answer
        under_way = [k for r in self._open for k in self._rows[r]]
        followed = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
        try:
            check_finite(_picked(scores, under_way).amax(dim=-1))
        except NotFiniteError as error:
            rows = [under_way[k] for k in error.rows]
            raise NotFiniteError(rows, own.tolist()) from error
        try:
            chosen = next_tokens(
                _picked(scores, first),
                [self.draws[r] for r in self._open],
                [step] * len(self._open),
                lambda k: own[first[k]].tolist(),
                lambda k: scores[self._rows[self._open[k]][1:]],
            )
        except NotFiniteError as error:
            raise NotFiniteError([first[k] for k in error.rows], own.tolist(), error.rule) from error
        for k, r in enumerate(self._open):
            followed[self._rows[r]] = chosen[k]
            if (draft := self._drafts.get(r)) is not None:
                draft([*own[first[k]].tolist(), int(chosen[k])])
        if told := [k for k, r in enumerate(self._open) if r in self._told]:
            rows = [self._open[k] for k in told]
            values = token_log_probs(
                _picked(scores, [first[k] for k in told]), chosen[told], [self.draws[r] for r in rows]
            )
            for r, value in zip(rows, values.tolist(), strict=True):
                self.log_probs[r].append(value)
        return torch.full_like(scores, -torch.inf).scatter_(1, followed[:, None], 0.0)


def _picked(scores: Tensor, rows: Sequence[int]) -> Tensor:
    """These rows; the very tensor where they are all of them, in order."""
    return scores if list(rows) == list(range(len(scores))) else scores[list(rows)]
