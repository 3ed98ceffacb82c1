"""General ability: tasks of the lm-evaluation-harness, in every arm, on the engine of the cell (`profiles.harness`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from schemas.digest import digest_json
from schemas.profile_spec import ProfileSpec
from schemas.spec import EACH_ONCE
from steer_core.evaluation.arms import Arm
from steer_core.evaluation.profiles.harness import DEFAULT_TASKS, run_harness
from steer_core.evaluation.profiles.harness.result import HarnessResult
from steer_core.evaluation.profiles.kind import Figure, Metric, digest_of_files, figures_table, value_rows
from steer_core.generation.run import Run
from steer_core.statistics import Estimate

VERSION = "2"
#: It asks for itself: what, the harness knows.
ASKS = "own"
METRICS: Mapping[str, Metric] = {}
NO_NUMBER = "the metric has no number for a single document"
#: Half the width of a 95 % interval, in standard errors.
WIDE = 1.959964


class HarnessProfile(ProfileSpec):
    """Tasks of the harness; each is told apart, and one that cannot be run is named."""

    kind: Literal["harness"] = "harness"
    tasks: Annotated[tuple[str, ...], EACH_ONCE] = Field(DEFAULT_TASKS, min_length=1, description="Names of tasks")
    limit: int | None = Field(None, gt=0, description="Documents of each task; null: all")
    shots: int | None = Field(None, ge=0, description="Examples before each question; null: as the task says")
    chat: bool = Field(False, description="Whether contexts go through the chat template")
    task_folders: tuple[str, ...] = Field((), description="Folders of task files, looked at before the harness's own")
    task_data: dict[str, str] = Field(
        default_factory=dict, description="task -> folder with its splits as files, for data that cannot be reached"
    )


SPEC = HarnessProfile


def follows(spec: HarnessProfile) -> list[Any]:
    """The harness's version, and the files of tasks and data that the configuration names."""
    return [_installed(), [digest_of_files(f) for f in (*spec.task_folders, *spec.task_data.values())]]


def _installed() -> str | None:
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        return None


def ask(spec: HarnessProfile, arms: Sequence[Arm], run: Run) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Every task in every arm.

    Returns:
        Rows of `kind.VALUES`, one a document and metric that has a number for single documents; rows of
        `profile_figures`, with the harness's own figures and standard errors. A task that was not run is a row of each
        arm, with why.

    Raises:
        SteerworksError: the engine fails.
    """
    # the harness is an extra: named when it is missing, and asked for by nobody else
    from steer_core.evaluation.profiles.harness import EngineLM

    values, figures = [value_rows([])], [figures_table(spec.name, [])]
    for arm in arms:
        lm = EngineLM(run.asking, arm, batch_size=run.batch_size, seed=run.seed)
        found = run_harness(
            spec.tasks,
            lm,
            limit=spec.limit,
            num_fewshot=spec.shots,
            task_folders=[Path(f) for f in spec.task_folders],
            task_data={name: Path(folder) for name, folder in spec.task_data.items()},
            apply_chat_template=spec.chat,
            seed=run.seed,
        )
        values.append(_values(spec, found))
        figures.append(figures_table(spec.name, _figures(spec, found)))
    return pl.concat(values), pl.concat(figures)


def _values(spec: HarnessProfile, found: HarnessResult) -> pl.DataFrame:
    rows: list[tuple[str, str, int, str, float | None, str | None]] = []
    columns = ("task", "filter", "doc_id", "doc_hash", "metric", "value")
    for task, filtered, doc, doc_hash, metric, value in found.samples.select(columns).iter_rows():
        # two readings of one answer are two metrics of one document
        item = digest_json([spec.name, task, doc, doc_hash])
        name = f"{task}: {metric}" + (f", {filtered}" if filtered != "none" else "")
        rows.append((found.arm_id, item, 0, name, value, None if value is not None else NO_NUMBER))
    for task, why in found.not_run.items():
        rows.append((found.arm_id, digest_json([spec.name, task]), 0, f"{task}: not run", None, why))
    return value_rows(rows)


def _figures(spec: HarnessProfile, found: HarnessResult) -> Iterator[Figure]:
    for row in found.tasks.iter_rows(named=True):
        if row["status"] != "run":
            nothing = Estimate(None, None, None, 0, 0)
            yield Figure(found.arm_id, "not run", nothing, row["task"], why=f"not run: {row['reason']}")
            continue
        value, error, n = row["value"], row["stderr"], int(row["n"] or 0)
        ends = (None, None) if value is None or error is None else (value - WIDE * error, value + WIDE * error)
        limit = f"{n} of {row['n_available']} documents" if row["n_available"] is not None else f"{n} documents"
        setting = f"{row['filter']}, {row['num_fewshot']} shots, {limit}, task version {row['version']}"
        said = [] if error is None else [f"standard error {error:.4g}, lm-eval {found.harness}"]
        said += [f"{row[c]} {w}" for c, w in (("n_truncated", "contexts cut"), ("n_unaligned", "unaligned")) if row[c]]
        yield Figure(
            found.arm_id,
            row["metric"],
            Estimate(value, ends[0], ends[1], n, n),
            row["task"],
            setting,
            0,
            "; ".join(said),
        )


def shown(spec: HarnessProfile, row: Mapping[str, Any]) -> bool:
    """All of them."""
    return True
