"""Runs of a DAG on the cluster: triggered, watched, told in a table."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster.api import Api
from cluster.processes import ClusterError

_OVER = ("success", "failed")


@dataclass(frozen=True)
class Task:
    """A task instance as the API tells it.

    Attributes:
        name: Its id, with the index if it is mapped: ``pack[2]``.
        state: Its state; empty before it has one.
        attempt: The try, from 1.
        pid: The process of the try that runs or ran.
        host: Where that is.
        began: When the last try began, in seconds since 1970; 0 before.
        ended: When it ended; 0 before.
    """

    name: str
    state: str
    attempt: int
    pid: int
    host: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long the last try took."""
        return max(0.0, self.ended - self.began)


class Run:
    """One run of a DAG."""

    def __init__(self, api: Api, dag: str, conf: dict[str, Any]) -> None:
        self._api = api
        self._dag = dag
        body = {"logical_date": None, "conf": conf}
        self.run_id = str(api.post(f"dags/{dag}/dagRuns", body)["dag_run_id"])

    def state(self) -> str:
        """Return the run's state."""
        return str(self._api.get(f"dags/{self._dag}/dagRuns/{self.run_id}")["state"])

    def is_over(self) -> bool:
        """Return whether it has ended, well or not."""
        return self.state() in _OVER

    def tasks(self, name: str = "") -> list[Task]:
        """Return the instances of a task, or of all, in the order in which they began."""
        path = f"dags/{self._dag}/dagRuns/{self.run_id}/taskInstances?limit=500"
        rows = self._api.get(path)["task_instances"]
        tasks = [_task(row) for row in rows if name in ("", row["task_id"])]
        return sorted(tasks, key=lambda task: (task.began or float("inf"), task.name))

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended well.

        Raises:
            ClusterError: It failed, or took too long.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_over():
            if time.monotonic() > deadline:
                raise ClusterError(f"{self.run_id} takes over {timeout_s:.0f} s:\n{self.table()}")
            time.sleep(1)
        if self.state() != "success":
            raise ClusterError(f"{self.run_id} failed:\n{self.table()}")

    def table(self) -> str:
        """Return a line for each task."""
        lines = [f"{'task':<18} {'state':<16} {'try':>3} {'seconds':>8}  host"]
        lines += [
            f"{task.name:<18} {task.state or '-':<16} {task.attempt:>3} {task.seconds:>8.1f}  "
            f"{task.host}".rstrip()
            for task in self.tasks()
        ]
        return "\n".join(lines)


def _task(row: dict[str, Any]) -> Task:
    index = row["map_index"]
    return Task(
        name=row["task_id"] if index < 0 else f"{row['task_id']}[{index}]",
        state=row["state"] or "",
        attempt=row["try_number"],
        pid=row["pid"] or 0,
        host=row["hostname"] or "",
        began=_seconds(row["start_date"]),
        ended=_seconds(row["end_date"]),
    )


def _seconds(when: str | None) -> float:
    return datetime.fromisoformat(when).timestamp() if when else 0.0
