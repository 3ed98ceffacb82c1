"""Responses and what a method chose among them."""

from __future__ import annotations

import json

import polars as pl

from schemas.contract import Contract, column
from schemas.evaluation import with_arm


def _dose_of_version_1(body: str) -> str:
    dose = json.loads(body)
    return json.dumps({**dose, "prompt": [*dose["prompt"], 0.0][:3]}, sort_keys=True)


#: `length`: truncated; `overlong`: the prompt leaves no room to answer; `source`: copied; `imported`: made elsewhere.
#: `refused`, `filtered`: an endpoint said so itself, in place of an answer.
FINISH_REASONS = ["stop", "length", "overlong", "refused", "filtered", "source", "imported"]


#: Of an attempt. The first six end a row; after `waiting` (429), `failed` (5xx), `cut`, `timeout` and `garbage` (no
#: reply that can be read) it is asked again; `rejected` ends the run; `lost`: the process was killed meanwhile.
OUTCOMES = [
    "answered", "truncated", "empty", "refused", "filtered", "overlong",
    "waiting", "failed", "cut", "timeout", "garbage", "rejected", "lost", "sent",
]  # fmt: skip


class Responses(Contract, table="responses", key=("response_id",), version=2):
    """Every text that came back, every attempt included; the journal's rows have the same columns."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 knew no steering, so its rows have no receipt."""
        return rows.with_columns(receipt=pl.lit(None, pl.String)) if version == 1 else None

    response_id: str = column(unique=True, description="Hash of plan, sample index, seed, execution fingerprint")
    plan_id: str = column(description="Hash of the plan")
    plan: str = column(description="The plan as canonical JSON: model, messages or text, decoding")
    sample_index: int = column(ge=0, description="Index among the samples of one plan")
    seed: int = column(ge=0, description="Seed of this row's sampling")
    execution: str = column(description="Execution fingerprint: device, dtype, library versions")
    raw: str = column(description="What the model wrote, untouched")
    text: str = column(description="`raw` after cleaning: think tags, preambles")
    text_id: str = column(description="Content hash of `text`")
    finish_reason: str = column(isin=FINISH_REASONS, description="Why it ended; `length` means truncated")
    parsed: bool = column(description="False where the answer lacks the form that the method asked for")
    prompt_tokens: int = column(ge=0, description="Tokens read")
    completion_tokens: int = column(ge=0, description="Tokens written")
    seconds: float = column(ge=0.0, description="Share of the batch's wall time")
    receipt: str = column(
        nullable=True,
        description="Proof of steering as JSON: realisation, tokens touched, expected and observed; null: unsteered",
    )


class Attempts(Contract, table="attempts", key=("attempt_id",), version=2):
    """Every request that was sent to an endpoint for the cell's responses, and what became of it."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 did not say where a request went."""
        return rows.with_columns(address=pl.lit(None, pl.String)) if version == 1 else None

    attempt_id: str = column(unique=True, description="The attempt")
    response_id: str = column(description="Response that it was to bring")
    number: int = column(ge=1, description="Which attempt at it, from 1")
    started: float = column(ge=0.0, description="When it was sent, in seconds since 1970")
    seconds: float = column(ge=0.0, description="Seconds until it ended")
    outcome: str = column(isin=OUTCOMES, description="What became of it")
    status: int = column(nullable=True, description="HTTP status; null without a reply")
    detail: str = column(description="An error in the endpoint's words")
    thinking: str = column(description="What the model thought, where the endpoint says it apart")
    prompt_tokens: int = column(ge=0, description="Tokens read, cached ones included")
    cached_tokens: int = column(ge=0, description="Those of them that the endpoint's cache had")
    completion_tokens: int = column(ge=0, description="Tokens written, those of thinking included")
    reasoning_tokens: int = column(ge=0, description="Those of thinking")
    cost: float = column(nullable=True, ge=0.0, description="Money; null where it is not known")
    reserved: float = column(ge=0.0, description="Money that was set aside before it was sent")
    request_id: str = column(description="The endpoint's name for it")
    batch_id: str = column(description="The batch that it was part of; empty: none")
    address: str = column(nullable=True, description="Address that it was sent to; null: not known")


class Outcomes(Contract, table="outcomes", key=("arm_id", "request_id"), version=2):
    """What a method chose for each request, and what that cost."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 knew one arm."""
        return with_arm(rows).select(cls.names()) if version == 1 else None

    arm_id: str = column(description="`headline`, or the id of another arm in `probe_arms`")
    request_id: str = column(description="Request")
    probe: str = column(description="Probe")
    response_id: str = column(description="Chosen response")
    text: str = column(description="Chosen text, cleaned")
    text_id: str = column(description="Content hash of the chosen text")
    failure: str = column(
        nullable=True,
        isin=["empty", "truncated", "overlong", "unparsable", "refused", "filtered"],
        description="Why the chosen text is no answer; null where it is one",
    )
    copied: bool = column(description="True where the chosen text equals the source, white space aside")
    rounds: int = column(ge=0, description="Rounds of calls")
    n_calls: int = column(ge=0, description="Responses asked for")
    prompt_tokens: int = column(ge=0, description="Tokens read over all attempts")
    completion_tokens: int = column(ge=0, description="Tokens written over all attempts")
    seconds: float = column(ge=0.0, description="Wall time over all attempts")


class PartTensors(Contract, table="part_tensors", key=("part", "name")):
    """Arrays that parts learnt, for kinds that have no table of their own for them."""

    part: str = column(description="Label of the part that learnt it")
    name: str = column(description="What it is called among the part's tensors")
    digest: str = column(description="Digest of type, shape and numbers: what plans refer to it by")
    dtype: str = column(description="Type, as NumPy writes it")
    shape: str = column(description="Shape, as JSON")
    data: pl.Binary = column(description="The numbers, in C order")


class Artifacts(Contract, table="artifacts", key=("part", "kind", "item"), version=2):
    """What the parts of a method fitted: one JSON document a row (edit ideas, examples, doses)."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 knew one prompt and one vector part; its doses had no effect of the start in them."""
        if version != 1:
            return None
        older = pl.col("kind") == "dose"
        body = pl.col("body").map_elements(_dose_of_version_1, return_dtype=pl.String)
        return rows.with_columns(
            part=pl.when(older).then(pl.lit("vector")).otherwise(pl.lit("prompt")),
            body=pl.when(older).then(body).otherwise("body"),
        ).select(cls.names())

    part: str = column(description="Label of the part that it is of: its kind, numbered where a kind occurs again")
    kind: str = column(description="What the item is: `edit_idea`, `example`, `dose`")
    item: int = column(ge=0, description="0-based position")
    goal: str = column(nullable=True, description="Goal that the item belongs to, if one")
    direction: int = column(isin=[-1, 0, 1], description="Requested direction; 0 where it has none")
    body: str = column(description="The item as JSON")
