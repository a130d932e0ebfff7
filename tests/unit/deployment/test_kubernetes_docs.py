"""The YAML of docs/kubernetes is valid Kubernetes and speaks the chart's and Airflow's words."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.unit.deployment.chart_values import FRAGMENTS, FREE, KNOWN
from tests.unit.deployment.deployed import (
    ENV_FILES,
    KUBERNETES,
    ROOT,
    known_options,
    read_env,
    services,
    unknown_settings,
)

PAGE = ROOT / "docs" / "kubernetes.md"
VALUES = sorted(KUBERNETES.glob("values-*.yaml"))
MANIFESTS = sorted({*KUBERNETES.glob("*.yaml")} - {*VALUES})
TEMPLATES = sorted(KUBERNETES.glob("pod-template-*.yaml"))


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def is_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of all that the chart is told."""
    for name, value in values.items():
        path = f"{above}{name}"
        if path in FREE or name in FRAGMENTS or not isinstance(value, dict):
            yield path, value
        else:
            yield from leaves(value, f"{path}.")


def pod_of(values: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a pod of the fragments that the chart puts into a worker."""
    workers = values["workers"][kind]
    container = {
        "name": "base", "image": "image:1", "env": values["env"],
        "resources": workers["resources"], "volumeMounts": workers["extraVolumeMounts"],
    }  # fmt: skip
    grace = workers["terminationGracePeriodSeconds"]
    spec = {"containers": [container], "volumes": workers["extraVolumes"],
            "terminationGracePeriodSeconds": grace}  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker"}, "spec": spec}


def worker_pods() -> list[dict[str, Any]]:
    """Return the pods in which tasks run, of templates and of values."""
    kinds = {"CeleryExecutor": "celery", "KubernetesExecutor": "kubernetes"}
    values = [load(path) for path in VALUES]
    return [load(path) for path in TEMPLATES] + [pod_of(v, kinds[v["executor"]]) for v in values]


def variables(pod: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_are_valid(path: Path) -> None:
    is_valid(load(path))


def test_a_wrong_manifest_would_be_noticed() -> None:
    pod = load(TEMPLATES[0])
    pod["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        is_valid(pod)


def test_what_values_put_into_pods_is_valid() -> None:
    for pod in worker_pods():
        is_valid(pod)


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_values_have_names_that_the_chart_knows(path: Path) -> None:
    assert {name for name, _ in leaves(load(path))} - FREE - KNOWN == set()


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_resources_outside_of_workers_are_valid(path: Path) -> None:
    told = [value for name, value in leaves(load(path)) if name.endswith(".resources")]
    assert len(told) == 5
    for resources in told:
        container = {"name": "a", "image": "a:1", "resources": resources}
        is_valid({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                  "spec": {"containers": [container]}})  # fmt: skip


def test_variables_are_ones_that_airflow_knows() -> None:
    for pod in worker_pods():
        assert unknown_settings(list(variables(pod))) == []


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_config_is_one_that_airflow_knows(path: Path) -> None:
    config = load(path)["config"]
    told = {(section.upper(), key.upper()) for section, keys in config.items() for key in keys}
    assert told
    assert told - known_options() == set()


def test_settings_are_those_of_the_compose_file() -> None:
    compose = read_env(ENV_FILES["airflow"])
    differ = {"AIRFLOW__CORE__EXECUTOR", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"}
    for pod in worker_pods():
        told = {name: value for name, value in variables(pod).items()
                if name in compose.keys() - differ}  # fmt: skip
        assert len(told) >= 2
        assert told == {name: compose[name] for name in told}


def test_every_mount_has_its_volume_and_scratch_is_bounded() -> None:
    for pod in worker_pods():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in
                  pod["spec"]["containers"][0]["volumeMounts"]}  # fmt: skip
        assert mounts.keys() == volumes.keys()
        assert mounts["scratch"] == "/scratch"
        assert re.fullmatch(r"\d+Gi", volumes["scratch"]["emptyDir"]["sizeLimit"])


def test_bucket_only_shares_nothing_and_a_shared_folder_is_the_claim() -> None:
    claim = load(KUBERNETES / "data-claim.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in worker_pods():
        claims = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"]["volumes"]
                  if "persistentVolumeClaim" in volume}  # fmt: skip
        in_bucket = variables(pod)["AIRFLOW_VAR_IMAGENET_DATA_DIR"].startswith("s3://")
        assert claims == (set() if in_bucket else {claim["metadata"]["name"]})


def test_templates_run_as_the_images_user_in_the_container_that_airflow_means() -> None:
    for path in TEMPLATES:
        spec = load(path)["spec"]
        assert spec["containers"][0]["name"] == "base"
        assert spec["restartPolicy"] == "Never"
        assert spec["securityContext"]["runAsUser"] == 50000
        assert spec["securityContext"]["runAsNonRoot"] is True


def test_celery_workers_start_no_more_processes_than_they_have_cores() -> None:
    # Packing asks the limit, and without one takes the node's cores.
    resources = load(KUBERNETES / "values-shared-folder.yaml")["workers"]["celery"]["resources"]
    assert resources["limits"]["cpu"] == resources["requests"]["cpu"]


def test_celery_workers_serve_the_same_queues_as_in_compose() -> None:
    queue = load(KUBERNETES / "values-shared-folder.yaml")["workers"]["celery"]["queue"]
    line = services()["worker"]["command"]
    assert queue == line[line.index("--queues") + 1]


def test_resources_by_kind_of_task_are_ones_that_operators_know() -> None:
    from imagenet_operators.pods import KINDS, VARIABLE, pod_resources

    env = {one["name"]: one["value"] for one in load(KUBERNETES / "values-bucket.yaml")["env"]}
    asked = pod_resources(env[VARIABLE])
    assert asked.keys() == set(KINDS)
    for wanted in asked.values():
        resources = {"requests": wanted, "limits": wanted}
        container = {"name": "base", "image": "a:1", "resources": resources}
        is_valid({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                  "spec": {"containers": [container]}})  # fmt: skip


def test_connections_are_json() -> None:
    for pod in worker_pods():
        assert json.loads(variables(pod)["AIRFLOW_CONN_AWS_DEFAULT"])["conn_type"] == "aws"


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_no_user_with_a_known_password_is_made(path: Path) -> None:
    assert load(path)["createUserJob"] == {"enabled": False}


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_the_page_tells_how_to_make_each_secret(path: Path) -> None:
    page = PAGE.read_text()
    names = [value for name, value in leaves(load(path)) if name.endswith("SecretName")]
    assert len(names) == 4
    for name in names:
        assert f"create secret generic {name} " in page


def test_the_page_leads_to_every_file_and_to_none_that_is_missing() -> None:
    named = set(re.findall(r"kubernetes/([\w.-]+\.yaml)", PAGE.read_text()))
    assert named == {path.name for path in KUBERNETES.glob("*.yaml")}
