"""What a list of samples shows, as its address says it: every view can be sent as a link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal
from urllib.parse import urlencode

from schemas.evaluation import HEADLINE
from steer_core.explorer.index import COSTS, FIGURES
from steer_core.tables.errors import ConfigError

#: Any goal: a request asks some goal to move so.
ANY = "any"
#: Rows a page has, and may be asked to have.
PAGE, LARGEST_PAGE = 50, 200
#: Characters of a search.
LONGEST_SEARCH = 200
#: What may stand after `sort=`, besides `goal:NAME`: how far a sample ended from a goal's target, or drifted.
ORDERS = {"left": "share of the asked distance that is left", **FIGURES, **COSTS}
Failure = Literal["", "none", "any"]
Direction = Literal["", "up", "down", "stay"]
Size = Literal["", "slightly", "plain", "much"]


@dataclass(frozen=True)
class State:
    """A list of samples.

    Attributes:
        cells: `method|model`; none: all.
        arm: `headline`, the id of another arm, or `*`: all.
        probe: empty: all.
        failure: empty: all samples; `none`: complete cases; `any`: failed ones; or a kind of failure.
        copied: `yes`, `no`; empty: all.
        goal: a goal that the request asks to move; empty: whatever it asks; `any`: some goal, in `direction` or `size`.
        direction: where to; `stay`: requests that do not ask it to move.
        size: how far.
        q: text to be found in answers, or in sources where `where` says so.
        where: `answer` or `source`.
        low: of the error's distribution over the samples that all else leaves, lower end, from 0 to 1.
        high: upper end.
        sort: what it is ordered by: a key of `ORDERS`, or `goal:NAME`.
        order: `desc` or `asc`.
        page: from 1.
        per: rows a page.
    """

    cells: tuple[str, ...] = ()
    arm: str = HEADLINE
    probe: str = ""
    failure: str = ""
    copied: str = ""
    goal: str = ""
    direction: str = ""
    size: str = ""
    q: str = ""
    where: str = "answer"
    low: float = 0.0
    high: float = 1.0
    sort: str = "left"
    order: str = "desc"
    page: int = 1
    per: int = PAGE

    @property
    def descending(self) -> bool:
        """Whether the largest come first."""
        return self.order == "desc"

    def having(self, **changes: Any) -> State:
        """The same but for some fields; another page is only kept where nothing else changes."""
        first = {} if set(changes) <= {"page"} else {"page": 1}
        return replace(self, **{**first, **changes})

    def link(self, **changes: Any) -> str:
        """Query string of the state, without what is as if nobody had said it."""
        state = self.having(**changes) if changes else self
        said: list[tuple[str, str]] = []
        plain = State()
        for field in fields(state):
            value = getattr(state, field.name)
            if value == getattr(plain, field.name):
                continue
            said += [(_name(field.name), v) for v in value] if field.name == "cells" else [(field.name, f"{value}")]
        return urlencode(said)

    @classmethod
    def read(cls, given: Mapping[str, Sequence[str]], goals: Sequence[str], probes: Sequence[str]) -> State:
        """The state of an address.

        Args:
            given: name -> values.
            goals: axes of the goal space.
            probes: probes of the bench.

        Raises:
            ConfigError: a value that means nothing; says which there are.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            own = [v for v in given.get(_name(field.name), ()) if v != ""]
            if field.name == "cells":
                values["cells"] = tuple(dict.fromkeys(own))
            elif own:
                values[field.name] = _typed(field.name, own[-1], getattr(cls(), field.name))
        state = cls(**values)
        orders = {*ORDERS, *(f"goal:{g}" for g in goals)}
        for name, known in {
            "probe": {"", *probes},
            "goal": {"", ANY, *goals},
            "direction": {"", "up", "down", "stay"},
            "size": {"", "slightly", "plain", "much"},
            "copied": {"", "yes", "no"},
            "where": {"answer", "source"},
            "sort": orders,
            "order": {"asc", "desc"},
        }.items():
            if getattr(state, name) not in known:
                raise ConfigError(
                    f"{name}={getattr(state, name)!r}: it takes {', '.join(sorted(k for k in known if k))}"
                )
        if (state.direction or state.size) and not state.goal:
            # of any goal: which one is what the list says
            state = replace(state, goal=ANY)
        if state.goal == ANY and state.direction == "stay":
            raise ConfigError("direction=stay needs a goal: choose what is not asked to move")
        if state.size and state.direction == "stay":
            raise ConfigError("size has no meaning where a goal is asked to stay: take one of them off")
        if not 0 <= state.low < state.high <= 1:
            raise ConfigError(f"low={state.low:g}, high={state.high:g}: shares, the lower below the upper, from 0 to 1")
        if len(state.q) > LONGEST_SEARCH:
            raise ConfigError(f"a search takes {LONGEST_SEARCH} characters; these are {len(state.q)}")
        return replace(state, page=max(state.page, 1), per=min(max(state.per, 1), LARGEST_PAGE))


def _name(field: str) -> str:
    """What a field is called in an address."""
    return "cell" if field == "cells" else field


def _typed(name: str, value: str, plain: Any) -> Any:
    if isinstance(plain, str):
        return value
    try:
        return type(plain)(value)
    except ValueError as error:
        raise ConfigError(f"{name}={value!r} is no number") from error
