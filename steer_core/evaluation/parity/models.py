"""Models: published figures of language models, against cells that somebody has run.

They rest on more than the publication fixes (texts of the probe, wording of the prompt, scorers, the model's revision),
so a difference here is a finding to read, not a fault.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from steer_core.evaluation.first_metric import first_metric_table
from steer_core.evaluation.parity.claim import CellTable, Claim, Supplies
from steer_core.evaluation.parity.metrics import (
    PAPER,
    WORKSHOP_PAPER,
    binned_figures,
    movement_positions,
    published_figures,
)
from steer_core.evaluation.parity.published import STEERBENCH, WORKSHOP, Binned, First
from steer_core.tables.errors import SteerworksError

#: Bench of examples/steerbench, its probe, and its goals in the order of the released probe.
BENCH, PROBE = "steerbench", "steerbench"
GOALS = ("reading_difficulty_textstat", "textual_diversity_taaled", "text_length_nltk", "formality_spacy")
#: Bench of examples/paper, and its probe.
FIRST_BENCH, FIRST_PROBE = "steerbench-2024", "steerbench-3d-in-10d"
#: Bench of examples/paper with published profiles.
PROFILE_BENCH = "published-profiles"


def _table(supplies: Supplies, need: CellTable) -> pl.DataFrame:
    rows = supplies.tables(need.bench, need.table, need.cell)
    if rows is None:
        raise SteerworksError(f"table {need.table} of cell {need.cell} on bench {need.bench} is gone")
    return rows


def _run(folder: str, bench: str, cell: str) -> str:
    method, model = cell.split("|")
    return (
        f"add model {model} to the configuration and run it: STEERWORKS_CONFIG=config:examples/{folder} steerworks run "
        f"{method} --models {model} --bench {bench}"
    )


def _second(row: Binned) -> Claim:
    cell = f"direct-negative|{row.slug}"
    need = CellTable(BENCH, "goal_movements", cell, _run("steerbench", BENCH, cell))
    wanted = published_figures(row)

    def measure(supplies: Supplies) -> Mapping[str, float | None]:
        return binned_figures(*movement_positions(_table(supplies, need), PROBE, GOALS), wanted)

    return Claim(
        f"steerbench-{row.slug}",
        f"Binned S, M and O of {row.label}, direct prompt with the negative sentence, with the released saturation",
        f"{PAPER}; model table of its notebook",
        wanted,
        measure,
        (need,),
    )


def _first(row: First) -> Claim:
    cell = f"direct|{row.slug}"
    need = CellTable(FIRST_BENCH, "steerability", cell, _run("paper", FIRST_BENCH, cell))

    def measure(supplies: Supplies) -> Mapping[str, float | None]:
        table = first_metric_table(_table(supplies, need)).filter(arm_id="headline", probe=FIRST_PROBE, measure="score")
        if table.height != 1:
            raise SteerworksError(f"cell {cell} has no score on probe {FIRST_PROBE!r} of bench {FIRST_BENCH!r}")
        return {"score, mean": table["mean"][0], "score, standard deviation": table["sd"][0]}

    return Claim(
        f"first-metric-{row.slug}",
        f"Score (2024) of {row.label} on 3 of 10 goals, direct prompt",
        WORKSHOP_PAPER,
        {"score, mean": row.mean, "score, standard deviation": row.sd},
        measure,
        (need,),
    )


def _figures(supplies: Supplies, need: CellTable, profile: str, names: Mapping[str, str]) -> Mapping[str, float | None]:
    """Figures over all items of a profile of the model as it is: name -> metric."""
    rows = _table(supplies, need).filter(profile=profile, group="all")
    found: dict[str, float | None] = {}
    for name, metric in names.items():
        own = rows.filter(metric=metric)
        unsteered = own.filter(pl.col("arm_id") == own["arm_id"].first()) if own.height else own
        if unsteered.height != 1:
            raise SteerworksError(
                f"profile {profile!r} has {unsteered.height} figures {metric!r} over all items: one is needed"
            )
        found[name] = unsteered["value"][0]
    return found


def _crows() -> Claim:
    cell = "rewrite|pythia-410m"
    need = CellTable(PROFILE_BENCH, "profile_figures", cell, _run("paper", PROFILE_BENCH, cell))
    return Claim(
        "crows-pairs-pythia-410m",
        "Percent of English pairs whose stereotyping sentence is likelier, by summed log-likelihood",
        "lm-evaluation-harness, pull request 751",
        {"stereotyped, percent": "58.80"},
        lambda supplies: _figures(supplies, need, "crows-pairs-sum", {"stereotyped, percent": "stereotyped"}),
        (need,),
    )


def _stereoset() -> Claim:
    cell = "rewrite|llama-2-7b"
    need = CellTable(PROFILE_BENCH, "profile_figures", cell, _run("paper", PROFILE_BENCH, cell))
    names = {"LM": "lm", "SS": "ss", "ICAT": "icat"}
    return Claim(
        "stereoset-llama-2-7b",
        "StereoSet of Llama-2-7b, intrasentence, by mean log-likelihood a token; published on the full test split",
        "Profiling toolkit 1fa2c92, src/profiling/bias_bench/results.json",
        {"LM": "88.510", "SS": "63.319", "ICAT": "64.932"},
        lambda supplies: _figures(supplies, need, "stereoset-hub", names),
        (need,),
    )


def claims() -> list[Claim]:
    """Claims of this family."""
    return [*map(_second, STEERBENCH), *map(_first, WORKSHOP), _crows(), _stereoset()]
