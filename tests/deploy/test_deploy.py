"""The files of `deploy/`: what can be known of them without a cluster and without Docker."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from dagster._config import validate_config
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext

from tests.postgres_server import postgres

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def render():
    spec = importlib.util.spec_from_file_location("render", DEPLOY / "kubernetes" / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_object_keeps_the_schema_of_kubernetes(render):
    from kubernetes import client

    objects = render.rendered("steerworks:1")
    plain = client.ApiClient(client.Configuration()).sanitize_for_serialization
    runs = [plain(render.a_run("steerworks:1", gpus=n)) for n in (0, 1)]
    for one in [*objects, *runs]:
        kubernetes_validate.validate(one, "1.31", strict=True)
    broken = json.loads(json.dumps(runs[1]))
    broken["spec"]["backofLimit"] = broken["spec"].pop("backoffLimit")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.31", strict=True)
    kinds = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert ("Deployment", "daemon") in kinds
    assert len(kinds) == len(set(kinds))


def test_a_run_that_wants_a_gpu_gets_one_and_is_left_to_dagster(render):
    job = render.a_run("steerworks:1", gpus=1)
    pod = job.spec.template.spec
    assert job.spec.backoff_limit == 0
    assert job.spec.ttl_seconds_after_finished >= 24 * 3600
    assert pod.restart_policy == "Never"
    assert pod.termination_grace_period_seconds >= 60
    assert pod.containers[0].resources.limits["nvidia.com/gpu"] == "1"
    assert pod.node_selector == {"nvidia.com/gpu.present": "true"}
    assert render.a_run("steerworks:1").spec.template.spec.containers[0].resources.limits == {"memory": "32Gi"}


def test_what_a_location_asks_for_is_read_by_dagster(render):
    gpu = next(o for o in render.rendered("i") if o["kind"] == "Deployment" and o["metadata"]["name"] == "code-gpu")
    environment = {e["name"]: e.get("value") for e in gpu["spec"]["template"]["spec"]["containers"][0]["env"]}
    context = K8sContainerContext.create_from_config(json.loads(environment["DAGSTER_CONTAINER_CONTEXT"]))
    assert context.run_k8s_config.container_config["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert context.run_k8s_config.job_spec_config["backoff_limit"] == 0


def test_the_launcher_is_configured_as_dagster_k8s_wants_it(render):
    launcher = yaml.safe_load(render.dagster_yaml())["run_launcher"]
    assert launcher == render.launcher()
    found = validate_config(K8sRunLauncher.config_type(), launcher["config"])
    assert found.success, found.errors


def test_the_instance_is_loaded_as_it_is_written(tmp_path, monkeypatch):
    from dagster import DagsterInstance
    from sqlalchemy.engine import make_url

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with postgres() as uri:
        url = make_url(uri)
        # a server of its own answers at a socket of the file system
        where = url.query.get("host") or f"{url.host}:{url.port}"
        for name, value in {
            "HOST": "localhost",
            "USER": url.username,
            "PASSWORD": url.password or "",
            "DB": url.database,
        }.items():
            monkeypatch.setenv(f"STEERWORKS_PG_{name}", value)
        settings = (DEPLOY / "dagster.yaml").read_text()
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "dagster.yaml").write_text(
            settings.replace("port: 5432", f"port: 5432\n      params: {{host: '{where}'}}")
        )
        with DagsterInstance.from_config(str(tmp_path / "home")) as instance:
            assert type(instance.event_log_storage).__name__.startswith("Postgres")
            assert instance.get_runs() == []
            queue = instance.get_concurrency_config().run_queue_config
            assert queue.max_concurrent_runs == 16
            assert [limit["key"] for limit in queue.tag_concurrency_limits] == [
                "dagster/partition/model", "steerworks/compute",
            ]  # fmt: skip
            assert instance.run_retries_enabled
            assert instance.get_settings("run_retries")["retry_on_asset_or_op_failure"] is False
            assert instance.run_monitoring_enabled
            assert instance.run_monitoring_max_resume_run_attempts == 0
            assert instance.get_settings("telemetry") == {"enabled": False}


def test_runs_carry_the_tags_that_the_queue_counts_by():
    from steer_assets.gpu import defs

    limits = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["concurrency"]["runs"]["tag_concurrency_limits"]
    (by_value,) = [limit for limit in limits if isinstance(limit["value"], str)]
    job = defs.resolve_job_def("tales_cell")
    assert job.tags[by_value["key"]] == by_value["value"]
    # the other key is what Dagster gives to a run of a partition
    assert job.partitions_def.partition_dimension_names == ["method", "model"]


def test_compose_names_what_exists():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            assert other in services, (name, other)
            assert "healthcheck" in services[other], other
    # every setting that is asked for has a line in the example
    example = {
        line.split("=")[0].lstrip("#") for line in (DEPLOY / "example.env").read_text().splitlines() if "=" in line
    }
    text = (DEPLOY / "compose.yaml").read_text() + (DEPLOY / "dagster.yaml").read_text()
    assert set(re.findall(r"STEERWORKS_PG_\w+", text)) <= example
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    assert {w["grpc_server"]["host"] for w in workspace} == {s for s in services if s.startswith("code-")}
    for server in workspace:
        name = server["grpc_server"]["host"]
        assert f"-m steer_assets.{server['grpc_server']['location_name']}" in services[name]["command"]


def test_the_image_copies_and_installs_what_there_is():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", "\n".join(lines))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)
