"""What steering changes: no more wrong sentences than stated, a shift is found, and copies of a row are no evidence."""

import numpy as np
import polars as pl
import pytest

from schemas import ProfileChanges
from schemas.profiles import PLAIN, ProfileItems, ProfileValues
from steer_core.evaluation.profiles.changes import LEVEL, changes_of
from steer_core.tables import check
from steer_core.tables.errors import SteerworksError

#: Worlds of the simulations, each with a seed of its own.
WORLDS = 200


def items_table(clusters, profile="p"):
    rows = [
        (f"{profile}{k}", profile, "scored", str(cluster), "", None, f"item {k}", "[]", None, "{}", "test", k)
        for k, cluster in enumerate(clusters)
    ]
    return pl.DataFrame(rows, schema=ProfileItems.dtypes(), orient="row")


def values_table(by_arm, profile="p"):
    """`by_arm`: arm -> metric -> values an item, NaN where missing; a list of lists gives several samples."""
    rows = []
    for arm, metrics in by_arm.items():
        for metric, values in metrics.items():
            for item, found in enumerate(np.asarray(values, dtype=float).tolist()):
                for sample, value in enumerate(found if isinstance(found, list) else [found]):
                    known = not np.isnan(value)
                    row = (arm, profile, f"{profile}{item}", sample, metric)
                    rows.append((*row, value if known else None, None if known else "not scored"))
    return pl.DataFrame(rows, schema=ProfileValues.dtypes(), orient="row")


def one(table, **of):
    return table.filter(**of).row(0, named=True)


def equal_settings(seed, n_items=30, n_metrics=20, arms=("a", "b", "c")):
    """Answers that all settings draw from one distribution an item: half skewed lengths, half rare flags."""
    rng = np.random.default_rng(seed)
    shape = (1 + len(arms), n_items, n_metrics // 2)
    lengths = np.exp(rng.normal(3.0, 0.5, shape[1:]) + rng.normal(0.0, 1.0, shape))
    flags = (rng.random(shape) < rng.beta(0.3, 2.0, shape[1:])).astype(float)
    values = np.concatenate([lengths, flags], axis=2)
    places = np.indices(values.shape).reshape(3, -1)
    names = np.array([PLAIN, *arms]), np.array([f"p{k}" for k in range(n_items)])
    columns = {
        "arm_id": names[0][places[0]],
        "profile": np.full(values.size, "p"),
        "item_id": names[1][places[1]],
        "sample_index": np.zeros(values.size, np.int64),
        "metric": np.array([f"m{k}" for k in range(n_metrics)])[places[2]],
        "value": values.ravel(),
    }
    return pl.DataFrame(columns).with_columns(missing=pl.lit(None, pl.String))


def test_of_equal_settings_hardly_any_page_says_that_one_differs():
    items = items_table(range(30))
    wrong, alone = 0, []
    for world in range(WORLDS):
        found = changes_of(equal_settings(world), items, seed=world)
        wrong += bool(found["different"].any())
        alone += [found["p"].to_numpy()]
    # 5 % of 200 are 10; the chance of more than 16 at a true 5 % is .02
    assert wrong <= 16
    # the worlds are no vacuous ones: of single lengths p has the distribution that it should have, of flags less
    assert np.mean(np.array(alone)[:, :10] <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(np.array(alone)) < 0.7


@pytest.mark.parametrize("per_cluster", [1, 4])
def test_a_shift_is_found_among_many_that_are_none(per_cluster):
    rng = np.random.default_rng(1)
    plain = {f"m{k}": rng.normal(size=40 * per_cluster) for k in range(20)}
    arm = {name: values + rng.normal(size=values.shape) for name, values in plain.items()}
    arm["m3"] = plain["m3"] + 1.0 + 0.3 * rng.normal(size=40 * per_cluster)
    items = items_table(np.arange(40 * per_cluster) // per_cluster)
    found = check(changes_of(values_table({PLAIN: plain, "a": arm}), items), ProfileChanges)
    assert found.filter("different")["metric"].to_list() == ["m3"]
    shifted = one(found, metric="m3")
    assert shifted["n_clusters"] == 40
    assert shifted["low"] < 1.0 < shifted["high"]
    assert shifted["effect_size"] == pytest.approx(shifted["difference"] / plain["m3"].std(ddof=1))
    assert shifted["difference"] == pytest.approx(shifted["value"] - shifted["plain_value"])


def test_copies_of_an_item_in_its_cluster_are_no_evidence():
    called = {"clusters": 0, "items": 0}
    for world in range(WORLDS):
        rng = np.random.default_rng(world)
        plain, arm = (np.repeat(rng.normal(size=10), 8) for _ in range(2))
        values = values_table({PLAIN: {"m": plain}, "a": {"m": arm}})
        for unit, clusters in (("clusters", np.arange(80) // 8), ("items", np.arange(80))):
            called[unit] += changes_of(values, items_table(clusters), seed=world, draws=1000)["different"][0]
    assert called["clusters"] <= 16
    assert called["items"] > WORLDS / 3


def test_samples_of_an_item_are_averaged_and_are_no_evidence():
    rng = np.random.default_rng(0)
    plain, arm = (rng.normal(size=(6, 1)) for _ in range(2))
    once = values_table({PLAIN: {"m": plain}, "a": {"m": arm}})
    often = values_table({PLAIN: {"m": np.repeat(plain, 50, 1)}, "a": {"m": np.repeat(arm, 50, 1)}})
    one_each, many = (one(changes_of(v, items_table(range(6))), metric="m") for v in (once, often))
    assert (one_each["n"], one_each["n_clusters"]) == (many["n"], many["n_clusters"]) == (6, 6)
    assert one_each["p"] == pytest.approx(many["p"])


@pytest.mark.parametrize("n_clusters", [2, 3, 5])
def test_p_is_never_below_what_so_few_clusters_can_give(n_clusters):
    n = 30 * n_clusters
    values = values_table({PLAIN: {"m": np.zeros(n)}, "a": {"m": np.ones(n)}})
    found = one(changes_of(values, items_table(np.arange(n) % n_clusters)), metric="m")
    assert found["p"] == pytest.approx(2.0 ** (1 - n_clusters), rel=0.1)
    assert found["n_clusters"] == n_clusters
    assert not found["different"]


def test_pairs_without_a_value_on_both_sides_are_left_out_and_counted():
    nan = float("nan")
    by_arm = {PLAIN: {"m": [1.0, nan, 1.0, 1.0]}, "a": {"m": [2.0, 9.0, nan, nan]}}
    found = one(check(changes_of(values_table(by_arm), items_table(range(4))), ProfileChanges), metric="m")
    assert (found["n"], found["missing"], found["plain_missing"]) == (1, 0.5, 0.25)
    assert (found["value"], found["plain_value"], found["difference"]) == (2.0, 1.0, 1.0)
    assert found["effect_size"] is None
    assert found["p"] == 1.0  # one pair can be turned either way


def test_a_metric_that_one_side_lacks_has_no_p_and_is_no_test():
    rng = np.random.default_rng(0)
    shift = {"m": np.ones(20), "only-here": rng.normal(size=20)}
    none = {"m": np.full(20, np.nan)}
    values = values_table({PLAIN: {"m": np.zeros(20)}, "a": shift, "b": none})
    found = check(changes_of(values, items_table(range(20))), ProfileChanges)
    here = one(found, metric="only-here")
    assert (here["n"], here["p"], here["different"], here["plain_missing"]) == (0, None, False, 1.0)
    lacking = one(found, arm_id="b")
    assert (lacking["difference"], lacking["p"], lacking["missing"]) == (None, None, 1.0)
    # what is no test costs the others nothing
    shifted = one(found, arm_id="a", metric="m")
    assert shifted["p_adjusted"] == shifted["p"] <= LEVEL


def test_correction_is_over_all_arms_and_metrics_of_the_cell():
    plain, arm = {"m": np.zeros(8)}, {"m": np.ones(8)}
    few = changes_of(values_table({PLAIN: plain, "a": arm}), items_table(range(8)))
    many = changes_of(values_table({PLAIN: plain, **{f"a{k}": arm for k in range(10)}}), items_table(range(8)))
    assert few["p_adjusted"][0] == few["p"][0]
    assert many["p_adjusted"].to_list() == pytest.approx([10 * many["p"][0]] * 10)


def test_every_seed_has_its_draws_and_the_plain_model_alone_has_no_changes():
    values, items = equal_settings(0), items_table(range(30))
    assert changes_of(values, items, seed=3).equals(changes_of(values, items, seed=3))
    assert changes_of(values.filter(arm_id=PLAIN), items).height == 0
    assert changes_of(values.clear(), items).height == 0


def test_arms_without_the_plain_model_are_refused():
    with pytest.raises(SteerworksError, match="without those of the plain model"):
        changes_of(values_table({"a": {"m": [1.0, 2.0]}}), items_table(range(2)))


def test_changes_of_an_earlier_version_are_read_as_of_no_known_form_of_a_profile():
    found = changes_of(equal_settings(0, n_items=6, n_metrics=2), items_table(range(6)), draws=50, digests={"p": "now"})
    assert set(found["asked"]) == {"now"}
    old = ProfileChanges.migrate(found.drop("asked"), 1)
    assert set(check(old, ProfileChanges)["asked"]) == {""}
    assert ProfileChanges.migrate(found, 0) is None
