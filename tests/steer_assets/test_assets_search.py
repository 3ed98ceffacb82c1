"""A search through Dagster: trials kept, choices told, more trials cost only what is new, and a choice made a method."""

import json

import polars as pl
import pytest
import yaml

import steer_core as steer
from schemas.specs import BehaviorSpec
from schemas.vector_part import VectorPart
from steer_assets.__main__ import main
from steer_assets.partitions import chosen_cells
from steer_assets.planned import plan_cells
from steer_assets.settings import registry
from steer_core.corpus.contrasts import build_contrasts
from steer_core.methods.load import load_method
from steer_core.vectors.fit import fit_vectors

CELL = "pushed|embedded"
SEARCH = {
    "trials": 6,
    "objectives": {"judged": "max", "kl": "min"},
    "layers": [[1], [2], [1, 2]],
    "strength": [0.1, 0.6],
    "positions": ["all"],
    "profiles": ["flat", "peaked"],
    "operators": ["add", "add_norm_preserving"],
    "questions": 6,
    "random_directions": 2,
    "told": 3,
}
PART = {
    "kind": "vector",
    "estimator": "mean-difference",
    "layers": [2],
    "unit": "residual_fraction",
    "strengths": [0.3],
}
GLAD = {
    "source": {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2, "n_pairs": 32,
               "n_validation": 8, "n_items": 6}
}  # fmt: skip


def read(path) -> pl.DataFrame:
    return pl.read_parquet(path, hive_partitioning=False)


def examples_named(concept):
    """Contrast examples that only have to be there: nothing is fitted on them."""
    made = build_contrasts(BehaviorSpec.model_validate({"name": concept, **GLAD}))
    return made.examples


def configure(workplace, **changes):
    (workplace.folder / "behaviors.yaml").write_text(yaml.safe_dump({"cheerful": GLAD}))
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "pushed"]}
    workplace.configure(
        methods={"pushed": {"parts": [PART]}},
        **{
            "goals": ["reading_difficulty"],
            "corpus": {"sources": [{"kind": "grammar", "n_texts": 120, "seed": 3}], "min_words": 10},
            "probes": [
                {"name": "main", "n_texts": 3, "n_goals_per_text": 1, "active": 1, "weighting": "none"},
                {"name": "pool", "split": "train", "n_texts": 20, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
            ],
            "behaviors": ["cheerful"],
            "sweep": {"random_directions": 1, "shuffled": 0, "max_new_tokens": 32},
            "decoding": {"max_new_tokens": 64},
            "batch_size": 32,
            "search": SEARCH,
        }
        | changes,
    )  # fmt: skip


def test_a_search_is_told_goes_on_and_becomes_a_method(workplace, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("steer_core.methods.parts._vector_fits.DOSE_TEXTS", 8)
    configure(workplace)
    workplace.materialize("group:small_shared")
    # what it costs is planned before it runs: 2 x 6 trials of 6 questions, and 6 test items in 7 settings
    monkeypatch.setattr("steer_assets.planned.storage_root", lambda: str(workplace.root))
    rows, _ = plan_cells(registry().bench("small"), chosen_cells(registry().bench("small"), ["pushed"], ["all"]))
    assert rows.filter(pl.col("of") == "search, cheerful")["calls at most"].to_list() == [2 * 6 * 6 + 6 * 7]
    workplace.materialize("group:small_cells", "rewrite|embedded")
    status, _ = workplace.materialize("group:small_cells", CELL)
    assert status["search_results"] == "written"
    trials, results = (read(workplace.table(n, CELL)) for n in ("trials", "search_results"))
    assert sorted(trials["study"].value_counts()["count"]) == [6, 6]
    assert results["role"].to_list()[:2] == ["chosen", "random"]
    chosen = results.row(0, named=True)
    assert chosen["n_random"] == 2
    assert chosen["over_random"] is not None
    assert set(json.loads(chosen["others"])) == {"kl"}
    # told on the test items, which are others than those that it was chosen by
    assert (chosen["n"], chosen["trials"]) == (6, 6)
    # layers that only the search steers were fitted for it
    vectors = read(workplace.table("vectors", CELL)).filter(pl.col("concept") == "cheerful", pl.col("control") == "")
    assert set(vectors["layer"]) == {1, 2}
    page = (workplace.root / "small/report/model=embedded/method=pushed/report.html").read_text()
    assert 'id="search"' in page
    assert 'id="detection"' in page

    # its vectors go to a folder with a card, and are read again by the model that they are of
    monkeypatch.setattr("steer_assets.vector_export.storage_root", lambda: str(workplace.root))
    assert main(["export-vector", "pushed", "--bench", "small", "--to", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "| cheerful | judged score |" in card
    assert "the grammar that ships with Steerworks" in card
    model = steer.load("embedded")
    part = VectorPart(estimator="imported", options={"folder": str(tmp_path / "out")}, layers=(2,))
    (again,) = fit_vectors(model.loaded, examples_named("cheerful"), part, halves=False)
    tensors = read(workplace.table("vector_tensors", CELL))
    own = tensors.join(vectors.filter(layer=2, part="vector"), on="vector_id", how="semi")
    assert again.norm == pytest.approx(vectors.filter(layer=2)["norm"][0], rel=1e-5)
    assert own.height == 1
    assert main(["export-vector", "rewrite", "--bench", "small", "--to", str(tmp_path / "no")]) == 2
    capsys.readouterr()

    # nothing new: nothing is tried
    status, _ = workplace.materialize("group:small_cells", CELL)
    assert set(status.values()) == {"unchanged"}

    # more trials: those that there are stay, and no other table is made again but the page
    configure(workplace, search={**SEARCH, "trials": 8})
    status, _ = workplace.materialize("group:small_cells", CELL)
    assert {n for n, s in status.items() if s == "written"} == {"trials", "search_results", "report"}
    more = read(workplace.table("trials", CELL))
    assert more.height == 16
    assert (
        more.join(trials, on=["study", "number"], how="semi")
        .select(trials.columns)
        .equals(trials.join(more, on=["study", "number"], how="semi"))
    )

    # a choice is a method of the bench
    monkeypatch.setattr("steer_assets.commands.searched.storage_root", lambda: str(workplace.root))
    results = read(workplace.table("search_results", CELL))
    named = next(r["name"] for r in results.to_dicts() if r["part"] != "{}")
    assert main(["setting", "pushed", "--bench", "small"]) == 0
    assert named in capsys.readouterr().out
    assert main(["setting", "pushed", named, "--bench", "small", "--method", "found"]) == 0
    written = yaml.safe_load(capsys.readouterr().out)
    (part,) = written["found"]["parts"]
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "pushed", "found"]}
    workplace.configure(methods={"pushed": {"parts": [PART]}, **written})
    spec = registry().method("found")
    assert list(spec.parts[0].strengths) == part["strengths"]
    assert load_method(spec, registry().model("embedded"), registry().bench("small"), registry().goals)
    assert main(["setting", "pushed", "cheerful:99", "--bench", "small"]) == 2
    assert "told no setting 'cheerful:99'" in capsys.readouterr().err
