"""A vector as a part of a method, and the words of steering that other specs share: units, sites, positions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from schemas.parts import PartSpec
from schemas.spec import EACH_ONCE, Options, Slug, Spec

#: Unit of a strength. `raw` multiplies the vector; `class_alpha`: 0 is the mean of the opposite, 1 of the concept;
#: `residual_fraction`: share of the mean activation norm; `angle`: degrees; `kl`: nats a token from unsteered.
Unit = Literal["raw", "class_alpha", "residual_fraction", "angle", "kl"]
Site = Literal["residual", "attention", "mlp"]


def _some_position(selector: str) -> str:
    """Refuse a span that holds no position.

    Raises:
        ValueError: its end, which is excluded, does not exceed its start.
    """
    form, *ends = selector.split(":")
    if form == "span" and int(ends[0]) >= int(ends[1]):
        raise ValueError(f"{selector!r} holds no token: the end ({ends[1]}) is excluded and must exceed {ends[0]}")
    return selector


#: Positions, 0-based: `all`, `prompt`, `completion`, `last_prompt`, `index:3`, `span:2:9` (end excluded).
PositionSelector = Annotated[
    str,
    Field(pattern=r"^(all|prompt|completion|last_prompt|index:-?[0-9]+|span:[0-9]+:[0-9]+)$", description="Positions"),
    AfterValidator(_some_position),
]


class GateSpec(Spec):
    """Steer a row only where its prompt resembles a condition (CAST, Lee et al. 2024)."""

    condition: Slug = Field(description="Behavior whose contrast gives the condition vector")
    layer: int | None = Field(None, ge=0, description="Layer that is looked at; null: searched on the training pairs")
    threshold: float | None = Field(
        None, ge=-1.0, le=1.0, description="Cosine from which it holds; null: searched with the layer"
    )
    above: bool = Field(True, description="False: steer where the cosine is below the threshold")


class VectorPart(PartSpec):
    """A steering vector: how it is fitted, where it is applied, how strongly."""

    kind: Literal["vector"] = "vector"
    estimator: Slug = Field(description="Module of `steer_core.vectors.estimators`")
    options: Options = Field(default_factory=dict, description="Arguments of the estimator")
    layers: tuple[int, ...] | Literal["all", "middle"] = Field("middle", description="0-based decoder layers")
    site: Site = Field("residual", description="Residual stream after the layer, or what attention or MLP write")
    read: Literal["last_token", "letter", "last_prompt", "answer", "prompt", "all"] = Field(
        "answer", description="Where activations are read: one token, or the mean over a span"
    )
    contrasts: Annotated[tuple[Literal["asked", "corpus", "mined"], ...], EACH_ONCE] = Field(
        ("asked", "corpus", "mined"),
        min_length=1,
        description="Where contrasts of goals come from: the first that gives enough. `asked`: one training text under "
        "opposite requests; `corpus`: texts at both ends, matched on the other goals; `mined`: answers that there are",
    )
    operator: Slug | None = Field(None, description="Module of `steer_core.steering.operators`; null: the estimator's")
    positions: PositionSelector = Field("all", description="Positions that are steered")
    unit: Unit = Field("raw", description="Unit of the strengths")
    strengths: Annotated[tuple[float, ...], EACH_ONCE] = Field(
        (-2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0), min_length=1, description="Strengths of behavior sweeps"
    )
    doses: Annotated[tuple[float, ...] | None, EACH_ONCE] = Field(
        None, min_length=1, description="Strengths tried on the training pool for the probe; null: `strengths`"
    )
    on_probe: Annotated[tuple[float, ...], EACH_ONCE] = Field(
        (), description="Strengths that the probe is also measured at, for every request alike, as arms of the cell"
    )
    gate: GateSpec | None = Field(None, description="Condition under which a row is steered")
    from_model: Slug | None = Field(
        None,
        description="Model of the configuration that it is fitted on, and carried over from: of the same width and as "
        "many layers. Null: the cell's own",
    )
    seed: int = Field(0, ge=0, description="Seed of estimators that draw")

    @model_validator(mode="after")
    def _its_unit_goes_along(self) -> VectorPart:
        if self.from_model is not None and self.unit == "residual_fraction":
            raise ValueError(
                f"unit residual_fraction is a share of activations of {self.from_model}, which says nothing of another "
                "model's: with `from_model` use raw, class_alpha, angle or kl"
            )
        return self
