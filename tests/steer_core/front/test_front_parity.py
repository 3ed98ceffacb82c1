"""Published numbers that what ships is enough for: all of them come out, and what breaks is told."""

import polars as pl
import pytest

from schemas import Parity
from schemas.parity import FAMILIES
from steer_core.evaluation.parity import Supplies, profiles
from steer_core.front.parity import all_claims, parity_table
from steer_core.tables import check


@pytest.fixture(scope="module")
def table():
    return parity_table(Supplies())


def test_every_number_that_needs_nothing_is_reproduced(table):
    check(table, Parity)
    assert table.filter(status="differs").rows() == []
    run = table.filter(status="reproduced")
    assert set(run["family"]) == {"profiles", "probes", "metrics", "training"}
    # a claim that fell silent would be none that is met
    assert run["claim"].n_unique() == 20
    assert run.height == 119


def test_every_other_one_says_what_it_needs(table):
    for claim, why in table.filter(status="not run").select("claim", "why").iter_rows():
        assert why.startswith("needs "), claim
        assert "STEERWORKS_SAMPLE_DATA" in why or "steerworks run" in why, claim


def test_claims_stand_once_and_in_the_order_of_the_families():
    known = all_claims()
    assert tuple(known) == FAMILIES
    names = [claim.name for claims in known.values() for claim in claims]
    assert len(names) == len(set(names))
    for claims in known.values():
        for claim in claims:
            assert claim.source, claim.name
            assert claim.published, claim.name


def test_a_formula_that_changes_is_found(monkeypatch):
    from steer_core.evaluation.parity import check_claims

    right = profiles.published_mtld
    monkeypatch.setattr(profiles, "published_mtld", lambda words: right(words, threshold=0.6))
    found = check_claims({"profiles": [c for c in profiles.claims() if c.name == "mtld"]}, Supplies())
    assert "differs" in found["status"].to_list()
    assert found.filter(pl.col("status") == "differs")["difference"].is_not_null().all()
