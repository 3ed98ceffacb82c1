"""Commands about submissions: what lies there, and the probe that is released."""

from __future__ import annotations

import argparse

from schemas.specs import BenchSpec
from steer_core.tables.errors import SteerworksError


def submissions(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Say of each submission whether it is taken, and why not; with `--admit` take those that can be."""
    from steer_assets.submitting import checked, is_admitted, submissions_of
    from steer_core.evaluation.submissions import admit

    folders = submissions_of(bench)
    refused = 0
    for folder in folders:
        if is_admitted(folder):
            print(f"{folder.name}: on the bench")
            continue
        found = checked(bench, folder)
        if found.problems:
            refused += 1
            print(f"{folder.name}: not taken")
        elif options.admit:
            admit(found)
            print(f"{folder.name}: admitted; steerworks run {folder.name.lower()} --models elsewhere")
        else:
            print(f"{folder.name}: can be admitted: --admit")
        for line in (*found.problems, *found.notes):
            print(f"  {line}")
    if not folders:
        print("There are no submissions.")
    if refused:
        raise SteerworksError(f"{refused} of {len(folders)} submissions are not taken")


def export_probe(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Write the bench's probe, with a card."""
    from steer_assets.submitting import export_probe as export

    print(export(bench, options.to))
