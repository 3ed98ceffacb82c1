"""The probes of the workshop paper: named in the configuration, and drawn with their dimensions and active goals."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from steer_core.evaluation.steerability import continuous_scores
from steer_core.goals.space import GoalSpace
from steer_core.probes import draw_probes
from steer_core.probes.draw import draw_deltas
from steer_core.registry import load_registry

ROOT = Path(__file__).parents[3]
PAPER = {
    "politeness", "anger", "disgust", "fear", "joy", "sadness", "surprise", "textual_diversity", "text_length",
    "reading_difficulty",
}  # fmt: skip
PUBLISHED = {"steerbench-3d-in-10d": 3, "steerbench-1d-in-10d": 1, "steerbench-2d-in-10d": 2, "steerbench-4d-in-10d": 4}


@pytest.fixture(scope="module")
def registry():
    return load_registry([ROOT / "config", ROOT / "examples" / "paper"])


@pytest.fixture(scope="module")
def headline(registry):
    """The first probe of the published bench, on texts made here."""
    bench = registry.bench("steerbench-2024")
    return drawn(bench.model_copy(update={"probes": bench.probes[:1]}))


def drawn(bench, n=150, **smaller):
    """Probes of a bench on texts that spread over its goal space."""
    rng = np.random.default_rng(3)
    goals = bench.goals
    space = GoalSpace(goals, tuple(f"{g}@1" for g in goals), np.zeros(len(goals)), np.ones(len(goals)))
    ids = [f"text-{i:04d}" for i in range(n)]
    texts = pl.DataFrame(
        {"text_id": ids, "text": ids, "source": "s", "split": ["train", "test"] * (n // 2), "unit": "text"}
    )
    raw = rng.uniform(size=(n, len(goals)))
    values = pl.concat(
        pl.DataFrame({"text_id": ids, "scorer_id": f"{g}@1", "value": raw[:, k], "state": "ok"})
        for k, g in enumerate(goals)
    )
    return draw_probes([p.model_copy(update=smaller) for p in bench.probes], texts, values, space)


@pytest.mark.parametrize("name", ["steerbench-2024", "steerbench-2024-shipped"])
def test_ten_goals_and_as_many_active_as_the_probe_says(registry, name):
    bench = registry.bench(name)
    plain = {g.removesuffix("_classifier").removesuffix("_taaled").removesuffix("_nltk") for g in bench.goals}
    assert {g.removesuffix("_textstat") for g in plain} == PAPER
    assert {p.name: p.active for p in bench.probes} == PUBLISHED
    assert {(p.n_texts, p.n_goals_per_text) for p in bench.probes} == {(50, 40)}
    starts = np.random.default_rng(5).uniform(size=(2000, 10))
    for spec in bench.probes:
        asked = ~np.isnan(draw_deltas(spec, bench.goals, starts, np.random.default_rng(6)))
        assert set(asked.sum(axis=1)) == {spec.active}
        # every goal has its turn
        assert asked.sum(axis=0).min() > 2000 * spec.active / 10 * 0.8


def test_the_headline_probe_is_drawn_whole(headline):
    assert headline.requests.height == 2000
    assert headline.requests["text_id"].value_counts()["count"].to_list() == [40] * 50
    counts = headline.request_goals.group_by("request_id").agg(pl.len(), active=pl.col("z_star").count())
    assert counts.select("len", "active").unique().rows() == [(10, 3)]


def test_two_of_three_goals_on_two_sides_that_share_no_text(registry):
    bench = registry.bench("steer-2024-2d-in-3d")
    assert [(p.n_texts, p.n_goals_per_text, p.active) for p in bench.probes] == [(512, 256, 2)] * 2
    probe = drawn(bench, n_texts=60, n_goals_per_text=8)
    sides = {name: set(rows["text_id"]) for (name,), rows in probe.requests.group_by("probe")}
    assert {len(texts) for texts in sides.values()} == {60}
    assert not set.intersection(*sides.values())
    counts = probe.request_goals.group_by("request_id").agg(pl.len(), active=pl.col("z_star").count())
    assert counts.select("len", "active").unique().rows() == [(3, 2)]


def test_requests_of_the_probe_have_the_scores_of_2024(headline):
    """What goes straight to its target scores 1, what goes half of the way .5, and what stays has no direction."""
    goals = headline.request_goals
    z0, target = (
        goals.pivot(on="goal", index="request_id", values=c, maintain_order=True)
        .drop("request_id")
        .cast(pl.Float64)
        .fill_null(float("nan"))
        .to_numpy()
        for c in ("z0", "z_star")
    )
    to = np.where(np.isnan(target), z0, target)
    assert continuous_scores(z0, target, to).score == pytest.approx(1.0)
    assert continuous_scores(z0, target, (z0 + to) / 2).score == pytest.approx(0.5)
    assert np.isnan(continuous_scores(z0, target, z0).directionality).all()
