"""Which source a goal's contrasts come from: the first that gives enough, else the one that gives most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from schemas.contrasts import ContrastExamples, ContrastSources
from steer_core.vectors.goal_contrasts.pairs import ENOUGH, FEWEST, Found

#: Goals -> what a source has for each.
Look = Callable[[Sequence[str]], Mapping[str, Found]]


def choose_contrasts(goals: Sequence[str], sources: Mapping[str, Look]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Contrast pairs for each goal, and where they come from.

    A source is asked only for the goals that those before it did not give enough. A goal for which none gives `FEWEST`
    has no pairs: it gets no vector, and is left to the prompt.

    Args:
        goals: the goals.
        sources: name -> source, in their order.

    Returns:
        Rows of `contrast_examples`, and rows of `contrast_sources`: what every source gave that was looked at.
    """
    looked: dict[str, dict[str, Found]] = {goal: {} for goal in goals}
    for name, look in sources.items():
        open_goals = [g for g in goals if all(len(f.pairs) < ENOUGH for f in looked[g].values())]
        if not open_goals:
            break
        for goal, found in look(open_goals).items():
            looked[goal][name] = found
    examples: list[dict[str, Any]] = []
    rows: list[tuple[object, ...]] = []
    for goal in goals:
        enough = [n for n, f in looked[goal].items() if len(f.pairs) >= ENOUGH]
        # of two that give as many, the earlier one
        most = max(looked[goal], key=lambda n: len(looked[goal][n].pairs), default=None)
        best = enough[0] if enough else most
        chosen = best if best is not None and len(looked[goal][best].pairs) >= FEWEST else None
        for place, (name, found) in enumerate(looked[goal].items()):
            rows.append((goal, place, name, len(found.pairs), found.candidates, found.gap, name == chosen, found.note))
            examples += found.examples if name == chosen else ()
    return (
        pl.DataFrame(examples, schema=ContrastExamples.empty().schema, orient="row"),
        pl.DataFrame(rows, schema=ContrastSources.empty().schema, orient="row"),
    )


def left_to_the_prompt(sources: pl.DataFrame) -> dict[str, str]:
    """Goal -> why it has no contrasts, from rows of `contrast_sources`; goals that have some are left out."""
    said = {}
    for (goal,), rows in sources.group_by("goal", maintain_order=True):
        if not rows["used"].any():
            gave = "; ".join(f"{r['source']}: {r['pairs']} ({r['note']})" for r in rows.iter_rows(named=True))
            said[str(goal)] = f"at least {FEWEST} contrast pairs are needed; {gave}"
    return said
