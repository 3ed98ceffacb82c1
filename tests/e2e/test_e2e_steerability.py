"""The claims about the embedded model, through the library alone, as a notebook would: no Dagster."""

import functools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from schemas import Responses
from schemas.specs import CorpusSpec, ProbeSpec
from steer_core.corpus import build_corpus, candidate_texts
from steer_core.evaluation import closed_form_of_copy, compare, evaluate, summarise
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.run import Run
from steer_core.goals.measure import measure
from steer_core.goals.scorer import load_scorer
from steer_core.goals.space import GoalSpace, fit_goal_space
from steer_core.methods import load_method
from steer_core.methods.driver import run_method
from steer_core.models import load_model
from steer_core.probes import draw_probes
from steer_core.registry import load_registry
from steer_core.tables import Journal

PROBE = ProbeSpec(name="main", n_texts=64, n_goals_per_text=4, active=2, seed=11)
CORPUS = CorpusSpec.model_validate({"sources": [{"kind": "grammar", "n_texts": 1200, "seed": 5}], "min_words": 10})


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """`scored(method)`: steerability and movements of a method on a probe of 64 held-out texts."""
    registry = load_registry([Path(__file__).parents[2] / "config"])
    bench, model = registry.bench("tales"), registry.model("embedded")
    goals = registry.goals_of(bench)
    scorers = {name: load_scorer(goal) for name, goal in goals.items()}
    corpus = build_corpus(CORPUS)
    values = measure(corpus, list(scorers.values()))
    table = fit_goal_space(values, {n: s.scorer_id for n, s in scorers.items()}, bench.bounds)
    probe = draw_probes([PROBE], candidate_texts(corpus, [PROBE]), values, GoalSpace.from_table(table))
    backend = TransformersBackend(load_model(model))
    journal = Journal(str(tmp_path_factory.mktemp("journal")), Responses)

    @functools.cache
    def run(method: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        made = run_method(
            load_method(registry.method(method), model, bench, goals), probe.requests, probe.request_goals, bench.goals,
            Run(journal, backend),
        )  # fmt: skip
        texts = made.outcomes.unique("text_id").select("text_id", "text")
        reached = pl.concat([values, measure(texts, list(scorers.values()))]).unique(["text_id", "scorer_id"])
        return evaluate(probe.requests, probe.request_goals, made.outcomes, reached, table)

    return run


def test_copy_equals_its_closed_form_row_by_row(scored):
    steerability, _ = scored("copy")
    deviations = closed_form_of_copy(steerability)
    assert deviations["n"].min() == 256
    assert deviations["largest_deviation"].max() <= 1e-9


def test_direct_leaves_30_to_80_percent_of_the_error_of_copy_and_beats_every_control(scored):
    direct, movements = scored("direct")
    controls = {name: scored(name)[0] for name in ("copy", "rewrite")}
    rows = compare(direct, movements, controls, permutations=999, seed=0)
    rows = rows.filter(measure="error", reading="complete")
    found = {r["control"]: r for r in rows.iter_rows(named=True)}
    assert set(found) == {"copy", "rewrite", "permuted"}
    for control, row in found.items():
        assert row["n_clusters"] == 64, control
        assert row["relative"] <= -0.15, (control, row)
        assert row["high"] < 0, (control, row)
    assert 0.3 <= 1 + found["copy"]["relative"] <= 0.8
    # no shuffle of its answers within a text is as near to what was asked
    assert found["permuted"]["p"] == 1 / 1000


def test_every_goal_moves_the_way_it_is_asked(scored):
    _, movements = scored("direct")
    asked = movements.filter(pl.col("z_star").is_not_null() & pl.col("z_hat").is_not_null()).with_columns(
        along=(pl.col("z_hat") - pl.col("z0")) * (pl.col("z_star") - pl.col("z0")).sign()
    )
    for (goal,), rows in asked.group_by("goal"):
        along = rows["along"].to_numpy()
        half_width = 1.96 * along.std(ddof=1) / np.sqrt(len(along))
        assert along.mean() >= 0.1, goal
        assert along.mean() - half_width > 0, goal


def test_an_unsteered_rewrite_stays_near_and_summaries_say_how_near(scored):
    rewrite, movements = scored("rewrite")
    summary = summarise(rewrite, movements, draws=100, seed=0)
    moved = summary.filter(measure="moved", statistic="mean", goal="overall")["value"][0]
    asked = summary.filter(measure="requested", statistic="mean", goal="overall")["value"][0]
    assert moved < asked
