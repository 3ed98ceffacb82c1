"""Teacher-forced passes: what a model says at each token of texts that are given, steered row by row."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steer_core.generation.prompt_tokens import pad_left
from steer_core.generation.regimes import Regime
from steer_core.generation.trunk import below, shares_trunk, untouched
from steer_core.models.loading import LoadedModel
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Read:
    """A row of a pass; calls that agree in it are one row.

    Attributes:
        interventions: of the row.
        adapter: that the row wears.
        tokens: token ids that are fed: prompt, and answer but for its last token, which is scored and never read.
        prompt: how many of them are prompt.
    """

    interventions: tuple[Intervention, ...]
    adapter: str | None
    tokens: tuple[int, ...]
    prompt: int

    @classmethod
    def of(cls, plan: Plan, prompt: Sequence[int], answer: Sequence[int], *, plain: bool = False) -> Read:
        """The row that reads an answer after its prompt; `plain`: by the model as it is, whatever a plan does."""
        tokens, length = (*prompt, *answer[:-1]), len(prompt)
        return cls((), None, tokens, length) if plain else cls(plan.interventions, plan.adapter, tokens, length)

    @property
    def steered(self) -> bool:
        """Whether anything is done to the model."""
        return bool(self.interventions) or self.adapter is not None

    @property
    def asked(self) -> int:
        """Columns whose logits are wanted: from the last prompt token on."""
        return len(self.tokens) - self.prompt + 1


def read_logits(
    loaded: LoadedModel,
    rows: Iterable[Read],
    *,
    accepted: Set[str],
    regime: Regime,
    steered: Callable[[Sequence[Any], Sequence[int]], Any],
    worn: Callable[[Sequence[str | None]], Any],
    not_finite: Callable[[int, Read], SteerworksError],
) -> dict[Read, Tensor]:
    """Logits [asked, vocabulary] of each distinct row; the head runs on those columns only.

    Args:
        loaded: the model.
        rows: what is read.
        accepted: names of the arguments of its forward pass.
        regime: which rows may share a pass.
        steered: a context that steers a batch, and yields what was applied.
        worn: a context in which each row of a pass wears its adapter.
        not_finite: makes the error for a row, with its number among `rows`, whose logits are no numbers.

    Raises:
        SteerworksError: a receipt does not add up, or logits are no numbers.
    """
    numbers: dict[Read, int] = {}
    alike: dict[Hashable, list[Read]] = {}
    for number, row in enumerate(rows):
        if row not in numbers:
            numbers[row] = number
            alike.setdefault(regime(len(row.tokens), len(row.tokens)), []).append(row)
    found: dict[Read, Tensor] = {}
    for group, last in (part for rows_alike in alike.values() for part in _parts(loaded, rows_alike)):
        logits = _pass(loaded, group, last, accepted, steered, worn)
        finite = logits.amax(dim=-1).isfinite().cpu().numpy()
        for k, row in enumerate(group):
            if not finite[k, -row.asked :].all():
                raise not_finite(numbers[row], row)
            found[row] = logits[k, -row.asked :]
    return found


def _parts(loaded: LoadedModel, rows: Sequence[Read]) -> list[tuple[list[Read], int | None]]:
    """Rows that make a pass together, each with the last layer that rows of one text share; None: they share none."""
    texts: dict[tuple[int, ...], set[int]] = {}
    for row in rows:
        last = untouched(row.interventions) if row.interventions else -1
        if last >= 0 and row.adapter is None:
            texts.setdefault(row.tokens, set()).add(last)
    if len({row.tokens for row in rows}) == len(rows) or not texts or not shares_trunk(loaded):
        return [(list(rows), None)]
    parts: dict[int | None, list[Read]] = {}
    for row in rows:
        last = untouched(row.interventions) if row.interventions else -1
        place = last if last >= 0 and row.adapter is None else None
        if not row.steered:
            # what nothing is done to rides along where most is shared, with its own text if there is one
            place = max(texts.get(row.tokens) or {most for places in texts.values() for most in places})
        parts.setdefault(place, []).append(row)
    return [(part, place) for place, part in parts.items()]


def _pass(
    loaded: LoadedModel,
    rows: Sequence[Read],
    last: int | None,
    accepted: Set[str],
    steered: Callable[[Sequence[Any], Sequence[int]], Any],
    worn: Callable[[Sequence[str | None]], Any],
) -> Tensor:
    import torch

    ids, mask = pad_left([row.tokens for row in rows], loaded.tokenizer.pad_token_id, loaded.device)
    options: dict[str, Any] = {"use_cache": False}
    if "position_ids" in accepted:
        # left padding must not shift learned positions
        options["position_ids"] = (mask.cumsum(dim=-1) - 1).clamp_min(0)
    if "logits_to_keep" in accepted:
        options["logits_to_keep"] = max(row.asked for row in rows)
    # a pass has one column for each token: equal tokens are equal rows, whatever is prompt
    texts = {tokens: k for k, tokens in enumerate(dict.fromkeys(r.tokens for r in rows))}
    sharing = last is not None and len(texts) < len(rows)
    with (
        torch.inference_mode(),
        _trunk(loaded, last, [texts[r.tokens] for r in rows]) if sharing else nullcontext() as begin,
        steered([r.interventions for r in rows], [r.prompt for r in rows]) as applied,
        worn([r.adapter for r in rows]),
    ):
        if begin is not None:
            begin()
        logits: Tensor = loaded.model(input_ids=ids, attention_mask=mask, **options).logits
    if applied is not None:
        applied.receipts([len(row.tokens) for row in rows])
    return logits


def _trunk(loaded: LoadedModel, last: int | None, owner: Sequence[int]) -> AbstractContextManager[Any]:
    from steer_core.steering.sites import find_sites

    assert last is not None  # asked for only where layers are shared
    return below(loaded.model, find_sites(loaded.model).layers, last, owner)


def log_probs_of(
    rows: Sequence[Read],
    answers: Sequence[Sequence[int]],
    logits_of: Callable[[list[Read]], dict[Read, Tensor]],
    context: int | None,
) -> list[list[float]]:
    """Log-probability (nats) of each token of each answer; a row beyond the context has no numbers.

    Args:
        rows: what each answer is read in.
        answers: token ids.
        logits_of: rows to logits, [asked, vocabulary] each; equal rows are read once.
        context: most tokens of prompt and answer; None: not known.
    """
    import torch

    logits = logits_of([row for row in rows if _fits(row, context)])
    scores: list[list[float]] = []
    for row, answer in zip(rows, answers, strict=True):
        if not _fits(row, context):
            scores.append([])
            continue
        log_probs = logits[row].float().log_softmax(dim=-1)  # [tokens, vocabulary]
        picked = log_probs.gather(1, torch.tensor(answer, device=log_probs.device)[:, None])
        scores.append([float(v) for v in picked[:, 0]])
    return scores


def divergences_of(
    steered: Sequence[Read],
    plain: Sequence[Read],
    answers: Sequence[Sequence[int]],
    logits_of: Callable[[list[Read]], dict[Read, Tensor]],
    context: int | None,
) -> list[list[float]]:
    """KL(steered || plain) in nats of the next-token distribution at each token of each answer.

    0 where nothing is done to the model; a row beyond the context has no numbers.

    Args:
        steered: the rows as their plans want them.
        plain: the same rows by the model as it is.
        answers: token ids.
        logits_of: as in `log_probs_of`.
        context: as there.
    """
    pairs = list(zip(steered, plain, strict=True))
    logits = logits_of([row for s, p in pairs if s.steered and _fits(s, context) for row in (s, p)])
    found: list[list[float]] = []
    for (s, p), answer in zip(pairs, answers, strict=True):
        if not _fits(s, context):
            found.append([])
            continue
        if not s.steered:
            found.append([0.0] * len(answer))
            continue
        log_p, log_q = (logits[row].float().log_softmax(dim=-1) for row in (s, p))
        divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
        # rounding can leave an exact zero a little below it
        found.append([float(v) for v in divergence.clamp_min(0.0)])
    return found


def _fits(row: Read, context: int | None) -> bool:
    # the last token of an answer is scored, not read
    return context is None or len(row.tokens) + 1 <= context
