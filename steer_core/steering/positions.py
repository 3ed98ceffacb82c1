"""Which tokens are steered: selectors over absolute positions, each an interval of the row's own sequence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from steer_core.tables.errors import ConfigError

#: Beyond every position, and small enough for 32-bit integers.
END = 2**30

#: First words of the selectors.
FORMS = ("all", "prompt", "completion", "last_prompt", "index", "span")
_FORMS = "all, prompt, completion, last_prompt, index:N, span:A:B"


@dataclass(frozen=True)
class Positions:
    """A selector over absolute positions, as the half-open interval that it selects.

    Positions count the row's own tokens from 0, pads excluded. A token counts as prompt by its own position, whether it
    is read in one pass or fed back from a cache, so cached and uncached decoding steer the same tokens. The last token
    that is generated is never fed back and so never steered.

    Attributes:
        low, high: ends of the interval, counted from `origin`; `high` is excluded.
        origin: `start` of the sequence, or the `end` of the prompt (position 0 is then the first token after it).
    """

    low: int
    high: int
    origin: Literal["start", "end"] = "start"

    def interval(self, prompt_length: int) -> tuple[int, int]:
        """The interval of a row with a prompt of that many tokens; (0, 0) where it selects nothing.

        Ends are limited to `END`; a negative index that lies before the first token selects nothing.
        """
        shift = 0 if self.origin == "start" else prompt_length
        low, high = max(self.low + shift, 0), min(self.high + shift, END)
        return (low, high) if low < high else (0, 0)

    def mask(self, position: Any, prompt_length: Any) -> Any:
        """Which tokens are selected.

        Args:
            position: absolute positions, integers of shape [rows, tokens]; negative ones are pads and never selected.
            prompt_length: tokens of each row's prompt, shape [rows]. Arrays of numpy or tensors of torch, both alike.

        Returns:
            Booleans of shape [rows, tokens].
        """
        shift = 0 if self.origin == "start" else prompt_length[:, None]
        return (position >= 0) & (position >= self.low + shift) & (position < self.high + shift)

    def count(self, prompt_length: int, tokens: int) -> int:
        """How many of the first `tokens` positions of a row are selected."""
        low, high = self.interval(prompt_length)
        return max(0, min(high, tokens) - low)


@cache
def parse_positions(selector: str) -> Positions:
    """The positions that a selector names.

    `all`; `prompt`; `completion` (everything after the prompt); `last_prompt`; `index:N` (from 0; a negative N counts
    from the end of the prompt, so `index:-1` is its last token); `span:A:B` (from 0, B excluded).

    Raises:
        ConfigError: no selector, or a span that holds no position.
    """
    match selector.split(":"):
        case ["all"]:
            return Positions(0, END)
        case ["prompt"]:
            return Positions(-END, 0, "end")
        case ["completion"]:
            return Positions(0, END, "end")
        case ["last_prompt"]:
            return Positions(-1, 0, "end")
        case ["index", n] if re.fullmatch(r"-?\d+", n):
            return Positions(int(n), int(n) + 1, "end" if n.startswith("-") else "start")
        case ["span", a, b] if a.isdecimal() and b.isdecimal():
            if int(a) >= int(b):
                raise ConfigError(
                    f"positions {selector!r} hold no token: the end ({b}) is excluded and must exceed {a}"
                )
            return Positions(int(a), int(b))
        case _:
            raise ConfigError(f"positions {selector!r} are unknown; there are: {_FORMS}")
