"""Tables, journals and agreement between writers, on the local disk and on an object store, slow and unreliable too."""

import contextlib
import datetime
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from journals import filled, responses, same_rows

from schemas import Responses
from steer_core.tables import Journal, conditional, files, leases
from steer_core.tables.errors import OvertakenError
from steer_core.tables.footer import Footer
from steer_core.tables.garbage import Known, find_garbage, remove
from steer_core.tables.leases import lease, try_lease
from steer_core.tables.snapshot import publish_table, read_footer, read_table
from tests.object_store import BUCKET, serving

#: Share of requests that are refused, answered late, or whose answer is lost.
FAULTS = 0.15


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store that answers at once, and one that does not always."""
    with contextlib.ExitStack() as stack:
        yield {
            "s3": stack.enter_context(serving(tmp_path_factory.mktemp("store"))),
            "unreliable": stack.enter_context(serving(tmp_path_factory.mktemp("unreliable"), 0.005, FAULTS, 7)),
        }


@pytest.fixture
def on(request, stores, tmp_path, monkeypatch):
    """Root of a kind of storage, and its server."""

    def place(kind):
        if kind == "local":
            return str(tmp_path / "root"), None
        store = stores[kind]
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        # fsspec reads its settings when it is imported
        monkeypatch.setitem(files.fsspec.config.conf, "s3", store.settings)
        store.requests()
        return f"s3://{BUCKET}/{request.node.name.replace('[', '-').replace(']', '')}", store

    return place


KINDS = pytest.mark.parametrize("kind", ["local", "s3", "unreliable"])


@KINDS
def test_a_journal_holds_the_same_everywhere(on, kind):
    root, _ = on(kind)
    journal = filled(f"{root}/journal", 8)
    journal.append(responses(0, 4, seconds=9.0))
    wanted = pl.concat([responses(3, 4), responses(20, 21)])
    assert same_rows(journal.read(["r3", "r20"]), wanted)
    assert journal.compact(1)
    assert len(journal.parts()) == 1
    journal.append(responses(32, 36))
    assert same_rows(journal.read(["r3", "r20"]), wanted)
    assert journal.contains(["r3", "r33", "r36"]) == {"r3", "r33"}
    assert same_rows(journal.read(), responses(0, 36))
    journal.append(responses(32, 36, word="other"))
    with pytest.raises(files.TableError, match="4 keys hold different rows"):
        journal.read()


@KINDS
def test_writers_of_one_journal_lose_nothing(on, kind):
    root, _ = on(kind)
    journal = Journal(f"{root}/journal", Responses)

    def write(n):
        # each row is written by two
        for i in range(5):
            journal.append(responses(4 * ((n // 2) * 5 + i), 4 * ((n // 2) * 5 + i) + 4, seconds=float(n)))
            if n == 0:
                journal.compact(4)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = journal.read()
    assert same_rows(found.with_columns(seconds=pl.lit(0.25)), responses(0, 40))


@KINDS
def test_of_many_who_create_a_file_one_does(on, kind):
    root, _ = on(kind)
    for n in range(4):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda i: conditional.create(f"{root}/{n}", f"{i}".encode()), range(8)))  # noqa: B023
        assert won.count(True) == 1
        with files.open_file(f"{root}/{n}") as file:
            assert file.read() == f"{won.index(True)}".encode()


@KINDS
def test_a_table_that_somebody_else_published_meanwhile_stays(on, kind):
    root, _ = on(kind)
    url = f"{root}/part.parquet"
    seen = conditional.stamp(url)
    assert seen == ""
    publish_table(responses(0, 2), Responses, url, Footer("responses", 1), seen)
    ours, theirs = conditional.stamp(url), conditional.stamp(url)
    assert publish_table(responses(0, 3), Responses, url, Footer("responses", 1), theirs).content
    with pytest.raises(OvertakenError, match="published by another process"):
        publish_table(responses(0, 4), Responses, url, Footer("responses", 1), ours)
    with pytest.raises(OvertakenError):
        publish_table(responses(0, 4), Responses, url, Footer("responses", 1), "")
    assert same_rows(read_table(url, Responses), responses(0, 3))


def count_up(root, times, settings):
    """Read a number and write the next, which only a lease keeps whole."""
    files.fsspec.config.conf["s3"] = settings
    for _ in range(times):
        with lease(f"{root}/lease", f"process {os.getpid()}") as held:
            fs, path = files.filesystem(f"{root}/number")
            number = int(files.read_bytes(fs, path)) if fs.exists(path) else 0
            time.sleep(0.01)
            held.check()
            files.write_bytes(f"{root}/number", str(number + 1).encode())


@KINDS
def test_what_a_lease_guards_is_done_by_one_process_at_a_time(on, kind):
    root, store = on(kind)
    settings = store.settings if store else {}
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count_up, args=(root, 3, settings)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0, 0]
    fs, path = files.filesystem(f"{root}/number")
    assert files.read_bytes(fs, path) == b"9"
    # of all the files of the lease one is left
    assert leases._numbers(f"{root}/lease") == [9]


def test_attempts_follow_a_holder_that_is_gone_for_good(tmp_path, monkeypatch):
    url, now = str(tmp_path), [0.0]
    gone = try_lease(url, "a pod that is no more", ttl=60)
    monkeypatch.setattr(leases, "_place", lambda: "elsewhere")
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    assert try_lease(url, "a compaction", ttl=60) is None
    now[0] = 59
    assert try_lease(url, "a compaction", ttl=60) is None
    now[0] = 61
    assert try_lease(url, "a compaction", ttl=60).number == gone.number + 1


def test_on_a_store_that_lets_two_create_a_file_one_has_the_lease(tmp_path, monkeypatch):
    def careless(url, data):
        files.write_bytes(url, data)
        return True

    monkeypatch.setattr(leases, "create", careless)
    one = try_lease(str(tmp_path), "one")
    other = leases._take(str(tmp_path), [], "other", 60.0)
    assert other.number == one.number
    other.check()
    with pytest.raises(OvertakenError):
        one.check()


def test_a_number_that_its_followers_gave_back_is_not_taken_again(tmp_path, monkeypatch):
    url = str(tmp_path)
    first = try_lease(url, "the first")
    first.end()
    seen = leases._numbers(url)
    # between somebody's look and its attempt two others come and go
    for who in ("the second", "the third"):
        late = try_lease(url, who)
        late.end()
    assert leases._numbers(url) == [3]
    assert leases._take(url, seen, "the late one", 1.0) is None
    assert leases._numbers(url) == [3]


def hold_and_die(root, settings):
    files.fsspec.config.conf["s3"] = settings
    leases._acquire(f"{root}/lease", "one that dies", 3600, print, print).begin()
    os._exit(9)


@KINDS
def test_a_dead_holder_of_this_machine_is_followed_at_once(on, kind):
    root, store = on(kind)
    process = multiprocessing.get_context("spawn").Process(
        target=hold_and_die, args=(root, store.settings if store else {})
    )
    process.start()
    process.join()
    begun = time.monotonic()
    with lease(f"{root}/lease", "the next") as held:
        assert held.number == 2
    assert time.monotonic() - begun < 10


@KINDS
def test_a_holder_elsewhere_that_stands_still_is_overtaken_and_fenced_off(on, kind, monkeypatch):
    root, _ = on(kind)
    said, gave_back = [], []
    asleep = try_lease(f"{root}/lease", "a sleeper", ttl=0.6)
    assert asleep is not None
    # from here on this is another machine, whose clock may say anything
    monkeypatch.setattr(leases, "_place", lambda: "elsewhere")
    assert try_lease(f"{root}/lease", "in a hurry", ttl=0.6) is None
    asleep.check()
    with lease(f"{root}/lease", "the next", ttl=0.6, say=said.append, waiting=lambda: gave_back.append(1)) as held:
        assert held.number == asleep.number + 1
        assert held.waited >= 0.6
        with pytest.raises(OvertakenError, match="a sleeper had stood still for more than 1 s, and the next took"):
            asleep.check()
    assert gave_back == [1]
    assert said[0] == "waiting for a sleeper, which does this now"
    # awake, it gives back what is no longer its own, and nobody is hurt
    asleep.end()
    assert try_lease(f"{root}/lease", "a third", ttl=0.6).number == 3


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_beats_keep_a_lease_however_long_the_work(on, kind, monkeypatch):
    root, _ = on(kind)
    order = []

    def wait():
        with lease(f"{root}/lease", "the next", ttl=4.0):
            order.append("next")

    with lease(f"{root}/lease", "long work", ttl=4.0) as held:
        monkeypatch.setattr(leases, "_place", lambda: "elsewhere")
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(8)
        order.append("first")
        held.check()
    thread.join()
    assert order == ["first", "next"]


def test_what_things_cost_in_requests(on):
    root, store = on("s3")
    journal = Journal(f"{root}/journal", Responses)
    costs = {}

    def cost(what, do):
        do()
        costs[what] = store.requests()

    cost("append", lambda: journal.append(responses(0, 4)))
    cost("append again", lambda: journal.append(responses(0, 4)))
    for n in range(1, 4):
        journal.append(responses(4 * n, 4 * n + 4))
    store.requests()
    cost("read 4 parts", journal.read)
    cost("compact 4 parts", lambda: journal.compact(1))
    cost("read a segment", journal.read)
    url = f"{root}/part.parquet"
    cost("publish", lambda: publish_table(responses(0, 2), Responses, url, Footer("responses", 1), ""))
    cost("footer", lambda: read_footer(url))
    cost("a lease", lambda: count_nothing(f"{root}/lease"))
    cost("a lease again", lambda: count_nothing(f"{root}/lease"))
    assert costs == {
        "append": {"PUT": 1},
        "append again": {"PUT": 1, "GET": 1},
        "read 4 parts": {"LIST": 2, "GET": 4},
        # the sidecar and the segment are written, a lease is taken and given back
        "compact 4 parts": {"LIST": 7, "GET": 6, "PUT": 4, "DELETE": 4},
        "read a segment": {"LIST": 2, "GET": 2},
        "publish": {"PUT": 1},
        "footer": {"GET": 1},
        # a folder that is not there is looked for twice
        "a lease": {"LIST": 4, "GET": 2, "PUT": 2},
        "a lease again": {"LIST": 3, "GET": 3, "PUT": 2, "DELETE": 1},
    }


def count_nothing(url):
    with lease(url, "somebody") as held:
        held.check()


def test_garbage_is_found_and_removed_on_a_store(on):
    root, _ = on("s3")
    for bench in ("small", "gone"):
        publish_table(responses(0, 2), Responses, f"{root}/{bench}/responses/part.parquet", Footer("responses", 2))
    known = {"small": Known(frozenset({"responses"}), frozenset())}
    now = datetime.datetime.now(datetime.UTC)
    assert find_garbage(root, known, before=now - datetime.timedelta(hours=1)) == []
    (found,) = find_garbage(root, known, before=now + datetime.timedelta(hours=1))
    assert (found.kind, found.path, found.files) == ("bench", "gone", ("gone/responses/part.parquet",))
    assert remove(root, [found], now - datetime.timedelta(hours=1)) == 0
    assert remove(root, [found], now + datetime.timedelta(hours=1)) == found.size > 0
    assert find_garbage(root, known, before=now + datetime.timedelta(hours=1)) == []
    assert same_rows(read_table(f"{root}/small/responses/part.parquet", Responses), responses(0, 2))
