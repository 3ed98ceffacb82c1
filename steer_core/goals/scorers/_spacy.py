"""The spaCy model that some published numbers were made with."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any, Protocol

from steer_core.goals.scorer import raise_unavailable

MODEL = "en_core_web_sm"


class SpacyToken(Protocol):
    """What the compat scorers read of a spaCy token."""

    text: str
    lemma_: str
    pos_: str
    is_alpha: bool


def require_spacy(scorer: str, instead: str) -> None:
    """Refuse by name where spaCy or its model is not installed."""
    for package in ("spacy", MODEL):
        if importlib.util.find_spec(package) is None:
            raise_unavailable(
                f"scorer {scorer!r} reproduces numbers made with spaCy's {MODEL}, and {package!r} is not installed: "
                f"run `pip install spacy` and `python -m spacy download {MODEL}`, or use scorer {instead!r}, which "
                "needs no download"
            )


@functools.cache
def _pipeline() -> Any:
    return importlib.import_module("spacy").load(MODEL)


def parse(text: str) -> Iterable[SpacyToken]:
    """Tokens of a text, tagged by the model."""
    document: Iterable[SpacyToken] = _pipeline()(text)
    return document
