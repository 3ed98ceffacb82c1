"""Publishing replaces a table in one step or not at all, whatever kills the writer."""

import errno
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pandas as pd
import polars as pl
import pytest

from schemas import GoalValues, Responses, SeedCorpus
from schemas.contract import CONTRACTS
from steer_core.tables import (
    ContractError,
    Footer,
    TableError,
    content_digest,
    files,
    publish_table,
    read_footer,
    read_table,
)
from steer_core.tables.files import filesystem
from steer_core.tables.footer import METADATA_KEY


def values(n: int = 3, start: float = 0.0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "text_id": [f"t{i}" for i in range(n)],
            "scorer_id": "s@1",
            "value": [start + i for i in range(n)],
            "state": "ok",
        }
    )


FOOTER = Footer("goal_values", 1, code_version="7", spec_hash="abc", seed=3, inputs={"corpus": "d1"})


def test_what_is_read_is_what_was_published(tmp_path):
    url = str(tmp_path / "deep" / "part.parquet")
    written = publish_table(values(), GoalValues, url, FOOTER)
    assert read_table(url, GoalValues).equals(values())
    assert read_footer(url) == written
    assert written.content == content_digest(values())
    assert written.fingerprint == FOOTER.fingerprint


def test_other_readers_need_one_line(tmp_path):
    url = str(tmp_path / "bench" / "goal_values" / "model=m" / "method=direct" / "part.parquet")
    publish_table(values(), GoalValues, url, FOOTER)
    assert list(pd.read_parquet(tmp_path / "bench" / "goal_values")["method"].unique()) == ["direct"]
    assert pl.scan_parquet(tmp_path / "bench" / "goal_values" / "**/*.parquet").collect().height == 3


def test_any_fsspec_url_is_a_place_for_tables():
    publish_table(values(), GoalValues, "memory://bench/goal_values/part.parquet", FOOTER)
    assert read_table("memory://bench/goal_values/part.parquet", GoalValues).equals(values())


def test_a_failing_write_leaves_the_old_object_on_any_store():
    from steer_core.tables.files import open_file, write_bytes, write_file

    def fail(file):
        file.write(b"ne")
        raise RuntimeError("cut")

    write_bytes("memory://store/object", b"old")
    with pytest.raises(RuntimeError, match="cut"):
        write_file("memory://store/object", fail)
    with open_file("memory://store/object") as file:
        assert file.read() == b"old"


def test_the_content_digest_follows_the_rows_and_not_their_layout():
    plain = pl.DataFrame({"a": ["x", "y", None], "b": [1.0, None, 3.0]})
    relaid = pl.concat([plain[:1], plain[1:]], rechunk=False).with_columns(
        b=pl.when(pl.col("b").is_null()).then(pl.lit(None, dtype=pl.Float64)).otherwise("b")
    )
    assert relaid.equals(plain)
    assert content_digest(relaid) == content_digest(plain)
    changed = [plain.with_columns(b=pl.lit(0.0)), plain.reverse(), plain.rename({"a": "c"}), plain[:2]]
    assert len({content_digest(f) for f in [plain, *changed]}) == 5


def test_a_bad_frame_leaves_the_earlier_table_intact(tmp_path):
    url = str(tmp_path / "part.parquet")
    publish_table(values(), GoalValues, url, FOOTER)
    with pytest.raises(ContractError, match="Nothing was written"):
        publish_table(values().with_columns(state=pl.lit("maybe")), GoalValues, url, FOOTER)
    assert read_table(url, GoalValues).equals(values())
    assert [p.name for p in tmp_path.iterdir()] == ["part.parquet"]


def test_a_missing_table_says_what_to_do(tmp_path):
    with pytest.raises(TableError, match=r"no table at .*part.parquet: materialize"):
        read_table(str(tmp_path / "part.parquet"), GoalValues)


def test_a_truncated_table_is_named(tmp_path):
    path = tmp_path / "part.parquet"
    publish_table(values(500), GoalValues, str(path), FOOTER)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TableError, match=r"part.parquet is not a readable Parquet file .* Delete it"):
        read_table(str(path), GoalValues)


def test_something_that_is_not_parquet_is_named(tmp_path):
    path = tmp_path / "part.parquet"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="not a readable Parquet file"):
        read_table(str(path), GoalValues)


def test_parquet_that_we_did_not_write_is_named(tmp_path):
    path = tmp_path / "part.parquet"
    values().write_parquet(path)
    with pytest.raises(TableError, match="no Steerworks footer"):
        read_table(str(path), GoalValues)


def test_a_table_in_the_wrong_place_is_named(tmp_path):
    url = str(tmp_path / "part.parquet")
    publish_table(values(), GoalValues, url, FOOTER)
    with pytest.raises(TableError, match="holds table 'goal_values', not 'seed_corpus'"):
        read_table(url, SeedCorpus)


@pytest.mark.parametrize(("version", "remedy"), [(0, "materialize the asset again"), (99, "update Steerworks")])
def test_another_contract_version_is_refused_by_name(tmp_path, monkeypatch, version, remedy):
    url = str(tmp_path / "part.parquet")
    monkeypatch.setattr(GoalValues, "_version", version)
    publish_table(values(), GoalValues, url, FOOTER)
    monkeypatch.undo()
    with pytest.raises(TableError, match=f"version {version} of contract 'goal_values'.*version 1.*{remedy}"):
        read_table(url, GoalValues)


def test_a_file_that_was_changed_by_hand_is_caught_on_reading(tmp_path):
    url = str(tmp_path / "part.parquet")
    footer = publish_table(values(), GoalValues, url, FOOTER)
    whole = values()
    for edited in (
        whole.with_columns(state=pl.lit("maybe")),
        # edits that keep the contract
        whole.with_columns(value=pl.col("value") + 1),
        whole.head(whole.height - 1),
        whole.reverse(),
    ):
        edited.write_parquet(url, metadata={"steerworks": footer.to_json()})
        with pytest.raises(TableError, match="is not what was published.*Materialize it again"):
            read_table(url, GoalValues)
    whole.write_parquet(url, metadata={"steerworks": footer.to_json()})
    assert read_table(url, GoalValues).equals(whole)


def test_the_fingerprint_follows_inputs_code_and_spec():
    changed = [
        replace(FOOTER, code_version="8"),
        replace(FOOTER, spec_hash="x"),
        replace(FOOTER, inputs={"corpus": "d2"}),
    ]
    assert len({f.fingerprint for f in [FOOTER, *changed]}) == 4
    assert replace(FOOTER, content="z").fingerprint == FOOTER.fingerprint


def test_the_registry_of_contracts_holds_what_is_published():
    assert CONTRACTS["goal_values"] is GoalValues


WRITER = """
    import sys, polars as pl
    from schemas import GoalValues
    from steer_core.tables import Footer, files, publish_table
    n = int(sys.argv[2])
    frame = pl.DataFrame({"text_id": [f"t{i}" for i in range(n)], "scorer_id": "s@1", "value": 1.0, "state": "ok"})
    url = sys.argv[1]
"""


def run_writer(url, n, body):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER) + textwrap.dedent(body), url, str(n)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_full_disk_leaves_the_earlier_table_and_no_rubble(tmp_path):
    url = str(tmp_path / "part.parquet")
    publish_table(values(), GoalValues, url, FOOTER)
    # a limit on file size fails the write half-way, as a full disk does
    body = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        publish_table(frame, GoalValues, url, Footer("goal_values", 1))
    """
    process = run_writer(url, 200_000, body)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    # the system refused after 20,000 bytes; the size said is what the whole file needs
    size = re.search(r"could not write .*part.parquet \(([\d,]+) bytes\): .*Nothing was written.*intact", err)
    assert int(size[1].replace(",", "")) > 50_000
    assert read_table(url, GoalValues).equals(values())
    assert [p.name for p in tmp_path.iterdir()] == ["part.parquet"]


@pytest.mark.parametrize("rows", [3, 50_000])
def test_a_full_disk_is_told_with_place_and_size_for_small_tables_too(tmp_path, rows):
    url = str(tmp_path / "part.parquet")
    body = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        publish_table(frame, GoalValues, url, Footer("goal_values", 1))
    """
    process = run_writer(url, rows, body)
    _, err = process.communicate(timeout=60)
    assert re.search(r"TableError: could not write .*part.parquet \([\d,]+ bytes\): .*Nothing was written", err)
    assert not list(tmp_path.iterdir())


def test_a_read_only_disk_is_told_although_nothing_can_be_removed_from_it(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(
        TableError, match=r"could not write .*part.parquet.*: the file system is read-only; choose another"
    ):
        publish_table(values(), GoalValues, str(tmp_path / "part.parquet"), FOOTER)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_writer_killed_mid_write_leaves_the_earlier_table(tmp_path, how):
    url = str(tmp_path / "part.parquet")
    publish_table(values(), GoalValues, url, FOOTER)
    # the writer stops for good after half of the bytes, so that the signal surely meets it there
    body = """
        import time
        def half(file):
            file.write(b"PAR1" + b"x" * 10_000)
            file.flush()
            print("half", flush=True)
            time.sleep(60)
        files.write_file(url, half)
    """
    process = run_writer(url, 1, body)
    assert process.stdout.readline() == "half\n"
    process.send_signal(how)
    process.wait(timeout=30)
    process.communicate()
    assert read_table(url, GoalValues).equals(values())
    # the next writer sweeps what the killed one left
    publish_table(values(5), GoalValues, url, FOOTER)
    assert [p.name for p in tmp_path.iterdir()] == ["part.parquet"]
    assert read_table(url, GoalValues).height == 5


def test_responses_of_before_steering_are_read_without_a_receipt(tmp_path):
    """Version 1 had no receipts: its rows are unsteered, so nothing that was generated is lost."""
    url = str(tmp_path / "part.parquet")
    row = Responses.empty().drop("receipt").schema
    old = pl.DataFrame(
        {
            n: ["x" if d == pl.String else True if d == pl.Boolean else 1.0 if d == pl.Float64 else 1]
            for n, d in row.items()
        },
        schema=row,
    ).with_columns(finish_reason=pl.lit("stop"))
    old.write_parquet(url, metadata={METADATA_KEY: Footer("responses", 1).to_json()})
    assert read_table(url, Responses).equals(old.with_columns(receipt=pl.lit(None, pl.String)))


def test_storage_that_cannot_be_reached_is_one_clear_error(monkeypatch):
    with pytest.raises(TableError, match="foo://x/y cannot be reached: .*'foo' is no kind of storage"):
        filesystem("foo://x/y")

    def lacking(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", lacking)
    with pytest.raises(TableError, match="s3://bucket/x cannot be reached: Install s3fs to access S3, then run again"):
        filesystem("s3://bucket/x")


def test_writing_to_an_object_store_makes_no_bucket(monkeypatch):
    class Store:
        protocol = ("s3", "s3a")

        def __init__(self):
            self.put = {}

        def makedirs(self, *args, **kwargs):
            raise AssertionError("a mistyped bucket would be made")

        def pipe_file(self, path, data):
            self.put[path] = data

    store = Store()
    monkeypatch.setattr(files, "filesystem", lambda url: (store, url.removeprefix("s3://")))
    files.write_bytes("s3://bucket/a/b.txt", b"x")
    assert store.put == {"bucket/a/b.txt": b"x"}
