"""Links between Dagster's pages, the explorer and reports, clicked in both directions."""

import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.browser.ran import environment_of, free_port

pytestmark = pytest.mark.browser
#: Seconds until Dagster's interface is there, with all code locations loaded.
PATIENCE = 150


@pytest.fixture(scope="module")
def dev(played, played_folder):
    """`make dev` over the bench that was run: the address of Dagster's interface."""
    environment, port = environment_of(played_folder), free_port()
    log = (played_folder / "dev.log").open("wb")
    command = [sys.executable, "-m", "steer_assets.dev", "-p", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    address, until = f"http://localhost:{port}", time.monotonic() + PATIENCE
    try:
        while True:
            assert process.poll() is None, (played_folder / "dev.log").read_text()[-3000:]
            assert time.monotonic() < until, (played_folder / "dev.log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        log.close()


def test_an_assets_page_leads_to_samples_and_report_and_back(opened, dev, played_folder):
    explored = environment_of(played_folder)["STEERWORKS_EXPLORE"]
    # Dagster's own pages say much to the console
    page = opened.quiet(f"{dev}/assets/small/steerability_report?view=partitions&partition=direct%7Cembedded")
    links = page.locator(f"a[href^='{explored}']")
    links.first.wait_for(timeout=60_000)
    there = links.evaluate_all("all => all.map(a => a.href)")
    samples = f"{explored}/small/samples?cell=direct%7Cembedded"
    report = f"{explored}/files/small/report/model%3Dembedded/method%3Ddirect/report.html"
    assert samples in there
    assert any(link.replace("=", "%3D") == report.replace("=", "%3D") for link in there), there
    with page.context.expect_page() as opening:
        page.locator(f"a[href='{samples}']").first.click()
    tab = opening.value
    tab.wait_for_load_state()
    assert tab.locator("h1").inner_text() == "Samples"
    assert tab.get_by_role("checkbox", name="direct|embedded").is_checked()
    tab.goto(next(link for link in there if link.endswith("report.html")))
    assert "direct" in tab.locator("h1").inner_text()
    # and back: from a sample to its answers, and from anywhere to the bench
    tab.goto(samples)
    tab.locator("table.samples tbody a").first.click()
    tab.get_by_role("link", name="Its answers in Dagster").click()
    tab.wait_for_url(f"{dev}/assets/small/responses?**")
    tab.get_by_text("direct|embedded").locator("visible=true").first.wait_for(timeout=60_000)
    tab.goto(samples)
    tab.get_by_role("link", name="Dagster ↗", exact=True).click()
    tab.locator("a[href*='/assets/small/steerability_report']").locator("visible=true").first.wait_for(timeout=60_000)


def test_the_leaderboards_page_leads_to_the_explorers(opened, dev, played_folder):
    explored = environment_of(played_folder)["STEERWORKS_EXPLORE"]
    page = opened.quiet(f"{dev}/assets/small/leaderboard")
    link = page.locator(f"a[href='{explored}/small/board']").first
    link.wait_for(timeout=60_000)
    with page.context.expect_page() as opening:
        link.click()
    opening.value.wait_for_load_state()
    assert opening.value.locator("h1").inner_text() == "Leaderboard"
