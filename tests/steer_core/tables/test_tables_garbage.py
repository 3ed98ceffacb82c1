"""What nothing refers to is found, and only that; it goes when asked, and a stopped removal goes on."""

import datetime
import os
from pathlib import Path

import polars as pl
import pytest
from journals import filled, responses

from schemas import Adapters, Responses
from steer_core.tables import TableError
from steer_core.tables.files import write_bytes
from steer_core.tables.footer import Footer
from steer_core.tables.garbage import Known, find_garbage, remove
from steer_core.tables.leases import lease
from steer_core.tables.merging import merge_roots
from steer_core.tables.snapshot import publish_table

NOW = datetime.datetime.now(datetime.UTC)
LATER = NOW + datetime.timedelta(days=8)
KNOWN = {
    "small": Known(
        frozenset({"responses/model=m/method=kept", "adapters/model=m/method=kept"}),
        frozenset({"journal/model=m"}),
    )
}


def adapters(*folders):
    row = {
        "part": "p", "label": "x", "adapter": "d", "base": "b", "recipe": "{}", "recipe_hash": "", "data_hash": "",
        "rank": 1, "parameters": 1, "norm": 1.0,
    }  # fmt: skip
    rows = [{**row, "step": n, "folder": f} for n, f in enumerate(folders)]
    return pl.DataFrame(rows, schema=Adapters.empty().schema)


@pytest.fixture
def root(tmp_path):
    """Some of everything, wanted and not."""
    base = f"{tmp_path}/root"
    for bench, method in (("small", "kept"), ("small", "gone"), ("elsewhere", "kept")):
        url = f"{base}/{bench}/responses/model=m/method={method}"
        publish_table(responses(0, 2), Responses, f"{url}/part.parquet", Footer("responses", 2))
        write_bytes(f"{url}/report.html", b"a page")
    states = ("adapter_states/aaa/step-1", "/somewhere/else", "served://there")
    publish_table(
        adapters(*states), Adapters, f"{base}/small/adapters/model=m/method=kept/part.parquet", Footer("adapters", 2)
    )
    for known in ("aaa", "bbb"):
        write_bytes(f"{base}/small/adapter_states/{known}/step-1/adapter.safetensors", known.encode())
        filled(f"{base}/small/training_runs/{known}/rollouts", 2)
    for model in ("m", "left"):
        filled(f"{base}/small/journal/model={model}", 2)
    with lease(f"{base}/small/.leases/responses", "somebody"):
        pass
    (tmp_path / "root/goal_value_cache").mkdir()
    pl.DataFrame({"key_high": [1]}).write_parquet(tmp_path / "root/goal_value_cache/x.parquet")
    return base


def paths(found):
    return {(g.kind, g.path) for g in found}


def test_what_nothing_refers_to_is_found_by_kind_and_nothing_else(root):
    found = find_garbage(root, KNOWN, before=LATER)
    assert paths(found) == {
        ("bench", "elsewhere"),
        ("table", "small/responses/model=m/method=gone"),
        ("journal", "small/journal/model=left"),
        ("folder", "small/adapter_states/bbb"),
        ("folder", "small/training_runs/bbb"),
        ("leases", "small/.leases"),
    }
    assert all(g.size > 0 for g in found)
    more = find_garbage(root, KNOWN, before=LATER, caches=True)
    assert paths(more) - paths(found) == {("cache", "goal_value_cache")}


def test_what_is_young_is_left_alone(root):
    assert find_garbage(root, KNOWN, before=NOW - datetime.timedelta(days=7)) == []
    # one file that was written since keeps its folder
    for folder, _, files in os.walk(root):
        for file in files:
            os.utime(f"{folder}/{file}", (0, 0))
    os.utime(f"{root}/small/adapter_states/bbb/step-1/adapter.safetensors")
    found = find_garbage(root, KNOWN, before=NOW - datetime.timedelta(days=7))
    assert ("folder", "small/adapter_states/bbb") not in paths(found)
    assert ("folder", "small/training_runs/bbb") in paths(found)


def test_what_is_removed_is_gone_and_all_else_is_as_it_was(root, tmp_path):
    merge_roots(f"{tmp_path}/copy", root, write=True)
    found = find_garbage(root, KNOWN, before=LATER)
    gone = [g for g in found if g.kind == "table"]
    # a kill after the table: its page is left, and found as it is by the next look
    remove(root, [type(gone[0])(gone[0].path, gone[0].kind, gone[0].why, gone[0].files[:1], gone[0].size)], LATER)
    again = find_garbage(root, KNOWN, before=LATER)
    assert sum(g.size for g in again) < sum(g.size for g in found)
    assert remove(root, again, LATER) == sum(g.size for g in again)
    left = find_garbage(root, KNOWN, before=LATER)
    assert paths(left) <= {("folder", "small/responses/model=m")}
    remove(root, left, LATER)
    assert find_garbage(root, KNOWN, before=LATER) == []
    assert sorted(p.name for p in (tmp_path / "root").iterdir()) == ["goal_value_cache", "small"]
    assert (tmp_path / "root/small/responses/model=m/method=kept/report.html").read_bytes() == b"a page"
    assert (tmp_path / "root/small/adapter_states/aaa/step-1/adapter.safetensors").read_bytes() == b"aaa"
    # and what was removed can be taken back from a copy
    assert merge_roots(root, f"{tmp_path}/copy", write=True).conflicts == []


def test_where_references_cannot_be_read_nothing_is_garbage(root):
    table = Path(root) / "small/adapters/model=m/method=kept/part.parquet"
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(TableError, match="What it refers to is not known, so nothing is removed"):
        find_garbage(root, KNOWN, before=LATER)


def test_a_journal_that_cannot_be_read_is_no_garbage_and_nothing_else_is_then(root):
    parts = sorted(Path(root, "small/journal/model=m").glob("*.parquet"))
    for part in parts:
        part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(TableError, match="What it is is not known, so nothing is removed"):
        find_garbage(root, KNOWN, before=LATER)


def test_folders_of_others_are_nobodys_garbage(root):
    # a file of somebody else among the parts, and a folder that a person put there
    pl.DataFrame({"a": [1]}).write_parquet(Path(root, "small/journal/model=m/000.parquet"))
    write_bytes(f"{root}/small/notes/mine/text.md", b"notes")
    found = find_garbage(root, KNOWN, before=LATER)
    assert not [g for g in found if g.path == "small/journal/model=m" or "notes" in g.path]


def test_a_folder_that_a_table_names_by_its_whole_path_is_kept(root):
    rows = adapters(f"{root}/small/adapter_states/bbb/step-1")
    url = f"{root}/small/adapters/model=m/method=kept/part.parquet"
    publish_table(rows, Adapters, url, Footer("adapters", 2))
    found = paths(find_garbage(root, KNOWN, before=LATER))
    assert ("folder", "small/adapter_states/bbb") not in found
    assert ("folder", "small/adapter_states/aaa") in found


def test_what_was_written_to_since_it_was_found_stays(root):
    found = find_garbage(root, KNOWN, before=LATER)
    (state,) = [g for g in found if g.path == "small/adapter_states/bbb"]
    file = Path(root, state.files[0])
    os.utime(file, (LATER.timestamp() + 60,) * 2)
    remove(root, found, LATER)
    assert file.exists()
    assert not Path(root, "small/training_runs/bbb").exists()
