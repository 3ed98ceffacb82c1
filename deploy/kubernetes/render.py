"""The Kubernetes objects of a deployment, as YAML: `python deploy/kubernetes/render.py [--image IMAGE]`.

Runs are launched by dagster-k8s: `runs` is what a code location asks for, and `a_run` the job that dagster-k8s makes of
it. Objects are built from the models of the Kubernetes client, so a field that does not exist cannot be written; the
tests hold each against the published schema. None of this was applied to a cluster.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
from kubernetes import client as k8s

#: Seconds after which a finished job is removed: beyond the longest step, or one that has just succeeded is taken away.
TTL = 7 * 24 * 3600
#: Seconds between SIGTERM and SIGKILL: a batch of answers reaches the journal in that time.
GRACE = 120
SECRET, CONFIG, ACCOUNT = "steerworks-secrets", "steerworks-dagster", "steerworks"
HOME = "/opt/dagster/home"
HERE = Path(__file__).parent


def runs(*, gpus: int = 0) -> dict[str, Any]:
    """`run_k8s_config` of a code location: what each of its runs asks for.

    Args:
        gpus: accelerators of a run.
    """
    resources: dict[str, Any] = {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "32Gi"}}
    pod: dict[str, Any] = {"termination_grace_period_seconds": GRACE, "restart_policy": "Never"}
    if gpus:
        resources["limits"]["nvidia.com/gpu"] = gpus
        pod["node_selector"] = {"nvidia.com/gpu.present": "true"}
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "container_config": {"resources": resources},
        "pod_spec_config": pod,
        # a pod that Kubernetes itself starts again finds its step begun, and leaves it so for ever: Dagster retries
        "job_spec_config": {"backoff_limit": 0, "ttl_seconds_after_finished": TTL},
    }


def a_run(image: str, *, gpus: int = 0) -> k8s.V1Job:
    """The job that dagster-k8s makes for one run of a location."""
    config = DagsterK8sJobConfig(
        job_image=image,
        dagster_home=HOME,
        service_account_name=ACCOUNT,
        instance_config_map=CONFIG,
        env_secrets=[SECRET],
    )
    return construct_dagster_k8s_job(
        job_config=config,
        args=["dagster", "api", "execute_run", "..."],
        job_name="dagster-run-example",
        user_defined_k8s_config=UserDefinedDagsterK8sConfig.from_dict(runs(gpus=gpus)),
        component="run_worker",
    )


def launcher() -> dict[str, Any]:
    """`run_launcher` of `dagster.yaml`."""
    return {
        "module": "dagster_k8s",
        "class": "K8sRunLauncher",
        "config": {
            "service_account_name": ACCOUNT,
            "instance_config_map": CONFIG,
            "dagster_home": HOME,
            "env_secrets": [SECRET],
            "job_namespace": {"env": "STEERWORKS_NAMESPACE"},
            # the pod of a run that failed is told apart from one that did not
            "fail_pod_on_run_failure": True,
        },
    }


def dagster_yaml() -> str:
    """The `dagster.yaml` of compose, with runs as jobs."""
    settings = yaml.safe_load((HERE.parent / "dagster.yaml").read_text())
    return yaml.safe_dump({**settings, "run_launcher": launcher()}, sort_keys=False)


def objects(image: str) -> list[Any]:
    """All objects of the deployment but for secret and database, which are yours."""
    code = {
        "code-cpu": ("steer_assets.cpu", runs()),
        "code-gpu": ("steer_assets.gpu", runs(gpus=1)),
    }
    workspace = (HERE.parent / "workspace.yaml").read_text()
    made: list[Any] = [
        k8s.V1ServiceAccount(api_version="v1", kind="ServiceAccount", metadata=_named(ACCOUNT)),
        k8s.V1Role(
            api_version="rbac.authorization.k8s.io/v1",
            kind="Role",
            metadata=_named(ACCOUNT),
            rules=[
                k8s.V1PolicyRule(api_groups=["batch"], resources=["jobs", "jobs/status"], verbs=["*"]),
                k8s.V1PolicyRule(
                    api_groups=[""],
                    resources=["pods", "pods/log", "pods/status", "events"],
                    verbs=["get", "list", "watch"],
                ),
            ],
        ),
        k8s.V1RoleBinding(
            api_version="rbac.authorization.k8s.io/v1",
            kind="RoleBinding",
            metadata=_named(ACCOUNT),
            role_ref=k8s.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name=ACCOUNT),
            subjects=[k8s.RbacV1Subject(kind="ServiceAccount", name=ACCOUNT)],
        ),
        k8s.V1ConfigMap(
            api_version="v1",
            kind="ConfigMap",
            metadata=_named(CONFIG),
            data={"dagster.yaml": dagster_yaml(), "workspace.yaml": workspace},
        ),
    ]
    for name, (module, asked) in code.items():
        command = ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "4000", "-m", module]
        environment = {
            "DAGSTER_CONTAINER_CONTEXT": json.dumps({"k8s": {"run_k8s_config": asked}}),
            "DAGSTER_CURRENT_IMAGE": image,
            # sensors of watched folders have the locations loaded again there
            "STEERWORKS_WEBSERVER": "http://webserver:3000",
        }
        health = ["dagster", "api", "grpc-health-check", "-p", "4000"]
        made += [_deployment(name, image, command, environment, 4000, health), _service(name, 4000)]
    workspace_file = ["-w", f"{HOME}/workspace.yaml"]
    made += [
        _deployment(
            "webserver", image, ["dagster-webserver", "-h", "0.0.0.0", "-p", "3000", *workspace_file], {}, 3000
        ),
        _service("webserver", 3000),
        _deployment(
            "daemon",
            image,
            ["dagster-daemon", "run", *workspace_file],
            {},
            None,
            ["dagster-daemon", "liveness-check"],
        ),
    ]
    return made


def _named(name: str) -> k8s.V1ObjectMeta:
    return k8s.V1ObjectMeta(name=name, labels={"app.kubernetes.io/part-of": "steerworks"})


def _deployment(
    name: str,
    image: str,
    command: list[str],
    environment: dict[str, str],
    port: int | None,
    health: list[str] | None = None,
) -> k8s.V1Deployment:
    namespace = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="metadata.namespace"))
    probe = (
        k8s.V1Probe(_exec=k8s.V1ExecAction(command=health), period_seconds=60, timeout_seconds=30)
        if health
        else k8s.V1Probe(http_get=k8s.V1HTTPGetAction(path="/server_info", port=port), period_seconds=20)
    )
    probe.initial_delay_seconds = 60
    container = k8s.V1Container(
        name=name,
        image=image,
        command=command,
        env=[
            *(k8s.V1EnvVar(name=k, value=v) for k, v in environment.items()),
            k8s.V1EnvVar(name="STEERWORKS_NAMESPACE", value_from=namespace),
        ],
        env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=SECRET))],
        ports=[k8s.V1ContainerPort(container_port=port)] if port else None,
        liveness_probe=probe,
        resources=k8s.V1ResourceRequirements(requests={"cpu": "500m", "memory": "2Gi"}, limits={"memory": "4Gi"}),
        # the files, not the folder: Dagster writes beside them
        volume_mounts=[
            k8s.V1VolumeMount(name="dagster", mount_path=f"{HOME}/{file}", sub_path=file)
            for file in ("dagster.yaml", "workspace.yaml")
        ],
    )
    labels = {"app.kubernetes.io/part-of": "steerworks", "app.kubernetes.io/name": name}
    return k8s.V1Deployment(
        api_version="apps/v1",
        kind="Deployment",
        metadata=_named(name),
        spec=k8s.V1DeploymentSpec(
            # two daemons would launch what is scheduled twice
            replicas=1,
            strategy=k8s.V1DeploymentStrategy(type="Recreate"),
            selector=k8s.V1LabelSelector(match_labels=labels),
            template=k8s.V1PodTemplateSpec(
                metadata=k8s.V1ObjectMeta(labels=labels),
                spec=k8s.V1PodSpec(
                    service_account_name=ACCOUNT,
                    containers=[container],
                    volumes=[k8s.V1Volume(name="dagster", config_map=k8s.V1ConfigMapVolumeSource(name=CONFIG))],
                ),
            ),
        ),
    )


def _service(name: str, port: int) -> k8s.V1Service:
    return k8s.V1Service(
        api_version="v1",
        kind="Service",
        metadata=_named(name),
        spec=k8s.V1ServiceSpec(
            selector={"app.kubernetes.io/name": name}, ports=[k8s.V1ServicePort(port=port, target_port=port)]
        ),
    )


def rendered(image: str) -> list[dict[str, Any]]:
    """The objects as plain data, as `kubectl` reads them."""
    plain = k8s.ApiClient(k8s.Configuration()).sanitize_for_serialization
    return [plain(o) for o in objects(image)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="steerworks:latest")
    print(yaml.safe_dump_all(rendered(parser.parse_args().image), sort_keys=False), end="")
