"""Parts become segments, rows are found without opening every file, and changed bytes are refused."""

import random
import shutil
from pathlib import Path

import filelock
import polars as pl
import pytest
from journals import filled, opened, responses, same_rows

from schemas import Judgements, Responses
from steer_core.tables import ContractError, Journal, TableError, compaction, key_index
from steer_core.tables.footer import METADATA_KEY
from steer_core.tables.parts import ROWS_KEY

OLD = Path(__file__).parents[2] / "fixtures" / "tables_0def941" / "journal"


def names(folder, pattern="*.parquet"):
    return sorted(p.name for p in folder.glob(pattern))


@pytest.fixture
def small_segments(monkeypatch):
    """Segments of 32 rows, so that a few dozen rows make several."""
    monkeypatch.setattr(compaction, "SEGMENT_ROWS", 32)


def test_a_key_opens_the_part_that_holds_it_and_no_other(tmp_path):
    journal = filled(tmp_path, 30)
    with opened() as files:
        assert same_rows(journal.read(["r5", "r6", "r77", "none"]), pl.concat([responses(5, 7), responses(77, 78)]))
    assert len(files) == 2
    with opened() as files:
        assert journal.contains(["r0", "r119", "r120"]) == {"r0", "r119"}
        assert journal.read(["none"]).is_empty()
    assert files == []


def test_compacted_rows_are_the_same_rows_in_one_file(tmp_path):
    journal = filled(tmp_path, 30)
    before = journal.read()
    assert journal.compact(at_least=30)
    assert len(names(tmp_path)) == len(journal.parts()) == 1
    assert names(tmp_path)[0].startswith("segment-")
    assert same_rows(journal.read(), before)
    assert same_rows(before, responses(0, 120))
    with opened() as files:
        assert same_rows(journal.read(["r5", "r77", "none"]), pl.concat([responses(5, 6), responses(77, 78)]))
    assert len(files) == 1
    assert journal.keys() == {f"r{i}" for i in range(120)}


def test_a_segment_is_readable_with_one_line_as_parts_are(tmp_path):
    filled(tmp_path, 5).compact(1)
    filled(tmp_path, 6)
    assert set(pl.read_parquet(tmp_path / "*.parquet")["response_id"]) == {f"r{i}" for i in range(24)}


def test_few_parts_are_left_as_they_are(tmp_path):
    journal = filled(tmp_path, 5)
    before = names(tmp_path)
    assert not journal.compact(at_least=6)
    assert not Journal(str(tmp_path / "none"), Responses).compact(at_least=1)
    assert names(tmp_path) == before


def test_a_journal_that_another_process_compacts_is_left_to_it(tmp_path):
    journal = filled(tmp_path, 5)
    with filelock.FileLock(tmp_path / ".compact.lock"):
        assert not journal.compact(1)
    assert len(journal.parts()) == 5
    assert journal.compact(1)


def test_full_segments_stay_and_short_ones_are_merged_again(tmp_path, small_segments):
    journal = filled(tmp_path, 10)
    assert journal.compact(1)
    heights = {n: pl.read_parquet(tmp_path / n).height for n in names(tmp_path)}
    assert sorted(heights.values()) == [8, 32]
    # a short segment alone is nothing to do
    assert not journal.compact(0)
    for n in range(40, 80, 4):
        journal.append(responses(n, n + 4))
    journal.compact(1)
    assert set(heights) & set(names(tmp_path)) == {n for n, height in heights.items() if height == 32}
    assert sorted(pl.read_parquet(p).height for p in tmp_path.glob("*.parquet")) == [16, 32, 32]
    assert same_rows(journal.read(), responses(0, 80))
    with opened() as files:
        journal.read(["r0", "r1", "r2"])
    assert len(files) == 1


def test_one_large_append_becomes_several_segments(tmp_path, small_segments):
    journal = Journal(str(tmp_path), Responses)
    journal.append(responses(0, 100))
    assert journal.compact(1)
    assert len(names(tmp_path)) == 3
    assert same_rows(journal.read(), responses(0, 100))


def test_rows_that_came_together_lie_together(tmp_path):
    filled(tmp_path, 30).compact(1)
    (segment,) = tmp_path.glob("segment-*.parquet")
    assert pl.read_parquet(segment)["seed"].to_list() == list(range(120))


@pytest.mark.parametrize("damage", ["absent", "torn", "rubble"])
def test_without_its_log_a_journal_answers_the_same(tmp_path, damage):
    journal = filled(tmp_path, 6)
    log = tmp_path / key_index.LOG
    data = log.read_bytes()
    if damage == "absent":
        log.unlink()
    else:
        log.write_bytes(data[: len(data) // 2] if damage == "torn" else b"\xff\n a b \n" + data[10:])
    # the line that follows a torn one counts
    journal.append(responses(100, 101))
    assert same_rows(journal.read(["r0", "r23", "r100"]), pl.concat([responses(i, i + 1) for i in (0, 23, 100)]))
    assert journal.contains(["r0", "r100", "r99"]) == {"r0", "r100"}
    with opened() as files:
        journal.read(["r100"])
    assert len(files) == {"absent": 7, "torn": 4, "rubble": 2}[damage]
    assert journal.compact(1)
    assert same_rows(journal.read(), pl.concat([responses(0, 24), responses(100, 101)]))


def test_a_segment_without_its_sidecar_answers_and_gets_one(tmp_path):
    journal = filled(tmp_path, 6)
    journal.compact(1)
    (sidecar,) = tmp_path.glob(f"*{key_index.SIDECAR}")
    sidecar.unlink()
    assert same_rows(journal.read(["r3"]), responses(3, 4))
    assert journal.contains(["r3", "r99"]) == {"r3"}
    journal.append(responses(24, 25))
    journal.compact(1)
    assert len(names(tmp_path, f"*{key_index.SIDECAR}")) == 1


def test_what_a_compaction_left_when_it_was_killed_counts_once_and_goes(tmp_path, small_segments):
    journal = filled(tmp_path / "whole", 10)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    journal.compact(1)
    # every file of before and after: the moment before the first part goes
    for path in (tmp_path / "parts").iterdir():
        shutil.copy(path, tmp_path / "whole")
    orphan = tmp_path / "whole" / f"segment-{'0' * 32}{key_index.SIDECAR}"
    orphan.write_bytes(b"half")
    assert same_rows(journal.read(), responses(0, 40))
    assert same_rows(journal.read(["r1", "r39"]), pl.concat([responses(1, 2), responses(39, 40)]))
    assert journal.totals("seed") == {"seed": sum(range(40))}
    assert journal.compact(1)
    assert not orphan.exists()
    heights = [pl.read_parquet(p).height for p in (tmp_path / "whole").glob("*.parquet")]
    assert sum(heights) == 40
    assert same_rows(journal.read(), responses(0, 40))


def test_a_reader_whose_parts_were_merged_meanwhile_reads_again(tmp_path, monkeypatch):
    from steer_core.tables import journal as module

    journal = filled(tmp_path, 6)
    read_part, calls = module.read_part, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            Journal(str(tmp_path), Responses).compact(1)
        return read_part(*args)

    monkeypatch.setattr(module, "read_part", interrupted)
    assert same_rows(journal.read(), responses(0, 24))
    assert len(calls) == 4


def test_a_listing_that_a_compaction_overtakes_is_made_again(tmp_path, monkeypatch):
    from steer_core.tables import listing

    journal = filled(tmp_path, 2)
    seen = iter([{"a.parquet"}, {"b.parquet"}, {"b.parquet", "segment-c.parquet"}])
    monkeypatch.setattr(listing, "_names", lambda *_: next(seen))
    assert [p.rsplit("/", 1)[-1] for p in journal.parts()] == ["b.parquet", "segment-c.parquet"]


def test_honest_differences_in_time_are_merged_and_others_stay_an_error(tmp_path):
    journal = filled(tmp_path, 3)
    journal.append(responses(0, 5, seconds=9.0))
    journal.compact(1)
    assert pl.read_parquet(tmp_path / "*.parquet").height == 12
    journal.append(responses(2, 4, word="other"))
    for _ in range(2):
        for keys in (None, ["r2"]):
            with pytest.raises(TableError, match=r"keys hold different rows \(first: r2\)"):
                journal.read(keys)
        assert same_rows(journal.read(["r0"]), responses(0, 1))
        assert journal.compact(1) or len(journal.parts()) == 1


def test_a_part_is_never_replaced_by_other_rows_under_its_keys(tmp_path):
    journal = filled(tmp_path, 1)
    journal.append(responses(0, 4, seconds=9.0))
    assert len(journal.parts()) == 1
    journal.append(responses(0, 4, word="other"))
    with pytest.raises(TableError, match="4 keys hold different rows"):
        journal.read()


def test_totals_are_the_sums_of_distinct_rows_and_read_no_other_column(tmp_path):
    journal = filled(tmp_path, 10)
    journal.compact(1)
    journal.append(responses(40, 44))
    journal.append(responses(38, 41))
    assert journal.totals("seconds", "completion_tokens") == {"seconds": 44 / 4, "completion_tokens": sum(range(44))}
    assert Journal(str(tmp_path / "none"), Responses).totals("seconds") == {"seconds": 0}


def test_any_store_holds_a_journal():
    journal = filled("memory://journals/any", 6)
    wanted = pl.concat([responses(3, 4), responses(20, 21)])
    assert same_rows(journal.read(["r3", "r20"]), wanted)
    assert journal.compact(1)
    journal.append(responses(24, 26))
    assert len(journal.parts()) == 2
    assert same_rows(journal.read(["r3", "r20"]), wanted)
    assert journal.contains(["r3", "r25", "r26"]) == {"r3", "r25"}
    assert same_rows(journal.read(), responses(0, 26))
    assert journal.totals("seed") == {"seed": sum(range(26))}


def test_keys_of_several_columns_are_tuples(tmp_path):
    def verdicts(n):
        row = {"item_id": "i", "judge_id": "j", "rubric": "q@1", "value": None, "state": "unparsed", "method": "text"}
        rows = [{"response_id": f"r{i // 3}", "repeat": i % 3, "raw": str(i), **row} for i in range(n)]
        return pl.DataFrame(rows, schema=Judgements.empty().schema)

    journal = Journal(str(tmp_path), Judgements)
    for part in verdicts(30).iter_slices(5):
        journal.append(part)
    keys = [("r1", "i", "j", "q@1", 2), ("r9", "i", "j", "q@1", 0), ("r9", "i", "j", "q@1", 7)]
    for _ in range(2):
        assert sorted(journal.read(keys)["raw"]) == ["27", "5"]
        assert journal.contains(keys) == set(keys[:2])
        assert len(journal.keys()) == 30
        journal.compact(1)


def test_an_older_journal_is_read_by_key_and_compacted(tmp_path):
    shutil.copytree(OLD, tmp_path / "old")
    journal = Journal(str(tmp_path / "old"), Responses)
    rows = journal.read()
    some = rows["response_id"].gather([0, 7]).to_list()
    for _ in range(2):
        assert journal.contains([*some, "none"]) == set(some)
        assert journal.totals("seconds")["seconds"] == pytest.approx(rows["seconds"].sum())
        assert journal.read(some).sort("response_id").equals(rows[[0, 7]].sort("response_id"))
        journal.compact(1)
    assert len(journal.parts()) == 1


def flips(data, n, seed):
    rng = random.Random(seed)
    for at in sorted(rng.sample(range(len(data)), min(n, len(data)))):
        yield at, data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_flipped_byte_is_refused_by_name_or_changes_nothing(tmp_path, compacted, by_key):
    journal = filled(tmp_path, 4)
    if compacted:
        journal.compact(1)
    keys = [f"r{i}" for i in range(16)] if by_key else None
    path = sorted(tmp_path.glob("*.parquet"))[0]
    data, refused = path.read_bytes(), 0
    for at, flipped in flips(data, 250, seed=1):
        path.write_bytes(flipped)
        try:
            assert same_rows(journal.read(keys), responses(0, 16)), at
        except (TableError, ContractError) as error:
            if path.name not in str(error):
                raise
            refused += 1
    assert refused > 75
    path.write_bytes(data)
    assert same_rows(journal.read(keys), responses(0, 16))


def test_a_flipped_byte_of_a_sidecar_is_refused_by_name(tmp_path):
    journal = filled(tmp_path, 4)
    journal.compact(1)
    (sidecar,) = tmp_path.glob(f"*{key_index.SIDECAR}")
    for _, flipped in flips(sidecar.read_bytes(), 20, seed=2):
        sidecar.write_bytes(flipped)
        with pytest.raises(TableError, match=rf"{sidecar.name} is damaged: delete it"):
            journal.read(["r1"])
        with pytest.raises(TableError, match=rf"{sidecar.name} is damaged: delete it"):
            journal.contains(["r1"])
    data = sidecar.read_bytes()
    sidecar.write_bytes(data[:20] + b"~" + data[21:])
    with pytest.raises(TableError, match=rf"{sidecar.name} is damaged: delete it"):
        journal.read()
    sidecar.unlink()
    assert same_rows(journal.read(["r1"]), responses(1, 2))


def test_an_older_part_with_rows_that_break_the_contract_is_named(tmp_path):
    shutil.copytree(OLD, tmp_path / "old")
    path = sorted((tmp_path / "old").glob("*.parquet"))[1]
    footer = {METADATA_KEY: pl.read_parquet_metadata(path)[METADATA_KEY]}
    pl.read_parquet(path).with_columns(finish_reason=pl.lit("tired")).write_parquet(path, metadata=footer)
    with pytest.raises(ContractError, match=rf"{path.name}.*\n.*finish_reason"):
        Journal(str(tmp_path / "old"), Responses).read()


@pytest.mark.parametrize("change", ["text", "rows", "order"])
def test_rows_changed_under_their_footer_are_refused_by_name(tmp_path, change):
    journal = filled(tmp_path, 1)
    (path,) = tmp_path.glob("*.parquet")
    metadata = {k: v for k, v in pl.read_parquet_metadata(path).items() if k in (METADATA_KEY, ROWS_KEY)}
    rows = pl.read_parquet(path)
    changed = {"text": rows.with_columns(raw=pl.lit("better")), "rows": rows[:3], "order": rows.reverse()}[change]
    changed.write_parquet(path, metadata=metadata)
    with pytest.raises(TableError, match=f"{path.name} was changed after it was written"):
        journal.read()


def test_a_damaged_part_is_left_where_it_is_by_a_compaction(tmp_path):
    journal = filled(tmp_path, 6)
    path = Path(journal.parts()[2])
    path.write_bytes(path.read_bytes()[:-10])
    assert journal.compact(1)
    assert len(journal.parts()) == 2
    with pytest.raises(TableError, match=path.name):
        journal.read()
    path.unlink()
    assert journal.read().height == 20


def test_a_table_of_another_contract_among_the_parts_is_named(tmp_path):
    filled(tmp_path, 1)
    with pytest.raises(TableError, match="holds table 'responses', not 'judgements'"):
        Journal(str(tmp_path), Judgements).read()
