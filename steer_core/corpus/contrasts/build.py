"""Contrast data of a behavior, whatever it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from schemas.specs import BehaviorSpec, BipoBehavior, CaaBehavior, DescribedBehavior, GrammarBehavior, PairsBehavior
from steer_core.corpus.contrasts.bipo import import_bipo
from steer_core.corpus.contrasts.caa import import_caa
from steer_core.corpus.contrasts.described import import_described
from steer_core.corpus.contrasts.files import digest_file
from steer_core.corpus.contrasts.grammar import import_grammar
from steer_core.corpus.contrasts.pairs import import_pairs
from steer_core.corpus.contrasts.records import Contrasts, Imported, tabulate
from steer_core.tables.errors import ConfigError, SteerworksError


@dataclass(frozen=True)
class Written:
    """What a model has written for a described behavior.

    Attributes:
        answers: its rows of `trait_answers`.
        filters: its rows of `trait_filters`.
    """

    answers: pl.DataFrame
    filters: pl.DataFrame


#: Bumped when the same behavior and files give other rows.
VERSION = "1"


def build_contrasts(behavior: BehaviorSpec, written: Written | None = None) -> Contrasts:
    """Examples, preference pairs, test items and integrity checks of a behavior.

    Args:
        behavior: the behavior.
        written: what a model has written for one that is described; others need nothing.

    Raises:
        SteerworksError: a file is missing or damaged; names behavior, file, row and column, and what to do.
    """
    try:
        return tabulate(behavior.name, _import(behavior, written))
    except SteerworksError as error:
        raise type(error)(f"behavior {behavior.name!r}: {error}") from error


def source_digests(behavior: BehaviorSpec) -> dict[str, str]:
    """Digest of each file that the behavior is read from: an edited file is another behavior.

    The grammar is pinned by its code and has no entry.
    """
    source = behavior.source
    paths: tuple[str | None, ...]
    match source:
        case GrammarBehavior():
            paths = ()
        case CaaBehavior():
            paths = (source.train, source.test_ab, source.test_open)
        case BipoBehavior():
            paths = (source.train, source.test)
        case PairsBehavior():
            paths = (source.path, source.test)
        case DescribedBehavior():
            paths = (source.prompts, source.questions.path)
    return {path: digest_file(path) for path in paths if path is not None}


def _import(behavior: BehaviorSpec, written: Written | None) -> Imported:
    source = behavior.source
    match source:
        case GrammarBehavior():
            return import_grammar(source)
        case CaaBehavior():
            return import_caa(source)
        case BipoBehavior():
            return import_bipo(source)
        case PairsBehavior():
            return import_pairs(source)
        case DescribedBehavior():
            if written is None:
                raise SteerworksError("its pairs are written by a model: give its answers and their filters")
            return import_described(source, written.answers, written.filters)
    raise ConfigError(f"no importer for data of kind {source.kind!r}")
