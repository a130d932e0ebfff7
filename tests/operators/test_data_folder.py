"""A worker that does not see the run's data folder says so at once."""

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from tests.support.archives import tiny_zip

from imagenet_etl.datasets import TINY_IMAGENET
from imagenet_etl.shared_folder import MARK, share_folder
from imagenet_operators import DownloadOperator, UntarOperator
from imagenet_operators.data_folder import tasks_run_elsewhere
from imagenet_operators.form import form

pytestmark = pytest.mark.airflow

HOST = socket.gethostname()


class TaskInstance(SimpleNamespace):
    """A task's view of the run's XComs, which all tasks of a test share."""

    xcoms: dict[str, Any]

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: list[str], key: str) -> list[Any]:
        assert task_ids == ["download"]
        return [self.xcoms.get(key)]


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A task of a run on a cluster whose data folder is not marked yet."""
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_DATA_DIR", str(tmp_path / "data"))
    params = {name: param.value for name, param in form(TINY_IMAGENET).items()}
    params |= {"source": str(tiny_zip(tmp_path / "site")), "expect": "any", "workers": 1}
    return {
        "dag": SimpleNamespace(dag_id="tiny_imagenet", tasks=[download(), untar()]),
        "run_id": "manual",
        "params": params,
        "ti": TaskInstance(map_index=-1, try_number=1, max_tries=3, xcoms={}),
    }


def download() -> DownloadOperator:
    return DownloadOperator(task_id="download", dataset="tiny_imagenet")


def untar() -> UntarOperator:
    return UntarOperator(task_id="untar", dataset="tiny_imagenet")


@pytest.mark.parametrize(
    ("executor", "elsewhere"),
    [
        ("LocalExecutor", False),
        ("airflow.executors.local_executor.LocalExecutor", False),
        ("LocalExecutor:here", False),
        ("CeleryExecutor", True),
        ("LocalExecutor,CeleryExecutor", True),
        ("LocalExecutor, KubernetesExecutor:pods", True),
        ("LocalExecutor;team1=EdgeExecutor", True),
        ("=LocalExecutor;team1=LocalExecutor", False),
        ("our.own.SpecialExecutor", True),
    ],
)
def test_only_the_local_executor_runs_tasks_where_the_scheduler_is(
    monkeypatch: pytest.MonkeyPatch, executor: str, elsewhere: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    assert tasks_run_elsewhere() is elsewhere


def test_a_pod_knows_itself_whatever_its_template_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")
    assert tasks_run_elsewhere()


@pytest.mark.parametrize(
    ("make", "found"), [(False, "no such folder"), (True, "an empty folder")], ids=["none", "empty"]
)
def test_first_task_without_the_mount_fails_and_makes_nothing(
    context: dict[str, Any], tmp_path: Path, make: bool, found: str
) -> None:
    data = tmp_path / "data"
    if make:
        data.mkdir()
    said = f"worker {HOST} does not see the data folder {data}: .*found {found}"
    with pytest.raises(AirflowFailException, match=said):
        download().execute(context)
    assert data.exists() == make
    assert not list(data.rglob("*"))


def test_on_one_machine_no_mark_is_asked_for(
    context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    download().execute(context)
    untar().execute(context)


def test_marked_folder_is_used_and_lost_xcoms_lose_nothing(
    context: dict[str, Any], tmp_path: Path
) -> None:
    share_folder(tmp_path / "data")
    download().execute(context)
    context["ti"].xcoms.clear()
    untar().execute(context)


def test_later_task_that_sees_another_marked_folder_is_told_so(
    context: dict[str, Any], tmp_path: Path
) -> None:
    mark, _ = share_folder(tmp_path / "data")
    download().execute(context)
    (tmp_path / "data" / MARK).unlink()
    other, _ = share_folder(tmp_path / "data")
    with pytest.raises(AirflowFailException) as caught:
        untar().execute(context)
    said = str(caught.value)
    assert f"worker {HOST} sees another data folder under {tmp_path / 'data'}" in said
    assert f"id {mark.id} in its {MARK}, as on {HOST}" in said
    assert f"found id {other.id}" in said


def test_later_task_without_frozen_settings_names_host_and_both_causes(
    context: dict[str, Any], tmp_path: Path
) -> None:
    share_folder(tmp_path / "data")
    download().execute(context)
    shutil.rmtree(tmp_path / "data" / "work")
    with pytest.raises(AirflowFailException) as caught:
        untar().execute(context)
    said = str(caught.value)
    assert f"as worker {HOST} sees it" in said
    assert "another folder mounted there" in said
    assert "the data folder was changed during the run" in said
