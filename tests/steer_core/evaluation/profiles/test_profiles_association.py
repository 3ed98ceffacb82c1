"""Association tests against the known value, another implementation, and embeddings that know nothing."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.evaluation.profiles.association import association_test, sizes_by_type
from steer_core.tables import SteerworksError

X, Y = np.array([[1.0, 0.0], [0.8, 0.2]]), np.array([[0.0, 1.0], [0.3, 0.7]])
A, B = np.array([[1.0, 0.1]]), np.array([[0.1, 1.0]])


def run(x, y, a, b, seed=0, **more):
    return association_test(x, y, a, b, rng=np.random.default_rng(seed), **more)


def test_the_known_value():
    found = run(X, Y, A, B)
    assert found.effect == pytest.approx(1.684996, abs=1e-6)
    assert (found.p, found.how, found.partitions) == (pytest.approx(1 / 6), "exact", 6)
    assert found.p_two_sided == pytest.approx(2 / 6)


def by_hand(x, y, a, b):
    """Effect and exact p with loops over words, cosines one by one, and the statistic of the paper in full."""

    def cosine(u, v):
        return float(
            sum(i * j for i, j in zip(u, v, strict=True)) / (sum(i * i for i in u) * sum(j * j for j in v)) ** 0.5
        )

    def s(w):
        return sum(cosine(w, v) for v in a) / len(a) - sum(cosine(w, v) for v in b) / len(b)

    every = [s(w) for w in [*x, *y]]
    mean = sum(every) / len(every)
    spread = (sum((v - mean) ** 2 for v in every) / (len(every) - 1)) ** 0.5
    effect = (sum(every[: len(x)]) / len(x) - sum(every[len(x) :]) / len(y)) / spread

    def statistic(inside):
        return sum(v if i in inside else -v for i, v in enumerate(every))

    told = statistic(range(len(x)))
    drawn = [statistic(set(c)) for c in combinations(range(len(every)), len(x))]
    return effect, sum(v >= told - 1e-12 for v in drawn) / len(drawn)


@given(st.integers(2, 4), st.integers(2, 4), st.integers(1, 3), st.integers(2, 5), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_another_implementation_agrees(n_x, n_y, n_a, width, seed):
    rng = np.random.default_rng(seed)
    x, y, a, b = (rng.normal(size=(n, width)) for n in (n_x, n_y, n_a, n_a + 1))
    effect, p = by_hand(x, y, a, b)
    found = run(x, y, a, b)
    assert found.effect == pytest.approx(effect)
    assert found.p == pytest.approx(p)


def test_sampled_and_parametric_are_near_to_exact_and_say_so():
    rng = np.random.default_rng(1)
    x, y, a, b = (rng.normal(size=(6, 5)) + shift for shift in (0.5, 0.0, 0.6, 0.0))
    exact = run(x, y, a, b)
    for how in ("sampled", "parametric"):
        found = run(x, y, a, b, how=how, samples=20_000)
        assert found.how == how
        assert found.p == pytest.approx(exact.p, abs=0.02)
        assert found.null_size == pytest.approx(exact.null_size, rel=0.05)
    large = rng.normal(size=(40, 5))
    assert run(large, large[::-1], a, b, samples=500).how == "sampled"
    with pytest.raises(SteerworksError, match="exact"):
        run(large, large, a, b, how="exact")


def test_random_embeddings_are_called_biased_as_often_as_promised_and_d_is_not_0():
    rng = np.random.default_rng(2)
    found = [run(*(rng.normal(size=(n, 8)) for n in (5, 5, 4, 4))) for _ in range(300)]
    for p in ("p", "p_two_sided"):
        # four standard errors
        assert np.mean([getattr(f, p) <= 0.05 for f in found]) <= 0.05 + 0.051
    sizes = sizes_by_type(("random", f) for f in found)["random"]
    assert sizes.mean_size > 0.4
    assert sizes.mean_size == pytest.approx(sizes.null_size, rel=0.1)


def test_templates_of_one_word_shuffled_one_by_one_find_bias_in_noise_and_words_do_not():
    rng = np.random.default_rng(3)
    names = (np.repeat(np.arange(5), 6), np.repeat(np.arange(5, 10), 6))
    called = {"rows": [], "words": []}
    for seed in range(120):
        words = rng.normal(size=(10, 8))
        x, y = (words[n] + 0.3 * rng.normal(size=(30, 8)) for n in names)
        a, b = rng.normal(size=(2, 4, 8))
        called["rows"].append(run(x, y, a, b, seed, samples=500).p_two_sided <= 0.05)
        called["words"].append(run(x, y, a, b, seed, words=names).p_two_sided <= 0.05)
    assert np.mean(called["rows"]) > 0.3
    assert np.mean(called["words"]) <= 0.05 + 0.08


def test_a_constant_association_has_no_effect_and_a_type_says_how_many():
    same = np.ones((3, 2))
    none = run(same, same, A, B)
    assert (none.effect, none.p) == (None, None)
    assert none.reason
    found = sizes_by_type([("gender", none), ("gender", run(X, Y, A, B)), ("race", none)])
    assert (found["gender"].n_tests, found["gender"].n_undefined) == (1, 1)
    assert found["race"].mean_size is None


def test_embeddings_that_are_none_are_refused():
    for bad in (np.zeros((2, 2)), np.array([[np.nan, 1.0]]), np.empty((0, 2)), np.ones((2, 3))):
        with pytest.raises(SteerworksError):
            run(bad, Y, A, B)
    with pytest.raises(SteerworksError, match="word"):
        run(X, Y, A, B, words=(np.array(["a", "b"]), np.array(["b", "c"])))
