"""Fitted vectors and what is known of them."""

from __future__ import annotations

import pandera.polars as pa
import polars as pl

from schemas.contract import Contract

SITES = ["residual", "attention", "mlp"]


def _of_one_part(rows: pl.DataFrame, contract: type[Contract]) -> pl.DataFrame:
    """Rows of a version that knew one vector part a method."""
    return rows.with_columns(part=pl.lit("vector")).select(list(contract.to_schema().columns))


class Vectors(Contract, table="vectors", key=("part", "concept", "layer", "site", "control", "seed"), version=2):
    """One fitted steering vector (or affine map) a row; its numbers are in `vector_tensors`."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 knew one vector part a method."""
        return _of_one_part(rows, cls) if version == 1 else None

    part: str = pa.Field(
        description="Label of the method's part that it is of: its kind, numbered where a kind occurs again"
    )
    vector_id: str = pa.Field(description="Digest of operator, tensors, scalars, layer, site and model")
    concept: str = pa.Field(description="Behavior or goal that it stands for")
    control: str = pa.Field(
        description="Empty: the real one; `random:<seed>` or `shuffled:<seed>`: a control of equal norm"
    )
    seed: int = pa.Field(ge=0, description="Seed of the fit, for estimators that draw")
    estimator: str = pa.Field(description="How it was fitted")
    operator: str = pa.Field(description="How it is applied: module of `steer_core.steering.operators`")
    layer: int = pa.Field(ge=0, description="0-based decoder layer; the residual stream is meant after it")
    site: str = pa.Field(isin=SITES, description="Where in the layer")
    read: str = pa.Field(description="Positions that activations were read at")
    width: int = pa.Field(gt=0, description="Hidden size of the model")
    norm: float = pa.Field(nullable=True, ge=0.0, description="L2 norm of the direction; null for maps without one")
    residual_norm: float = pa.Field(nullable=True, ge=0.0, description="Mean L2 norm of the activations read")
    n_positive: int = pa.Field(ge=0, description="Examples of the concept")
    n_negative: int = pa.Field(ge=0, description="Examples of its opposite")
    reliability: float = pa.Field(
        nullable=True, ge=-1.0, le=1.0, description="Cosine of the directions fitted on two halves of the data"
    )
    model: str = pa.Field(description="Fingerprint of the model; another one is refused")
    template: str = pa.Field(description="Digest of the chat template that the prompts went through")
    scalars: str = pa.Field(description="Numbers that operators and strength units need, as JSON")
    lineage: str = pa.Field(description="What it was made from, as JSON: data digest, options, parents of an algebra")


class VectorTensors(Contract, table="vector_tensors", key=("vector_id", "tensor", "row")):
    """The numbers of the vectors: each tensor has shape [rows, width]."""

    vector_id: str = pa.Field(description="Vector")
    tensor: str = pa.Field(description="Name of the tensor: `direction`, `center`, `left`, `right`, `map` ...")
    row: int = pa.Field(ge=0, description="0-based row")
    values: pl.List(pl.Float32) = pa.Field(description="Values, one a hidden dimension")  # type: ignore[valid-type]


class ActivationMap(
    Contract, table="activation_map", key=("part", "concept", "layer", "site", "example_id"), version=2
):
    """Activations of the contrast examples in the plane of their two main components, for a look."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 knew one vector part a method."""
        return _of_one_part(rows, cls) if version == 1 else None

    part: str = pa.Field(
        description="Label of the method's part that it is of: its kind, numbered where a kind occurs again"
    )
    concept: str = pa.Field(description="Behavior or goal")
    layer: int = pa.Field(ge=0, description="0-based decoder layer")
    site: str = pa.Field(isin=SITES, description="Where in the layer")
    example_id: str = pa.Field(description="Contrast example")
    label: int = pa.Field(isin=[0, 1], description="1: shows the concept; 0: its opposite")
    first: float = pa.Field(description="First principal component, in units of its standard deviation")
    second: float = pa.Field(description="Second principal component, in units of its standard deviation")
    projection: float = pa.Field(
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
        return rows.select(list(cls.to_schema().columns)) if version == 3 else _of_one_part(rows, cls)

    part: str = pa.Field(
        description="Label of the method's part that it is of: its kind, numbered where a kind occurs again"
    )
    goal: str = pa.Field(description="Goal whose vector is applied")
    observed_goal: str = pa.Field(description="Goal whose movement is reported")
    strength: float = pa.Field(nullable=True, description="Strength, in `unit`; null: the base prompt without a vector")
    unit: str = pa.Field(description="Unit of the strength")
    coefficient: float = pa.Field(nullable=True, description="What multiplies the vector; null without one")
    move: float = pa.Field(nullable=True, description="Mean z - z without the vector, same text and prompt")
    low: float = pa.Field(nullable=True, description="Lower end of the 95 % interval, clustered by text")
    high: float = pa.Field(nullable=True, description="Upper end")
    fitted: float = pa.Field(
        nullable=True, description="The monotone fit of the goal's own move; null off the diagonal"
    )
    prompt_intercept: float = pa.Field(description="Move that the prompt makes by itself where nothing is asked")
    prompt_slope: float = pa.Field(description="Move that the prompt makes by itself, per unit asked")
    prompt_start: float = pa.Field(description="And per unit of z0: texts drift back from the ends, whatever is asked")
    share: float = pa.Field(
        ge=0.0, le=1.0, description="Share of what the prompt leaves that the vector is asked for; 0: no dose helps"
    )
    floor: float = pa.Field(ge=0.0, description="Where the prompt leaves less than this, no dose is given")
    gain: float = pa.Field(
        nullable=True, description="Steering error that these doses take away on the training pool, all goals counted"
    )
    gain_low: float = pa.Field(nullable=True, description="Lower end of its 95 % interval, clustered by text")
    gain_high: float = pa.Field(nullable=True, description="Upper end")
    failed: float = pa.Field(ge=0.0, le=1.0, description="Share of answers that are no answer")
    usable: bool = pa.Field(description="False where too many answers failed: never asked for")
    n: int = pa.Field(ge=0, description="Texts with both defined")
