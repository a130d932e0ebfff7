"""Run a DAG of this project in a real Airflow, in this process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT


@dataclass(frozen=True)
class Run:
    """What became of a DAG run: its state, and that of each task by id: ``pack[2]`` if mapped."""

    run_id: str
    state: str
    tasks: dict[str, str]

    def states(self) -> set[str]:
        return set(self.tasks.values())

    def done(self) -> set[str]:
        """The tasks that had something to do; all copies of a mapped one count as one."""
        return {task.partition("[")[0] for task, state in self.tasks.items() if state == "success"}


@cache
def _database() -> None:
    from airflow.utils import db

    db.initdb()
    _check_schemas_once()


def _check_schemas_once() -> None:
    """Hold each schema of a form against its meta-schema once; Airflow does 7,000 times a run.

    That is two thirds of a run's time. Values are validated as often as Airflow likes.
    """
    from jsonschema.validators import Draft202012Validator as Validator

    check, seen = Validator.check_schema, set()

    def check_once(schema: Any, *args: Any, **named: Any) -> None:
        key = json.dumps(schema, sort_keys=True, default=repr)
        if key not in seen:
            check(schema, *args, **named)
            seen.add(key)

    Validator.check_schema = staticmethod(check_once)


def run_dag(dag_id: str, conf: dict[str, Any]) -> Run:
    """Run a DAG to its end; a fresh DagBag each time, since a run's conf changes the DAG object."""
    from airflow.dag_processing.dagbag import DagBag

    _database()
    dag = DagBag(str(ROOT / "dags")).dags[dag_id]
    run = dag.test(run_conf=conf)
    tasks = {
        f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else ti.task_id: str(ti.state)
        for ti in run.get_task_instances()
    }
    return Run(run.run_id, str(run.state), tasks)


def task_tries(run: Run, task_id: str) -> int:
    """Return how many tries a task of a run took."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(TaskInstance).where(
            TaskInstance.run_id == run.run_id, TaskInstance.task_id == task_id
        )
        return int(session.scalars(query).one().try_number)


def asset_events() -> list[dict[str, Any]]:
    """Return the extras of all asset events so far with their asset's name, oldest first."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    _database()
    with create_session() as session:
        events = session.scalars(select(AssetEvent).order_by(AssetEvent.id))
        return [dict(event.extra) | {"asset": event.asset.name} for event in events]


def forget_xcoms() -> int:
    """Delete every XCom; return how many there were."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        return int(session.execute(delete(XComModel)).rowcount)


@contextmanager
def aws_connection(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, password: str = "secret"
) -> Iterator[None]:
    """Point the connection ``aws_default`` to a local endpoint."""
    connection = {
        "conn_type": "aws",
        "login": "AKIDEXAMPLE",
        "password": password,
        "extra": {"region_name": "us-east-1", "endpoint_url": endpoint},
    }
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        yield


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
