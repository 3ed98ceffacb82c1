import hashlib
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import polars as pl
import pytest
from fixture_tables import GOALS, PROBE, cell_tables, with_controls
from page_reader import read

import schemas
from steer_core.reports import build_cell_report
from steer_core.reports.stills import png_of
from steer_core.reports.text import MOST_CHARACTERS, visible

HOSTILE = (
    "</div></main><script>alert(1)</script><img src=x onerror=alert(2)> <!-- &amp; {{ 7*7 }} {% raw %}\n"
    "\x00\x07 \u202egnp.exe\u202c עברית مرحبا <style>*{display:none}</style> ]]> \" ' `"
)


@pytest.fixture(scope="module")
def tables():
    return with_controls(cell_tables(n_texts=16, per_text=8))


@pytest.fixture(scope="module")
def report(tables):
    return build_cell_report(tables)


@pytest.fixture(scope="module")
def page(report):
    return read(report.files["report.html"])


def small(**changes):
    """Two goals only: fewer panels to draw."""
    return cell_tables(**{"n_texts": 4, "per_text": 2, "goals": ("formality", "sentiment"), "active": 1} | changes)


def test_the_page_is_well_formed(page):
    assert page.unbalanced == []
    assert page.open == []


def test_ids_are_unique_and_links_arrive(page):
    assert len(page.ids) == len(set(page.ids))
    targets = [attrs["href"] for tag, attrs in page.tags if tag in ("a", "use") and "href" in attrs]
    assert targets
    assert {str(target).removeprefix("#") for target in targets} <= set(page.ids)


def test_the_page_fetches_nothing(report, page):
    text = report.files["report.html"].decode()
    assert "http" not in re.sub(r'http-equiv="', "", text)
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "img", "form", "base"} == set()
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_the_page_is_light(report):
    assert len(report.files["report.html"]) < 3_000_000


def test_figures_leave_their_colours_to_the_page(report):
    for svg in re.findall(r"<svg.*?</svg>", report.files["report.html"].decode(), flags=re.DOTALL):
        painted = re.findall(r"(?:fill|stroke|color): ?(#[0-9a-fA-F]{3,8}|black|white)", svg)
        assert painted == []


@pytest.fixture(scope="module")
def without_rewrite():
    return build_cell_report(small(controls=("copy", "permuted")))


def test_the_same_tables_give_the_same_bytes(without_rewrite):
    again = build_cell_report(small(controls=("copy", "permuted")))
    assert dict(again.files) == dict(without_rewrite.files)


def test_every_figure_has_its_rows_and_every_still_is_a_picture(report):
    stills = {name for name in report.files if name.startswith("figures/")}
    assert {name.removeprefix("figures/").removesuffix(".svg") for name in stills} == {
        "headline", "requested_vs_got", "side_effects", "flow", "distributions", "meaning", "overshoot",
    }  # fmt: skip
    for name in stills:
        rows = pl.read_parquet(report.files[name.replace("figures/", "tables/").replace(".svg", ".parquet")])
        assert rows.height > 0
        root = ElementTree.fromstring(report.files[name])
        assert root.tag.endswith("svg")
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        assert len(ids) == len(set(ids))
        assert {v.removeprefix("#") for e in root.iter() if (v := e.get("href"))} <= set(ids)


def test_a_still_as_pixels_holds_every_panel_on_white(report):
    svg = report.files["figures/requested_vs_got.svg"].decode()
    image = matplotlib.image.imread(io.BytesIO(png_of(svg)))
    width, height = (float(v) for v in re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
    assert image.shape[:2] == (pytest.approx(height * 130 / 72, abs=1), pytest.approx(width * 130 / 72, abs=1))
    assert (image[0, 0, :3] == 1.0).all()
    # something is drawn in the middle of each column of panels
    columns = min(svg.count("viewBox") - 1, 3)
    for part in np.array_split(image[..., :3].min(axis=2), columns, axis=1):
        assert (part < 0.9).mean() > 0.005


def test_the_manifest_lists_every_file_with_its_digest(report):
    schemas.Reports.validate(report.manifest)
    assert set(report.manifest["file"]) == set(report.files)
    for row in report.manifest.iter_rows(named=True):
        data = report.files[row["file"]]
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert row["bytes"] == len(data)


def test_the_page_says_what_the_tables_say(tables, report, page):
    row = tables.summary.filter(measure="error", goal="overall", reading="complete", statistic="mean").row(
        0, named=True
    )
    assert f"{row['value']:.3f}" in page.said
    assert "16 texts" in page.said
    assert "128 requests" in page.said
    assert report.headline["error"] == row["value"]
    assert f"{row['value']:.3f}" in report.preview_markdown
    for goal in GOALS:
        assert goal.replace("_", " ") in page.said
    assert tables.goal_space["goal_space_id"][0] in page.said


def test_the_slope_on_the_page_is_the_slope_of_the_table(tables, page):
    slope = tables.side_effects.filter(requested_goal="sentiment", observed_goal="sentiment")["slope"][0]
    assert f"slope {slope:.2f}" in page.said


def test_examples_show_the_best_the_worst_and_the_failed(tables, page):
    kinds = [" ".join(text.split()) for name, texts in page.blocks.items() if name.startswith("kind") for text in texts]
    assert {"best", "typical", "worst"} <= set(kinds)
    failures = tables.steerability["failure"].drop_nulls().unique().to_list()
    assert {f"failed: {failure}" for failure in failures} <= set(kinds)


@pytest.fixture(scope="module")
def hostile_report():
    """Every answer starts with `HOSTILE` and does not end for 100,000 characters."""
    return build_cell_report(small(hostile=HOSTILE + "word " * 20_000))


def test_what_a_model_wrote_stays_text(hostile_report):
    page = read(hostile_report.files["report.html"])
    assert page.unbalanced == []
    assert {tag for tag, _ in page.tags} & {"script", "img"} == set()
    assert [tag for tag, _ in page.tags].count("style") == 1
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert any(text.startswith(visible(HOSTILE)) for text in page.blocks["model-text"])
    assert "\u202e" not in "".join(page.text)


@pytest.fixture(scope="module")
def oddly_named():
    """A space of one goal, with markup in every name that a user may choose."""
    spec = GOALS["formality"].model_copy(update={"more": "<b>formal</b>", "unit": "<i>"})
    one = small(goals=("formality",))
    named = replace(one, goals={"formality": spec}, method_description="<script>x</script>", versions={"<u>": "<u>"})
    return build_cell_report(named)


def test_hostile_names_stay_text_too(oddly_named):
    page = read(oddly_named.files["report.html"])
    assert page.unbalanced == []
    assert "<script>x</script>" in page.said
    assert {"script", "u"} & {tag for tag, _ in page.tags} == set()


def test_endless_answers_are_cut_with_a_note(hostile_report):
    page = read(hostile_report.files["report.html"])
    assert len(hostile_report.files["report.html"]) < 1_000_000
    assert max(len(text) for text in page.blocks["model-text"]) <= len(visible(HOSTILE)) + MOST_CHARACTERS
    assert re.search(r"… 9\d,\d{3} more characters not shown", page.said)


def test_a_cell_that_always_failed_still_has_a_page_that_says_so():
    report = build_cell_report(small(all_fail=True))
    page = read(report.files["report.html"])
    assert "none of the 8 requests of direct has an answer that stands" in page.said
    assert "Nothing to draw" in page.said
    assert "Empty: the model wrote nothing." in page.said
    assert "figures/flow.svg" not in report.files
    assert pl.read_parquet(report.files["tables/flow.parquet"]).height == 0
    assert "error" not in report.headline


def test_a_goal_space_of_one_goal_has_no_flow(oddly_named):
    page = read(oddly_named.files["report.html"])
    assert "no complete case asks one goal to move and leaves another alone" in page.said
    assert "figures/side_effects.svg" in oddly_named.files


def test_a_probe_that_asks_for_nothing_has_a_page():
    report = build_cell_report(small(active=0))
    page = read(report.files["report.html"])
    assert "leave everything as it is" in page.said
    assert "Nothing was asked: doing nothing is exactly right" in page.said
    assert "It does listen" not in page.said
    assert "hether it listens" not in page.said
    assert "figures/requested_vs_got.svg" not in report.files
    assert report.headline["error"] > 0


def test_a_missing_control_is_asked_for_on_the_page(without_rewrite):
    assert "materialize the cell rewrite|embedded" in read(without_rewrite.files["report.html"]).said
    assert "materialize the cell rewrite|embedded" in without_rewrite.preview_markdown


def test_other_probes_get_a_line(tables):
    one = small()
    names = ("requests", "outcomes", "steerability", "movements", "summary", "comparisons", "side_effects")
    renamed = {
        name: pl.concat([getattr(one, name), getattr(one, name).with_columns(pl.lit("second").alias("probe"))])
        for name in names
    }
    page = read(build_cell_report(replace(one, **renamed, request_goals=one.request_goals)).files["report.html"])
    assert "Other probes" in page.said
    assert "second" in page.said


def test_a_goal_without_a_spec_is_refused(tables):
    with pytest.raises(ValueError, match="no spec for goal formality"):
        build_cell_report(replace(tables, goals={k: v for k, v in GOALS.items() if k != "formality"}))


def test_a_request_without_its_outcome_is_refused():
    tables = cell_tables(n_texts=2, per_text=1)
    with pytest.raises(ValueError, match="'outcomes' has 0 rows for request"):
        build_cell_report(replace(tables, outcomes=tables.outcomes.clear()))


def test_probe_name_is_on_the_page(page):
    assert f"probe {PROBE}" in page.said
