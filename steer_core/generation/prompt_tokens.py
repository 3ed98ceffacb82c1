"""From a plan to token ids; needs a tokenizer and no weights.

What a template does to a conversation is looked at, not assumed. Its form is found once, by rendering marked words:

* content is a text, or a list of parts, whichever the template shows;
* a system message stands as one, or where the template refuses or drops it, is set before the first user's turn, a
  blank line between;
* the date that some templates write is pinned, so that a plan has the same tokens on every day.

Then every message of a plan must be found in its rendering, or the plan is refused: words that never reach the model
would be reported as if they had.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.digest import canonical_json
from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

#: The day that templates are told it is.
TODAY = datetime.datetime(2025, 1, 1)
#: Words that stand in no template.
_SYSTEM, _USER, _ANSWER = "qzsystemqz", "qzuserqz", "qzanswerqz"


@dataclass(frozen=True)
class Form:
    """How a template takes a conversation.

    Attributes:
        parts: whether content is a list of parts.
        system: whether it shows a system message; where not, it is set before the first user's turn.
    """

    parts: bool = False
    system: bool = True


_FORMS: dict[tuple[str, str], Form] = {}


def form_of(tokenizer: Any, options: Mapping[str, Any]) -> Form:
    """How a tokenizer's template takes a conversation, found by rendering one.

    Args:
        tokenizer: a `transformers` tokenizer with a chat template.
        options: arguments of the template.

    Raises:
        SteerworksError: it renders no conversation with a user's turn; says what the template said.
    """
    key = (str(tokenizer.chat_template), canonical_json(dict(options)))
    if key not in _FORMS:
        _FORMS[key] = _found_form(tokenizer, options)
    return _FORMS[key]


def _found_form(tokenizer: Any, options: Mapping[str, Any]) -> Form:
    asked = (Message("system", _SYSTEM), Message("user", _USER))
    said = ""
    for form in (Form(), Form(system=False), Form(parts=True), Form(parts=True, system=False)):
        try:
            text = _rendered(asked, tokenizer, options, form)
        except Exception as error:  # a template may raise anything: jinja2 errors, its own, type errors
            said = said or (str(error).splitlines() or [type(error).__name__])[0]
            continue
        if _SYSTEM in text and _USER in text:
            return form
    raise SteerworksError(
        f"the chat template of this tokenizer ({type(tokenizer).__name__}) renders no conversation of a system message "
        f"and a user's turn: {said or 'their words do not appear in what it writes'}. Set `chat: false`, mend the "
        "template, or pass what it needs in `template_options`"
    )


def _rendered(messages: Sequence[Message], tokenizer: Any, options: Mapping[str, Any], form: Form) -> str:
    turns = [
        {"role": m.role, "content": [{"type": "text", "text": m.content}] if form.parts else m.content}
        for m in (messages if form.system else _merged(messages))
    ]
    told = {"strftime_now": TODAY.strftime, "add_generation_prompt": True, **options}
    return str(tokenizer.apply_chat_template(turns, tokenize=False, **told))


def _merged(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The turns with system messages before the first user's turn."""
    system = [m.content for m in messages if m.role == "system"]
    rest = [m for m in messages if m.role != "system"]
    if not system:
        return tuple(rest)
    first = next((k for k, m in enumerate(rest) if m.role == "user"), None)
    if first is None:
        return (Message("user", "\n\n".join(system)), *rest)
    rest[first] = Message("user", "\n\n".join([*system, rest[first].content]))
    return tuple(rest)


def encode_plan(plan: Plan, tokenizer: Any, chat: bool, template_options: Mapping[str, Any]) -> list[int]:
    """Token ids of a plan's prompt.

    Without a chat template the turns are set one below the other, a blank line between them. A token that ends texts is
    never left at a prompt's end: what follows an end is no answer.

    Args:
        plan: what is asked.
        tokenizer: a `transformers` tokenizer.
        chat: whether messages go through its chat template.
        template_options: arguments of the template.

    Raises:
        SteerworksError: the template renders no conversation, or leaves a message of this one out.
    """
    if plan.tokens is not None:
        return list(plan.tokens)
    if plan.text is not None:
        return _open_ended(plan.text, tokenizer)
    assert plan.messages is not None
    if not chat:
        return _open_ended("\n\n".join(m.content for m in plan.messages) + "\n\n", tokenizer)
    text = render(plan.messages, tokenizer, template_options)
    for message in plan.messages:
        # a template may drop the thinking of earlier answers, and trims
        if message.role != "assistant" and message.content.strip() not in text:
            raise SteerworksError(
                f"the chat template leaves out a {message.role} message, or changes its words: "
                f"{message.content.strip()[:60]!r} is not in the prompt, so the model would never see it"
            )
    # the template has written the special tokens already
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def render(messages: Sequence[Message], tokenizer: Any, options: Mapping[str, Any], *, open_turn: bool = False) -> str:
    """A conversation as the chat template writes it, up to where the model's answer begins.

    Args:
        messages: the turns.
        tokenizer: a `transformers` tokenizer with a chat template.
        options: arguments of the template.
        open_turn: whether the last turn is left open instead, so that it goes on.

    Raises:
        SteerworksError: the template renders no conversation with a user's turn, or not this one.
    """
    form = form_of(tokenizer, options)
    further = {"add_generation_prompt": False, "continue_final_message": True} if open_turn else {}
    try:
        return _rendered(messages, tokenizer, {**options, **further}, form)
    except Exception as error:  # a template may raise anything
        raise SteerworksError(
            f"the chat template cannot render a conversation of {', '.join(m.role for m in messages)}: {error}"
        ) from error


def encode_answer(answer: str | Sequence[int], tokenizer: Any) -> list[int]:
    """Token ids of an answer that is given: of a text, spelt by itself; ids stay as they are."""
    if isinstance(answer, str):
        return list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    return list(answer)


def begun(prompt: Sequence[int], tokenizer: Any) -> list[int]:
    """The token ids that a text is scored after: its prompt, or where that is empty, what begins a text.

    That is the tokenizer's BOS, or its EOS where it has none (GPT-2 and its kin were trained on texts behind one).

    Raises:
        SteerworksError: the prompt is empty, and the tokenizer has neither.
    """
    if prompt:
        return list(prompt)
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise SteerworksError(
        f"an empty prompt cannot be scored after: this tokenizer ({type(tokenizer).__name__}) has no token that begins "
        "or ends a text, so nothing says how likely a first token is; give the plan a text"
    )


def spelled(continuations: Sequence[str | Sequence[int]], tokenizer: Any) -> list[list[int]]:
    """Token ids of continuations, each by itself and without special tokens.

    Raises:
        ValueError: some have no tokens; says which.
    """
    ids = [encode_answer(c, tokenizer) for c in continuations]
    if empty := [str(i) for i, own in enumerate(ids) if not own]:
        which = f"continuation {empty[0]} has" if len(empty) == 1 else f"continuations {', '.join(empty)} have"
        raise ValueError(f"{which} no tokens: nothing to score")
    return ids


def end_of_turn(tokenizer: Any, chat: bool | None, template_options: Mapping[str, Any], ends: Set[int]) -> int:
    """The token that ends an answer: where a template writes one behind an answer, that one.

    Args:
        tokenizer: a `transformers` tokenizer.
        chat: whether messages go through its chat template; None: where it has one.
        template_options: arguments of the template.
        ends: ids of all tokens that end what the model writes.

    Raises:
        SteerworksError: it has no such token.
    """
    if chat or (chat is None and tokenizer.chat_template):
        turns = (Message("user", _USER), Message("assistant", _ANSWER))
        text = _rendered(turns, tokenizer, template_options, form_of(tokenizer, template_options))
        behind = text.rpartition(_ANSWER)[2]
        for token in tokenizer(behind, add_special_tokens=False)["input_ids"]:
            if token in ends:
                return int(token)
    if tokenizer.eos_token_id is None:
        raise SteerworksError("the tokenizer has no token that ends a text: an answer that is given cannot be learnt")
    return int(tokenizer.eos_token_id)


def encode_open(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of bare texts with the special tokens that begin one, and none that ends it."""
    found = [list(ids) for ids in tokenizer(list(texts))["input_ids"]] if texts else []
    end = tokenizer.eos_token_id
    ended = [k for k, ids in enumerate(found) if ids[-1:] == [end]]
    bare = tokenizer([texts[k] for k in ended], add_special_tokens=False)["input_ids"] if ended else []
    for k, own in zip(ended, bare, strict=True):
        while len(found[k]) > len(own) and found[k][-1] == end and list(own[-1:]) != [end]:
            found[k].pop()
    return found


def _open_ended(text: str, tokenizer: Any) -> list[int]:
    return encode_open([text], tokenizer)[0]


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: str) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of a batch, both of shape [rows, longest]; padding stands on the left."""
    import torch

    width = max(map(len, rows))
    ids = [[pad] * (width - len(r)) + list(r) for r in rows]
    mask = [[0] * (width - len(r)) + [1] * len(r) for r in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
