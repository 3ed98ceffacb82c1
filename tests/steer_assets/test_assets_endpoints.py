"""Cells of a model behind an endpoint: planned with a price, run without a device, every request a row."""

import math

import polars as pl
import pytest
import yaml
from fake_endpoint import Servers

from schemas import Attempts, GoalAgreement, Groundedness
from schemas.specs import ModelSpec
from steer_assets import compute, devices, preflight
from steer_assets.__main__ import main
from steer_assets.partitions import all_cells
from steer_assets.settings import registry
from steer_core.evaluation.judges import two_sides
from steer_core.models.loading import load_tokenizer
from steer_core.tables.errors import ConfigError
from steer_core.tables.snapshot import read_table

SHARED, GRID = "group:small_shared", "group:small_cells"
FAULTS = {"429": 0.1, "500": 0.1, "reset": 0.05, "cut": 0.05}


@pytest.fixture
def far(workplace, tmp_path, monkeypatch):
    """The small bench with a model behind a faulty endpoint."""
    monkeypatch.setenv("STEERWORKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAR_KEY", "k-secret")
    monkeypatch.setattr(devices.Devices, "_wait", lambda *_: pytest.fail("a remote engine needs no lease"))
    servers = Servers()
    workplace.server, workplace.address = servers.serve(faults=FAULTS, key="k-secret", answers={"sings": "filter"})
    workplace.endpoint = {
        "base_url": workplace.address,
        "backoff": 0.005,
        "key": "FAR_KEY",
        "prices": {"prompt": 1.0, "cached": 0.5, "completion": 2.0, "as_of": "2025-01-01"},
    }

    def configure(**endpoint):
        settings = {"source": "served:far-1", "engine": "openai", "endpoint": {**workplace.endpoint, **endpoint}}
        (workplace.folder / "models.yaml").write_text(yaml.safe_dump({"far": settings}))
        workplace.bench = {**workplace.bench, "models": ["far"], "methods": ["rewrite", "direct", "direct-with-vector"]}
        workplace.configure()

    workplace.ask = configure
    configure()
    yield workplace
    compute.let_go()
    servers.stop()


def test_a_cell_of_an_endpoint_is_planned_with_a_price_and_every_request_is_a_row(far, capsys, monkeypatch):
    monkeypatch.chdir(far.folder)
    assert main(["plan", "direct", "--bench", "small"]) == 0
    said = capsys.readouterr().out
    assert "cost at most" in said
    assert "USD; what has an answer already is not paid again" in said
    assert not far.server.requests
    far.materialize(SHARED)
    status, _ = far.materialize(GRID, "direct|far")
    assert status["responses"] == status["attempts"] == status["report"] == "written"
    rows = read_table(str(far.table("attempts", "direct|far")), Attempts)
    responses = pl.read_parquet(far.table("responses", "direct|far"), hive_partitioning=False)
    final = rows.filter(pl.col("outcome").is_in(["answered", "filtered"]))
    assert sorted(final["response_id"]) == sorted(responses["response_id"])
    assert rows.height > final.height
    assert rows.filter(outcome="answered")["cost"].unique().to_list() == pytest.approx([48e-6])
    assert rows["cached_tokens"].sum() > 0
    # a filtered answer is a failure of its own kind, with its share of what was held back
    outcomes = pl.read_parquet(far.table("outcomes", "direct|far"), hive_partitioning=False)
    filtered = outcomes.filter(failure="filtered")
    assert filtered.height == final.filter(outcome="filtered").height > 0
    # the page sums up what the table holds
    page = (far.root / "small/report/model=far/method=direct/report.html").read_text()
    assert '<section id="endpoint">' in page
    assert f"{rows.height:,} attempts" in page
    assert f"{filtered.height} filtered" in page
    assert f"{rows['cost'].sum():.6f}" in page
    assert "at the prices of 2025-01-01" in page
    # the key stands nowhere
    for file in far.root.rglob("*"):
        assert not file.is_file() or b"k-secret" not in file.read_bytes()
    # and a second time nothing is asked
    asked = len(far.server.requests)
    assert set(far.materialize(GRID, "direct|far")[0].values()) == {"unchanged"}
    assert len(far.server.requests) == asked


def test_a_budget_that_is_hit_leaves_what_it_paid_for_and_goes_on_when_raised(far):
    far.materialize(SHARED)
    far.ask(max_cost=0.001)
    status, result = far.materialize(GRID, "direct|far", raise_on_error=False)
    assert not result.success
    assert "Raise `max_cost`" in str(next(e for e in result.all_events if e.is_step_failure).event_specific_data.error)
    paid = len(set(far.server.worked))
    assert 0 < paid < 24
    compute.let_go()
    # limits are no part of a model's identity: what all cells share stays as it is
    far.ask(max_cost=1.0)
    status, _ = far.materialize(GRID, "direct|far")
    assert status["responses"] == "written"
    rows = read_table(str(far.table("attempts", "direct|far")), Attempts)
    assert rows["response_id"].n_unique() == rows.filter(pl.col("outcome").is_in(["answered", "filtered"])).height


def test_a_vector_is_refused_by_name_before_anything_is_asked(far):
    why = {c.method.name: c.why_impossible() for c in all_cells(registry().bench("small"))}
    assert why["direct"] is None
    assert why["direct-with-vector"] == (
        "direct-with-vector on far: openai (compatible) backend cannot apply interventions; use transformers or vllm"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "example.org"}, "starts with http"),
        ({"key": "sk-my-very-key"}, "key"),
        ({"headers": {"X-Api-Key": "abc"}}, "looks like a secret"),
        ({"max_cost": 1.0, "prices": None}, "nobody knows what"),
        ({"body": {"max_tokens": 3}}, "may not set max_tokens"),
        ({"concurrency": 0}, "concurrency"),
        ({"dialect": "telegraph"}, "dialect"),
    ],
)
def test_a_wrong_setting_is_said_by_the_plan(far, capsys, settings, said, monkeypatch):
    monkeypatch.chdir(far.folder)
    far.ask(**settings)
    assert main(["plan", "direct", "--bench", "small"]) == 2
    shown = capsys.readouterr()
    assert said in shown.err + shown.out
    assert "my-very-key" not in shown.err + shown.out


def test_a_cell_through_a_batch_is_submitted_collected_and_run_without_a_request(far, capsys, monkeypatch):
    monkeypatch.chdir(far.folder)
    far.ask(dialect="openai")
    assert main(["batch", "submit", "direct", "--models", "far", "--bench", "small"]) == 0
    assert "24 requests sent in 1 batches" in capsys.readouterr().out
    assert main(["batch", "submit", "direct", "--models", "far", "--bench", "small"]) == 0
    assert "0 requests sent in 0 batches; 0 have an answer, 24 are under way" in capsys.readouterr().out
    assert main(["batch", "poll", "--models", "far", "--bench", "small"]) == 0
    assert "in_progress, 24 requests" in capsys.readouterr().out
    far.server.work_batches()
    assert main(["batch", "collect", "--models", "far", "--bench", "small"]) == 0
    assert "completed, 24 requests, 24 answers, 0 to be sent again" in capsys.readouterr().out
    far.materialize(SHARED)
    status, _ = far.materialize(GRID, "direct|far")
    assert status["responses"] == "written"
    assert not far.server.requests
    rows = read_table(str(far.table("attempts", "direct|far")), Attempts)
    assert set(rows["batch_id"]) == {"batch-0"}


def test_answers_are_judged_by_whether_they_stay_with_their_source(far):
    # the judge's own prompt is asked for first: words of sources stand in it as well
    far.server.script.answers = {
        "Reply with Yes or No.": "say:Yes",
        "Reply with A, with B": "say:A",
        "terrible book": "say:Cows moo.",
        "sings": "filter",
    }
    far.bench = {**far.bench, "validated_by": "far"}
    far.ask()
    far.materialize(SHARED)
    status, _ = far.materialize(GRID, "direct|far")
    assert status["groundedness"] == "written"
    rows = read_table(str(far.table("groundedness", "direct|far")), Groundedness)
    outcomes = pl.read_parquet(far.table("outcomes", "direct|far"), hive_partitioning=False)
    both = rows.join(outcomes.filter(arm_id="headline").select("request_id", "text", "failure"), on="request_id")
    assert both.height == outcomes.filter(arm_id="headline").height
    empty, cows = both.filter(pl.col("failure") == "filtered"), both.filter(pl.col("text") == "Cows moo.")
    assert empty["verdict"].null_count() == empty.height > 0
    assert empty["review"].all()
    # the judge says yes to everything, and the words say otherwise
    assert cows.height > 0
    assert (cows["shared"] == 0.0).all()
    assert cows["review"].all()
    rest = both.filter(pl.col("failure").is_null(), pl.col("text") != "Cows moo.")
    assert rest["grounded"].all()
    # a judge that always names the first text prefers nothing, and is seen to
    goals = read_table(str(far.table("goal_agreement", "direct|far")), GoalAgreement)
    assert goals["goal"].to_list() == far.bench["goals"]
    assert goals["tau"].null_count() == goals.height
    assert (goals["first_place"] == 1.0).all()
    assert (goals["n"] > 0).all()
    assert not rest["review"].any()


class _Even:
    """A model that finds every token as likely as any other."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def seen(self, ids):
        return ids

    def log_probs(self, ids):
        return [-1.0] * (len(ids) - 1)

    def spell(self, token):
        return self.tokenizer.decode([token])


def test_a_judge_is_read_by_probabilities_where_its_endpoint_gives_them_and_the_plan_says_how(
    far, capsys, monkeypatch, tiny_model
):
    monkeypatch.chdir(far.folder)
    folder = str(tiny_model("llama", chat=True))
    far.server.script.answers = {"Reply with": "say:Yes"}
    tokenizer = load_tokenizer(ModelSpec(name="tiny", source=folder))
    far.server.script.scorer, far.server.script.faults = _Even(tokenizer), {}
    monkeypatch.setattr(two_sides, "PAIRS", 2)
    far.bench = {**far.bench, "validated_by": "far"}
    far.ask(tokenizer=folder)
    assert main(["plan", "direct", "--bench", "small"]) == 0
    said = "groundedness and goals: judged by far, read"
    assert f"{said} from what it writes, for openai (compatible) gives no log-probabilities" in capsys.readouterr().out
    far.materialize(SHARED)
    far.materialize(GRID, "direct|far")
    compute.let_go()
    far.ask(tokenizer=folder, scores="echo")
    assert main(["plan", "direct", "--bench", "small"]) == 0
    assert f"{said} by the probabilities of its options" in capsys.readouterr().out
    status, _ = far.materialize(GRID, "direct|far")
    # another reading is other verdicts, and no answer is paid for again
    assert status["groundedness"] == status["goal_agreement"] == "written"
    assert status["responses"] == "unchanged"
    rows = read_table(str(far.table("groundedness", "direct|far")), Groundedness)
    yes, no = (math.exp(-len(tokenizer(t, add_special_tokens=False)["input_ids"])) for t in ("Yes", "No"))
    assert rows["verdict"].drop_nulls().unique().to_list() == [pytest.approx(yes / (yes + no))]


def test_a_sweep_whose_engine_gives_no_log_probabilities_is_refused_before_anything_runs(far, monkeypatch):
    bench = registry().bench("small")
    cells = [c for c in all_cells(bench) if c.method.name == "direct"]
    preflight.check_bench(bench, cells)
    monkeypatch.setattr(preflight, "sweeps", lambda cell: True)
    with pytest.raises(ConfigError, match=r"models.yaml, entry 'far': direct is swept over behaviors.*gives none"):
        preflight.check_bench(bench, cells)
