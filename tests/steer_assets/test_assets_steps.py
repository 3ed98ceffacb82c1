"""A step among others that want the same table: who waited looks at everything again."""

import contextlib
import json

import polars as pl
import pytest

from schemas import GoalValues
from steer_assets import steps
from steer_core.tables.snapshot import read_footer, read_table


def waiting_while(do, monkeypatch, table):
    """Before a table's lease is had, somebody else does something."""
    take = steps.lease

    @contextlib.contextmanager
    def slow(url, who, **rest):
        with take(url, who, **rest) as held:
            if url.rsplit("/.leases/", 1)[1].split("/")[0] == table and not done:
                done.append(table)
                do()
                held.waited = 5.0
            yield held

    done = []
    monkeypatch.setattr(steps, "lease", slow)
    return done


def test_inputs_that_were_made_again_meanwhile_are_those_that_the_footer_names(workplace, monkeypatch):
    workplace.materialize('key:"small/seed_corpus"')
    before = read_footer(str(workplace.table("seed_corpus"))).content

    def other():
        texts = (workplace.folder / "texts.csv").read_text()
        (workplace.folder / "texts.csv").write_text(texts.replace("baker", "fisherman"))
        workplace.configure()
        workplace.materialize('key:"small/seed_corpus"')

    done = waiting_while(other, monkeypatch, "corpus_goal_values")
    workplace.materialize('key:"small/goal_mappings"')
    now = read_footer(str(workplace.table("seed_corpus"))).content
    assert done == ["corpus_goal_values"]
    assert now != before
    footer = read_footer(str(workplace.table("corpus_goal_values")))
    assert footer.inputs["seed_corpus"] == now
    texts = pl.read_parquet(workplace.table("seed_corpus"), hive_partitioning=False)["text_id"]
    assert set(read_table(str(workplace.table("corpus_goal_values")), GoalValues)["text_id"]) == set(texts)


def test_who_is_killed_between_publishing_and_giving_back_is_waited_for_by_nobody(workplace, monkeypatch):
    def state():
        (path,) = (workplace.folder / "root/small/.leases/seed_corpus").glob("*.json")
        return path, json.loads(path.read_text())

    with monkeypatch.context() as only:
        # its beats end with the process, and no more is said
        only.setattr("steer_core.tables.leases.Held.end", lambda held: held._ended.set())
        workplace.materialize('key:"small/seed_corpus"')
    path, left = state()
    assert not left["released"]
    first = read_footer(str(workplace.table("seed_corpus")))
    # up to date: the lease is not even looked at
    workplace.materialize('key:"small/seed_corpus"')
    assert state() == (path, left)
    # as the process is gone, its lease is followed at once where the table is wanted anew
    path.write_text(json.dumps(left | {"started": "1"}))
    monkeypatch.setattr("time.sleep", lambda seconds: None if seconds == 0 else pytest.fail(f"waited {seconds} s"))
    with steps.making_anew():
        workplace.materialize('key:"small/seed_corpus"')
    assert state()[0].name > path.name
    assert state()[1]["released"]
    assert read_footer(str(workplace.table("seed_corpus"))).content == first.content
