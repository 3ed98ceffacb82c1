"""Adapters that are trained and measured as cells of a bench: what their pages say, and the time it took.

    python -m benchmarks.tuning [--bench tuning] [--methods NAME ...] [--folder PLACE] [--threads 2]

`tuning` (`examples/adapters`): the embedded model under the plain request, without and with an adapter of GRPO, and a
method of prompt, adapter and vector. `english-tuned` (`examples/english`): a real model, likewise without the last, and
labels in words without and with an adapter of SteerLM. The state is picked on texts of the pool that nothing was
trained on; the probe is opened once, at the end. With a folder, what stands there is not made again.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import redirect_stdout
from html import unescape
from pathlib import Path

from benchmarks.own_bench import options_of, own_folder


def main() -> None:
    """Print what was measured."""
    options = options_of(__doc__, "tuning")
    with own_folder(options.folder, ("config", "examples/adapters", "examples/english")) as place:
        _measure(options.bench, options.methods, place, options.threads)


def _measure(name: str, methods: list[str] | None, place: Path, threads: int) -> None:
    import torch

    from steer_assets.assets import nodes_of
    from steer_assets.nodes import CELLS, SHARED
    from steer_assets.partitions import Cell, chosen_cells
    from steer_assets.running import Runner
    from steer_assets.settings import registry

    torch.set_num_threads(threads)
    bench = registry().bench(name)
    runner = Runner(bench.name)

    def run(title: str, names: list[str], cell: Cell | None = None) -> set[str]:
        # what the runner says goes to the terminal, figures to the file
        with redirect_stdout(sys.stderr):
            return runner.run(title, names, cell)

    run("shared nodes", [n.name for n in nodes_of(bench).all if n.group == SHARED])
    names = [n.name for n in nodes_of(bench).all if n.group == CELLS]
    for cell in chosen_cells(bench, methods or list(bench.methods)):
        wall, cpu = time.perf_counter(), time.process_time()
        if run(cell.key, names, cell):
            raise SystemExit(f"{cell.key} failed")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{cell.key}: {wall:.0f} s, {cpu:.0f} s of processor time, all of it")
        page = next((place / "root" / name / "report").glob(f"**/method={cell.method.name}/report.html"))
        for paragraph in _section(page.read_text(), "adapter"):
            print(f"    {paragraph}")


def _section(page: str, name: str) -> list[str]:
    """Paragraphs and table rows of a section, as plain text; none where the page has no such section."""
    found = re.search(rf'<section id="{name}">(.*?)</section>', page, re.S)
    if found is None:
        return []
    body = re.sub(r"<(svg|figure|details)\b.*?</\1>", "", found[1], flags=re.S)
    pieces = re.findall(r"<(p|tr)\b[^>]*>(.*?)</\1>", body, re.S)
    texts = (re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text))).strip() for _, text in pieces)
    return [text for text in texts if text]


if __name__ == "__main__":
    main()
