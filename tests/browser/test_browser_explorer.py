"""Every view as a person meets it: at any width, by key, without scripts, saved; and nothing that a model wrote runs."""

import time

import pytest

from steer_core.explorer.pages import VIEWS
from tests.explorer_world import CELLS, HOSTILE

pytestmark = pytest.mark.browser

COPY, DIRECT, VECTOR = (c.replace("|", "%7C") for c in CELLS)
PATHS = {
    **{view: view for view in VIEWS if view not in ("play", "review", "submit")},
    "moving": f"space?moving=1&cell={DIRECT}",
    "trained": f"learnt?cell={DIRECT}",
    "sample": f"sample?cell={DIRECT}&at=9",
    "beside": f"beside?number=9&cell={COPY}&cell={DIRECT}&cell={VECTOR}",
    "table": "data?table=outcomes",
    "nothing": "samples?q=nowhere-at-all",
}
SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 850}, "color_scheme": "light"},
    "phone, dark": {"viewport": {"width": 375, "height": 700}, "color_scheme": "dark"},
}


def taken(page):
    return page.evaluate("window.taken")


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", PATHS)
def test_a_view_fits_the_screen_and_everybody_can_use_it(opened, name, screen):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(PATHS[name], **SCREENS[screen])
    assert page.locator("h1").count() == 1
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= SCREENS[screen]["viewport"]["width"]
    found = Axe().run(page).response["violations"]
    serious = [
        (v["id"], n["html"][:200], n["failureSummary"])
        for v in found
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"]
    ]
    assert serious == []


PLACE = "document.querySelector('.moving circle.got.mean').getBoundingClientRect().x"


def test_the_goal_space_moves_until_a_hand_stops_it_and_never_for_who_wants_no_motion(opened):
    page = opened(f"space?cell={DIRECT}")
    page.get_by_role("checkbox", name="moving").check()
    page.wait_for_url("**moving=1**")
    places = set()
    for _ in range(20):
        places.add(round(page.evaluate(PLACE), 1))
        page.wait_for_timeout(100)
    assert len(places) > 3
    slider = page.get_by_role("slider", name="how far along")
    at = {}
    for share in ("0", "0.5", "1"):
        slider.fill(share)
        assert not page.get_by_role("checkbox", name="run").is_checked()
        at[share] = page.evaluate(PLACE)
        page.wait_for_timeout(300)
        assert page.evaluate(PLACE) == at[share]
    assert at["0"] != at["1"]
    assert at["0.5"] == pytest.approx((at["0"] + at["1"]) / 2, abs=0.6)
    assert not page.locator(".for-print").is_visible()
    page.emulate_media(media="print")
    assert page.locator(".for-print").is_visible()
    assert not page.locator(".moving").is_visible()
    calm = opened(f"space?cell={DIRECT}&moving=1", reduced_motion="reduce")
    before = calm.evaluate(PLACE)
    calm.wait_for_timeout(1200)
    assert calm.evaluate(PLACE) == before
    assert not calm.get_by_role("checkbox", name="run").is_visible()


@pytest.mark.parametrize("at", range(len(HOSTILE)))
def test_what_a_model_wrote_neither_runs_nor_breaks_the_page(opened, world, at):
    page = opened(f"sample?cell={DIRECT}&request={world.requests[at]['id']}", **SCREENS["phone, dark"])
    assert taken(page) is None
    assert page.title().endswith("· tales")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("main img, main script, main a[href^=javascript]").count() == 0
    # the answer stands in its own box, whatever its length
    box = page.locator(".model-text").nth(1).bounding_box()
    assert box["height"] <= 421
    listed = opened(f"samples?cell={DIRECT}", **SCREENS["phone, dark"])
    assert taken(listed) is None
    assert listed.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_newcomer_finds_which_rewrites_went_wrong_and_why(opened):
    begun, clicks = time.monotonic(), 0
    page = opened("board")
    page.locator("tr", has_text="direct").get_by_role("link", name="samples").click()
    clicks += 1
    page.locator("select[name=failure]").select_option("any")
    clicks += 2
    page.wait_for_url("**failure=any**")
    rows = page.locator("table.samples tbody tr")
    assert rows.count() == 2
    assert set(page.locator("td.answer .kind.failed").all_inner_texts()) == {"truncated", "empty"}
    rows.first.get_by_role("link").click()
    clicks += 1
    assert page.locator("h1 .kind.failed").count() == 1
    assert page.get_by_text("What the model read").is_visible()
    assert clicks <= 5
    assert time.monotonic() - begun < 60
    # and those that did answer, farthest off first: that is how the list begins
    page.locator("a[rel=up]").click()
    page.locator("select[name=failure]").select_option("none")
    page.wait_for_url("**failure=none**")
    left = [
        float(t.strip("% \u202f").replace(",", ""))
        for t in page.locator("td[data-label=left]").all_inner_texts()
        if "%" in t
    ]
    assert left == sorted(left, reverse=True)
    assert len(left) > 10


def test_keys_go_through_a_list_into_a_sample_and_on(opened):
    page = opened(f"samples?cell={DIRECT}&sort=error")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("j")
    assert page.locator("tr.current").count() == 1
    second = page.locator("table.samples tbody tr").nth(1)
    assert "current" in (second.get_attribute("class") or "")
    page.keyboard.press("Enter")
    page.wait_for_url("**at=1*")
    page.keyboard.press("j")
    page.wait_for_url("**at=2*")
    page.keyboard.press("k")
    page.wait_for_url("**at=1*")
    page.keyboard.press("u")
    page.wait_for_url("**/samples?**")
    page.keyboard.press("/")
    page.keyboard.type("fisherman j")
    # keys that are written are no orders
    assert page.locator("input[type=search]").input_value() == "fisherman j"
    page.keyboard.press("Enter")
    page.wait_for_url("**q=fisherman+j*")
    assert page.get_by_text("No sample is left with these filters").is_visible()


def test_the_address_holds_the_view(opened, address):
    page = opened("samples")
    page.get_by_role("checkbox", name=CELLS[1]).check()
    page.wait_for_url("**cell=**")
    page.locator("select[name=goal]").select_option("formality")
    page.wait_for_url("**goal=formality**")
    page.locator("select[name=sort]").select_option("goal:formality")
    page.wait_for_url("**sort=goal**")
    rows = page.locator("table.samples tbody").inner_text()
    assert "=&" not in page.url
    assert not page.url.endswith("=")
    again = opened(page.url)
    assert again.locator("table.samples tbody").inner_text() == rows
    assert again.get_by_role("checkbox", name=CELLS[1]).is_checked()


def test_the_slider_changes_what_is_read_and_says_the_strength_meanwhile(opened):
    page = opened("strengths?item=1")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**at=2*")
    assert page.locator(".slider output").inner_text() == "+0.2"
    assert page.get_by_text("v2 says item1").is_visible()
    assert page.get_by_text("off says item1").is_visible()


def test_cells_are_compared_and_read_side_by_side(opened):
    page = opened("compare")
    page.get_by_role("checkbox", name=CELLS[2]).check()
    page.wait_for_url("**vector-leace**")
    page.locator("select[name=winner]").select_option(CELLS[1])
    page.wait_for_url("**winner=**")
    assert page.get_by_role("heading", name=f"Where {CELLS[1]} is best").is_visible()
    page.locator("table.samples tbody tr").first.get_by_role("link").click()
    assert page.locator(".columns > section").count() == 4
    page.get_by_role("link", name="the first cell").click()
    assert page.locator(".columns > section").count() == 3
    page.keyboard.press("j")
    page.wait_for_url("**against=first**")


def test_without_scripts_everything_is_still_there(opened):
    page = opened("samples", java_script_enabled=False)
    page.locator("select[name=failure]").select_option("any")
    page.get_by_role("button", name="Show").first.click()
    assert page.locator("table.samples tbody tr").count() == 3
    page.locator("table.samples tbody tr").first.get_by_role("link").click()
    assert page.locator("h1 .kind.failed").count() == 1


def test_a_saved_view_opens_from_a_file(opened, tmp_path):
    page = opened(f"samples?cell={DIRECT}&per=8")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save it as a file").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    listed = page.locator("table.samples tbody tr").count()
    saved = opened(file.as_uri(), **SCREENS["phone, dark"])
    assert saved.locator("table.samples tbody tr").count() == listed == 8
    assert saved.locator("article[id^=sample-]").count() == 8
    assert saved.evaluate("document.documentElement.scrollWidth") <= 375
    saved.locator("table.samples a").nth(3).click()
    assert saved.url.endswith("#sample-3")
    assert saved.locator("#sample-3").is_visible()
    assert taken(saved) is None
