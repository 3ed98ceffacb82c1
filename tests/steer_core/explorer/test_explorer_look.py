"""What a view asks a store for: listings, one a table, side by side once it is known which; and it sees what is new."""

import threading

import fsspec
import pytest

from steer_core.explorer.pages import Pages
from tests.explorer_world import CELLS, World


@pytest.fixture
def store(monkeypatch):
    """A store in memory that counts what it is asked, and how much of it at once."""
    memory = fsspec.filesystem("memory")
    counts, lock = {"find": 0, "info": 0, "now": 0, "most": 0}, threading.Lock()

    def counting(name):
        whole = getattr(type(memory), name)

        def asked(self, *arguments, **more):
            with lock:
                counts[name] += 1
                counts["now"] += 1
                counts["most"] = max(counts["most"], counts["now"])
            try:
                threading.Event().wait(0.02)
                return whole(self, *arguments, **more)
            finally:
                with lock:
                    counts["now"] -= 1

        monkeypatch.setattr(type(memory), name, asked)

    world = World("memory://look")
    for name in ("find", "info"):
        counting(name)
    yield world, counts
    memory.rm("/look", recursive=True)


def asked(counts, what):
    counts.update(dict.fromkeys(("find", "info", "most"), 0))
    what()
    return dict(counts)


def test_a_view_lists_each_table_once_and_all_of_them_at_once_the_second_time(store):
    world, counts = store
    pages = Pages(world.bench())
    first = asked(counts, lambda: pages.render("samples", {}))
    # cells are read side by side, and all of them in one look: each table is listed once
    assert first["info"] > 0
    assert first["most"] > 1
    assert first["find"] <= 8
    second = asked(counts, lambda: pages.render("samples", {}))
    # nothing was published meanwhile: no file is read, and no cell is asked for one by one
    assert second["info"] == 0
    assert 0 < second["find"] <= 8
    assert second["most"] == second["find"] > 1
    one = {"cell": [CELLS[1]], "at": ["9"]}
    pages.render("sample", one)
    again = asked(counts, lambda: pages.render("sample", one))
    assert again["most"] > 5


def test_what_is_published_meanwhile_is_seen_by_the_next_view(store):
    world, _ = store
    pages = Pages(world.bench())
    assert "no-such-words" not in pages.render("samples", {"q": ["FRESH"]})
    before = pages.render("samples", {"cell": [CELLS[0]]})
    world.requests = world.requests[:10]
    world._cell(CELLS[0], ["headline"])
    after = pages.render("samples", {"cell": [CELLS[0]]})
    assert "<b>24 samples</b>" in before
    assert "<b>10 samples</b>" in after


def test_a_store_that_quotes_etags_in_one_place_and_not_in_the_other_is_read(store, monkeypatch):
    world, _ = store
    memory = type(fsspec.filesystem("memory"))
    info, find = memory.info, memory.find

    def tagged(one, quote):
        return {**one, "etag": f"{quote}{one['name']} {one['size']}{quote}"}

    monkeypatch.setattr(memory, "info", lambda *a, **k: tagged(info(*a, **k), '"'))

    def listing(*arguments, **more):
        found = find(*arguments, **more)
        return {n: tagged(i, "") for n, i in found.items()} if isinstance(found, dict) else found

    monkeypatch.setattr(memory, "find", listing)
    assert "<b>24 samples</b>" in Pages(world.bench()).render("samples", {"cell": [CELLS[0]]})
