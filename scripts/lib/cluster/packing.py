"""A run in the middle of packing: which task is where, and with how many processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.leases import finished
from cluster.processes import group_of, packers_of, wait_until
from cluster.runs import Run
from cluster.sample import DAG
from cluster.topology import Cluster

_UNDER_WAY_S = 180.0
_FINISHED_FIRST = 4


@dataclass(frozen=True)
class PackTask:
    """A task instance of ``pack`` that runs.

    Attributes:
        name: ``pack[2]``.
        worker: The Celery worker that it runs on.
        group: The process group of the task and its packing processes; the task leads it.
        packers: Its packing processes.
    """

    name: str
    worker: str
    group: int
    packers: tuple[int, ...]


def begin_packing(cluster: Cluster, conf: dict[str, Any]) -> tuple[Run, list[PackTask]]:
    """Start a run; return it in the middle of ``pack``, with every worker full of its tasks.

    Raises:
        ClusterError: It does not come so far.
    """
    run = Run(cluster.api, DAG, conf)
    data = Path(conf["data_dir"])
    tasks: list[PackTask] = []

    def is_under_way() -> bool:
        if len(finished(data)) < _FINISHED_FIRST:
            return False
        tasks[:] = pack_tasks(cluster, run)
        at_work = [task.worker for task in tasks if len(task.packers) > 1]
        return sorted(at_work) == sorted(cluster.workers * cluster.concurrency)

    wait_until("pack is under way on all workers", is_under_way, _UNDER_WAY_S)
    return run, tasks


def pack_tasks(cluster: Cluster, run: Run) -> list[PackTask]:
    """Return the tasks of ``pack`` that run, by the processes below the workers."""
    names = {task.pid: task.name for task in run.tasks("pack") if task.state == "running"}
    return [
        PackTask(names[pid], worker, pid, tuple(packers_of(group_of(pid))))
        for worker in cluster.workers
        for pid in cluster.tasks_on(worker)
        if pid in names
    ]
