"""Whether a worker sees the run's data folder: the same one as the other workers."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf

from imagenet_etl.errors import StageNotDone, StorageError
from imagenet_etl.shared_folder import MARK, check_shared, read_mark
from imagenet_etl.storage import Storage

if TYPE_CHECKING:
    from airflow.sdk import Context

KEY = "data_folder"
"""Of the XCom by which the run's first task tells which marked folder it saw, and where."""

_LOCAL = "LocalExecutor"
# Source: apache-airflow-providers-cncf-kubernetes, pod_generator.py sets it in every worker pod,
# whose template may name another executor.
_IN_POD = "AIRFLOW_IS_K8S_EXECUTOR_POD"


def tasks_run_elsewhere() -> bool:
    """Return whether tasks may run on other machines than the scheduler's.

    That is so unless ``LocalExecutor`` is the only executor in the configuration. ``dag.test()``
    runs in process whatever is configured, and goes by the configuration all the same: a folder
    that a cluster shares bears the mark anyway.
    """
    if os.environ.get(_IN_POD):
        return True
    # One or several, by commas; with teams, by semicolons; each perhaps as team=, path and :alias.
    listed = conf.get("core", "executor").replace(";", ",").split(",")
    names = [entry.rpartition("=")[2].strip().partition(":")[0] for entry in listed]
    return any(name.rpartition(".")[2] != _LOCAL for name in names if name)


def check_data_folder(storage: Storage, context: Context, *, is_first: bool) -> None:
    """See that this worker has the data folder that the run's first task had.

    Args:
        storage: The data folder; one in a bucket is everybody's.
        context: The task's context.
        is_first: Whether the task may be the run's first.

    Raises:
        StorageError: It has not, or nothing tells that it has.
    """
    if not storage.on_disk:
        return
    mark = check_shared(storage) if tasks_run_elsewhere() else read_mark(storage)
    if mark is None:
        return
    if is_first:
        seen = {"id": mark.id, "host": socket.gethostname()}
        context["ti"].xcom_push(key=KEY, value=seen)
        return
    for seen in _seen_before(context):
        if seen["id"] != mark.id:
            raise StorageError(
                f"worker {socket.gethostname()} sees another data folder under {storage.url}",
                expected=f"that of the run's first task, id {seen['id']} in its {MARK}, as on "
                f"{seen['host']}",
                found=f"id {mark.id}, marked on {mark.made_by} at {mark.at}",
                remedy="Mount the same folder on all workers, then clear the run's failed tasks",
            )


def _seen_before(context: Context) -> list[dict[str, Any]]:
    """Return what the run's first tasks have told; nothing once their XComs are lost."""
    # A mapped task shows its operator's class by another name.
    first = [
        task.task_id
        for task in context["dag"].tasks
        if getattr(getattr(task, "operator_class", task), "is_first", False)
    ]
    found = context["ti"].xcom_pull(task_ids=first, key=KEY) if first else []
    return [seen for seen in found or [] if isinstance(seen, dict)]


def not_frozen(error: StageNotDone, storage: Storage) -> StageNotDone:
    """Return the error of a task that does not find its run's settings, with both causes."""
    if not storage.on_disk:
        return error
    return StageNotDone(
        f"{error.what}, as worker {socket.gethostname()} sees it",
        remedy="Either this worker has another folder mounted there than the one where the run's "
        "first task ran: mount the same one on all workers. Or the data folder was changed during "
        "the run: change it back; else clear the run's first task",
    )
