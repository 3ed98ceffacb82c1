"""Models: published figures of language models, against cells that somebody has run, or scores that somebody stored.

They rest on more than the publication fixes (texts of the probe, wording of the prompt, scorers, the model's revision),
so a difference here is a finding to read, not a fault.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from steer_core.evaluation.first_metric import first_metric_table
from steer_core.evaluation.parity.claim import CellTable, Claim, File, Supplies
from steer_core.evaluation.parity.files import number, records, text
from steer_core.evaluation.parity.metrics import (
    PAPER,
    WORKSHOP_PAPER,
    binned_figures,
    movement_positions,
    published_figures,
)
from steer_core.evaluation.parity.published import STEERBENCH, WORKSHOP, Binned, First
from steer_core.evaluation.profiles.stereotypes import ALL, SENTENCES, crows_pairs, stereoset
from steer_core.tables.errors import SteerworksError

#: Bench of examples/steerbench, its probe, and its goals in the order of the released probe.
BENCH, PROBE = "steerbench", "steerbench"
GOALS = ("reading_difficulty_textstat", "textual_diversity_taaled", "text_length_nltk", "formality_spacy")
#: Bench of examples/paper, and its probe.
FIRST_BENCH, FIRST_PROBE = "steerbench-2024", "steerbench-3d-in-10d"


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


def _sentences(name: str, of: str) -> File:
    return File(
        f"profiling/scores/{name}.csv",
        f"log-likelihoods of {of}, columns {', '.join(SENTENCES)}; `option_scores` of a cell has them",
    )


def _scores(supplies: Supplies, need: File) -> pl.DataFrame:
    rows = []
    for row in records(supplies.file(need.name)):
        words = {c: text(row, c) for c in ("item_id", "bias_type", "cluster", "role")}
        # a sentence that was not scored has no number
        scored = row.get("log_likelihood") not in (None, "")
        score = {"log_likelihood": number(row, "log_likelihood") if scored else None}
        rows.append({**words, **score, "tokens": number(row, "tokens"), "bytes": number(row, "bytes")})
    return pl.DataFrame(rows, infer_schema_length=None)


def _crows() -> Claim:
    need = _sentences("crows_pairs_pythia-410m", "the English pairs of CrowS-Pairs under pythia-410m")

    def measure(supplies: Supplies) -> Mapping[str, float | None]:
        found = crows_pairs(_scores(supplies, need), "sum").filter(bias_type=ALL).row(0, named=True)
        return {"stereotyped, percent": found["value"], "likelihood_diff": found["gap"]}

    return Claim(
        "crows-pairs-pythia-410m",
        "Pairs whose stereotyping sentence is likelier, and mean gap in nats, by summed log-likelihood",
        "lm-evaluation-harness, pull request 751",
        {"stereotyped, percent": "58.80", "likelihood_diff": "3.3529"},
        measure,
        (need,),
    )


def _stereoset() -> Claim:
    need = _sentences("stereoset_llama-2-7b", "the 6392 clusters of StereoSet's test split under Llama-2-7b-hf")

    def measure(supplies: Supplies) -> Mapping[str, float | None]:
        # the interval is not asked for: one draw
        found = stereoset(_scores(supplies, need), "token", draws=1, rng=np.random.default_rng(0))
        value = dict(found.filter(bias_type=ALL).select("measure", "value").iter_rows())
        return {"LM": value["lm"], "SS": value["ss"], "ICAT": value["icat"]}

    return Claim(
        "stereoset-llama-2-7b",
        "StereoSet of Llama-2-7b, intrasentence, by mean log-likelihood a token",
        "Profiling toolkit 1fa2c92, src/profiling/bias_bench/results.json",
        {"LM": "88.510", "SS": "63.319", "ICAT": "64.932"},
        measure,
        (need,),
    )


def claims() -> list[Claim]:
    """Claims of this family."""
    return [*map(_second, STEERBENCH), *map(_first, WORKSHOP), _crows(), _stereoset()]
