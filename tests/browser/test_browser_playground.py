"""The playground on the embedded model: sliders, answers as they come, what was tried, and what is refused."""

import itertools
import time

import pytest
from test_browser_explorer import SCREENS, taken

pytestmark = pytest.mark.browser
TEXT = "The old baker often sells warm bread near the quiet station, and we like it. The clerk reads a long letter at home."


def test_a_text_is_rewritten_by_two_cells_and_measured_at_once(opened, played):
    page = opened(f"{played}play")
    page.locator("#targets textarea").fill(TEXT)
    page.locator("#d-formality").fill("0.5")
    assert page.locator("output[for=d-formality]").inner_text() == "more formal by 0.50"
    assert page.locator("output[for=d-text_length]").inner_text() == "not asked"
    page.get_by_role("checkbox", name="direct|embedded").check()
    page.get_by_role("button", name="Rewrite").click()
    answers = page.locator("#rewrites > section")
    answers.nth(1).locator("h3").wait_for()
    page.locator("#targets .status", has_text="done").wait_for()
    assert answers.locator("h3").all_inner_texts() == ["direct|embedded", "pushed|embedded"]
    for n in range(2):
        assert answers.nth(n).locator("ins").count() > 0
        assert answers.nth(n).locator(".track .goal").count() == 1
        assert "error" in answers.nth(n).locator("p.small").inner_text()
    # a control of the bench gives the text back, and asks no model
    page.get_by_role("checkbox", name="pushed|embedded").uncheck()
    page.get_by_role("checkbox", name="direct|embedded").uncheck()
    page.get_by_role("checkbox", name="copy|embedded").check()
    page.get_by_role("button", name="Rewrite").click()
    page.locator("#rewrites h3", has_text="copy|embedded").wait_for()
    page.locator("#targets .status", has_text="done").wait_for()
    assert page.locator("#rewrites ins").count() == 0
    page.reload()
    assert page.locator("table.samples tbody tr").count() >= 3


def test_a_vector_is_turned_by_a_slider_beside_the_unsteered_answer(opened, played):
    page = opened(f"{played}play", **SCREENS["phone, dark"])
    page.locator("select[name=vector]").select_option("pushed|embedded formality")
    assert page.locator("#strength .unit").inner_text() == "residual fraction"
    page.locator("#strength input[type=range]").fill("0.6")
    assert page.locator("#strength output").inner_text() == "+0.60"
    page.get_by_role("button", name="Answer, unsteered and steered").click()
    page.locator("#strength .status", has_text="done").wait_for()
    answers = page.locator("#steered > section")
    assert answers.locator("h3").all_inner_texts() == [
        "pushed|embedded: unsteered",
        "pushed|embedded: formality at +0.60",
    ]
    texts = answers.locator(".model-text").all_inner_texts()
    assert texts[0] != texts[1]
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    with page.expect_download() as download:
        page.reload()
        page.get_by_role("button", name="Make pairs of the ticked").click()
    assert download.value.suggested_filename == "small-pairs.jsonl"
    assert texts[1].split()[0] in download.value.path().read_text()
    # one answer, as a method
    page.get_by_role("checkbox", name="take row 1", exact=True).check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Make a method of the ticked").click()
    assert download.value.suggested_filename == "pushed-at-0.6.yaml"
    assert "strengths:\n    - 0.6" in download.value.path().read_text()
    # what cannot be one is said on a page
    page = opened.quiet(f"{played}play")
    page.get_by_role("checkbox", name="take row 1", exact=True).check()
    page.get_by_role("checkbox", name="take row 2", exact=True).check()
    page.get_by_role("button", name="Make a method of the ticked").click()
    page.get_by_text("a method is made of one answer under a vector").wait_for()


def test_what_is_written_there_is_text_and_a_refusal_is_said(opened, played):
    page = opened(f"{played}play")
    page.locator("#targets textarea").fill("<img src=x onerror='window.taken=1'> " + TEXT)
    for name in ("pushed|embedded", "direct|embedded"):
        page.get_by_role("checkbox", name=name).uncheck()
    page.get_by_role("button", name="Rewrite").click()
    assert page.get_by_text("tick a cell that is to answer").is_visible()
    page.get_by_role("checkbox", name="copy|embedded").check()
    page.get_by_role("button", name="Rewrite").click()
    page.locator("#targets .status", has_text="done").wait_for()
    assert taken(page) is None
    assert page.locator("#rewrites img").count() == 0
    assert "<img src=x" in page.locator("#rewrites").inner_text()


def test_everybody_can_use_it(opened, played):
    from axe_playwright_python.sync_playwright import Axe

    for screen in SCREENS.values():
        page = opened(f"{played}play", **screen)
        page.get_by_role("button", name="Rewrite").click()
        page.locator("#targets .status", has_text="done").wait_for()
        found = Axe().run(page).response["violations"]
        serious = [
            (v["id"], n["html"][:200]) for v in found if v["impact"] in ("serious", "critical") for n in v["nodes"]
        ]
        assert serious == []
        assert page.evaluate("document.documentElement.scrollWidth") <= screen["viewport"]["width"]


@pytest.fixture
def slow(monkeypatch):
    """A model that takes its time, so that a person sees each word come."""
    from steer_assets.explore.trying import Playground

    asking = Playground._asking

    def slowly(self, cell, drafts=None):
        def told(number, text):
            time.sleep(0.03)
            drafts(number, text)

        return asking(self, cell, told if drafts else None)

    monkeypatch.setattr(Playground, "_asking", slowly)


WATCH = """() => { window.seen = []; new MutationObserver(() => {
    const draft = document.querySelector('#rewrites .draft');
    if (draft && draft.textContent !== window.seen.at(-1)) window.seen.push(draft.textContent);
}).observe(document.getElementById('rewrites'), { subtree: true, childList: true, characterData: true }); }"""


@pytest.mark.usefixtures("slow")
def test_words_are_seen_as_they_come_and_a_person_may_stop_them(opened, played):
    page = opened(f"{played}play")
    page.locator("#targets textarea").fill(f"{TEXT} <i>It rains today.</i>")
    page.locator("#d-text_length").fill("0.6")
    for name in ("pushed|embedded", "copy|embedded"):
        page.get_by_role("checkbox", name=name).uncheck()
    page.get_by_role("checkbox", name="direct|embedded").check()
    page.evaluate(WATCH)
    page.get_by_role("button", name="Rewrite").click()
    stop = page.locator("#targets button.stop")
    stop.wait_for()
    page.locator("#rewrites section[aria-busy]").wait_for()
    page.locator("#targets .status", has_text="done").wait_for()
    assert not stop.is_visible()
    seen = [text for text in page.evaluate("window.seen") if text]
    assert len(seen) > 5
    assert all(after.startswith(before) for before, after in itertools.pairwise(seen))
    assert page.locator("#rewrites section[aria-busy]").count() == 0
    assert page.locator("#rewrites ins").count() > 0
    # another text, and no more of it
    page.reload()
    before = page.locator("table.samples tbody tr").count()
    page.locator("#targets textarea").fill(f"{TEXT} It rains today, and the pilot waits for the bus.")
    page.locator("#d-text_length").fill("0.6")
    page.get_by_role("checkbox", name="copy|embedded").uncheck()
    page.get_by_role("checkbox", name="direct|embedded").check()
    page.get_by_role("button", name="Rewrite").click()
    page.locator("#rewrites .small", has_text="writing").wait_for()
    page.locator("#targets button.stop").click()
    page.locator("#targets .status", has_text="stopped").wait_for()
    assert page.locator("#rewrites .small", has_text="stopped").is_visible()
    assert page.get_by_role("button", name="Rewrite").is_enabled()
    page.reload()
    assert page.locator("table.samples tbody tr").count() == before


def test_everybody_can_read_the_reports(opened, played, played_folder):
    from axe_playwright_python.sync_playwright import Axe

    below = played_folder / "root"
    found = sorted(str(f.relative_to(below)) for f in (below / "small").rglob("report.html"))
    assert len(found) >= 4
    for path in found:
        for screen in SCREENS.values():
            page = opened(played.replace("small/", f"files/{path}"), **screen)
            assert page.evaluate("document.documentElement.scrollWidth") <= screen["viewport"]["width"]
            violations = Axe().run(page).response["violations"]
            serious = [
                (v["id"], n["html"][:200])
                for v in violations
                if v["impact"] in ("serious", "critical")
                for n in v["nodes"]
            ]
            assert serious == [], path
