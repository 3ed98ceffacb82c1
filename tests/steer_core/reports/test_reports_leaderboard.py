import hashlib

import polars as pl
import pytest
from fixture_tables import leaderboard_table
from page_reader import read

import schemas
from steer_core.reports import build_leaderboard

SPACES = ("a" * 32, "b" * 32)
LINK = "model=embedded/method=direct/report.html"


@pytest.fixture(scope="module")
def report():
    table = leaderboard_table(spaces=SPACES)
    return build_leaderboard(
        table, bench="two_spaces", cell_reports={("embedded", "direct"): LINK}, versions={"x": "1"}
    )


@pytest.fixture(scope="module")
def page(report):
    return read(report.files["report.html"])


def test_goal_spaces_never_share_a_section(report, page):
    assert page.unbalanced == []
    assert [i for i in page.ids if i.startswith("section-")] == ["section-1", "section-2"]
    for place, space in enumerate(SPACES, 1):
        for name in ("ranking", "trade_off"):
            rows = pl.read_parquet(report.files[f"tables/{name}_{place}.parquet"])
            assert rows["goal_space_id"].unique().to_list() == [space]


def test_probes_of_one_space_have_sections_of_their_own():
    table = leaderboard_table(probes=("one", "two")).filter(pl.col("method").is_in(["copy", "direct"]))
    page = read(build_leaderboard(table, bench="b").files["report.html"])
    assert page.ids.count("section-1") == page.ids.count("section-2") == 1
    assert "section-3" not in page.ids


def test_controls_are_marked_and_never_lead(page):
    assert page.blocks["tag"] == ["control"] * 8
    assert "best-of-8 on" in page.said or "closed-loop on" in page.said
    worst = leaderboard_table().filter(pl.col("method").is_in(["copy", "rewrite"]))
    said = read(build_leaderboard(worst, bench="b").files["report.html"]).said
    assert "Only controls so far" in said


def test_overlapping_leaders_are_not_told_apart(page):
    assert "the order among them is open" in page.said


def test_cells_link_to_their_reports_by_relative_path(page):
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and not str(attrs["href"]).startswith("#")]
    assert links == [LINK, LINK]


@pytest.mark.parametrize("path", ["https://example.org/x", "//example.org/x", "/etc/passwd", "javascript:alert(1)"])
def test_a_link_that_leaves_the_folder_tree_is_refused(path):
    with pytest.raises(ValueError, match="not a relative path"):
        build_leaderboard(leaderboard_table(), bench="b", cell_reports={("embedded", "direct"): path})


def test_an_empty_leaderboard_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="materialize at least one cell"):
        build_leaderboard(leaderboard_table().clear(), bench="b")


def test_a_missing_copy_is_said():
    table = leaderboard_table().filter(pl.col("method") != "copy")
    assert "The control copy is missing" in read(build_leaderboard(table, bench="b").files["report.html"]).said


def test_cells_without_a_complete_case_are_listed():
    table = leaderboard_table().with_columns(
        [
            pl.when(pl.col("method") == "direct").then(None).otherwise(pl.col(name)).alias(name)
            for name in (
                "error",
                "error_low",
                "error_high",
                "miscalibration",
                "orthogonality",
                "vs_copy",
                "meaning_content",
            )
        ]
    )
    page = read(build_leaderboard(schemas.Leaderboard.validate(table), bench="b").files["report.html"])
    assert "direct embedded – 0.3" in page.said
    assert page.unbalanced == []


def test_the_manifest_lists_every_file_with_its_digest(report):
    schemas.Reports.validate(report.manifest)
    digests = {row["file"]: row["sha256"] for row in report.manifest.iter_rows(named=True)}
    assert digests == {name: hashlib.sha256(data).hexdigest() for name, data in report.files.items()}


def test_the_same_table_gives_the_same_page(report):
    table = leaderboard_table(spaces=SPACES)
    again = build_leaderboard(
        table, bench="two_spaces", cell_reports={("embedded", "direct"): LINK}, versions={"x": "1"}
    )
    assert again.files["report.html"] == report.files["report.html"]
