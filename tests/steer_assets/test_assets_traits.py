"""A behavior from a sentence through Dagster: prompts, answers, pairs, a vector, and a sweep beside its own prompts."""

import polars as pl
import pytest
import yaml

from steer_assets.__main__ import main
from steer_assets.assets import nodes_of
from steer_assets.partitions import chosen_cells
from steer_assets.planned import plan_cells
from steer_assets.preflight import check_bench
from steer_assets.settings import registry
from steer_core.tables.errors import ConfigError

SHARED, GRID = "group:small_shared", "group:small_cells"
CELL = "told|embedded"
GLAD = {
    "source": {
        "kind": "described", "trait": "cheerful", "sentence": "Tells everything in glad words.", "opposite": "desperate",
        "questions": {"shipped": "tales-prompts", "n": 32}, "n_train": 20, "n_test": 6, "max_new_tokens": 40,
    },
    "judge": {"kind": "ground_truth", "rubric": "attribute", "options": {"attribute": "sentiment"}},
}  # fmt: skip
PART = {
    "kind": "vector", "estimator": "mean-difference", "unit": "residual_fraction", "strengths": [-0.6, -0.3, 0.3, 0.6],
}  # fmt: skip


def configure(workplace, **source):
    glad = {**GLAD, "source": {**GLAD["source"], **source}}
    (workplace.folder / "behaviors.yaml").write_text(yaml.safe_dump({"glad": glad}))
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "told"]}
    workplace.configure(
        methods={"told": {"parts": [PART]}},
        **{
            "corpus": {"sources": [{"kind": "grammar", "n_texts": 120, "seed": 3}], "min_words": 10},
            "probes": [
                {"name": "main", "n_texts": 4, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
                {"name": "pool", "split": "train", "n_texts": 6, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
            ],
            "goals": ["text_length", "sentiment"],
            "behaviors": ["glad"],
            "sweep": {"random_directions": 2, "shuffled": 0, "max_new_tokens": 40},
            "decoding": {"max_new_tokens": 40},
            "batch_size": 32,
        },
    )  # fmt: skip


def read(path) -> pl.DataFrame:
    return pl.read_parquet(path, hive_partitioning=False)


def test_a_sentence_becomes_pairs_a_vector_and_a_sweep_beside_its_own_prompts(workplace, capsys):
    configure(workplace)
    names = [n.name for n in nodes_of(registry().bench("small")).all]
    assert names.index("traits") < names.index("contrasts")
    # planning writes nothing, and says what will be written
    bench = registry().bench("small")
    rows, said = plan_cells(bench, chosen_cells(bench, ["told"]))
    assert rows.filter(cell="all").select("of", "calls at most").row(0) == ("behavior glad, by embedded", 52)
    assert "from a sentence" in said[CELL]
    assert not workplace.table("trait_answers").exists()

    status, _ = workplace.materialize(SHARED)
    assert status["trait_answers"] == "written"
    answers, filters = read(workplace.table("trait_answers")), read(workplace.table("trait_filters"))
    assert answers.height == 52
    assert filters.filter("used")["filter"].to_list() == ["judge"]
    pairs = read(workplace.table("contrast_examples"))
    fitted = answers.filter("kept", pl.col("split") != "test")
    assert pairs.height == fitted.height > 10
    assert set(pairs["kind"]) == {"described"}

    workplace.materialize(GRID, CELL)
    arms = read(workplace.table("sweep_arms", CELL))
    assert set(arms.filter(role="prompt")["system"]) == {"You are a cheerful person.", "You are a desperate person."}
    found = read(workplace.table("sweep_findings", CELL)).filter(group="main", measure="judged")
    assert found.filter(finding="spearman")["value"].item() > 0.7
    page = (workplace.root / "small/report/model=embedded/method=told/report.html").read_text()
    assert "answers are kept: on the side that they were asked for" in page
    assert "between the two sides over 52 answers; this filtered" in page

    # what it is made of, to read and to edit
    assert main(["traits", "glad", "--bench", "small"]) == 0
    said = capsys.readouterr().out
    assert "You are a cheerful person." in said
    assert f"{int(answers['kept'].sum())} of 52 answers are kept" in said
    assert main(["traits", "glad", "--bench", "small", "--export", str(workplace.folder / "own.jsonl")]) == 0
    assert "You are a desperate person." in (workplace.folder / "own.jsonl").read_text()
    assert main(["traits", "other", "--bench", "small"]) == 2

    # again: nothing is written anew
    status, _ = workplace.materialize(SHARED)
    assert set(status.values()) == {"unchanged"}


def test_a_bench_without_such_behaviors_has_nothing_of_them(workplace):
    assert "traits" not in {n.name for n in nodes_of(registry().bench("small")).all}


def test_who_writes_must_be_known_before_anything_runs(workplace):
    configure(workplace, writer="nobody")
    with pytest.raises(ConfigError, match="nobody"):
        registry()
    models = {"embedded": {"source": "embedded"}, "again": {"source": "embedded", "dtype": "bfloat16"}}
    (workplace.folder / "models.yaml").write_text(yaml.safe_dump(models))
    workplace.bench = {**workplace.bench, "models": ["embedded", "again"]}
    configure(workplace)
    bench = registry().bench("small")
    with pytest.raises(ConfigError, match="'glad'.*2 models, and nothing says which"):
        check_bench(bench, chosen_cells(bench, ["told"]))
