"""The transformers backend: plain `generate` and teacher-forced scoring on one device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from schemas.digest import canonical_json
from steer_core.generation.backend import Call, Capabilities, Generation
from steer_core.generation.encoding import encode_plan
from steer_core.models.loading import LoadedModel
from steer_core.steering.plan import Plan


class TransformersBackend:
    """Runs plans on a loaded model. Rows of a batch are padded on the left and masked.

    Args:
        loaded: model and tokenizer.
        clock: seconds, for the cost columns.
    """

    def __init__(self, loaded: LoadedModel, clock: Callable[[], float] = time.perf_counter) -> None:
        self.loaded = loaded
        self._clock = clock

    @property
    def capabilities(self) -> Capabilities:
        """Generates and scores; the context is the model's."""
        return Capabilities("transformers", self.loaded.info.max_context, scores=True)

    @property
    def execution(self) -> str:
        """Library versions, device kind, parameter type and the model's fingerprint."""
        import torch
        import transformers

        name = torch.cuda.get_device_name(self.loaded.device) if self.loaded.device.startswith("cuda") else "cpu"
        return canonical_json(
            {
                "backend": "transformers",
                "torch": torch.__version__.split("+")[0],
                "transformers": transformers.__version__,
                "device": name,
                "dtype": self.loaded.spec.dtype,
                "model": self.loaded.fingerprint,
            }
        )

    def encode(self, plan: Plan) -> list[int]:
        """Token ids of a plan's prompt."""
        return encode_plan(plan, self.loaded.tokenizer, bool(self.loaded.info.chat), self.loaded.spec.template_options)

    def prompt_tokens(self, plan: Plan) -> int:
        """Tokens that the plan's prompt takes."""
        return len(self.encode(plan))

    def generate(self, calls: Sequence[Call]) -> list[Generation]:
        """Answers of one batch; rows with less room than asked for are run apart from the others.

        A row whose prompt leaves no room at all comes back empty as `overlong`.
        """
        prompts = [self.encode(c.plan) for c in calls]
        groups: dict[int, list[int]] = {}
        for i, (call, prompt) in enumerate(zip(calls, prompts, strict=True)):
            groups.setdefault(self._room(call.plan, len(prompt)), []).append(i)
        answers: dict[int, Generation] = {}
        for room, rows in sorted(groups.items()):
            if room <= 0:
                answers |= {i: Generation("", "overlong", len(prompts[i]), 0, 0.0) for i in rows}
            else:
                generated = self._generate([calls[i] for i in rows], [prompts[i] for i in rows], room)
                answers |= dict(zip(rows, generated, strict=True))
        return [answers[i] for i in range(len(calls))]

    def _room(self, plan: Plan, prompt_tokens: int) -> int:
        wanted = plan.decoding.max_new_tokens
        context = self.loaded.info.max_context
        return wanted if context is None else min(wanted, context - prompt_tokens)

    def _generate(self, calls: Sequence[Call], prompts: Sequence[list[int]], room: int) -> list[Generation]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        from steer_core.generation.sampling import RowSampling

        tokenizer = self.loaded.tokenizer
        decoding = calls[0].plan.decoding
        ids, mask = self._pad(prompts, left=True)
        length = ids.shape[1]
        sampling = [RowSampling(decoding, [c.seed for c in calls], length, room)] if decoding.temperature > 0 else []
        ends = self._end_ids()
        config = GenerationConfig(
            max_new_tokens=room,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=sorted(ends) or None,
            bos_token_id=tokenizer.bos_token_id,
        )
        start = self._clock()
        model = self.loaded.model
        # a model's own defaults (repetition penalties and the like) are no part of a plan, so they must not act
        own, model.generation_config = model.generation_config, GenerationConfig()
        try:
            with torch.inference_mode():
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    generation_config=config,
                    logits_processor=LogitsProcessorList(sampling),
                )
        finally:
            model.generation_config = own
        seconds = (self._clock() - start) / len(calls)
        found = []
        for prompt, row in zip(prompts, out[:, length:].tolist(), strict=True):
            stop = next((k for k, token in enumerate(row) if token in ends), None)
            written = row if stop is None else row[:stop]
            text = tokenizer.decode(written, skip_special_tokens=True)
            used = len(written) + (stop is not None)
            found.append(Generation(text, "length" if stop is None else "stop", len(prompt), used, seconds))
        return found

    def _end_ids(self) -> set[int]:
        configured = self.loaded.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return {int(i) for i in [*ids, self.loaded.tokenizer.eos_token_id] if i is not None}

    def _pad(self, rows: Sequence[list[int]], left: bool) -> tuple[Any, Any]:
        import torch

        width = max(map(len, rows))
        pad = self.loaded.tokenizer.pad_token_id
        fill = [[pad] * (width - len(r)) for r in rows]
        ids = [f + r if left else r + f for f, r in zip(fill, rows, strict=True)]
        mask = [
            [0] * len(f) + [1] * len(r) if left else [1] * len(r) + [0] * len(f)
            for f, r in zip(fill, rows, strict=True)
        ]
        device = self.loaded.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def score(self, plans: Sequence[Plan], continuations: Sequence[str]) -> list[list[float]]:
        """Log-probability (nats) of each token of each continuation, in one forward pass for the batch.

        Raises:
            ValueError: a continuation has no tokens, or does not fit the model's context.
        """
        import torch

        prompts = [self.encode(p) for p in plans]
        answers = [list(self.loaded.tokenizer(c, add_special_tokens=False)["input_ids"]) for c in continuations]
        context = self.loaded.info.max_context
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            if not answer:
                raise ValueError(f"continuation {i} has no tokens: nothing to score")
            if context is not None and len(prompt) + len(answer) > context:
                raise ValueError(f"row {i} has {len(prompt) + len(answer)} tokens; the model's context has {context}")
        ids, mask = self._pad([p + a for p, a in zip(prompts, answers, strict=True)], left=False)
        with torch.inference_mode():
            logits = self.loaded.model(input_ids=ids, attention_mask=mask).logits  # [rows, tokens, vocabulary]
        scores = []
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            span = logits[row, len(prompt) - 1 : len(prompt) + len(answer) - 1].float().log_softmax(dim=-1)
            picked = span.gather(1, torch.tensor(answer, device=span.device)[:, None])
            scores.append([float(v) for v in picked[:, 0]])
        return scores
