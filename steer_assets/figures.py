"""What the steps of runs took: a journal of each bench, a table to print, and a file for Prometheus."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from schemas import RunFigures
from schemas.specs import BenchSpec
from steer_core.generation.meter import Meter
from steer_core.tables.errors import ConfigError
from steer_core.tables.files import join
from steer_core.tables.journal import Journal

_runs: list[str] = []


@contextlib.contextmanager
def of_run(run_id: str) -> Iterator[None]:
    """What is noted for a while is of this run."""
    _runs.append(run_id)
    try:
        yield
    finally:
        _runs.pop()


def figures_of(bench: BenchSpec, root: str) -> Journal:
    """The journal of a bench's figures."""
    return Journal(join(root, bench.name, "figures"), RunFigures)


def note(
    bench: BenchSpec, root: str, step: str, cell: str, *, began: float, waited: float, rows: int, meter: Meter
) -> dict[str, float]:
    """Add a step to the journal; returns its figures for the run's log.

    A step whose tables stand is done: should the journal not take its row, that is said in the log, and no more.
    """
    seconds = max(time.time() - began, 0.0)
    row = {
        "run": _runs[-1] if _runs else "",
        "step": step,
        "cell": cell,
        "machine": socket.gethostname(),
        "began": began,
        "seconds": seconds,
        "waited": waited,
        "rows": rows,
        "answers": meter.answers,
        "prompt_tokens": meter.prompt_tokens,
        "new_tokens": meter.new_tokens,
        "busy": min(meter.busy, seconds),
    }
    try:
        journal = figures_of(bench, root)
        journal.append(pl.DataFrame([row], schema=RunFigures.empty().schema))
        journal.compact()
    except Exception as error:
        # whatever it is: the tables stand
        logging.getLogger(__name__).warning("the figures of %s could not be kept: %s", step, error)
    return rates(row)


def rates(row: dict[str, object]) -> dict[str, float]:
    """Figures of a step by the second: rows, and where a model was asked its tokens, and its share of the time."""
    seconds = max(float(str(row["seconds"])), 1e-9)
    found = {"seconds": round(seconds, 3), "rows/s": round(float(str(row["rows"])) / seconds, 1)}
    if row["answers"]:
        found |= {
            "answers": float(str(row["answers"])),
            "new tokens/s": round(float(str(row["new_tokens"])) / seconds, 1),
            "model busy": round(float(str(row["busy"])) / seconds, 3),
        }
    return found


def listing(rows: pl.DataFrame, run: str | None = None) -> pl.DataFrame:
    """The steps of a run, the last one unless it is named, as `steerworks figures` prints them.

    Raises:
        ConfigError: no such run.
    """
    if not rows.height:
        return pl.DataFrame()
    wanted = run or rows.sort("began")["run"][-1]
    own = rows.filter(pl.col("run").str.starts_with(wanted)).sort("began")
    if not own.height:
        raise ConfigError(
            f"no run that begins with {wanted!r} has figures here; the last is {rows.sort('began')['run'][-1]}"
        )
    second = pl.max_horizontal(pl.col("seconds"), 1e-9)
    return own.select(
        "cell",
        "step",
        pl.col("seconds").round(1),
        pl.col("waited").round(1),
        "rows",
        (pl.col("rows") / second).round(0).cast(pl.Int64).alias("rows/s"),
        "answers",
        "new_tokens",
        (pl.col("new_tokens") / second).round(1).alias("tokens/s"),
        (100 * pl.col("busy") / second).round(0).cast(pl.Int64).alias("model busy %"),
    )


def write_prometheus(rows: pl.DataFrame, bench: str, file: Path) -> None:
    """Sums by step and model, as a file for the textfile collector of Prometheus' node exporter.

    Raises:
        ConfigError: `prometheus_client` is not installed.
    """
    try:
        import prometheus_client
    except ImportError as error:
        raise ConfigError("prometheus_client is not installed: pip install 'steerworks[metrics]'") from error
    registry = prometheus_client.CollectorRegistry()
    labels = ["bench", "step", "model"]
    model = pl.col("cell").str.split("|").list.last().alias("model")
    said = {
        "seconds": "Seconds of steps that had something to do",
        "busy": "Seconds in which an engine was at work",
        "rows": "Rows of tables",
        "answers": "Answers that a model wrote",
        "prompt_tokens": "Tokens of their prompts",
        "new_tokens": "Tokens written",
    }
    sums = rows.group_by("step", model).agg(pl.col(*said).sum())
    for name, text in said.items():
        counter = prometheus_client.Counter(f"steerworks_{name}", text, labels, registry=registry)
        for row in sums.iter_rows(named=True):
            counter.labels(bench, row["step"], row["model"]).inc(row[name])
    prometheus_client.write_to_textfile(str(file), registry)
