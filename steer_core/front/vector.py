"""A steering vector as a person handles it: fitted, applied, saved, exported, folded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from schemas.vector_part import Unit
from steer_core.front.arguments import instance, text
from steer_core.steering.compose import interventions
from steer_core.steering.intervention import Intervention
from steer_core.steering.operators import load_operator
from steer_core.steering.strength import Strength
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError

if TYPE_CHECKING:
    from steer_core.front.model import Model


class Vector:
    """Directions of one concept at one or several layers of a model, and the unit that its strengths are in.

    A strength is a number in `unit`; by default `residual_fraction`, the share of the mean activation norm: .1 is
    gentle, .5 is a lot, negative goes the other way. Vectors that know no activation norm (imported ones) have `raw`.

    Args:
        parts: one vector for each layer and site.
        unit: of strengths.
    """

    def __init__(self, parts: Sequence[SteeringVector], unit: Unit | None = None) -> None:
        if not parts:
            raise SteerworksError("a vector needs at least one layer")
        for part in parts:
            instance("a part of a vector", part, SteeringVector, "a SteeringVector")
        self.parts = tuple(parts)
        known = all(
            "residual_norm" in p.scalars and p.norm and "residual_fraction" in load_operator(p.operator).units
            for p in self.parts
        )
        turned = all("angle" in load_operator(p.operator).units for p in self.parts)
        self.unit: Unit = unit or ("residual_fraction" if known else "angle" if turned else "raw")
        if self.unit not in get_args(Unit):
            raise SteerworksError(f"unit {unit!r}: it is one of {', '.join(get_args(Unit))}")

    def __repr__(self) -> str:
        layers = ", ".join(str(p.layer) for p in self.parts)
        first = self.parts[0]
        sure = "" if first.reliability is None else f", reliability {first.reliability:.2f}"
        n = first.n_positive + first.n_negative
        data = f", {n} examples" if n else ""
        return f"Vector({first.concept!r}, {first.estimator}, layers {layers}{data}{sure}, strengths in {self.unit})"

    @property
    def name(self) -> str:
        """The concept."""
        return self.parts[0].concept

    def interventions(self, strength: float | None, positions: str = "all") -> tuple[Intervention, ...]:
        """What a plan carries at a strength; nothing where it is None.

        Raises:
            SteerworksError: the strength is no number, or the vector lacks what the unit needs.
        """
        if strength is None:
            return ()
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not math.isfinite(strength):
            raise SteerworksError(f"a strength is a number in {self.unit}, or None for off; got {strength!r}")
        return interventions(self.parts, Strength(float(strength), self.unit), positions=positions)

    def apply(self, model: Any, strength: float) -> AbstractContextManager[None]:
        """Steer a model inside a `with`: a plain transformers model, or one from `steer_core.load`.

        Every position of every row is steered, the prompt too.

        Args:
            model: what is called inside the context.
            strength: in `unit`.

        Raises:
            SteerworksError: the vector does not fit the model.
        """
        from steer_core.steering.everywhere import steered

        inner = getattr(model, "transformers_model", model)
        if not hasattr(inner, "config"):
            raise SteerworksError(f"a model of transformers is steered, or one of `load`; got {type(model).__name__}")
        return steered(inner, self.interventions(strength), {p.id: p for p in self.parts})

    def carry_over(self, model: Model, source: Model | None = None) -> Vector:
        """The vector for another model of the same width, as a claim that its space is alike; the lineage says so.

        Strengths are `raw` from here on, for activation norms were measured on the first model.

        Args:
            model: the other model, from `steer_core.load`.
            source: the model that it was fitted on; None: it is not at hand, and its number of layers not compared.

        Raises:
            SteerworksError: width or number of layers differ, or the vector is the model's own.
        """
        from steer_core.vectors.transferring import carry_over, shape_of

        _check_model(model)
        if source is None:
            return Vector(carry_over(self.parts, model.loaded, source=self.parts[0].model))
        _check_model(source)
        layers = shape_of(source.loaded)[1]
        return Vector(carry_over(self.parts, model.loaded, source=source.loaded.spec.name, layers=layers))

    def save(self, path: str | Path) -> Path:
        """Write the vector, with all that is known of it, to a safetensors file."""
        from steer_core.steering.exchange import export_safetensors

        export_safetensors(self.parts, path)
        return Path(path)

    def export_gguf(self, path: str | Path, strength: float, architecture: str = "llama") -> Path:
        """Write a control vector for llama.cpp, at a strength.

        Raises:
            SteerworksError: the vector says something that the format cannot (layer 0, another operator).
        """
        from steer_core.steering.exchange import export_gguf

        text("architecture", architecture)
        scaled: list[SteeringVector] = []
        for part, step in zip(self.parts, self.interventions(_some(strength)), strict=True):
            from steer_core.vectors.algebra import scale

            scaled.append(scale(part, step.coefficient))
        export_gguf(scaled, path, model_hint=architecture)
        return Path(path)

    def fold(self, model: Model, strength: float, folder: str | Path) -> Path:
        """Write a plain checkpoint that is steered by itself, and costs nothing to serve.

        Raises:
            SteerworksError: the vector cannot be folded into this model; says why.
        """
        from steer_core.steering.folding import fold

        _check_model(model)
        return fold(model.loaded, self.interventions(_some(strength)), {p.id: p for p in self.parts}, folder).folder

    def edit_weights(self, model: Model, folder: str | Path, **options: Any) -> Path:
        """Write a plain checkpoint that no longer writes the direction, in any layer (weight orthogonalisation).

        Args:
            model: the model, from `steer_core.load`; it is left as it was.
            folder: where the checkpoint goes.
            **options: of `steer_core.steering.weight_edits.edit_weights`: weights of the layers, embeddings, norms.

        Raises:
            SteerworksError: the model's family cannot be edited; says why.
        """
        from steer_core.steering.weight_edits import edit_weights

        _check_model(model)
        return edit_weights(model.loaded, self.parts, folder, **options).folder


def _some(strength: float | None) -> float:
    if strength is None:
        raise SteerworksError("a file has one strength, and it is None: off is the model as it is")
    return strength


def _check_model(model: Any) -> None:
    if not hasattr(model, "loaded"):
        raise ConfigError(f"model is {type(model).__name__}, and must be what `steer_core.load` gives")


def read_vector(
    path: str | Path, model: Model | None = None, *, concept: str | None = None, unit: Unit | None = None
) -> Vector:
    """The vector that `save` wrote.

    Args:
        path: the file.
        model: the model that it is meant for; one fitted on another is refused. None: not checked.
        concept: of a file with several, the one that is wanted; None: all that it holds act together.
        unit: of strengths; None: as `Vector` has it.

    Raises:
        SteerworksError: no such file, not a vector, without the concept, or for another model.
    """
    from steer_core.steering.exchange import import_safetensors

    if not isinstance(path, str | Path):
        raise SteerworksError(f"path is {path!r}, and must be a file")
    if model is not None:
        _check_model(model)
    found = import_safetensors(path, model=None if model is None else model.loaded.fingerprint)
    own = [v for v in found if concept is None or v.concept == concept]
    if not own:
        raise SteerworksError(
            f"{path} has no vector of {concept!r}; it has {', '.join(sorted({v.concept for v in found}))}"
        )
    return Vector(own, unit)
