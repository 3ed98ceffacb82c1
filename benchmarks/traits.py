"""Behaviors from a sentence: what became of them, and how far their vectors move them: `python -m benchmarks.traits`.

    python -m benchmarks.traits [--benches told told-english] [--folder PLACE] [--threads 2]

`told` (`examples/traits`): two traits of the embedded model, whose grammar knows the truth. `told-english`: three of a
small real model. For each: the yield, who filtered, every strength beside the model as it is and the behavior's own
system prompts, and answers to read. Seconds are of everything, from the sentence to the page.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import redirect_stdout

import polars as pl

from benchmarks.own_bench import own_folder

#: Answers that are shown of each arm.
SHOWN = 1


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benches", nargs="+", default=["told", "told-english"])
    parser.add_argument("--folder")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with own_folder(options.folder, ("config", "examples/english", "examples/traits")):
        for name in options.benches:
            _bench(name, options.threads)


def _bench(name: str, threads: int) -> None:
    import torch

    from steer_assets.io import table_url
    from steer_assets.partitions import chosen_cells
    from steer_assets.running import run_cells
    from steer_assets.settings import registry, storage_root

    torch.set_num_threads(threads)
    bench = registry().bench(name)
    (cell,) = chosen_cells(bench, [m for m in bench.methods if m.startswith("told")])
    start = time.monotonic()
    with redirect_stdout(sys.stderr):
        if run_cells(bench, [cell]):
            sys.exit(f"{name}: failed")
    print(f"{name}: {len(bench.behaviors)} behaviors from a sentence each, {time.monotonic() - start:.0f} s in all\n")

    def read(table: str, own: bool = True) -> pl.DataFrame:
        url = table_url(storage_root(), bench.name, table, cell.key if own else None)
        return pl.read_parquet(url, hive_partitioning=False)

    integrity, items = read("data_integrity", own=False), read("behavior_items", own=False)
    arms, summary, findings = read("sweep_arms"), read("arm_summary"), read("sweep_findings")
    answers = read("arm_answers")
    for behavior in bench.behaviors:
        said = integrity.filter(pl.col("concept") == behavior)
        print(f"## {behavior}: {registry().behavior(behavior).description}")
        for row in said.filter(pl.col("check").str.contains("yield|refusals|told_apart")).iter_rows(named=True):
            print(f"   {row['detail']}")
        found = findings.filter(behavior=behavior, group="main")
        for row in found.filter(pl.col("finding").is_in(["spearman", "anti_steerable"])).iter_rows(named=True):
            ends = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
            value = "none" if row["value"] is None else f"{row['value']:.2f}{ends}"
            print(f"   {row['measure']}, {row['finding']}: {value}")
        _arms(behavior, arms, summary, answers, items)


def _arms(behavior: str, arms: pl.DataFrame, summary: pl.DataFrame, answers: pl.DataFrame, items: pl.DataFrame) -> None:
    own = arms.filter(pl.col("behavior") == behavior, pl.col("role").is_in(["off", "vector", "prompt"]))
    question = items.filter(pl.col("behavior") == behavior, pl.col("form") == "open")["item_id"][0]
    print(f"   asked: {items.filter(item_id=question)['messages'].item()}")
    for arm in own.iter_rows(named=True):
        what = arm["system"] or ("as it is" if arm["role"] == "off" else f"strength {arm['strength']:+g}")
        figures = []
        for measure in ("judged", "propensity", "kl", "perplexity", "length"):
            row = summary.filter(arm_id=arm["arm_id"], behavior=behavior, group="main", measure=measure)
            if row.height and row["mean"][0] is not None:
                r = row.row(0, named=True)
                ends = "" if r["low"] is None else f" [{r['low']:.2f}, {r['high']:.2f}]"
                figures.append(f"{measure} {r['mean']:.2f}{ends}")
        print(f"   {what}: {'; '.join(figures)}")
        for text in answers.filter(arm_id=arm["arm_id"], item_id=question)["text"].head(SHOWN):
            print(f"      {' '.join(text.split())[:200]}")
    print(flush=True)


if __name__ == "__main__":
    main()
