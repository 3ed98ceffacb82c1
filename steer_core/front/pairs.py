"""Contrast pairs as a person has them: tuples, dicts, a data frame, a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from schemas.specs import PairsBehavior
from steer_core.corpus.contrasts.pairs import import_pairs
from steer_core.corpus.contrasts.records import Imported, Pair, Prompt, tabulate
from steer_core.front import arguments
from steer_core.tables.errors import SteerworksError

#: What one pair may look like, for messages.
FORMS = (
    "(positive, negative), (prompt, positive, negative), or a dict or row with `positive`, `negative` and, if there is "
    "one, `prompt`"
)


def examples_of(pairs: Any, name: str) -> pl.DataFrame:
    """Rows of `contrast_examples`.

    Pairs with a prompt are answers to it. Pairs of two texts without one are prompts themselves, read at their end.

    Args:
        pairs: a path, a Polars or pandas frame, or an iterable of pairs (see `FORMS`).
        name: concept that the positive side shows.

    Raises:
        SteerworksError: names the pair, and what was expected of it.
    """
    if isinstance(pairs, str | Path):
        if not Path(pairs).exists():
            raise SteerworksError(f"there is no file {pairs}; pairs are a file, a frame, or a list of {FORMS}")
        return tabulate(name, import_pairs(PairsBehavior(path=str(pairs)))).examples
    rows = [_row(k, pair) for k, pair in enumerate(_rows(pairs))]
    if not rows:
        raise SteerworksError(f"no pair was given; each is {FORMS}")
    prompted = [r for r in rows if r[0] is not None]
    if prompted and len(prompted) < len(rows):
        k = next(k for k, r in enumerate(rows) if r[0] is None)
        raise SteerworksError(f"pair {k} has no prompt and others have one: give all of them a prompt, or none")
    if prompted:
        imported = Imported("pairs", [Pair(str(p), a, b, "given", k) for k, (p, a, b) in enumerate(rows)])
    else:
        texts = [(text, label, k) for k, (_, a, b) in enumerate(rows) for text, label in ((a, 1), (b, 0))]
        imported = Imported("prompts", prompts=[Prompt(text, label, "given", k) for text, label, k in texts])
    return tabulate(name, imported).examples


def _rows(pairs: Any) -> Iterable[Any]:
    if hasattr(pairs, "to_dicts"):  # Polars
        return list(pairs.to_dicts())
    if hasattr(pairs, "to_dict") and hasattr(pairs, "columns"):  # pandas
        return list(pairs.to_dict("records"))
    if isinstance(pairs, Mapping) or not isinstance(pairs, Iterable):
        raise SteerworksError(f"pairs are a file, a frame, or a list; got {type(pairs).__name__}. Each pair is {FORMS}")
    return pairs


def _row(k: int, pair: Any) -> tuple[str | None, str, str]:
    if isinstance(pair, Mapping):
        found: tuple[Any, ...] = (pair.get("prompt"), pair.get("positive"), pair.get("negative"))
    elif isinstance(pair, tuple | list) and len(pair) in (2, 3):
        found = (None, *pair) if len(pair) == 2 else tuple(pair)
    else:
        raise SteerworksError(f"pair {k} is {str(pair)[:60]!r}: a pair is {FORMS}")
    prompt, positive, negative = found
    for what, text in (("positive", positive), ("negative", negative)):
        if not isinstance(text, str) or not text.strip():
            raise SteerworksError(f"pair {k}: `{what}` must be a text, and is {text!r}")
        arguments.text(f"pair {k}: `{what}`", text)
    return None if prompt is None else arguments.text(f"pair {k}: `prompt`", prompt), positive, negative
