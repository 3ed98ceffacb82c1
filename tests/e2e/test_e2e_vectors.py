"""Two vectors move a behavior of the embedded model: monotonically, beyond random directions, at no loss of fluency."""

from pathlib import Path

import polars as pl
import pytest

from schemas import Responses
from schemas.specs import Decoding, SweepSpec
from schemas.vector_part import VectorPart
from steer_core.corpus.contrasts import build_contrasts
from steer_core.evaluation.arms.answers import write
from steer_core.evaluation.arms.measures import perplexity_scores
from steer_core.evaluation.behaviors.as_items import asked_of, give_vectors
from steer_core.evaluation.behaviors.side_effects import judged_scores
from steer_core.evaluation.behaviors.summary import summarise_arms
from steer_core.evaluation.judges.judge import cases_of, judge_cases
from steer_core.evaluation.judges.load import load_judge
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.receipts import check_receipts
from steer_core.generation.run import Run
from steer_core.methods.sweeps.arms import plan_arms, with_random
from steer_core.models import load_model
from steer_core.registry import load_registry
from steer_core.tables import Journal
from steer_core.vectors.fit import fit_vectors

REGISTRY = load_registry([Path(__file__).parents[2] / "config"])
SWEEP = SweepSpec(random_directions=20, shuffled=0, max_new_tokens=48)
PARTS = {
    "mean difference": (
        VectorPart(
            estimator="mean-difference",
            layers=(2,),
            unit="residual_fraction",
            strengths=(-0.4, -0.3, -0.2, -0.1, 0.05, 0.1, 0.2, 0.3),
        )
    ),
    "BiPO": VectorPart(
        estimator="bipo",
        options={"epochs": 3, "batch": 16, "learning_rate": 0.015, "warmup": 10},
        layers=(1,),
        strengths=(-2.0, -1.5, -1.0, -0.5, 0.25, 0.5, 1.0, 1.5),
    ),
}


@pytest.fixture(scope="module")
def backend():
    return TransformersBackend(load_model(REGISTRY.model("embedded")))


@pytest.mark.parametrize("name", PARTS)
def test_a_vector_moves_cheerfulness_with_its_strength_and_no_random_direction_does(backend, name, tmp_path):
    part, behavior = PARTS[name], REGISTRY.behavior("cheerfulness")
    data = build_contrasts(behavior)
    items = data.items.filter(pl.col("form") == "open").head(24)
    vectors = fit_vectors(backend.loaded, data.examples, part, halves=False)
    vectors = with_random(vectors, behavior.name, SWEEP, layers=part.layers)
    arms = plan_arms(behavior, part, SWEEP, vectors, items)
    asked, decoding = asked_of(arms, items), Decoding(max_new_tokens=SWEEP.max_new_tokens)
    give_vectors(backend, asked, vectors)
    run = Run(Journal(str(tmp_path), Responses), backend)
    swept = write(asked, run, decoding)
    receipts = check_receipts(swept.responses)
    assert receipts.ok
    assert receipts.steered == receipts.receipts > 0

    judge = load_judge(behavior)
    verdicts = judge_cases(judge, cases_of(swept.answers, items))
    scores = pl.concat(
        [
            judged_scores(swept.answers, asked, verdicts, judge_id=judge.judge_id),
            perplexity_scores(swept, asked, run, decoding),
        ]
    )  # fmt: skip
    _, findings = summarise_arms(arms, scores, draws=1000, seed=0)
    found = {(r["measure"], r["finding"]): r for r in findings.iter_rows(named=True)}
    assert arms.filter(pl.col("role") == "vector").height >= 7
    assert arms.filter(pl.col("role") == "random").height == 40
    assert found["judged", "spearman"]["value"] >= 0.9
    assert found["judged", "effect_low"]["high"] < 0
    assert found["judged", "effect_high"]["low"] > 0
    # the most extreme of the vector and its 20 random directions, at either end
    assert found["judged", "p_random_low"]["value"] == pytest.approx(1 / 21)
    assert found["judged", "p_random_high"]["value"] == pytest.approx(1 / 21)
    for end in ("ratio_low", "ratio_high"):
        assert found["perplexity", end]["high"] < 1.25
