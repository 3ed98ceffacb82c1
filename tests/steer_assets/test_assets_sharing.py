"""The arms of a sweep written in shares: disjoint, complete, and what one process would have written."""

import logging
from collections import Counter
from types import SimpleNamespace

import pytest
from test_assets_vectors import CELL, GRID, SHARED, read, vector_bench

from steer_assets.assets import nodes_of
from steer_assets.on_ray import driver
from steer_assets.partitions import read_key
from steer_assets.settings import registry
from steer_assets.sharing import write_share
from steer_assets.tables import Work
from steer_core.generation import shares
from steer_core.generation.shares import Share
from steer_core.tables.errors import SteerworksError

__all__ = ["vector_bench"]


def written(workplace):
    """Ids of all rows of the journal's files, as often as they stand there."""
    files = (workplace.root / "small/journal/model=embedded").glob("*.parquet")
    return Counter(i for f in files for i in read(f)["response_id"])


def test_shares_are_what_one_process_would_have_written(workplace, vector_bench):
    workplace.materialize(SHARED)
    bench = registry().bench("small")
    work = Work(bench, str(workplace.root), logging.getLogger("test"), read_key(bench, CELL))
    parts = []
    for index in range(3):
        parts.append(write_share(work, nodes_of(bench), Share(index, 3)))
        # what the arms follow from was made on the way, and the table itself was not
        assert workplace.table("sweep_arms", CELL).exists()
        assert not workplace.table("sweep_responses", CELL).exists()
    assert min(parts) > 10
    assert set(written(workplace).values()) == {1}
    there = set(written(workplace))
    # a share that is written again is empty, and so is one that the journal held
    assert [write_share(work, nodes_of(bench), Share(index, 2)) for index in range(2)] == [0, 0]

    workplace.materialize(GRID, "rewrite|embedded")
    workplace.materialize(GRID, CELL)
    swept = read(workplace.table("sweep_responses", CELL))
    assert set(swept["response_id"]) <= there
    assert swept.height == sum(parts)
    assert set(written(workplace).values()) == {1}
    assert write_share(work, nodes_of(bench), Share(0, 2)) == 0
    shared = {name: read(workplace.table(name, CELL)) for name in ("sweep_responses", "arm_answers", "arm_scores")}

    alone = workplace.root.rename(workplace.root.with_name("shared"))
    assert alone.exists()
    workplace.materialize(SHARED)
    workplace.materialize(GRID, "rewrite|embedded")
    workplace.materialize(GRID, CELL)
    for name, frame in shared.items():
        own = read(workplace.table(name, CELL)).drop("seconds", strict=False)
        assert own.equals(frame.drop("seconds", strict=False)), name


def test_a_cell_that_sweeps_nothing_has_no_shares(workplace, vector_bench):
    bench = registry().bench("small")
    work = Work(bench, str(workplace.root), logging.getLogger("test"), read_key(bench, "rewrite|embedded"))
    assert write_share(work, nodes_of(bench), Share(0, 2)) == 0
    assert not workplace.root.exists()


def test_every_answer_falls_to_one_share():
    ids = [f"{7919 * k:032x}" for k in range(1000)]
    for of in (1, 2, 7):
        assert all(sum(Share(k, of).has(i) for k in range(of)) == 1 for i in ids)
    with shares.writing(Share(1, 2)):
        assert shares.current() == Share(1, 2)
    assert shares.current() is None


class FakeCrew:
    """Workers that do at once what they are given; `lost` tasks come back as those of dead workers."""

    def __init__(self, workers, lost=()):
        self.idle = dict.fromkeys(range(workers), "")
        self.spent, self.most, self.given, self.lost = Counter(), workers, [], list(lost)
        self.open, self.wanted = [], []

    @property
    def tasks(self):
        return [task[1:] for task in self.open]

    def give(self, cell, names):
        self._take(cell, None)

    def give_share(self, cell, share):
        self._take(cell, share)

    def _take(self, cell, share):
        worker = next(iter(self.idle))
        self.idle.pop(worker)
        self.given.append((cell.key, share and (share.index, share.of)))
        self.open.append((worker, cell, share))

    def look(self):
        worker, cell, share = self.open.pop(0)
        self.idle[worker] = cell.model.name
        found = {"failed": [], "written": 1, "unchanged": 0, "seconds": 0.0, "messages": []}
        gone = self.given[-1] in self.lost or (cell.key, share and (share.index, share.of)) in self.lost
        if gone:
            self.lost.clear()
        return [(cell, share, None if gone else found)]

    def fill(self, wanted):
        self.wanted.append(wanted)


@pytest.fixture
def spread(monkeypatch):
    def run(workers, names, swept, lost=(), controls=()):
        model = SimpleNamespace(name="m")
        cells = [SimpleNamespace(key=f"{n}|m", model=model) for n in names]
        monkeypatch.setattr(driver, "sweeps", lambda cell: cell.key.removesuffix("|m") in swept)
        held = [c for c in cells if c.key.removesuffix("|m") in controls]
        monkeypatch.setattr(driver, "controls_of", lambda cell: [] if cell in held else held)
        crew = FakeCrew(workers, lost)
        assert driver._spread(crew, cells, ["node"], 9)
        return crew

    return run


def test_arms_are_split_where_workers_would_have_nothing_to_do(spread):
    crew = spread(4, ["copy", "vector"], {"vector"}, controls={"copy"})
    assert crew.given == [("copy|m", None), *(("vector|m", (k, 4)) for k in range(4)), ("vector|m", None)]
    # two sweeps halve the workers
    crew = spread(4, ["one", "other"], {"one", "other"})
    assert sorted(crew.given[:4]) == [("one|m", (0, 2)), ("one|m", (1, 2)), ("other|m", (0, 2)), ("other|m", (1, 2))]
    assert sorted(crew.given[4:]) == [("one|m", None), ("other|m", None)]
    # and where there are as many cells as workers each takes one
    crew = spread(2, ["one", "other"], {"one", "other"})
    assert sorted(crew.given) == [("one|m", None), ("other|m", None)]


def test_a_share_whose_worker_died_is_left_to_the_cell(spread):
    crew = spread(3, ["vector"], {"vector"}, lost=[("vector|m", (1, 3))])
    assert crew.given == [*(("vector|m", (k, 3)) for k in range(3)), ("vector|m", None)]


def test_a_cell_whose_workers_die_again_and_again_is_given_up(spread):
    crew = spread(1, ["direct"], set(), lost=[("direct|m", None)])
    assert crew.given == [("direct|m", None)] * 2

    class Always(FakeCrew):
        def look(self):
            worker, cell, share = self.open.pop(0)
            self.idle[worker] = ""
            return [(cell, share, None)]

    cell = SimpleNamespace(key="direct|m", model=SimpleNamespace(name="m"))
    with pytest.raises(SteerworksError, match="4 workers died at it"):
        driver._spread(Always(1), [cell], ["node"], 9)


def test_workers_are_asked_for_as_many_shares_as_there_may_be():
    cells = [SimpleNamespace(key=k) for k in ("copy", "vector")]
    wanted = driver.Shares(["vector"])
    assert wanted.workers(cells) == 1 + driver.MOST_SHARES
    assert wanted.of(cells[1], 20) == driver.MOST_SHARES
    assert wanted.workers(cells) == 2
    assert wanted.of(cells[1], 20) == 1
    assert dict(wanted.open) == {"vector": driver.MOST_SHARES}
