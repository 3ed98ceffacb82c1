"""Preference pairs as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from schemas.specs import Decoding
from steer_core.generation.prompt_tokens import encode_plan
from steer_core.models.loading import LoadedModel
from steer_core.steering.plan import Plan, messages_of
from steer_core.tables.errors import ConfigError, SteerworksError


@dataclass(frozen=True)
class EncodedPair:
    """A prompt with two answers, as token ids; the answers end with the end-of-sequence token.

    Attributes:
        pair_id: row of `preference_pairs`.
        split: `train` or `validation`.
        prompt: ids of everything before the answer, at least one.
        chosen: ids of the answer that shows the concept.
        rejected: ids of the one that does not.
    """

    pair_id: str
    split: Literal["train", "validation"]
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


def encode_pairs(loaded: LoadedModel, pairs: pl.DataFrame, concept: str) -> list[EncodedPair]:
    """Token ids of the pairs of one concept that may be trained on; test pairs are never looked at.

    Args:
        loaded: whose tokenizer and chat template are used.
        pairs: rows of `schemas.PreferencePairs`.
        concept: concept whose pairs are taken.

    Raises:
        ConfigError: no training pairs or no validation pairs of the concept, or a tokenizer without an
            end-of-sequence token.
        SteerworksError: a pair does not fit the model's context, or its answers are the same.
    """
    end = loaded.tokenizer.eos_token_id
    if end is None:
        raise ConfigError(
            f"model {loaded.spec.name!r}: its tokenizer has no end-of-sequence token, so where an answer ends cannot "
            "be trained; set `eos_token` in its tokenizer_config.json"
        )
    encoded = []
    for row in pairs.filter(pl.col("concept") == concept, pl.col("split") != "test").iter_rows(named=True):
        turns = messages_of(row["messages"])
        plan = Plan(model=loaded.spec.identity, decoding=Decoding(), messages=turns)
        prompt = encode_plan(plan, loaded.tokenizer, bool(loaded.info.chat), loaded.spec.template_options)
        chosen, rejected = (
            (*loaded.tokenizer(row[side], add_special_tokens=False)["input_ids"], end)
            for side in ("chosen", "rejected")
        )
        pair = EncodedPair(row["pair_id"], row["split"], tuple(prompt), chosen, rejected)
        _check(pair, row, loaded.info.max_context)
        encoded.append(pair)
    _check_splits(encoded, concept)
    return encoded


def _check(pair: EncodedPair, row: dict[str, object], context: int | None) -> None:
    where = f"preference pair {pair.pair_id} (row {row['row']} of {row['source']})"
    longest = len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
    if context is not None and longest > context:
        raise SteerworksError(f"{where} has {longest} tokens; the model's context has {context}: shorten or remove it")
    if not pair.prompt:
        raise SteerworksError(f"{where} has an empty prompt: the first token of an answer needs something before it")
    if pair.chosen == pair.rejected:
        raise SteerworksError(
            f"{where} has the same tokens as chosen and rejected answer: it teaches nothing; remove it"
        )


def _check_splits(encoded: Sequence[EncodedPair], concept: str) -> None:
    for split, purpose in (("train", "train on"), ("validation", "choose the checkpoint on")):
        if not any(p.split == split for p in encoded):
            raise ConfigError(
                f"behavior {concept!r} has no preference pairs of split {split!r} to {purpose}; test pairs are never "
                "used for it. Add pairs, or set the source's validation share"
            )
