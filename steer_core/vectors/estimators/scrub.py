"""Concept scrubbing: an edit of what every attention and MLP writes, each fitted under those before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import polars as pl

from schemas.specs import Decoding
from steer_core.generation.prompt_tokens import encode_plan
from steer_core.models.loading import LoadedModel
from steer_core.steering.plan import Plan, messages_of
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.estimators import ace, leace, orthogonal
from steer_core.vectors.evidence import Evidence, Fit, Point
from steer_core.vectors.scrubbing import Reading, scrub

NEEDS: frozenset[str] = frozenset({"model"})
OPERATOR = "affine"


def train(
    loaded: LoadedModel,
    pairs: pl.DataFrame,
    examples: pl.DataFrame,
    concept: str,
    points: Sequence[Point],
    seed: int,
    *,
    method: Literal["leace", "orthogonal", "ace"] = "leace",
    multiplier: float = 0.0,
    read: Literal["last_token", "answer"] = "last_token",
    shrinkage: bool = True,
    tokens_per_batch: int = 4096,
) -> list[tuple[Point, Fit]]:
    """Fit the edits of all sublayers of some layers, in the order of depth (`steer_core.vectors.scrubbing`).

    Each is h' = E(h) + m D with D the full mean difference of what is read at that sublayer. The edits were fitted with
    the ones above acting at `multiplier`, so that is the coefficient to apply them all with; another one is an
    approximation. Edits act on every token.

    Args:
        loaded: the model.
        pairs: not used.
        examples: rows of `schemas.ContrastExamples`; split `train` of the concept is used.
        concept: behavior or goal.
        points: their layers are scrubbed, attention and MLP both, whatever the site that they name.
        seed: not used: nothing is drawn.
        method: how each sublayer is edited.
        multiplier: coefficient of the edits above while one is fitted; for `ace` the place between the classes.
        read: the last token of the answer (of the prompt, where there is no answer), or the mean over the answer.
        shrinkage: of `leace`: shrink the covariance.
        tokens_per_batch: most tokens, padding included, of one forward pass.

    Returns:
        One fit a sublayer, operator `affine`, with the scalar `scrub_multiplier`; none where the classes agree.

    Raises:
        ConfigError: an unknown method or reading.
        SteerworksError: no examples, one that is longer than the model's context, or a model whose sublayers are not
            known.
    """
    estimators: dict[str, Callable[[Evidence], Fit]] = {
        "leace": partial(leace.fit, shrinkage=shrinkage),
        "orthogonal": orthogonal.fit,
        "ace": ace.fit,
    }
    if method not in estimators:
        raise ConfigError(f"estimator scrub: unknown method {method!r}; there are {', '.join(estimators)}")
    if read not in ("last_token", "answer"):
        raise ConfigError(f"estimator scrub: read must be last_token or answer, not {read!r}")
    found = scrub(
        loaded,
        _readings(loaded, examples, concept, read),
        concept,
        [p.layer for p in points],
        estimators[method],
        multiplier=multiplier,
        tokens_per_batch=tokens_per_batch,
    )
    return [(p, Fit(f.operator, f.tensors, {**f.scalars, "scrub_multiplier": multiplier})) for p, f in found]


def _readings(loaded: LoadedModel, examples: pl.DataFrame, concept: str, read: str) -> list[Reading]:
    """Prompts as generation encodes them, with the answer's tokens behind."""
    found = []
    for row in examples.filter(pl.col("concept") == concept, pl.col("split") == "train").iter_rows(named=True):
        turns = messages_of(row["messages"])
        plan = Plan(model=loaded.spec.identity, decoding=Decoding(), messages=turns)
        prompt = encode_plan(plan, loaded.tokenizer, bool(loaded.info.chat), loaded.spec.template_options)
        answer = loaded.tokenizer(row["answer"], add_special_tokens=False)["input_ids"] if row["answer"] else []
        tokens = (*prompt, *answer)
        where = f"contrast example {row['example_id']} (row {row['row']} of {row['source']})"
        if loaded.info.max_context is not None and len(tokens) > loaded.info.max_context:
            raise SteerworksError(
                f"{where} has {len(tokens)} tokens; the model's context has {loaded.info.max_context}: shorten or "
                "remove it"
            )
        if not tokens or (read == "answer" and not answer):
            raise SteerworksError(f"{where} has no {'answer' if tokens else 'text'} to read: use read: last_token")
        start = len(prompt) if read == "answer" else len(tokens) - 1
        found.append(Reading(tokens, start, len(tokens), row["label"] == 1))
    if not found:
        raise SteerworksError(f"there are no training examples of {concept!r} to scrub with")
    return found
