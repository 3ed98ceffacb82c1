"""Fitted vectors and what is known of them."""

from __future__ import annotations

import polars as pl

from schemas.contract import Contract, column

SITES = ["residual", "attention", "mlp"]


def _of_one_part(rows: pl.DataFrame, contract: type[Contract]) -> pl.DataFrame:
    """Rows of a version that knew one vector part a method."""
    return rows.with_columns(part=pl.lit("vector")).select(contract.names())


class Vectors(Contract, table="vectors", key=("part", "concept", "layer", "site", "control", "seed"), version=2):
    """One fitted steering vector (or affine map) a row; its numbers are in `vector_tensors`."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 knew one vector part a method."""
        return _of_one_part(rows, cls) if version == 1 else None

    part: str = column(
        description="Label of the method's part that it is of: its kind, numbered where a kind occurs again"
    )
    vector_id: str = column(description="Digest of operator, tensors, scalars, layer, site and model")
    concept: str = column(description="Behavior or goal that it stands for")
    control: str = column(
        description="Empty: the real one; `random:<seed>` or `shuffled:<seed>`: a control of equal norm"
    )
    seed: int = column(ge=0, description="Seed of the fit, for estimators that draw")
    estimator: str = column(description="How it was fitted")
    operator: str = column(description="How it is applied: module of `steer_core.steering.operators`")
    layer: int = column(ge=0, description="0-based decoder layer; the residual stream is meant after it")
    site: str = column(isin=SITES, description="Where in the layer")
    read: str = column(description="Positions that activations were read at")
    width: int = column(gt=0, description="Hidden size of the model")
    norm: float = column(nullable=True, ge=0.0, description="L2 norm of the direction; null for maps without one")
    residual_norm: float = column(nullable=True, ge=0.0, description="Mean L2 norm of the activations read")
    n_positive: int = column(ge=0, description="Examples of the concept")
    n_negative: int = column(ge=0, description="Examples of its opposite")
    reliability: float = column(
        nullable=True, ge=-1.0, le=1.0, description="Cosine of the directions fitted on two halves of the data"
    )
    model: str = column(description="Fingerprint of the model; another one is refused")
    template: str = column(description="Digest of the chat template that the prompts went through")
    scalars: str = column(description="Numbers that operators and strength units need, as JSON")
    lineage: str = column(description="What it was made from, as JSON: data digest, options, parents of an algebra")


class VectorTensors(Contract, table="vector_tensors", key=("vector_id", "tensor", "row")):
    """The numbers of the vectors: each tensor has shape [rows, width]."""

    vector_id: str = column(description="Vector")
    tensor: str = column(description="Name of the tensor: `direction`, `center`, `left`, `right`, `map` ...")
    row: int = column(ge=0, description="0-based row")
    values: pl.List(pl.Float32) = column(description="Values, one a hidden dimension")  # type: ignore[valid-type]


class ActivationMap(
    Contract, table="activation_map", key=("part", "concept", "layer", "site", "example_id"), version=2
):
    """Activations of the contrast examples in the plane of their two main components, for a look."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 knew one vector part a method."""
        return _of_one_part(rows, cls) if version == 1 else None

    part: str = column(
        description="Label of the method's part that it is of: its kind, numbered where a kind occurs again"
    )
    concept: str = column(description="Behavior or goal")
    layer: int = column(ge=0, description="0-based decoder layer")
    site: str = column(isin=SITES, description="Where in the layer")
    example_id: str = column(description="Contrast example")
    label: int = column(isin=[0, 1], description="1: shows the concept; 0: its opposite")
    first: float = column(description="First principal component, in units of its standard deviation")
    second: float = column(description="Second principal component, in units of its standard deviation")
    projection: float = column(
        description="Along the mean difference: 0 at the mean of the opposite, 1 at the mean of the concept"
    )


class DoseResponse(Contract, table="dose_response", key=("part", "goal", "observed_goal", "strength"), version=4):
    """How far each strength of a goal's vector moves each goal, measured on the training pool."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 had no slope on the start, version 2 knew one vector part, version 3 asked for all of it."""
        if version not in (1, 2, 3):
            return None
        unknown = pl.lit(None, dtype=pl.Float64)
        rows = rows.with_columns(
            share=pl.lit(1.0), floor=pl.lit(0.0), gain=unknown, gain_low=unknown, gain_high=unknown
        )
        if version == 1:
            rows = rows.with_columns(prompt_start=pl.lit(0.0))
        return rows.select(cls.names()) if version == 3 else _of_one_part(rows, cls)

    part: str = column(
        description="Label of the method's part that it is of: its kind, numbered where a kind occurs again"
    )
    goal: str = column(description="Goal whose vector is applied")
    observed_goal: str = column(description="Goal whose movement is reported")
    strength: float = column(nullable=True, description="Strength, in `unit`; null: the base prompt without a vector")
    unit: str = column(description="Unit of the strength")
    coefficient: float = column(nullable=True, description="What multiplies the vector; null without one")
    move: float = column(nullable=True, description="Mean z - z without the vector, same text and prompt")
    low: float = column(nullable=True, description="Lower end of the 95 % interval, clustered by text")
    high: float = column(nullable=True, description="Upper end")
    fitted: float = column(nullable=True, description="The monotone fit of the goal's own move; null off the diagonal")
    prompt_intercept: float = column(description="Move that the prompt makes by itself where nothing is asked")
    prompt_slope: float = column(description="Move that the prompt makes by itself, per unit asked")
    prompt_start: float = column(description="And per unit of z0: texts drift back from the ends, whatever is asked")
    share: float = column(
        ge=0.0, le=1.0, description="Share of what the prompt leaves that the vector is asked for; 0: no dose helps"
    )
    floor: float = column(ge=0.0, description="Where the prompt leaves less than this, no dose is given")
    gain: float = column(
        nullable=True, description="Steering error that these doses take away on the training pool, all goals counted"
    )
    gain_low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by text")
    gain_high: float = column(nullable=True, description="Upper end")
    failed: float = column(ge=0.0, le=1.0, description="Share of answers that are no answer")
    usable: bool = column(description="False where too many answers failed: never asked for")
    n: int = column(ge=0, description="Texts with both defined")
