"""What steering costs apart from the request: the profiles of a bench's cells, as the tables say it, and their time.

    python -m benchmarks.steering_costs [--bench english-costs] [--methods NAME ...] [--folder PLACE] [--threads 2]

`english-costs` (`examples/english`): a real model as it is and under one vector at three strengths. `profiled`
(`examples/profiles`): the embedded model, a prompt, a vector and an adapter, every profile that ships. Seconds are of
the node `profiles` alone, imports and loading included. With a folder, what stands there is not made again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import polars as pl

from benchmarks.own_bench import options_of, own_folder

#: The node that is timed on its own.
TIMED = "profiles"


def main() -> None:
    """Print what was measured."""
    options = options_of(__doc__, "english-costs")
    with own_folder(options.folder, ("config", "examples/profiles", "examples/english")):
        _measure(options.bench, options.methods, options.threads)


def _measure(name: str, methods: list[str] | None, threads: int) -> None:
    import torch

    from steer_assets.assets import nodes_of
    from steer_assets.io import table_url
    from steer_assets.nodes import BOARD, CELLS, SHARED
    from steer_assets.partitions import Cell, chosen_cells
    from steer_assets.running import Runner
    from steer_assets.settings import registry, storage_root
    from steer_core.tables.snapshot import table_exists

    torch.set_num_threads(threads)
    bench = registry().bench(name)
    runner = Runner(bench.name)
    nodes = nodes_of(bench).all

    def run(title: str, names: Sequence[str], cell: Cell | None = None) -> float:
        start = time.process_time(), time.monotonic()
        # what the runner says goes to the terminal, figures to the file
        with redirect_stdout(sys.stderr):
            if runner.run(title, list(names), cell):
                sys.exit(f"{title}: failed")
        print(
            f"{title}: {time.process_time() - start[0]:.0f} s of processor time, {time.monotonic() - start[1]:.0f} s",
            flush=True,
        )
        return time.monotonic() - start[1]

    run("what cells share", [n.name for n in nodes if n.group == SHARED])
    for cell in chosen_cells(bench, methods or ["all"]):
        own = [n.name for n in nodes if n.group == CELLS]
        place = own.index(TIMED)
        run(f"{cell.key}, up to its profiles", own[:place], cell)
        run(f"{cell.key}, profiles", [own[place]], cell)
        run(f"{cell.key}, scores and page", own[place + 1 :], cell)
        if table_exists(table_url(storage_root(), bench.name, "profile_figures", cell.key)):
            print("\n".join(_tables(bench.name, cell.key)), flush=True)
    run("leaderboard", [n.name for n in nodes if n.group == BOARD])


def _tables(bench: str, key: str) -> Iterator[str]:
    """A table a cell: figures that pages show at once, setting by setting, and what changed."""
    from steer_assets.io import table_url
    from steer_assets.settings import registry, storage_root
    from steer_core.evaluation.profiles.kind import shown

    def read(name: str) -> pl.DataFrame:
        return pl.read_parquet(table_url(storage_root(), bench, name, key))

    arms, figures, changes = read("profile_arms"), read("profile_figures"), read("profile_changes")
    specs = registry().profiles_of(registry().bench(bench))
    yield f"\n{key}: {arms.height} settings"
    for row in arms.iter_rows(named=True):
        yield f"  {row['label']}"
    columns = arms["arm_id"].to_list()
    for name, spec in specs.items():
        own = figures.filter(pl.col("profile") == name)
        for (group, metric, setting), part in own.group_by("group", "metric", "setting", maintain_order=True):
            of_arm = {r["arm_id"]: r for r in part.iter_rows(named=True)}
            if shown(spec, next(iter(of_arm.values()))):
                cells = [_cell(of_arm.get(a)) for a in columns]
                where = f"{metric}" + (f", {group}" if group != "all" else "") + (f" ({setting})" if setting else "")
                yield f"| {name} | {where} | " + " | ".join(cells) + " |"
    labels = dict(arms.select("arm_id", "label").iter_rows())
    compared = changes["p"].is_not_null().sum()
    yield f"{changes['different'].sum()} of {compared} differences stand (Holm, 5 % over all):"
    for row in changes.filter("different").sort("profile", "metric").iter_rows(named=True):
        ends = f"[{row['low']:.3f}, {row['high']:.3f}]" if row["low"] is not None else ""
        yield (
            f"  {labels[row['arm_id']]}: {row['profile']}, {row['metric']}: {row['plain_value']:.3f} -> "
            f"{row['value']:.3f} ({row['difference']:+.3f} {ends}, p {row['p_adjusted']:.3f})"
        )


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    ends = f" [{row['low']:.3f}, {row['high']:.3f}]" if row["low"] is not None else ""
    return f"{row['value']:.3f}{ends}"


if __name__ == "__main__":
    main()
