"""What a scorer is, and how one is made from a `GoalSpec`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from steer_core import extensions

if TYPE_CHECKING:
    from schemas.specs import GoalSpec
    from steer_core.goals.analysis import TextAnalysis


class Scorer(Protocol):
    """A measurement `text -> float`. Implementations are frozen dataclasses whose fields are their options.

    A scorer must survive pickling: worker processes get a copy.

    Attributes:
        name: name of the measure.
        version: raised whenever a text could get another value; cached values of earlier versions are left alone.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def scorer_id(self) -> str:
        """`name@version`, and a hash of the options where they differ from the defaults: `formality@1+3f6c01aa`."""
        return identify(self)

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Value of each text, in order; None where the measure is undefined for a text, never a made-up number."""
        ...


def identify(scorer: Scorer) -> str:
    """The `scorer_id` of a dataclass scorer: name, version, and a hash of the options that differ from the defaults.

    Fields with `metadata={"identity": False}` (device, batch size) change no value and stay out.
    """
    changed = {}
    for option in dataclasses.fields(scorer):  # type: ignore[arg-type]
        value = getattr(scorer, option.name)
        if option.metadata.get("identity", True) and value != option.default:
            changed[option.name] = value
    if not changed:
        return f"{scorer.name}@{scorer.version}"
    # imported here: a worker process needs no contracts
    from schemas.digest import digest_json

    return f"{scorer.name}@{scorer.version}+{digest_json(changed)[:8]}"


def available_scorers() -> tuple[str, ...]:
    """Names that `GoalSpec.scorer` may have, with underscores: see `steer_core.extensions`."""
    return tuple(name.replace("-", "_") for name in extensions.available("goals"))


def load_scorer(spec: GoalSpec) -> Scorer:
    """The scorer that a goal asks for.

    Args:
        spec: goal; `scorer` names a module of the group `goals`, `options` are arguments of its `build`.

    Raises:
        ConfigError: unknown scorer or option (the message lists those that exist), or an option out of range.
        ScorerUnavailableError: the scorer needs a model or data that is not installed; the message says how to get it.
    """
    known = available_scorers()
    if spec.scorer not in known:
        near = difflib.get_close_matches(spec.scorer, known, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise_config(f"goal {spec.name!r}: unknown scorer {spec.scorer!r}; there are: {', '.join(known)}.{guess}")
    build: Any = extensions.load("goals", spec.scorer).build
    extensions.check_options(build, spec.options, f"goal {spec.name!r}, scorer {spec.scorer!r}")
    scorer: Scorer = build(**spec.options)
    return scorer


def raise_config(message: str) -> NoReturn:
    """Raise a `ConfigError`; imported late, so that a worker process stays small."""
    from steer_core.tables.errors import ConfigError

    raise ConfigError(message)


def raise_unavailable(message: str) -> NoReturn:
    """Raise a `ScorerUnavailableError`, imported late for the same reason."""
    from steer_core.goals.errors import ScorerUnavailableError

    raise ScorerUnavailableError(message)


def check_number(scorer: str, option: str, value: object, low: float, high: float = float("inf")) -> None:
    """Refuse an option that is no number, or not within `[low, high]`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise_config(f"scorer {scorer!r}: option {option!r} must be a number from {low} to {high}, not {value!r}")
