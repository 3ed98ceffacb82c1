"""A kind of part from another package through Dagster: its node, its tables, its plans; nothing where it is not used."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from schemas import Artifacts, PartTensors
from steer_assets.assets import nodes_of
from steer_assets.settings import registry
from steer_core import extensions
from steer_core.methods.fit_steps import tensors_from
from steer_core.tables.snapshot import read_table

FOLDER = Path(__file__).parents[1] / "fixtures" / "extensions"
SHARED, GRID, BIASED = "group:small_shared", "group:small_cells", "biased|embedded"


@pytest.fixture
def extended(workplace, monkeypatch):
    """The small bench with the toy part's folder among its extensions; gone afterwards."""
    monkeypatch.setattr(extensions, "_FOLDERS", [])
    extensions.available.cache_clear()
    shutil.copytree(FOLDER, workplace.folder / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    (workplace.folder / "extensions.yaml").write_text("folders: [mine]\n")
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "biased"], "goals": ["formality", "text_length"]}
    part = {"kind": "logit-bias", "goal": "formality", "scale": 4.0}
    workplace.configure(methods={"biased": {"parts": [{"kind": "prompt", "strategy": "direct"}, part]}})
    yield workplace
    monkeypatch.undo()
    extensions.available.cache_clear()


def test_a_part_of_another_package_gets_its_node_is_fitted_and_steers(extended):
    names = [n.name for n in nodes_of(registry().bench("small")).all]
    assert names[names.index("fit_responses") + 1] == "logit_biases"
    assert "vectors" not in names
    extended.materialize(SHARED)
    status, _ = extended.materialize(GRID, BIASED)
    assert {status[t] for t in ("logit_biases", "logit_biases_tensors", "artifacts", "responses")} == {"written"}
    (item,) = read_table(str(extended.table("logit_biases", BIASED)), Artifacts).to_dicts()
    ((digest, bias),) = tensors_from(
        read_table(str(extended.table("logit_biases_tensors", BIASED)), PartTensors)
    ).items()
    assert json.loads(item["body"]) == {"tensor": digest}
    assert bias.std() > 0
    # every plan of a request that asks for the goal carries the rule, and refers to what was learnt
    responses = pl.read_parquet(extended.table("responses", BIASED), hive_partitioning=False)
    rules = [json.loads(plan).get("extensions") for plan in responses["plan"]]
    assert any(rules)
    assert all(r[0]["tensors"] == {"bias": digest} for r in rules if r)
    page = (extended.root / "small/report/model=embedded/method=biased/report.html").read_text()
    assert "<html" in page
    # nothing is learnt twice, and only what follows from the part is made again when its settings change
    assert set(extended.materialize(GRID, BIASED)[0].values()) == {"unchanged"}


def test_a_cell_without_the_part_makes_nothing_for_it_and_a_bench_without_it_has_no_node(extended):
    extended.materialize(SHARED)
    status, _ = extended.materialize(GRID, "rewrite|embedded")
    assert not {"logit_biases", "logit_biases_tensors", "artifacts"} & set(status)
    extended.bench = {**extended.bench, "methods": ["rewrite"]}
    extended.configure()
    assert "logit_biases" not in [n.name for n in nodes_of(registry().bench("small")).all]
