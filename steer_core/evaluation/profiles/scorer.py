"""What a scorer of toxicity is, and from answers to a table of scores.

A scorer is one module of the group `scorers`, ours in `steer_core/evaluation/profiles/scorers`, with
`build(**options) -> Scorer`. A module whose scorers must load a model before they can say what they score has
`KNOWS_LATE = True`: whoever checks names leaves their attributes until they score.

1. A value lies in [0, 1], or it is a `Missing` with a reason. A blank text is missing (`empty`), never 0.
2. Name and version stand in every row; nothing is called toxicity without them (`scorer_label`).
3. What fails is counted: where scoring a block of texts raises, its texts are tried once more one by one. Those that
   fail again are missing, with the error as their reason; the others stand.
4. A scorer that cannot run at all (a wrong setting, a model that is not there) is an error, not a table without scores.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias, cast

import polars as pl

from steer_core import extensions
from steer_core.evaluation.profiles.toxicity import SCORES, checked_scores
from steer_core.evaluation.profiles.value import Missing, Value
from steer_core.tables.errors import ConfigError, SteerworksError

#: The attributes that are asked of a scorer, as Perspective names them; a scorer may know fewer, or more.
ATTRIBUTES = ("toxicity", "severe_toxicity", "identity_attack", "insult", "profanity", "threat")
EMPTY = Missing("empty")
#: Hex digits of a scorer's version.
VERSION_DIGITS = 12
#: Texts that are handed to a scorer at a time: what is tried one by one where one of them fails.
BLOCK = 256
#: Failures in a row after which a scorer is asked no more.
GIVE_UP = 100
#: Columns of a table of answers.
ANSWERS = ("prompt_id", "cluster", "sample", "text")
#: Most characters of an error that become a reason.
_REASON = 200

#: Attribute -> its value, or why there is none.
Marks: TypeAlias = Mapping[str, Value]


class Scorer(Protocol):
    """Gives texts a value of each of its attributes.

    Attributes:
        name: what it is called in figures, e.g. `char-ngram`.
        version: changes whenever a value could: a digest of weights and settings, or what the values came with.
        attributes: what it scores.
        tested: one sentence that stands beside every figure: how well it tells texts apart, on how many texts of what
            origin, or that nobody has tested it.
    """

    @property
    def name(self) -> str:
        """What it is called in figures."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever a value could."""
        ...

    @property
    def attributes(self) -> tuple[str, ...]:
        """What it scores."""
        ...

    @property
    def tested(self) -> str:
        """How well it was found to work, in one sentence."""
        ...

    def score(self, texts: Sequence[str]) -> Sequence[Marks]:
        """For each text the value of each attribute in [0, 1], or why there is none."""
        ...


def load_scorer(name: str = "char-ngram", **options: object) -> Scorer:
    """A scorer by name.

    Args:
        name: module of the group `scorers`.
        options: passed to its `build`.

    Raises:
        ConfigError: no such scorer, or an option that it does not take; the message lists those there are.
    """
    build = extensions.load("scorers", name, what="scorer of toxicity").build
    extensions.check_options(build, options, f"scorer {name!r}")
    return cast(Scorer, build(**options))


def knows_late(name: str) -> bool:
    """Whether a scorer of that name loads a model to say what it scores.

    Raises:
        ConfigError: no such scorer.
    """
    return bool(getattr(extensions.load("scorers", name, what="scorer of toxicity"), "KNOWS_LATE", False))


def scorer_label(scorer: Scorer, attribute: str) -> str:
    """How a figure calls a score: `toxicity (char-ngram 1f3a...)`.

    Raises:
        ConfigError: the scorer does not score that.
    """
    if attribute not in scorer.attributes:
        raise ConfigError(f"scorer {scorer.name!r} has no {attribute!r}; it scores {', '.join(scorer.attributes)}")
    return f"{attribute} ({scorer.name} {scorer.version})"


def all_attributes(reason: Missing, attributes: Sequence[str]) -> Marks:
    """One reason for every attribute."""
    return dict.fromkeys(attributes, reason)


def is_blank(text: str) -> bool:
    """Whether there is nothing to score."""
    return not text.strip()


def score_answers(scorer: Scorer, answers: pl.DataFrame) -> pl.DataFrame:
    """Scores of answers, one row an answer and attribute. Each distinct text is scored once.

    Args:
        scorer: who scores.
        answers: columns `prompt_id`, `cluster` (what prompts share; the prompt itself where nothing), `sample`, `text`;
            a null text is missing, `no text`.

    Returns:
        Columns `toxicity.SCORES`; what `toxicity_curves` reads.

    Raises:
        SteerworksError: a column is missing, a sample stands twice, a prompt is in two clusters, or the scorer has no
            name, version or attribute.
        ConfigError, ScorerUnavailableError: the scorer cannot run.
    """
    if lacking := [c for c in ANSWERS if c not in answers.columns]:
        raise SteerworksError(f"answers without {', '.join(lacking)}: columns are {', '.join(ANSWERS)}")
    if not (scorer.name and scorer.version and scorer.attributes):
        raise SteerworksError(f"scorer {scorer.name!r}: it needs a name, a version and attributes")
    texts = answers["text"].cast(pl.String).to_list()
    marks = score_texts(scorer, [t for t in texts if t is not None])
    none = all_attributes(Missing("no text"), scorer.attributes)
    values = [(none if t is None else marks[t])[a] for t in texts for a in scorer.attributes]
    rows = answers.select("prompt_id", "cluster", "sample", attribute=pl.lit(list(scorer.attributes)))
    rows = rows.explode("attribute").with_columns(
        scorer=pl.lit(scorer.name),
        scorer_version=pl.lit(scorer.version),
        score=pl.Series([None if isinstance(v, Missing) else v for v in values], dtype=pl.Float64),
        reason=pl.Series([str(v) if isinstance(v, Missing) else None for v in values], dtype=pl.String),
    )
    return checked_scores(rows.select(list(SCORES)))


def score_texts(scorer: Scorer, texts: Sequence[str]) -> dict[str, Marks]:
    """Text -> its marks, every attribute of the scorer in each, every value within [0, 1] or missing.

    Args:
        scorer: who scores.
        texts: each distinct one is scored once, in order of first appearance.

    Raises:
        ConfigError, ScorerUnavailableError: the scorer cannot run.
    """
    found: dict[str, Marks] = {}
    wanted = []
    for text in dict.fromkeys(texts):
        if is_blank(text):
            found[text] = all_attributes(EMPTY, scorer.attributes)
        else:
            wanted.append(text)
    found.update(_scored(scorer, wanted))
    return found


def _scored(scorer: Scorer, texts: Sequence[str]) -> Iterator[tuple[str, Marks]]:
    in_a_row, last = 0, ""
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        if in_a_row < GIVE_UP:
            try:
                yield from zip(block, _asked(scorer, block), strict=True)
            except Exception as error:
                _refuse_unusable(error)
            else:
                in_a_row = 0
                continue
        for text in block:
            if in_a_row >= GIVE_UP:
                reason = Missing(f"not scored: {GIVE_UP} texts in a row failed before it, the last: {last}")
                yield text, all_attributes(reason, scorer.attributes)
                continue
            try:
                marks = _asked(scorer, [text])[0]
            except Exception as error:
                _refuse_unusable(error)
                in_a_row, last = in_a_row + 1, f"{type(error).__name__}: {error}"[:_REASON]
                yield text, all_attributes(Missing(f"scorer failed: {last}"), scorer.attributes)
            else:
                in_a_row = 0
                yield text, marks


def _asked(scorer: Scorer, texts: Sequence[str]) -> list[Marks]:
    marks = scorer.score(texts)
    if len(marks) != len(texts):
        raise ValueError(f"{len(marks)} results for {len(texts)} texts")
    return [{a: _checked(own, a) for a in scorer.attributes} for own in marks]


def _checked(marks: Marks, attribute: str) -> Value:
    value = marks.get(attribute, Missing(f"scorer gave no {attribute}"))
    if isinstance(value, Missing):
        return value if value else Missing("scorer gave no reason")
    if not isinstance(value, numbers.Real) or not math.isfinite(value) or not 0.0 <= value <= 1.0:
        return Missing(f"scorer gave {value!r}, which is no number in [0, 1]")
    return float(value)


def _refuse_unusable(error: Exception) -> None:
    from steer_core.goals.errors import ScorerUnavailableError

    # a setting is wrong for every text
    if isinstance(error, ConfigError | ScorerUnavailableError):
        raise error
