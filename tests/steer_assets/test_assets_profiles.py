"""Profiles through Dagster: a vector cell and the rewrite cell, what is asked once, and a page that says so."""

import json

import polars as pl
import pytest
import yaml

from schemas import ProfileRefusals
from steer_assets.assets import nodes_of
from steer_assets.settings import registry
from steer_core.evaluation.profiles import asking as core
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.tables.errors import ConfigError

SHARED, GRID, BOARD = "group:small_shared", "group:small_cells", "group:small_leaderboard"
CELL = "pushed|embedded"
FACTS = {"kind": "choices", "set": {"kind": "choices", "shipped": "tales-facts", "n": 24}, "bins": [5]}
PROFILES = {
    "facts": FACTS,
    "free": {
        "kind": "text", "set": {"kind": "prompts", "shipped": "tales-prompts", "n": 6}, "max_new_tokens": 24,
        "metrics": ["counts", "diversity"],
    },
    "named": {"kind": "bbq", "set": {"kind": "bbq", "first": 12}},
    "near": {"kind": "seat", "set": {"kind": "seat", "tests": ["flowers-insects"]}},
    "more": {"kind": "choices", "set": {"kind": "choices", "first": 5}, "bins": [5]},
}  # fmt: skip
PART = {
    "kind": "vector", "estimator": "mean-difference", "unit": "residual_fraction", "strengths": [-0.3, 0.3],
    "on_probe": [0.1, 0.3],
}  # fmt: skip
#: A prompt as a control that says something.
TOLD = {"parts": [{"kind": "prompt", "strategy": "direct"}], "control": True}
TABLES = {"profile_arms", "profile_responses", "profile_answers", "option_scores", "profile_vectors", "profile_values",
          "profile_figures", "profile_changes"}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """Rows that the engine was asked for, by verb."""
    rows = {"generate": 0, "score": 0, "embed": 0}

    def counting(verb):
        own = getattr(TransformersBackend, verb)

        def told(plans):
            # a stream of calls has no end that can be waited for
            for plan in plans:
                rows[verb] += plan is not None
                yield plan

        def counted(self, plans, *args, **kwargs):
            return (
                own(self, told(plans), *args, **kwargs)
                if verb == "generate"
                else own(self, list(told(plans)), *args, **kwargs)
            )

        monkeypatch.setattr(TransformersBackend, verb, counted)

    for verb in rows:
        counting(verb)
    return rows


def configure(workplace, profiles=("facts", "free", "named", "near"), methods=(), **changes):
    (workplace.folder / "profiles.yaml").write_text(yaml.safe_dump(PROFILES))
    workplace.bench = {**workplace.bench, "methods": ["rewrite", *methods, "pushed"]}
    workplace.configure(
        methods={"pushed": {"parts": [PART]}, "told": TOLD},
        **{
            "corpus": {"sources": [{"kind": "grammar", "n_texts": 120, "seed": 3}], "min_words": 10},
            "probes": [
                {"name": "main", "n_texts": 4, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
                {
                    "name": "pool", "split": "train", "n_texts": 16, "n_goals_per_text": 2, "active": 1,
                    "weighting": "none",
                },
            ],
            "goals": ["text_length", "formality"],
            "decoding": {"max_new_tokens": 48},
            "batch_size": 32,
            "profiles": list(profiles),
            "profiled": {
                "asked": [{"text_length": 0.4}],
                "budget": {"profile": "facts", "most": 0.2} if "facts" in profiles else None,
            } if profiles else {},
        } | changes,
    )  # fmt: skip


def read(path) -> pl.DataFrame:
    return pl.read_parquet(path, hive_partitioning=False)


def test_a_cell_is_profiled_once_and_a_further_profile_asks_only_what_is_new(workplace, asked):
    configure(workplace)
    names = [n.name for n in nodes_of(registry().bench("small")).all]
    assert {"profile_items", "profiles"} <= set(names)
    assert names.index("profiles") < names.index("scores")
    status, _ = workplace.materialize(SHARED)
    assert status["profile_items"] == "written"
    status, _ = workplace.materialize(GRID, CELL)
    assert {status[name] for name in TABLES} == {"written"}

    items = read(workplace.table("profile_items"))
    asks = dict(items["profile"].value_counts().iter_rows())
    assert [asks[name] for name in ("facts", "free", "named")] == [24, 6, 12]
    arms = read(workplace.table("profile_arms", CELL))
    assert arms["role"].to_list() == ["plain", "request", "arm", "arm"]
    assert arms["position"].to_list() == [None, None, 0.1, 0.3]
    steps = [json.loads(i) for i in arms["interventions"]]
    assert steps[0] == []
    assert steps[2] != steps[3] != []
    options = read(workplace.table("option_scores", CELL))
    assert options.height == 4 * (24 * 4 + 12 * 3)
    assert options["missing"].null_count() == options.height
    values = read(workplace.table("profile_values", CELL))
    assert set(values["profile"]) == {"facts", "free", "named", "near"}
    assert values["arm_id"].n_unique() == 4
    changes = read(workplace.table("profile_changes", CELL))
    assert set(changes["arm_id"]) == set(arms["arm_id"]) - {"plain"}
    page = (workplace.root / "small/report/model=embedded/method=pushed/report.html").read_text()
    assert page.count('id="profiles"') == 1
    assert "Under the budget" in page

    # the whole cell again: nothing is asked
    before = dict(asked)
    status, _ = workplace.materialize(GRID, CELL)
    assert set(status.values()) == {"unchanged"}
    assert asked == before

    # the plain rewrite: the model as it is, whose options were paid for in the other cell
    status, _ = workplace.materialize(GRID, "rewrite|embedded")
    assert status["profile_changes"] == "written"
    assert asked["score"] == before["score"]
    alone = read(workplace.table("option_scores", "rewrite|embedded"))
    assert alone.sort("item_id", "option").equals(options.filter(arm_id="plain").sort("item_id", "option"))
    assert read(workplace.table("profile_changes", "rewrite|embedded")).height == 0

    # both on the board: what is gained on the probe beside what it costs here
    status, _ = workplace.materialize(BOARD)
    assert status["frontier"] == "written"
    points = read(workplace.table("frontier"))
    assert set(points["profile"]) == {"facts"}
    assert dict(points["method"].value_counts().iter_rows()) == {"pushed": 3, "rewrite": 1}
    assert points.filter(method="rewrite").select("arm_id", "cost").row(0) == ("plain", 0.0)
    pages = [path.read_text() for path in (workplace.root / "small/leaderboard_page").rglob("*.html")]
    assert any("Effect against side effect" in page for page in pages)
    # one method that steers is beside nobody
    assert read(workplace.table("profile_pairs")).height == 0
    assert set(points["outdated"]) == {""}

    # one more profile: only its options are scored, in all arms; nothing is written or read again
    configure(workplace, ("facts", "free", "named", "near", "more"))
    workplace.materialize('key:"small/profile_items"')
    before = dict(asked)
    # until it is, the board says who lacks it
    workplace.materialize(BOARD)
    assert dict(read(workplace.table("frontier")).select("method", "outdated").unique().iter_rows()) == {
        "pushed": "more", "rewrite": "",
    }  # fmt: skip
    status, _ = workplace.materialize('key:"small/profiles"', CELL)
    assert (status["profile_arms"], status["option_scores"]) == ("unchanged", "written")
    assert asked["generate"] == before["generate"]
    # each option in all arms, and as many bare ones as there are distinct texts
    grown = read(workplace.table("option_scores", CELL)).filter(profile="more")
    assert grown.height == 4 * 5 * 4
    assert asked["score"] - before["score"] <= 2 * grown.height
    assert status["profile_values"] == "written"


def test_a_bench_without_profiles_has_nothing_of_them(workplace):
    configure(workplace, ())
    names = {n.name for n in nodes_of(registry().bench("small")).all}
    assert not names & {"profile_items", "profiles"}
    workplace.materialize(SHARED)
    status, _ = workplace.materialize(GRID, "rewrite|embedded")
    assert not set(status) & (TABLES | {"profile_items"})
    page = (workplace.root / "small/report/model=embedded/method=rewrite/report.html").read_text()
    assert 'id="profiles"' not in page
    status, _ = workplace.materialize(BOARD)
    assert "frontier" not in status


def test_cells_that_are_asked_for_the_same_are_held_beside_each_other(workplace):
    configure(workplace, ("free",), methods=("told",))
    workplace.materialize(SHARED)
    for cell in ("told|embedded", CELL):
        workplace.materialize(GRID, cell)
    found = read(workplace.table("profile_contrasts", CELL))
    assert set(found.select("method", "other_method").rows()) == {("pushed", "told")}
    assert set(found["request"]) == {'{"text_length":0.4}'}
    means = {
        cell: read(workplace.table("profile_values", cell))
        .filter(pl.col("metric") == "n_words", pl.col("arm_id").is_in(found[side].unique().implode()))["value"]
        .mean()
        for cell, side in ((CELL, "arm_id"), ("told|embedded", "other_arm_id"))
    }
    words = found.filter(metric="n_words").row(0, named=True)
    assert words["difference"] == pytest.approx(means[CELL] - means["told|embedded"])
    page = (workplace.root / "small/report/model=embedded/method=pushed/report.html").read_text()
    assert "Beside the controls" in page
    assert "pushed against told, asked for text length +0.4" in page
    # on the board, each pair once, the better first
    status, _ = workplace.materialize(BOARD)
    assert status["profile_pairs"] == "written"
    pairs = read(workplace.table("profile_pairs"))
    assert pairs.select("method", "other_method").n_unique() == 1
    assert pairs.height == found.height
    pages = [path.read_text() for path in (workplace.root / "small/leaderboard_page").rglob("*.html")]
    assert any("Cells beside each other" in page for page in pages)


def test_a_setting_that_the_engine_refuses_is_missing_values_and_ends_nothing(workplace, monkeypatch):
    configure(workplace, ("free",))
    workplace.materialize(SHARED)
    own = core.refusals_of

    def refusing(profile, every, run, decoding):
        arms = [one.arm.arm_id for one in every if one.arm.interventions]
        rows = [(arm, profile, "cannot add here") for arm in dict.fromkeys(arms)]
        return pl.concat(
            [own(profile, every, run, decoding), pl.DataFrame(rows, ProfileRefusals.dtypes(), orient="row")]
        )

    monkeypatch.setattr(core, "refusals_of", refusing)
    workplace.materialize(GRID, CELL)
    values = read(workplace.table("profile_values", CELL))
    refused = read(workplace.table("profile_refusals", CELL))["arm_id"]
    assert len(refused) >= 2
    plain, other = values.filter(arm_id="plain"), values.filter(pl.col("arm_id").is_in(refused.implode()))
    assert set(other["missing"]) == {"cannot add here"}
    assert other.height == len(refused) * plain.height
    changes = read(workplace.table("profile_changes", CELL)).filter(pl.col("arm_id").is_in(refused.implode()))
    assert changes["p"].null_count() == changes.height > 0
    page = (workplace.root / "small/report/model=embedded/method=pushed/report.html").read_text()
    assert "cannot add here" in page


def test_coherence_and_perplexity_are_read_by_the_models_that_a_profile_names(
    workplace, tiny_model, asked, monkeypatch
):
    models = {"embedded": {"source": "embedded"}, "encoder": {"source": str(tiny_model("llama", True))}}
    (workplace.folder / "models.yaml").write_text(yaml.safe_dump(models))
    wanted = {"metrics": ["coherence", "information"], "encoder": "encoder", "perplexity": "itself"}
    monkeypatch.setitem(PROFILES, "free", PROFILES["free"] | wanted)
    configure(workplace, ("free",))
    workplace.materialize(SHARED)
    status, _ = workplace.materialize(GRID, "rewrite|embedded")
    assert status["profile_readings"] == "written"
    values = read(workplace.table("profile_values", "rewrite|embedded"))
    answered = values.filter(metric="empty")
    said = int((answered["value"] == 0.0).sum())
    assert said > 0
    perplexity = values.filter(metric="model_perplexity")
    assert perplexity["value"].drop_nulls().len() == said
    assert (perplexity["value"].drop_nulls() > 1.0).all()
    coherence = values.filter(metric="first_order_coherence")
    assert set(coherence["missing"].drop_nulls()) <= {"fewer than 2 sentences", "no words"}
    # read once: the page again asks nothing, and a model that is not there is said before anything runs
    before = dict(asked)
    status, _ = workplace.materialize(GRID, "rewrite|embedded")
    assert status["profile_readings"] == "unchanged"
    assert asked == before
    monkeypatch.setitem(PROFILES, "free", PROFILES["free"] | {"encoder": "nobody"})
    configure(workplace, ("free",))
    with pytest.raises(ConfigError, match="nobody"):
        registry()
