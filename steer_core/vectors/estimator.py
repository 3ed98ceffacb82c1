"""Estimators by name: find the module, check its options, call it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steer_core import extensions
from steer_core.tables.errors import ConfigError
from steer_core.vectors.evidence import Evidence, Fit

#: What an estimator may say that it needs, apart from class means.
NEEDS = frozenset({"covariance", "differences", "difference_covariance", "rows", "logits", "model"})


@dataclass(frozen=True)
class Estimator:
    """A module of the group `estimators`.

    Attributes:
        name: its name in the registry.
        needs: its `NEEDS`.
        module: the module itself.
        options: names of the options that it takes; None where it checks them itself.
        operator: how its fits are applied, as far as that is known before it fits; None: not known.
    """

    name: str
    needs: frozenset[str]
    module: Any
    options: frozenset[str] | None
    operator: str | None = None

    @property
    def trains(self) -> bool:
        """Whether it trains on the model (`train`) and not on activations (`fit`)."""
        return "model" in self.needs

    @property
    def draws(self) -> bool:
        """Whether another seed gives another vector."""
        return self.trains or (self.options is not None and "seed" in self.options)

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that it does not take, or of another type.

        Raises:
            ConfigError: names the option, and those that there are.
        """
        called = self.module.train if self.trains else self.module.fit
        taken = inspect.signature(called).parameters.values()
        fixed = [p.name for p in taken if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
        extensions.check_options(called, options, f"estimator {self.name!r}", *fixed)
        # those whose options are told apart elsewhere
        if hasattr(self.module, "check"):
            self.module.check(options)

    def fit(self, evidence: Evidence, options: Mapping[str, Any], seed: int) -> Fit:
        """Fit on evidence; estimators that draw get the seed, unless the options give one."""
        drawn = {"seed": seed} if self.draws and "seed" not in options else {}
        found: Fit = self.module.fit(evidence, **options, **drawn)
        return found


def available_estimators() -> tuple[str, ...]:
    """Names of the estimators, with dashes: see `steer_core.extensions`."""
    return tuple(extensions.available("estimators"))


def load_estimator(name: str) -> Estimator:
    """The estimator of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    module: Any = extensions.load("estimators", name, what="estimator")
    if unknown := sorted(module.NEEDS - NEEDS):
        raise ConfigError(f"estimator {name!r} needs {unknown[0]!r}, which is none of {', '.join(sorted(NEEDS))}")
    parameters = inspect.signature(module.train if "model" in module.NEEDS else module.fit).parameters.values()
    named = frozenset(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    operator = getattr(module, "OPERATOR", None)
    return Estimator(name, frozenset(module.NEEDS), module, None if open_ended else named, operator)
