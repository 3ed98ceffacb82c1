"""The plain way: batches that step on until their longest row ends, by `generate` of transformers.

For models whose caches cannot be refilled, and as the yardstick of those that can. Rows of a batch have the same room
to write, and the same regime (`generation.regimes`); others are run apart.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Literal

import torch  # noqa: TID253  (this module exists for torch code; it is imported by the transformers backend only)
from transformers import GenerationConfig, LogitsProcessorList  # noqa: TID253

from steer_core.generation.backend import Draft, Finished, Generation
from steer_core.generation.prompt_tokens import pad_left
from steer_core.generation.regimes import Regime
from steer_core.generation.sampling import Draws, NotFiniteError, RowSampling
from steer_core.generation.stream import Passes, Prompt, Waiting
from steer_core.tables.errors import SteerworksError


class Batches:
    """Decodes the calls of one source, batch by batch.

    Args:
        passes: how passes are made.
        waiting: the calls.
        size: most rows of a batch.
        regime: which rows may share one.
    """

    def __init__(self, passes: Passes, waiting: Waiting, size: int, regime: Regime) -> None:
        self._passes, self._waiting, self._size, self._regime = passes, waiting, size, regime

    def finished(self) -> Iterator[Finished]:
        """Answers, a batch at a time."""
        while True:
            took = self._waiting.look(self._size)
            yield from self._waiting.overlong_answers()
            batch = self._waiting.take(self._size)
            alike: dict[tuple[int, Hashable], list[Prompt]] = {}
            for prompt in batch:
                regimes = {self._regime(len(p.tokens), len(p.tokens) + prompt.room) for p in prompt.all}
                if len(regimes) > 1:
                    raise SteerworksError(
                        f"call {prompt.index}: its rule reads prompts of different length along, and rows of this "
                        "model answer otherwise beside longer ones: they cannot share a pass"
                    )
                alike.setdefault((prompt.room, regimes.pop()), []).append(prompt)
            for (room, _), prompts in alike.items():
                yield from self._run(prompts, room)
            if not batch and self._waiting.over:
                return
            if not batch and not took:
                raise SteerworksError("the source of calls waits for rows under way, and there are none")

    def _drafts(self, leading: Sequence[Prompt]) -> dict[int, Callable[[list[int]], None]]:
        """Row that chooses -> who is told its tokens so far."""

        def told(draft: Draft, tokens: list[int]) -> None:
            if tokens[-1] not in self._passes.ends:
                draft(self._passes.write.draft(tokens))

        return {k: partial(told, p.call.draft) for k, p in enumerate(leading) if p.call.draft is not None}

    def _run(self, leading: Sequence[Prompt], room: int) -> list[Finished]:
        tokenizer, model = self._passes.loaded.tokenizer, self._passes.loaded.model
        prompts = [p for lead in leading for p in lead.all]
        leads = [k for k, lead in enumerate(leading) for _ in lead.all]
        ids, mask = pad_left([p.tokens for p in prompts], tokenizer.pad_token_id, self._passes.loaded.device)
        length = ids.shape[1]
        draws = [Draws(p.call.plan.decoding, p.call.seed, room, p.rules) for p in leading]
        told = [k for k, lead in enumerate(leading) if lead.call.log_probs]
        sampling = RowSampling(draws, length, leads, self._passes.ends, told, self._drafts(leading))
        config = GenerationConfig(
            max_new_tokens=room,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=sorted(self._passes.ends) or None,
            bos_token_id=tokenizer.bos_token_id,
        )
        start = self._passes.clock()
        # a model's own defaults (repetition penalties and the like) are no part of a plan, so they must not act
        own, model.generation_config = model.generation_config, GenerationConfig()
        try:
            with (
                torch.inference_mode(),
                self._passes.steered(
                    [p.call.plan.interventions for p in prompts], [len(p.tokens) for p in prompts]
                ) as applied,
                self._passes.worn([p.call.plan.adapter for p in prompts]),
            ):
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    generation_config=config,
                    logits_processor=LogitsProcessorList([sampling]),
                )
        except NotFiniteError as error:
            failed = error.rows[0]
            raise self._passes.explain(prompts[failed], error.written[failed], error.rule) from error
        finally:
            model.generation_config = own
        seconds = (self._passes.clock() - start) / len(leading)
        written: list[list[int]] = []
        reasons: list[Literal["stop", "length"]] = []
        rows = out[:, length:].tolist()
        for row in rows:
            stop = next((k for k, token in enumerate(row) if token in self._passes.ends), None)
            written.append(row if stop is None else row[:stop])
            reasons.append("length" if stop is None else "stop")
        used = [len(w) + (r == "stop") for w, r in zip(written, reasons, strict=True)]
        self._passes.stats.row_steps += len(prompts) * max(used)
        own = [leads.index(k) for k in range(len(leading))]
        self._passes.stats.written += sum(used[k] for k in own)
        self._passes.stats.passes += max(used)
        # the last token that was written has not been read
        fed = [len(p.tokens) + u - 1 for p, u in zip(prompts, used, strict=True)]
        receipts = [None] * len(prompts) if applied is None else applied.receipts(fed)
        return [
            Finished(
                prompt.index,
                Generation(
                    self._passes.write(written[k]),
                    reasons[k],
                    sum(len(p.tokens) for p in prompt.all),
                    used[k],
                    seconds,
                    None if (receipt := receipts[k]) is None else receipt.to_json(),
                    tuple(rows[k][: used[k]]) if prompt.call.log_probs else (),
                    tuple(sampling.log_probs[lead]),
                ),
            )
            for lead, (k, prompt) in enumerate(zip(own, leading, strict=True))
        ]
