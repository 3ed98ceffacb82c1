"""Metrics of candidates that are those of profiles: characteristics of texts, and scores of toxicity.

* text:METRIC: one of `profiles.describe_metrics`, in its own unit
* scorer:NAME:ATTRIBUTE: what a scorer of the group `scorers` gives, in [0, 1]

Both are of the text alone, whatever was asked. Each distinct text is measured once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from schemas.digest import digest_text
from schemas.objectives import scorer_metric, text_metric
from schemas.recipes import InheritanceRecipe
from steer_core.evaluation.profiles import VERSION, describe_metrics, profile_texts
from steer_core.evaluation.profiles.scorer import Scorer, knows_late, load_scorer, score_texts, scorer_label
from steer_core.evaluation.profiles.value import Missing, Value
from steer_core.tables.errors import SteerworksError

#: A plain text in which everything can be counted that hangs on the text alone.
_PLAIN = (
    "The river runs past the old mill, and in the morning the miller opens the gate. Then the wheel begins to turn. "
    "It turns all day, and the children of the village sit on the wall and look at the water. In the evening the "
    "miller closes the gate again. The wheel stops, the children go home, and the river is quiet until the next "
    "morning, when everything begins again in the same way."
)


def named_texts(recipe: InheritanceRecipe) -> list[str]:
    """Characteristics of texts that a recipe names, each once."""
    found = [text_metric(name) for _, name in recipe.named()]
    return list(dict.fromkeys(m for m in found if m is not None))


def named_scores(recipe: InheritanceRecipe) -> dict[str, list[str]]:
    """Scorer -> its attributes that a recipe names, each once."""
    found: dict[str, list[str]] = {}
    for pair in (scorer_metric(name) for _, name in recipe.named()):
        if pair is not None and pair[1] not in found.setdefault(pair[0], []):
            found[pair[0]].append(pair[1])
    return found


def unknown_measures(recipe: InheritanceRecipe, *, late: bool = False) -> Iterator[str]:
    """What a recipe names and there is not, in words.

    Args:
        recipe: objectives and floors.
        late: also look at attributes that a scorer knows only when its model is loaded, and load it.
    """
    if texts := named_texts(recipe):
        known = describe_metrics()["metric"].to_list()
        for metric in texts:
            if metric not in known:
                yield f"unknown metric 'text:{metric}'; metrics of texts are: {', '.join(sorted(known))}"
            elif isinstance(value := _of_texts([_PLAIN], [metric])[f"text:{metric}"][_PLAIN], Missing):
                yield f"'text:{metric}' would have no value of any answer: {value}"
    for name, attributes in named_scores(recipe).items():
        try:
            scorer = _scorer(recipe, name)
            if late or not knows_late(name):
                for attribute in attributes:
                    scorer_label(scorer, attribute)
        except SteerworksError as error:
            yield f"'scorer:{name}:{attributes[0]}': {error}"


def followed(recipe: InheritanceRecipe) -> list[Any]:
    """What such metrics follow from beside the texts: versions of the metrics, and of each scorer."""
    scorers = [[name, _scorer(recipe, name).version] for name in sorted(named_scores(recipe))]
    return [*([["text", VERSION]] if named_texts(recipe) else []), *scorers]


def measure(texts: Sequence[str], recipe: InheritanceRecipe) -> dict[str, dict[str, Value]]:
    """Metric -> text -> its value, or why there is none; of those metrics that a recipe names.

    Args:
        texts: that are measured, each distinct one once.
        recipe: objectives and floors.

    Raises:
        ConfigError, ScorerUnavailableError: a scorer cannot run.
    """
    distinct = list(dict.fromkeys(texts))
    found = _of_texts(distinct, named_texts(recipe))
    for name, attributes in named_scores(recipe).items():
        marks = score_texts(_scorer(recipe, name), distinct)
        found |= {f"scorer:{name}:{a}": {t: own[a] for t, own in marks.items()} for a in attributes}
    return found


def _scorer(recipe: InheritanceRecipe, name: str) -> Scorer:
    return load_scorer(name, **recipe.scorers.get(name, {}))


def _of_texts(texts: Sequence[str], metrics: Sequence[str]) -> dict[str, dict[str, Value]]:
    if not metrics:
        return {}
    by_id: Mapping[str, str] = {digest_text(t): t for t in texts}
    table = pl.DataFrame({"text_id": list(by_id), "text": list(by_id.values())}, schema_overrides=_STRINGS)
    found: dict[str, dict[str, Value]] = {f"text:{m}": {} for m in metrics}
    for text_id, metric, value, missing in profile_texts(table, metrics).iter_rows():
        found[f"text:{metric}"][by_id[text_id]] = Missing(str(missing)) if value is None else float(value)
    return found


_STRINGS = {"text_id": pl.String, "text": pl.String}
