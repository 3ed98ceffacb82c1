"""The steering of one request: a JSON string under `steer` in `vllm_xargs`, or in `SamplingParams.extra_args`.

    {"nonce": "9f3c", "interventions": [
        {"operator": "add", "vector": "<id>", "layer": 3, "coefficient": 1.5, "positions": "completion"}]}

An intervention is what `Intervention.to_dict` of `steer_core.steering` writes; `site` and `positions` may be left out.
The nonce, optional, is what the request's receipt is asked for by. `prompt`, optional, is how many of the request's
tokens count as prompt: where an answer is scored, vLLM is given it as a part of the prompt.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from .support import OPERATORS, POSITIONS, SITES

#: Key of the spec among a request's extra arguments.
KEY = "steer"
#: Beyond every position, and small enough for 32-bit integers.
END = 2**30

_REQUIRED = ("operator", "vector", "layer", "coefficient")
_OPTIONAL = ("site", "positions")


class SpecError(ValueError):
    """A spec that cannot be carried out; the message is for whoever sent the request."""


@dataclass(frozen=True)
class Edit:
    """One intervention of a request; see `steer_core.steering.intervention.Intervention`."""

    operator: str
    vector: str
    layer: int
    coefficient: float
    site: str = "residual"
    positions: str = "all"


@dataclass(frozen=True)
class Spec:
    """The steering of one request."""

    edits: tuple[Edit, ...]
    nonce: str = ""
    prompt: int | None = None

    def prompt_length(self, given: int) -> int:
        """Tokens that count as prompt, of a request whose prompt, as vLLM sees it, has that many."""
        return given if self.prompt is None else min(self.prompt, given)


def write_spec(interventions: list[dict[str, Any]], nonce: str = "", prompt: int | None = None) -> str:
    """The JSON of a spec, from interventions as plain JSON."""
    body: dict[str, Any] = {"interventions": interventions}
    if nonce:
        body["nonce"] = nonce
    if prompt is not None:
        body["prompt"] = prompt
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def read_spec(text: object) -> Spec:
    """The spec that a request carries.

    Raises:
        SpecError: it is something else, or wants what cannot be done; says what.
    """
    if not isinstance(text, str):
        raise SpecError(f"{KEY!r} is a JSON string; got {type(text).__name__}")
    try:
        body = json.loads(text)
    except ValueError as error:
        raise SpecError(f"{KEY!r} is no JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("interventions"), list):
        raise SpecError(f"{KEY!r} is a JSON object with a list of `interventions`; got {text[:80]}")
    if unknown := sorted(set(body) - {"interventions", "nonce", "prompt"}):
        raise SpecError(f"{KEY!r} knows no {unknown[0]!r}; it has `interventions`, `nonce` and `prompt`")
    nonce, prompt = body.get("nonce", ""), body.get("prompt")
    if prompt is not None and (isinstance(prompt, bool) or not isinstance(prompt, int) or prompt < 0):
        raise SpecError(f"`prompt` of {KEY!r} is a number of tokens; got {prompt!r}")
    if not isinstance(nonce, str):
        raise SpecError(f"the nonce of {KEY!r} is a string; got {nonce!r}")
    return Spec(tuple(_edit(n, e) for n, e in enumerate(body["interventions"])), nonce, prompt)


def _edit(number: int, body: Any) -> Edit:
    who = f"intervention {number}"
    if not isinstance(body, dict):
        raise SpecError(f"{who} is a JSON object; got {body!r}")
    if missing := [name for name in _REQUIRED if name not in body]:
        raise SpecError(f"{who} lacks {missing[0]!r}")
    if body.get("gate") is not None:
        raise SpecError(f"{who}: the vLLM worker cannot wait for a gate; it steers every row or none")
    if unknown := sorted(set(body) - {*_REQUIRED, *_OPTIONAL, "gate"}):
        raise SpecError(f"{who} knows no {unknown[0]!r}; it has {', '.join((*_REQUIRED, *_OPTIONAL))}")
    found = Edit(**{name: body[name] for name in (*_REQUIRED, *_OPTIONAL) if name in body})
    if found.operator not in OPERATORS:
        raise SpecError(
            f"{who}: the vLLM worker cannot apply operator {found.operator!r}; it applies {_list(OPERATORS)}"
        )
    if not isinstance(found.vector, str):
        raise SpecError(f"{who}: {found.vector!r} is no id of a vector")
    if isinstance(found.layer, bool) or not isinstance(found.layer, int) or found.layer < 0:
        raise SpecError(f"{who}: layer {found.layer!r}; layers are whole numbers from 0 on")
    number_ = isinstance(found.coefficient, int | float) and not isinstance(found.coefficient, bool)
    if not number_ or not math.isfinite(found.coefficient):
        raise SpecError(f"{who}: coefficient {found.coefficient!r} is no finite number")
    if found.site not in SITES:
        raise SpecError(f"{who}: the vLLM worker cannot steer site {found.site!r}; it steers {_list(SITES)}")
    if not isinstance(found.positions, str):
        raise SpecError(f"{who}: positions {found.positions!r} are no selector")
    bounds(found.positions)
    return found


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def bounds(positions: str) -> tuple[int, int, bool]:
    """The half-open interval that a selector names, and whether it is counted from the end of the prompt.

    The same as `steer_core.steering.positions.parse_positions`, which a test holds it against.

    Raises:
        SpecError: no selector, or a span that holds no position.
    """
    match positions.split(":"):
        case ["all"]:
            return 0, END, False
        case ["prompt"]:
            return -END, 0, True
        case ["completion"]:
            return 0, END, True
        case ["last_prompt"]:
            return -1, 0, True
        case ["index", n] if re.fullmatch(r"-?\d+", n):
            return int(n), int(n) + 1, n.startswith("-")
        case ["span", a, b] if a.isdecimal() and b.isdecimal() and int(a) < int(b):
            return int(a), int(b), False
        case _:
            forms = ", ".join({"index": "index:N", "span": "span:A:B with A < B"}.get(f, f) for f in POSITIONS)
            raise SpecError(f"positions {positions!r} are unknown or hold no token; there are: {forms}")


def interval(positions: str, prompt_length: int) -> tuple[int, int]:
    """The absolute positions that a selector means for a prompt of that many tokens; (0, 0) where there are none."""
    low, high, from_end = bounds(positions)
    shift = prompt_length if from_end else 0
    low, high = max(low + shift, 0), min(high + shift, END)
    return (low, high) if low < high else (0, 0)


def things(edits: tuple[Edit, ...]) -> dict[tuple[int, str], list[list[int]]]:
    """What is done at each (layer, site), thing by thing: indices of edits, those that are summed first together.

    The same as `steer_core.steering.batch.things_at`: additions that follow each other at the same positions are one.
    """
    found: dict[tuple[int, str], list[list[int]]] = {}
    for k, edit in enumerate(edits):
        mine = found.setdefault((edit.layer, edit.site), [])
        before = edits[mine[-1][0]] if mine else None
        if before is not None and edit.operator == before.operator == "add" and edit.positions == before.positions:
            mine[-1].append(k)
        else:
            mine.append([k])
    return found


def salt(spec: Spec, prompt_length: int) -> str:
    """What keys the prefix cache: requests share blocks only where their tokens were steered alike.

    The prompt's length is part of it where positions are counted from its end: in the next turn of a conversation what
    was completion is prompt.
    """
    relative = any(bounds(e.positions)[2] for e in spec.edits)
    body = [[e.operator, e.vector, e.layer, e.coefficient, e.site, e.positions] for e in spec.edits]
    text = json.dumps([body, prompt_length if relative else None])
    return "steer-" + hashlib.sha256(text.encode()).hexdigest()
