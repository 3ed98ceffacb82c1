"""Teacher-forced passes: what a model says at each token of texts that are given, steered row by row."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from steer_core.generation.backend import Scored
from steer_core.generation.branching import Passes, feed
from steer_core.generation.prefixes import Read, Segment, segments_of, whole
from steer_core.generation.regimes import Regime
from steer_core.generation.trunk import shares_trunk, untouched
from steer_core.models.loading import LoadedModel
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor


def read_logits(
    passes: Passes,
    rows: Iterable[Read],
    *,
    regime: Regime,
    prefixes: Callable[[], bool],
    not_finite: Callable[[int, Read], SteerworksError],
) -> dict[Read, Tensor]:
    """Logits [asked, vocabulary] of each distinct row; the head runs on the columns that are asked for.

    Rows that begin with the same tokens are read once as far as they agree (`generation.prefixes`).

    Args:
        passes: how passes are made.
        rows: what is read.
        regime: which rows may share a pass.
        prefixes: whether the model lets rows go on from a cache that they share; asked where there is one to share.
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
    for rows_alike in alike.values():
        roots = segments_of(rows_alike)
        if any(len(root.rows) > 1 for root in roots) and not prefixes():
            roots = whole(rows_alike)
        for part, last in _parts(passes.loaded, roots):
            segments, kept = part, None
            while segments:
                kept = feed(passes, segments, last, kept)
                for segment, is_finite in zip(segments, _finite(segments), strict=True):
                    if not is_finite:
                        row = min(segment.rows, key=numbers.__getitem__)
                        raise not_finite(numbers[row], row)
                    found |= {r: segment.logits_of(r) for r in segment.rows if len(r.tokens) == segment.stop}
                segments = [s for segment in segments for s in segment.after]
    return found


def _finite(segments: Sequence[Segment]) -> list[bool]:
    """Whether the logits of each segment are numbers."""
    import torch

    logits = [s.logits for s in segments if s.logits is not None]
    most = torch.cat([one.amax(dim=-1) for one in logits]).isfinite().cpu().numpy()
    ends = list(accumulate((len(one) for one in logits), initial=0))
    return [bool(most[low:high].all()) for low, high in pairwise(ends)]


def _parts(loaded: LoadedModel, roots: Sequence[Segment]) -> list[tuple[list[Segment], int | None]]:
    """Segments that make a pass together, each with the last layer that those of one text share; None: they share none.

    What follows them stays with them.
    """
    texts: dict[tuple[int, ...], set[int]] = {}
    for root in roots:
        row = root.read
        last = untouched(row.interventions) if row.interventions else -1
        if last >= 0 and row.adapter is None:
            texts.setdefault(root.tokens, set()).add(last)
    if len({root.tokens for root in roots}) == len(roots) or not texts or not shares_trunk(loaded):
        return [(list(roots), None)]
    parts: dict[int | None, list[Segment]] = {}
    for root in roots:
        row = root.read
        last = untouched(row.interventions) if row.interventions else -1
        place = last if last >= 0 and row.adapter is None else None
        if not row.steered:
            # what nothing is done to rides along where most is shared, with its own text if there is one
            place = max(texts.get(root.tokens) or {most for places in texts.values() for most in places})
        parts.setdefault(place, []).append(root)
    return [(part, place) for place, part in parts.items()]


def scores_of(
    rows: Sequence[Read],
    answers: Sequence[Sequence[int]],
    logits_of: Callable[[list[Read]], dict[Read, Tensor]],
    context: int | None,
) -> list[Scored]:
    """Log-probability (nats) of each token of each answer, and whether no other token was likelier.

    A row beyond the context has no numbers.

    Args:
        rows: what each answer is read in.
        answers: token ids.
        logits_of: rows to logits, [asked, vocabulary] each; equal rows are read once.
        context: most tokens of prompt and answer; None: not known.
    """
    import torch

    fitting = [k for k, row in enumerate(rows) if _fits(row, context)]
    scores = [Scored((), ()) for _ in rows]
    if not fitting:
        return scores
    logits = logits_of([rows[k] for k in fitting])
    picked, likeliest = [], []
    for k in fitting:
        own = logits[rows[k]].float()  # [tokens, vocabulary]
        chosen = own.gather(1, torch.tensor(answers[k], device=own.device)[:, None])[:, 0]
        picked.append(chosen - own.logsumexp(dim=-1))
        likeliest.append(chosen >= own.amax(dim=-1))
    # one copy from the device for all rows
    numbers, flags = torch.cat(picked).tolist(), torch.cat(likeliest).tolist()
    ends = accumulate((len(answers[k]) for k in fitting), initial=0)
    for k, (low, high) in zip(fitting, pairwise(ends), strict=True):
        scores[k] = Scored(tuple(numbers[low:high]), tuple(flags[low:high]))
    return scores


def divergences_of(
    steered: Sequence[Read],
    plain: Sequence[Read],
    answers: Sequence[Sequence[int]],
    logits_of: Callable[[list[Read]], dict[Read, Tensor]],
    context: int | None,
) -> list[list[float]]:
    """KL(steered || plain) in nats of the next-token distribution at each token of each answer.

    0 where nothing is done to the model under the same prompt; a row beyond the context has no numbers.

    Args:
        steered: the rows as their plans want them.
        plain: the same answers by the model as it is, under the same prompt or another.
        answers: token ids.
        logits_of: as in `scores_of`.
        context: as there.
    """
    pairs = list(zip(steered, plain, strict=True))
    fits = [_fits(s, context) and _fits(p, context) for s, p in pairs]
    logits = logits_of([row for (s, p), fit in zip(pairs, fits, strict=True) if fit and s != p for row in (s, p)])
    found: list[list[float]] = []
    for (s, p), answer, fit in zip(pairs, answers, fits, strict=True):
        if not fit:
            found.append([])
            continue
        if s == p:
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
