"""Rows under way: prompts are read in batches, each pass writes one token of every row, and rows that end leave.

The contract, which tests check:

1. A row writes the tokens that it writes alone, whatever stands beside it and whenever it came.
2. No pass carries a row that has ended: the last row takes its slot, and waiting calls fill up what is free.
3. Calls are taken a bounded window ahead, and only when places are free for them.
4. Between two answers nothing of ours is left on the model: whoever gets an answer may use the model before asking on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch  # noqa: TID253  (this module exists for torch code; it is imported by the transformers backend only)
from transformers.cache_utils import Cache, DynamicLayer  # noqa: TID253

from steer_core.generation.backend import Call, Finished, Generation, Stats
from steer_core.generation.cache import RowCache
from steer_core.generation.decoding import Rule
from steer_core.generation.marks import Writer
from steer_core.generation.prompt_tokens import pad_left
from steer_core.generation.sampling import Draws, NotFiniteError, check_finite, next_tokens, token_log_probs
from steer_core.models.loading import LoadedModel
from steer_core.steering.running import Running
from steer_core.tables.errors import SteerworksError

#: Calls that are taken ahead, in batches: prompts of like length are read together.
WINDOW = 4
#: Prompts are read once they are this share of the rows under way: reading one alone costs a pass.
FILL = 1 / 8


@dataclass
class Prompt:
    """A prompt that waits for a place.

    Attributes:
        index: number of its call.
        call: the call; of a further pass: with that pass's plan.
        tokens: token ids.
        room: how many tokens it may write.
        rules: its decoding rules.
        further: prompts that are read along, for its rules.
    """

    index: int
    call: Call
    tokens: list[int]
    room: int
    rules: tuple[Rule, ...] = ()
    further: tuple[Prompt, ...] = ()

    @property
    def all(self) -> tuple[Prompt, ...]:
        """The prompt with those that are read along: the rows that it takes."""
        return (self, *self.further)


@dataclass(eq=False)
class Row:
    """A row under way: a call, or a further pass that is fed what its call's row writes.

    Attributes:
        prompt: what it reads.
        draws: of a call's row.
        further: rows of its further passes.
        follows: whether it is such a pass itself.
        written: tokens so far.
        log_probs: of those, where its call asks for them.
        seconds: its share of the passes so far.
    """

    prompt: Prompt
    draws: Draws
    further: list[Row] = field(default_factory=list)
    follows: bool = False
    written: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def told(self) -> bool:
        """Whether its answer comes with log-probabilities."""
        return self.prompt.call.log_probs and not self.follows


class Waiting:
    """Calls that were taken and not started, in blocks sorted by length.

    Args:
        calls: the source; None where it has nothing now.
        prepare: checks a block of calls, and encodes it.
        size: calls of a block.
    """

    def __init__(
        self, calls: Iterable[Call | None], prepare: Callable[[list[tuple[int, Call]]], list[Prompt]], size: int
    ) -> None:
        self._source, self._prepare, self._size = iter(calls), prepare, size
        self._taken = 0
        self._blocks: deque[Prompt] = deque()
        self.overlong: list[Prompt] = []
        self.over = False

    def __len__(self) -> int:
        return len(self._blocks)

    def look(self, wanted: int) -> int:
        """Take a block from the source if fewer than `wanted` calls wait; how many calls that were."""
        if len(self._blocks) >= wanted or self.over:
            return 0
        block: list[tuple[int, Call]] = []
        while len(block) < self._size:
            try:
                call = next(self._source)
            except StopIteration:
                self.over = True
                break
            if call is None:
                break
            block.append((self._taken, call))
            self._taken += 1
        prompts = self._prepare(block)
        self.overlong += [p for p in prompts if p.room <= 0]
        self._blocks.extend(sorted((p for p in prompts if p.room > 0), key=lambda p: -len(p.tokens)))
        return len(block)

    def overlong_answers(self) -> list[Finished]:
        """Answers of the calls taken so far whose prompts leave no room; each is given once."""
        found = [
            Finished(p.index, Generation("", "overlong", sum(len(q.tokens) for q in p.all), 0, 0.0))
            for p in self.overlong
        ]
        self.overlong = []
        return found

    def take(self, most: int) -> list[Prompt]:
        """The next calls that take `most` rows at most, all their passes counted."""
        taken: list[Prompt] = []
        while self._blocks and len(self._blocks[0].all) <= most:
            taken.append(self._blocks.popleft())
            most -= len(taken[-1].all)
        return taken


@dataclass(frozen=True)
class Passes:
    """What the passes of a model are made with.

    Attributes:
        loaded: model and tokenizer.
        steered: a context that steers a batch whose prompts are read, and yields what was applied.
        worn: a context in which each row of a pass wears its adapter.
        ends: tokens that end an answer.
        explain: makes the error for a row whose logits are no numbers: its prompt, what it wrote, and the rule that
            made them so, or nothing.
        stats: what passes are counted in.
        clock: seconds.
        write: token ids to the text of an answer.
        last_only: arguments that make a pass run its head on the last column only.
    """

    loaded: LoadedModel
    steered: Callable[[Sequence[Any], Sequence[int]], Any]
    worn: Callable[[Sequence[str | None]], Any]
    ends: frozenset[int]
    explain: Callable[[Prompt, list[int], str], SteerworksError]
    stats: Stats
    clock: Callable[[], float]
    write: Writer
    last_only: Mapping[str, int] = field(default_factory=dict)


class Stream:
    """Decodes the calls of one source.

    Args:
        passes: how passes are made, of a model whose cache can be refilled.
        waiting: the calls.
        slots: most rows under way.
        running: their steering.
    """

    def __init__(self, passes: Passes, waiting: Waiting, slots: int, running: Running) -> None:
        self._passes, self._waiting, self._slots, self._running = passes, waiting, slots, running
        self._model, self._device = passes.loaded.model, passes.loaded.device
        self._rows: list[Row] = []
        self._cache = RowCache(slots, self._device)

    def finished(self) -> Iterator[Finished]:
        """Answers, as their rows end."""
        while True:
            free = self._slots - len(self._rows)
            took = self._waiting.look(free)
            yield from self._waiting.overlong_answers()
            ready = min(free, len(self._waiting))
            last = self._waiting.over and len(self._waiting) <= free
            if ready and (last or ready >= FILL * len(self._rows)) and (taken := self._waiting.take(free)):
                ended = self._admit(taken)
            elif self._rows:
                ended = self._step()
            elif self._waiting.over:
                return
            elif took:
                continue
            else:
                raise SteerworksError("the source of calls waits for rows under way, and there are none")
            yield from ended

    @torch.inference_mode()
    def _admit(self, prompts: list[Prompt]) -> list[Finished]:
        start = self._passes.clock()
        rows = [row for p in prompts for row in _rows_of(p)]
        lengths = [len(row.prompt.tokens) for row in rows]
        plans = [row.prompt.call.plan for row in rows]
        interventions = [p.interventions for p in plans]
        ids, mask = pad_left(
            [row.prompt.tokens for row in rows], self._passes.loaded.tokenizer.pad_token_id, self._device
        )
        # every layer keeps every column here: what a sliding window no longer sees is masked
        cache = Cache(layer_class_to_replicate=DynamicLayer)
        positions = (mask.cumsum(dim=-1) - 1).clamp_min(0)
        with self._passes.steered(interventions, lengths) as applied, self._passes.worn([p.adapter for p in plans]):
            out = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                **self._passes.last_only,
            )
        self._cache.join(cache, lengths)
        self._running.join(interventions, lengths, applied)
        first = len(self._rows)
        self._rows += rows
        return self._write(out.logits[:, -1], first, start)

    @torch.inference_mode()
    def _step(self) -> list[Finished]:
        start = self._passes.clock()
        ids = torch.tensor([[row.written[-1]] for row in self._rows], device=self._device)
        worn = [row.prompt.call.plan.adapter for row in self._rows]
        with self._running.step(), self._passes.worn(worn):
            out = self._model(input_ids=ids, **self._cache.inputs())
        self._cache.advance()
        return self._write(out.logits[:, -1], 0, start)

    def _write(self, logits: Any, first: int, start: float) -> list[Finished]:
        """Add a token to the rows from slot `first` on; let go those that have ended."""
        rows = self._rows[first:]
        try:
            chosen = self._choose(logits, rows)
        except NotFiniteError as error:
            row = rows[error.rows[0]]
            raise self._passes.explain(row.prompt, row.written, error.rule) from error
        self._tell(logits, rows, chosen)
        over = []
        for slot, (row, token) in enumerate(zip(rows, chosen, strict=True), start=first):
            row.written.append(token)
            if token in self._passes.ends or len(row.written) == row.prompt.room:
                over.append(slot)
            if (draft := row.prompt.call.draft) is not None and not row.follows and token not in self._passes.ends:
                draft(self._passes.write.draft(row.written))
        self._passes.stats.row_steps += len(rows)
        self._passes.stats.written += sum(not row.follows for row in rows)
        self._passes.stats.passes += 1
        ended = [self._leave(slot) for slot in reversed(over)]
        share = (self._passes.clock() - start) / len(rows)
        for row in rows:
            row.seconds += share
        return [self._answer(row, receipt) for row, receipt in reversed(ended) if not row.follows]

    @staticmethod
    def _tell(logits: Any, rows: Sequence[Row], chosen: Sequence[int]) -> None:
        """Keep the log-probabilities of what was chosen, for rows that are asked for them."""
        told = [k for k, row in enumerate(rows) if row.told]
        if not told:
            return
        tokens = torch.tensor([chosen[k] for k in told], device=logits.device)
        part = logits if len(told) == len(rows) else logits[told]
        values = token_log_probs(part, tokens, [rows[k].draws for k in told])
        for k, value in zip(told, values.tolist(), strict=True):
            rows[k].log_probs.append(value)

    def _choose(self, logits: Any, rows: Sequence[Row]) -> list[int]:
        """The next token of each row; further passes are fed what the row that they belong to writes."""
        leading = [k for k, row in enumerate(rows) if not row.follows]
        own = [rows[k] for k in leading]
        steps = [len(r.written) for r in own]
        if len(own) == len(rows):
            return list(next_tokens(logits, [r.draws for r in rows], steps, lambda k: rows[k].written).tolist())
        place = {row: k for k, row in enumerate(rows)}
        check_finite(logits.amax(dim=-1))
        try:
            chosen = next_tokens(
                logits[leading],
                [r.draws for r in own],
                steps,
                lambda k: own[k].written,
                lambda k: logits[[place[r] for r in own[k].further]],
            ).tolist()
        except NotFiniteError as error:
            raise NotFiniteError([leading[k] for k in error.rows], rule=error.rule) from error
        found = [0] * len(rows)
        for row, token in zip(own, chosen, strict=True):
            for one in (row, *row.further):
                found[place[one]] = token
        return found

    def _leave(self, slot: int) -> tuple[Row, str | None]:
        row = self._rows[slot]
        self._rows[slot] = self._rows[-1]
        self._rows.pop()
        self._cache.leave(slot)
        # the last token that was written has not been read
        fed = len(row.prompt.tokens) + len(row.written) - 1
        receipt = self._running.leave(slot, row.prompt.index, fed)
        return row, None if receipt is None else receipt.to_json()

    def _answer(self, row: Row, receipt: str | None) -> Finished:
        stopped = row.written[-1] in self._passes.ends
        tokens = row.written[:-1] if stopped else row.written
        text = self._passes.write(tokens)
        return Finished(
            row.prompt.index,
            Generation(
                text,
                "stop" if stopped else "length",
                sum(len(p.tokens) for p in row.prompt.all),
                len(row.written),
                sum(r.seconds for r in (row, *row.further)),
                receipt,
                tuple(row.written) if row.told else (),
                tuple(row.log_probs),
            ),
        )


def _rows_of(prompt: Prompt) -> list[Row]:
    """The row of a prompt, and those of its further passes behind it."""
    draws = Draws(prompt.call.plan.decoding, prompt.call.seed, prompt.room, prompt.rules)
    further = [Row(p, draws, follows=True) for p in prompt.further]
    return [Row(prompt, draws, further), *further]
