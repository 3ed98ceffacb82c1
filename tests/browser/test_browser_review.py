"""The review queue by key: a word, a reason, the next one; the rows behind it are tested with the server."""

from types import SimpleNamespace

import polars as pl
import pytest
from test_browser_explorer import SCREENS, taken

from steer_assets.explore.asked import Takers
from steer_assets.explore.server import Explorer
from steer_assets.explore.serving import in_background
from tests.explorer_world import CELLS, HOSTILE

pytestmark = pytest.mark.browser


class Reviewed:
    """Four answers that wait, one of them hostile."""

    def __init__(self, world):
        self.said = []
        texts = ["The baker slept.", HOSTILE[0], "", "The sailor sang."]
        self.rows = [
            {"request_id": r["id"], "response_id": f"r{k}", "source": r["text"], "answer": t, "spot_check": k == 3, "grounded": None, "shared": 0.4}
            for k, (r, t) in enumerate(zip(world.requests, texts, strict=False))
        ]  # fmt: skip

    def cells(self):
        return [CELLS[1]]

    def queue(self, cell, spot):
        seen = {s["request_id"] for s in self.said}
        left = [r for r in self.rows if r["request_id"] not in seen and (spot or not r["spot_check"])]
        total = len(self.rows) if spot else len(self.rows) - 1
        return pl.DataFrame(left, schema_overrides={"grounded": pl.Boolean}) if left else pl.DataFrame(), total

    def why(self, row):
        return "the judge: no verdict"

    def reviewer(self):
        return "ada"

    def rule(self, **word):
        self.said.append(word)
        return "kept"


@pytest.fixture
def reviewed(world):
    made = Reviewed(world)
    play = SimpleNamespace(cells=list, concepts=dict, tried=lambda: pl.DataFrame())
    explorer = Explorer(world.root, {"tales": world.bench()}, takers={"tales": Takers(play, made)})
    with in_background(explorer, 0) as address:
        yield f"{address}tales/review", made


def test_answers_are_looked_at_one_after_the_other_by_key(opened, reviewed):
    address, made = reviewed
    page = opened(address)
    assert page.get_by_text("3 of 3 wait").is_visible()
    page.locator("input[name=note]").fill("yes, n and s are letters here")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.get_by_text("2 of 3 wait").wait_for()
    assert made.said[0] | {"note": "", "cell": ""} == {
        "cell": "", "request_id": made.rows[0]["request_id"], "response_id": "r0", "stays": False, "by": "ada", "note": "",
    }  # fmt: skip
    assert made.said[0]["note"] == "yes, n and s are letters here"
    # the hostile one is text, and may be skipped
    assert taken(page) is None
    page.keyboard.press("s")
    page.wait_for_url("**at=1*")
    assert page.get_by_text("Empty: the model wrote nothing.").is_visible()
    page.get_by_role("button", name="It stays").click()
    page.get_by_text("1 of 3 wait").wait_for()
    page.locator("input[name=by]").fill("grace")
    page.locator("input[name=by]").press("Enter")
    page.wait_for_url("**by=grace*")
    page.locator("input[name=spot]").fill("5")
    page.locator("input[name=spot]").press("Enter")
    page.get_by_text("2 of 4 wait").wait_for()
    page.keyboard.press("y")
    page.get_by_text("1 of 4 wait").wait_for()
    page.keyboard.press("y")
    page.get_by_text("0 of 4 wait").wait_for()
    assert [s["by"] for s in made.said] == ["ada", "ada", "grace", "grace"]
    assert [s["stays"] for s in made.said] == [False, True, True, True]
    assert page.get_by_text("Nothing waits here").is_visible()


def test_everybody_can_review(opened, reviewed):
    from axe_playwright_python.sync_playwright import Axe

    for screen in SCREENS.values():
        page = opened(reviewed[0], **screen)
        found = Axe().run(page).response["violations"]
        serious = [
            (v["id"], n["html"][:200]) for v in found if v["impact"] in ("serious", "critical") for n in v["nodes"]
        ]
        assert serious == []
        assert page.evaluate("document.documentElement.scrollWidth") <= screen["viewport"]["width"]


def test_a_key_that_is_held_is_one_word(opened, reviewed):
    address, made = reviewed
    page = opened(address)
    # a held key comes again and again without being let go
    page.keyboard.down("y")
    page.get_by_text("2 of 3 wait").wait_for()
    for _ in range(10):
        page.keyboard.down("y")
        page.wait_for_timeout(30)
    page.keyboard.up("y")
    assert len(made.said) == 1
