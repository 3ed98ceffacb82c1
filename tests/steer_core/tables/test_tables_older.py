"""Tables that version 0.1.0 of the code (0def941) published stay readable: as they are, or migrated."""

import json
from pathlib import Path

import pytest

from schemas import CONTRACTS, Adapters, Responses, RunFigures
from steer_core.tables import Journal
from steer_core.tables.snapshot import read_table

OLD = Path(__file__).parents[2] / "fixtures" / "tables_0def941"
EXPECTED = json.loads((OLD / "expected.json").read_text())
#: Columns that a later contract gave another meaning, by contract; their old values are not carried over.
CHANGED: dict[str, set[str]] = {
    "artifacts": {"body"},
    "leaderboard": {"error", "error_low", "error_high", "vs_copy", "miscalibration", "orthogonality"},
    "side_effects": {"slope", "low", "high", "correlation"},
    "steerability": {"error_permuted"},
}


def _plain(value):
    return json.loads(json.dumps(value, default=str))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_older_table_reads_with_the_values_that_it_had(name):
    kept = EXPECTED[name]
    contract = CONTRACTS[kept["contract"]]
    rows = read_table(str(OLD / name), contract)
    assert rows.height == kept["rows"]
    first = _plain(rows.row(0, named=True))
    same = {c: v for c, v in kept["first"].items() if c in first and c not in CHANGED.get(kept["contract"], set())}
    assert {c: first[c] for c in same} == same
    assert len(same) >= 0.4 * len(kept["first"])


def test_every_contract_of_that_version_is_among_the_tables():
    assert len({kept["contract"] for kept in EXPECTED.values()}) == 33


def test_an_older_journal_answers_by_key():
    journal = Journal(str(OLD / "journal"), Responses)
    rows = journal.read()
    assert rows.height == 12
    assert journal.read([rows["response_id"][0]]).row(0) == rows.row(0)


def test_adapters_of_version_1_read_as_they_were():
    # eaf83b8 wrote it: every adapter had its numbers then
    rows = read_table(str(OLD.with_name("tables_eaf83b8") / "adapters.parquet"), Adapters)
    assert rows.select("step", "rank", "parameters", "norm").rows() == [(2, 4, 36352, 1.5), (4, 4, 36352, 2.5)]
    assert list(rows.columns) == Adapters.names()


def test_figures_of_runs_of_version_1_know_neither_queue_nor_money():
    # 6e48907 wrote them
    rows = Journal(str(OLD.with_name("tables_6e48907") / "figures"), RunFigures).read().sort("began")
    assert rows["step"].to_list() == ["seed_corpus", "responses"]
    assert rows["busy"].to_list() == [0.0, 11.0]
    assert rows.select("queued", "paid", "currency").rows() == [(None, 0.0, "")] * 2
    assert list(rows.columns) == RunFigures.names()
