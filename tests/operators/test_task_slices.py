"""Tasks that make way after their slice and come again: what comes out is as if in one go."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException
from tests.operators.test_operators import context, run_local_stages, task
from tests.support.airflow_runs import aws_connection, files_below
from tests.support.fault_proxy import fault_proxy
from tests.support.moto_server import MotoServer

from imagenet_etl.aws import s3_send
from imagenet_etl.download.slices import Slice
from imagenet_operators import (
    BackUpToS3Operator,
    DownloadOperator,
    FilterClassesOperator,
    PackOperator,
    PlanShardsOperator,
    RestructureValOperator,
    UntarOperator,
    VerifyOperator,
)
from imagenet_operators.stage import StageOperator

__all__ = ["context"]
pytestmark = pytest.mark.airflow

Context = dict[str, Any]
BEFORE_VERIFY = (
    DownloadOperator, UntarOperator, RestructureValOperator, FilterClassesOperator,
    PlanShardsOperator, PackOperator,
)  # fmt: skip


def goes_of(operator: type[StageOperator], context: Context) -> tuple[dict[str, Any], int]:
    """Return a task's summary and in how many goes it came to it."""
    for number in range(1, 100):
        try:
            return task(operator).execute(context), number
        except AirflowRescheduleException:
            continue
    raise AssertionError("no end")


def facts_of(data_dir: Path, stage: str, digest: str) -> dict[str, Any]:
    path = data_dir / "work" / "tiny_imagenet" / stage / digest / "receipt.json"
    facts: dict[str, Any] = json.loads(path.read_text())["facts"]
    return facts


def test_verify_in_slices_publishes_what_it_does_in_one_go(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    summaries, checked, published = [], [], []
    for name, slice_s in (("whole", None), ("sliced", 0.0)):
        data_dir = tmp_path / name
        monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_DATA_DIR", str(data_dir))
        monkeypatch.setattr(VerifyOperator, "slice_s", slice_s)
        for kind in BEFORE_VERIFY:
            with suppress(AirflowSkipException):
                task(kind).execute(context)
        summary, goes = goes_of(VerifyOperator, context)
        summaries.append(summary)
        checked.append(facts_of(data_dir, "verify", summary["digest"])["checked"])
        published.append(files_below(data_dir / "datasets"))
    assert goes > 2
    assert summaries[0] == summaries[1]
    assert checked[0] == checked[1]
    assert published[0] == published[1]
    assert not list((tmp_path / "sliced" / "work").rglob("checked.json"))


class NineFiles(Slice):
    """A slice that is over when nine files have begun."""

    asked = 0

    @property
    def is_over(self) -> bool:
        self.asked += 1
        return self.is_limited and self.asked > 9


def test_backup_in_slices_sends_each_file_once_and_counts_them_all(
    context: Context, tmp_path: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto.bucket("backups")
    asked = {"back_up": ["dataset", "archives"], "from_backup": False, "s3_uri": "s3://backups"}
    context["params"] |= asked
    monkeypatch.setattr(s3_send, "Slice", NineFiles)
    run_local_stages(context)
    with fault_proxy(moto.url) as proxy, aws_connection(monkeypatch, proxy.url):
        summary, goes = goes_of(BackUpToS3Operator, context)
        puts = proxy.calls.count("PutObject")
    assert goes == 3
    facts = facts_of(tmp_path / "data", "back_up_to_s3", summary["digest"])
    objects = moto.client("s3").list_objects_v2(Bucket="backups")["Contents"]
    sizes = {one["Key"]: one["Size"] for one in objects}
    files = {key: size for key, size in sizes.items() if not key.endswith(".backup.json")}
    assert puts == len(sizes)
    assert facts["uploaded"] == facts["report"]["sent_files"] == len(files)
    assert facts["report"]["sent_bytes"] == sum(files.values())
    assert summary["counts"]["files"] == len(files)
    assert facts["report"]["skipped"] == {}
    assert facts["skipped"] == 0
    assert not list((tmp_path / "data" / "work").rglob("sent.json"))
