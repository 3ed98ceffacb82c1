"""The engine for endpoints that speak OpenAI's protocol: asks over the network, and keeps every attempt in a ledger."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from schemas.digest import canonical_json
from schemas.specs import ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import BATCH_SIZE, Call, Capabilities, Continuation, Finished, Scored, Verb
from steer_core.generation.decoding import Array
from steer_core.generation.engines import Money
from steer_core.generation.remote.addresses import Standing
from steer_core.generation.remote.client import NO_CLIENT
from steer_core.generation.remote.ledger import Ledger
from steer_core.generation.remote.prices import cost_of
from steer_core.generation.remote.pump import Job, Pump
from steer_core.generation.remote.request import Wire
from steer_core.generation.remote.scoring import score_key, scoring_request, way_of
from steer_core.generation.remote.tokens import OwnTokens
from steer_core.models.gguf import cache_root
from steer_core.models.info import model_path
from steer_core.models.loading import LoadedModel
from steer_core.steering.plan import Plan
from steer_core.steering.vector import Floats, SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError

#: It holds no device of this machine.
REMOTE = True
#: Raised when the same plan is sent as another request.
VERSION = "1"


class OpenAiBackend:
    """Asks an endpoint.

    Args:
        model: a model with an endpoint.
        ledger: where attempts are kept; None: in the cache folder, one file a model.
    """

    def __init__(self, model: ModelSpec, ledger: Ledger | None = None) -> None:
        self.spec, self.model_identity = model, model.identity
        self.tokens = OwnTokens.of(model)
        self.wire = Wire(model, None if self.tokens is None else self.tokens.count)
        self._way = way_of(model)
        # for as long as the engine lives: who did not answer is not tried again for each batch of questions
        self._standing = Standing()
        currency = self.wire.prices.currency if self.wire.prices is not None else "USD"
        self.ledger = ledger or Ledger(ledger_path(model), self.wire.endpoint.max_cost, currency)

    @property
    def capabilities(self) -> Capabilities:
        """It generates, and scores where `endpoint.scores` says how; the context is the spec's."""
        return describe(self.spec)

    @property
    def execution(self) -> str:
        """Engine, its version, dialect, and what the endpoint calls the model; where it stands changes no answer."""
        return canonical_json(
            {
                "backend": "openai",
                "version": VERSION,
                "dialect": self.wire.endpoint.dialect,
                "served": self.wire.served,
            }
        )

    def weights(self) -> LoadedModel:
        """There are none.

        Raises:
            SteerworksError: always.
        """
        raise SteerworksError(
            f"model {self.spec.name!r} answers at {self.wire.address}, and its weights are not here: nothing can read "
            "its activations or train on it"
        )

    def add_vectors(self, vectors: Iterable[SteeringVector]) -> None:
        """Nothing can be done with vectors here; plans that refer to one are refused."""

    def add_tensors(self, tensors: Mapping[str, Array]) -> None:
        """Nothing can be done with tensors here; plans that refer to one are refused."""

    def add_adapters(self, adapters: Iterable[Adapter]) -> None:
        """Nothing can be done with adapters here; plans that refer to one are refused."""

    def prompt_tokens(self, plan: Plan) -> int:
        """Tokens that the plan's prompt takes: as its tokenizer counts, or bytes / 4 (a third off, either way)."""
        return self.wire.prompt_tokens(plan)

    def generate(self, calls: Iterable[Call | None], batch_size: int = BATCH_SIZE) -> Iterator[Finished]:
        """Answers as they come (`Backend.generate`); `endpoint.concurrency` limits what is under way, not `batch_size`.

        Raises:
            EndpointError: the endpoint answers nothing, or not all; what came was given before, and is kept.
            BudgetError: the next request may cost more than is left.
            SteerworksError: a plan is of another model, or cannot be said to the endpoint.
        """
        if isinstance(calls, Sequence):
            for call in calls:
                if call is not None:
                    self._check(call.plan)
        return Pump(self.wire, self.ledger, self.execution, self._standing).answers(self._checked(calls))

    def score(self, plans: Sequence[Plan], continuations: Sequence[Continuation]) -> list[list[float]]:
        """Log-probability (nats) of each token of each continuation, asked for as `endpoint.scores` says.

        Requests, attempts, retries and money are as of answers, and so is the ledger: what was scored once is not asked
        for again. A row that does not fit the model's context, or that the endpoint filters, has no numbers.

        Raises:
            EndpointError: the endpoint answers nothing, or not all, or not for the tokens that were sent; what came is
                kept.
            BudgetError: the next request may cost more than is left.
            SteerworksError: a plan is of another model, a continuation has no tokens, or the model gives no scores.
        """
        for plan in dict.fromkeys(plans):
            self._check(plan, "score")
        if not plans or self._way is None or self.tokens is None:
            return []
        execution, context, jobs, keys = self.execution, self.spec.max_context, dict[str, Job](), list[str]()
        for plan, continuation in zip(plans, continuations, strict=True):
            prompt, answer = self.tokens.encode(plan), self.tokens.spell(continuation)
            keys.append(key := score_key(execution, prompt, answer))
            # one token is written after what is scored
            if key not in jobs and (context is None or len(prompt) + len(answer) < context):
                request = scoring_request(self.wire, self._way, prompt, answer, self.tokens)
                jobs[key] = Job(key, plan.id, request)
        wanted = list(jobs)
        replies = Pump(self.wire, self.ledger, execution, self._standing).replies(jobs.values())
        found = {wanted[i]: json.loads(r.text) for i, r in replies if r.outcome == "answered"}
        return [found.get(key, []) for key in keys]

    def score_greedy(self, plans: Sequence[Plan], continuations: Sequence[Continuation]) -> list[Scored]:
        """Not from here.

        Raises:
            SteerworksError: always.
        """
        raise SteerworksError(
            f"{self.capabilities.name} backend cannot say which tokens are the likeliest; use transformers"
        )

    def embed(self, plans: Sequence[Plan], *, special: bool = False) -> list[Floats]:
        """Not from here.

        Raises:
            SteerworksError: always.
        """
        raise SteerworksError(f"{self.capabilities.name} backend cannot read hidden states of texts; use transformers")

    def diverge(
        self, plans: Sequence[Plan], continuations: Sequence[Continuation], against: Sequence[Plan] | None = None
    ) -> list[list[float]]:
        """Not from here.

        Raises:
            SteerworksError: always.
        """
        raise SteerworksError(f"{self.capabilities.name} backend cannot measure divergence; use transformers")

    def _checked(self, calls: Iterable[Call | None]) -> Iterator[Call | None]:
        for call in calls:
            if call is not None:
                self._check(call.plan)
                self.capabilities.refuse(call.plan, log_probs=call.log_probs)
            yield call

    def _check(self, plan: Plan, verb: Verb = "generate") -> None:
        if plan.model != self.model_identity:
            raise SteerworksError(
                f"a plan is of model {plan.model}, and this backend asks {self.model_identity} ({self.spec.name!r}): "
                "make the plan with `ModelSpec.identity` of the model that answers it"
            )
        self.capabilities.refuse(plan, verb)


def counter(model: ModelSpec) -> Callable[[Plan], int]:
    """Counts a plan's prompt: by the tokenizer at hand, or by its bytes (a third off, either way)."""
    tokens = OwnTokens.of(model)
    return Wire(model, None if tokens is None else tokens.count).prompt_tokens


def price(model: ModelSpec, prompt_tokens: int, new_tokens: int, calls: int) -> Money | None:
    """What so many tokens of so many calls cost at most: none is cached, and each call thinks as long as it may."""
    wire = Wire(model)
    prices, room = wire.prices, wire.endpoint.thinking_room * wire.particulars.limit_counts_thinking
    amount = cost_of(prices, prompt_tokens, new_tokens + calls * room)
    return None if prices is None or amount is None else Money(amount, prices.currency, prices.as_of)


def attempts(model: ModelSpec, response_ids: Iterable[str]) -> pl.DataFrame:
    """Rows of `attempts` for those responses, from the model's ledger."""
    ledger = Ledger(ledger_path(model))
    try:
        return ledger.attempts(response_ids)
    finally:
        ledger.close()


def ledger_path(model: ModelSpec) -> Path:
    """Where the attempts of a model are kept: `endpoints` in the cache folder, a file a model."""
    return cache_root() / "endpoints" / f"{model.identity}.sqlite"


def lacking(model: ModelSpec) -> Iterator[str]:
    """The client, the tokenizer's files, and the variables that the settings name; values are never shown."""
    if not all(importlib.util.find_spec(name) for name in ("openai", "aiolimiter")):
        yield NO_CLIENT
    wire = Wire(model)
    said = dict[str, None]()
    for wanted in (*(there.key for there in wire.everywhere()), wire.headers):
        try:
            wanted()
        except ConfigError as error:
            said[str(error)] = None
    yield from said
    if (named := wire.endpoint.tokenizer) is not None:
        try:
            path = model_path(ModelSpec(name=model.name, source=named))
        except ConfigError as error:
            yield f"`endpoint.tokenizer`: {error}"
        else:
            if path is not None and not path.exists():
                yield f"`endpoint.tokenizer`: there is no {path}: name a folder with the model's own tokenizer"


def addresses(model: ModelSpec) -> list[str]:
    """The addresses that its settings name; none where it is the dialect's own."""
    return [] if model.endpoint is None else [e.base_url for e in model.endpoint.everywhere() if e.base_url is not None]


def build(model: ModelSpec) -> OpenAiBackend:
    """The backend of a model; its client and ledger are opened, nothing is sent.

    Raises:
        ConfigError: the key or the client is missing.
    """
    backend = OpenAiBackend(model)
    for there in backend.wire.everywhere():
        there.key()
    backend.wire.headers()
    return backend


def describe(model: ModelSpec) -> Capabilities:
    """What the engine can carry out; drawn answers cannot be drawn again, but they are kept.

    Raises:
        ConfigError: it has no endpoint, a limit of money without prices, or `scores` that it cannot give.
    """
    wire = Wire(model)
    return Capabilities(
        f"openai ({wire.endpoint.dialect})",
        model.max_context,
        scores=way_of(model) is not None,
        seeds=False,
        keeps=True,
        streams=True,
        batching="remote",
    )
