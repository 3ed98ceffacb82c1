"""Rows of many lengths through a model in chunks of about one length, so that little of a pass is padding.

A trainer pads a step's prompts on the left to the longest of them, and its completions on the right to the longest of
those: of a step's tokens half may be padding. Here rows are sorted by their length, and a chunk of them is laid out
anew, padded on the left alone, to the longest row that it has. What comes back stands where the trainer expects it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    #: (input_ids [n, l], attention_mask [n, l], keep) -> tensors of shape [n, keep], of the last `keep` tokens.
    Passed = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, ...]]

#: Rows of a chunk: fewer waste less on padding, and more on passes.
ROWS = 16


def in_chunks(
    passed: Passed, input_ids: torch.Tensor, attention_mask: torch.Tensor, keep: int, rows: int = ROWS
) -> tuple[torch.Tensor, ...]:
    """What `passed` gives of each completion's tokens, computed in chunks; 0 where a row has no token.

    The same as one pass over all rows for a model that does not count padding as positions.

    Args:
        passed: computes, with gradient or without.
        input_ids: prompts padded on the left and completions padded on the right, shape [n, prompt + keep].
        attention_mask: 1 for what is no padding, of the same shape.
        keep: columns of completions.
        rows: of a chunk.

    Returns:
        Tensors of shape [n, keep], as many as `passed` gives.
    """
    import torch

    whole = attention_mask.sum(dim=1)
    written = attention_mask[:, -keep:].sum(dim=1)
    order = torch.argsort(whole, stable=True)
    found: list[list[torch.Tensor]] = []
    for start in range(0, len(order), rows):
        chunk = order[start : start + rows]
        longest, most = int(whole[chunk].max()), int(written[chunk].max())
        ids = input_ids.new_zeros(len(chunk), longest)
        mask = attention_mask.new_zeros(len(chunk), longest)
        for place, row in enumerate(chunk.tolist()):
            tokens = input_ids[row][attention_mask[row].bool()]
            ids[place, longest - len(tokens) :] = tokens
            mask[place, longest - len(tokens) :] = 1
        # to where the trainer has them: from the right edge to the left one of the completion's columns
        columns = torch.arange(keep, device=ids.device)[None]
        source = columns + (most - written[chunk])[:, None]
        there = columns < written[chunk][:, None]
        source = source.clamp(max=max(most - 1, 0))
        parts = passed(ids, mask, most)
        found.append([p.gather(1, source) * there for p in parts])
    back = torch.argsort(order)
    return tuple(torch.cat(parts)[back] for parts in zip(*found, strict=True))
