"""The transformers backend: plain `generate` and teacher-forced scoring on one device, steered by hooks."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from schemas.digest import canonical_json
from steer_core.generation.backend import Call, Capabilities, Generation
from steer_core.generation.encoding import encode_plan, pad_left
from steer_core.models.loading import LoadedModel
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.vector import SteeringVector

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.hooks import Applied, Steering

#: Interventions and the token ids that are fed: rows that share both are one row of the forward pass.
_Row = tuple[tuple[Intervention, ...], tuple[int, ...], int]


class TransformersBackend:
    """Runs plans on a loaded model. Rows of a batch are padded on the left and masked.

    Steered and unsteered rows, with vectors and strengths of their own, go through one batch.

    Args:
        loaded: model and tokenizer.
        vectors: vectors that plans may refer to; more can be added.
        clock: seconds, for the cost columns.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        vectors: Iterable[SteeringVector] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.loaded = loaded
        self._clock = clock
        self._vectors: dict[str, SteeringVector] = {}
        self._steering: Steering | None = None
        self.add_vectors(vectors or ())

    @property
    def capabilities(self) -> Capabilities:
        """All verbs, with interventions; the context is the model's."""
        return Capabilities(
            "transformers", self.loaded.info.max_context, scores=True, interventions=True, diverges=True
        )

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

    @property
    def steering(self) -> Steering:
        """The hooks of the loaded model, over the vectors added so far.

        Raises:
            SteerworksError: the model's decoder layers cannot be found.
        """
        if self._steering is None:
            from steer_core.steering.hooks import Steering

            self._steering = Steering(self.loaded.model, self._vectors, self.loaded.fingerprint)
        return self._steering

    def add_vectors(self, vectors: Iterable[SteeringVector]) -> None:
        """Let plans refer to further vectors, by id.

        Raises:
            SteerworksError: a vector was fitted on another model or width; none of them is added.
        """
        new = {v.id: v for v in vectors}
        before = dict(self._vectors)
        self._vectors.update(new)
        try:
            for vector_id in new:
                self.steering.check_vector(vector_id)
        except Exception:
            self._vectors.clear()
            self._vectors.update(before)
            raise

    def encode(self, plan: Plan) -> list[int]:
        """Token ids of a plan's prompt."""
        return encode_plan(plan, self.loaded.tokenizer, bool(self.loaded.info.chat), self.loaded.spec.template_options)

    def prompt_tokens(self, plan: Plan) -> int:
        """Tokens that the plan's prompt takes."""
        return len(self.encode(plan))

    def generate(self, calls: Sequence[Call]) -> list[Generation]:
        """Answers of one batch; rows with less room than asked for are run apart from the others.

        A row whose prompt leaves no room at all comes back empty as `overlong`.

        Raises:
            SteerworksError: an intervention cannot be applied (nothing has run then), or a receipt does not add up.
        """
        self._check([c.plan for c in calls])
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

    def _check(self, plans: Sequence[Plan]) -> None:
        for interventions in dict.fromkeys(p.interventions for p in plans):
            if interventions:
                self.steering.check(interventions)

    def _steered(
        self, rows: Sequence[tuple[Intervention, ...]], prompt_lengths: Sequence[int]
    ) -> AbstractContextManager[Applied | None]:
        # an unsteered batch needs no known architecture
        return self.steering.apply(rows, prompt_lengths) if any(rows) else nullcontext()

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
        ids, mask = pad_left(prompts, tokenizer.pad_token_id, self.loaded.device)
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
            with (
                torch.inference_mode(),
                self._steered([c.plan.interventions for c in calls], [len(p) for p in prompts]) as applied,
            ):
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    generation_config=config,
                    logits_processor=LogitsProcessorList(sampling),
                )
        finally:
            model.generation_config = own
        seconds = (self._clock() - start) / len(calls)
        written: list[list[int]] = []
        reasons: list[Literal["stop", "length"]] = []
        for row in out[:, length:].tolist():
            stop = next((k for k, token in enumerate(row) if token in ends), None)
            written.append(row if stop is None else row[:stop])
            reasons.append("length" if stop is None else "stop")
        used = [len(w) + (r == "stop") for w, r in zip(written, reasons, strict=True)]
        # the last token that was written has not been read
        fed = [len(p) + u - 1 for p, u in zip(prompts, used, strict=True)]
        receipts = [None] * len(calls) if applied is None else applied.receipts(fed)
        return [
            Generation(
                tokenizer.decode(tokens, skip_special_tokens=True),
                reason,
                len(prompt),
                count,
                seconds,
                None if receipt is None else receipt.to_json(),
            )
            for tokens, reason, prompt, count, receipt in zip(written, reasons, prompts, used, receipts, strict=True)
        ]

    def _end_ids(self) -> set[int]:
        configured = self.loaded.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return {int(i) for i in [*ids, self.loaded.tokenizer.eos_token_id] if i is not None}

    def score(self, plans: Sequence[Plan], continuations: Sequence[str]) -> list[list[float]]:
        """Log-probability (nats) of each token of each continuation, in one forward pass for the batch.

        Rows that feed the model the same tokens under the same interventions are computed once: the letters of an A/B
        question after one prompt are one row.

        Raises:
            ValueError: a continuation has no tokens, or does not fit the model's context.
            SteerworksError: an intervention cannot be applied (nothing has run then), or a receipt does not add up.
        """
        import torch

        prompts, answers = self._encode_pairs(plans, continuations)
        rows = [_row(p.interventions, q, a) for p, q, a in zip(plans, prompts, answers, strict=True)]
        logits = self._logits(rows)
        scores = []
        for row, answer in zip(rows, answers, strict=True):
            log_probs = logits[row].float().log_softmax(dim=-1)  # [tokens, vocabulary]
            picked = log_probs.gather(1, torch.tensor(answer, device=log_probs.device)[:, None])
            scores.append([float(v) for v in picked[:, 0]])
        return scores

    def diverge(self, plans: Sequence[Plan], continuations: Sequence[str]) -> list[list[float]]:
        """KL(steered || unsteered) in nats of the next-token distribution at each token of each continuation.

        One steered and one unsteered forward pass; rows that differ in their interventions only share the latter. A
        plan without interventions diverges by 0.

        Raises:
            ValueError, SteerworksError: as `score`.
        """
        prompts, answers = self._encode_pairs(plans, continuations)
        steered = [_row(p.interventions, q, a) for p, q, a in zip(plans, prompts, answers, strict=True)]
        plain = [_row((), q, a) for q, a in zip(prompts, answers, strict=True)]
        after = self._logits([row for row in steered if row[0]])
        before = self._logits([p for p, s in zip(plain, steered, strict=True) if s[0]])
        found = []
        for s, p, answer in zip(steered, plain, answers, strict=True):
            if not s[0]:
                found.append([0.0] * len(answer))
                continue
            log_p, log_q = (logits.float().log_softmax(dim=-1) for logits in (after[s], before[p]))
            divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
            # rounding can leave an exact zero a little below it
            found.append([float(v) for v in divergence.clamp_min(0.0)])
        return found

    def _encode_pairs(
        self, plans: Sequence[Plan], continuations: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        self._check(plans)
        prompts = [self.encode(p) for p in plans]
        answers = [list(self.loaded.tokenizer(c, add_special_tokens=False)["input_ids"]) for c in continuations]
        context = self.loaded.info.max_context
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            if not answer:
                raise ValueError(f"continuation {i} has no tokens: nothing to score")
            if context is not None and len(prompt) + len(answer) > context:
                raise ValueError(f"row {i} has {len(prompt) + len(answer)} tokens; the model's context has {context}")
        return prompts, answers

    def _logits(self, rows: Sequence[_Row]) -> dict[_Row, Tensor]:
        """Logits [tokens, vocabulary] from each row's last prompt token on; the head runs on those columns only."""
        import torch

        distinct = list(dict.fromkeys(rows))
        if not distinct:
            return {}
        fed = [list(tokens) for _, tokens, _ in distinct]
        asked = [len(tokens) - prompt + 1 for _, tokens, prompt in distinct]
        ids, mask = pad_left(fed, self.loaded.tokenizer.pad_token_id, self.loaded.device)
        accepted = inspect.signature(self.loaded.model.forward).parameters
        options: dict[str, Any] = {"use_cache": False}
        if "position_ids" in accepted:
            # left padding must not shift learned positions
            options["position_ids"] = (mask.cumsum(dim=-1) - 1).clamp_min(0)
        if "logits_to_keep" in accepted:
            options["logits_to_keep"] = max(asked)
        with (
            torch.inference_mode(),
            self._steered([r[0] for r in distinct], [r[2] for r in distinct]) as applied,
        ):
            logits = self.loaded.model(input_ids=ids, attention_mask=mask, **options).logits
        if applied is not None:
            applied.receipts([len(tokens) for tokens in fed])
        return {row: logits[k, -asked[k] :] for k, row in enumerate(distinct)}


def _row(interventions: tuple[Intervention, ...], prompt: Sequence[int], answer: Sequence[int]) -> _Row:
    # the last token of the answer is scored, and never read
    return interventions, (*prompt, *answer[:-1]), len(prompt)
