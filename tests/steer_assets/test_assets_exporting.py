"""The adapter that a cell wears, exported by the command line; and the split by text, shown from tables."""

import json
import re
import shutil

import polars as pl
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import AutoModelForCausalLM

from schemas import Adapters, CheckpointTrials, Outcomes, ProbeArms, TrainingSamples
from steer_assets import compute
from steer_assets.__main__ import main
from steer_assets.partitions import all_cells
from steer_assets.preflight import check_bench
from steer_assets.settings import SHIPPED_CONFIG, registry
from steer_core.generation.adapters import Adapter
from steer_core.models.embedded import weights_folder
from steer_core.tables.errors import ConfigError
from steer_core.tables.snapshot import publish_table, read_footer, read_table
from tests.steer_core.adapters.export_world import write_adapter
from tests.steer_core.generation.served_world import LISTED, attached, serving

SHARED, GRID, CELL = "group:small_shared", "group:small_cells", "tuned|embedded"
PROMPT = {"kind": "prompt", "strategy": "direct"}
RECIPE = {
    "kind": "inheritance",
    "preset": "embedded",
    "samples": 2,
    "max_new_tokens": 32,
    "objectives": [{"metric": "length", "direction": "min"}],
    "epochs": 1,
    "batch": 8,
    "checkpoints": 2,
    "learning_rate": 0.01,
    "seed": 7,
    "lora": {"rank": 4},
}


@pytest.fixture
def place(workplace, monkeypatch):
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "direct", "tuned"]}
    part = {"kind": "adapter", "recipe": RECIPE, "trial_texts": 3}
    workplace.configure(methods={"tuned": {"parts": [PROMPT, part]}})
    workplace.materialize(SHARED)
    yield workplace
    compute.let_go()


def read(place, name, contract, cell=CELL):
    return read_table(str(place.table(name, cell)), contract)


def exported(place, folder, *more, cell="tuned"):
    return main(["export-adapter", cell, "--to", str(folder), "--bench", "small", *more])


def change(place, name, contract, rows):
    """Put other rows in the place of a table, as if they followed from the same."""
    url = str(place.table(name, CELL))
    publish_table(rows, contract, url, read_footer(url))


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([[5, 7, 11, 13]])).logits


def test_the_worn_adapter_is_exported_with_the_pages_claim_and_leaks_fail_a_check(place, tmp_path, capsys):
    place.materialize("group:small_cells", "direct|embedded")
    assert exported(place, tmp_path / "early") == 2
    said = capsys.readouterr().err
    assert "tuned|embedded has no adapter to export yet" in said
    assert "steerworks run tuned" in said
    assert exported(place, tmp_path / "early", cell="direct") == 2
    assert "direct|embedded wears no adapter: its method is made of prompt" in capsys.readouterr().err
    assert not (tmp_path / "early").exists()

    _, result = place.materialize(GRID, CELL)
    checks = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert checks["split_by_text"].passed
    assert "None of the 12 texts of the test probes is among the 10" in checks["split_by_text"].metadata["found"].value

    peft, merged, served = tmp_path / "peft", tmp_path / "merged", tmp_path / "vllm"
    assert exported(place, peft) == 0
    assert capsys.readouterr().out.splitlines() == [str(peft)]
    rows, trials = read(place, "adapters", Adapters), read(place, "checkpoint_trials", CheckpointTrials)
    means = trials.filter(pl.col("step") > 0).group_by("step").agg(pl.col("error").mean()).sort("error", "step")
    worn = dict(rows.select("step", "adapter").iter_rows())[means["step"][0]]
    # the very files that the tables name
    assert Adapter.of(peft).digest == worn
    assert exported(place, merged, "--as", "merged") == 0
    assert exported(place, served, "--as", "vllm") == 0
    capsys.readouterr()
    base = AutoModelForCausalLM.from_pretrained(weights_folder())
    want = logits(PeftModel.from_pretrained(base, str(peft)).eval())
    found = logits(AutoModelForCausalLM.from_pretrained(merged).eval())
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)
    assert exported(place, peft) == 2
    assert "peft is in use; name a new folder for the adapter" in capsys.readouterr().err

    card = ModelCard.load(peft / "README.md")
    assert card.data.library_name == "peft"
    assert {"lora", "steering"} <= set(card.data.tags)
    assert card.data.license is None
    page = place.table("report", CELL).with_name("report.html").read_text()
    claim = next(line for line in card.text.splitlines() if "under the same prompt:" in line)
    assert claim in page
    costs = [s for s in card.text.splitlines() if s.startswith(("It costs", "It gains", "It changes", "No difference"))]
    assert costs[0] in page
    samples = read(place, "training_samples", TrainingSamples)
    requests = pl.read_parquet(place.table("requests"), hive_partitioning=False)
    texts = requests.join(samples, on="request_id", how="semi")["text_id"].n_unique()
    assert f"Trained on {samples['request_id'].n_unique()} requests on {texts} texts of probe `pool`" in card.text
    assert "seed 7" in card.text
    assert '"learning_rate": 0.01' in card.text
    assert worn in card.text
    assert read_footer(str(place.table("training_samples", CELL))).content in card.text
    assert "None of the 12 texts" in card.text
    assert "--max-lora-rank 8" in card.text
    assert ModelCard.load(merged / "README.md").data.library_name == "transformers"
    assert "--enable-lora" not in (merged / "README.md").read_text()

    # answers of another adapter are no figures of this one
    outcomes = read(place, "outcomes", Outcomes)
    bare = outcomes.filter(pl.col("arm_id") != "headline")["arm_id"][0]
    other = outcomes.filter(arm_id=bare).select("request_id", "response_id")
    swapped = outcomes.filter(arm_id="headline").drop("response_id").join(other, on="request_id")
    rest = outcomes.filter(pl.col("arm_id") != "headline")
    change(place, "outcomes", Outcomes, pl.concat([swapped.select(outcomes.columns), rest]))
    assert exported(place, tmp_path / "stale") == 0
    assert "were written with another adapter" in capsys.readouterr().out
    card = (tmp_path / "stale" / "README.md").read_text()
    assert "Nothing was measured: the answers that lie there were written with another adapter." in card
    assert "under the same prompt" not in card
    change(place, "outcomes", Outcomes, outcomes)

    # a completion that was drawn for a request of the probe
    leaked = requests.filter(probe="main")["request_id"][0]
    text_id = requests.filter(request_id=leaked)["text_id"][0]
    first = pl.int_range(pl.len()) == 0
    spoilt = samples.with_columns(request_id=pl.when(first).then(pl.lit(leaked)).otherwise("request_id"))
    change(place, "training_samples", TrainingSamples, spoilt)
    _, result = place.materialize(GRID, CELL, raise_on_error=False)
    assert not result.success
    check = next(c for c in result.get_asset_check_evaluations() if c.check_name == "split_by_text")
    assert not check.passed
    assert check.blocking
    assert text_id in check.metadata["found"].value
    assert "1 texts of the test probes stand in what adapters are trained" in check.metadata["found"].value
    # nothing was made from it
    made = {e.materialization.asset_key.path[-1] for e in result.get_asset_materialization_events()}
    assert "adapters" in made
    assert not made & {"responses", "scores", "steerability_report"}


def test_an_adapter_from_elsewhere_that_was_not_measured_says_so(place, tmp_path, capsys):
    elsewhere = write_adapter(tmp_path / "lora", rank_pattern={"q_proj": 4}).folder
    config = elsewhere / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "org/other"}))
    part = {"kind": "adapter", "folder": str(elsewhere), "trial_texts": 3}
    place.configure(methods={"tuned": {"parts": [PROMPT, part]}})
    place.materialize('key:"small/fit_responses"', CELL)
    place.materialize('key:"small/adapters"', CELL)
    assert exported(place, tmp_path / "peft") == 0
    assert "its card says that nothing was measured" in capsys.readouterr().out
    card = (tmp_path / "peft" / "README.md").read_text()
    assert "Nothing was measured: tuned|embedded has no answers with scores on its probe yet" in card
    assert "It says of itself that it was trained on `org/other`." in card
    assert "What it was trained on is not known here." in card
    assert str(tmp_path) not in card
    # ranks of single layers, which vLLM would pass over, are in the weights of its own form
    assert "export it with `--as vllm`" in card
    assert exported(place, tmp_path / "vllm", "--as", "vllm") == 0
    assert "--max-lora-rank 8" in (tmp_path / "vllm" / "README.md").read_text()
    # other files than those that were recorded are not exported
    config.write_text(config.read_text().replace('"lora_alpha": 16', '"lora_alpha": 17'))
    assert exported(place, tmp_path / "changed") == 2
    assert "is not the one that was recorded" in capsys.readouterr().err
    assert not (tmp_path / "changed").exists()


def test_an_adapter_that_a_server_lists_is_a_method_in_one_line(place, tmp_path, capsys):
    models = yaml.safe_load((SHIPPED_CONFIG / "models.yaml").read_text())
    cell = "tuned|there"
    with serving(LISTED) as (address, asked):
        spec = attached(address).model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        (place.folder / "models.yaml").write_text(yaml.safe_dump({**models, "there": spec}))
        place.configure(
            methods={"tuned": {"parts": [PROMPT, {"kind": "adapter", "served": "formal", "trial_texts": 3}]}},
            models=["there"],
        )
        place.materialize(GRID, cell)
    rows = read(place, "adapters", Adapters, cell)
    assert rows.select("label", "folder", "rank", "recipe_hash").rows() == [("formal", "served://formal", None, "")]
    assert {b["model"] for p, b in asked if p == "/v1/completions"} == {"formal", "there"}
    assert not [p for p, _ in asked if "lora" in p]
    page = place.table("report", cell).with_name("report.html").read_text()
    assert "is taken on trust" in page
    assert exported(place, tmp_path / "out", cell=cell) == 2
    assert "is on a server (served://formal): its files are not here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_all_adapters_that_a_server_lists_are_arms_of_one_method(place, capsys):
    models = yaml.safe_load((SHIPPED_CONFIG / "models.yaml").read_text())
    cell = "tuned|there"
    own = [m for m in LISTED if m["id"] != "foreign"]
    with serving(own) as (address, asked):
        spec = attached(address).model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        (place.folder / "models.yaml").write_text(yaml.safe_dump({**models, "there": spec}))
        place.configure(
            methods={"tuned": {"parts": [PROMPT, {"kind": "adapter", "served": "*", "trial_texts": 3}]}},
            models=["there"],
        )
        bench = registry().bench("small")
        check_bench(bench, [c for c in all_cells(bench) if c.key == cell])
        place.materialize(GRID, cell)
    rows = read(place, "adapters", Adapters, cell)
    assert rows.select("step", "label", "folder").rows() == [
        (1, "brief", "served://brief"),
        (2, "formal", "served://formal"),
    ]
    assert {b["model"] for p, b in asked if p == "/v1/completions"} == {"brief", "formal", "there"}
    arms = read(place, "probe_arms", ProbeArms, cell)
    assert arms["label"].to_list() == ["as it is used", "without the adapter", "brief", "formal"]
    # names that say no step have no place on an axis of steps
    assert arms["position"].null_count() == 4
    trials = read(place, "checkpoint_trials", CheckpointTrials, cell)
    assert set(trials["step"]) == {-1, 1, 2}
    outcomes = read(place, "outcomes", Outcomes, cell)
    per_arm = dict(outcomes.group_by("arm_id").len().iter_rows())
    assert set(per_arm) == set(arms["arm_id"])
    assert len(set(per_arm.values())) == 1
    page = place.table("report", cell).with_name("report.html").read_text()
    assert "A server has them, as `brief` and `formal`" in page


def test_an_adapter_of_the_hub_is_measured_from_a_copy_and_fetched_once(place, tmp_path, monkeypatch):
    cache, asked = write_adapter(tmp_path / "cache").folder, []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *names, **_: asked.append(names) or str(cache))
    part = {"kind": "adapter", "hub": "org/lora", "revision": "0123abcd", "trial_texts": 3}
    place.configure(methods={"tuned": {"parts": [PROMPT, part]}})
    status, _ = place.materialize(GRID, CELL)
    assert status["adapters"] == status["responses"] == status["report"] == "written"
    rows = read(place, "adapters", Adapters)
    assert rows["label"].to_list() == ["org/lora@0123abcd"]
    kept = place.root / "small" / rows["folder"][0]
    assert Adapter.of(kept).digest == rows["adapter"][0] == Adapter.of(cache).digest
    shutil.rmtree(cache)
    assert set(place.materialize(GRID, CELL)[0].values()) == {"unchanged"}
    assert asked == [("org/lora",)]


def test_an_adapter_of_a_server_is_refused_where_there_is_no_such_server(place):
    for name in ("formal", "*"):
        place.configure(methods={"tuned": {"parts": [PROMPT, {"kind": "adapter", "served": name}]}})
        bench = registry().bench("small")
        with pytest.raises(ConfigError, match=rf"'{re.escape(name)}' is `served`, and embedded has no server"):
            check_bench(bench, all_cells(bench))
