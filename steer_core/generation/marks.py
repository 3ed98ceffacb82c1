"""Text of answers: special tokens are left out, but those that say where thinking begins and ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_THINK = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|response"
#: Tags of thinking and of the answer, and marks of channels.
_MARK = re.compile(
    rf"(?:<|\[|<\|)/?(?:start_|end_|end_of_)?(?:{_THINK})(?:>|\]|\|>)|<\|(?:channel|message|start|end)\|>", re.I
)


class Writer:
    """Token ids to text, as cleaning needs it: an answer whose thinking lost its marks would be scored as a whole.

    Args:
        tokenizer: a `transformers` tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        special = {int(i) for i in tokenizer.all_special_ids}
        special |= {i for i, t in getattr(tokenizer, "added_tokens_decoder", {}).items() if t.special}
        named = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in special}
        self._marks = {i: text for i, text in named.items() if _MARK.fullmatch(text)}

    def __call__(self, tokens: Sequence[int]) -> str:
        """The text of an answer."""
        if not self._marks or not any(t in self._marks for t in tokens):
            return str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        parts: list[str] = []
        run: list[int] = []
        for token in (*tokens, None):
            if token is not None and token not in self._marks:
                run.append(token)
                continue
            if run:
                parts.append(str(self._tokenizer.decode(run, skip_special_tokens=True)))
                run = []
            if token is not None:
                parts.append(self._marks[token])
        return "".join(parts)

    def draft(self, tokens: Sequence[int]) -> str:
        """The text so far of an answer under way: a character whose last bytes are still to come is left out."""
        return self(tokens).rstrip("\ufffd")
