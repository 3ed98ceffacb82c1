"""A bench that a benchmark runs in a folder of its own: the options and settings that all such benchmarks take."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path


def options_of(doc: str | None, bench: str) -> argparse.Namespace:
    """What the command line asks for: `bench`, `methods`, `folder` and `threads`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=bench)
    parser.add_argument("--methods", nargs="+", help="of the bench, in this order; all of them where nothing is said")
    parser.add_argument("--folder", help="where tables and pages lie, and stay")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


@contextmanager
def own_folder(folder: str | None, config: Sequence[str]) -> Iterator[Path]:
    """The folder with Dagster's home and the tables, temporary where none is named; `config`: folders of specs."""
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as chosen:
        place = Path(chosen).resolve()
        place.mkdir(parents=True, exist_ok=True)
        (place / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        os.environ |= {
            "DAGSTER_HOME": str(place),
            "STEERWORKS_ROOT": str(place / "root"),
            "STEERWORKS_CONFIG": os.pathsep.join(config),
        }
        yield place
