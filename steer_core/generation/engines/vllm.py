"""The engine that asks vLLM: started here in an environment of its own, with a server or without, or there already.

Prompts are rendered and tokenised here, so that every engine reads the same tokens; answers come back as tokens.
Steering is carried out by the worker in `generation.vllm_worker`, and what it did is checked answer by answer, like the
hooks'.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from schemas.digest import canonical_json
from schemas.endpoints import VllmServer
from schemas.specs import ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import BATCH_SIZE, Call, Capabilities, Continuation, Finished, Scored, Verb
from steer_core.generation.decoding import Array
from steer_core.generation.engines._vllm_settings import (
    address,
    describe,
    device_is_gpu,
    interpreter,
    lacking,
    remote,
)
from steer_core.generation.marks import Writer
from steer_core.generation.prompt_tokens import encode_answer, encode_plan
from steer_core.generation.servers.adapters import ServerAdapters
from steer_core.generation.servers.completions import Completions, Prepared
from steer_core.generation.servers.process import refuse_sleep
from steer_core.generation.servers.room import VllmEnvironment, find_vllm, package_digest
from steer_core.generation.servers.running import Running
from steer_core.generation.servers.scored import scored
from steer_core.generation.servers.server import Server
from steer_core.generation.servers.starting import memory_to_spare, start
from steer_core.models.info import describe_model
from steer_core.models.loading import LoadedModel, fingerprint_of, load_model, load_tokenizer, ready_folder
from steer_core.steering.plan import Plan
from steer_core.steering.vector import Floats, SteeringVector
from steer_core.tables.errors import SteerworksError

__all__ = ["VllmBackend", "address", "build", "describe", "lacking", "remote"]


class VllmBackend:
    """Runs plans on a vLLM; it is started when it is first needed.

    Args:
        model: the model.
        server: one that runs; None: as the model's settings say.
    """

    def __init__(self, model: ModelSpec, server: Running | None = None) -> None:
        self.spec, self.model_identity = model, model.identity
        self.settings = model.vllm or VllmServer()
        self.tokenizer = load_tokenizer(model)
        self.info = describe_model(model)
        self.fingerprint = fingerprint_of(model)
        self._server = server
        self._vectors: dict[str, SteeringVector] = {}
        self._uploaded: set[str] = set()
        self._adapters = ServerAdapters(model, self.settings)
        self._weights: LoadedModel | None = None
        self._asleep = False
        self._write = Writer(self.tokenizer)
        self._chat = self.info.chat if self.info.chat is not None else bool(self.tokenizer.chat_template)

    @property
    def capabilities(self) -> Capabilities:
        """It generates and scores, steered as the worker can."""
        return describe(self.spec)

    @cached_property
    def _environment(self) -> VllmEnvironment:
        return find_vllm(interpreter(self.settings))

    @property
    def execution(self) -> str:
        """VLLM's version, parameter type, the model's fingerprint, the worker's code, and further arguments."""
        version = "attached" if self.settings.address is not None else self._environment.version
        return canonical_json(
            {
                "backend": "vllm",
                "vllm": version,
                "dtype": self.spec.dtype,
                "model": self.fingerprint,
                "worker": package_digest(),
                **({"more": list(self.settings.more)} if self.settings.more else {}),
            }
        )

    @property
    def server(self) -> Running:
        """The server, started where it does not run yet, and woken where it sleeps.

        Raises:
            SteerworksError: it does not start or wake; says why and what to do.
        """
        if self._server is None:
            self._server = self._started()
        elif self._asleep:
            self._server.wake()
            self._asleep = False
            if self._server.holds() < len(self._uploaded):
                # it slept deeper than it was told to
                self._uploaded = set()
        return self._server

    def _started(self) -> Running:
        if self.settings.address is not None:
            return Server.attach(self.settings.address)
        return start(self.spec, self.info.max_context, self._environment.python)

    def close(self) -> None:
        """Stop the server, if it was started here."""
        if self._server is not None:
            self._server.stop()
        self._server, self._uploaded = None, set()
        self._adapters.forget()
        self._asleep = False

    def rest(self) -> bool:
        """Leave the device to another model until this one is asked again.

        Returns:
            Whether it can: what runs elsewhere, sleeps, or is on a CPU with memory to spare. False: close it.

        Raises:
            SteerworksError: it was told to sleep, and does not.
        """
        self._weights = None
        if self._server is None or self.settings.address is not None:
            return True
        if self.settings.sleeps:
            if not self._asleep:
                self._server.sleep()
                self._asleep = True
            return True
        # an idle one takes no time of a processor, and a start takes half a minute
        return not device_is_gpu(self.spec) and memory_to_spare()

    def weights(self) -> LoadedModel:
        """The same model in this process, for what reads its activations.

        On a CPU it is a second copy beside the server; on a GPU the server sleeps meanwhile, or is stopped, until it is
        next asked.

        Raises:
            SteerworksError: it cannot be loaded.
        """
        if self._weights is None:
            if device_is_gpu(self.spec) and not self.rest():
                self.close()
            self._weights = load_model(self.spec)
        return self._weights

    def _ready(self) -> Running:
        """The server, with all vectors and adapters that were handed in."""
        if self._weights is not None and self._weights.device.startswith("cuda"):
            # policy and readers take turns on one device
            self._weights = None
            import torch

            torch.cuda.empty_cache()
        server = self.server
        if new := [v for k, v in self._vectors.items() if k not in self._uploaded]:
            server.upload(new)
            self._uploaded |= {v.id for v in new}
        self._adapters.load(server)
        return server

    def served_adapter(self, name: str) -> Adapter:
        """An adapter that the server at `vllm.address` lists for this model (`ServerAdapters.listed`)."""
        return self._adapters.listed(self.server, name)

    def served_adapters(self) -> list[Adapter]:
        """All adapters that the server at `vllm.address` lists (`ServerAdapters.all_listed`)."""
        return self._adapters.all_listed(self.server)

    def add_vectors(self, vectors: Iterable[SteeringVector]) -> None:
        """Let plans refer to further vectors, by id.

        Raises:
            SteerworksError: a vector was fitted on another model; none of them is added.
        """
        new = list(vectors)
        for vector in new:
            if vector.model != self.fingerprint:
                raise SteerworksError(
                    f"the vector of {vector.concept!r} at layer {vector.layer} was fitted on model {vector.model}, and "
                    f"this is {self.fingerprint}: fit it on this model, or transfer it"
                )
        self._vectors |= {v.id: v for v in new}

    def add_tensors(self, tensors: Mapping[str, Array]) -> None:
        """Nothing can be done with tensors here; plans that refer to one are refused."""

    def add_adapters(self, adapters: Iterable[Adapter]) -> None:
        """Let plans refer to further LoRA adapters, by digest."""
        self._adapters.add(adapters)

    def encode(self, plan: Plan) -> list[int]:
        """Token ids of a plan's prompt."""
        return encode_plan(plan, self.tokenizer, self._chat, self.spec.template_options)

    def prompt_tokens(self, plan: Plan) -> int:
        """Tokens that the plan's prompt takes."""
        return len(self.encode(plan))

    def generate(self, calls: Iterable[Call | None], batch_size: int = BATCH_SIZE) -> Iterator[Finished]:
        """Answers as they come (`Backend.generate`); the server is given `vllm.rows` at a time.

        Raises:
            SteerworksError: a plan is of another model or cannot be executed (of a list, nothing has run then), the
                server does not answer, or a receipt does not add up.
        """
        if isinstance(calls, Sequence):
            self._check([c.plan for c in calls if c is not None], "generate")
        answers = Completions(
            self._ready, self.spec.name, self.settings.rows, self._ends, self._write, self._adapters.named
        )
        return answers.of(self._prepared(calls))

    def _prepared(self, source: Iterable[Call | None]) -> Iterator[Prepared | None]:
        for call in source:
            if call is None:
                yield None
                continue
            self._check([call.plan], "generate")
            self.capabilities.refuse(call.plan, log_probs=call.log_probs)
            tokens = self.encode(call.plan)
            yield Prepared(call, tokens, self._room(call.plan, len(tokens)))

    @cached_property
    def _ends(self) -> frozenset[int]:
        folder = ready_folder(self.spec)
        configured: Any = None
        file = None if folder is None else folder / "generation_config.json"
        if file is None or not file.is_file():
            file = None if folder is None else folder / "config.json"
        if file is not None and file.is_file():
            configured = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(int(i) for i in [*ids, self.tokenizer.eos_token_id] if i is not None)

    def _room(self, plan: Plan, prompt_tokens: int) -> int:
        wanted, context = plan.decoding.max_new_tokens, self.info.max_context
        return wanted if context is None else min(wanted, context - prompt_tokens)

    def score(self, plans: Sequence[Plan], continuations: Sequence[Continuation]) -> list[list[float]]:
        """Log-probability (nats) of each token of each continuation, from the server's log-probabilities of prompts.

        A row that does not fit the model's context has no numbers.

        Raises:
            ValueError: a continuation has no tokens.
            SteerworksError: an intervention cannot be applied, or a receipt does not add up.
        """
        self._check(plans, "score")
        prompts = [self.encode(p) for p in plans]
        answers = [encode_answer(c, self.tokenizer) for c in continuations]
        for i, answer in enumerate(answers):
            if not answer:
                raise ValueError(f"continuation {i} has no tokens: nothing to score")
        server = self._ready()
        context = self.info.max_context
        rows = [
            (p.interventions, p.adapter, tuple(q), tuple(a)) for p, q, a in zip(plans, prompts, answers, strict=True)
        ]
        # one token is written after what is scored
        distinct = [r for r in dict.fromkeys(rows) if context is None or len(r[2]) + len(r[3]) < context]
        with ThreadPoolExecutor(self.settings.rows) as pool:
            found = pool.map(lambda r: scored(server, self._asked_as(r[1]), r[0], *r[2:]), distinct)
            numbers = dict(zip(distinct, found, strict=True))
        return [numbers.get(r, []) for r in rows]

    def _asked_as(self, adapter: str | None) -> str:
        """What the server calls the model under an adapter, or without one."""
        return self.spec.name if adapter is None else self._adapters.named(adapter)

    def score_greedy(self, plans: Sequence[Plan], continuations: Sequence[Continuation]) -> list[Scored]:
        """Not from here.

        Raises:
            SteerworksError: always.
        """
        raise SteerworksError("vllm backend cannot say which tokens are the likeliest; use transformers")

    def embed(self, plans: Sequence[Plan], *, special: bool = False) -> list[Floats]:
        """Not from here.

        Raises:
            SteerworksError: always.
        """
        raise SteerworksError("vllm backend cannot read hidden states of texts; use transformers")

    def diverge(
        self, plans: Sequence[Plan], continuations: Sequence[Continuation], against: Sequence[Plan] | None = None
    ) -> list[list[float]]:
        """Not from here: the server gives the likeliest tokens, and the divergence needs all.

        Raises:
            SteerworksError: always.
        """
        raise SteerworksError("vllm backend cannot measure divergence from unsteered; use transformers")

    def _check(self, plans: Sequence[Plan], verb: Verb) -> None:
        capabilities = self.capabilities
        for plan in dict.fromkeys(plans):
            if plan.model != self.model_identity:
                raise SteerworksError(
                    f"a plan is of model {plan.model}, and this backend runs {self.model_identity} "
                    f"({self.spec.name!r}): make the plan with `ModelSpec.identity` of the model that answers it"
                )
            capabilities.refuse(plan, verb)
            if missing := [i.vector for i in plan.interventions if i.vector not in self._vectors]:
                raise SteerworksError(f"vector {missing[0]} is not known here: hand it in first (`add_vectors`)")
            if plan.adapter is not None and plan.adapter not in self._adapters.known:
                raise SteerworksError(f"adapter {plan.adapter} is not known here: hand it in first (`add_adapters`)")


def build(model: ModelSpec) -> VllmBackend:
    """The backend of a model; the server is started when it is first needed.

    Raises:
        ConfigError: no environment with vLLM, one that cannot sleep where it should, or the model's files cannot be
            found.
    """
    backend = VllmBackend(model)
    if backend.settings.address is None:
        _ = backend.execution
        if backend.settings.sleeps:
            refuse_sleep(backend._environment)
    return backend
