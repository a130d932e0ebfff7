"""docker-compose.yaml holds what it promises; no Docker is needed to tell."""

import importlib
import re
import subprocess
import sys
from typing import Any

from tests.unit.deployment.deployed import (
    COMPOSE_FILE,
    ROOT,
    airflow_command_exists,
    compose,
    defaulted,
    services,
)

ONE_SHOT = {"data-owner", "airflow-init", "aws-init"}
OWN_IMAGE = {name for name, one in services().items() if one["image"].startswith("imagenet-etl:")}


def words(command: Any) -> list[str]:
    return [defaulted(str(word)).replace("$$", "$") for word in command]


def test_matches_the_compose_specification() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
         str(COMPOSE_FILE)], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_holds_airflows_services_two_stores_and_a_worker() -> None:
    always = {name for name, one in services().items() if not one.get("profiles")}
    assert always == {
        "postgres", "redis", "data-owner", "airflow-init", "api-server", "scheduler",
        "dag-processor", "triggerer", "worker",
    }  # fmt: skip


def test_every_airflow_command_is_one_that_airflow_has() -> None:
    lines = [words(one["command"]) for name, one in services().items() if name in OWN_IMAGE]
    lines += [words(one["healthcheck"]["test"])[1:] for one in services().values()
              if "healthcheck" in one]  # fmt: skip
    asked = [line[1:] for line in lines if line[0] == "airflow"]
    assert len(asked) == 7  # five services, two of them asked for their job
    assert [line for line in asked if not airflow_command_exists(line)] == []


def test_a_mistyped_airflow_command_would_be_noticed() -> None:
    assert not airflow_command_exists(["celery", "wroker"])
    assert not airflow_command_exists(["jobs", "check", "--job-type", "WorkerJob"])


def test_every_mounted_volume_and_network_is_declared_and_used() -> None:
    mounted = set()
    for one in services().values():
        for volume in one.get("volumes", []):
            source, _, target = defaulted(volume).rpartition(":")
            assert target.startswith("/")
            mounted |= {source} - {""}
    assert mounted == set(compose()["volumes"])
    joined = {name for one in services().values() for name in one.get("networks", ["default"])}
    assert joined == set(compose()["networks"])


def test_every_anchor_is_used() -> None:
    text = COMPOSE_FILE.read_text()
    assert set(re.findall(r": &([\w-]+)", text)) == set(re.findall(r"(?<![\w/])\*([\w-]+)", text))


def test_files_named_in_it_exist() -> None:
    for one in services().values():
        if file := one.get("env_file"):
            assert (ROOT / file).is_file()
        for word in one.get("command", []):
            if str(word).startswith("/opt/airflow/"):
                assert (ROOT / word.removeprefix("/opt/airflow/")).is_file()


def test_python_in_healthchecks_is_python() -> None:
    programs = [one["healthcheck"]["test"] for one in services().values() if "healthcheck" in one]
    python = [words(test)[3] for test in programs if test[1] == "python"]
    assert len(python) == 3
    for text in python:
        compile(text, "healthcheck", "exec")


def test_workers_are_asked_through_an_app_that_imports() -> None:
    test = services()["worker"]["healthcheck"]["test"][1]
    asked = re.search(r"--app (\S+)\.app inspect ping", test)
    assert asked
    assert importlib.import_module(asked[1]).app.control.ping


def test_every_long_running_service_is_watched_and_restarted() -> None:
    for name, one in services().items():
        assert ("healthcheck" in one) == (name not in ONE_SHOT), name
        assert one["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name


def test_every_service_has_limits() -> None:
    for name, one in services().items():
        limits = one["deploy"]["resources"]["limits"]
        assert float(defaulted(limits["cpus"])) > 0, name
        assert re.fullmatch(r"\d+[mg]", defaulted(limits["memory"])), name


def test_images_are_pinned_to_a_version() -> None:
    for name, one in services().items():
        tag = one["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+", tag), name


def test_nothing_but_the_one_that_gives_the_folder_away_is_root() -> None:
    assert {name for name in OWN_IMAGE if services()[name]["user"] != "50000:0"} == {"data-owner"}
    assert services()["data-owner"]["network_mode"] == "none"
    for name in OWN_IMAGE:
        assert services()[name]["cap_drop"] == ["ALL"]


def test_workers_can_be_scaled() -> None:
    for one in services().values():
        assert "container_name" not in one
        assert "hostname" not in one
    worker = services()["worker"]
    assert "ports" not in worker
    assert "/scratch" in worker["volumes"]


def test_only_the_web_page_and_the_metrics_are_published_and_on_the_loopback() -> None:
    published = {name: one["ports"] for name, one in services().items() if "ports" in one}
    assert set(published) == {"api-server", "statsd"}
    for port in (port for ports in published.values() for port in ports):
        assert defaulted(port).startswith("127.0.0.1:")


def test_stores_are_not_reached_from_outside() -> None:
    assert compose()["networks"]["backend"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert services()[name]["networks"] == ["backend"]


def test_what_a_service_waits_for_exists_and_can_come_true() -> None:
    for one in services().values():
        for other, how in one.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how["condition"] == wanted
            # Compose refuses to wait for a service whose profile is off, unless told.
            profiles = set(services()[other].get("profiles", [])) - set(one.get("profiles", []))
            assert profiles == set() or how["required"] is False


def test_a_service_that_ends_is_waited_for_by_one_that_stays() -> None:
    # `up --wait` takes any other one for failed: docker/compose#10596.
    awaited = {other for one in services().values() for other in one.get("depends_on", {})}
    assert awaited >= ONE_SHOT


def test_workers_serve_the_queues_that_the_operators_use() -> None:
    from airflow.dag_processing.dagbag import DagBag

    line = words(services()["worker"]["command"])
    served = set(line[line.index("--queues") + 1].split(","))
    dags = DagBag(str(ROOT / "dags")).dags.values()
    assert {task.queue for dag in dags for task in dag.tasks} == served


def test_moto_is_the_version_that_the_tests_use() -> None:
    pinned = re.search(r"^moto\[server\]==(.+)$", (ROOT / "requirements-dev.txt").read_text(), re.M)
    assert pinned
    assert services()["aws"]["image"] == f"motoserver/moto:{pinned[1]}"


def test_the_image_has_the_version_of_the_project() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version
    assert {services()[name]["image"] for name in OWN_IMAGE} == {f"imagenet-etl:{version[1]}"}
