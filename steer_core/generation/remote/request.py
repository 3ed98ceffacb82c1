"""A plan as a request of OpenAI's protocol, and a reply as what is kept of it."""

from __future__ import annotations

import copy
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from schemas.endpoints import Endpoint
from schemas.specs import ModelSpec
from steer_core.generation.backend import Call, Draft, Generation
from steer_core.generation.remote.dialects import DIALECTS, Particulars
from steer_core.generation.remote.faults import Fault, fault_of_status
from steer_core.generation.remote.ledger import Outcome, Reply
from steer_core.generation.remote.prices import cost_of, prices_of
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError, SteerworksError

#: Bytes of a token, where no tokenizer counts: English has 4 to 5, code 3, other scripts 1 to 3.
BYTES = 4.0
#: The same for money that is set aside: no text in a living language has fewer.
FEWEST_BYTES = 2.0
#: Tokens that a chat template puts around a message.
AROUND = 6


@dataclass(frozen=True)
class Said:
    """What the first choice of a reply says.

    Attributes:
        outcome: in a word.
        text: what is kept of it.
        thinking: what was thought, where it is said apart.
        fault: why it is no answer to what was asked, where asking again cannot help; empty where it is one.
        advice: for a person, beside a fault.
    """

    outcome: Outcome
    text: str
    thinking: str = ""
    fault: str = ""
    advice: str = ""


#: Reads the first choice of a reply; a ValueError or KeyError says that it is another JSON than expected.
Reader = Callable[[Mapping[str, Any]], Said]


@dataclass(frozen=True)
class Request:
    """What is sent.

    Attributes:
        path: below the endpoint's address.
        body: the JSON.
        most_prompt: tokens that its prompt has at most, for money that is set aside.
        most_new: tokens that may be written.
        reader: reads the reply's choice; None: as an answer.
        draft: told the answer while it is written; None: it comes whole.
    """

    path: Literal["/chat/completions", "/completions"]
    body: dict[str, Any]
    most_prompt: int
    most_new: int
    reader: Reader | None = None
    draft: Draft | None = None


class Wire:
    """Requests and replies of one model.

    Args:
        model: a model with an endpoint.
        count: tokens of a plan's prompt; None: by bytes.

    Attributes:
        endpoint: where it answers.
        particulars: of its dialect.
        served: what the endpoint calls the model.
        prices: for a million tokens; None where they are not known.

    Raises:
        ConfigError: it has no endpoint, or a limit of money without prices.
    """

    def __init__(self, model: ModelSpec, count: Callable[[Plan], int] | None = None) -> None:
        if model.endpoint is None:
            raise ConfigError(f"model {model.name!r} has no `endpoint`: where does it answer?")
        self.endpoint: Endpoint = model.endpoint
        self.particulars: Particulars = DIALECTS[model.endpoint.dialect]
        self.served = model.endpoint.model or model.source.removeprefix("served:")
        self.prices = prices_of(model.endpoint, self.served)
        self._count, self._template = count, model.template_options
        if model.endpoint.max_cost is not None and self.prices is None:
            raise ConfigError(
                f"model {model.name!r} has `max_cost`, and nobody knows what {self.served!r} costs: set `prices`"
            )

    @property
    def address(self) -> str:
        """The address up to `/v1`."""
        return (self.endpoint.base_url or self.particulars.base_url or "").rstrip("/")

    @property
    def shown(self) -> str:
        """The address as it may be kept: without a name and password that stand in it."""
        scheme, _, rest = self.address.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"

    def everywhere(self) -> tuple[Wire, ...]:
        """The same requests and replies at each address of the model."""
        return tuple(copy.copy(self)._at(there) for there in self.endpoint.everywhere())

    def _at(self, endpoint: Endpoint) -> Wire:
        self.endpoint = endpoint
        return self

    def key(self) -> str | None:
        """The key, from the environment; None where the endpoint wants none.

        Raises:
            ConfigError: the variable is not set.
        """
        return None if self.endpoint.key is None else from_environment(self.endpoint.key, "`endpoint.key`")

    def headers(self) -> dict[str, str]:
        """Further headers, secrets filled in.

        Raises:
            ConfigError: a variable is not set.
        """
        return {
            name: from_environment(value[4:], f"header {name!r}") if value.startswith("env:") else value
            for name, value in self.endpoint.headers.items()
        }

    def prompt_tokens(self, plan: Plan, bytes_a_token: float = BYTES) -> int:
        """Tokens of a plan's prompt: as the tokenizer counts them, or by its bytes."""
        if self._count is not None:
            return self._count(plan)
        if plan.tokens is not None:
            return len(plan.tokens)
        if plan.text is not None:
            return math.ceil(len(plan.text.encode()) / bytes_a_token)
        messages = plan.messages or ()
        return sum(AROUND + math.ceil(len(m.content.encode()) / bytes_a_token) for m in messages)

    def request(self, call: Call) -> Request:
        """What is sent for a call.

        Raises:
            SteerworksError: the dialect cannot say it.
        """
        plan, said, own = call.plan, self.endpoint, self.particulars
        decoding = plan.decoding
        room = decoding.max_new_tokens + (said.thinking_room if own.limit_counts_thinking else 0)
        body: dict[str, Any] = {"model": self.served, own.limit: room}
        if decoding.temperature > own.hottest:
            raise SteerworksError(
                f"dialect {said.dialect!r} draws at a temperature of {own.hottest:g} at most, and the plan asks for "
                f"{decoding.temperature:g}"
            )
        body["temperature"] = decoding.temperature
        if decoding.temperature > 0:
            body["top_p"] = decoding.top_p
            if own.seed:
                body["seed"] = call.seed % 2**63
            if decoding.min_p > 0:
                if not own.min_p:
                    raise SteerworksError(f"dialect {said.dialect!r} takes no `min_p`, which the plan asks for: use 0")
                body["min_p"] = decoding.min_p
        for name in said.leave_out:
            body.pop(name, None)
        path: Literal["/chat/completions", "/completions"] = "/chat/completions"
        if plan.messages is not None:
            body["messages"] = [{"role": m.role, "content": m.content} for m in plan.messages]
            if self._template:
                body["chat_template_kwargs"] = dict(self._template)
        elif own.text:
            path = "/completions"
            body["prompt"] = plan.text if plan.text is not None else list(plan.tokens or ())
        else:
            raise SteerworksError(
                f"dialect {said.dialect!r} answers conversations, and the plan is a bare text: use a chat model's "
                "prompt, or a dialect that completes texts (vllm, llama.cpp, deepinfra)"
            )
        body |= {**own.usage, **said.body}
        return Request(path, body, self.prompt_tokens(plan, FEWEST_BYTES), room, draft=call.draft)

    def reserve(self, request: Request, *, batch: bool = False) -> float:
        """Money that a request costs at most; 0 where prices are not known."""
        return cost_of(self.prices, request.most_prompt, request.most_new, batch=batch) or 0.0

    def read(
        self,
        status: int,
        text: str,
        headers: Mapping[str, str],
        *,
        batch: bool = False,
        reader: Reader | None = None,
    ) -> Reply | Fault:
        """What a reply says.

        Args:
            status: of HTTP.
            text: the body.
            headers: of the reply.
            batch: whether it came through a batch API, at its price.
            reader: `Request.reader` of what it replies to.
        """
        key = os.environ.get(self.endpoint.key or "")
        try:
            body = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            if status >= 400:
                return fault_of_status(status, text, headers, key)
            said = "a web page" if text.lstrip().startswith("<") else "no JSON"
            return Fault(Reply("garbage", status=status, detail=f"HTTP {status} with {said}: {text[:80]!r}"), "again")
        if status >= 400:
            return fault_of_status(status, body, headers, key)
        if isinstance(body, dict) and body.get("error"):
            code = body["error"].get("code") if isinstance(body["error"], dict) else None
            inside = int(str(code)) if re.fullmatch("[45][0-9][0-9]", str(code)) else 500
            return fault_of_status(inside, body, headers, key)
        try:
            return self._reply(body, batch, status, reader or self._answer)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            detail = f"HTTP {status} with another JSON than expected ({type(error).__name__}: {error}): {text[:120]}"
            return Fault(Reply("garbage", status=status, detail=detail), "again")

    def _answer(self, choice: Mapping[str, Any]) -> Said:
        message = choice.get("message") or {"content": choice.get("text")}
        thought = next((str(message[k]) for k in self.particulars.thinking if message.get(k)), "")
        refusal = message.get("refusal")
        text = message.get("content")
        if isinstance(text, list):
            text = "".join(str(part.get("text") or "") for part in text)
        text = str(refusal if refusal and not text else text or "")
        reason = choice.get("finish_reason")
        if reason is None:
            raise ValueError("no finish_reason")
        outcome: Outcome = "answered"
        if reason == "content_filter":
            outcome = "filtered"
        elif refusal or reason == "refusal":
            outcome = "refused"
        elif reason in ("length", "max_tokens"):
            outcome = "truncated"
        elif not text.strip():
            outcome = "empty"
        return Said(outcome, text, thought)

    def _reply(self, body: Mapping[str, Any], batch: bool, status: int, reader: Reader) -> Reply | Fault:
        said = reader(body["choices"][0])
        usage = body.get("usage") or {}
        prompt = int(usage.get("prompt_tokens") or 0)
        written = int(usage.get("completion_tokens") or 0)
        cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        reasoning = int((usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0)
        cost = usage.get("cost")
        # without tokens nobody knows the cost, and all that was set aside is taken
        priced = cost_of(self.prices, prompt, written, cached, batch=batch) if usage else None
        reply = Reply(
            said.outcome,
            text=said.text,
            thinking=said.thinking,
            prompt_tokens=prompt,
            cached_tokens=min(cached, prompt),
            completion_tokens=written,
            reasoning_tokens=min(reasoning, written),
            cost=priced if cost is None else float(cost),
            status=status,
            request_id=str(body.get("id") or ""),
        )
        return Fault(replace(reply, detail=said.fault), "stop", advice=said.advice) if said.fault else reply


def generation_of(reply: Reply) -> Generation:
    """What came back for a call, as every engine says it."""
    finish: Literal["stop", "length", "overlong", "refused", "filtered"] = "stop"
    if reply.outcome == "truncated":
        finish = "length"
    elif reply.outcome in ("overlong", "refused", "filtered"):
        finish = reply.outcome
    return Generation(reply.text, finish, reply.prompt_tokens, reply.completion_tokens, reply.seconds)


def timed(found: Reply | Fault, seconds: float) -> Reply | Fault:
    """The same, with how long it took."""
    if isinstance(found, Fault):
        return replace(found, reply=replace(found.reply, seconds=seconds))
    return replace(found, seconds=seconds)


def from_environment(name: str, what: str) -> str:
    """A secret, from the environment variable of that name.

    Raises:
        ConfigError: it is not set.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"{what} names the environment variable {name}, which is not set: export it, and run again")
    return value
