"""A download that makes way after its slice, without holding a worker slot and without failing."""

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import timezone
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from tests.support.archives import tiny_zip
from tests.support.downloads import is_too_short
from tests.support.fault_server import Answer, FaultServer

from imagenet_etl.datasets import TINY_IMAGENET
from imagenet_operators import (
    BackUpToS3Operator,
    DownloadOperator,
    UntarOperator,
    VerifyOperator,
)
from imagenet_operators.form import form
from imagenet_operators.stage import StageOperator

pytestmark = pytest.mark.airflow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    """A slow server of an archive of several pieces."""
    (tmp_path / "site").mkdir()
    archive = tiny_zip(tmp_path / "site").read_bytes()
    # A zip is found from its end, so anything may stand before it.
    padding = b"PK\x03\x04" + random.Random(1).randbytes(5 << 20)
    with FaultServer(padding + archive, "/tiny-imagenet-200.zip") as server:
        server.always = Answer(pause_s=0.02)
        yield server


@pytest.fixture
def context(tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(DownloadOperator, "slice_s", 0.6)
    params = {name: param.value for name, param in form(TINY_IMAGENET).items()}
    params |= {"source": server.url, "expect": "any", "workers": 1, "connections": 1}
    return {
        "dag": SimpleNamespace(dag_id="tiny_imagenet"),
        "run_id": "manual",
        "params": params,
        "ti": SimpleNamespace(map_index=-1, try_number=1, max_tries=0),
    }


@pytest.mark.parametrize(
    "operator", [DownloadOperator, UntarOperator, VerifyOperator, BackUpToS3Operator]
)
def test_slice_leaves_room_for_what_is_in_flight(operator: type[StageOperator]) -> None:
    assert operator.slice_s is not None
    assert 1.1 * operator.slice_s < 30 * 60


def test_download_stays_away_as_long_as_the_server_asks(
    context: dict[str, Any], server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DownloadOperator, "slice_s", 60.0)  # longer than the pause after the cut
    server.script = [Answer(cut_at=3 << 20)]
    server.always = Answer(status=503, headers={"Retry-After": "300"})
    task = DownloadOperator(task_id="download", dataset="tiny_imagenet")
    with pytest.raises(AirflowRescheduleException) as caught:
        task.execute(context)
    pause = caught.value.reschedule_date - timezone.utcnow()
    assert timedelta(seconds=200) < pause <= timedelta(seconds=300)


@pytest.mark.parametrize("archive", ["", TINY_IMAGENET.archives[0].name], ids=["all", "mapped"])
def test_download_reschedules_itself_until_the_archive_is_there(
    context: dict[str, Any], server: FaultServer, archive: str
) -> None:
    if archive:
        context["ti"].map_index = 0
    task = DownloadOperator(task_id="download", dataset="tiny_imagenet", archive=archive)
    reschedules = 0
    while True:
        try:
            summary = task.execute(context)
        except AirflowRescheduleException:
            reschedules += 1
            assert reschedules < 30
        except AirflowException as error:
            if not is_too_short(error):
                raise
        else:
            break
    assert reschedules > 1
    assert summary["stage"] == "download"
    assert [request.headers["Range"] for request in server.requests].count(None) == 1
    with pytest.raises(AirflowSkipException):
        task.execute(context)
