"""Two roots become one: what is missing is taken, what differs is named, what stands stays."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from schemas import GoalValues, Responses
from schemas.digest import digest_text
from steer_core.tables import Footer, Journal, TableError, content_digest, publish_table, read_table
from steer_core.tables import merging as module
from steer_core.tables.errors import ConfigError
from steer_core.tables.footer import METADATA_KEY
from steer_core.tables.merging import merge_roots

OLD = Path(__file__).parents[2] / "fixtures" / "tables_0def941"
FOOTER = Footer("goal_values", 1, code_version="7", spec_hash="abc", seed=3, inputs={"corpus": "d1"})


def response(i: int, raw: str = "x", seconds: float = 0.1) -> pl.DataFrame:
    row = {
        "response_id": f"r{i}", "plan_id": "p", "plan": "{}", "sample_index": 0, "seed": 0, "execution": "cpu", "raw": raw,
        "text": raw, "text_id": digest_text(raw), "finish_reason": "stop", "parsed": True, "prompt_tokens": 1,
        "completion_tokens": 1, "seconds": seconds, "receipt": None,
    }  # fmt: skip
    return pl.DataFrame([row], schema_overrides={"receipt": pl.String})


def values(start: float = 0.0) -> pl.DataFrame:
    return pl.DataFrame({"text_id": ["a", "b"], "scorer_id": "s@1", "value": [start, 1.0], "state": "ok"})


def journal(root: Path, bench: str = "tales") -> Journal:
    return Journal(str(root / bench / "journal/model=m"), Responses)


def answers(root: Path) -> dict[str, str]:
    return dict(journal(root).read().select("response_id", "raw").rows())


def published(root: Path, table: str, rows: pl.DataFrame, footer: Footer = FOOTER) -> None:
    publish_table(rows, GoalValues, str(root / "tales" / table / "part.parquet"), footer)


def state(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def roots(tmp_path):
    """Two with rows and tables of which some overlap, some do not, and some are in conflict."""
    one, two = tmp_path / "one", tmp_path / "two"
    journal(one).append(pl.concat([response(1), response(2), response(7, "of one")]))
    journal(two).append(pl.concat([response(2, seconds=9.0), response(3), response(7, "of two")]))
    journal(two).append(response(4))
    published(one, "own", values())
    published(two, "other", values(0.5))
    for root in (one, two):
        published(root, "both", values())
    published(one, "clash", values(1.0))
    published(two, "clash", values(2.0))
    published(one, "otherwise", values(1.0))
    published(two, "otherwise", values(2.0), replace(FOOTER, spec_hash="def", inputs={"corpus": "d2"}))
    return one, two


def test_merged_both_ways_they_are_the_same_apart_from_named_conflicts(roots, tmp_path):
    one, two = roots
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(one, first)
    shutil.copytree(two, second)
    into_first, into_second = merge_roots(str(first), str(two)), merge_roots(str(second), str(one))
    # journals: the union, and under the key in conflict what each had
    assert answers(first) == {"r1": "x", "r2": "x", "r3": "x", "r4": "x", "r7": "of one"}
    assert answers(second) == {"r1": "x", "r2": "x", "r3": "x", "r4": "x", "r7": "of two"}
    assert (into_first.rows, into_second.rows) == ({"tales/journal/model=m": 2}, {"tales/journal/model=m": 1})
    # tables: both have all, and of the two that differ each its own
    for table in ("own", "other", "both"):
        left, right = (read_table(str(r / f"tales/{table}/part.parquet"), GoalValues) for r in (first, second))
        assert left.equals(right)
    assert read_table(str(first / "tales/clash/part.parquet"), GoalValues)["value"][0] == 1.0
    assert read_table(str(second / "tales/clash/part.parquet"), GoalValues)["value"][0] == 2.0
    for merged in (into_first, into_second):
        assert [(d.path, d.kind) for d in merged.conflicts] == [
            ("tales/journal/model=m", "rows"),
            ("tales/clash", "rows"),
        ]
        (other,) = [d for d in merged.differences if not d.conflict]
        assert other.path == "tales/otherwise"
        assert "other settings, other rows of corpus" in other.said
        assert merged.same == 1
    assert "response_id r7 has another row there" in into_first.conflicts[0].said
    # once more there is nothing to take
    again = merge_roots(str(first), str(two))
    assert (again.rows, again.tables, again.files) == ({}, [], [])
    assert len(again.conflicts) == 2


def test_a_look_changes_nothing_and_says_what_a_merge_takes(roots):
    one, two = roots
    before = state(one), state(two)
    looked = merge_roots(str(one), str(two), write=False)
    assert (state(one), state(two)) == before
    assert merge_roots(str(one), str(two)) == looked
    assert state(two) == before[1]
    assert looked.tables == ["tales/other"]


def test_a_page_comes_with_its_table_and_stays_where_there_is_one(roots):
    one, two = roots
    for root in roots:
        # a page of a table that both have: other bytes are no conflict, the table vouches for its own
        (root / "tales/both/report.html").write_text(root.name)
    figure = two / "tales/other/figures/x.svg"
    figure.parent.mkdir()
    figure.write_text("<svg/>")
    (two / "tales/other/.half.1-00000000000000000000000000000000.tmp").write_text("half")
    merged = merge_roots(str(one), str(two))
    assert merged.files == ["tales/other/figures/x.svg"]
    assert (one / "tales/other/figures/x.svg").read_text() == "<svg/>"
    assert (one / "tales/both/report.html").read_text() == "one"
    assert not list(one.rglob("*.tmp"))


def test_folders_of_files_are_completed_and_never_mixed(roots):
    one, two = roots
    for name, here, there in (("new", None, "w"), ("more", "w", "w"), ("odd", "w", "v")):
        for root, weights in ((one, here), (two, there)):
            if weights is not None:
                folder = root / f"tales/adapters/{name}/step-1"
                folder.mkdir(parents=True)
                (folder / "adapter_model.safetensors").write_text(weights)
    for name in ("more", "odd"):
        (two / f"tales/adapters/{name}/step-2").mkdir()
        (two / f"tales/adapters/{name}/step-2/adapter_model.safetensors").write_text("later")
    (two / "goal_value_cache").mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(two / "goal_value_cache/00.parquet")
    merged = merge_roots(str(one), str(two))
    assert merged.files == [
        "goal_value_cache/00.parquet",
        "tales/adapters/more/step-2/adapter_model.safetensors",
        "tales/adapters/new/step-1/adapter_model.safetensors",
    ]
    odd = next(d for d in merged.conflicts if d.kind == "files")
    assert odd.path == "tales/adapters/odd"
    assert "nothing of this folder was taken" in odd.said
    assert not (one / "tales/adapters/odd/step-2").exists()


def test_what_is_damaged_is_named_and_the_rest_is_taken(roots):
    one, two = roots
    part = sorted((two / "tales/journal/model=m").glob("*.parquet"))[0]
    lost = set(pl.read_parquet(part)["response_id"])
    part.write_bytes(b"rubble")
    table = two / "tales/other/part.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    # rows that keep no contract, though their footer vouches for them: code of another day wrote them
    odd = values().drop("state")
    footer = replace(FOOTER, content=content_digest(odd))
    (two / "tales/odd").mkdir()
    odd.write_parquet(two / "tales/odd/part.parquet", metadata={METADATA_KEY: footer.to_json()})
    merged = merge_roots(str(one), str(two))
    unreadable = [d for d in merged.conflicts if d.kind == "unreadable"]
    assert {d.path for d in unreadable} == {"tales/journal/model=m", "tales/other", "tales/odd"}
    assert any(part.name in d.said for d in unreadable)
    assert any("missing column 'state'" in d.said for d in unreadable)
    assert not (one / "tales/other").exists()
    assert set(answers(one)) == {"r1", "r2", "r7"} | ({"r3", "r4"} - lost)


@pytest.mark.parametrize("allowed", [0, 1, 2, 3])
def test_a_merge_that_was_stopped_goes_on(roots, tmp_path, monkeypatch, allowed):
    one, two = roots
    (two / "tales/other/report.html").write_text("page")
    whole = tmp_path / "whole"
    shutil.copytree(one, whole)
    merge_roots(str(whole), str(two))
    left = [allowed]

    def stops(write):
        def wrapped(*arguments, **options):
            if not left[0]:
                raise TableError("the disk is full")
            left[0] -= 1
            return write(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_file", stops(module.write_file))
        patch.setattr(Journal, "append", stops(Journal.append))
        # two parts of the journal, the page, the table: each is whole or not there
        with pytest.raises(TableError, match="the disk is full"):
            merge_roots(str(one), str(two))
        page, table = (one / f"tales/other/{n}" for n in ("report.html", "part.parquet"))
        assert page.exists() or not table.exists()
    merge_roots(str(one), str(two))
    assert answers(one) == answers(whole)
    assert {k for k in state(one) if "journal" not in k} == {k for k in state(whole) if "journal" not in k}


def test_a_root_of_an_older_version_is_merged_and_its_journal_migrated(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(OLD / "journal", old / "tales/journal/model=m")
    name = "seed_corpus.parquet"
    expected = json.loads((OLD / "expected.json").read_text())
    (old / "tales/seed_corpus").mkdir(parents=True)
    shutil.copy(OLD / name, old / "tales/seed_corpus/part.parquet")
    merged = merge_roots(str(new), str(old))
    assert not merged.differences
    assert merged.rows == {"tales/journal/model=m": 12}
    assert journal(new).read().equals(journal(old).read())
    assert merged.tables == ["tales/seed_corpus"]
    assert pl.read_parquet(new / "tales/seed_corpus/part.parquet").height == expected[name]["rows"]


def test_a_table_that_came_meanwhile_is_not_replaced(roots, monkeypatch):
    one, two = roots
    copy = module._copy

    def late(source, target):
        published(one, "other", values(9.0))
        copy(source, target)

    monkeypatch.setattr(module, "_copy", late)
    merge_roots(str(one), str(two))
    assert read_table(str(one / "tales/other/part.parquet"), GoalValues)["value"][0] == 9.0


def test_what_is_no_other_root_is_refused(roots, tmp_path):
    one, _ = roots
    with pytest.raises(ConfigError, match="there is nothing at"):
        merge_roots(str(one), str(tmp_path / "nowhere"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.png").write_bytes(b"png")
    with pytest.raises(ConfigError, match="is no storage root: nothing in it is a table or a journal"):
        merge_roots(str(one), str(tmp_path / "photos"))
    for other in (one, one / "tales", tmp_path):
        with pytest.raises(ConfigError, match="are one place, or one lies in the other"):
            merge_roots(str(one), str(other))
