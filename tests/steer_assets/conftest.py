"""A small bench of its own for the tests of the Dagster layer, on the embedded model."""

import tempfile

import dagster as dg
import pytest
import yaml

from steer_assets import settings
from steer_assets.build import build_definitions

TEXTS = [
    f"{who} {what} {where}. {end}"
    for who in ("The old baker", "My little sister", "A tired clerk", "The happy visitor", "Our neighbour")
    for what in ("sells bread", "reads a terrible book", "finds the committee's regulation", "sings a lovely song")
    for where in ("near the station", "in the municipal administration building", "at home")
    for end in ("Everybody is glad about it!", "It rains.", "Nobody knows why, although many have asked.")
]
BENCH = {
    "small": {
        "corpus": {"sources": [{"kind": "file", "name": "own", "path": "texts.csv", "column": "text"}], "min_words": 4},
        "goals": ["reading_difficulty", "text_length", "formality", "sentiment"],
        "probes": [
            {"name": "main", "n_texts": 12, "n_goals_per_text": 2, "active": 2, "weighting": "none"},
            {"name": "pool", "split": "train", "n_texts": 10, "n_goals_per_text": 2, "active": 1, "weighting": "none"},
        ],
        "train_probe": "pool",
        "models": ["embedded"],
        "methods": ["copy", "rewrite", "direct", "few-shot"],
        "decoding": {"max_new_tokens": 24},
        "batch_size": 8,
        "bootstrap": 100,
        "permutations": 10,
    }
}


class Workplace:
    """A storage root, a configuration, and a Dagster instance of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "root"
        self.instance = dg.DagsterInstance.ephemeral()
        self.bench = BENCH["small"]
        (folder / "texts.csv").write_text("text\n" + "\n".join(f'"{t}"' for t in TEXTS))
        self.configure()

    def configure(self, methods=None, **changes):
        """(Re)write the configuration and forget what was read before."""
        self.bench = {**self.bench, **changes}
        (self.folder / "benches.yaml").write_text(yaml.safe_dump({"small": self.bench}))
        (self.folder / "methods.yaml").write_text(yaml.safe_dump(methods or {}))
        for kind in ("goals", "models", "probes"):
            target = self.folder / f"{kind}.yaml"
            if not target.exists():
                target.write_text((settings.SHIPPED_CONFIG / f"{kind}.yaml").read_text())
        shipped = yaml.safe_load((settings.SHIPPED_CONFIG / "methods.yaml").read_text())
        (self.folder / "methods.yaml").write_text(yaml.safe_dump({**shipped, **(methods or {})}))
        settings.registry.cache_clear()

    def materialize(self, select="*", cell=None, raise_on_error=True, config=None):
        """Run a selection; returns {table: status} and the result."""
        defs = build_definitions(dg.in_process_executor, location="test")
        job = defs.resolve_implicit_global_asset_job_def()
        keys = dg.AssetSelection.from_string(select).resolve(defs.resolve_all_asset_specs() and list(defs.assets))
        result = job.execute_in_process(
            instance=self.instance,
            partition_key=cell,
            asset_selection=list(keys),
            raise_on_error=raise_on_error,
            run_config=config or {},
        )
        return self.status(result.get_asset_materialization_events()), result

    def status(self, events):
        """{table: status} of materializations, without the tables that a cell does not have."""
        facts = [r.data for e in events for r in e.materialization.metadata["tables"].records]
        return {f["table"]: f["status"] for f in facts if f["status"] != "not here"}

    def table(self, name, cell=None):
        """Path of a published table."""
        folder = self.root / "small" / name
        if cell:
            method, model = cell.split("|")
            folder = folder / f"model={model}" / f"method={method}"
        return folder / "part.parquet"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    # the lease on a device is a file there: tests of other workers must not wait for this one
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("STEERWORKS_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("STEERWORKS_CONFIG", str(tmp_path))
    yield Workplace(tmp_path)
    settings.registry.cache_clear()
