import hashlib

import polars as pl
import pytest
from fixture_tables import leaderboard_table, typed
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


def board(*cells):
    """Rows of a leaderboard: (method, error, difference to the best, failed); copy has .52."""
    methods = [c for c in cells if c[0] != "copy"]
    best = min(methods, key=lambda c: c[1])
    base = next((c[1] for c in cells if c[0] == "copy"), None)
    template = leaderboard_table().row(0, named=True)
    rows = []
    for rank, (method, error, width, failed) in enumerate(sorted(cells, key=lambda c: c[1]), 1):
        to_copy = None if method == "copy" or not base else error / base - 1
        half = None if to_copy is None else width / base
        row = {"method": method, "model": "m", "rank": rank, "error": error, "failed": failed, "best": f"{best[0]}|m"}
        row |= {"error_low": error - 0.02, "error_high": error + 0.02, "error_complete": error}
        row |= {
            "vs_copy": to_copy,
            "vs_copy_low": to_copy and to_copy - half,
            "vs_copy_high": to_copy and to_copy + half,
        }
        gap = error - best[1]
        own = method == best[0]
        row |= {"vs_best": gap, "vs_best_low": gap - (0 if own else width), "vs_best_high": gap + (0 if own else width)}
        rows.append(template | row)
    return typed(rows, schemas.Leaderboard)


def sentence(*cells):
    return " ".join(read(build_leaderboard(board(*cells), bench="b").files["report.html"]).blocks["verdict"])


def test_a_method_that_beats_doing_nothing_leads_with_its_interval():
    text = sentence(("copy", 0.52, 0, 0.0), ("direct", 0.336, 0.02, 0.0), ("vector", 0.457, 0.02, 0.0))
    assert "direct on m leads with an error of 0.336" in text
    assert "65\u00a0% [61 to 68] of doing nothing" in text
    assert "cannot be told apart" not in text


def test_order_is_open_only_where_the_paired_difference_includes_zero():
    # the intervals of the errors overlap in both; request by request only the second is open
    cells = ("copy", 0.52, 0, 0.0), ("direct", 0.160, 0.01, 0.0)
    assert "cannot be told apart" not in sentence(*cells, ("vector", 0.180, 0.01, 0.0))
    assert "vector on m cannot be told apart from it, request by request" in sentence(
        *cells, ("vector", 0.165, 0.01, 0.0)
    )


def test_a_method_behind_copy_loses_to_doing_nothing_and_does_not_lead():
    # the 40 % largest requests were cut off: .83 with them at their worst, against .52 of copy
    text = sentence(("copy", 0.52, 0, 0.0), ("direct", 0.83, 0.05, 0.4))
    assert "The best method, direct on m, loses to doing nothing: it ends at 160\u00a0%" in text
    assert "leads" not in text
    assert "Failed answers of 1 cell count at their worst." in text


def test_where_all_answers_failed_nothing_is_ranked():
    text = sentence(("copy", 0.52, 0, 0.0), ("direct", 1.523, 0.05, 1.0))
    assert text == (
        "Nothing could be ranked: no answer of direct on m could be measured; every error below is the worst there is."
    )


def test_where_nothing_is_asked_whatever_moves_loses():
    text = sentence(("copy", 0.0, 0, 0.0), ("direct", 0.160, 0.02, 0.0), ("vector", 0.206, 0.02, 0.0))
    assert "doing nothing is exactly right: the best method, direct on m, loses to it, ending 0.160" in text
    assert "leads" not in text


def test_a_method_that_cannot_be_told_from_doing_nothing_is_said_so():
    text = sentence(("copy", 0.52, 0, 0.0), ("direct", 0.515, 0.02, 0.0))
    assert "The best method, direct on m, cannot be told apart from doing nothing" in text


def test_null_intervals_do_not_drop_out_of_the_sentence():
    rows = board(("copy", 0.52, 0, 0.0), ("direct", 0.3, 0.02, 0.0), ("vector", 0.4, 0.02, 0.0)).with_columns(
        pl.lit(None, pl.Float64).alias(c) for c in ("vs_best_low", "vs_best_high", "vs_copy_low", "vs_copy_high")
    )
    text = " ".join(read(build_leaderboard(rows, bench="b").files["report.html"]).blocks["verdict"])
    assert "direct on m comes first with an error of 0.300" in text
    assert "too few texts to hold it against doing nothing" in text
    assert "vector on m: too few texts to say whether the order holds" in text


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
    unknown = ("error_complete", "miscalibration", "orthogonality", "meaning_content", "error_binned")
    table = leaderboard_table().with_columns(
        pl.when(pl.col("method") == "direct").then(None).otherwise(pl.col(name)).alias(name) for name in unknown
    )
    page = read(build_leaderboard(schemas.Leaderboard.validate(table), bench="b").files["report.html"])
    assert "direct embedded 0.3" in page.said
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
