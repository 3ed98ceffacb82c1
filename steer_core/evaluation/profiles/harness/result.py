"""What a run of the harness comes to, as frames."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

#: Columns of `HarnessResult.samples`, one row a document, metric and filter.
SAMPLES: dict[str, Any] = {
    "task": pl.String,
    "filter": pl.String,  # of the harness: what is made of an answer before it is judged; `none` where nothing
    "doc_id": pl.Int64,  # place of the document in its split
    "doc_hash": pl.String,  # of the document; joins runs of other arms
    "prompt_hash": pl.String,  # of the context
    "metric": pl.String,
    "value": pl.Float64,  # null where the metric has no number for a single document; see `raw`
    "raw": pl.String,  # JSON of what it has instead
    "log_likelihoods": pl.List(pl.Float64),  # nats, one a request; null where answers are written
    "greedy": pl.List(pl.Boolean),  # whether greedy decoding writes the continuation; null where nobody asked
    "responses": pl.List(pl.String),  # what was written; null where given texts are scored
    "target": pl.String,
}
#: Columns of `HarnessResult.tasks`, one row a task, metric and filter; one row for a task that was not run.
TASKS: dict[str, Any] = {
    "task": pl.String,
    "kind": pl.String,  # `task`, or `group`: a figure over several
    "status": pl.String,  # `run` or `not run`
    "reason": pl.String,  # why it was not
    "metric": pl.String,
    "filter": pl.String,
    "value": pl.Float64,
    "stderr": pl.Float64,  # null where the harness has none
    "n": pl.Int64,  # documents behind the value
    "n_available": pl.Int64,  # documents of the split
    "version": pl.String,
    "higher_is_better": pl.Boolean,
    "num_fewshot": pl.Int64,  # that were used; a task that sets 0 keeps it
    "limit": pl.Float64,  # documents asked for, or a share below 1; null: all
    "n_truncated": pl.Int64,  # requests of the task whose context lost its first tokens
    "n_unaligned": pl.Int64,  # requests whose tokens run across the boundary of context and continuation
}
_NUMBERS = (bool, int, float)


@dataclass(frozen=True)
class HarnessResult:
    """What came of a run.

    Attributes:
        tasks: columns `TASKS`.
        samples: columns `SAMPLES`.
        arm_id: the arm that was measured.
        model: `ModelSpec.identity`.
        execution: execution fingerprint of the engine.
        harness: version of lm-eval.
        seed: of few-shot examples and of whatever is drawn.
        system: system prompt that was set before the contexts.
        chat: whether contexts went through the chat template.
    """

    tasks: pl.DataFrame
    samples: pl.DataFrame
    arm_id: str
    model: str
    execution: str
    harness: str
    seed: int
    system: str | None
    chat: bool

    @property
    def not_run(self) -> dict[str, str]:
        """Tasks that were not run, and why."""
        rows = self.tasks.filter(pl.col("status") == "not run")
        return dict(zip(rows["task"], rows["reason"], strict=True))


def frame_of(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any]) -> pl.DataFrame:
    """Rows as a frame; what a row lacks is null."""
    return pl.DataFrame([{c: row.get(c) for c in columns} for row in rows], schema=dict(columns))


def missing_row(task: str, reason: str, limit: float | None) -> dict[str, Any]:
    """The row of a task that was not run."""
    return {"task": task, "kind": "task", "status": "not run", "reason": reason, "limit": limit}


def sample_rows(task: str, samples: Sequence[Mapping[str, Any]], flagged: bool) -> Iterator[dict[str, Any]]:
    """Rows of `SAMPLES` of a task, from what the harness logs.

    Args:
        task: its name.
        samples: of the harness's `evaluate`.
        flagged: whether greedy flags were asked for.
    """
    for sample in samples:
        answers = [answer for request in sample["resps"] for answer in request]
        pairs = [a for a in answers if isinstance(a, tuple)]
        numbers = [a[0] for a in pairs] or [a for a in answers if isinstance(a, float)]
        written = [a for a in answers if isinstance(a, str)]
        shared = {
            "task": task,
            "filter": sample["filter"],
            "doc_id": sample["doc_id"],
            "doc_hash": sample["doc_hash"],
            "prompt_hash": sample["prompt_hash"],
            "log_likelihoods": [float(n) for n in numbers] or None,
            "greedy": [bool(a[1]) for a in pairs] if pairs and flagged else None,
            "responses": written or None,
            "target": str(sample["target"]),
        }
        for metric in sample["metrics"]:
            number = _number(sample[metric])
            raw = None if number is not None else json.dumps(sample[metric], default=str, ensure_ascii=False)
            yield shared | {"metric": metric, "value": number, "raw": raw}


def task_rows(
    found: Mapping[str, Any], groups: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Rows of `TASKS`, from the results of the harness's `evaluate`.

    Args:
        found: what it gave.
        groups: groups of the run, by name.
        samples: rows of `SAMPLES`.
        shared: columns that all rows have.
    """
    behind = Counter((s["task"], s["metric"], s["filter"]) for s in samples)
    for name, figures in found["results"].items():
        for key, value in figures.items():
            metric, _, kept = key.partition(",")
            if not kept or metric.endswith("_stderr"):
                continue
            yield dict(shared) | {
                "task": name,
                "kind": "group" if name in groups else "task",
                "status": "run",
                "metric": metric,
                "filter": kept,
                "value": _number(value),
                "stderr": _number(figures.get(f"{metric}_stderr,{kept}")),
                "n": behind.get((name, metric, kept), figures.get("sample_len")),
                "n_available": found["n-samples"].get(name, {}).get("original"),
                "version": None if (version := found["versions"].get(name)) is None else str(version),
                "higher_is_better": found["higher_is_better"].get(name, {}).get(metric),
                "num_fewshot": found["n-shot"].get(name),
            }


def _number(value: Any) -> float | None:
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    return float(value) if isinstance(value, _NUMBERS) and math.isfinite(value) else None
