"""What stages tell a StatsD server, through Airflow's own Stats, and what they do without one."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from airflow.sdk import DAG
from airflow.sdk._shared.observability.metrics import stats as backend
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory
from tests.operators.test_operators import Context, context, run_local_stages, task

from imagenet_etl.datasets import TINY_IMAGENET
from imagenet_etl.stage import Outcome
from imagenet_operators import (
    DownloadOperator,
    FilterClassesOperator,
    PackOperator,
    PlanShardsOperator,
    RestructureValOperator,
    UntarOperator,
    VerifyOperator,
)
from imagenet_operators.metrics import tell

__all__ = ["context"]
pytestmark = pytest.mark.airflow

IMAGES = 18
TAGS = "dataset=tiny_imagenet,stage=pack"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, list[str]]]]:
    """What a StatsD server has received, by the metric's name and tags."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.setblocking(False)
    for name, value in {
        "STATSD_ON": True, "STATSD_HOST": "127.0.0.1", "STATSD_PORT": server.getsockname()[1],
        "STATSD_PREFIX": "airflow", "STATSD_INFLUXDB_ENABLED": True,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AIRFLOW__METRICS__{name}", str(value))
    _use(get_stats_factory())

    def received() -> dict[str, list[str]]:
        lines: dict[str, list[str]] = {}
        with suppress(BlockingIOError):
            while True:
                name, _, value = server.recv(65536).decode().partition(":")
                lines.setdefault(name, []).append(value)
        return lines

    with server:
        yield received
    monkeypatch.undo()
    _use(get_stats_factory())


def _use(factory: Callable[[], object]) -> None:
    # As Airflow's task runner does when it starts a task.
    backend.initialize(factory=factory, export_legacy_names=True)


def ours(lines: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: values for name, values in lines.items() if "_duration" not in name}


def test_counters_and_durations_arrive_with_dataset_and_stage(
    context: Context, told: Callable[[], dict[str, list[str]]], tmp_path: Path
) -> None:
    run_local_stages(context)
    lines = told()
    (version,) = (p for p in (tmp_path / "data/datasets/tiny_imagenet").iterdir() if p.is_dir())
    size = sum(p.stat().st_size for p in version.rglob("*") if p.is_file())
    manifest = (version / "manifest.json").stat().st_size
    assert ours(lines) == {
        f"airflow.imagenet_etl.images_packed,{TAGS}": [f"{IMAGES}|c"],
        f"airflow.imagenet_etl.bytes_packed,{TAGS}": [f"{size - manifest}|c"],
    }
    stages = {name.rpartition("=")[2] for name in lines.keys() - ours(lines).keys()}
    assert stages == {*TINY_IMAGENET.stages} - {"filter_classes", "report"}
    (duration,) = lines[f"airflow.imagenet_etl.stage_duration,{TAGS}"]
    assert duration.endswith("|ms")


def test_groups_and_what_completes_them_count_each_image_once(
    context: Context, told: Callable[[], dict[str, list[str]]]
) -> None:
    context["params"] |= {"shards": 2}
    for kind in (DownloadOperator, UntarOperator, RestructureValOperator, FilterClassesOperator,
                 PlanShardsOperator):  # fmt: skip
        with suppress(AirflowSkipException):
            task(kind).execute(context)
    with DAG("tiny_imagenet"):
        mapped = PackOperator.partial(task_id="groups", dataset="tiny_imagenet")
        whole = task(PackOperator)
        mapped.expand(group=["1/2", "2/2"]) >> whole
    for group in ("1/2", "2/2"):
        task(PackOperator, group=group).execute(context)
    told_by_groups = told()[f"airflow.imagenet_etl.images_packed,{TAGS}"]
    assert sum(int(value.removesuffix("|c")) for value in told_by_groups) == IMAGES
    whole.execute(context)
    assert ours(told()).keys() == {f"airflow.imagenet_etl.bytes_packed,{TAGS}"}


def test_a_task_with_nothing_to_do_tells_nothing(
    context: Context, told: Callable[[], dict[str, list[str]]]
) -> None:
    task(DownloadOperator).execute(context)
    told()
    with pytest.raises(AirflowSkipException):
        task(DownloadOperator).execute(context)
    assert told() == {}


def test_each_slice_tells_its_own_duration(
    context: Context, told: Callable[[], dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    monkeypatch.setattr(VerifyOperator, "slice_s", 0.0)
    goes = 1
    with pytest.raises(AirflowRescheduleException):
        run_local_stages(context)
    for _ in range(50):
        goes += 1
        with suppress(AirflowRescheduleException):
            task(VerifyOperator).execute(context)
            break
    name = "airflow.imagenet_etl.stage_duration,dataset=tiny_imagenet,stage=verify"
    assert len(told()[name]) == goes > 2


def test_figures_that_a_receipt_does_not_have_fail_no_task(
    context: Context, told: Callable[[], dict[str, list[str]]], caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(DownloadOperator):
        def figures(self, outcome: Outcome) -> dict[str, int]:
            return {"images_packed": outcome.receipt.counts["none"]}

    assert task(Odd).execute(context)["stage"] == "download"
    assert "metrics of download could not be told: 'none'" in caplog.text
    assert told() == {}


def test_trouble_with_metrics_fails_no_task(context: Context) -> None:
    def broken() -> object:
        raise RuntimeError("no exporter")

    _use(broken)
    try:
        tell("tiny_imagenet", "pack", {"images_packed": 1}, 1.0)
        assert task(DownloadOperator).execute(context)["stage"] == "download"
    finally:
        _use(get_stats_factory())
