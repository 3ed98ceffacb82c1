"""Selection: the best by what is wanted, nothing that failed, no repeats, and counts of all that is left out."""

import numpy as np
import pytest

from schemas.recipes import InheritanceRecipe
from steer_core.adapters.inheritance.duplicates import Chosen
from steer_core.adapters.inheritance.selection import Candidate, correlations, pools, select, shares
from steer_core.statistics import best_of_curve, paired_contrast
from steer_core.tables.errors import SteerworksError

NAN = float("nan")


def recipe(metric="length", direction="max", **more):
    aim = {"metric": metric, "direction": direction}
    if direction == "target":
        aim["value"] = more.pop("value")
    return InheritanceRecipe.model_validate({"objectives": [aim], "duplicates": None, **more})


def candidate(request, sample, length, *, likely=None, failure=None, text=None, source="m", **metrics):
    words = text or f"{request} {source} {sample}"
    return Candidate(request, sample, source, words, {"length": length, **metrics}, likely, failure)


POOL = [
    candidate("a", 0, 3.0),
    candidate("a", 1, 9.0, failure="truncated"),
    candidate("a", 2, 5.0),
    candidate("b", 0, NAN),
    candidate("b", 1, 2.0),
    candidate("c", 0, 8.0, failure="empty"),
]


@pytest.mark.parametrize(
    ("aim", "wanted"),
    [({}, 2), ({"direction": "min"}, 0), ({"direction": "target", "value": 3.5}, 0)],
)
def test_the_best_by_the_aim_is_chosen_and_what_cannot_be_scored_is_counted(aim, wanted):
    found = select(POOL, recipe(**aim))
    assert found.chosen == {"a": wanted, "b": 4}
    assert [found.state(i) for i in (1, 3, 5)] == ["unscorable"] * 3
    assert {found.state(0), found.state(2)} == {"kept", "dropped"}
    assert np.isnan(found.rewards[[1, 3, 5]]).all()
    counts = found.counts
    assert (counts["candidates"], counts["failed"], counts["undefined"]) == (6, 2, 1)
    assert (counts["requests"], counts["without_candidate"], counts["flat"]) == (3, 1, 0)


def test_rewards_are_values_by_hand():
    target = select(POOL, recipe(direction="target", value=4.5)).rewards
    assert target[[0, 2, 4]] == pytest.approx([-1.5, -0.5, -2.5])
    assert select(POOL, recipe(direction="min")).rewards[[0, 2, 4]] == pytest.approx([-3, -5, -2])


def test_ties_go_to_the_likelier_then_to_the_earlier_sample_in_any_order():
    tied = [
        candidate("a", 0, 5.0),
        candidate("a", 1, 5.0, likely=-9.0),
        candidate("a", 2, 5.0, likely=-2.0),
        candidate("a", 3, 5.0, likely=-2.0),
        candidate("b", 0, 1.0),
    ]
    found = select(tied, recipe())
    assert found.ranked["a"] == (2, 3, 1, 0)
    assert found.counts["flat"] == 1
    back = select(tied[::-1], recipe())
    assert [tied[::-1][i].sample for i in back.ranked["a"]] == [2, 3, 1, 0]


def test_several_objectives_count_in_units_of_their_spread_and_floors_come_first():
    both = [
        candidate("a", 0, 100.0, meaning=0.0),
        candidate("a", 1, 0.0, meaning=1.0),
        candidate("a", 2, 90.0, meaning=0.9),
        candidate("a", 3, 400.0, meaning=0.1),
    ]
    aims = [{"metric": "length", "direction": "max"}, {"metric": "meaning", "direction": "max", "weight": 2.0}]
    found = select(both, recipe(objectives=aims))
    length, meaning = (np.array([c.metrics[m] for c in both]) for m in ("length", "meaning"))
    assert found.rewards == pytest.approx(length / length.std() + 2.0 * meaning / meaning.std())
    assert found.chosen == {"a": 2}
    # the longest misses the floor
    floored = select(both, recipe(floors=[{"metric": "meaning", "least": 0.5}]))
    assert floored.chosen == {"a": 2}
    assert floored.counts["below_floor"] == 2
    assert [floored.state(i) for i in range(4)] == ["dropped", "dropped", "kept", "dropped"]
    with pytest.raises(SteerworksError, match="none of 4 scorable candidates passes the floors"):
        select(both, recipe(floors=[{"metric": "meaning", "least": 2.0}]))


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ([], "no candidate to choose from"),
        ([POOL[1], POOL[3], POOL[5]], "none of 3 candidates can be scored: 2 failed, and 1 have no value of length"),
        ([candidate("a", 0, 1.0), candidate("b", 0, 1.0)], "'length' has one value for all 2 candidates"),
    ],
)
def test_pools_that_nothing_can_be_chosen_from_are_said(pool, said):
    for way in ("best", "random"):
        with pytest.raises(SteerworksError, match=said):
            select(pool, recipe(select=way))


def test_chance_is_seeded_even_and_blind_to_the_order_of_the_pool():
    pool = [candidate(f"r{r}", k, float(k)) for r in range(300) for k in range(4)]
    found = select(pool, recipe(select="random", seed=1))
    samples = np.array([pool[i].sample for i in found.chosen.values()])
    # 75 of each are expected: five standard deviations are 37
    assert (np.abs(np.bincount(samples, minlength=4) - 75) < 37).all()
    again = select(pool[::-1], recipe(select="random", seed=1))
    assert {r: pool[::-1][i].sample for r, i in again.chosen.items()} == {
        r: pool[i].sample for r, i in found.chosen.items()
    }
    assert select(pool, recipe(select="random", seed=2)).chosen != found.chosen
    # what can be chosen is the same as for the best
    assert set(select(POOL, recipe(select="random")).chosen.values()) <= {0, 2, 4}


def test_near_duplicates_are_the_next_best_or_none():
    chosen = Chosen(0.5)
    chosen.add("The cat, went home!")
    assert chosen.has("the cat went  home")
    # grams: 2 of 4 are shared
    assert chosen.has("the cat went home so late")
    assert not Chosen(0.5).has("the cat went home")
    assert not chosen.has("home went cat the")
    assert not chosen.has("a dog")
    one, other = "one two three four five", "six seven eight nine ten"
    pool = [
        candidate("a", 0, 9.0, text=one),
        candidate("b", 0, 9.0, text=one + "."),
        candidate("b", 1, 5.0, text=other),
        candidate("c", 0, 9.0, text=other.upper()),
    ]
    found = select(pool, recipe(duplicates=0.8))
    assert found.chosen == {"a": 0, "b": 2}
    assert (found.counts["repeats"], found.counts["without_text"]) == (2, 1)
    assert select(pool, recipe()).chosen == {"a": 0, "b": 1, "c": 3}


def test_shares_of_sources_and_correlations_within_requests():
    rng = np.random.default_rng(0)
    pool = []
    for r in range(40):
        for k in range(6):
            x = rng.normal()
            # between requests the two go apart, within one they go together; a third does not vary within requests
            metrics = {"meaning": x + 9.0 * r, "goal:a": rng.normal(), "goal:b": float(r)}
            pool.append(candidate(f"r{r:02d}", k, x - 9.0 * r, source="mn"[k % 2], **metrics))
    found = correlations(pool, ["length", "meaning", "goal:a", "goal:b"])
    assert found[0, 1] == pytest.approx(1.0)
    assert abs(found[0, 2]) < 0.25
    assert np.isnan(found[0, 3])
    chosen = select(pool, recipe()).chosen
    every, kept = shares(pool, chosen)["n"]
    assert every == pytest.approx(0.5)
    assert kept == np.mean([pool[i].source == "n" for i in chosen.values()])


def test_the_curve_of_a_selection_ends_in_what_was_chosen_and_starts_at_chance():
    rng = np.random.default_rng(3)
    pool = [candidate(f"r{r}", k, rng.normal(), meaning=rng.normal()) for r in range(20) for k in range(5)]
    found = select(pool, recipe())
    texts = {f"r{r}": f"t{r // 2}" for r in range(20)}
    curve = best_of_curve(pools(pool, found, "length", texts))
    chosen = [pool[i].metrics["length"] for i in found.chosen.values()]
    assert curve[-1].value == pytest.approx(np.mean(chosen))
    assert curve[0].value == pytest.approx(np.mean([c.metrics["length"] for c in pool]))
    with pytest.raises(ValueError, match="finite"):
        pools(pool, found, "goal:a", texts)


def test_the_best_by_noise_is_no_better_than_chance_in_anything_else():
    """The null: paired against the random choice, clustered by text, a claim is made in about 5 % of worlds."""
    rng = np.random.default_rng(4)
    claims = []
    for world in range(300):
        texts = rng.normal(size=16)
        pool = [
            candidate(f"r{r:02d}", k, rng.normal(), meaning=texts[r // 2] + rng.normal())
            for r in range(32)
            for k in range(4)
        ]
        found = [select(pool, recipe(select=way, seed=world)).chosen for way in ("best", "random")]
        values = [np.array([pool[i].metrics["meaning"] for _, i in sorted(c.items())]) for c in found]
        pair = paired_contrast(*values, np.array([f"t{r // 2}" for r in range(32)]))
        claims.append(pair.low > 0 or pair.high < 0)
    # four standard errors about .05
    assert np.mean(claims) <= 0.1
