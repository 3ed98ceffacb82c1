"""Rows that begin with the same tokens are read once as far as they agree: what is shared, found by tokens alone.

A multiple-choice item has several options after one prompt, and items of one task may share their examples. Rows that
are treated alike (interventions, adapter) are cut into segments: a segment is read once, after the segment that it
follows, for all rows that go through it. What is done to the tokens of a shared segment must be the same for all its
rows: selectors that count from the end of the prompt, and gates, which look at all of it, bound what is shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.positions import parse_positions

if TYPE_CHECKING:
    from torch import Tensor

#: Tokens that a shared segment has at least: a shorter one saves less than it costs to follow it.
SHORTEST = 16
#: Tokens that the segments of one level must save together: they cost a pass more.
LEAST = 128


@dataclass(frozen=True)
class Read:
    """A row of a pass; calls that agree in it are one row.

    Attributes:
        interventions: of the row.
        adapter: that the row wears.
        tokens: token ids that are fed: prompt, and answer but for its last token, which is scored and never read.
        prompt: how many of them are prompt; at least one.
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


@dataclass(eq=False)
class Segment:
    """Tokens [start, stop) of all `rows`, read once after `before`.

    Attributes:
        rows: that go through it, and those that end in it.
        start, stop: positions in each of the rows.
        before: the segment that it follows; None: it begins the rows.
        after: the segments that follow it.
        row: where it stands in its pass, once it is read.
        logits: of its tokens from `first` on, once it is read, [stop - first, vocabulary].
        touched: for each intervention, how many tokens before `stop` were touched.
        is_open: for each intervention, what its gate said.
    """

    rows: list[Read]
    start: int
    stop: int
    before: Segment | None = None
    after: list[Segment] = field(default_factory=list)
    row: int = -1
    logits: Tensor | None = None
    touched: list[int] = field(default_factory=list)
    is_open: list[bool] = field(default_factory=list)

    @property
    def read(self) -> Read:
        """The row that it is read as: up to `stop` it is that of all."""
        return self.rows[0]

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens up to its end."""
        return self.read.tokens[: self.stop]

    @property
    def first(self) -> int:
        """The first position whose logits some row wants; `stop` where none does."""
        return min(max(min(row.prompt for row in self.rows) - 1, self.start), self.stop)

    def logits_of(self, row: Read) -> Tensor:
        """Logits [asked, vocabulary] of a row that ends here, from the segments that it goes through."""
        import torch

        pieces: list[Tensor] = []
        wanted, segment = row.asked, self
        while wanted > 0:
            assert segment.logits is not None  # read in the order of the rows
            pieces.append(segment.logits[-wanted:])
            wanted -= len(pieces[-1])
            if segment.before is None:
                break
            segment = segment.before
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces[::-1])


def whole(rows: Sequence[Read]) -> list[Segment]:
    """Each row as one segment: nothing is shared."""
    return [Segment([row], 0, len(row.tokens)) for row in rows]


def segments_of(rows: Sequence[Read]) -> list[Segment]:
    """The segments that begin distinct rows, with those that follow them."""
    classes: dict[tuple[tuple[Intervention, ...], str | None], list[Read]] = {}
    for row in rows:
        classes.setdefault((row.interventions, row.adapter), []).append(row)
    roots: list[Segment] = []
    level: list[tuple[Segment | None, list[Read]]] = [
        (None, sorted(some, key=lambda row: row.tokens)) for some in classes.values()
    ]
    while level:
        runs = [(before, run) for before, some in level for run in _runs(some, before.stop if before else 0)]
        saved = sum((stop - (before.stop if before else 0)) * (len(run) - 1) for before, (run, stop) in runs)
        if saved < LEAST:
            runs = [(before, ([row], len(row.tokens))) for before, (run, _) in runs for row in run]
        level = []
        for before, (run, stop) in runs:
            segment = Segment(run, before.stop if before else 0, stop, before)
            (roots if before is None else before.after).append(segment)
            if longer := [row for row in run if len(row.tokens) > stop]:
                level.append((segment, longer))
    return roots


def _runs(rows: Sequence[Read], start: int) -> Iterator[tuple[list[Read], int]]:
    """Sorted rows that go on together from `start`, and as far as they do; those that share too little go alone."""
    first = 0
    for k in range(1, len(rows) + 1):
        if k < len(rows) and agree(rows[k - 1].tokens, rows[k].tokens) - start >= SHORTEST:
            continue
        run, first = list(rows[first:k]), k
        stop = together(run)
        if len(run) == 1 or stop - start >= SHORTEST:
            yield run, stop
            continue
        # what is done to them depends on where their prompts end
        lengths: dict[int, list[Read]] = {}
        for row in run:
            lengths.setdefault(row.prompt, []).append(row)
        if len(lengths) > 1:
            for some in lengths.values():
                yield from _runs(some, start)
        else:
            yield from (([row], len(row.tokens)) for row in run)


def together(rows: Sequence[Read]) -> int:
    """How many first tokens of sorted rows under the same interventions are equal, and are treated alike."""
    if len(rows) == 1:
        return len(rows[0].tokens)
    stop = agree(rows[0].tokens, rows[-1].tokens)
    prompts = sorted({row.prompt for row in rows})
    for intervention in rows[0].interventions:
        if intervention.gate is not None and (len(prompts) > 1 or stop < prompts[0]):
            return 0
        ends = [parse_positions(intervention.positions).interval(prompt) for prompt in prompts]
        for bounds in zip(*ends, strict=True):
            if len(set(bounds)) > 1:
                stop = min(stop, *bounds)
    return stop


def agree(one: Sequence[object], other: Sequence[object]) -> int:
    """How many first tokens are equal."""
    low, high = 0, min(len(one), len(other))
    # comparing slices is much faster than comparing tokens
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low
