"""The explorer in a real browser: Debian's Chromium, without a window."""

import functools
import os
import shutil
import threading

import pytest

from steer_assets.explore.server import Explorer
from steer_assets.explore.serving import serve
from tests.explorer_world import World

#: Names under which it may be installed.
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str:
    found = os.environ.get("STEERWORKS_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.fail(
            "no Chromium: `apt install chromium`, or set STEERWORKS_CHROMIUM; -m 'not browser' leaves these out"
        )
    return found


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("world"))
    made.leaderboard()
    made.sweep()
    made.trained()
    made.costs()
    return made


@pytest.fixture(scope="session")
def address(world):
    told, found = threading.Event(), []

    def ready(where):
        found.append(where)
        told.set()

    explorer = Explorer(world.root, {"tales": world.bench()})
    threading.Thread(target=serve, args=(explorer, 0, ready), daemon=True).start()
    assert told.wait(30)
    return found[0] + "tales/"


@pytest.fixture
def opened(browser, address):
    """`opened(path, **context)`: a page of the explorer; what its console says is an error."""
    contexts, said = [], []

    def make(path, quiet=False, **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 850}, **settings})
        contexts.append(context)
        page = context.new_page()
        if not quiet:
            page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.goto(path if "://" in path else address + path)
        return page

    make.quiet = functools.partial(make, quiet=True)
    yield make
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="session")
def played_folder(tmp_path_factory):
    """Where that bench lies."""
    return tmp_path_factory.mktemp("played")


@pytest.fixture(scope="session")
def played(played_folder):
    """The address of an explorer over a bench that was run: a prompt and a vector on the embedded model."""
    from steer_assets.explore.serving import in_background
    from tests.browser.ran import run

    folder = played_folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERWORKS_CONFIG", f"{run(folder)}")
        patch.setenv("STEERWORKS_ROOT", str(folder / "root"))
        patch.setattr("tempfile.tempdir", str(folder))
        from steer_assets import settings
        from steer_assets.explore.server import explorer

        settings.registry.cache_clear()
        found = explorer(["small"])
        with in_background(found, 0) as address:
            yield f"{address}small/"
        found.takers["small"].play.rest()
        settings.registry.cache_clear()
