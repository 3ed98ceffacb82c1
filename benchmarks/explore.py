"""The explorer on 10^6 samples: `python -m benchmarks.explore [--cells 10] [--requests 100000]`.

Ten cells of 100,000 requests are written as published tables; then the server answers as a browser asks: a first view
with nothing in memory, filters and orders that were not asked for before, searches in all answers, samples. With
`--browser` the memory of a headless Chromium is measured, too. Every answer is checked before its time counts.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import tempfile
import threading
import time
import urllib.request
from typing import Any

import numpy as np
import polars as pl

from benchmarks.journal import _hex
from schemas import GoalMovements, GoalSpaceTable, Outcomes, RequestGoals, Requests, Responses, Steerability
from schemas.evaluation import HEADLINE
from steer_assets.explore.server import Explorer
from steer_assets.explore.serving import serve
from steer_core.explorer.bench import Bench
from steer_core.registry import load_registry, shipped_config
from steer_core.tables.footer import Footer
from steer_core.tables.snapshot import publish_table

GOALS = ("reading_difficulty", "text_length", "formality", "sentiment")
WORDS = (
    "old", "baker", "sells", "warm", "bread", "near", "a", "quiet", "station", "and", "nobody", "knows", "why",
    "although", "many", "have", "asked",
)  # fmt: skip


def write(root: str, cells: int, requests: int) -> list[str]:
    """Tables of a bench, as the pipeline would publish them."""
    rng = np.random.default_rng(5)
    ids = [_hex(f"q{i}") for i in range(requests)]
    texts = _texts(rng, requests)
    footer = Footer("x", 1)

    def put(rows: pl.DataFrame, contract, *where: str) -> None:
        publish_table(rows, contract, "/".join([root, "tales", *where, "part.parquet"]), footer)

    space = pl.DataFrame(
        [("s", n, g, f"{g}@1", 0.0, 1.0, "fixed", 9) for n, g in enumerate(GOALS)],
        schema=GoalSpaceTable.empty().schema,
        orient="row",
    )
    put(space, GoalSpaceTable, "goal_space")
    shared = {"probe": "main", "split": "test", "text_id": [_hex(f"t{i // 4}") for i in range(requests)]}
    put(pl.DataFrame({"request_id": ids, **shared, "text": texts, "source": "bench"}), Requests, "requests")
    z0 = rng.random((requests, len(GOALS)))
    asked = rng.random((requests, len(GOALS))) < 0.5
    target = np.where(asked, rng.random(z0.shape), np.nan)
    long = pl.DataFrame(
        {
            "request_id": np.repeat(ids, len(GOALS)),
            "goal": list(GOALS) * requests,
            "z0": z0.ravel(),
            "z_star": target.ravel(),
            "z0_raw": z0.ravel(),
        }
    ).with_columns(pl.col("z_star").fill_nan(None))
    put(long, RequestGoals, "request_goals")
    names = [f"method-{n}|embedded" for n in range(cells)]
    for n, cell in enumerate(names):
        method, model = cell.split("|")
        at = (f"model={model}", f"method={method}")
        figures = {c: rng.random(requests) for c in Steerability.names()}
        plain = {
            "arm_id": HEADLINE, "request_id": ids, "probe": "main", "goal_space_id": "s", "text_id": shared["text_id"],
            "failure": np.where(rng.random(requests) < 0.02, "truncated", None).tolist(),
            "copied": rng.random(requests) < 0.01,
        }  # fmt: skip
        put(_as(Steerability, {**figures, **plain}), Steerability, "steerability", *at)
        answers = _texts(rng, requests)
        responses = [_hex(f"r{n}-{i}") for i in range(requests)]
        outcome = {
            "arm_id": HEADLINE, "request_id": ids, "probe": "main", "response_id": responses, "text": answers,
            "text_id": responses, "failure": None, "copied": False, "rounds": 1, "n_calls": 1, "prompt_tokens": 170,
            "completion_tokens": rng.integers(20, 90, requests), "seconds": 0.1,
        }  # fmt: skip
        put(_as(Outcomes, outcome), Outcomes, "outcomes", *at)
        moved = {"z_hat": rng.random(requests * len(GOALS)), "overshoot": 0.0, "value": 1.0}
        moves = long.with_columns(arm_id=pl.lit(HEADLINE), probe=pl.lit("main")).with_columns(
            **{k: pl.Series(v) if isinstance(v, np.ndarray) else pl.lit(v) for k, v in moved.items()}
        )
        put(moves.select(GoalMovements.names()), GoalMovements, "goal_movements", *at)
        if n == 0:
            came = {
                "response_id": responses, "plan_id": responses, "plan": '{"messages":[{"content":"go","role":"user"}]}',
                "sample_index": 0, "seed": 1, "execution": "e", "raw": answers, "text": answers, "text_id": responses,
                "finish_reason": "stop", "parsed": True, "prompt_tokens": 170, "completion_tokens": 60, "seconds": 0.1,
                "receipt": None,
            }  # fmt: skip
            put(_as(Responses, came), Responses, "responses", *at)
    return names


def _as(contract, values: dict) -> pl.DataFrame:
    schema = contract.empty().schema
    return pl.DataFrame({k: values[k] for k in schema}).select(pl.col(c).cast(t) for c, t in schema.items())


def _texts(rng: np.random.Generator, n: int) -> list[str]:
    picked = rng.integers(0, len(WORDS), (n, 45))
    return [" ".join(WORDS[w] for w in row) + f" {i}." for i, row in enumerate(picked)]


class Asked:
    """A server in a thread, asked over HTTP as a browser asks."""

    def __init__(self, root: str) -> None:
        registry = load_registry([shipped_config()])
        spec = registry.bench("tales")
        self.explorer = Explorer(root, {"tales": Bench(root, spec, registry.goals_of(spec), ("copy",))})
        told = threading.Event()

        def ready(address: str) -> None:
            self.address = address
            told.set()

        threading.Thread(target=serve, args=(self.explorer, 0, ready), daemon=True).start()
        told.wait(30)

    def get(self, path: str) -> tuple[str, float]:
        """The page and its seconds."""
        began = time.perf_counter()
        with urllib.request.urlopen(f"{self.address}tales/{path}") as answer:
            return answer.read().decode(), time.perf_counter() - began


def total(page: str) -> int:
    """How many samples a page says there are."""
    found = re.search(r"<b>([\d,]+) samples?</b>", page)
    assert found is not None, page[:2000]
    return int(found[1].replace(",", ""))


def main() -> None:
    """Write, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--store", type=float, metavar="SECONDS", help="on an object store that answers so late")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root, store = folder, None
        if options.store is not None:
            from fsspec.config import conf

            from tests.object_store import BUCKET, serving

            store = stack.enter_context(serving(folder, options.store))
            conf["s3"] = store.settings
            root = f"s3://{BUCKET}/root"
        names = write(root, options.cells, options.requests)
        ask(root, names, options, store)


def ask(root: str, names: list[str], options: argparse.Namespace, store: Any) -> None:
    """Ask as a browser asks, and print what came of it."""
    if store is not None:
        store.requests()
    size, asked = options.cells * options.requests, Asked(root)
    page, first = asked.get("samples")
    assert total(page) == size
    print(f"{size:,} samples of {options.cells} cells: first view {first:.2f} s", flush=True)
    if store is not None:
        print(f"  on a store that answers after {1000 * options.store:.0f} ms: {_counts(store)} for the first view")
    rng = np.random.default_rng(1)
    times: dict[str, list[float]] = {"filter or sort": [], "search": [], "sample": [], "again": []}
    sorts = [
        *("left", "error", "requested", "orthogonality"),
        *("meaning_content", "completion_tokens", "miscalibration"),
    ]
    for k in range(60):
        cells = "".join(f"&cell={names[i].replace('|', '%7C')}" for i in rng.choice(len(names), k % 4, replace=False))
        goal = f"&goal={GOALS[k % 4]}&direction={('up', 'down')[k % 2]}" if k % 3 else ""
        failed = ("", "&failure=none", "&failure=any")[k % 3]
        low = f"&low={0.05 * (k % 10):.2f}" if k % 5 == 0 else ""
        path = f"samples?sort={sorts[k % 7]}&order={('asc', 'desc')[k % 2]}&per={40 + k}{cells}{goal}{failed}{low}"
        page, seconds = asked.get(path)
        assert total(page) <= size
        times["filter or sort"].append(seconds)
        times["again"].append(asked.get(path + "&page=2")[1])
    for k in range(4):
        page, seconds = asked.get(f"samples?sort=goal:{GOALS[k]}")
        times["filter or sort"].append(seconds)
    for k in range(12):
        word = f"{WORDS[k]} {WORDS[(3 * k) % 17]}"
        page, seconds = asked.get(f"samples?q={word.replace(' ', '+')}")
        assert total(page) > 0
        times["search"].append(seconds)
    for k in range(20):
        page, seconds = asked.get(f"sample?cell={names[0].replace('|', '%7C')}&at={k * 17}")
        assert "What the model read" in page
        times["sample"].append(seconds)
    if store is not None:
        views = sum(len(found) for found in times.values())
        print(f"  the {views} views below took {_counts(store)}")
    for what, found in times.items():
        print(
            f"  {what:16} n {len(found):3}   median {1000 * np.median(found):7.0f} ms   95th percentile "
            f"{1000 * np.quantile(found, 0.95):7.0f} ms   most {1000 * max(found):7.0f} ms"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  memory of the server, with what wrote the tables: {peak:,.0f} MB")
    if options.browser:
        empty, most = browser_memory(asked.address)
        print(f"  memory of the browser: {most:,.0f} MB at most, {empty:,.0f} MB of it before the first page")


def _counts(store: Any) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in sorted(store.requests().items()))


def browser_memory(address: str) -> tuple[float, float]:
    """Proportional memory of all processes of a headless Chromium, in MB: on an empty page, and the most in views."""
    import psutil
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        for path in (
            "",
            "samples?per=200",
            "samples?sort=error",
            "sample?at=3",
            "compare",
            "space",
            "samples?page=900",
        ):
            page.goto(f"{address}tales/{path}" if path else "about:blank")
            own = [c for c in psutil.Process().children(recursive=True) if "chrom" in c.name()]
            found.append(sum(c.memory_full_info().pss for c in own) / 1e6)
        browser.close()
    return found[0], max(found)


if __name__ == "__main__":
    main()
