"""A step among others that want the same table: who waited looks at everything again."""

import contextlib

import polars as pl

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
