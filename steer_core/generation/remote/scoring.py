"""Log-probabilities of given texts from an endpoint.

1. Prompt and continuation go there as token ids, so the boundary between them is ours.
2. What comes back is held against what was sent: as many tokens, the same ids where they are said, the same words where
   both sides spell them in ASCII. Anything else stops the run: numbers of other tokens would look like numbers.
3. One token is written after them, since some servers take a limit of 0 for none at all; it is left aside, and paid.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from schemas.digest import digest_json
from schemas.specs import ModelSpec
from steer_core.generation.remote.dialects import DIALECTS, Way
from steer_core.generation.remote.request import Request, Said, Wire
from steer_core.generation.remote.tokens import OwnTokens
from steer_core.tables.errors import ConfigError, SteerworksError

#: What tokenizers of byte pairs and of SentencePiece write for a blank.
_BLANKS = ("Ġ", "▁")
_OTHER_TOKENIZER = "`endpoint.tokenizer` is not the tokenizer of the model that answers there: name the model's own"
_NONE_GIVEN = "the endpoint gives no log-probabilities of prompts in this way: set another `endpoint.scores`, or none"


def way_of(model: ModelSpec) -> Way | None:
    """How a model's endpoint is asked for log-probabilities; None where it is not.

    Raises:
        ConfigError: its dialect has no such way, or nothing says which tokenizer the model has.
    """
    said = model.endpoint
    if said is None or said.scores is None:
        return None
    if said.scores not in (known := DIALECTS[said.dialect].scores):
        instead = f"it has: {', '.join(known)}" if known else "it gives none of given texts, so leave `scores` out"
        raise ConfigError(f"model {model.name!r}: dialect {said.dialect!r} has no `scores: {said.scores}`; {instead}")
    if OwnTokens.of(model) is None:
        raise ConfigError(
            f"model {model.name!r} has `scores`, and nobody knows its tokens: name its own tokenizer in "
            "`endpoint.tokenizer` (a folder, or `package:<name>`)"
        )
    return said.scores


def score_key(execution: str, prompt: Sequence[int], answer: Sequence[int]) -> str:
    """What the log-probabilities of an answer after a prompt are kept under."""
    return digest_json(["score", execution, list(prompt), list(answer)])


def scoring_request(wire: Wire, way: Way, prompt: Sequence[int], answer: Sequence[int], tokens: OwnTokens) -> Request:
    """The request for the log-probability of each token of an answer after a prompt.

    Args:
        wire: of the model.
        way: how to ask.
        prompt: token ids.
        answer: token ids, at least one.
        tokens: the model's own.

    Raises:
        SteerworksError: the prompt has no tokens.
    """
    if not prompt:
        raise SteerworksError("the prompt has no tokens: nothing says how likely the first token of a text is")
    whole = [*prompt, *answer]
    asked = {"prompt_logprobs": 0} if way == "prompt_logprobs" else {"echo": True, "logprobs": 1}
    body: dict[str, Any] = {"model": wire.served, "prompt": whole, "max_tokens": 1, "temperature": 0, **asked}
    if wire.particulars.token_ids:
        body["return_token_ids"] = True
    for name in wire.endpoint.leave_out:
        body.pop(name, None)
    # the template has been applied here
    further = {k: v for k, v in wire.endpoint.body.items() if k != "chat_template_kwargs"}
    reader = partial(read_scores, way=way, whole=whole, answer=len(answer), tokenizer=tokens.tokenizer)
    return Request("/completions", body | {**wire.particulars.usage, **further}, len(whole), 1, reader)


def read_scores(choice: Mapping[str, Any], *, way: Way, whole: Sequence[int], answer: int, tokenizer: Any) -> Said:
    """The log-probabilities (nats) of the last tokens of what was sent, as JSON; a fault where they are not of those.

    Args:
        choice: of the reply.
        way: how it was asked.
        whole: token ids that were sent.
        answer: how many of the last are wanted.
        tokenizer: the model's own.
    """
    held = choice.get("prompt_logprobs") if way == "prompt_logprobs" else choice.get("logprobs")
    if held is None:
        return Said("garbage", "", fault="the reply has no log-probabilities", advice=_NONE_GIVEN)
    numbers, words, ids = _as_listed(held, whole) if way == "prompt_logprobs" else _as_echoed(held)
    ids = choice.get("prompt_token_ids") or ids
    if (other := _other(numbers, words, ids, whole, tokenizer, int(way == "echo"))) is not None:
        said = f"the tokens that came back are not those sent: {other}"
        return Said("garbage", "", fault=said, advice=_OTHER_TOKENIZER)
    scores = [_number(numbers[k]) for k in range(len(whole) - answer, len(whole))]
    return Said("answered", json.dumps(scores))


def _as_listed(held: Any, whole: Sequence[int]) -> tuple[list[Any], list[str | None], list[int] | None]:
    """Numbers, words and ids of vLLM's form: of each token a mapping from id, the likeliest ones beside its own."""
    numbers: list[Any] = []
    words: list[str | None] = []
    for k, entry in enumerate(held):
        own = (entry or {}).get(str(whole[k])) if k < len(whole) else None
        if entry and own is None:
            # its numbers are of another token
            return numbers, words, [*whole[:k], int(next(iter(entry)))]
        numbers.append(None if own is None else own["logprob"])
        words.append(None if own is None else own.get("decoded_token"))
    return numbers, words, None


def _as_echoed(held: Mapping[str, Any]) -> tuple[list[Any], list[str | None], list[int] | None]:
    """Numbers and words of OpenAI's form: lists beside each other, of the prompt's tokens and then the one written."""
    return list(held["token_logprobs"]), list(held["tokens"]), None


def _other(
    numbers: Sequence[Any],
    words: Sequence[str | None],
    ids: Sequence[int] | None,
    whole: Sequence[int],
    tokenizer: Any,
    written: int,
) -> str | None:
    """In what the tokens that came back, and those written after them, are not those sent; None: nothing says so."""
    if ids is not None and list(ids) != list(whole):
        first = next((k for k, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), min(len(ids), len(whole)))
        return f"token {first} of {len(whole)} has another id"
    if len(words) != len(numbers) or len(numbers) - len(whole) not in (0, written):
        return f"{len(numbers)} came back, and {len(whole)} were sent"
    for k, (word, token) in enumerate(zip(words, whole, strict=False)):
        own = tokenizer.decode([token])
        if word is not None and not _alike(word, own):
            return f"token {k} of {len(whole)} is {word!r} there and {own!r} here"
    return None


def _alike(theirs: str, own: str) -> bool:
    """Whether two spellings may be of one token; what is not ASCII is written in too many ways to tell."""
    for blank in _BLANKS:
        theirs, own = theirs.replace(blank, " "), own.replace(blank, " ")
    theirs, own = theirs.strip(), own.strip()
    told = theirs and own and theirs.isascii() and own.isascii() and not theirs.startswith(("bytes:", "<0x"))
    return theirs == own if told else True


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number > 1e-3:
        raise ValueError(f"{number} is no log-probability")
    return number
