"""What to use for a trait, from the tables of `examples/search`: `make evidence-ways`."""

from __future__ import annotations

import polars as pl

from schemas import Detections, SearchResults, SweepFindings
from steer_assets.io import read_published, table_url
from steer_assets.partitions import controls, valid_cells
from steer_assets.settings import registry, storage_root
from steer_core.reports.sections import detection, search
from steer_core.reports.which_way import which_ways
from steer_core.tables.snapshot import table_exists


def main() -> None:
    """Print what the leaderboard and the pages say."""
    bench = registry().bench("ways")
    findings = []
    for cell in valid_cells(bench):
        urls = {
            c: table_url(storage_root(), bench.name, c.table(), cell.key)
            for c in (SweepFindings, SearchResults, Detections)
        }
        if not table_exists(urls[SweepFindings]):
            continue
        own = read_published(urls[SweepFindings], SweepFindings)
        findings.append(own.with_columns(model=pl.lit(cell.model.name), method=pl.lit(cell.method.name)))
        print(cell.key)
        if table_exists(urls[SearchResults]):
            results = read_published(urls[SearchResults], SearchResults)
            for _, rows in results.group_by("behavior", maintain_order=True):
                print("  search:", " ".join(search.sentences(rows)))
        if table_exists(urls[Detections]):
            found = read_published(urls[Detections], Detections)
            for _, rows in found.group_by("concept", maintain_order=True):
                print("  read:", detection.sentence(rows))
    for way in which_ways(pl.concat(findings), controls(bench), {}):
        print(f"\n{way.sentence}")
        for row in way.rows:
            over = (
                ""
                if row["over"] is None
                else f", at equal KL {row['over']:+.2f} [{row['over_low']:+.2f}, {row['over_high']:+.2f}]"
            )
            tokens = "" if row["tokens"] is None else f", {row['tokens']:.0f} tokens"
            called = f": {row['call']}" if row["call"] else ""
            ends = f"[{row['effect_low']:+.2f}, {row['effect_high']:+.2f}]"
            print(f"  {row['way']}: {row['effect']:+.2f} {ends}{tokens}{over}{called}")


if __name__ == "__main__":
    main()
