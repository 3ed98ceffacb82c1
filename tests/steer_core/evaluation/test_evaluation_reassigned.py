"""Answers held against the other requests on their text: what deaf, steering, swapped and contrary methods are called."""

import numpy as np
import pytest

from steer_core.evaluation.reassigned import fits_others, reassigned

TEXTS, EACH, GOALS = 24, 3, 2


def world(rng, method):
    """Places reached, targets and texts of a made-up method."""
    texts = np.repeat([f"t{i}" for i in range(TEXTS)], EACH)
    start = np.repeat(rng.random((TEXTS, GOALS)), EACH, axis=0)
    targets = np.where(rng.random(start.shape) < 0.6, rng.random(start.shape), start)
    noise = rng.normal(0.0, 0.1, start.shape)
    reached = {
        "deaf": lambda: start + rng.normal(0.0, 0.2, start.shape),
        "same": lambda: start + np.repeat(rng.normal(0.0, 0.3, (TEXTS, GOALS)), EACH, axis=0),
        "steers": lambda: start + 0.5 * (targets - start) + noise,
        "swapped": lambda: start + 0.5 * (np.roll(targets.reshape(TEXTS, EACH, -1), 1, axis=1).reshape(start.shape) - start) + noise,
        "contrary": lambda: start - 0.5 * (targets - start) + noise,
    }[method]()  # fmt: skip
    return reached, targets, texts


@pytest.mark.parametrize(
    ("method", "least", "most"),
    [("deaf", 0.0, 0.06), ("same", 0.0, 0.0), ("steers", 0.0, 0.0), ("swapped", 0.95, 1.0), ("contrary", 0.95, 1.0)],
)
def test_what_methods_are_called(method, least, most):
    rng = np.random.default_rng(7)
    called = [fits_others(reassigned(*world(rng, method))) for _ in range(300)]
    # of deaf ones a fortieth is expected
    assert least <= np.mean(called) <= most


def test_figures_are_means_over_requests_with_others_on_their_text():
    reached = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5], [np.nan, 0.0]])
    targets = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    found = reassigned(reached, targets, np.array(["a", "a", "b", "a"]))
    # own: 1 and 0; others: from (0, 0) to (1, 0), from (1, 0) to (0, 1)
    assert (found.value, found.control_value) == (0.5, pytest.approx((1 + np.sqrt(2)) / 2))
    assert (found.n, found.n_clusters) == (2, 1)
    alone = reassigned(reached[:1], targets[:1], np.array(["a"]))
    assert (alone.n, alone.low) == (0, None)
