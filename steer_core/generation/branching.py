"""Passes over segments of rows: each goes on from the cache of the segment that it follows, under the same steering.

The contract, which tests check:

1. All rows of a pass end at its last column and feed the same number of columns, so nothing is padded behind. A row
   whose own segment is shorter feeds the end of what is known once more, which costs what padding would.
2. A token is steered by its own position in its own row, and counted in the pass that read it first.
3. What a gate said when the prompt was read holds in every pass after it.
4. Where layers are shared (`generation.trunk`), so is their cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from steer_core.generation.prefixes import Read, Segment
from steer_core.generation.prompt_tokens import pad_left
from steer_core.generation.trunk import below
from steer_core.models.loading import LoadedModel
from steer_core.steering.receipts import make_receipt

if TYPE_CHECKING:
    from torch import Tensor

#: Largest mean difference of logits, in standard deviations of the logits, that counts as rounding; wider types last.
TOLERANCE = {"torch.float64": 1e-3, "torch.float32": 1e-3, "torch.bfloat16": 0.15, "torch.float16": 0.05}
#: Whether rows of a model may go on from a cache that several share, for as long as it lives.
_MEASURED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


@dataclass
class Passes:
    """How passes are made.

    Attributes:
        loaded: the model.
        accepted: names of the arguments of its forward pass.
        steered: a context that steers a batch, and yields what was applied.
        worn: a context in which each row of a pass wears its adapter.
    """

    loaded: LoadedModel
    accepted: Set[str]
    steered: Callable[[Sequence[Any], Sequence[int]], Any]
    worn: Callable[[Sequence[str | None]], Any]


@dataclass
class Kept:
    """The cache of a pass.

    Attributes:
        cache: keys and values, all rows ending at the last column.
        columns: how many.
        owner: for each row of the pass, the row of the layers up to `last` that has its text; None: its own.
        last: the last layer that rows of one text share.
    """

    cache: Any
    columns: int
    owner: list[int] | None
    last: int

    def spread(self, segments: Sequence[Segment], known: Sequence[int], firsts: Sequence[int] | None) -> Any:
        """A cache for segments that follow those of the pass: the first `known` tokens of each, at the right end.

        Args:
            segments: what is read next.
            known: how many tokens of each are taken from here.
            firsts: which of them stand for a text in the layers up to `last`; None: all do.
        """
        from transformers.cache_utils import Cache

        from steer_core.generation.cache import Continued

        befores = [s.before for s in segments if s.before is not None]
        wide = _copies([b.row for b in befores], [self.columns - b.stop for b in befores], known)
        low = wide
        if self.owner is not None or firsts is not None:
            chosen = range(len(segments)) if firsts is None else firsts
            rows = [b.row if self.owner is None else self.owner[b.row] for b in befores]
            low = _copies(
                [rows[k] for k in chosen], [self.columns - befores[k].stop for k in chosen], [known[k] for k in chosen]
            )
        shared: dict[Any, Tensor] | None = None if any(s.after for s in segments) else {}
        layers: list[Any] = [
            Continued((layer.keys, layer.values), low if number <= self.last else wide, max(known), shared)
            for number, layer in enumerate(self.cache.layers)
        ]
        return Cache(layers=layers)


def _copies(rows: Sequence[int], columns: Sequence[int], known: Sequence[int]) -> list[tuple[int, int, int, int, int]]:
    """What is copied into each row (`cache.Copy`), with neighbours that take the same in one."""
    copies: list[tuple[int, int, int, int, int]] = []
    for k, (row, column, count) in enumerate(zip(rows, columns, known, strict=True)):
        if copies and copies[-1][2:] == (row, column, count):
            copies[-1] = (copies[-1][0], k + 1, row, column, count)
        else:
            copies.append((k, k + 1, row, column, count))
    return copies


def feed(passes: Passes, segments: Sequence[Segment], last: int | None, kept: Kept | None = None) -> Kept | None:
    """Read segments in one pass: their logits, what was touched and what gates said are noted in them.

    Args:
        passes: how passes are made.
        segments: all of them begin their rows, or all follow segments of the pass before.
        last: the last layer that rows of one text share; None: they share none.
        kept: the cache of the pass before.

    Returns:
        The cache of this pass; None where nothing follows.

    Raises:
        SteerworksError: a receipt does not add up.
    """
    import torch
    from transformers.cache_utils import Cache, DynamicLayer

    loaded = passes.loaded
    stops = [s.stop for s in segments]
    most = max(s.stop - s.start for s in segments)
    known = [max(s.stop - most, 0) if kept is not None else 0 for s in segments]
    cached = max(known)
    ids, _ = pad_left(
        [s.tokens[k:] for s, k in zip(segments, known, strict=True)], loaded.tokenizer.pad_token_id, loaded.device
    )
    columns = torch.arange(cached + most, device=loaded.device)[None]
    mask = (columns >= cached + most - torch.tensor(stops, device=loaded.device)[:, None]).long()
    options: dict[str, Any] = {"use_cache": False}
    if "position_ids" in passes.accepted:
        # left padding must not shift learned positions
        options["position_ids"] = (mask.cumsum(dim=-1) - 1).clamp_min(0)[:, cached:]
    if "logits_to_keep" in passes.accepted:
        options["logits_to_keep"] = max(1, max(s.stop - s.first for s in segments))
    # a pass has one column for each token: equal tokens are equal rows, whatever is prompt
    texts = {tokens: k for k, tokens in enumerate(dict.fromkeys(s.tokens for s in segments))}
    owner = [texts[s.tokens] for s in segments]
    sharing = last is not None and len(texts) < len(segments)
    goes_on = any(s.after for s in segments)
    if kept is not None and cached:
        firsts = [owner.index(text) for text in range(len(texts))] if sharing else None
        options |= {"past_key_values": kept.spread(segments, known, firsts), "use_cache": True}
    elif goes_on:
        # every layer keeps every column: what a sliding window no longer sees is masked
        options |= {"past_key_values": Cache(layer_class_to_replicate=DynamicLayer), "use_cache": True}
    with (
        torch.inference_mode(),
        _trunk(loaded, last, owner) if sharing else nullcontext() as begin,
        passes.steered([s.read.interventions for s in segments], [s.read.prompt for s in segments]) as applied,
        passes.worn([s.read.adapter for s in segments]),
    ):
        if begin is not None:
            begin()
        if applied is not None and kept is not None:
            applied.carry_on([s.before.is_open if s.before is not None else [] for s in segments])
        logits: Tensor = loaded.model(input_ids=ids, attention_mask=mask, **options).logits
    _note(segments, logits, applied)
    if not goes_on:
        return None
    return Kept(options["past_key_values"], cached + most, owner if sharing else None, -1 if last is None else last)


def _note(segments: Sequence[Segment], logits: Tensor, applied: Any) -> None:
    nothing: list[list[int]] = [[] for _ in segments]
    now = nothing if applied is None else applied.touched([s.stop for s in segments])
    again = nothing if applied is None else applied.touched([s.start for s in segments])
    gates = [[] for _ in segments] if applied is None else applied.is_open()
    for row, (segment, all_of_it, fed_again, is_open) in enumerate(zip(segments, now, again, gates, strict=True)):
        before = segment.before.touched if segment.before is not None else [0] * len(all_of_it)
        segment.row, segment.is_open = row, is_open
        segment.touched = [b + a - f for b, a, f in zip(before, all_of_it, fed_again, strict=True)]
        wanted = segment.stop - segment.first
        segment.logits = logits[row, logits.shape[1] - wanted :]
        for read in segment.rows:
            if read.interventions and len(read.tokens) == segment.stop:
                make_receipt(row, read.interventions, read.prompt, segment.stop, segment.touched, is_open)


def _trunk(loaded: LoadedModel, last: int | None, owner: Sequence[int]) -> Any:
    from steer_core.steering.sites import find_sites

    assert last is not None  # asked for only where layers are shared
    return below(loaded.model, find_sites(loaded.model).layers, last, owner)


def shares_prefixes(loaded: LoadedModel, accepted: Set[str]) -> bool:
    """Whether rows of the model may go on from a cache that several share: measured once, on short texts."""
    if loaded.model not in _MEASURED:
        _MEASURED[loaded.model] = _measure(loaded, accepted)
    return _MEASURED[loaded.model]


def _measure(loaded: LoadedModel, accepted: Set[str]) -> bool:
    """Two texts with two and one endings of several lengths, beside each other and each at once."""
    import torch

    vocabulary = loaded.model.config.get_text_config().vocab_size
    # tokens from all over the vocabulary; 7919 is prime
    ids = [k * 7919 % vocabulary for k in range(40)]
    shared, other = tuple(ids[:12]), tuple(ids[12:21])
    rows = [Read((), None, t, 1) for t in ((*shared, *ids[21:24]), (*shared, *ids[24:29]), (*other, *ids[29:31]))]
    if (loaded.info.max_context or 40) < max(len(row.tokens) for row in rows):
        return False
    roots = [Segment(rows[:2], 0, len(shared)), Segment(rows[2:], 0, len(other))]
    for row, root in zip(rows, (roots[0], roots[0], roots[1]), strict=True):
        root.after.append(Segment([row], root.stop, len(row.tokens), root))
    passes = Passes(loaded, accepted, lambda *_: nullcontext(), lambda *_: nullcontext())
    ends = [s for root in roots for s in root.after]
    try:
        feed(passes, ends, None, feed(passes, roots, None))
    except Exception:  # a model that does not allow it fails in whatever way it likes
        return False
    for end in ends:
        with torch.inference_mode():
            ids_of = torch.tensor([end.read.tokens], device=loaded.device)
            want = loaded.model(input_ids=ids_of, attention_mask=torch.ones_like(ids_of), use_cache=False).logits[0]
        found, tolerance = end.logits_of(end.read).float(), TOLERANCE.get(str(want.dtype), 0.15)
        if bool((found - want.float()).square().mean().sqrt() > tolerance * want.float().std()):
            return False
    return True
