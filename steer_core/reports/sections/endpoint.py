"""What the page says of an endpoint: what was sent for the cell's answers, what became of it, tokens and money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import listed, number, plural
from steer_core.reports.sections import Section
from steer_core.reports.sweeps import Sweep

#: Outcome -> whether it ends a row, and what it means, in the order in which they are listed.
OUTCOMES = {
    "answered": (True, "an answer"),
    "truncated": (True, "an answer, cut off at its limit of tokens"),
    "empty": (True, "nothing was written"),
    "refused": (True, "the model said that it would not answer"),
    "filtered": (True, "the endpoint held it back"),
    "overlong": (True, "the prompt did not fit"),
    "waiting": (False, "told to wait (429); asked again"),
    "failed": (False, "an error of the endpoint (5xx); asked again"),
    "cut": (False, "the connection was cut; asked again, and counted as paid"),
    "timeout": (False, "no reply in time; asked again, and counted as paid"),
    "garbage": (False, "a reply that cannot be read; asked again"),
    "rejected": (False, "the endpoint does not take it"),
    "lost": (False, "the process was killed meanwhile; counted as paid"),
    "sent": (False, "still under way"),
}
#: Outcomes that bring something to measure.
ANSWERS = ("answered", "truncated")


@dataclass(frozen=True)
class OutcomeRow:
    """Attempts of one outcome; money is None where nobody knows a price."""

    outcome: str
    meaning: str
    ends: bool
    attempts: int
    share: float
    prompt_tokens: int
    completion_tokens: int
    cost: str


@dataclass(frozen=True)
class EndpointSection:
    """What the template reads.

    Attributes:
        responses: answers that were wanted.
        attempts: requests that were sent.
        batched: those of them that went through a batch API.
        lost: answers that are none.
        why: of those, in words.
        currency: of the money; empty where it is not known.
        cost: money in all.
        priced: at which prices, or what is not known of it, in words.
        unanswered: money for attempts that brought no answer.
        tokens: kind -> tokens.
        addresses: address -> attempts there and answers from there, where there were several.
        rows: outcomes that occur.
    """

    responses: int
    attempts: int
    batched: int
    lost: int
    why: str
    currency: str
    cost: str
    priced: str
    unanswered: str
    tokens: dict[str, int]
    addresses: dict[str, tuple[int, int]]
    rows: tuple[OutcomeRow, ...]


def sections(tables: CellTables, swept: Sequence[Sweep]) -> list[Section]:
    """The section of a cell whose answers were asked for over a network; none of any other."""
    attempts = filled(tables.attempts)
    if attempts is None:
        return []
    return [Section("endpoint.html.jinja", endpoint_section(tables, attempts), (("endpoint", "Requests and money"),))]


def endpoint_section(tables: CellTables, attempts: pl.DataFrame) -> EndpointSection:
    """Sums of a cell's attempts.

    Args:
        tables: the cell's; of them the prices.
        attempts: rows of `attempts`, one at least.
    """
    # decimals that the smaller ones need to be seen, the same for all
    whole = float(attempts["cost"].sum())
    digits = 2 if whole >= 100 else 4 if whole >= 0.1 else 6
    ended = [outcome for outcome, (ends, _) in OUTCOMES.items() if ends]
    final = attempts.filter(pl.col("outcome").is_in(ended)).unique("response_id", keep="first", maintain_order=True)
    none = dict(final.filter(~pl.col("outcome").is_in(ANSWERS))["outcome"].value_counts().iter_rows())
    responses = attempts["response_id"].n_unique()
    missing = responses - final.height
    why = [f"{none[outcome]:,} {outcome}" for outcome in OUTCOMES if outcome in none]
    by_outcome = [(outcome, attempts.filter(outcome=outcome)) for outcome in OUTCOMES]
    paid = attempts.filter(~pl.col("outcome").is_in(ANSWERS))
    return EndpointSection(
        responses,
        attempts.height,
        attempts.filter(pl.col("batch_id") != "").height,
        sum(none.values()) + missing,
        listed([*why, *([f"{missing:,} not answered yet"] if missing else [])]) if none or missing else "",
        "" if tables.prices is None else tables.prices.currency,
        _money(attempts, digits),
        _priced(tables, attempts),
        _money(paid, digits),
        {kind: int(attempts[f"{kind}_tokens"].sum()) for kind in ("prompt", "cached", "completion", "reasoning")},
        _by_address(attempts),
        tuple(_row(o, rows, attempts.height, digits) for o, rows in by_outcome if rows.height),
    )


def _by_address(attempts: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Address -> attempts, and answers; none where all went to one."""
    sums = attempts.group_by("address").agg(pl.len(), pl.col("outcome").is_in(ANSWERS).sum().alias("answers"))
    rows = sums.sort("answers", descending=True).iter_rows()
    found = {"not known" if address is None else str(address): (n, answers) for address, n, answers in rows}
    return found if len(found) > 1 else {}


def _row(outcome: str, rows: pl.DataFrame, attempts: int, digits: int) -> OutcomeRow:
    ends, meaning = OUTCOMES[outcome]
    prompt, completion = int(rows["prompt_tokens"].sum()), int(rows["completion_tokens"].sum())
    return OutcomeRow(
        outcome, meaning, ends, rows.height, rows.height / attempts, prompt, completion, _money(rows, digits)
    )


def _money(rows: pl.DataFrame, digits: int) -> str:
    """Money for attempts; a dash where none of their prices is known."""
    unknown = rows.height and rows["cost"].null_count() == rows.height
    return number(None if unknown else float(rows["cost"].sum()), digits)


def _priced(tables: CellTables, attempts: pl.DataFrame) -> str:
    unknown = attempts["cost"].null_count()
    said = [] if tables.prices is None else [f"at the prices of {tables.prices.as_of}, or as the endpoint says"]
    if unknown:
        said.append(f"without {plural(unknown, 'attempt')} whose cost nobody knows")
    return ", ".join(said) or "as the endpoint says"
