"""What the page says of a judge's and people's words on the answers, and what these words are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import p_value, percent, plural, slug_words
from steer_core.reports.sections import Section
from steer_core.reports.sweeps import Sweep

#: p from which on a judge is not known to tell a source from another: nothing it says is then repeated as a finding.
LEVEL = 0.025


@dataclass(frozen=True)
class JudgedSection:
    """A judge's words on a cell's answers.

    Attributes:
        stays: sentences on whether answers stay with their sources; empty where nobody was asked.
        doubt: why the verdicts say nothing; empty where they do.
        goals: rows of `goal_agreement`, with `against` in words.
    """

    stays: tuple[str, ...]
    doubt: str
    goals: tuple[dict[str, Any], ...]


def sections(tables: CellTables, swept: Sequence[Sweep]) -> list[Section]:
    """The section; none where no judge was asked."""
    summary = filled(tables.judged.get("groundedness_summary"))
    goals = filled(tables.judged.get("goal_agreement"))
    if summary is None and goals is None:
        return []
    row = None if summary is None else summary.row(0, named=True)
    doubt = "" if row is None else _doubt(row)
    content = JudgedSection(
        stays=() if row is None else _people(row) if doubt else (*_stays(row), *_people(row), *settled(row)),
        doubt=doubt,
        goals=()
        if goals is None
        else tuple(
            r | {"against": "its source" if r["against"] == "source" else slug_words(r["against"])}
            for r in goals.iter_rows(named=True)
        ),
    )
    return [Section("judged.html.jinja", content, (("judged", "What a judge says"),))]


def _doubt(row: Mapping[str, Any]) -> str:
    """Why verdicts are no evidence, as a sentence; empty where the judge can tell a source from another."""
    if not row["known"]:
        return "The judge was not tried: there are no two sources that differ. Its verdicts are left out."
    if row["p_value"] > LEVEL:
        return (
            f"The judge is not known to tell texts apart: on {plural(row['known'], 'source')} it accepted "
            f"{percent(row['own_accepted'])} of the sources in another order and {percent(row['other_accepted'])} of "
            f"other sources ({p_value(row['p_value'])}). Its verdicts on the answers are left out."
        )
    return ""


def _stays(row: Mapping[str, Any]) -> tuple[str, ...]:
    said = row["n"] - row["no_verdict"]
    unread = f"; {plural(row['no_verdict'], 'answer')} got no verdict" if row["no_verdict"] else ""
    return (
        f"The judge says that {row['judged_grounded']} of {plural(said, 'answer')} stay with their source{unread}.",
        f"Where the truth is known it accepted {percent(row['own_accepted'])} of sources in another order (right: "
        f"100\u00a0%) and {percent(row['other_accepted'])} of other sources (right: 0\u00a0%), "
        f"{plural(row['known'], 'text')} each.",
    )


def _people(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What people said, and what stays when all is counted."""
    found = []
    if row["looked_at"]:
        spot = (
            f"; of {row['spot_checked']} drawn from where nobody doubted, {row['spot_overruled']}"
            if row["spot_checked"]
            else ""
        )
        found.append(f"People looked at {row['looked_at']} and overruled the judge on {row['overruled']}{spot}.")
    if row["open"]:
        found.append(
            f"{plural(row['open'], 'answer')} wait for a look, since judge and words disagree (steerworks review)."
        )
    return tuple(found)


def settled(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The share that stays, with people's words before the judge's."""
    if row["share"] is None:
        return ()
    return (
        f"Settled so far: {percent(row['share'])} stay [{percent(row['low'])} to {percent(row['high'])} over texts]; "
        f"{percent(row['worst'])} if what is open or without a word does not.",
    )
