"""What a search may try: layers, alone or together, strengths, positions; and a point of it as interventions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from schemas.vector_part import Unit
from steer_core.steering.compose import interventions
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.operators import load_operator
from steer_core.steering.strength import Strength
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Setting:
    """A point of a space.

    Attributes:
        layers: 0-based layers that are steered, each by its own vector.
        strength: of all of them, in the space's unit; spread evenly where there are several.
        positions: which tokens.
        site: where in the layer.
        estimator: how the vector was fitted.
        profile: how the strength is spread over several layers.
        operator: what is done with the vector; empty: what its estimator fitted it for.
        gate: condition under which a row is steered; None: always.
    """

    layers: tuple[int, ...]
    strength: float
    positions: str
    site: str
    estimator: str
    profile: str = "flat"
    operator: str = ""
    gate: Gate | None = None

    @property
    def label(self) -> str:
        """What it is, in words."""
        where = ", ".join(map(str, self.layers))
        spread = f", {self.profile}" if self.profile != "flat" and len(self.layers) > 1 else ""
        said = f"{self.site}, {self.positions}{spread}"
        if self.operator:
            said += f", {self.operator.replace('_', ' ')}"
        if self.gate is not None:
            side = "at least" if self.gate.above else "below"
            said += f", where the gate's cosine is {side} {self.gate.threshold:.2f}"
        return f"{self.estimator.replace('_', ' ')} at layer {where} ({said}), strength {self.strength:+.3g}"

    @property
    def weights(self) -> tuple[float, ...]:
        """Share of the strength at each layer; they sum to 1. `peaked`: falling in a line from the middle one."""
        n = len(self.layers)
        middle = (n - 1) / 2
        drawn = [1.0 - abs(k - middle) / (middle + 1) if self.profile == "peaked" else 1.0 for k in range(n)]
        return tuple(w / sum(drawn) for w in drawn)


@dataclass(frozen=True)
class Space:
    """What may be tried.

    Attributes:
        layers: sets of layers to choose from.
        strength: lower and upper end.
        positions: selectors to choose from.
        sites: to choose from.
        estimators: to choose from.
        unit: of the strength.
        shared: divide the strength among the layers, so that all settings push about as far; otherwise the layer with
            most of it has all of it.
        profiles: to choose from: `flat`, `peaked`.
        operators: to choose from; none: what each vector was fitted for.
        gate: condition under which rows are steered; None: always.
        thresholds: lower and upper end of the gate's threshold; None: its own.
    """

    layers: tuple[tuple[int, ...], ...]
    strength: tuple[float, float]
    positions: tuple[str, ...] = ("all",)
    sites: tuple[str, ...] = ("residual",)
    estimators: tuple[str, ...] = ("mean_difference",)
    unit: Unit = "residual_fraction"
    shared: bool = True
    profiles: tuple[str, ...] = ("flat",)
    operators: tuple[str, ...] = ()
    gate: Gate | None = None
    thresholds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        low, high = self.strength
        if odd := [p for p in self.profiles if p not in ("flat", "peaked")]:
            raise ConfigError(f"a profile over layers is flat or peaked; got {odd[0]!r}")
        if not low < high:
            raise ConfigError(f"strengths from {low:g} to {high:g}: the lower end comes first")
        if self.thresholds is not None and self.gate is None:
            raise ConfigError("a search has thresholds, and its vector no gate that they could be of")
        if self.thresholds is not None and not self.thresholds[0] < self.thresholds[1]:
            raise ConfigError(f"thresholds {self.thresholds}: the lower end comes first")
        if len(set(self.operators)) < len(self.operators):
            raise ConfigError(f"operators of a search: each once; got {self.operators}")
        for name in self.operators:
            if self.unit not in load_operator(name).units:
                raise ConfigError(
                    f"a search tries operator {name!r}, to which the unit {self.unit!r} means nothing: it knows "
                    f"{', '.join(sorted(load_operator(name).units))}"
                )
        for name in ("layers", "positions", "sites", "estimators", "profiles"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{name} of a search: at least one, each once; got {values}")

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Parameters as the sampler sees them; one that is fixed is none."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        found: dict[str, BaseDistribution] = {"strength": FloatDistribution(*self.strength)}
        choices: Mapping[str, Sequence[str]] = {
            "layers": [",".join(map(str, own)) for own in self.layers],
            "positions": self.positions,
            "site": self.sites,
            "estimator": self.estimators,
            "profile": self.profiles,
            "operator": self.operators,
        }
        if self.thresholds is not None:
            found["threshold"] = FloatDistribution(*self.thresholds)
        return found | {name: CategoricalDistribution(list(own)) for name, own in choices.items() if len(own) > 1}

    def setting(self, params: Mapping[str, Any]) -> Setting:
        """A point from its parameters."""
        layers = params.get("layers", ",".join(map(str, self.layers[0])))
        gate = self.gate
        if gate is not None and self.thresholds is not None:
            gate = replace(gate, threshold=float(params["threshold"]))
        return Setting(
            tuple(int(k) for k in str(layers).split(",")),
            float(params["strength"]),
            str(params.get("positions", self.positions[0])),
            str(params.get("site", self.sites[0])),
            str(params.get("estimator", self.estimators[0])),
            str(params.get("profile", self.profiles[0])),
            str(params.get("operator", self.operators[0] if self.operators else "")),
            gate,
        )

    def grid(self, strengths: Sequence[float]) -> list[dict[str, Any]]:
        """Parameters of every point at these strengths: what a sweep would try.

        Raises:
            ConfigError: the space has thresholds, which are no list.
        """
        from itertools import product

        if self.thresholds is not None:
            raise ConfigError("a space with thresholds has no grid: give it one gate")

        names = [name for name in self.distributions if name != "strength"]
        choices = [self.distributions[name].choices for name in names]  # type: ignore[attr-defined]  # categorical
        return [
            {"strength": value, **dict(zip(names, own, strict=True))}
            for own in product(*choices)
            for value in strengths
        ]

    def steps(self, setting: Setting, vectors: Sequence[SteeringVector]) -> tuple[Intervention, ...]:
        """What a setting does to activations.

        Args:
            setting: the point.
            vectors: of the concept, one a layer, site and estimator.

        Raises:
            ConfigError: there is no vector for a layer of it.
        """
        chosen = []
        for layer in setting.layers:
            own = [
                v
                for v in vectors
                if (v.layer, v.site) == (layer, setting.site) and v.estimator.replace("-", "_") == setting.estimator
            ]
            if not own:
                raise ConfigError(f"no vector of {setting.estimator} at layer {layer} ({setting.site}): fit it first")
            chosen.append(own[0])
        most = 1.0 if self.shared else max(setting.weights)
        steps = tuple(
            step
            for vector, weight in zip(chosen, setting.weights, strict=True)
            for step in interventions(
                [vector],
                Strength(setting.strength * weight / most, self.unit),
                positions=setting.positions,
                gate=setting.gate,
            )
        )
        return tuple(replace(step, operator=setting.operator) for step in steps) if setting.operator else steps

    def check(self, vectors: Sequence[SteeringVector]) -> None:
        """Refuse vectors that an operator of the space cannot apply, before anything is tried.

        Raises:
            ConfigError: names the operator, the vector, and what it lacks.
        """
        for name in self.operators:
            for vector in vectors:
                try:
                    load_operator(name).check(vector)
                except SteerworksError as error:
                    raise ConfigError(f"a search tries operators {', '.join(self.operators)}: {error}") from error

    @property
    def digest(self) -> list[Any]:
        """What tells it from another one."""
        choices = [list(own) for own in (self.positions, self.sites, self.estimators)]
        told = [list(map(list, self.layers)), list(self.strength), choices, self.unit, self.shared]
        # named, so that what was searched before there was a further choice is what it was
        more: dict[str, Any] = {"operators": list(self.operators)} if self.operators else {}
        if self.gate is not None:
            more["gate"] = [self.gate.vector, self.gate.layer, self.gate.threshold, self.gate.above, self.thresholds]
        told = told if self.profiles == ("flat",) else [*told, list(self.profiles)]
        return [*told, more] if more else told


def params_of(text: str) -> dict[str, Any]:
    """Parameters from their JSON."""
    found: dict[str, Any] = json.loads(text)
    return found
