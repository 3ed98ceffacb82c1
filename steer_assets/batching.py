"""Cells through a batch API, in steps that can be repeated: what is asked first is submitted, looked at, and collected.

What a method asks once it has seen an answer is not known before: a run of the cell asks for that, and takes everything
that a batch has brought from the ledger.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import polars as pl

from schemas import Artifacts, GoalSpaceTable, RequestGoals, Requests
from schemas.specs import BenchSpec, ModelSpec
from steer_assets.assets.calling import method_of
from steer_assets.io import read_published, table_url
from steer_assets.partitions import Cell
from steer_assets.planned import plan_cells
from steer_assets.settings import storage_root
from steer_assets.tables import Work
from steer_core.generation.backend import Call
from steer_core.generation.engines.openai import OpenAiBackend, build
from steer_core.generation.remote.batch import Batches
from steer_core.goals.space import GoalSpace
from steer_core.methods.driver import sample_seed
from steer_core.methods.preview import preview_prompts
from steer_core.methods.protocol import Artifact
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError
from steer_core.tables.snapshot import table_exists


def first_calls(bench: BenchSpec, cells: Sequence[Cell]) -> list[Call]:
    """What cells ask first, on their probes; what they share is brought up to date before.

    Raises:
        ConfigError: a cell is fitted first, which needs answers.
    """
    _, unplanned = plan_cells(bench, cells)
    if unplanned:
        key, why = next(iter(unplanned.items()))
        raise ConfigError(f"{key} {why}: run it as it is, or fit it first (`steerworks run`)")
    found = []
    for cell in cells:
        work = Work(bench, storage_root(), logging.getLogger(__name__), cell)
        url = table_url(work.root, bench.name, "artifacts", cell.key)
        artifact = Artifact.from_table(read_published(url, Artifacts)) if table_exists(url) else Artifact()
        requests = read_published(table_url(work.root, bench.name, "requests", None), Requests)
        goals = read_published(table_url(work.root, bench.name, "request_goals", None), RequestGoals)
        space = GoalSpace.from_table(
            read_published(table_url(work.root, bench.name, "goal_space", None), GoalSpaceTable)
        )
        asked = preview_prompts(
            method_of(work),
            requests.filter(pl.col("probe").is_in(list(bench.test_probes))),
            goals,
            space.goals,
            artifact,
        )
        samples: Counter[tuple[str, str]] = Counter()
        for request_id, plan_id, plan in asked.select("request_id", "plan_id", "plan").iter_rows():
            sample = samples[request_id, plan_id]
            samples[request_id, plan_id] += 1
            # keyed as the run will key it
            found.append(Call(Plan.from_json(plan), sample, sample_seed(bench.seed, plan_id, sample)))
    return found


def batches_of(model: ModelSpec) -> tuple[OpenAiBackend, Batches]:
    """The batches of a model's endpoint.

    Raises:
        ConfigError: it has no endpoint, or one without a batch API.
    """
    if model.engine != "openai":
        raise ConfigError(f"model {model.name!r} runs on {model.engine!r}, and batches are for the engine `openai`")
    backend = build(model)
    return backend, Batches(backend.wire, backend.ledger, backend.execution)
