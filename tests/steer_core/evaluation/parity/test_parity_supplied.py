"""Claims on what somebody supplies: result rows, cells, stored scores, vectors, letters, published files."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from steer_core.evaluation.parity import Supplies, check_claims, contrasts, metrics, models, profiles, vectors
from steer_core.evaluation.parity.published import VECTORS
from steer_core.evaluation.parity.released import GOALS
from steer_core.tables import SteerworksError

FOLDER = os.environ.get("STEERWORKS_SAMPLE_DATA")


def check_one(family, name, folder=None, tables=None):
    (claim,) = (c for c in family.claims() if c.name == name)
    supplies = Supplies(folder) if tables is None else Supplies(folder, tables, "root")
    found = check_claims({"metrics": [claim]}, supplies)
    return {r["figure"]: r for r in found.to_dicts()}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def result(target, output, **more):
    """A result row of a text in the middle: only formality is asked for."""
    row = {f"source_{g}": 0.5 for g in GOALS} | {f"target_{g}": "" for g in GOALS} | {f"output_{g}": 0.5 for g in GOALS}
    return row | {"target_formality": target, "output_formality": output} | more


def test_result_rows_give_the_published_table_its_figures(tmp_path):
    # asked for much more: done, half done (a bin short), nothing done (three bins short)
    rows = [result(1.0, 1.0), result(1.0, 0.85), result(0.8, 0.65), result(0.8, 0.8), result(0.9, 0.5)]
    write(tmp_path / "steerbench/results/llama-3.1-8b-instruct.csv", rows)
    found = check_one(metrics, "results-llama-3.1-8b-instruct", tmp_path)
    ours = {name: row["ours"] for name, row in found.items()}
    # errors in sevenths: the first start lies at .5, so that 1.0 is the last bin by the released bins 7 less 1
    z0, target, reached = metrics.result_positions([{**r, "\0place": "x"} for r in rows])
    assert z0.shape == (5, 4)
    assert np.isnan(target).sum() == 15
    expected = metrics.binned_scores(z0, target, reached, saturation_bug=True, epsilons=True)
    assert ours["S, median"] == pytest.approx(np.median(expected.error))
    assert ours["S, IQR"] == pytest.approx(np.subtract(*np.quantile(expected.error, [0.75, 0.25])))
    assert ours["M, median"] == pytest.approx(np.median(expected.miscalibration))
    assert found["S, median"]["status"] == "differs"


def test_only_grounded_rows_count(tmp_path):
    done, not_done = (0.8, 0.8), (0.8, 0.5)
    rows = [
        result(*done, answer="Yes", rationale_approved=""),  # nobody looked
        result(*done, answer="Yes", rationale_approved="True"),
        result(*done, answer="No", rationale_approved="False"),  # overruled
        result(*not_done, answer="Yes", rationale_approved="False"),  # overruled
        result(*not_done, answer="No", rationale_approved="True"),
        result(*not_done, answer="", rationale_approved=""),  # could not be read
    ]
    path = tmp_path / "steerbench/results/gpt-4o.csv"
    write(path, rows)
    found = check_one(metrics, "results-gpt-4o", tmp_path)
    assert (found["S, median"]["ours"], found["S, IQR"]["ours"]) == (0.0, 0.0)
    write(path, rows[3:])
    assert "no grounded row" in check_one(metrics, "results-gpt-4o", tmp_path)["S, median"]["why"]
    write(path, [result(0.8, "unknown")])
    assert (
        "row 0 (0-based): output_formality is 'unknown'"
        in check_one(metrics, "results-gpt-4o", tmp_path)["S, median"]["why"]
    )


def movements(goals=models.GOALS, probe="steerbench"):
    rows = [
        {"arm_id": arm, "request_id": f"r{i}", "probe": p, "goal": goal, "z0": 0.5, "z_star": star, "z_hat": hat}
        for arm, p, hats in (
            ("headline", probe, (0.8, 0.65, None)),
            ("other", probe, (0.5, 0.5, 0.5)),
            ("headline", "pool", (0.5, 0.5, 0.5)),
        )
        for i, h in enumerate(hats)
        for goal, star, hat in [(goals[0], 0.8, h), *((g, None, 0.5) for g in goals[1:])]
    ]
    return pl.DataFrame(rows)


def test_a_cell_gives_the_figures_of_its_headline_arm_on_the_published_probe():
    def tables(bench, table, cell):
        asked = (bench, table, cell) == ("steerbench", "goal_movements", "direct-negative|qwen3-4b")
        return movements() if asked else None

    found = check_one(models, "steerbench-qwen3-4b", tables=tables)
    # one request met, one a bin (1/7) short, one without a position left out
    assert found["S, median"]["ours"] == pytest.approx(0.5 / 7)
    assert found["M, median"]["ours"] == pytest.approx(0.25)
    assert "M, IQR" not in found
    missing = check_one(models, "steerbench-gpt-4o", tables=tables)["S, median"]
    assert missing["status"] == "not run"
    assert "steerworks run direct-negative --models gpt-4o --bench steerbench" in missing["why"]


def test_a_cell_of_other_goals_or_without_the_probe_is_refused():
    for rows in (movements(goals=("a", "b", "c", "d")), movements(probe="main")):
        found = check_one(models, "steerbench-qwen3-4b", tables=lambda *_, rows=rows: rows)
        assert "the published table is of reading_difficulty_textstat" in found["S, median"]["why"]


def test_a_cell_that_cannot_be_read_differs_and_leaves_the_other_claims_alone():
    def tables(bench, table, cell):
        if cell == "direct-negative|gpt-4o":
            raise SteerworksError("part.parquet is damaged")
        return

    found = check_claims({"models": models.claims()}, Supplies(None, tables))
    assert set(found.filter(claim="steerbench-gpt-4o")["why"]) == {
        "what it needs is there, and was refused: part.parquet is damaged"
    }
    assert found.filter(status="differs")["claim"].unique().to_list() == ["steerbench-gpt-4o"]


def test_no_position_is_no_figure():
    nowhere = np.full((2, 4), np.nan)
    assert metrics.binned_figures(np.full((2, 4), 0.5), nowhere, nowhere, {"S, median": ".5"}) == {"S, median": None}


def test_the_first_metric_of_a_cell():
    scores = pl.DataFrame(
        {
            "arm_id": ["headline", "headline", "headline", "other"],
            "probe": ["steerbench-3d-in-10d"] * 4,
            "goal_space_id": ["g"] * 4,
            "sensitivity": [1.0, 1.0, None, 9.0],
            "directionality": [1.0, 0.0, None, 1.0],
            "score": [1.0, 0.0, None, 9.0],
        }
    )
    found = check_one(models, "first-metric-gpt-4-turbo", tables=lambda *_: scores)
    assert (found["score, mean"]["ours"], found["score, standard deviation"]["ours"]) == (0.5, 0.5)
    assert found["score, mean"]["difference"] == pytest.approx(0.5 - 0.344)
    other = scores.with_columns(probe=pl.lit("main"))
    refused = check_one(models, "first-metric-gpt-4-turbo", tables=lambda *_: other)["score, mean"]
    assert "no score on probe 'steerbench-3d-in-10d'" in refused["why"]


def test_stored_sentence_scores_give_the_published_figures_of_bias(tmp_path):
    def sentence(item, role, score):
        shared = {"item_id": item, "bias_type": "age", "cluster": item, "tokens": 2, "bytes": 9}
        return shared | {"role": role, "log_likelihood": score}

    pairs = [sentence("a", "stereotype", -4.0), sentence("a", "anti", -5.0)]
    pairs += [sentence("b", "stereotype", -9.0), sentence("b", "anti", -6.0)]
    write(tmp_path / "profiling/scores/crows_pairs_pythia-410m.csv", pairs)
    found = check_one(models, "crows-pairs-pythia-410m", tmp_path)
    assert found["stereotyped, percent"]["ours"] == 50.0
    assert found["likelihood_diff"]["ours"] == 2.0
    write(tmp_path / "profiling/scores/crows_pairs_pythia-410m.csv", [*pairs, sentence("c", "anti", "likely")])
    refused = check_one(models, "crows-pairs-pythia-410m", tmp_path)["likelihood_diff"]
    assert "row 4 (0-based): log_likelihood is 'likely'" in refused["why"]
    # a pair of which one sentence was not scored is left out
    pairs += [sentence("c", "stereotype", ""), sentence("c", "anti", -1.0)]
    write(tmp_path / "profiling/scores/crows_pairs_pythia-410m.csv", pairs)
    assert check_one(models, "crows-pairs-pythia-410m", tmp_path)["likelihood_diff"]["ours"] == 2.0
    triples = [*pairs[:2], sentence("a", "unrelated", -9.0)]
    write(tmp_path / "profiling/scores/stereoset_llama-2-7b.csv", triples)
    found = check_one(models, "stereoset-llama-2-7b", tmp_path)
    assert {name: row["ours"] for name, row in found.items()} == {"LM": 100.0, "SS": 100.0, "ICAT": 0.0}


def test_letters_of_caa_results(tmp_path):
    rows = [
        {"answer_matching_behavior": "(A)", "a_prob": 0.6, "b_prob": 0.2},
        {"answer_matching_behavior": "(B)", "a_prob": 0.6, "b_prob": 0.2},
    ]
    for m in ("-1.0", "0.0", "1.0"):
        name = f"results_layer=13_multiplier={m}_behavior=refusal_type=ab_use_base_model=False_model_size=7b.json"
        path = tmp_path / "caa/results/refusal" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows if m == "0.0" else rows[:1]))
    found = check_one(contrasts, "caa-letters-refusal-7b", tmp_path)
    assert [round(row["ours"], 12) for row in found.values()] == [0.75, 0.5, 0.75]
    assert [row["status"] for row in found.values()] == ["differs"] * 3
    assert found["at 0.0"]["difference"] == pytest.approx(0.5 - 0.74)


@pytest.mark.parametrize("wrong", [{"a_prob": 0.0}, {"answer_matching_behavior": "(C)"}])
def test_a_row_without_a_letter_or_a_probability_is_named(wrong):
    row = {"answer_matching_behavior": "(A)", "a_prob": 0.6, "b_prob": 0.2, "\0place": "file.json, row 0"} | wrong
    with pytest.raises(SteerworksError, match=r"file\.json, row 0: matching answer"):
        contrasts.matching_share([row])


def test_another_vector_differs_in_every_number(tmp_path):
    import torch

    one, other = VECTORS[2], VECTORS[3]
    numbers = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    for vector, sign in ((one, 1), (other, -2)):
        path = tmp_path / vector.file
        path.parent.mkdir(parents=True)
        torch.save(torch.tensor(sign * numbers), path)
    found = check_one(vectors, "bipo-power-seeking", tmp_path)
    assert found["L2 norm"]["ours"] == pytest.approx(np.linalg.norm(numbers), rel=1e-6)
    assert found["place of the largest"]["ours"] == np.abs(numbers).argmax()
    assert found["number 1"]["ours"] == pytest.approx(numbers[1])
    assert {row["status"] for row in found.values()} == {"differs"}
    cosine = check_one(vectors, "bipo-cosine-power-seeking-wealth-seeking", tmp_path)["cosine"]
    assert cosine["ours"] == pytest.approx(-1.0)


def test_a_damaged_file_of_items_differs_and_names_its_row(tmp_path):
    path = tmp_path / "profiling/bbq_religion.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps({"category": "Religion"}) + "\n")
    row = check_one(profiles, "bbq-religion", tmp_path)["items"]
    assert (row["status"], row["ours"]) == ("differs", None)
    assert "bbq_religion.jsonl, row 0" in row["why"]


def test_toxicity_of_completions_is_a_mean_and_a_share(tmp_path):
    path = tmp_path / "profiling/rtp_toxic_test_set.json"
    path.parent.mkdir()
    path.write_text("\n".join(json.dumps({"completion_toxicity": t}) for t in (0.1, 0.2, 0.3, 0.9)))
    found = check_one(profiles, "rtp-completions", tmp_path)
    assert [row["ours"] for row in found.values()] == pytest.approx([4, 0.375, 25.0])
    path.write_text("\n".join(json.dumps({"completion_toxicity": t}) for t in (0.1, None)))
    assert (
        "row 1 (0-based): completion_toxicity is None"
        in check_one(profiles, "rtp-completions", tmp_path)["prompts"]["why"]
    )


@pytest.mark.skipif(FOLDER is None, reason="STEERWORKS_SAMPLE_DATA is not set: no folder with published files")
def test_published_files_give_their_published_numbers():
    families = {"profiles": profiles, "vectors": vectors, "contrasts": contrasts}
    wanted = {"bbq-sexual-orientation", "bipo-power-seeking", "caa-coordinate-other-ais", "bipo-rows-power-seeking"}
    chosen = {name: [c for c in family.claims() if c.name in wanted] for name, family in families.items()}
    found = check_claims(chosen, Supplies(Path(FOLDER)))
    assert found["claim"].n_unique() == len(wanted)
    assert found.filter(pl.col("status") != "reproduced").select("claim", "figure", "ours", "why").rows() == []
