"""How preference pairs lie in a batch: each side in a row of its own, or both behind one prompt.

1. A row holds the tokens that are fed: the last token of an answer is only predicted, so it is left out.
2. `shared`: prompt, chosen, rejected in one row. Each answer attends to the prompt and itself, and its positions go on
   from the prompt's end. `separate`: two rows a pair, plainly causal.
3. Rows are padded on the right. Nothing attends to a pad, so pads change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steer_core.steering.positions import parse_positions
from steer_core.vectors.preference.pair_tokens import EncodedPair

Layout = Literal["shared", "separate"]
Ints = NDArray[np.int64]

#: Share of tokens that a common prompt has to save: its mask costs more attention than causal rows do.
PAYS = 0.1


@dataclass(frozen=True)
class Row:
    """Tokens of one row and what is read from it.

    Attributes:
        ids, positions: token ids and positions, shape [tokens].
        parts: 0 prompt, 1 chosen, 2 rejected, shape [tokens].
        reads: places whose output predicts an answer token, shape [reads].
        targets: the tokens that they predict, shape [reads].
        sides: 0 chosen, 1 rejected, shape [reads].
    """

    ids: Ints
    positions: Ints
    parts: Ints
    reads: Ints
    targets: Ints
    sides: Ints


@dataclass(frozen=True)
class Batch:
    """Padded rows of some pairs.

    Attributes:
        inputs: arguments of the model: ids, and where prompts are shared positions and mask.
        shape: rows and tokens.
        lengths: tokens of each row.
        reads: indices into the flattened [rows * tokens], shape [reads].
        targets: tokens predicted there, shape [reads].
        slots: 2 * pair + side of each read, shape [reads].
        n_pairs: pairs in the batch.
    """

    inputs: dict[str, Any]
    shape: tuple[int, int]
    lengths: tuple[int, ...]
    reads: Any
    targets: Any
    slots: Any
    n_pairs: int


def prompt_saving(pairs: Sequence[EncodedPair]) -> float:
    """Share of the tokens fed that a common prompt saves."""
    prompts = sum(len(p.prompt) for p in pairs)
    return prompts / (2 * prompts + sum(len(p.chosen) + len(p.rejected) - 2 for p in pairs))


def rows_of(pair: EncodedPair, layout: Layout) -> list[Row]:
    """The rows of one pair: one where the prompt is shared, else chosen and rejected."""
    n, answers = len(pair.prompt), (pair.chosen, pair.rejected)
    if layout == "separate":
        return [
            Row(
                ids=np.array(pair.prompt + answer[:-1]),
                positions=np.arange(n + len(answer) - 1),
                parts=np.repeat([0, 1 + side], [n, len(answer) - 1]),
                reads=np.arange(n - 1, n + len(answer) - 1),
                targets=np.array(answer),
                sides=np.full(len(answer), side),
            )
            for side, answer in enumerate(answers)
        ]
    first, second = len(pair.chosen) - 1, len(pair.rejected) - 1
    return [
        Row(
            ids=np.array(pair.prompt + pair.chosen[:-1] + pair.rejected[:-1]),
            positions=np.concatenate([np.arange(n), n + np.arange(first), n + np.arange(second)]),
            parts=np.repeat([0, 1, 2], [n, first, second]),
            # both answers are first predicted from the prompt's end
            reads=np.concatenate([[n - 1], n + np.arange(first), [n - 1], n + first + np.arange(second)]),
            targets=np.array(pair.chosen + pair.rejected),
            sides=np.repeat([0, 1], [first + 1, second + 1]),
        )
    ]


def collate(pairs: Sequence[Sequence[Row]], layout: Layout, repeats: int, dtype: Any, device: str) -> Batch:
    """Pad rows, and repeat the whole batch `repeats` times along its rows.

    Args:
        pairs: rows of each pair, as `rows_of` made them.
        layout: how they were made.
        repeats: copies, for several edits in one pass.
        dtype: torch type of the model, for the mask.
        device: torch device.
    """
    import torch

    rows = [row for pair in pairs for row in pair]
    width = max(len(r.ids) for r in rows)
    per_copy = len(rows) * width
    # a pad repeats its row's first token: no model has to know a pad id
    ids = np.stack([np.pad(r.ids, (0, width - len(r.ids)), constant_values=r.ids[0]) for r in rows])
    inputs = {"input_ids": torch.from_numpy(ids).repeat(repeats, 1).to(device)}
    if layout == "shared":
        positions = np.stack([np.pad(r.positions, (0, width - len(r.ids))) for r in rows])
        parts = np.stack([np.pad(r.parts, (0, width - len(r.ids)), constant_values=3) for r in rows])
        inputs["position_ids"] = torch.from_numpy(positions).repeat(repeats, 1).to(device)
        inputs["attention_mask"] = _mask(torch.from_numpy(parts), dtype).repeat(repeats, 1, 1, 1).to(device)
    reads = np.concatenate([i * width + r.reads for i, r in enumerate(rows)])
    targets = np.concatenate([r.targets for r in rows])
    pair_of = np.repeat(np.arange(len(pairs)), [len(p) for p in pairs])
    slots = np.concatenate([2 * pair + r.sides for pair, r in zip(pair_of, rows, strict=True)])
    copies = np.arange(repeats)[:, None]
    return Batch(
        inputs=inputs,
        shape=(repeats * len(rows), width),
        lengths=tuple(len(r.ids) for r in rows),
        reads=torch.from_numpy((reads + copies * per_copy).ravel()).to(device),
        targets=torch.from_numpy(np.tile(targets, repeats)).to(device),
        slots=torch.from_numpy((slots + copies * 2 * len(pairs)).ravel()).to(device),
        n_pairs=len(pairs),
    )


def selected(rows: Sequence[Row], selector: str, device: str) -> Any:
    """Which tokens of padded rows a selector names, booleans [rows, tokens].

    Raises:
        ConfigError: no selector.
    """
    import torch

    width = max(len(r.ids) for r in rows)
    positions = np.stack([np.pad(r.positions, (0, width - len(r.ids)), constant_values=-1) for r in rows])
    prompts = np.array([int((r.parts == 0).sum()) for r in rows])
    return torch.from_numpy(parse_positions(selector).mask(positions, prompts)).to(device)


def _mask(parts: Any, dtype: Any) -> Any:
    """Additive mask [rows, 1, tokens, tokens]: causal, and from an answer only to the prompt and itself."""
    import torch

    width = parts.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    own = (parts[:, None, :] == 0) | (parts[:, None, :] == parts[:, :, None])
    mask = torch.zeros(parts.shape[0], width, width, dtype=dtype)
    return mask.masked_fill_(~(causal & own), torch.finfo(dtype).min)[:, None]
