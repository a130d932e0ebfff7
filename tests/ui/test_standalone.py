"""``scripts/standalone``: the DAG under LocalExecutor, driven through the REST API."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import ROOT
from tests.dags.conftest import served
from tests.support.airflow_runs import files_below
from tests.support.children import is_running, wait_until
from tests.support.ilsvrc import DEVKIT, TRAIN, VAL, build_sample, check_val_labels

from imagenet_etl.samples import SAMPLES, SampleSize
from imagenet_etl.verify import verify_folder

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

DAG = "tiny_imagenet"


@dataclass
class Airflow:
    """A running Airflow and the data folder that its Variable names."""

    http: httpx.Client
    data_dir: Path
    log: Path

    dag: str = DAG

    def trigger(self, **conf: Any) -> str:
        body = {"logical_date": None, "conf": conf}
        reply = self.http.post(f"/api/v2/dags/{self.dag}/dagRuns", json=body)
        return str(reply.raise_for_status().json()["dag_run_id"])

    def state(self, run: str) -> str:
        return str(self.http.get(f"/api/v2/dags/{self.dag}/dagRuns/{run}").json()["state"])

    def instances(self, run: str) -> list[dict[str, Any]]:
        reply = self.http.get(f"/api/v2/dags/{self.dag}/dagRuns/{run}/taskInstances").json()
        return list(reply["task_instances"])

    def tasks(self, run: str) -> dict[str, str]:
        return {ti["task_id"]: ti["state"] for ti in self.instances(run)}

    def finished(self, run: str) -> str:
        assert wait_until(lambda: self.state(run) in ("success", "failed"), 120), self.tasks(run)
        return self.state(run)

    def is_ready(self) -> bool:
        try:
            health = self.http.get("/api/v2/monitor/health").json()
            token = self.http.get("/auth/token").json()["access_token"]
            self.http.headers["Authorization"] = f"Bearer {token}"
            unpaused = self.http.patch(f"/api/v2/dags/{self.dag}", json={"is_paused": False})
        except (httpx.TransportError, ValueError, KeyError):
            return False
        return health["scheduler"]["status"] == "healthy" and unpaused.is_success


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("standalone")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Only what a user's shell would have: the script makes its own settings.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
    environment |= {"AIRFLOW_HOME": str(home), "AIRFLOW__API__PORT": str(port)}
    log = home / "standalone.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [ROOT / "scripts" / "standalone"], cwd=home, env=environment,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            running = Airflow(http, home / "data", log)
            assert wait_until(running.is_ready, 120), log.read_text()[-3000:]
            yield running
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    archive = tmp_path_factory.mktemp("archive") / "tiny-imagenet-200.zip"
    SAMPLES[DAG](archive, None, SampleSize(classes=10, train=120, val=10, test=0))
    large = {"resize": "short_edge:320", "upscale": True, "shards": 20}
    return {"source": str(archive), "expect": "any", **large}


def packers_of(airflow: Airflow) -> list[int]:
    """Return the packing processes that work for this Airflow."""
    mine = f"AIRFLOW_HOME={airflow.log.parent}".encode()
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
            if (
                b"imagenet_etl.pack_worker" in command
                and mine in (process / "environ").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue  # not a process, or gone by now
    return found


def test_triggered_run_ends_green_with_its_own_packing_processes(
    airflow: Airflow, conf: dict[str, Any]
) -> None:
    run = airflow.trigger(**conf, version="v1", workers=2)
    assert wait_until(lambda: len(packers_of(airflow)) == 2, 120), airflow.tasks(run)
    assert airflow.finished(run) == "success"
    assert packers_of(airflow) == []
    tasks = airflow.tasks(run)
    idle = ("filter_classes", "back_up_to_s3", "snapshot_ebs", "copy_snapshot", "share_snapshot",
            "prune")  # fmt: skip
    assert {tasks.pop(task) for task in idle} == {"skipped"}
    assert set(tasks.values()) == {"success"}
    assert verify_folder(airflow.data_dir / f"datasets/{DAG}/v1")["records"] == 1300


def test_cleared_task_does_not_repeat_its_work(airflow: Airflow, conf: dict[str, Any]) -> None:
    run = airflow.trigger(**conf, version="v1")
    assert airflow.finished(run) == "success"
    before = files_below(airflow.data_dir / f"datasets/{DAG}/v1")
    body = {"dry_run": False, "dag_run_id": run, "task_ids": ["pack"], "only_failed": False,
            "include_downstream": True}  # fmt: skip
    airflow.http.post(f"/api/v2/dags/{DAG}/clearTaskInstances", json=body).raise_for_status()
    assert airflow.finished(run) == "success"
    assert set(airflow.tasks(run).values()) == {"skipped"}
    assert files_below(airflow.data_dir / f"datasets/{DAG}/v1") == before


def test_cancelled_task_leaves_no_process_and_its_work_is_kept(
    airflow: Airflow, conf: dict[str, Any]
) -> None:
    run = airflow.trigger(**conf, version="v2", quality=95, workers=2)
    segments = f"work/{DAG}/pack/*/segments/*.json"
    assert wait_until(lambda: len(list(airflow.data_dir.glob(segments))) >= 1, 120)
    packers = packers_of(airflow)
    assert packers
    task = f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/pack"
    airflow.http.patch(task, json={"new_state": "failed"}).raise_for_status()
    assert wait_until(lambda: not any(is_running(pid) for pid in packers), 60)
    assert airflow.finished(run) == "failed"
    assert not (airflow.data_dir / f"datasets/{DAG}/v2").exists()
    assert list(airflow.data_dir.glob(segments))


def test_mapped_tasks_of_a_run_work_side_by_side(
    airflow: Airflow, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ilsvrc = replace(airflow, dag="ilsvrc2012")
    assert wait_until(ilsvrc.is_ready, 60)
    archives = tmp_path_factory.mktemp("ilsvrc") / "archives"
    truth = build_sample(archives)
    named = {"train": TRAIN, "val": VAL, "devkit": DEVKIT}
    with served(archives) as url:
        sources = {f"source_{role}": f"{url}/{name}" for role, name in named.items()}
        run = ilsvrc.trigger(**sources, expect="any", version="v1", workers=1, shards=40)
        assert ilsvrc.finished(run) == "success"
        downloads = [ti for ti in ilsvrc.instances(run) if ti["task_id"] == "download"]
        assert {ti["state"] for ti in downloads} == {"success"}
        assert {ti["rendered_map_index"] for ti in downloads} == set(named.values())
        began, ended = ([ti[when] for ti in downloads] for when in ("start_date", "end_date"))
        assert max(began) < min(ended), "they ran one after the other"
        packed = [ti for ti in ilsvrc.instances(run) if ti["task_id"] == "pack"]
        assert sorted(ti["rendered_map_index"] for ti in packed) == ["group 1/2", "group 2/2"]
        version = ilsvrc.data_dir / "datasets/ilsvrc2012/v1"
        assert check_val_labels(version, archives, truth, "wnid") == len(truth.val)
