"""Time and memory of 10^5, 10^6 and 10^7 rows: `python -m benchmarks.scale [--sizes 100000 1000000 10000000]`.

Each stage is a process of its own, whose peak memory is its own:

* `append`: a journal of answers as a run writes it (`benchmarks.journal`), 1,024 at a time, compacted on the way;
* `keys`: a thousand of its rows by key, ten thousand keys looked for, its totals;
* `values`: texts measured through the cache (their length: what scorers cost is in `goal_scoring.txt`), then once more;
* `snapshot`: a table of goal values checked, published, read again and verified;
* `board`: scores of cells of 100,000 requests read, verified and ranked as the leaderboard does.

Results are checked before times are printed: seconds, then seconds of the processor, which other work on the machine
hardly changes. `x` is those over those of the size before, by rows: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.journal import Answers, _hex
from schemas import GoalValues, Leaderboard, Responses, Steerability, SteerabilitySummary
from schemas.evaluation import HEADLINE
from steer_core.evaluation import for_the_board, leaderboard
from steer_core.evaluation.ranking import _FIGURES
from steer_core.goals.cache import GoalCache
from steer_core.goals.measure import measure_stream
from steer_core.goals.scorer import load_scorer
from steer_core.registry import load_registry, shipped_config
from steer_core.tables import Journal
from steer_core.tables.footer import Footer
from steer_core.tables.snapshot import publish_table, read_table

STAGES = ("append", "keys", "values", "snapshot", "board")
PART, COMPACT_EVERY, CELL = 1024, 256, 100_000


class Watch:
    """Seconds by the clock and of the processor, summed over the times it is on."""

    def __init__(self) -> None:
        self.spent = (0.0, 0.0)

    def __enter__(self) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def __exit__(self, *_: object) -> None:
        now = (time.perf_counter(), time.process_time())
        self.spent = tuple(s + n - b for s, n, b in zip(self.spent, now, self._began, strict=True))


Figures = dict[str, float | tuple[float, float]]


def append(folder: Path, size: int) -> Figures:
    """Seconds of `Journal.append` and compactions, the making of rows aside."""
    journal, answers, watch = Journal(str(folder / "journal"), Responses), Answers(0), Watch()
    for n, done in enumerate(range(0, size, PART), start=1):
        rows = answers.rows(min(PART, size - done))
        with watch:
            journal.append(rows)
            if n % COMPACT_EVERY == 0:
                journal.compact()
    with watch:
        journal.compact(1)
    files = list((folder / "journal").iterdir())
    return {
        "append": watch.spent,
        "MB on disk": sum(f.stat().st_size for f in files) / 1e6,
        "files": len(journal.parts()),
    }


def keys(folder: Path, size: int) -> Figures:
    """Looking things up in that journal."""
    journal, rng = Journal(str(folder / "journal"), Responses), np.random.default_rng(1)
    wanted = [_hex(f"r{i}") for i in rng.choice(size, 1000, replace=False)]
    found: Figures = {}
    with (watch := Watch()):
        rows = journal.read(wanted)
    found["1,000 rows by key"] = watch.spent
    assert set(rows["response_id"]) == set(wanted)
    asked = [_hex(f"r{i}") for i in range(size - 5000, size + 5000)]
    with (watch := Watch()):
        held = journal.contains(asked)
    found["10,000 keys held"] = watch.spent
    assert held == set(asked[:5000])
    with (watch := Watch()):
        journal.totals("completion_tokens")
    found["totals"] = watch.spent
    return found


def values(folder: Path, size: int) -> Figures:
    """Measuring distinct texts through the cache, twice."""
    scorer = load_scorer(load_registry([shipped_config()]).goals["text_length"])
    cache = GoalCache(str(folder / "cache"))

    def batches():
        for start in range(0, size, 50_000):
            texts = [f"text number {i} of many" for i in range(start, min(start + 50_000, size))]
            yield pl.DataFrame({"text_id": [str(i) for i in range(start, start + len(texts))], "text": texts})

    found: Figures = {}
    for what in ("measured", "from the cache"):
        n = 0
        with (watch := Watch()):
            for rows in measure_stream(batches(), [scorer], cache=cache, chunk_size=50_000):
                n += rows.height
        found[what] = watch.spent
        assert n == size
    return found


def snapshot(folder: Path, size: int) -> Figures:
    """A table of goal values, four goals a text."""
    rng = np.random.default_rng(2)
    ids = pl.DataFrame({"text_id": [_hex(f"t{i}") for i in range(size // 4)]})
    rows = ids.join(pl.DataFrame({"scorer_id": [f"goal_{n}@1" for n in range(4)]}), how="cross").with_columns(
        value=pl.Series(rng.random(size // 4 * 4)), state=pl.lit("ok")
    )
    url = str(folder / "values" / "part.parquet")
    found: Figures = {}
    with (watch := Watch()):
        footer = publish_table(rows, GoalValues, url, Footer("goal_values", 1))
    found["check and publish"] = watch.spent
    total = rows["value"].sum()
    del rows
    with (watch := Watch()):
        again = read_table(url, GoalValues)
    found["read, verify, check"] = watch.spent
    # the same numbers in other chunks add up to another last digit
    assert again.height == size // 4 * 4
    assert abs(again["value"].sum() / total - 1) < 1e-12
    assert footer.content
    return found


def board(folder: Path, size: int) -> Figures:
    """Cells of `CELL` requests each, published, then read and ranked."""
    cells = size // CELL
    summary = {m: v for v in _FIGURES.values() for m in [v[:3]]}
    parts = []
    for n in range(cells):
        method = "copy" if n == 0 else f"method-{n}"
        scores = _scores(n)
        url = str(folder / "board" / f"method={method}" / "part.parquet")
        publish_table(scores, Steerability, url, Footer("steerability", 2))
        mean = scores["error_worst"].mean()
        parts.append((method, url, mean))
    with (watch := Watch()):
        frames, summaries = [], []
        for method, url, mean in parts:
            cell = [pl.lit(method).alias("method"), pl.lit("embedded").alias("model")]
            frames.append(for_the_board(read_table(url, Steerability)).with_columns(cell))
            rows = pl.DataFrame(
                [
                    dict(zip(SteerabilitySummary.names(), row, strict=True))
                    for row in (
                        (HEADLINE, "main", "space", m, "overall", r, s, mean, mean, mean, CELL, CELL // 4)
                        for m, r, s in summary
                    )
                ],
                schema=SteerabilitySummary.empty().schema,
            )
            summaries.append(rows.with_columns(cell))
        scored = pl.concat(frames)
        frames.clear()
        costs = pl.DataFrame(
            [{"model": "embedded", "method": m, "probe": "main", "completion_tokens": 1.0} for m, *_ in parts]
        )
        ranked = leaderboard(pl.concat(summaries), costs, scored, {"copy"})
    assert ranked.select(Leaderboard.names()).height == cells
    assert ranked["method"][0] == min(parts, key=lambda p: p[2])[0]
    return {"read, verify, rank": watch.spent}


def _scores(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    ids = pl.Series([f"request-{i:032d}" for i in range(CELL)])
    columns = {
        "arm_id": HEADLINE,
        "request_id": ids,
        "probe": "main",
        "goal_space_id": "space",
        "text_id": pl.Series([f"text-{i // 4:032d}" for i in range(CELL)]),
        "failure": None,
        "copied": False,
    }
    figures = {n: rng.random(CELL) for n in Steerability.names() if n not in columns}
    schema = Steerability.empty().schema
    return pl.DataFrame({**columns, **figures}).select(pl.col(c).cast(t) for c, t in schema.items())


def main() -> None:
    """Every stage at every size; with `--stage` one of them, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--stage", choices=STAGES)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.stage:
        found = globals()[options.stage](options.folder, options.sizes[0])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found | {"peak MB": peak}))
        return
    earlier: dict[str, tuple[int, float]] = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{size:,} rows")
            for stage in options.stages:
                command = [sys.executable, "-m", "benchmarks.scale", "--stage", stage, "--folder", folder]
                out = subprocess.run([*command, "--sizes", str(size)], capture_output=True, text=True, check=False)
                if out.returncode:
                    raise SystemExit(out.stderr)
                for what, figure in json.loads(out.stdout.splitlines()[-1]).items():
                    name = f"{stage}: {what}"
                    if not isinstance(figure, list):
                        print(f"  {name:32} {figure:12,.2f}", flush=True)
                        continue
                    before = earlier.get(name)
                    rate = f"  x {figure[1] / before[1] / (size / before[0]):.2f}" if before else ""
                    print(f"  {name:32} {figure[0]:12,.2f} {figure[1]:12,.2f}{rate}", flush=True)
                    earlier[name] = (size, figure[1])


if __name__ == "__main__":
    main()
