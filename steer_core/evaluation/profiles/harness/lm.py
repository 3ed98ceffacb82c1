"""An engine in an arm, as the harness calls a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lm_eval.api.model import TemplateLM

from schemas.specs import Decoding
from steer_core.evaluation.arms.items import Arm, item_seed
from steer_core.evaluation.profiles.harness.needs import HarnessRefusalError
from steer_core.evaluation.profiles.harness.requests import (
    Counts,
    NotAsked,
    Writing,
    divided,
    fitted,
    moved_blanks,
    writing_of,
)
from steer_core.evaluation.profiles.harness.speech import Speech, speech_of
from steer_core.generation.backend import BATCH_SIZE, Backend, Call, answer_all
from steer_core.generation.forced import score_all, score_greedy_all
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

#: Tokens to write where neither task nor caller says: the harness's own number.
MAX_GEN_TOKS = 256
#: The plain model.
PLAIN = Arm("plain", "harness")
#: A request of the harness: (context, continuation) where it has texts, and the token ids of both.
Tokens = tuple[tuple[str, str] | None, list[int], list[int]]


class EngineLM(TemplateLM):  # type: ignore[misc]
    """A model of the harness whose answers come from an engine, in one arm.

    Contexts go to the engine as token ids, so `prompt` and `completion` positions are those of context and
    continuation. Token ids are those of the harness's own `HFLM`; texts that are to be read without any context stand
    after `prefix_token_id`.

    Args:
        backend: who answers.
        arm: what is done to the model. A system prompt of it must be in the contexts: `run_harness` sees to that, and
            `simple_evaluate` is told `system_instruction=arm.system`; contexts without it are refused.
        tokenizer: the model's own; None: the engine's.
        batch_size: most rows a pass.
        max_length: tokens that the model reads at most; longer contexts lose their first tokens. None: what fits the
            engine's context.
        max_gen_toks: tokens to write where a task does not say; None: 256, or half of `max_length` where that is less.
        seed: of whatever is sampled.
        template_options: arguments of the chat template; None: the model's own.
        flags: whether to say of each continuation if it is what greedy decoding writes. False: only for tasks whose
            metrics do not read it.

    Attributes:
        counts: what happened to requests so far.
        engine_error: what the engine raised last, if anything.

    Raises:
        SteerworksError: the engine has no tokenizer here, or its context is not known.
    """

    def __init__(
        self,
        backend: Backend,
        arm: Arm = PLAIN,
        *,
        tokenizer: Any = None,
        batch_size: int = BATCH_SIZE,
        max_length: int | None = None,
        max_gen_toks: int | None = None,
        seed: int = 0,
        template_options: Mapping[str, Any] | None = None,
        flags: bool = True,
    ) -> None:
        super().__init__()
        self.arm, self.flags, self.seed = arm, flags, seed
        self.counts = Counts()
        self.engine_error: Exception | None = None
        self._backend = backend
        self._speech: Speech = speech_of(backend, tokenizer, template_options)
        self.tokenizer = self._speech.tokenizer
        self.batch_size = batch_size
        self.max_length = _most(backend, max_length)
        self.max_gen_toks = min(MAX_GEN_TOKS, self.max_length // 2) if max_gen_toks is None else max_gen_toks

    # what the harness asks about tokens

    @property
    def engine(self) -> Backend:
        """Who answers."""
        return self._backend

    @property
    def eot_token_id(self) -> int:
        """The token that ends texts."""
        return self._speech.end

    @property
    def prefix_token_id(self) -> int:
        """What a text without context is read after: the token that begins texts, or else the one that ends them."""
        return self._speech.begin

    @property
    def tokenizer_name(self) -> str:
        """The model and its template, for whatever is kept of rendered requests."""
        return self._speech.name

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of a text; None: with the special tokens that begin one, unless they stand in it already."""
        return self._speech.spell([string], add_special_tokens)[string]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the model's template has it; without a generation prompt its last turn stays open."""
        return self._speech.rendered(chat_history, add_generation_prompt)

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Let the harness keep answers; not of a model that is steered.

        Raises:
            SteerworksError: the arm does something: the harness's keys know the request alone, so another arm's answers
                would be taken for this one's.
        """
        if self.arm.steered and getattr(cache_hook, "dbdict", None) is not None:
            raise SteerworksError(
                f"`use_cache` knows nothing of arm {self.arm.arm_id!r}: it would mix its answers with those of other "
                "arms; leave it out"
            )
        super().set_cache_hook(cache_hook)

    # what it asks of the model

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool | NotAsked]]:
        """Log-likelihood (nats) of each continuation after its context, and whether greedy decoding writes it.

        Raises:
            HarnessRefusalError: a continuation has no tokens or does not fit, or the arm or engine cannot score.
            SteerworksError: the engine fails.
        """
        pairs = [tuple(request.args[:2]) for request in requests]
        self._hold_system(context for context, _ in pairs)
        moved = [moved_blanks(*pair) if pair[0] else pair for pair in pairs]
        open_ended = self._speech.spell({t for c, a in moved if c for t in (c, c + a)}, None)
        alone = self._speech.spell({a for c, a in moved if not c}, False)
        rows: list[Tokens] = []
        for k, (pair, (context, answer)) in enumerate(zip(pairs, moved, strict=True)):
            if context:
                before, after, aligned = divided(open_ended[context], open_ended[context + answer])
                self.counts.unaligned += not aligned
            else:
                after = alone[answer]
                before = [self.prefix_token_id] if after[:1] != [self.prefix_token_id] else after[:1]
                after = after if after[:1] != [self.prefix_token_id] else after[1:]
            if not after or not before:
                which = "continuation" if not after else "context"
                raise HarnessRefusalError(
                    f"request {k} (task {requests[k].task_name!r}, document {requests[k].doc_id}): its {which} has no "
                    f"tokens of its own: {pair[0][-40:]!r} + {pair[1][:40]!r}"
                )
            rows.append((pair, before, after))
        return self._loglikelihood_tokens(rows)

    def _loglikelihood_tokens(self, requests: Sequence[Tokens], **_: Any) -> list[tuple[float, bool | NotAsked]]:
        plans, answers = [], []
        for _texts, context, continuation in requests:
            kept, lost = fitted(context, continuation, self.max_length)
            self.counts.truncated += lost > 0
            plans.append(self._plan(kept, Decoding()))
            answers.append(tuple(continuation))
        able = self._backend.capabilities
        self._refuse(plans, "score")
        if self.flags and not able.greedy_flags:
            raise HarnessRefusalError(
                f"{able.name} backend cannot say which tokens are the likeliest; use transformers, or `flags=False` "
                "for tasks whose metrics do not ask"
            )
        rows = self._scored(plans, answers)
        for k, (numbers, _flag) in enumerate(rows):
            if not numbers:
                raise SteerworksError(
                    f"row {k} of {len(rows)} came back from the {able.name} backend without numbers: "
                    f"{len(plans[k].tokens or ())} + {len(answers[k])} tokens; if they do not fit its context, lower "
                    f"`max_length` ({self.max_length})"
                )
        self.counts.scored += len(rows)
        return [(sum(numbers), flag) for numbers, flag in rows]

    def _scored(
        self, plans: Sequence[Plan], answers: Sequence[tuple[int, ...]]
    ) -> list[tuple[Sequence[float], bool | NotAsked]]:
        try:
            if self.flags:
                scored = score_greedy_all(plans, answers, self._backend, self.batch_size)
                return [(row.log_probs, all(row.greedy)) for row in scored]
            numbers = score_all(plans, answers, self._backend, self.batch_size)
            return [(row, NotAsked()) for row in numbers]
        except Exception as error:
            self.engine_error = error
            raise

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood (nats) of each text, all of its tokens, in windows of `max_length` that share no token.

        The text stands after `prefix_token_id` and has no other special tokens.

        Raises:
            HarnessRefusalError: the arm has a system prompt, or arm or engine cannot score.
            SteerworksError: the engine fails.
        """
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        if self.arm.system is not None:
            raise HarnessRefusalError(
                f"arm {self.arm.arm_id!r} has a system prompt, and a text that is scored by itself has no place for one"
            )
        texts = [request.args[0] for request in requests]
        spelt = self._speech.spell(set(texts), False)
        rows: list[Tokens] = []
        owners: list[int] = []
        for k, text in enumerate(texts):
            windows = get_rolling_token_windows(spelt[text], self.prefix_token_id, self.max_length, 1)
            for context, continuation in map(make_disjoint_window, windows):
                rows.append((None, context, continuation))
                owners.append(k)
        flags, self.flags = self.flags, False
        try:
            numbers = self._loglikelihood_tokens(rows)
        finally:
            self.flags = flags
        totals = [0.0] * len(texts)
        for owner, (number, _) in zip(owners, numbers, strict=True):
            totals[owner] += number
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """What the model writes after each context, cut before whatever ends it.

        The engine writes up to the limit and the text is cut afterwards. A request that comes again is another sample.

        Raises:
            HarnessRefusalError: a setting that no engine carries out, a limit that leaves no room for the context, or
                an arm that the engine cannot carry out.
            SteerworksError: the engine fails.
        """
        contexts = [request.args[0] for request in requests]
        self._hold_system(contexts)
        end = str(self.tokenizer.decode([self.eot_token_id]))
        writings = [writing_of(request.args[1], end, self.max_gen_toks) for request in requests]
        spelt = self._speech.spell(set(contexts), None)
        seen: Counter[int] = Counter()
        calls = []
        for request, context, writing in zip(requests, contexts, writings, strict=True):
            plan = self._plan(self._prompt(spelt[context], writing), writing.decoding)
            sample = seen[id(request)]
            seen[id(request)] += 1
            calls.append(Call(plan, sample, item_seed(self.seed, plan.id, sample)))
        self._refuse([call.plan for call in calls], "generate")
        try:
            found = answer_all(self._backend, calls, self.batch_size)
        except Exception as error:
            self.engine_error = error
            raise
        self.counts.written += len(calls)
        return [writing.cut(answer.raw) for writing, answer in zip(writings, found, strict=True)]

    def _prompt(self, tokens: Sequence[int], writing: Writing) -> tuple[int, ...]:
        room = self.max_length - writing.decoding.max_new_tokens
        if room < 1:
            raise HarnessRefusalError(
                f"{writing.decoding.max_new_tokens} tokens are to be written by a model that reads {self.max_length}: "
                "no room is left for the context; set `max_gen_toks` of the task lower"
            )
        self.counts.truncated += len(tokens) > room
        return tuple(tokens[-room:])

    def _plan(self, tokens: tuple[int, ...], decoding: Decoding) -> Plan:
        # the system prompt is in the tokens already
        return replace(self.arm, system=None).applied(Plan(self._backend.model_identity, decoding, tokens=tokens))

    def _refuse(self, plans: Iterable[Plan], verb: Any) -> None:
        able = self._backend.capabilities
        try:
            for plan in plans:
                able.refuse(plan, verb)
        except SteerworksError as error:
            raise HarnessRefusalError(str(error)) from error

    def _hold_system(self, contexts: Iterable[str]) -> None:
        system = self.arm.system
        for k, context in enumerate(contexts if system is not None else ()):
            if context and str(system).strip() not in context:
                raise SteerworksError(
                    f"context {k} lacks the system prompt of arm {self.arm.arm_id!r}: tell the harness "
                    "`system_instruction=lm.arm.system`, as `run_harness` does"
                )


def _most(backend: Backend, asked: int | None) -> int:
    able = backend.capabilities
    if able.max_context is None:
        if asked is None:
            raise SteerworksError(f"the context of the {able.name} backend is not known: give `max_length`")
        return asked
    # engines count the last token too, which is scored and not read; a server writes one more
    most = able.max_context - (2 if able.batching == "remote" else 1)
    if asked is not None and asked > most:
        raise SteerworksError(f"max_length = {asked}: the {able.name} backend reads {most} tokens before a scored one")
    return most if asked is None else asked
