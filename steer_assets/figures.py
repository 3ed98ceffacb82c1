"""What the steps of runs took: a journal of each bench, a table to print, and a file for Prometheus."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from schemas import RunFigures
from schemas.specs import BenchSpec
from steer_core.generation.meter import Meter
from steer_core.tables.errors import ConfigError
from steer_core.tables.files import join
from steer_core.tables.journal import Journal

#: Runs that are under way in this process, with the seconds that each waited in a queue.
_runs: list[tuple[str, float | None]] = []


@contextlib.contextmanager
def of_run(instance: Any, run_id: str) -> Iterator[None]:
    """What is noted for a while is of this run of a Dagster instance."""
    record = instance.get_run_record_by_id(run_id)
    begun = record.start_time if record is not None else None
    _runs.append((run_id, max(0.0, begun - record.create_timestamp.timestamp()) if begun else None))
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
    run, queued = _runs[-1] if _runs else ("", None)
    row = {
        "run": run,
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
        "queued": queued,
        "paid": sum(meter.paid.values()),
        "currency": "+".join(sorted(meter.paid)),
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
    if row["paid"]:
        found[f"paid, {row['currency']}"] = round(float(str(row["paid"])), 6)
    if row["queued"]:
        found["queued"] = round(float(str(row["queued"])), 1)
    return found


def listing(rows: pl.DataFrame, run: str | None = None, hourly: float | None = None) -> pl.DataFrame:
    """The steps of a run, the last one unless it is named, as `steerworks figures` prints them.

    Args:
        rows: rows of `run_figures`.
        run: begin of a run's id; None: the last one.
        hourly: what an hour of the machine costs: then each step says what its time was worth.

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
    money = [] if hourly is None else [(pl.col("seconds") * hourly / 3600).round(4).alias("machine cost")]
    # what nobody pays for, or waits for, needs no column
    money += [pl.col("paid").round(4), "currency"] if own["paid"].sum() else []
    queue = [pl.col("queued").round(1)] if own["queued"].fill_null(0.0).sum() else []
    return own.select(
        "cell",
        "step",
        pl.col("seconds").round(1),
        pl.col("waited").round(1),
        *queue,
        "rows",
        (pl.col("rows") / second).round(0).cast(pl.Int64).alias("rows/s"),
        "answers",
        "new_tokens",
        (pl.col("new_tokens") / second).round(1).alias("tokens/s"),
        (100 * pl.col("busy") / second).round(0).cast(pl.Int64).alias("model busy %"),
        *money,
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
        "paid": "Money that endpoints took, in their currencies",
    }
    sums = rows.group_by("step", model).agg(pl.col(*said).sum())
    for name, text in said.items():
        counter = prometheus_client.Counter(f"steerworks_{name}", text, labels, registry=registry)
        for row in sums.iter_rows(named=True):
            counter.labels(bench, row["step"], row["model"]).inc(row[name])
    prometheus_client.write_to_textfile(str(file), registry)
