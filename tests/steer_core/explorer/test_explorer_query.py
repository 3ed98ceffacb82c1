"""Filters, searches and orders of samples, each against a loop over the rows that the tables were made from."""

import itertools
import math

import numpy as np
import pytest

from schemas import GoalSpaceTable
from steer_core.explorer.compare import compare
from steer_core.explorer.index import Index
from steer_core.explorer.query import Query
from steer_core.explorer.space import flow
from steer_core.explorer.state import State
from steer_core.statistics.paired import paired_contrast
from steer_core.tables.errors import ConfigError
from tests.explorer_world import CELLS, GOALS, World


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def query(world):
    bench = world.bench()
    return Query(bench, Index(bench))


def shown(query, state):
    """(cell, arm, number of the request) of a state's samples, in order."""
    rows = query.index.samples()[query.places(state)]
    return list(zip(rows["cell"].to_list(), rows["arm"].to_list(), rows["number"].to_list(), strict=True))


def wanted(world, state):
    """The same by a loop; not in order."""
    found = []
    for s in world.samples:
        r, delta = s["request"], {}
        for k, goal in enumerate(GOALS):
            if r["z_star"][k] is not None:
                delta[goal] = np.float32(r["z_star"][k]) - np.float32(r["z0"][k])
        size = abs(delta.get(state.goal, 0.0))
        sizes = {"": True, "slightly": size < 0.2, "plain": 0.2 <= size <= 0.5, "much": size > 0.5}
        ways = {
            "": state.goal in delta,
            "up": delta.get(state.goal, 0.0) > 0,
            "down": delta.get(state.goal, 0.0) < 0,
            "stay": state.goal not in delta,
        }
        text = r["text"] if state.where == "source" else s["text"]
        kinds = {"": True, "none": s["failure"] is None, "any": s["failure"] is not None}
        if (
            (not state.cells or s["cell"] in state.cells)
            and (state.arm == "*" or s["arm"] == state.arm)
            and (not state.probe or r["probe"] == state.probe)
            and kinds.get(state.failure, s["failure"] == state.failure)
            and (not state.copied or s["scores"]["copied"] == (state.copied == "yes"))
            and (not state.goal or (ways[state.direction] and (state.direction == "stay" or sizes[state.size])))
            and state.q.lower() in text.lower()
        ):
            found.append(s)
    return found


STATES = [
    State(),
    *(State(cells=cells, arm=arm) for cells in ((CELLS[1],), CELLS[1:]) for arm in ("headline", "*", "stronger")),
    *(State(arm="*", failure=f) for f in ("none", "any", "truncated", "empty")),
    *(State(copied=c) for c in ("yes", "no")),
    *(State(goal=g, direction=d, size=s) for g, d, s in itertools.product(GOALS, ("", "up", "down"), ("", "slightly", "plain", "much"))),
    *(State(goal=g, direction="stay") for g in GOALS),
    State(q="FISHERMAN"), State(q="<script>"), State(q="sailor", where="source"), State(q="nowhere"),
    State(probe="nothing-asked", q="answers 2"),
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.link() or "all")
def test_a_state_shows_what_a_loop_finds(world, query, state):
    found, expected = shown(query, state), wanted(world, state)
    assert sorted(found) == sorted((s["cell"], s["arm"], s["i"]) for s in expected)
    # the address says all of it
    given: dict[str, list[str]] = {}
    for part in filter(None, state.link().split("&")):
        from urllib.parse import parse_qsl

        for name, value in parse_qsl(part):
            given.setdefault(name, []).append(value)
    assert State.read(given, GOALS, ["main", "nothing-asked"]) == state


def value_of(sample, sort):
    if sort == "left":
        asked = sample["scores"]["requested"]
        return None if sample["scores"]["error"] is None or not asked else sample["scores"]["error"] / asked
    if sort == "completion_tokens":
        return sample["tokens"]
    if sort.startswith("goal:"):
        k = GOALS.index(sort[5:])
        return None if sample["failure"] else abs(sample["reached"][k] - sample["target"][k])
    return sample["scores"][sort]


@pytest.mark.parametrize("sort", ["left", "error", "error_worst", "orthogonality", "completion_tokens", "goal:formality", "goal:text_length"])  # fmt: skip
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_samples_are_ordered_and_those_without_a_value_come_last(world, query, sort, order):
    by_key = {(s["cell"], s["arm"], s["i"]): s for s in world.samples}
    values = [value_of(by_key[k], sort) for k in shown(query, State(arm="*", sort=sort, order=order))]
    known = [v for v in values if v is not None]
    assert len(known) < len(values) or sort in ("completion_tokens", "error_worst")
    assert values[: len(known)] == known
    rounded = [float(np.float32(v)) for v in known]
    assert rounded == pytest.approx(sorted(rounded, reverse=order == "desc"), rel=1e-6)


def test_a_part_of_the_errors_distribution_is_of_what_the_other_filters_leave(world, query):
    cell = State(cells=(CELLS[1],))
    worst = shown(query, cell.having(low=0.75))
    errors = sorted(s["scores"]["error_worst"] for s in wanted(world, cell))
    edge = np.quantile(errors, 0.75)
    assert len(worst) == sum(e >= edge - 1e-6 for e in errors)
    assert len(shown(query, cell.having(low=0.25, high=0.5))) == pytest.approx(len(errors) / 4, abs=1)


def test_pages_cut_the_order_and_a_change_begins_at_the_first(query):
    state = State(per=7)
    pages = [query.page(state.having(page=n)) for n in range(1, 5)]
    assert [p["place"].to_list() for p in pages[:2]] == [list(range(7)), list(range(7, 14))]
    assert state.having(page=3).having(q="x").page == 1
    assert query.page(state.having(page=1000)).height == 0


def test_what_an_address_says_wrongly_is_named():
    for given, said in (
        ({"sort": ["beauty"]}, "sort='beauty': it takes .*error"),
        ({"goal": ["height"]}, "goal='height': it takes any, formality, text_length"),
        ({"low": ["0.9"], "high": ["0.1"]}, "low=0.9, high=0.1"),
        ({"low": ["half"]}, "low='half' is no number"),
        ({"low": ["nan"]}, "low=nan"),
        ({"page": ["two"]}, "page='two' is no number"),
        ({"q": ["x" * 201]}, "a search takes 200 characters; these are 201"),
    ):
        with pytest.raises(ConfigError, match=said):
            State.read(given, GOALS, ["main"])
    assert State.read({"page": ["-3"], "per": ["100000"]}, GOALS, ["main"]) == State(per=200)


def test_tables_that_change_are_read_again_and_those_that_go_are_gone(tmp_path):
    world = World(tmp_path)
    bench = world.bench()
    query = Query(bench, Index(bench))
    before = len(query.places(State()))
    assert query.index.samples() is query.index.samples()
    import shutil

    shutil.rmtree(tmp_path / "tales/steerability/model=embedded/method=direct")
    assert len(query.places(State())) == before - len(world.requests)
    other = World(tmp_path, n=10, seed=9)
    assert len(query.places(State())) == len(CELLS) * len(other.requests)
    assert sorted(shown(query, State(arm="*"))) == sorted((s["cell"], s["arm"], s["i"]) for s in other.samples)


def test_a_bench_without_tables_has_no_samples(tmp_path):
    bench = World(tmp_path / "made").bench()
    bench.root = str(tmp_path / "empty")
    query = Query(bench, Index(bench))
    assert query.index.samples().height == 0
    assert query.page(State()).height == 0


def test_cells_are_compared_on_the_requests_that_all_have(world, query):
    found = compare(query.index, CELLS, measure="error")
    by_key = {(s["cell"], s["i"]): s for s in world.samples if s["arm"] == "headline"}
    numbers = [i for i in range(len(world.requests)) if all(by_key[c, i]["failure"] is None for c in CELLS)]
    assert sorted(found.rows["number"]) == numbers
    assert found.left_out == len(world.requests) - len(numbers)
    errors = np.array([[np.float32(by_key[c, i]["scores"]["error"]) for c in CELLS] for i in numbers], dtype=float)
    texts = np.array([world.requests[i]["text_id"] for i in numbers])
    for n, contrast in enumerate(found.contrasts, 1):
        expected = paired_contrast(errors[:, n], errors[:, 0], texts)
        assert contrast.difference == pytest.approx(expected.difference, rel=1e-6)
        assert (contrast.low, contrast.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
        assert contrast.n_clusters == len(set(texts))
    best = errors.argmin(axis=1)
    assert found.wins == tuple(int((best == n).sum()) for n in range(3))
    assert found.ties == 0
    won = compare(query.index, CELLS, measure="error", winner=CELLS[1])
    assert sorted(won.rows["number"]) == sorted(np.array(numbers)[best == 1])
    assert won.contrasts == found.contrasts
    # more meaning is better: another one wins, and the order turns
    kept = compare(query.index, CELLS[:2], measure="meaning_content")
    assert not kept.less_is_better
    assert kept.rows["difference"].to_list() == sorted(kept.rows["difference"], reverse=True)


def test_equal_cells_win_nothing(world, query):
    found = compare(query.index, (CELLS[0], CELLS[1]), measure="completion_tokens")
    assert found.wins == (0, 0)
    assert found.ties == len(world.requests)
    assert found.contrasts[0].difference == 0


def test_what_cannot_be_compared_is_named(query):
    with pytest.raises(ConfigError, match="cell 'nobody' has no scores; there are copy"):
        compare(query.index, ["nobody", CELLS[0]])
    with pytest.raises(ConfigError, match="2 to 6 cells are compared; these are 1"):
        compare(query.index, [CELLS[0], CELLS[0]])
    with pytest.raises(ConfigError, match="measure='beauty'"):
        compare(query.index, CELLS, measure="beauty")


def test_flow_is_of_the_filtered_samples_asked_and_got_alike(world, query):
    state = State(cells=(CELLS[1],), goal="formality", direction="up")
    found = flow(query.index, query, state, *GOALS)
    rows = wanted(world, state)
    whole = [s for s in rows if s["failure"] is None]
    assert (found.n, found.unknown) == (len(whole), len(rows) - len(whole))
    lengths = [
        np.mean([math.dist(end(s), s["request"]["z0"]) for s in whole])
        for end in (lambda s: s["target"], lambda s: s["reached"])
    ]
    assert found.shares == pytest.approx(lengths, rel=1e-5)
    assert found.single.height == len(whole)
    one = found.single.row(0, named=True)
    s = next(s for s in whole if abs(s["request"]["z0"][0] - one["x0"]) < 1e-6)
    assert (one["xt"], one["yt"]) == pytest.approx(tuple(s["target"]), rel=1e-5)
    with pytest.raises(ConfigError, match="two goals"):
        flow(query.index, query, State(), "formality", "formality")
    with pytest.raises(ConfigError, match="'height' is no goal"):
        flow(query.index, query, State(), "height", "formality")


def test_requests_in_another_order_are_other_numbers(tmp_path):
    from steer_core.explorer.sample import asked_words

    world = World(tmp_path)
    bench = world.bench()
    query = Query(bench, Index(bench))
    state = State(cells=(CELLS[1],), sort="error")

    def said():
        rows = query.index.samples()[query.places(state)]
        ids = query.index.asked().ids.gather(rows["number"]).to_list()
        return dict(zip(ids, asked_words(bench, query.index, rows["number"].to_list()), strict=True))

    before = said()
    world.requests.reverse()
    world._shared()
    assert said() == before
    # and what a goal is called is part of it
    world.put(GoalSpaceTable, [("s", 0, "formality", "f@1", 0.0, 1.0, "fixed", 9)], "goal_space")
    assert list(query.index.asked().deltas) == ["formality"]


def test_a_direction_without_a_goal_is_of_any(world, query):
    up = State.read({"direction": ["up"], "size": ["much"]}, GOALS, ["main"])
    assert up.goal == "any"
    either = {key for g in GOALS for key in ((s["cell"], s["arm"], s["i"]) for s in wanted(world, State(goal=g, direction="up", size="much")))}  # fmt: skip
    assert set(shown(query, up)) == either
    with pytest.raises(ConfigError, match="direction=stay needs a goal"):
        State.read({"direction": ["stay"]}, GOALS, [])
    with pytest.raises(ConfigError, match="size has no meaning"):
        State.read({"direction": ["stay"], "goal": ["formality"], "size": ["much"]}, GOALS, [])


def test_a_root_with_signs_of_a_pattern_is_read_as_it_is_called(tmp_path):
    world = World(tmp_path / "ro[o]t * x")
    bench = world.bench()
    query = Query(bench, Index(bench))
    assert len(query.places(State(arm="*"))) == len(world.samples)


def test_a_table_published_while_it_is_read_is_no_mixture(tmp_path, monkeypatch):
    from steer_core.explorer import bench as benches
    from steer_core.explorer.pages import Pages

    world = World(tmp_path)
    pages = Pages(world.bench())
    read, moved = benches.read_columns, []

    def slow(fs, path, contract, columns):
        rows = read(fs, path, contract, columns)
        if "steerability" in path and "method=direct" in path and not moved:
            moved.append(World(tmp_path, n=10, seed=9))
        return rows

    monkeypatch.setattr(benches, "read_columns", slow)
    page = pages.render("samples", {"cell": [CELLS[1]]})
    assert moved
    assert "<b>10 samples</b>" in page


def test_a_winner_that_is_not_compared_is_nobody(query):
    found = compare(query.index, CELLS[:2], winner=CELLS[2])
    assert found.winner == ""
    assert found.sides == (CELLS[1], CELLS[0])
    assert compare(query.index, CELLS, winner=CELLS[0]).sides == (CELLS[0], CELLS[1])
