"""The explorer's server: what it answers, what it refuses, and that what a model wrote stays text."""

import html
import io
import re

import polars as pl
import pytest
from starlette.testclient import TestClient

from schemas import Outcomes
from steer_assets.explore.server import HEADERS, Explorer
from steer_assets.explore.serving import serve
from steer_core.explorer.pages import VIEWS
from steer_core.tables.errors import SteerworksError
from tests.explorer_world import CELLS, HOSTILE, World

COPY, DIRECT, VECTOR = (c.replace("|", "%7C") for c in CELLS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("world"))
    made.leaderboard()
    made.sweep()
    made.trained()
    made.costs()
    return made


@pytest.fixture(scope="module")
def client(world):
    explorer = Explorer(world.root, {"tales": world.bench()})
    return TestClient(explorer.app(), base_url="http://localhost", follow_redirects=False)


def page(client, path, status=200):
    answer = client.get(path)
    assert answer.status_code == status, answer.text[:3000]
    return answer.text


VIEWS_ASKED = [
    *(f"/tales/{view}" for view in VIEWS if view not in ("play", "review", "submit")),
    f"/tales/sample?cell={DIRECT}&at=0", f"/tales/beside?number=0&cell={COPY}&cell={DIRECT}&cell={VECTOR}",
    f"/tales/beside?number=0&cell={DIRECT}&cell={VECTOR}&against=first", "/tales/samples?arm=*&sort=goal:formality",
    "/tales/data?table=outcomes", f"/tales/data?table=outcomes&cell={DIRECT}", "/tales/board?column=n&sort=n&order=desc",
    f"/tales/compare?cell={COPY}&cell={DIRECT}&winner={DIRECT}&measure=meaning_content",
]  # fmt: skip


@pytest.mark.parametrize("path", VIEWS_ASKED)
def test_every_view_keeps_to_its_own_origin_and_is_whole(client, path):
    answer = client.get(path)
    assert answer.status_code == 200, answer.text[:3000]
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"].split("script-src")[1].split(";")[0]
    text = answer.text
    # scripts: ours, from here; nothing with a handler of its own
    assert re.findall(r"<script[^>]*>", text) == ['<script src="/static/explore.js" defer>']
    assert not re.search(r"<[^>]+\son\w+=", text)
    assert not re.search(r'(?:src|href)="(?!/|#|\?|data:,)', text)
    assert text.count("<h1") == 1
    # every link of the page leads somewhere
    for link in {html.unescape(m) for m in re.findall(r'href="([^"#][^"]*)"', text)}:
        where = link if link.startswith("/") else path.split("?")[0] + link
        if not where.startswith(("/files/", "data:")) and not link.startswith("data:"):
            assert client.get(where).status_code in (200, 307), where


@pytest.mark.parametrize("at", range(len(HOSTILE)))
def test_what_a_model_wrote_is_text(client, world, at):
    number = at
    for path in (
        f"/tales/sample?cell={DIRECT}&request={world.requests[number]['id']}",
        f"/tales/save/samples?cell={DIRECT}",
        f"/tales/beside?number={number}&cell={DIRECT}&cell={VECTOR}",
    ):
        text = page(client, path)
        body = text.split("<main", 1)[1]
        assert "<script" not in body
        assert "<img" not in body
        assert "\u202e" not in text
        assert "\u200b" not in text
        assert "\x1b" not in text
        assert "\x00" not in text
        assert "javascript:window" not in re.sub(r">[^<]*<", "><", text)
        assert len(text) < 3_000_000
    assert "{{ 7 * 7 }}" in page(client, f"/tales/sample?cell={DIRECT}&request={world.requests[4]['id']}")


def test_a_sample_is_whole(client, world):
    r = world.requests[9]
    text = page(client, f"/tales/sample?cell={DIRECT}&request={r['id']}")
    said = html.unescape(re.sub(r"<[^>]+>", " ", text))
    for wanted in (
        "What the model read",
        "Rewrite: source 9 of the SAILOR <i>now</i>",
        "Sure!",
        "another try",
        "chosen",
    ):
        assert wanted in said, wanted
    assert "2 answers to the same plan" in said
    first = page(client, f"/tales/sample?cell={DIRECT}&request={world.requests[0]['id']}")
    assert "1 attempt at the endpoint" in first
    assert "&lt;b&gt;slow down&lt;/b&gt;" in first
    assert "keeps to its source" in first
    empty = page(client, f"/tales/sample?cell={DIRECT}&request={world.requests[8]['id']}")
    assert "Empty: the model wrote nothing." in empty
    copied = page(client, f"/tales/sample?cell={COPY}&request={world.requests[9]['id']}")
    assert "The source came back unchanged." in copied


def test_next_and_previous_go_through_the_filtered_list_and_back_to_its_page(client):
    path, seen = f"/tales/sample?cell={DIRECT}&failure=none&sort=error&per=5&at=0", []
    while path:
        text = page(client, path)
        seen.append(re.search(r"request <code>(\w+)</code>", text)[1])
        found = re.search(r'<a rel="next" href="([^"]+)"', text)
        if len(seen) == 7:
            up = html.unescape(re.search(r'<a rel="up" href="([^"]+)"', text)[1])
            assert "page=2" in up
            assert "7 of 22" in text
            assert len(re.findall(r"<tr>\s*<td class=\"asked-cell", page(client, up))) == 5
        path = html.unescape(found[1]) if found else None
    assert len(seen) == len(set(seen)) == 22


def test_strengths_show_each_arm_on_one_item_and_no_control(client):
    text = page(client, "/tales/strengths?item=1&at=3")
    said = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text.split("<main", 1)[1])).split())
    assert "Say item1 <b>please</b>" in said
    for wanted in ("off says item1", "v4 says item1", "asked says item1", "strength: +0.4 judged 9.00 [8.50 to 9.50]"):
        assert wanted in said, wanted
    assert "random" not in said
    assert "KL, nats a token 0.040" in said
    # the slider begins at the strongest, and past its ends is its end
    assert 'max="3" value="3"' in page(client, "/tales/strengths")
    assert 'value="0"' in page(client, "/tales/strengths?at=-5")
    hostile = page(client, "/tales/strengths?item=0").split("<main", 1)[1]
    assert "<script" not in hostile
    assert "&lt;script&gt;" in hostile


def test_cosines_are_those_of_the_directions(client):
    text = page(client, "/tales/learnt")
    cells = re.findall(r'<td class="n heat-(-?\d)">([^<]+)</td>', text)
    assert [c for _, c in cells] == ["1.00", "0.80", "−1.00", "0.80", "1.00", "−0.80", "−1.00", "−0.80", "1.00"]
    assert [int(h) for h, _ in cells] == [4, 3, -4, 3, 4, -3, -4, -3, 4]
    assert "examples 01234567, rank 2" in text
    assert "±0.50" in text


def test_effect_is_drawn_against_cost(client):
    text = page(client, "/tales/strengths?item=1&at=3")
    assert "Judged against KL, nats a token" in text


def test_training_is_shown_step_by_step_with_the_states_that_were_tried(client):
    text = page(client, f"/tales/learnt?cell={DIRECT}")
    said = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text.split("<main", 1)[1])).split())
    assert "Trained by grpo: 10 steps, rank 4, 5,000 numbers, seed 3." in said
    assert 'id="fig-training_1"' in text
    assert "step 5 worn 0.300 2" in said
    assert "step 10 0.400 2" in said
    assert "without the adapter" in said or "without it" in said
    # a cell whose vectors are all that it learnt has no training
    assert "fig-training" not in page(client, f"/tales/learnt?cell={VECTOR}")


def test_costs_stand_on_the_leaderboard_for_what_is_listed(client):
    text = page(client, "/tales/board?probe=main")
    assert text.count("<h2>What steering costs") == 1
    assert 'id="fig-frontier_1"' in text
    said = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())
    assert "Known to change the model apart from the request: direct (1 of 4) and vector-leace (2 of 4)." in said
    assert "The largest loss of accuracy of arithmetic among 2 settings is 0.100 [0.020 to 0.180]" in said
    one = page(client, "/tales/board?probe=main&method=direct")
    assert "vector-leace" not in one.split("What steering costs")[1]
    assert "What steering costs" not in page(client, "/tales/board?probe=main&method=copy")


def test_goal_space_moves_by_the_very_moves_of_the_stills(client):
    still, moving = page(client, f"/tales/space?cell={DIRECT}"), page(client, f"/tales/space?cell={DIRECT}&moving=1")
    assert 'class="moving"' not in still
    # the stills stay, for print
    assert moving.count("<figure") == still.count("<figure") + 2
    panels = re.findall(r"<svg viewBox.*?</svg>", moving, re.DOTALL)
    assert len(panels) == 2
    n = int(re.search(r"<b>(\d+) samples</b>", moving)[1])
    for panel in panels:
        assert len(re.findall(r'<circle class="(?:asked|got)"', panel)) == n
    ends = [re.findall(r"--dx:([-0-9.]+);--dy:([-0-9.]+)", panel) for panel in panels]
    assert ends[0] != ends[1]
    assert 'name="moving" value="1" checked' in moving
    saved = page(client, f"/tales/save/space?cell={DIRECT}&moving=1")
    assert 'class="run"' in saved
    assert "@keyframes go" in saved


def test_it_refuses_what_is_not_asked_by_this_machine_or_not_read(client):
    for method in ("post", "put", "delete", "patch", "options"):
        answer = getattr(client, method)("/tales/samples")
        assert answer.status_code == 405
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert client.head("/tales/samples").status_code == 200
    for host in ("evil.example", "evil.example:3002", "localhost.evil.example", "192.168.1.7"):
        assert client.get("/tales/samples", headers={"Host": host}).status_code == 400
    for host in ("localhost:3002", "127.0.0.1:80"):
        assert client.get("/tales/samples", headers={"Host": host}).status_code == 200


def test_files_are_pages_and_pictures_below_the_root_and_nothing_else(client, world, tmp_path):
    from pathlib import Path

    root = Path(world.root)
    report = root / "tales/report/model=embedded/method=direct/report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<p>the report</p>")
    (root.parent / "secret.html").write_text("secret")
    (root / "tales/.leases").mkdir()
    (root / "tales/.leases/hidden.html").write_text("secret")
    (root / "other").mkdir()
    (root / "other/page.html").write_text("secret")
    (root / "tales/link.html").symlink_to(root.parent / "secret.html")
    answer = client.get("/files/tales/report/model=embedded/method=direct/report.html")
    assert (answer.status_code, answer.text) == (200, "<p>the report</p>")
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    for path in (
        "tales/../../secret.html", "../secret.html", "%2e%2e/secret.html", "tales/..%2f..%2fsecret.html",
        "/etc/passwd", "%2fetc%2fpasswd.html", "tales/.leases/hidden.html", "other/page.html", "tales/link.html",
        "tales/requests/part.parquet", "tales/report", "tales//report/x.html", "tales\\..\\secret.html", "tales/x%00.html",
    ):  # fmt: skip
        answer = client.get(f"/files/{path}")
        assert answer.status_code == 404, path
        assert "secret" not in answer.text.replace("secret.html", "")


def test_tables_are_taken_along_as_they_are(client, world):
    answer = client.get(f"/tales/download/outcomes.parquet?cell={DIRECT}")
    rows = pl.read_parquet(io.BytesIO(answer.content))
    assert rows.columns == Outcomes.names()
    assert rows.height == len(world.requests)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="tales-outcomes-embedded-direct.parquet"'
    csv = client.get(f"/tales/download/outcomes.csv?cell={DIRECT}")
    assert pl.read_csv(io.BytesIO(csv.content))["text"].fill_null("").to_list() == rows["text"].to_list()
    for path in ("outcomes.parquet", f"outcomes.parquet?cell={DIRECT}x", "nothing.csv", "outcomes.exe", "../x.csv"):
        assert client.get(f"/tales/download/{path}").status_code == 404


def test_what_is_listed_is_taken_along_as_a_table(client, world):
    answer = client.get(f"/tales/shown/samples.csv?cell={DIRECT}&failure=none&sort=error&order=asc&per=5&page=2")
    rows = pl.read_csv(io.BytesIO(answer.content))
    whole = [s for s in world.samples if s["cell"] == CELLS[1] and s["failure"] is None]
    assert rows.height == len(whole)
    assert rows["error"].to_list() == sorted(rows["error"])
    by_id = {s["request"]["id"]: s for s in whole}
    for row in rows.iter_rows(named=True):
        # null characters do not survive every reader of CSV, and all else does
        assert row["answer"].replace("\x00", "") == by_id[row["request_id"]]["text"].replace("\x00", "")
        assert row["source"] == by_id[row["request_id"]]["request"]["text"]
    assert "sort=&#39;beauty&#39;" in page(client, "/tales/shown/samples.csv?sort=beauty", 400)


def test_what_an_address_says_wrongly_is_said_on_a_page(client):
    for path, said in (
        ("samples?sort=beauty", "sort=&#39;beauty&#39;: it takes"),
        ("samples?cell=nobody", "cell=&#39;nobody&#39;: it takes"),
        ("samples?failure=bad+luck", "failure=&#39;bad luck&#39;: it takes"),
        ("samples?arm=other", "arm=&#39;other&#39;: it takes"),
        (f"sample?cell={DIRECT}&at=99", "there are 24 samples with these filters"),
        ("sample?request=abc", "request &#39;abc&#39; is not among the samples"),
        ("sample?q=nowhere-at-all", "no sample is left"),
        ("compare?cell=a%7Cb&cell=c%7Cd", "cell &#39;a|b&#39; has no scores"),
        ("space?x=formality&y=formality", "two goals are drawn against each other"),
        ("data?table=secrets", "table=&#39;secrets&#39;: it takes"),
        ("board?column=beauty", "column=&#39;beauty&#39;"),
        ("strengths?cell=nobody", "cell=&#39;nobody&#39;"),
    ):
        text = page(client, f"/tales/{path}", 400)
        assert said in text, text.split("<main", 1)[1]
    # an explorer that only reads has no playground
    for path in (
        "/tales/play",
        "/tales/save/play",
        "/tales/tried/pairs.jsonl",
        "/nobody/samples",
        "/tales/secrets",
        "/nobody",
        "/static/secrets",
        "/tales/save/secrets",
        "/a/b/c/d",
    ):
        assert "There is no such" in page(client, path, 404)


def test_home_leads_to_the_bench(client, world):
    assert client.get("/").headers["location"] == "/tales/board"
    assert client.get("/tales").headers["location"] == "/tales/board"
    two = Explorer(world.root, {"tales": world.bench(), "other": world.bench()})
    both = TestClient(two.app(), base_url="http://localhost", follow_redirects=False)
    text = page(both, "/")
    assert "3 cells with scores" in text
    assert both.get("/?bench=other").headers["location"] == "/other/board"


def test_a_saved_view_needs_nothing_else(client, world):
    answer = client.get(f"/tales/save/samples?cell={DIRECT}&per=6&sort=error&order=asc")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="steerworks-tales-samples.html"'
    text = answer.text
    assert "<script" not in text.split("<body", 1)[1]
    assert "<link" not in text
    assert not re.search(r'(?:href|src|action)="(?!#)', text)
    anchors = set(re.findall(r'href="#(sample-\d+)"', text))
    assert anchors == {f"sample-{k}" for k in range(6)}
    assert all(f'id="{a}"' in text for a in anchors)
    assert f"cell={CELLS[1]}, per=6, sort=error, order=asc" in text
    for view in VIEWS.keys() - {"play", "review", "submit"}:
        saved = page(client, f"/tales/save/{view}")
        assert not re.search(r'(?:href|src|action)="(?!#)', saved), view
    assert "This view cannot be saved" in page(client, "/tales/save/samples?sort=beauty", 400)


def test_a_damaged_table_is_said_and_the_others_are_still_shown(tmp_path):
    world = World(tmp_path)
    world.leaderboard()
    client = TestClient(Explorer(world.root, {"tales": world.bench()}).app(), base_url="http://localhost")
    file = tmp_path / "tales/outcomes/model=embedded/method=direct/part.parquet"
    file.write_bytes(file.read_bytes()[:200])
    assert "part.parquet" in page(client, "/tales/samples", 400)
    page(client, "/tales/board")


def test_a_port_that_is_taken_is_one_line(world):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SteerworksError, match=r"port \d+ cannot be used .*choose another one by --port"):
            serve(Explorer(world.root, {"tales": world.bench()}), taken.getsockname()[1])
