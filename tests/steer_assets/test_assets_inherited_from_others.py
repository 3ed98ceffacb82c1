"""Inheritance from several models as a cell: planned and priced for each, refused by name, and followed by what they are."""

import logging

import pytest
import yaml
from fake_endpoint import Servers

from schemas import Adapters, TrainingLog, TrainingSamples
from schemas.digest import digest_json
from schemas.recipes import InheritanceRecipe
from steer_assets import compute
from steer_assets.asked_models import models_asked
from steer_assets.assets import nodes_of
from steer_assets.measuring import model_digest
from steer_assets.partitions import all_cells
from steer_assets.planned import plan_cells
from steer_assets.preflight import check_bench
from steer_assets.settings import registry, storage_root
from steer_assets.status import node_is_current
from steer_assets.tables import Work
from steer_core.generation.engines import token_counter
from steer_core.steering import Message, Plan
from steer_core.tables.errors import ConfigError
from steer_core.tables.snapshot import read_table

CELL = "inherited|embedded"
RECIPE = {
    "kind": "inheritance",
    "preset": "embedded",
    "samples": 2,
    "max_new_tokens": 24,
    "objectives": [{"metric": "length", "direction": "max"}],
    "epochs": 1,
    "batch": 8,
    "checkpoints": 1,
    "lora": {"rank": 2},
}


@pytest.fixture
def place(workplace, tmp_path, monkeypatch):
    monkeypatch.setenv("STEERWORKS_CACHE", str(tmp_path / "cache"))
    servers = Servers()
    workplace.server, address = servers.serve()
    prices = {"prompt": 1000.0, "completion": 2000.0, "as_of": "2025-01-01"}

    def use(models=("embedded", "far"), **endpoint):
        far = {"base_url": address, "backoff": 0.005, "prices": prices, **endpoint}
        embedded = {"source": "embedded", "device": "cpu"}
        far = {"source": "served:far-1", "engine": "openai", "endpoint": far}
        (workplace.folder / "models.yaml").write_text(yaml.safe_dump({"embedded": embedded, "far": far}))
        adapter = {"kind": "adapter", "recipe": {**RECIPE, "models": list(models)}, "trial_texts": 7}
        workplace.bench = {**workplace.bench, "methods": ["direct", "inherited"], "models": ["embedded"]}
        workplace.configure(methods={"inherited": {"parts": [{"kind": "prompt", "strategy": "direct"}, adapter]}})
        bench = registry().bench("small")
        return bench, [c for c in all_cells(bench) if c.method.name == "inherited"]

    workplace.use = use
    yield workplace
    compute.let_go()
    servers.stop()


def test_each_model_is_planned_at_its_own_price_and_what_is_not_there_is_said(place):
    bench, cells = place.use()
    rows = {r["of"]: r for r in plan_cells(bench, cells)[0].iter_rows(named=True)}
    own, far = rows["fit, adapters of adapter"], rows["fit, adapters of adapter, by far"]
    pool = bench.probe("pool")
    answers = 2 * (pool.n_texts - 7) * pool.n_goals_per_text
    assert own["calls at most"] == far["calls at most"] == answers
    assert own["new tokens at most"] == far["new tokens at most"] == answers * 24
    assert own["cost at most"] is None
    # its prompts are paid, too: a prompt of the pool is some dozens of tokens
    counted = token_counter(registry().model("far"))(Plan("m", bench.decoding, (Message("user", "word " * 30),)))
    assert 0.3 < far["prompt tokens"] / (answers * counted) < 3
    assert far["cost at most"] == pytest.approx((far["prompt tokens"] * 1000 + answers * 24 * 2000) / 1e6)
    assert list(models_asked(cells[0])) == ["embedded", "far"]
    assert not place.server.requests
    # without its own answers, nothing is drawn from the model itself
    rows = {r["of"] for r in plan_cells(*place.use(models=["far"]))[0].iter_rows(named=True)}
    assert "fit, adapters of adapter" not in rows
    with pytest.raises(ConfigError, match=r"methods.yaml, entry 'inherited', part 'adapter' on embedded: .*'fra'.*far"):
        check_bench(*place.use(models=["embedded", "fra"]))
    with pytest.raises(ConfigError, match=r"entry 'inherited', .*nobody knows what 'far-1' costs"):
        check_bench(*place.use(max_cost=1.0, prices=None))
    with pytest.raises(ConfigError, match=r"models.yaml, entry 'far': .*FAR_KEY"):
        check_bench(*place.use(key="FAR_KEY"))


def test_what_others_wrote_is_in_the_tables_and_another_model_behind_the_name_is_another_adapter(place):
    place.use()
    place.materialize("group:small_shared")
    status, _ = place.materialize("key:small/adapters", CELL)
    assert status["adapters"] == "written"
    samples = read_table(str(place.table("training_samples", CELL)), TrainingSamples)
    n = 2 * 3 * 2
    assert dict(samples["model"].value_counts().iter_rows()) == {"embedded": n, "far": n}
    log = read_table(str(place.table("training_log", CELL)), TrainingLog)
    shares = dict(log.filter(log["measure"].str.starts_with("share:")).select("measure", "value").iter_rows())
    kept = samples.filter(state="kept")
    assert shares == {f"share:{m}": kept.filter(model=m).height / kept.height for m in ("embedded", "far")}
    assert len(place.server.requests) == n
    # the recipe's hash has what the other model is, and not only its name
    (hashed,) = read_table(str(place.table("adapters", CELL)), Adapters)["recipe_hash"]
    settings = InheritanceRecipe.model_validate({**RECIPE, "models": ["embedded", "far"]}).model_dump(mode="json")
    digest = {"written_by": {"far": model_digest(registry().model("far"))}}
    assert hashed == digest_json(settings | digest) != digest_json(settings)
    # where it answers and what it costs is no part of it; what it is, is
    assert current(*place.use(concurrency=2))
    assert not current(*place.use(body={"reasoning_effort": "low"}))


def current(bench, cells):
    nodes, (cell,) = nodes_of(bench), cells
    work = Work(bench, storage_root(), logging.getLogger(__name__)).of(cell)
    return node_is_current(next(n for n in nodes.all if n.name == "adapters"), work, nodes)
