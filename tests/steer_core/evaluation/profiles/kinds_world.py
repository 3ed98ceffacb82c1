"""Hand-made items, option tables and answers for the tests of kinds of profiles."""

import json

import polars as pl

from schemas import ArmAnswers, OptionScores, ProfileFigures, ProfileItems, ProfileValues, ProfileVectors
from steer_core.evaluation.profiles.kind import Found, How, figures_table
from steer_core.tables import check

HOW = How(draws=100)
#: Columns of an item that most tests do not care about.
ITEM = {
    "profile": "p", "form": "scored", "group": "", "messages": None, "text": "asked", "options": "[]", "gold": None,
    "facts": "{}", "source": "test",
}  # fmt: skip


def items(rows):
    """Rows of `profile_items`; `cluster` is the item itself where nothing is said."""
    full = [
        {**ITEM, "cluster": r["item_id"], "row": k} | r | {"facts": json.dumps(r.get("facts", {}))}
        for k, r in enumerate(rows)
    ]
    return check(pl.DataFrame(full, schema=ProfileItems.dtypes()), ProfileItems)


def scores(by_item, arm="plain", tokens=1):
    """Rows of `option_scores` from item -> log-likelihood of each option, None where it was not scored."""
    rows = [
        (
            arm,
            "p",
            item,
            k,
            value,
            tokens if value is not None else 0,
            4,
            None,
            None if value is not None else "too long",
        )
        for item, own in by_item.items()
        for k, value in enumerate(own)
    ]
    return check(pl.DataFrame(rows, schema=OptionScores.dtypes(), orient="row"), OptionScores)


def answers(by_item, arm="plain"):
    """Rows of `arm_answers` from item -> (text, failure)."""
    rows = [(arm, item, 0, f"{arm}-{item}", text, failure) for item, (text, failure) in by_item.items()]
    return check(pl.DataFrame(rows, schema=ArmAnswers.dtypes(), orient="row"), ArmAnswers)


def vectors(by_item, arm="plain"):
    """Rows of `profile_vectors` from item -> numbers, None where there are none."""
    rows = [(arm, "p", item, v, None if v is not None else "too long") for item, v in by_item.items()]
    return check(pl.DataFrame(rows, schema=ProfileVectors.dtypes(), orient="row"), ProfileVectors)


def told(kind, spec, found: Found):
    """What a kind makes of that: values and figures, both within their contracts."""
    own = kind.measure(spec, found)
    values = check(own.with_columns(profile=pl.lit("p")).select(ProfileValues.names()), ProfileValues)
    figures = check(figures_table("p", kind.figures(spec, found, own, HOW)), ProfileFigures)
    return values, figures


def value(rows, **of):
    """The one value of those rows."""
    return rows.filter(**of)["value"].item()


def at_once(kind, spec, figures):
    """Metric and setting of what a page shows at once."""
    return {(r["metric"], r["setting"]) for r in figures.iter_rows(named=True) if kind.shown(spec, r)}
