"""`steerworks prune`: it says first, and removes what a configuration no longer has."""

import os

import polars as pl

from steer_assets.__main__ import main


def old(root):
    for folder, _, files in os.walk(root):
        for file in files:
            os.utime(f"{folder}/{file}", (0, 0))


def everything(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_bench_that_is_up_to_date_has_no_garbage_but_leases_and_a_method_that_went_has(workplace, capsys):
    workplace.bench = {**workplace.bench, "methods": ["copy", "direct"]}
    workplace.configure()
    workplace.materialize("group:small_shared")
    for cell in ("copy|embedded", "direct|embedded"):
        workplace.materialize("group:small_cells", cell)
    workplace.materialize("group:small_leaderboard")
    assert main(["prune"]) == 0
    assert "Nothing to remove that is older than 7 days." in capsys.readouterr().out
    old(workplace.root)
    before = everything(workplace.root)
    assert main(["prune"]) == 0
    out = capsys.readouterr().out
    assert "Would remove: 1 set of leases" in out
    assert "table" not in out
    workplace.bench = {**workplace.bench, "methods": ["copy"]}
    workplace.configure()
    assert main(["prune"]) == 0
    out = capsys.readouterr().out
    assert "Not of this configuration, and kept without --unconfigured: " in out
    assert "small/report/model=embedded/method=direct: no table of a cell that is configured" in out
    assert everything(workplace.root) == before
    assert main(["prune", "--unconfigured", "--delete"]) == 0
    assert "Freed" in capsys.readouterr().out
    left = everything(workplace.root)
    assert not [p for p in left if "method=direct" in p]
    assert {p: b for p, b in before.items() if "method=direct" not in p and ".leases" not in p} == left
    # what is left is up to date, and the answers of the method that went are still in the journal
    assert pl.read_parquet(workplace.table("leaderboard"))["method"].to_list() == ["copy", "direct"]
    workplace.materialize("group:small_leaderboard")
    status, _ = workplace.materialize("group:small_cells", "copy|embedded")
    assert set(status.values()) == {"unchanged"}
