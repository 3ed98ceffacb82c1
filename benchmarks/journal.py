"""What a journal of many answers costs: `python benchmarks/journal.py [--sizes 10000 100000] [--keys 1000]`.

Rows of `responses` with plans of about 700 characters and answers of about 300, appended 64 at a time as a run does,
on one thread. For every size, in this order:

1. appending, in parts;
2. reading by key before anything is compacted, beside the old way (open every part, keep the rows asked for);
3. compacting;
4. reading by key afterwards, keys spread over the whole journal and keys that were appended together, warm and in a
   fresh process; whole, and for its totals only.

Rows found are checked to be the same before times are compared. A long life, compacted on the way as runs do:
`--sizes 1000000 --no-old --compact-every 256`.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from schemas import Responses
from steer_core.tables import Journal, read_table

T = TypeVar("T")

COLD = """
import sys, time
began = time.perf_counter()
from schemas import Responses
from steer_core.tables import Journal
ready = time.perf_counter()
rows = Journal(sys.argv[1], Responses).read(open(sys.argv[2]).read().split())
print(rows.height, time.perf_counter() - ready, time.perf_counter() - began)
"""


class Answers:
    """Rows that compress about as answers do: words drawn by rank, prompts that share a frame."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        letters = self.rng.integers(97, 123, (4000, 9), dtype=np.uint8)
        self.words = [bytes(row[: 2 + n % 8]).decode() for n, row in enumerate(letters)]
        self.made = 0

    def text(self, characters: int) -> str:
        """Words of these many characters."""
        ranks = np.minimum(self.rng.pareto(1.1, characters // 5) * 12, 3999).astype(int)
        return " ".join([self.words[i] for i in ranks])[:characters]

    def rows(self, n: int) -> pl.DataFrame:
        """The next rows."""
        ids = [_hex(f"r{i}") for i in range(self.made, self.made + n)]
        self.made += n
        texts = [self.text(300) for _ in ids]
        frame = (
            '{{"decoding":{{"max_new_tokens":256,"temperature":0.7,"top_p":0.95}},"interventions":[{{"coefficient":1.5,'
            '"kind":"add","layer":3,"vector":"{vector}"}}],"messages":[{{"content":"Rewrite the text so that it is '
            'easier to read. Answer with the text only. {source}","role":"user"}}],"model":"embedded@1"}}'
        )
        plans = [frame.format(vector=i, source=self.text(420)) for i in ids]
        columns = {
            "response_id": ids,
            "plan_id": [_hex(p) for p in plans],
            "plan": plans,
            "sample_index": 0,
            "seed": self.rng.integers(0, 2**60, n),
            "execution": "cpu:float32",
            "raw": texts,
            "text": texts,
            "text_id": [_hex(t) for t in texts],
            "finish_reason": "stop",
            "parsed": True,
            "prompt_tokens": self.rng.integers(100, 250, n),
            "completion_tokens": self.rng.integers(40, 100, n),
            "seconds": self.rng.random(n),
            "receipt": None,
        }
        schema = Responses.empty().schema
        return pl.DataFrame(columns).select(pl.col(c).cast(t) for c, t in schema.items())


def _hex(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def old_read(journal: Journal, keys: list[str]) -> pl.DataFrame:
    """Every part opened, checked and searched: what `read` did before there was an index."""
    wanted = pl.Series(keys)
    frames = [
        read_table(part, journal.contract).filter(pl.col("response_id").is_in(wanted.implode()))
        for part in journal.parts()
    ]
    return pl.concat(frames).unique(maintain_order=True)


def timed(what: str, do: Callable[[], T]) -> T:
    began = time.perf_counter()
    result = do()
    print(f"  {what}: {time.perf_counter() - began:.3f} s", flush=True)
    return result


def same(one: pl.DataFrame, other: pl.DataFrame) -> None:
    assert one.sort("response_id").equals(other.sort("response_id")), "the rows differ"


def cold(journal: Journal, keys: list[str]) -> None:
    """Read by key in a process that has just started."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(" ".join(keys))
        file.flush()
        out = subprocess.run(
            [sys.executable, "-c", COLD, journal.url, file.name], capture_output=True, text=True, check=True
        )
    rows, reading, whole = out.stdout.split()
    assert int(rows) == len(keys)
    print(f"  the same in a fresh process: {float(reading):.3f} s, with its imports {float(whole):.3f} s")


def measure(folder: Path, size: int, n_keys: int, part_rows: int, every: int, old: bool, whole: bool) -> None:
    journal = Journal(str(folder), Responses)
    answers = Answers(0)
    rng = np.random.default_rng(1)
    at = rng.choice(size, n_keys, replace=False)
    start = int(rng.integers(0, size - n_keys + 1))
    spread = [_hex(f"r{i}") for i in at]
    together = [_hex(f"r{i}") for i in range(start, start + n_keys)]
    # as Python rows: a filtered frame would keep the memory of all
    kept: list[tuple[object, ...]] = []
    appending, began_all = 0.0, time.perf_counter()
    chosen = {*spread, *together}
    for done in range(0, size, 4096):
        rows = answers.rows(min(4096, size - done))
        kept += rows.filter(pl.col("response_id").is_in(chosen)).rows()
        began = time.perf_counter()
        for n, part in enumerate(rows.iter_slices(part_rows), start=done // part_rows + 1):
            journal.append(part)
            if every and n % every == 0 and done + 4096 < size:
                journal.compact()
        appending += time.perf_counter() - began
    expected = pl.DataFrame(kept, schema=Responses.empty().schema, orient="row")
    print(f"{size:,} rows, {n_keys:,} keys asked for")
    print(f"  appending {-(-size // part_rows):,} parts: {appending:.1f} s (with the making of rows ", end="")
    print(f"{time.perf_counter() - began_all:.1f} s); {_megabytes(folder):.0f} MB")
    wanted = expected.filter(pl.col("response_id").is_in(spread))
    found = timed("not compacted, keys spread", lambda: journal.read(spread))
    same(found, wanted)
    if old:
        same(timed("  the old way: every part", lambda: old_read(journal, spread)), wanted)
    adjacent = expected.filter(pl.col("response_id").is_in(together))
    same(timed("not compacted, keys appended together", lambda: journal.read(together)), adjacent)
    _memory("before compacting")
    timed("compacting what is left" if every else "compacting", lambda: journal.compact(1))
    _memory("after compacting")
    print(f"  {len(journal.parts())} files; {_megabytes(folder):.0f} MB")
    for turn in ("", ", again"):
        same(timed(f"keys spread{turn}", lambda: journal.read(spread)), wanted)
    cold(journal, spread)
    same(timed("keys appended together", lambda: journal.read(together)), adjacent)
    assert timed("which of them are held", lambda: journal.contains([*spread, "none"])) == set(spread)
    totals = timed("totals", lambda: journal.totals("seconds", "completion_tokens"))
    _memory("before reading whole")
    if whole:
        rows = timed("whole", journal.read)
        assert rows.height == size
        assert totals["completion_tokens"] == rows["completion_tokens"].sum()


def _megabytes(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.iterdir()) / 1e6


def _memory(when: str) -> None:
    print(f"  peak memory {when}: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--part-rows", type=int, default=64, help="rows appended at a time")
    parser.add_argument("--compact-every", type=int, default=0, help="parts; as runs do: 256")
    parser.add_argument("--no-old", action="store_true", help="leave out the old way")
    parser.add_argument("--no-whole", action="store_true", help="leave out reading the journal whole")
    options = parser.parse_args()
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            measure(
                Path(folder) / "journal",
                size,
                options.keys,
                options.part_rows,
                options.compact_every,
                not options.no_old,
                not options.no_whole,
            )


if __name__ == "__main__":
    main()
