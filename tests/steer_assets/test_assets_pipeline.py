"""The pipeline through Dagster: what runs, what is skipped, what is refused by name."""

import polars as pl
import pytest
import yaml

GRID = "group:small_cells"
SHARED = "group:small_shared"
BOARD = "group:small_leaderboard"


def read(path) -> pl.DataFrame:
    return pl.read_parquet(path, hive_partitioning=False)


def test_from_corpus_to_leaderboard_then_nothing_then_only_what_changed(workplace):
    status, _ = workplace.materialize(SHARED)
    assert set(status.values()) == {"written"}
    for cell in ("copy|embedded", "direct|embedded"):
        status, _ = workplace.materialize(GRID, cell)
        assert set(status.values()) == {"written"}
    status, _ = workplace.materialize(BOARD)
    assert set(status.values()) == {"written"}
    board = read(workplace.table("leaderboard"))
    assert set(board["method"]) == {"copy", "direct"}
    assert (workplace.root / "small/report/model=embedded/method=direct/report.html").stat().st_size > 20_000

    for select, cell in [(SHARED, None), (GRID, "copy|embedded"), (GRID, "direct|embedded"), (BOARD, None)]:
        status, _ = workplace.materialize(select, cell)
        assert set(status.values()) == {"unchanged"}, (cell, status)

    # one method edited: its own cell runs, the other does not
    part = {"kind": "prompt", "strategy": "direct", "options": {"negative": True}}
    workplace.configure(methods={"direct": {"parts": [part]}})
    status, _ = workplace.materialize(GRID, "copy|embedded")
    assert set(status.values()) == {"unchanged"}
    status, _ = workplace.materialize(GRID, "direct|embedded")
    assert status["responses"] == status["steerability"] == status["report"] == "written"
    status, _ = workplace.materialize(SHARED)
    assert set(status.values()) == {"unchanged"}


def test_running_the_cells_in_order_leaves_nothing_to_do(workplace):
    workplace.materialize(SHARED)
    cells = ["copy|embedded", "rewrite|embedded", "direct|embedded"]
    for cell in cells:
        workplace.materialize(GRID, cell)
    controls_of = {c: set(read(workplace.table("comparisons", c))["control"]) for c in cells}
    assert controls_of == {
        "copy|embedded": {"permuted"},
        "rewrite|embedded": {"permuted", "copy"},
        "direct|embedded": {"permuted", "copy", "rewrite"},
    }
    for cell in cells:
        status, _ = workplace.materialize(GRID, cell)
        assert set(status.values()) == {"unchanged"}, cell


def test_a_missing_control_is_said_and_made_up_for(workplace):
    workplace.materialize(SHARED)
    workplace.materialize(GRID, "direct|embedded")
    before = read(workplace.table("comparisons", "direct|embedded"))
    assert set(before["control"]) == {"permuted"}
    page = workplace.root / "small/report/model=embedded/method=direct/report.html"
    assert "copy|embedded" in page.read_text()
    workplace.materialize(GRID, "copy|embedded")
    status, _ = workplace.materialize(GRID, "direct|embedded")
    assert status["responses"] == "unchanged"
    assert status["comparisons"] == "written"
    after = read(workplace.table("comparisons", "direct|embedded"))
    assert set(after["control"]) == {"copy", "permuted"}


def test_copy_is_its_closed_form_and_the_check_says_so(workplace):
    workplace.materialize(SHARED)
    _, result = workplace.materialize(GRID, "copy|embedded")
    checks = {(e.asset_key.path[-1], e.check_name): e for e in result.get_asset_check_evaluations()}
    exact = checks["scores", "copy_closed_form"]
    assert exact.passed
    assert exact.metadata["error"].value <= 1e-9
    assert all(e.passed for e in checks.values())
    scores = read(workplace.table("steerability", "copy|embedded"))
    assert (scores["error"] - scores["requested"]).abs().max() <= 1e-9
    assert (scores["miscalibration"] == 1).all()
    assert (scores["orthogonality"] == 0).all()


def test_an_impossible_cell_is_left_out_by_name_and_blocks_nothing(workplace):
    workplace.materialize(SHARED)
    workplace.materialize(GRID, "copy|embedded")
    status, result = workplace.materialize(GRID, "few-shot|embedded")
    assert result.success
    assert status == {}
    said = [e.metadata["left out"].value for e in result.get_asset_check_evaluations()]
    assert said
    assert all("few-shot needs a context of 2048 tokens, and embedded has 512" in s for s in said)
    status, _ = workplace.materialize(BOARD)
    assert status["leaderboard"] == "written"


def test_a_damaged_table_is_named_and_healed_by_its_own_node(workplace):
    workplace.materialize(SHARED)
    path = workplace.table("requests")
    path.write_bytes(path.read_bytes()[:-100])
    _, result = workplace.materialize(GRID, "copy|embedded", raise_on_error=False)
    assert not result.success
    failures = [e.step_failure_data.user_failure_data for e in result.all_events if e.is_step_failure]
    assert any("requests/part.parquet is not a readable Parquet file" in str(f.description) for f in failures if f)
    status, _ = workplace.materialize(SHARED)
    assert status["requests"] == "written"
    assert status["seed_corpus"] == "unchanged"


def test_a_deleted_report_is_written_again(workplace):
    workplace.materialize(SHARED)
    workplace.materialize(GRID, "copy|embedded")
    page = workplace.root / "small/report/model=embedded/method=copy/report.html"
    page.unlink()
    status, _ = workplace.materialize(GRID, "copy|embedded")
    assert status["report"] == "written"
    assert page.exists()


def test_a_corpus_too_small_fails_with_the_reason(workplace):
    probes = [{"name": "main", "n_texts": 5000, "n_goals_per_text": 2, "active": 2}]
    workplace.configure(probes=probes, train_probe=None)
    _, result = workplace.materialize(SHARED, raise_on_error=False)
    assert not result.success
    failures = [e.step_failure_data.user_failure_data for e in result.all_events if e.is_step_failure]
    assert any("'main' needs 5000 texts" in str(f.description) for f in failures if f)
    assert workplace.table("seed_corpus").exists()
    assert not workplace.table("requests").exists()


def test_tables_carry_their_provenance(workplace):
    from steer_core.tables import read_footer

    workplace.materialize(SHARED)
    footer = read_footer(str(workplace.table("requests")))
    assert footer.contract == "requests"
    assert set(footer.inputs) == {"seed_corpus", "corpus_goal_values", "goal_space"}
    assert footer.inputs["goal_space"] == read_footer(str(workplace.table("goal_space"))).content


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "<script>alert(1)</script> " * 3])
def test_hostile_source_texts_pass_through(workplace, text):
    rows = (workplace.folder / "texts.csv").read_text()
    (workplace.folder / "texts.csv").write_text(rows + f'\n"{text} one two three four"\n')
    status, _ = workplace.materialize(SHARED)
    assert status["seed_corpus"] == "written"


def test_a_sentence_encoder_measures_meaning_where_the_bench_names_one(workplace, tiny_model):
    models = {"embedded": {"source": "embedded"}, "encoder": {"source": str(tiny_model("llama", True))}}
    (workplace.folder / "models.yaml").write_text(yaml.safe_dump(models))
    workplace.configure(meaning_model="encoder")
    workplace.materialize(SHARED)
    workplace.materialize(GRID, "copy|embedded")
    scores = read(workplace.table("steerability", "copy|embedded"))
    assert (scores["meaning_embedding"] == 1).all()
    workplace.configure(meaning_model=None)
    status, _ = workplace.materialize(GRID, "copy|embedded")
    assert status["steerability"] == "written"
    assert read(workplace.table("steerability", "copy|embedded"))["meaning_embedding"].null_count() == scores.height


def test_a_fitted_method_runs_from_training_pool_to_report(workplace, tiny_model):
    models = {"embedded": {"source": "embedded"}, "tiny": {"source": str(tiny_model("llama", True, 4096))}}
    (workplace.folder / "models.yaml").write_text(yaml.safe_dump(models))
    workplace.bench = {**workplace.bench, "models": ["tiny"], "methods": ["copy", "few-shot", "instruction"]}
    workplace.configure()
    workplace.materialize(SHARED)
    for method in ("few-shot", "instruction"):
        status, _ = workplace.materialize(GRID, f"{method}|tiny")
        assert set(status.values()) == {"written"}
    requests = read(workplace.table("requests"))
    pool = set(requests.filter(pl.col("probe") == "pool")["request_id"])
    fitted_on = read(workplace.table("fit_outcomes", "few-shot|tiny"))
    assert set(fitted_on["request_id"]) == pool
    assert set(read(workplace.table("outcomes", "few-shot|tiny"))["request_id"]).isdisjoint(pool)
    assert (workplace.root / "small/report/model=tiny/method=few-shot/report.html").exists()


def test_edited_imported_answers_are_noticed(workplace):
    workplace.materialize(SHARED)
    answers = workplace.folder / "answers.csv"
    requests = read(workplace.table("requests")).filter(pl.col("split") == "test")
    requests.select("request_id", "text").write_csv(answers)
    part = {"kind": "prompt", "strategy": "imported", "options": {"path": str(answers)}}
    workplace.bench = {**workplace.bench, "methods": ["copy", "mine"]}
    workplace.configure(methods={"mine": {"parts": [part]}})
    status, _ = workplace.materialize(GRID, "mine|embedded")
    assert status["outcomes"] == "written"
    assert read(workplace.table("outcomes", "mine|embedded"))["copied"].all()
    requests.select("request_id", text=pl.col("text") + " More.").write_csv(answers)
    status, _ = workplace.materialize(GRID, "mine|embedded")
    assert status["outcomes"] == "written"
    assert not read(workplace.table("outcomes", "mine|embedded"))["copied"].any()


def test_changed_weights_are_noticed(workplace, tiny_model):
    import shutil

    folder = shutil.copytree(tiny_model("llama", True), workplace.folder / "model")
    models = {"embedded": {"source": "embedded"}, "tiny": {"source": str(folder)}}
    (workplace.folder / "models.yaml").write_text(yaml.safe_dump(models))
    workplace.bench = {**workplace.bench, "models": ["tiny"], "methods": ["copy", "direct"]}
    workplace.configure()
    workplace.materialize(SHARED)
    workplace.materialize(GRID, "direct|tiny")
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2] ^= 0x40
    weights.write_bytes(bytes(data))
    status, _ = workplace.materialize(GRID, "direct|tiny")
    assert status["responses"] == "written"


def test_cells_of_an_earlier_draw_are_left_off_the_leaderboard(workplace):
    workplace.materialize(SHARED)
    for cell in ("copy|embedded", "direct|embedded"):
        workplace.materialize(GRID, cell)
    probes = [{**p, "seed": 99} if p["name"] == "main" else p for p in workplace.bench["probes"]]
    workplace.configure(probes=probes)
    workplace.materialize(SHARED)
    workplace.materialize(GRID, "copy|embedded")
    workplace.materialize(BOARD)
    assert set(read(workplace.table("leaderboard"))["method"]) == {"copy"}
    workplace.materialize(GRID, "direct|embedded")
    workplace.materialize(BOARD)
    assert set(read(workplace.table("leaderboard"))["method"]) == {"copy", "direct"}


def test_a_table_that_was_changed_by_hand_is_made_again(workplace):
    workplace.materialize(SHARED)
    path = workplace.table("goal_space")
    metadata = pl.read_parquet_metadata(path)["steerworks"]
    read(path).with_columns(bounds=pl.lit("guessed")).write_parquet(path, metadata={"steerworks": metadata})
    status, _ = workplace.materialize('key:"small/seed_corpus" or key:"small/goal_mappings"')
    assert status["goal_space"] == "written"
    assert status["seed_corpus"] == "unchanged"
