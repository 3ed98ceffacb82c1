"""A submission by the browser: one that is taken, and one that is told in words why not."""

import polars as pl
import pytest
from test_browser_explorer import SCREENS, taken

pytestmark = pytest.mark.browser


@pytest.fixture
def answers(played, played_folder, tmp_path):
    """Files of answers to the probe: good ones, and a hostile few."""
    requests = pl.read_parquet(played_folder / "root/small/requests/part.parquet", hive_partitioning=False)
    rows = requests.filter(pl.col("probe") == "main").select("request_id", "text_id", "text")
    good = rows.with_columns(text=pl.lit("Well, ") + pl.col("text"))
    good.write_csv(tmp_path / "good.csv")
    good.head(3).with_columns(request_id=pl.lit("<img src=x onerror='window.taken=1'>")).write_ndjson(
        tmp_path / "bad.jsonl"
    )
    return tmp_path


def fill(page, name, file):
    for field, value in {"name": name, "model": "giant-1", "method": "by hand", "by": "ada", "licence": "CC0"}.items():
        page.locator(f"#submit input[name={field}]").fill(value)
    page.locator("#submit input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Send").click()


def test_a_good_one_is_admitted_and_a_bad_one_told_why(opened, played, answers):
    page = opened(f"{played}submit")
    fill(page, "giant", answers / "good.csv")
    page.locator("#submit .status", has_text="admitted").wait_for()
    assert "giant is admitted, and is being scored." in page.locator("#said").inner_text()
    # scored and ranked, without another click
    page.get_by_role("heading", name="giant: on the bench, ranked").wait_for(timeout=120_000)
    assert "of 5 on main" in page.locator("#submissions").inner_text()
    page.get_by_role("link", name="main").click()
    row = page.locator("tr", has_text="giant")
    assert "elsewhere" in row.inner_text()
    assert row.locator("td[data-label='tokens a request']").inner_text() == "–"
    row.get_by_role("link", name="samples").click()
    assert page.get_by_text("Well, ").first.is_visible()
    # what cannot be taken is refused with a status that the console shows; that is no fault of the page
    bad = opened.quiet(f"{played}submit", **SCREENS["phone, dark"])
    fill(bad, "worse", answers / "bad.jsonl")
    bad.locator("#submit .status", has_text="not taken").wait_for()
    said = bad.locator("#said").inner_text()
    assert "of no request of this probe" in said
    assert "without an answer" in said
    assert "<img src=x" in said
    assert bad.locator("#said img").count() == 0
    assert taken(bad) is None
    assert bad.evaluate("document.documentElement.scrollWidth") <= 375
    bad.reload()
    assert bad.get_by_role("heading", name="worse").count() == 0


def test_everybody_can_submit(opened, played):
    from axe_playwright_python.sync_playwright import Axe

    for screen in SCREENS.values():
        page = opened(f"{played}submit", **screen)
        found = Axe().run(page).response["violations"]
        serious = [
            (v["id"], n["html"][:200]) for v in found if v["impact"] in ("serious", "critical") for n in v["nodes"]
        ]
        assert serious == []
        assert page.evaluate("document.documentElement.scrollWidth") <= screen["viewport"]["width"]
