"""The transformers backend: streamed generation and teacher-forced scoring on one device, steered by hooks."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

from schemas.digest import canonical_json
from schemas.specs import ModelSpec
from steer_core.generation.adapters import Adapter, wardrobe_of
from steer_core.generation.backend import (
    BATCH_SIZE,
    Call,
    Capabilities,
    Continuation,
    Finished,
    Scored,
    Stats,
    Verb,
)
from steer_core.generation.branching import Passes
from steer_core.generation.decoding import Array, build_rules, further_passes, tensor_digest
from steer_core.generation.embedding import mean_states, texts_of
from steer_core.generation.engines._transformers_abilities import abilities, batching_of, why_no_prefixes
from steer_core.generation.marks import Writer
from steer_core.generation.prefixes import Read
from steer_core.generation.prompt_tokens import begun, encode_plan, end_of_turn, spelled
from steer_core.generation.reading import divergences_of, read_logits, scores_of
from steer_core.generation.regimes import Regime, regime_of
from steer_core.generation.sharing import sharing_of
from steer_core.models.info import describe_model
from steer_core.models.loading import LoadedModel, device_of
from steer_core.models.quantization import check_environment, check_quantization, packed_by
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.vector import Floats, SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.generation.stream import Prompt
    from steer_core.steering.hooks import Applied, Steering

#: Prompts whose tokens are remembered: they are counted before they are read, and asked under many arms.
REMEMBERED = 4096


class TransformersBackend:
    """Runs plans on a loaded model. Rows that share a pass are padded on the left and masked.

    Steered and unsteered rows, with vectors, strengths and decodings of their own, share passes.

    Args:
        loaded: model and tokenizer.
        vectors: vectors that plans may refer to; more can be added.
        clock: seconds, for the cost columns.
        batching: see `Capabilities.batching`; None: `refill` where the model's cache allows it.

    Attributes:
        stats: what forward passes of `generate` were spent on.

    Raises:
        SteerworksError: `refill` is asked of a model whose cache cannot be refilled.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        vectors: Iterable[SteeringVector] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        batching: Literal["refill", "plain"] | None = None,
    ) -> None:
        self.loaded = loaded
        self.model_identity = loaded.spec.identity
        self.stats = Stats()
        self._clock = clock
        self._accepted = frozenset(inspect.signature(loaded.model.forward).parameters)
        self._asked_batching = batching
        if batching == "refill":
            _ = self._batching  # refused at once where it cannot be
        self._vectors: dict[str, SteeringVector] = {}
        self._steering: Steering | None = None
        self._tensors: dict[str, Array] = {}
        self._encoded: dict[object, list[int]] = {}
        self._wardrobe = wardrobe_of(loaded.model)
        self._writer = Writer(loaded.tokenizer)
        self.add_vectors(vectors or ())

    # what a model allows is measured with a few passes, when it is first asked to run

    @cached_property
    def _regime(self) -> Regime:
        return regime_of(self.loaded.model.config.get_text_config(decoder=True), sharing_of(self.loaded))

    @cached_property
    def _batching(self) -> tuple[Literal["refill", "plain"], str]:
        return batching_of(self.loaded, self._asked_batching, self._accepted)

    @cached_property
    def _no_prefixes(self) -> str:
        return why_no_prefixes(self.loaded, self._accepted)

    @property
    def capabilities(self) -> Capabilities:
        """All verbs, with all interventions; the context is the model's."""
        able = abilities(self.loaded.info.max_context, *self._batching)
        return replace(able, prefixes=not self._no_prefixes, prefixes_reason=self._no_prefixes)

    @property
    def execution(self) -> str:
        """Library versions, device kind, parameter type, the model's fingerprint, and what packed its weights."""
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
                **packed_by(self.loaded.spec),
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

    def weights(self) -> LoadedModel:
        """The loaded model."""
        return self.loaded

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

    def add_tensors(self, tensors: Mapping[str, Array]) -> None:
        """Let extensions of plans refer to further tensors, by digest.

        Raises:
            SteerworksError: a digest is not that of its tensor.
        """
        for digest, tensor in tensors.items():
            if tensor_digest(tensor) != digest:
                raise SteerworksError(f"tensor {digest} has the digest {tensor_digest(tensor)}: it is another one")
        self._tensors |= tensors

    def add_adapters(self, adapters: Iterable[Adapter]) -> None:
        """Let plans refer to further LoRA adapters, by digest; rows of one batch may wear different ones, or none.

        Raises:
            SteerworksError: one does not fit the model, or the model wears one of its own.
        """
        self._wardrobe.add(adapters)

    def encode(self, plan: Plan) -> list[int]:
        """Token ids of a plan's prompt; those of the last prompts are remembered."""
        asked = (plan.messages, plan.text, plan.tokens)
        if asked not in self._encoded:
            if len(self._encoded) == REMEMBERED:
                del self._encoded[next(iter(self._encoded))]
            self._encoded[asked] = encode_plan(
                plan, self.loaded.tokenizer, bool(self.loaded.info.chat), self.loaded.spec.template_options
            )
        return list(self._encoded[asked])

    def prompt_tokens(self, plan: Plan) -> int:
        """Tokens that the plan's prompt takes."""
        return len(self.encode(plan))

    def generate(self, calls: Iterable[Call | None], batch_size: int = BATCH_SIZE) -> Iterator[Finished]:
        """Answers, each as soon as its row ends (`Backend.generate`).

        A row whose prompt leaves no room comes back empty as `overlong`; one with less room than asked for ends there.

        Raises:
            SteerworksError: a plan is of another model or cannot be executed (of a list, nothing has run then), a
                receipt does not add up, or activations are no numbers.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one row")
        if isinstance(calls, Sequence):
            self._check([c.plan for c in calls if c is not None], batch_size=batch_size)
        return self._finished(calls, batch_size)

    def _finished(self, calls: Iterable[Call | None], batch_size: int) -> Iterator[Finished]:
        from steer_core.generation.stream import WINDOW, Stream, Waiting
        from steer_core.generation.stream import Passes as StreamPasses

        waiting = Waiting(calls, partial(self._prepare, batch_size), WINDOW * batch_size)
        passes = StreamPasses(
            self.loaded,
            self._steered,
            self._wardrobe.worn,
            frozenset(self.end_ids()),
            self._explain,
            self.stats,
            self._clock,
            self._writer,
            {"logits_to_keep": 1} if "logits_to_keep" in self._accepted else {},
        )
        if self._batching[0] == "plain":
            from steer_core.generation.plain import Batches

            yield from Batches(passes, waiting, batch_size, self._regime).finished()
            return
        from steer_core.steering.running import Running

        yield from Stream(passes, waiting, batch_size, Running(lambda: self.steering, batch_size)).finished()

    def _prepare(self, batch_size: int, block: Sequence[tuple[int, Call]]) -> list[Prompt]:
        from steer_core.generation.stream import Prompt

        self._check([call.plan for _, call in block], batch_size=batch_size)
        found = []
        for index, call in block:
            tokens, rules = self.encode(call.plan), build_rules(call.plan, self._tensors)
            further = tuple(Prompt(index, replace(call, plan=p), self.encode(p), 0) for p in further_passes(call.plan))
            room = min(self._room(call.plan, len(t)) for t in (tokens, *(p.tokens for p in further)))
            found.append(Prompt(index, call, tokens, room, rules, tuple(replace(p, room=room) for p in further)))
        return found

    def _check(self, plans: Sequence[Plan], verb: Verb = "generate", batch_size: int = BATCH_SIZE) -> None:
        for model in dict.fromkeys(p.model for p in plans):
            if model != self.model_identity:
                raise SteerworksError(
                    f"a plan is of model {model}, and this backend runs {self.model_identity} "
                    f"({self.loaded.spec.name!r}): make the plan with `ModelSpec.identity` of the model that answers it"
                )
        further = [f for p in plans for f in further_passes(p)]
        for interventions in dict.fromkeys(p.interventions for p in (*plans, *further)):
            if interventions:
                self.steering.check(interventions)
        for adapter in dict.fromkeys(p.adapter for p in (*plans, *further)):
            self._wardrobe.check(adapter)
        if any(p.extensions for p in plans):
            capabilities = self.capabilities
            for plan in plans:
                capabilities.refuse(plan, verb)
                build_rules(plan, self._tensors)
                if (reads := 1 + len(further_passes(plan))) > batch_size:
                    raise ConfigError(
                        f"batch_size = {batch_size}: a call reads {reads} prompts at a time, in shared passes"
                    )

    def _steered(
        self, rows: Sequence[tuple[Intervention, ...]], prompt_lengths: Sequence[int]
    ) -> AbstractContextManager[Applied | None]:
        # an unsteered batch needs no known architecture
        return self.steering.apply(rows, prompt_lengths) if any(rows) else nullcontext()

    def _room(self, plan: Plan, prompt_tokens: int) -> int:
        wanted = plan.decoding.max_new_tokens
        context = self.loaded.info.max_context
        return wanted if context is None else min(wanted, context - prompt_tokens)

    def _explain(self, prompt: Prompt, written: list[int], rule: str) -> SteerworksError:
        if rule:
            return SteerworksError(
                f"row {prompt.index}: the decoding rule {rule!r} left no token that could be chosen, after "
                f"{len(written)} tokens: look at its settings"
            )
        plan = prompt.call.plan
        read = Read(plan.interventions, plan.adapter, (*prompt.tokens, *written), len(prompt.tokens))
        return self._not_finite(prompt.index, read)

    def _not_finite(self, number: int, row: Read) -> SteerworksError:
        """The error for a row whose logits are no numbers: it is read again alone, to find where that begins."""
        from steer_core.steering.watch import not_finite

        found = None
        if row.interventions:
            with self._wardrobe.worn([row.adapter]):
                found = not_finite(self.steering, row.interventions, list(row.tokens), row.prompt)
        said = f"row {number}: the model's logits after {len(row.tokens)} tokens are not finite"
        if found is not None:
            return SteerworksError(
                f"row {number}: {found}: no answer can be read off. Lower the strength, or look at vector and operator"
            )
        if row.adapter is not None:
            return SteerworksError(f"{said} under adapter {row.adapter}: no answer can be read off")
        return SteerworksError(
            f"{said}, and no intervention made them so: its weights are damaged, or {self.loaded.spec.dtype} is too "
            "narrow for its activations"
        )

    def end_ids(self) -> set[int]:
        """Tokens that end an answer."""
        configured = self.loaded.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return {int(i) for i in [*ids, self.loaded.tokenizer.eos_token_id] if i is not None}

    @property
    def end_of_turn(self) -> int:
        """The token that ends an answer of the model, as its chat template has it (`prompt_tokens.end_of_turn`)."""
        spec = self.loaded.spec
        return end_of_turn(self.loaded.tokenizer, self.loaded.info.chat, spec.template_options, self.end_ids())

    def score(self, plans: Sequence[Plan], continuations: Sequence[Continuation]) -> list[list[float]]:
        """Log-probability (nats) of each token of each continuation, in shared forward passes.

        A continuation is tokenised by itself, without special tokens, and read behind its plan's prompt; behind an
        empty one, after the token that begins a text (`prompt_tokens.begun`). Rows that feed the model the same tokens
        under the same interventions are computed once, and rows that begin with the same tokens share those, where the
        model allows it (`Capabilities.prefixes`): the options after one prompt, the examples before all prompts. A row
        that does not fit the model's context has no numbers.

        Raises:
            ValueError: continuations have no tokens.
            SteerworksError: an intervention cannot be applied (nothing has run then), or a receipt does not add up.
        """
        return [list(scored.log_probs) for scored in self.score_greedy(plans, continuations)]

    def score_greedy(self, plans: Sequence[Plan], continuations: Sequence[Continuation]) -> list[Scored]:
        """`score`, and of each token whether no other one was likelier.

        Raises:
            ValueError, SteerworksError: as `score`.
        """
        prompts, answers = self._encode_pairs(plans, continuations, "score")
        rows = [Read.of(p, q, a) for p, q, a in zip(plans, prompts, answers, strict=True)]
        return scores_of(rows, answers, self._logits, self.loaded.info.max_context)

    def embed(self, plans: Sequence[Plan], *, special: bool = False, batch_size: int = BATCH_SIZE) -> list[Floats]:
        """Mean over the tokens of each plan's prompt of the last hidden states, float32 of shape [hidden size].

        They are those that the head reads: behind the final norm, the model's `hidden_states[-1]`, under the plan's
        interventions and adapter.

        Args:
            plans: texts, and what is done to the model while it reads them.
            special: whether the special tokens that begin a prompt (BOS) are part of the mean.
            batch_size: most rows of a pass.

        Raises:
            SteerworksError: a plan cannot be executed (nothing has run then); it has no tokens, or only special ones;
                it does not fit the model's context; or hidden states are no numbers.
        """
        self._check(plans, "embed")
        rows = texts_of(plans, [self.encode(p) for p in plans], self.loaded, special)
        return mean_states(self._passes, rows, self._regime, batch_size)

    def diverge(
        self, plans: Sequence[Plan], continuations: Sequence[Continuation], against: Sequence[Plan] | None = None
    ) -> list[list[float]]:
        """KL(steered || unsteered) in nats of the next-token distribution at each token of each continuation.

        One steered and one unsteered forward pass; rows that differ only in what is done to the model (interventions,
        adapter) share the latter. A plan that does nothing to it, and has the same prompt, diverges by 0. A row that
        does not fit the model's context has no numbers.

        Raises:
            ValueError, SteerworksError: as `score`.
        """
        prompts, answers = self._encode_pairs(plans, continuations, "diverge")
        rows = list(zip(plans, prompts, answers, strict=True))
        steered = [Read.of(p, q, a) for p, q, a in rows]
        if against is not None:
            plain_prompts, _ = self._encode_pairs(against, continuations, "diverge")
            rows = list(zip(against, plain_prompts, answers, strict=True))
        plain = [Read.of(p, q, a, plain=True) for p, q, a in rows]
        return divergences_of(steered, plain, answers, self._logits, self.loaded.info.max_context)

    def _encode_pairs(
        self, plans: Sequence[Plan], continuations: Sequence[Continuation], verb: Verb
    ) -> tuple[list[list[int]], list[list[int]]]:
        self._check(plans, verb)
        answers = spelled(continuations, self.loaded.tokenizer)
        return [begun(self.encode(p), self.loaded.tokenizer) for p in plans], answers

    @property
    def _passes(self) -> Passes:
        return Passes(self.loaded, self._accepted, self._steered, self._wardrobe.worn)

    def _logits(self, rows: Iterable[Read]) -> dict[Read, Tensor]:
        return read_logits(
            self._passes,
            rows,
            regime=self._regime,
            prefixes=lambda: not self._no_prefixes,
            not_finite=self._not_finite,
        )


def build(model: ModelSpec) -> TransformersBackend:
    """The backend of a model, loaded.

    Raises:
        ConfigError: the model cannot be found, or wants a device that is not there.
    """
    from steer_core.models.loading import load_model

    return TransformersBackend(load_model(model))


def lacking(model: ModelSpec) -> Iterator[str]:
    """The library that packs a quantised model's weights, or a device that it can use."""
    if model.quantization:
        try:
            check_environment(model, device_of(model))
        except ConfigError as error:
            yield str(error)


def describe(model: ModelSpec) -> Capabilities:
    """What the engine can carry out; how rows of the model share passes is known when it is loaded.

    Raises:
        ConfigError: the model cannot be quantised as it asks for.
    """
    check_quantization(model)
    return abilities(describe_model(model).max_context)
