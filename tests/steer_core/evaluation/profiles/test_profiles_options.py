"""Options are scored once; what is said of them names how it was decided."""

import polars as pl
import pytest

from steer_core.evaluation.profiles.options import NORMALISATIONS, accuracy, decided
from steer_core.tables import SteerworksError


def item(name, scores, gold, tokens=None, sizes=None, alone=None, cluster=None):
    n = len(scores)
    return pl.DataFrame(
        {
            "item_id": [name] * n,
            "cluster": [cluster or name] * n,
            "option": list(range(n)),
            "log_likelihood": pl.Series(scores, dtype=pl.Float64),
            "tokens": tokens or [1] * n,
            "bytes": sizes or [1] * n,
            "unconditional": pl.Series(alone if alone is not None else [0.0] * n, dtype=pl.Float64),
            "gold": [i == gold for i in range(n)],
        }
    )


def test_each_normalisation_may_choose_another_option():
    rows = item("a", [-2.0, -3.0, -3.5, -6.0], 0, [1, 3, 2, 1], [2, 4, 9, 10], [-1.0, -3.0, -4.0, -9.0])
    chosen = [decided(rows, name)["chosen"].to_list() for name in NORMALISATIONS]
    assert chosen == [[[0]], [[1]], [[2]], [[3]]]


def test_a_tie_counts_its_share_or_nothing_and_is_counted():
    rows = pl.concat([item("a", [-1.0, -1.0, -2.0], 1), item("b", [-3.0, -1.0, -2.0], 1)])
    share, wrong = (accuracy(rows, "sum", ties=t) for t in ("share", "wrong"))
    assert (share.estimate.value, wrong.estimate.value) == (0.75, 0.5)
    assert share.n_tied == wrong.n_tied == 1
    # whatever the order of options
    assert accuracy(item("a", [-1.0, -1.0], 0), "sum").estimate.value == 0.5


def test_rounding_is_a_tie_where_a_tolerance_says_so():
    rows = item("a", [-1.0, -1.0 - 1e-7], 0)
    assert accuracy(rows, "sum").n_tied == 0
    assert accuracy(rows, "sum", tolerance=1e-6).n_tied == 1


def test_an_item_without_a_score_is_in_no_figure_and_counted():
    rows = pl.concat([item("a", [None, -1.0], 0), item("b", [-1.0, -2.0], 0, alone=[None, -1.0])])
    found = accuracy(rows, "sum")
    assert (found.estimate.value, found.estimate.n, found.n_items, found.n_unscored) == (1.0, 1, 2, 1)
    none = accuracy(rows, "unconditional")
    assert none.estimate.value is None
    assert none.n_unscored == 2


def test_a_probability_of_zero_is_a_score():
    assert decided(item("a", [float("-inf"), -9.0], 1), "token")["correct"].to_list() == [1.0]
    assert decided(item("a", [float("-inf")] * 2, 1), "sum")["n_best"].to_list() == [2]


def test_items_of_one_cluster_are_one_piece_of_evidence():
    apart = pl.concat([item(f"{i}", [-1.0, -2.0], i % 2) for i in range(24)])
    together = pl.concat([item(f"{i}", [-1.0, -2.0], i // 6 % 2, cluster=str(i // 6)) for i in range(24)])
    narrow, wide = (accuracy(t, "sum").estimate for t in (apart, together))
    assert (narrow.n_clusters, wide.n_clusters) == (24, 4)
    assert wide.high - wide.low > narrow.high - narrow.low


BROKEN = {
    "without tokens": lambda r: r.drop("tokens"),
    "NaN": lambda r: r.with_columns(log_likelihood=pl.lit(float("nan"))),
    "null": lambda r: r.with_columns(gold=pl.lit(None, pl.Boolean)),
    "no tokens or no bytes": lambda r: r.with_columns(tokens=pl.lit(0)),
    "an option twice": lambda r: pl.concat([r, r]),
    "single option": lambda r: r.head(1),
    "exactly one gold": lambda r: r.with_columns(gold=pl.lit(True)),
    "several clusters": lambda r: r.with_columns(cluster=pl.col("option").cast(pl.String)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_table_that_is_none_is_refused_by_name(what):
    with pytest.raises(SteerworksError, match=what):
        accuracy(BROKEN[what](item("a", [-1.0, -2.0], 0)), "sum")


def test_unknown_choices_are_refused():
    rows = item("a", [-1.0, -2.0], 0)
    with pytest.raises(SteerworksError, match="normalisation"):
        accuracy(rows, "mean")
    with pytest.raises(SteerworksError, match="ties"):
        accuracy(rows, "sum", ties="first")
