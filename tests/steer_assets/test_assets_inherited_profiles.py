"""Inheritance on free prompts as a cell: trained on a set, profiled with and without the adapter, refused and stale by name."""

import logging
import re

import polars as pl
import pytest
import yaml

from schemas import Adapters, ProfileArms, ProfileChanges, TrainingSamples
from steer_assets import compute
from steer_assets.assets import nodes_of
from steer_assets.partitions import all_cells
from steer_assets.settings import registry, storage_root
from steer_assets.status import node_is_current
from steer_assets.tables import Work
from steer_core.adapters.inheritance import measures
from steer_core.tables.snapshot import read_table

SHARED, GRID, CELL = "group:small_shared", "group:small_cells", "diverse|embedded"
RECIPE = {
    "kind": "inheritance",
    "preset": "embedded",
    "samples": 3,
    "max_new_tokens": 192,
    "objectives": [{"metric": "text:mtld_published", "direction": "max"}],
    "prompts": {"shipped": "tales-prompts", "side": "train", "n": 6},
    "epochs": 2,
    "batch": 3,
    "checkpoints": 2,
    "lora": {"rank": 4},
}
PROFILE = {
    "kind": "text",
    "set": {"kind": "prompts", "shipped": "tales-prompts", "side": "test", "n": 4},
    "metrics": ["mtld_published", "n_words"],
    "max_new_tokens": 64,
}


def configure(place, profile=PROFILE, **more):
    (place.folder / "profiles.yaml").write_text(yaml.safe_dump({"free": profile}))
    parts = [
        {"kind": "prompt", "strategy": "rewrite"},
        {"kind": "adapter", "trial_texts": 3, "recipe": {**RECIPE, **more}},
    ]
    asked = {"n_goals_per_text": 1, "active": 1, "weighting": "none"}
    probes = [{"name": "main", "n_texts": 4, **asked}, {"name": "pool", "split": "train", "n_texts": 5, **asked}]
    place.bench = {**place.bench, "methods": ["rewrite", "diverse"], "probes": probes, "profiles": ["free"]}
    place.configure(methods={"diverse": {"parts": parts}})


@pytest.fixture
def place(workplace):
    configure(workplace)
    workplace.materialize(SHARED)
    yield workplace
    compute.let_go()


def read(place, name, contract):
    return read_table(str(place.table(name, CELL)), contract)


def test_a_cell_is_trained_on_a_set_that_no_profile_asks_and_its_profile_is_before_and_after(place, monkeypatch):
    status, result = place.materialize(GRID, CELL)
    assert status["adapters"] == status["profile_changes"] == status["report"] == "written"
    samples = read(place, "training_samples", TrainingSamples)
    assert samples.height == 6 * 3
    assert samples["request_id"].str.starts_with("item:").all()
    (check,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "split_by_text"]
    assert check.passed
    # plain is the model without the adapter, and so is the arm of that name; each state is one
    states = read(place, "adapters", Adapters)
    arms = read(place, "profile_arms", ProfileArms)
    worn = {r["label"].split(", ")[-1]: r["adapter"] for r in arms.iter_rows(named=True) if r["role"] == "arm"}
    assert worn == {"without the adapter": None, **dict(states.select("label", "adapter").iter_rows())}
    (plain,) = arms.filter(arm_id="plain").to_dicts()
    assert (plain["role"], plain["adapter"], plain["system"], plain["interventions"]) == ("plain", None, None, "[]")
    (used,) = arms.filter(role="request").to_dicts()
    assert used["adapter"] in set(states["adapter"])
    assert used["system"] is None
    changes = read(place, "profile_changes", ProfileChanges)
    (bare,) = arms.filter(pl.col("label").str.ends_with("without the adapter"))["arm_id"]
    # the same model twice, greedily: no difference at all
    assert changes.filter(arm_id=bare)["difference"].to_list() == [0.0] * changes.filter(arm_id=bare).height
    assert changes.filter(arm_id=used["arm_id"], metric="n_words")["difference"].abs().sum() > 0.0
    page = place.table("report", CELL).with_name("report.html").read_text()
    assert "6 prompts of a set, none of which a profile of the bench asks" in page
    assert "without the adapter" in page
    assert re.search("mtld.published", page)
    assert current()
    # a newer version of what answers are chosen by is another adapter
    with monkeypatch.context() as patch:
        patch.setattr(measures, "VERSION", "newer")
        assert not current()
    # and a profile that asks what is trained on is refused, though the adapter stands
    configure(place, profile={**PROFILE, "set": {"kind": "prompts", "shipped": "tales-prompts", "n": 60}})
    _, result = place.materialize("key:small/adapters", CELL, raise_on_error=False)
    assert not result.success
    said = str(next(e for e in result.all_events if e.is_step_failure).event_specific_data.error)
    assert "`prompts` are asked by the profile 'free' as well" in said


def current():
    bench = registry().bench("small")
    nodes, (cell,) = nodes_of(bench), [c for c in all_cells(bench) if c.key == CELL]
    work = Work(bench, storage_root(), logging.getLogger(__name__)).of(cell)
    return node_is_current(next(n for n in nodes.all if n.name == "adapters"), work, nodes)
