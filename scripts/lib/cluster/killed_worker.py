"""Proof: a worker, its tasks, the scheduler and the api-server are killed in mid-run."""

from __future__ import annotations

from typing import Any

from cluster.packing import PackTask, begin_packing
from cluster.processes import ClusterError, group_of, wait_until
from cluster.runs import Task
from cluster.topology import Cluster

_RUN_S = 300.0


def killed_worker(cluster: Cluster, conf: dict[str, Any]) -> list[str]:
    """Run while things are killed; return what was seen.

    Raises:
        ClusterError: The run did not recover.
    """
    run, tasks = begin_packing(cluster, conf)
    victim = cluster.workers[0]
    lost = [task for task in tasks if task.worker == victim]
    most = max(len(task.packers) for task in tasks)
    cluster.kill(victim)
    wait_until("the killed tasks are gone", lambda: not any(group_of(t.group) for t in lost), 10)
    others = [task for task in tasks if task.worker != victim]
    api_s = cluster.restart("api-server")
    at_work = sum(1 for task in others if group_of(task.group))
    scheduler_s = cluster.restart("scheduler")
    cluster.start_one(victim)
    run.wait(_RUN_S)
    ended = {task.name: task for task in run.tasks("pack")}
    not_retried = [task.name for task in lost if ended[task.name].attempt < 2]
    if not_retried:
        raise ClusterError(f"killed, and yet not tried again: {not_retried}\n{run.table()}")
    tries = ", ".join(f"{task.name} {ended[task.name].attempt}" for task in others)
    return [
        f"killed: {victim} with {_names(lost)}; api-server, back in {api_s:.0f} s; scheduler, "
        f"back in {scheduler_s:.0f} s",
        f"packing processes of one task, below Celery's daemonic process: {most}",
        f"killed tasks were tried again: {_tries(ended, lost)}",
        f"of the other worker's tasks {at_work} were at work when the api-server was back; their "
        f"tries: {tries}",
    ]


def _names(tasks: list[PackTask]) -> str:
    return ", ".join(task.name for task in tasks)


def _tries(ended: dict[str, Task], lost: list[PackTask]) -> str:
    return ", ".join(
        f"{task.name} in try {ended[task.name].attempt} on {ended[task.name].host}" for task in lost
    )
