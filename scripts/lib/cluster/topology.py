"""The whole cluster: services, Airflow's components, workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster.api import Api
from cluster.processes import (
    ClusterError,
    Start,
    below,
    end_of,
    free_port,
    group_of,
    leads_a_group,
    send,
    start,
    wait_until,
)
from cluster.services import start_postgres, start_redis
from cluster.settings import COMPOSE, IMPATIENT, ROOT, SETTINGS, environment, new_secrets

POOLS = ROOT / "scripts/lib/pools.json"
AIRFLOW = [sys.executable, "-m", "airflow"]
QUEUES = "network,cpu"
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_OPTIONS = {"scheduler": ["--skip-serve-logs"], "triggerer": ["--skip-serve-logs"]}
"""Logs are read from the folder that all have in common: no component serves them on a port."""

_START_S = 180.0


class Cluster:
    """Airflow as the Compose file has it, below a folder that its keeper removes.

    Args:
        folder: Where everything lies.
        data: The data folder, or a bucket's ``s3://`` prefix.
        workers: How many Celery workers.
        concurrency: How many tasks each of them runs at once.
        impatient: Whether lost tasks are given up after seconds, as a test wants it.
    """

    def __init__(
        self, folder: Path, data: str, *, workers: int = 2, concurrency: int = 2,
        impatient: bool = False,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.data = data
        self.logs = folder / "logs"
        self.workers = [f"worker-{number}" for number in range(1, workers + 1)]
        self.concurrency = concurrency
        self._files = [COMPOSE, SETTINGS, *([IMPATIENT] if impatient else [])]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._said_before: dict[str, int] = {}
        self._env: dict[str, str] = {}
        self.url = f"http://127.0.0.1:{free_port()}"
        self.api = Api(self.url)

    def start(self) -> None:
        """Start everything and wait until it works.

        Raises:
            ClusterError: Something does not.
        """
        self.logs.mkdir()
        values = new_secrets() | {
            "ROOT": str(ROOT), "HOME": str(self.folder / "airflow"), "DATA": self.data,
            "API_PORT": self.url.rpartition(":")[2],
            "POSTGRES": start_postgres(self.folder / "postgres", self.logs),
            "REDIS": start_redis(self.logs),
        }  # fmt: skip
        self._env = environment(self._files, values)
        Path(values["HOME"]).mkdir()
        self.run("migrate", [*AIRFLOW, "db", "migrate"])
        for name in (*COMPONENTS, *self.workers):
            self.start_one(name)
        wait_until("all components are healthy", self._is_healthy, _START_S)
        self._make_pools()

    def share(self, folder: str) -> None:
        """Mark a folder as one that all workers share; a bucket needs no mark."""
        if "://" not in folder:
            self.run("share", [sys.executable, "-m", "imagenet_etl", "share-folder", folder])

    def run(self, name: str, command: list[str]) -> None:
        """Run a command to its end.

        Raises:
            ClusterError: It failed, or takes too long.
        """
        process = start(Start(command, self.logs / f"{name}.log", self._env))
        if end_of(process, name, _START_S):
            raise ClusterError(f"{' '.join(command)} failed ({name}.log)")

    def start_one(self, name: str) -> None:
        """Start a component or a worker."""
        log = self.logs / f"{name}.log"
        self._said_before[name] = log.stat().st_size if log.exists() else 0
        if name in COMPONENTS:
            how = Start([*AIRFLOW, name, *_OPTIONS.get(name, [])], log, self._env)
        else:
            scratch = self.folder / name
            scratch.mkdir(exist_ok=True)
            options = ["--queues", QUEUES, "--concurrency", str(self.concurrency),
                       "--celery-hostname", name, "--skip-serve-logs"]  # fmt: skip
            how = Start([*AIRFLOW, "celery", "worker", *options], log,
                        self._env | {"TMPDIR": str(scratch)}, host=name)  # fmt: skip
        self._processes[name] = start(how)

    def kill(self, name: str) -> None:
        """``kill -9`` a component or worker, and all it has started, tasks included."""
        process = self._processes.pop(name)
        send([one.pid for one in below(process.pid)], signal.SIGKILL)
        process.wait()

    def kill_worker_alone(self, name: str) -> None:
        """``kill -9`` a worker's process group: its tasks have groups of their own, and live on."""
        process = self._processes.pop(name)
        send(group_of(process.pid), signal.SIGKILL)
        process.wait()

    def restart(self, name: str) -> float:
        """``kill -9`` a component and start it again; return the seconds until all are healthy."""
        began = time.monotonic()
        self.kill(name)
        self.start_one(name)
        if name == "scheduler":
            # The one that was killed still counts as healthy for a while.
            begun = "Adopting or resetting orphaned"
            wait_until("the new scheduler works", lambda: begun in self.said("scheduler"), _START_S)
        wait_until(f"healthy again after the restart of {name}", self._is_healthy, _START_S)
        return time.monotonic() - began

    def runs(self, name: str) -> bool:
        """Return whether a component or worker was started, and not killed."""
        return name in self._processes

    def pid(self, name: str) -> int:
        """Return the main process of a component or worker."""
        return self._processes[name].pid

    def said(self, name: str) -> str:
        """Return what a component or worker has logged since it was last started."""
        with (self.logs / f"{name}.log").open("rb") as log:
            log.seek(self._said_before[name])
            return log.read().decode(errors="replace")

    def tasks_on(self, name: str) -> list[int]:
        """Return the processes of the tasks that run on a worker: each leads a group of its own."""
        worker = self.pid(name)
        return [one.pid for one in below(worker) if one.pid != worker and leads_a_group(one.pid)]

    def worker_is_ready(self, name: str) -> bool:
        """Return whether a worker takes tasks."""
        return f"{name} ready" in self.said(name)

    def _is_healthy(self) -> bool:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ClusterError(f"{name} ended with {process.returncode} ({name}.log)")
        health = self.api.health()
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        return all(health.get(part) == "healthy" for part in parts) and all(
            self.worker_is_ready(name) for name in self.workers if name in self._processes
        )

    def _make_pools(self) -> None:
        """Make the pools of ``pools.json``, with a slot of ``cpu`` for every task the workers take.

        In that file one task has a machine to itself.
        """
        for name, pool in json.loads(POOLS.read_text()).items():
            slots = len(self.workers) * self.concurrency if name == "cpu" else pool["slots"]
            self.api.post("pools", pool | {"name": name, "slots": slots})
