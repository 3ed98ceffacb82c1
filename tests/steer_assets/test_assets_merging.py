"""Two machines make a cell each; merged, nothing of either is made again, and only what looks across cells is new."""

import shutil

import polars as pl

from steer_assets.__main__ import main
from steer_core.tables.merging import merge_roots

#: Tables that look at all cells of the bench.
ACROSS = {"leaderboard", "leaderboard_page", "frontier", "profile_pairs", "comparisons"}


def read(path) -> pl.DataFrame:
    return pl.read_parquet(path, hive_partitioning=False)


def test_cells_of_two_machines_become_one_bench_and_nothing_is_asked_again(workplace, monkeypatch, capsys, tmp_path):
    one, two = workplace.root, tmp_path / "elsewhere"
    workplace.materialize("group:small_shared")
    shutil.copytree(one, two)
    workplace.materialize("group:small_cells", "rewrite|embedded")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("STEERWORKS_ROOT", str(two))
        workplace.materialize("group:small_cells", "direct|embedded")
    monkeypatch.setattr("steer_assets.commands.merging.storage_root", lambda: str(one))

    assert main(["merge", str(two), "--dry-run"]) == 0
    assert "Would take" in capsys.readouterr().out
    assert not workplace.table("responses", "direct|embedded").exists()
    assert main(["merge", str(two)]) == 0
    said = capsys.readouterr().out
    assert "small/journal/model=embedded" in said
    assert "conflict" not in said
    answers = read(workplace.table("responses", "direct|embedded"))
    assert answers.equals(read(two / "small/responses/model=embedded/method=direct/part.parquet"))
    page = one / "small/report/model=embedded/method=direct/report.html"
    assert page.read_bytes() == (two / page.relative_to(one)).read_bytes()

    # what cannot be read is said, and the command ends with 1
    (two / "small/responses/model=embedded/method=odd").mkdir()
    (two / "small/responses/model=embedded/method=odd/part.parquet").write_bytes(b"rubble")
    assert main(["merge", str(two)]) == 1
    assert "Could not be read, and was not taken (1):" in capsys.readouterr().out

    # every table of the other machine's cell is up to date here; its page now has a method beside it
    status, _ = workplace.materialize("group:small_cells", "direct|embedded")
    assert {n for n, s in status.items() if s == "written"} <= {"report", *ACROSS}
    status, _ = workplace.materialize("group:small_cells", "rewrite|embedded")
    assert {n for n, s in status.items() if s == "written"} <= {"report", *ACROSS}

    # the other way round they come to the same answers and tables
    back = merge_roots(str(two), str(one))
    assert back.conflicts == []
    for table in ("responses", "steerability"):
        for method in ("rewrite", "direct"):
            below = f"small/{table}/model=embedded/method={method}/part.parquet"
            assert read(one / below).equals(read(two / below))
