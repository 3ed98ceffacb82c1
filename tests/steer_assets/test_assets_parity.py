"""`parity/claims`: a check a family, what is missing in the metadata, and the command that prints the table."""

import dagster as dg
import pytest
import yaml

from schemas import Parity
from steer_assets import parity
from steer_assets.__main__ import main
from steer_assets.io import read_published
from steer_core.evaluation.parity import Claim, File
from steer_core.registry import load_registry
from steer_core.tables.errors import ConfigError


def claim(name, ours, *needs):
    return Claim(name, "what", "a paper", {"S": "0.5"}, lambda supplies: {"S": ours}, needs)


@pytest.fixture
def claims(monkeypatch):
    """Families of few claims, which tests replace."""
    from steer_core.front import parity as front

    known = {family: [claim(f"one-of-{family}", 0.5)] for family in parity.FAMILIES}
    monkeypatch.setattr(front, "all_claims", lambda: known)
    return known


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERWORKS_ROOT", str(tmp_path))
    monkeypatch.delenv("STEERWORKS_SAMPLE_DATA", raising=False)
    return tmp_path


def materialize():
    return dg.materialize([parity.parity_asset()], raise_on_error=False)


def checks(result):
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def test_all_that_ships_is_reproduced_and_what_is_missing_is_in_the_metadata(root):
    result = materialize()
    assert result.success
    rows = read_published(str(root / "parity/claims/part.parquet"), Parity)
    found = checks(result)
    assert set(found) == set(parity.FAMILIES)
    assert all(e.passed for e in found.values())
    # nothing of this family could be run: that is no failure, and is said
    said = found["vectors"].metadata
    assert said["figures reproduced"].value == 0
    assert said["figures not run"].value == rows.filter(family="vectors").height
    lacking = {r.data["claim"]: r.data["why"] for r in said["not run for lack of"].records}
    assert "vec_ep20_layer15.pt" in lacking["bipo-power-seeking"]
    assert (
        found["probes"].metadata["figures reproduced"].value == rows.filter(status="reproduced", family="probes").height
    )


def test_what_differs_fails_the_check_of_its_family_and_of_no_other(root, claims):
    claims["probes"] = [claim("wrong", 0.7), claim("missing", 0.5, File("a.csv", "the hub"))]
    found = checks(materialize())
    assert {name for name, e in found.items() if not e.passed} == {"probes"}
    (record,) = found["probes"].metadata["differs"].records
    assert (record.data["claim"], record.data["ours"]) == ("wrong", 0.7)
    assert record.data["difference"] == pytest.approx(0.2)
    assert found["probes"].severity is dg.AssetCheckSeverity.ERROR


def test_a_model_that_differs_is_a_warning(root, claims, capsys):
    claims["models"] = [claim("other answers", 0.1)]
    found = checks(materialize())["models"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert main(["parity"]) == 0
    assert "differs" in capsys.readouterr().out


def test_it_is_made_anew_each_time(root, claims):
    materialize()
    claims["metrics"] = [claim("new", 0.5)]
    assert materialize().success
    rows = read_published(str(root / "parity/claims/part.parquet"), Parity)
    assert rows.filter(family="metrics")["claim"].to_list() == ["new"]


def test_the_command_prints_the_table_and_fails_where_a_number_differs(root, claims, capsys):
    claims["vectors"] = [claim("missing", 0.5, File("a.csv", "the hub"))]
    assert main(["parity"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["family", "claim", "figure", "published", "ours", "difference", "tolerance", "status"]
    assert any(line.startswith("missing: not run, needs a.csv (the hub)") for line in said)
    assert said[-1] == "Figures: 6 reproduced, 0 differs, 1 not run"
    claims["metrics"] = [claim("wrong", 0.7)]
    assert main(["parity"]) == 1
    assert main(["parity", "--family", "probes"]) == 0


def test_cells_are_read_from_the_storage_root(root):
    assert parity._rows_of("steerbench", "steerability", "direct|small") is None
    materialize()
    from shutil import copy

    place = root / "steerbench/parity/model=small/method=direct/part.parquet"
    place.parent.mkdir(parents=True)
    copy(root / "parity/claims/part.parquet", place)
    assert parity._rows_of("steerbench", "parity", "direct|small").height > 100


def test_no_bench_takes_its_name(tmp_path):
    (tmp_path / "benches.yaml").write_text(yaml.safe_dump({"parity": {"goals": ["formality"]}}))
    with pytest.raises(ConfigError, match="entry 'parity': the name has a meaning of its own"):
        load_registry([tmp_path])
