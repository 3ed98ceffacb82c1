"""Contracts of adapters: what was trained, by which recipe, what happened meanwhile, and how its states were tried."""

from __future__ import annotations

import polars as pl

from schemas.contract import Contract, column


class Adapters(Contract, table="adapters", key=("part", "step"), version=2):
    """A state of an adapter: one that was trained here, step by step, one from elsewhere, or one that a server has."""

    places = ("folder",)

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 had no adapters whose numbers nobody here knows."""
        return rows if version == 1 else None

    part: str = column(description="Label of the part that wears it")
    step: int = column(ge=0, description="Optimiser step; of an adapter from elsewhere as its folder says, or 0")
    label: str = column(description="What it is called")
    adapter: str = column(description="Digest of its settings and weights: what plans refer to it by")
    folder: str = column(
        description="Where it lies, below the bench's folder, or an absolute path; `served://NAME`: on a server"
    )
    base: str = column(description="Fingerprint of the model that it is worn by")
    recipe: str = column(description="The recipe as JSON; of an adapter from elsewhere what it says of itself")
    recipe_hash: str = column(description="Hash of the recipe; empty for an adapter from elsewhere")
    data_hash: str = column(description="Hash of what it was trained on; likewise")
    rank: int = column(nullable=True, ge=1, description="Rank of the update; null, like the next two, on a server")
    parameters: int = column(nullable=True, ge=1, description="Numbers in it")
    norm: float = column(nullable=True, ge=0.0, description="Norm of all its weights")


class TrainingLog(Contract, table="training_log", key=("part", "step", "measure")):
    """One figure of one optimiser step."""

    part: str = column(description="Label of the part")
    step: int = column(ge=1, description="Optimiser step")
    measure: str = column(description="What is measured: `loss`, `reward`, `kl`, `learning_rate` ...")
    value: float = column(nullable=True, description="The figure; null where it is not defined")


#: What the id of a prompt of a set begins with, in place of a request's id.
OF_SET = "item:"


class TrainingSamples(Contract, table="training_samples", key=("part", "step", "sample"), version=2):
    """A completion that a model was trained on, or that was drawn and left out."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """In version 1 all were written by the model that was trained."""
        return rows.with_columns(model=pl.lit(None, pl.String)) if version == 1 else None

    part: str = column(description="Label of the part")
    step: int = column(ge=1, description="Optimiser step that it was drawn for; 1 where all are drawn before the first")
    sample: int = column(ge=0, description="Its place among the step's completions")
    request_id: str = column(description="Request that it answers; of a prompt of a set `item:` and its id")
    raw: str = column(description="What the model wrote")
    text: str = column(description="`raw` after cleaning: what was rewarded")
    finish_reason: str = column(
        isin=["stop", "length", "overlong", "refused", "filtered"],
        description="Why it ended; the last three only of another model's",
    )
    reward: float = column(
        nullable=True,
        description="Weighted sum of the rewards or objectives; of SteerLM the negative error over what it was asked "
        "for; null: it could not be scored, or nothing was asked",
    )
    advantage: float = column(
        nullable=True,
        description="What it was trained with, such as its weight; null where it was left out, or trained on as it is",
    )
    copied: bool = column(description="True where it is the source, white space aside")
    state: str = column(
        isin=["kept", "dropped", "unscorable"],
        description="`dropped`: others of its group were trained on, or it did not fit; `unscorable`: it has no "
        "reward, or no label, and moved nothing",
    )
    model: str = column(
        nullable=True, description="Who wrote it: its name in the configuration; null: the model that was trained"
    )


class TrainingMeasures(Contract, table="training_measures", key=("part", "step", "sample", "measure")):
    """A reward or metric of a completion, or its position on a goal."""

    part: str = column(description="Label of the part")
    step: int = column(ge=1, description="Optimiser step")
    sample: int = column(ge=0, description="Its place among the step's completions")
    measure: str = column(
        description="`reward:NAME`, `metric:NAME`, `z:GOAL`; of SteerLM `asked:GOAL` (a level), and `predicted:GOAL` "
        "where an attribute model measured"
    )
    value: float = column(nullable=True, description="The figure; null where it is not defined")


class CheckpointTrials(Contract, table="checkpoint_trials", key=("part", "step", "request_id")):
    """A state of an adapter on a request of the training pool that it was not trained on."""

    part: str = column(description="Label of the part")
    step: int = column(ge=-1, description="Step of the state; -1: the model without the adapter, under the same prompt")
    request_id: str = column(description="Request of the training pool")
    text_id: str = column(description="Its source text")
    error: float = column(ge=0.0, description="Steering error, failures at their worst")
    failure: str = column(nullable=True, description="Why there is no answer; null where there is one")
