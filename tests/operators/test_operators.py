"""How operators turn what the library says into what Airflow understands."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from tests.support.airflow_runs import aws_connection
from tests.support.archives import tiny_zip
from tests.support.fault_proxy import fault_proxy
from tests.support.moto_server import MotoServer

from imagenet_etl.datasets import TINY_IMAGENET
from imagenet_etl.errors import Cancelled
from imagenet_operators import (
    BackUpToS3Operator,
    DownloadOperator,
    EbsSnapshotOperator,
    FilterClassesOperator,
    PackOperator,
    PlanShardsOperator,
    RestructureValOperator,
    UntarOperator,
    VerifyOperator,
)
from imagenet_operators.form import form

pytestmark = pytest.mark.airflow

Operator = Any
Context = dict[str, Any]


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """What Airflow hands to a task of a run on a sample archive."""
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_DATA_DIR", str(tmp_path / "data"))
    params = {name: param.value for name, param in form(TINY_IMAGENET).items()}
    params |= {"source": str(tiny_zip(tmp_path / "site")), "expect": "any", "workers": 1}
    return {
        "dag": SimpleNamespace(dag_id="tiny_imagenet"),
        "run_id": "manual",
        "params": params,
        "ti": SimpleNamespace(map_index=-1, try_number=1, max_tries=3),
    }


def task(kind: type[Operator], **arguments: Any) -> Operator:
    return kind(task_id=kind.stage, dataset="tiny_imagenet", **arguments)


def run_local_stages(context: Context) -> None:
    for kind in (DownloadOperator, UntarOperator, RestructureValOperator):
        task(kind).execute(context)
    with pytest.raises(AirflowSkipException, match="all classes stay"):
        task(FilterClassesOperator).execute(context)
    for kind in (PlanShardsOperator, PackOperator, VerifyOperator):
        task(kind).execute(context)


def test_stage_returns_a_small_summary(context: Context) -> None:
    summary = task(DownloadOperator).execute(context)
    assert summary["stage"] == "download"
    assert summary["counts"]["archives"] == 1
    assert len(str(summary)) < 2000


def test_valid_receipt_skips_the_task_and_says_so(context: Context) -> None:
    task(DownloadOperator).execute(context)
    with pytest.raises(AirflowSkipException, match=r"Nothing to do.*1 archives"):
        task(DownloadOperator).execute(context)


def test_terminal_error_fails_the_task_without_a_retry(context: Context) -> None:
    context["params"]["source"] = "/no/such/file.zip"
    with pytest.raises(AirflowFailException, match=r"SourceNotFound: /no/such/file\.zip"):
        task(DownloadOperator).execute(context)


def test_setting_out_of_bounds_fails_the_task_without_a_retry(context: Context) -> None:
    context["params"]["quality"] = 101
    with pytest.raises(AirflowFailException, match="setting quality: expected 1 to 100"):
        task(DownloadOperator).execute(context)


def test_password_in_the_source_is_refused_without_telling_it(context: Context) -> None:
    context["params"]["source"] = "https://user:canary@example.org/tiny-imagenet-200.zip"
    with pytest.raises(AirflowFailException, match="holds a user, a password, a query") as caught:
        task(DownloadOperator).execute(context)
    assert "canary" not in str(caught.value)


def test_task_before_the_first_one_says_what_to_do(context: Context) -> None:
    with pytest.raises(AirflowFailException, match="clear the run's first task"):
        task(UntarOperator).execute(context)


def test_transient_error_may_be_retried(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    context["params"] |= {"s3_uri": "s3://backups", "from_backup": False}
    run_local_stages(context)
    nowhere = aws_connection(monkeypatch, "http://127.0.0.1:9")
    with nowhere, pytest.raises(AirflowException, match="CloudUnavailable") as caught:
        task(BackUpToS3Operator).execute(context)
    assert not isinstance(caught.value, AirflowFailException)


def test_being_killed_ends_the_stage_by_an_exception() -> None:
    with pytest.raises(Cancelled, match="the task was stopped"):
        task(PackOperator).on_kill()


def test_pending_snapshot_frees_the_worker_slot_until_it_is_there(
    context: Context, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = moto.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    context["params"]["ebs_volume_id"] = volume
    run_local_stages(context)
    with fault_proxy(moto.url) as proxy, aws_connection(monkeypatch, proxy.url):
        proxy.rewrite("DescribeSnapshots", lambda body: body.replace(b"completed", b"pending"))
        for _ in range(2):
            with pytest.raises(AirflowRescheduleException):
                task(EbsSnapshotOperator).execute(context)
        proxy.heal()
        summary = task(EbsSnapshotOperator).execute(context)
    assert summary["counts"] == {"volume_gib": 8}
    assert proxy.calls.count("CreateSnapshot") == 1
