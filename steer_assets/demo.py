"""`make demo`: the whole pipeline of a bench, cell by cell, in one process, through Dagster.

Runs land in the same instance that `make dev` shows. What is up to date is not done again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from steer_assets.partitions import chosen_cells
from steer_assets.running import StoppedError, run_cells
from steer_assets.settings import registry
from steer_core.tables.errors import SteerworksError

#: What the demo runs unless told otherwise: the two controls, a prompt, and a vector.
METHODS = ("copy", "rewrite", "direct", "vector-mean-difference")


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m steer_assets.demo", description=__doc__)
    parser.add_argument("--bench", default="tales", help="bench to run (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="METHOD", help="methods, or `all`")
    options = parser.parse_args(arguments)
    return guarded(lambda: run(options.bench, options.methods))


def run(bench_name: str, methods: list[str]) -> int:
    """Materialize a bench: what the cells share, the cells, the leaderboard."""
    bench = registry().bench(bench_name)
    return run_cells(bench, chosen_cells(bench, methods))


def guarded(command: Callable[[], int]) -> int:
    """Run a command; an error is one line and exit code 2, Ctrl-C 130."""
    try:
        return command()
    except SteerworksError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (StoppedError, KeyboardInterrupt):
        print("\nStopped. What was written so far is kept: run it again to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
