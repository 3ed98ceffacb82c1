"""What is said of an endpoint that answers over the network: where it is, what it takes, what it costs."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.spec import Options, Spec

#: How endpoints differ in what they take and say; `steer_core.generation.remote.dialects` has the particulars.
Dialect = Literal[
    "openai", "azure", "openrouter", "deepinfra", "vllm", "llama.cpp", "anthropic", "cohere", "compatible"
]

#: Names of environment variables.
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"


def address(value: str) -> str:
    """An address as it is.

    Raises:
        ValueError: it is none.
    """
    if not value.startswith(("http://", "https://")):
        raise ValueError(f"{value!r} is no address: it starts with http:// or https://")
    return value


class Prices(Spec):
    """Money for a million tokens, by their kind."""

    prompt: float = Field(ge=0.0, description="A million prompt tokens")
    completion: float = Field(ge=0.0, description="A million written tokens, those of thinking included")
    cached: float | None = Field(None, ge=0.0, description="A million cached prompt tokens; null: as `prompt`")
    batch: float = Field(1.0, gt=0.0, le=1.0, description="Share of these prices that a batch API takes")
    currency: str = Field("USD", description="Currency")
    as_of: datetime.date = Field(description="The day that the prices were read")


class Replica(Spec):
    """A further address at which the same model answers; what it leaves out is as the endpoint says."""

    base_url: str = Field(description="Address up to `/v1`")
    key: str | None = Field(
        None, pattern=_VARIABLE, description="NAME of the environment variable that holds its key; null: the same key"
    )
    concurrency: int | None = Field(None, gt=0, le=4096, description="Most requests in flight there")
    requests_per_minute: float | None = Field(None, gt=0.0, description="Its rate limit")
    tokens_per_minute: float | None = Field(None, gt=0.0, description="Its rate limit of tokens")

    @model_validator(mode="before")
    @classmethod
    def _an_address_alone(cls, value: Any) -> Any:
        return {"base_url": value} if isinstance(value, str) else value

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        return address(value)


class Endpoint(Spec):
    """An endpoint that speaks OpenAI's protocol.

    `model` and `body` decide answers, and are part of the model's identity; the rest is part of nothing.
    """

    base_url: str | None = Field(None, description="Address up to `/v1`; null: the dialect's own")
    replicas: tuple[Replica, ...] = Field(
        (),
        description="Further addresses at which the same model answers: requests are spread over all of them; each an "
        "address, or a mapping with `base_url` and what differs there",
    )
    dialect: Dialect = Field("compatible", description="What it takes and says")
    key: str | None = Field(None, pattern=_VARIABLE, description="NAME of the environment variable that holds the key")
    model: str | None = Field(None, description="What the endpoint calls the model; null: the model's `source`")
    body: Options = Field(
        default_factory=dict,
        description="Further fields of every request, such as `reasoning_effort` or `chat_template_kwargs`",
    )
    leave_out: tuple[Literal["temperature", "top_p", "seed"], ...] = Field(
        (), description="Fields that the endpoint refuses; what it does without them is then its own choice"
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Further headers; secrets as `env:NAME`")
    query: dict[str, str] = Field(default_factory=dict, description="Query parameters, such as Azure's `api-version`")
    concurrency: int = Field(16, gt=0, le=4096, description="Most requests in flight; halved when it is too many")
    requests_per_minute: float | None = Field(
        None, gt=0.0, description="Rate limit; null: as the endpoint's headers say"
    )
    tokens_per_minute: float | None = Field(None, gt=0.0, description="Rate limit of prompt and allowed new tokens")
    timeout: float = Field(120.0, gt=0.0, description="Seconds until an attempt is given up")
    attempts: int = Field(10, gt=0, le=100, description="Most attempts a row; being told to wait is none")
    backoff: float = Field(0.5, ge=0.0, description="Seconds before the second attempt; doubled each time, to 30")
    patience: float = Field(900.0, gt=0.0, description="Seconds without a single answer after which a run stops")
    thinking_room: int = Field(
        0,
        ge=0,
        description="Tokens for thinking beyond an answer's `max_new_tokens`, where both count as one",
    )
    max_cost: float | None = Field(None, gt=0.0, description="Money that this model may cost in all, over all runs")
    prices: Prices | None = Field(None, description="Prices; null: those of the shipped table, where it has the model")
    tokenizer: str | None = Field(
        None, description="A folder or `package:<name>` whose tokenizer counts the prompts; null: bytes / 4"
    )
    scores: Literal["echo", "prompt_logprobs"] | None = Field(
        None,
        description="How log-probabilities of given texts are asked for at `/completions`: `echo` (OpenAI's legacy "
        "field) or `prompt_logprobs` (vLLM's); needs `tokenizer`, the model's own; null: they are not",
    )

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return value if value is None else address(value)

    @field_validator("headers")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        for name, content in value.items():
            if any(w in name.lower() for w in ("auth", "key", "token", "secret")) and not content.startswith("env:"):
                raise ValueError(
                    f"header {name!r} looks like a secret: write `env:NAME` with the name of an environment variable"
                )
        return value

    @model_validator(mode="after")
    def _whole(self) -> Endpoint:
        if self.dialect in ("azure", "compatible", "vllm", "llama.cpp") and self.base_url is None:
            raise ValueError(f"dialect {self.dialect!r} has no address of its own: set `base_url`")
        own = sorted(set(self.body) & {"model", "messages", "prompt", "stream", "n", "max_tokens", "seed"})
        if own:
            raise ValueError(f"`body` may not set {', '.join(own)}: every request has its own")
        if self.replicas and self.base_url is None:
            raise ValueError("`replicas` stand beside an address: set `base_url` as well")
        stand = [url.rstrip("/") for url in (self.base_url or "", *(r.base_url for r in self.replicas))]
        if twice := sorted({url for url in stand if stand.count(url) > 1}):
            raise ValueError(f"{', '.join(twice)} is named twice: each address once")
        return self

    def everywhere(self) -> tuple[Endpoint, ...]:
        """This endpoint at each of its addresses, with the key and the limits that it has there."""
        limits = ("key", "concurrency", "requests_per_minute", "tokens_per_minute")
        there = [
            {"base_url": r.base_url} | {n: getattr(r, n) for n in limits if getattr(r, n) is not None}
            for r in self.replicas
        ]
        return tuple(self.model_copy(update={"replicas": (), **own}) for own in ({}, *there))

    def identity(self) -> dict[str, Any]:
        """What decides answers."""
        return {"model": self.model, "body": self.body, "leave_out": sorted(self.leave_out)}


class VllmServer(Spec):
    """A vLLM: started from here, or at an address. Part of no identity: what it changes is in fingerprints."""

    mode: Literal["server", "offline"] = Field(
        "server", description="`server`: asked over HTTP; `offline`: an engine without a server, over a pipe"
    )
    address: str | None = Field(None, description="One that runs already, as `http://host:port`; null: it is started")
    python: str | None = Field(
        None,
        description="Interpreter of the environment with vLLM; null: `STEERWORKS_VLLM`, or `.venv-vllm/bin/python`",
    )
    port: int | None = Field(None, gt=0, lt=65536, description="Port; null: a free one")
    rows: int = Field(64, gt=0, le=4096, description="Most requests in a pass")
    pass_tokens: int | None = Field(None, gt=0, description="Most tokens in a pass; null: vLLM's default")
    cache_gib: float | None = Field(None, gt=0.0, description="Room for keys and values, GiB; null: 1 on a CPU")
    eager: bool = Field(True, description="No compilation")
    prefix_caching: bool = Field(True, description="Prompts that begin alike share work")
    adapter_slots: int = Field(0, ge=0, le=256, description="LoRA adapters that a pass may mix; 0: none are worn")
    adapter_rank: int = Field(16, gt=0, description="Largest rank of an adapter")
    sleeps: bool = Field(
        False, description="While another model has the device it sleeps, and is not stopped; only on a GPU"
    )
    start_timeout: float = Field(600.0, gt=0.0, description="Seconds that the start may take")
    more: tuple[str, ...] = Field((), description="Further arguments of `vllm serve`; offline, of its engine")

    @field_validator("address")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return value if value is None else address(value)

    @model_validator(mode="after")
    def _whole(self) -> VllmServer:
        own = {"mode: offline": self.mode == "offline", "sleeps": self.sleeps, "port": self.port is not None}
        if self.address is not None and (set_too := [name for name, is_set in own.items() if is_set]):
            raise ValueError(f"`{set_too[0]}` is of one that is started from here, and `address` names one that runs")
        if self.mode == "offline" and self.port is not None:
            raise ValueError("`port` is of a server, and `mode: offline` starts none")
        return self
