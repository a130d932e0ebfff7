"""How EBS operators and sensors wait: without a worker slot, and not for ever."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    TaskDeferred,
)
from tests.support.airflow_runs import aws_connection
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer

from imagenet_etl.aws import client_config
from imagenet_etl.errors import SnapshotFailed
from imagenet_operators.ebs import (
    EbsAttachmentSensor,
    EbsCopySnapshotOperator,
    EbsSnapshotSensor,
    EbsTakeSnapshotOperator,
    EbsVolumeSensor,
)
from imagenet_operators.ebs import trigger as trigger_module
from imagenet_operators.ebs.base import EbsOperator
from imagenet_operators.ebs.trigger import ProgressTrigger
from imagenet_operators.ebs.waits import SNAPSHOT, Wait

IMAGE = "ami-12c6146b"  # any will do for moto

pytestmark = pytest.mark.airflow

COMPLETED = b"<status>completed</status>"


def context_of(age: timedelta = timedelta(0), rescheduled: bool = False) -> dict[str, Any]:
    """Return what the operators read of the context of a task that began so long ago."""
    now = datetime.now(UTC)
    ti = SimpleNamespace(
        dag_id="backups", run_id="run-1", task_id="task", map_index=-1,
        start_date=now if rescheduled else now - age,
        get_first_reschedule_date=lambda _: now - age if rescheduled else None,
    )  # fmt: skip
    return {"ti": ti}


CONTEXT = context_of()


@pytest.fixture
def aws(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(client_config, "_ATTEMPTS", 1)
    with fault_proxy(moto.url) as proxy, aws_connection(monkeypatch, proxy.url):
        yield proxy


@pytest.fixture
def volume(moto: MotoServer) -> str:
    ec2 = moto.client("ec2")
    return str(ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"])


@pytest.fixture
def snapshot(moto: MotoServer, volume: str) -> dict[str, Any]:
    return dict(moto.client("ec2").create_snapshot(VolumeId=volume))


def becomes(state: bytes) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(COMPLETED, b"<status>" + state + b"</status>")


def operator(volume: str, **arguments: Any) -> EbsTakeSnapshotOperator:
    return EbsTakeSnapshotOperator(task_id="task", volume_id=volume, **arguments)


def trigger_for(snapshot: dict[str, Any], deadline_s: float = 3600.0) -> ProgressTrigger:
    begun, ids = snapshot["StartTime"].isoformat(), {"snapshot_id": snapshot["SnapshotId"]}
    return ProgressTrigger([Wait(SNAPSHOT, ids, "us-east-1", begun, deadline_s).to_dict()], 0.01)


def event_of(trigger: ProgressTrigger) -> dict[str, Any]:
    """Run a trigger as the triggerer does: rebuilt from what it was stored as."""
    from airflow.sdk._shared.module_loading import import_string

    path, arguments = trigger.serialize()
    rebuilt = import_string(path)(**json.loads(json.dumps(arguments)))

    async def first() -> dict[str, Any]:
        async for event in rebuilt.run():
            return dict(event.payload)
        raise AssertionError("a trigger ends with an event")

    return asyncio.run(asyncio.wait_for(first(), 20))


def test_pending_snapshot_makes_way_and_is_found_again(aws: FaultProxy, volume: str) -> None:
    aws.rewrite("DescribeSnapshots", becomes(b"pending"))
    task = operator(volume, deferrable=False, poll_interval=timedelta(hours=1))
    for _ in range(2):
        with pytest.raises(AirflowRescheduleException):
            task.execute(CONTEXT)
    aws.heal()
    assert task.execute(CONTEXT).startswith("snap-")
    assert aws.calls.count("CreateSnapshot") == 1


def test_what_takes_long_is_looked_at_less_often(aws: FaultProxy, volume: str) -> None:
    from airflow.sdk import timezone

    year = str(timezone.utcnow().year).encode()
    aws.rewrite("DescribeSnapshots", becomes(b"pending"))
    before = timezone.utcnow()
    with pytest.raises(AirflowRescheduleException) as caught:
        operator(volume, poll_interval=timedelta(0)).execute(CONTEXT)
    assert caught.value.reschedule_date < before + timedelta(seconds=30)
    aws.heal()
    last_year = str(int(year) - 1).encode()
    aws.rewrite(
        "DescribeSnapshots",
        lambda body: becomes(b"pending")(body).replace(
            b"<startTime>" + year, b"<startTime>" + last_year
        ),
    )
    patient = {"poll_interval": timedelta(0), "deadline": timedelta(days=1000)}
    with pytest.raises(AirflowRescheduleException) as caught:
        operator(volume, **patient).execute(CONTEXT)
    assert caught.value.reschedule_date >= before + timedelta(minutes=1)


def test_nothing_is_waited_for_unless_asked(aws: FaultProxy, volume: str) -> None:
    aws.rewrite("DescribeSnapshots", becomes(b"pending"))
    assert operator(volume, wait_for_completion=False).execute(CONTEXT).startswith("snap-")


def test_deferred_task_goes_on_where_the_triggerer_ends(aws: FaultProxy, volume: str) -> None:
    aws.rewrite("DescribeSnapshots", becomes(b"pending"), times=4)
    task = operator(volume, deferrable=True, poll_interval=timedelta(milliseconds=10))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(CONTEXT)
    assert deferred.value.timeout is not None
    assert timedelta(hours=24) < deferred.value.timeout < timedelta(hours=25)
    event = event_of(deferred.value.trigger)
    assert event == {"status": "done"}
    resume = getattr(task, deferred.value.method_name)
    assert resume(CONTEXT, event).startswith("snap-")
    assert aws.calls.count("CreateSnapshot") == 1


def test_airflows_own_setting_is_the_default() -> None:
    assert operator("vol-1").deferrable is False
    assert EbsVolumeSensor(task_id="task", volume_id="vol-1").deferrable is False


def test_failed_snapshot_fails_the_task_with_its_message(
    aws: FaultProxy, volume: str, snapshot: dict[str, Any]
) -> None:
    told = b"</status><statusMessage>KMS says no</statusMessage>"
    ended = b"<status>error" + told
    aws.rewrite("DescribeSnapshots", lambda body: body.replace(COMPLETED, ended))
    event = event_of(trigger_for(snapshot))
    assert event["error"]["type"] == SnapshotFailed.__name__
    with pytest.raises(
        AirflowFailException,
        match=rf"SnapshotFailed: snapshot {snapshot['SnapshotId']}.*KMS says no",
    ):
        operator(volume).resume(CONTEXT, event)


def failing_tasks(volume: str, snapshot: dict[str, Any]) -> dict[str, EbsOperator]:
    copy = EbsCopySnapshotOperator(
        task_id="task", snapshot_id=snapshot["SnapshotId"], regions="us-west-2"
    )
    return {"CreateSnapshot": operator(volume), "CopySnapshot": copy}


@pytest.mark.parametrize("action", ["CreateSnapshot", "CopySnapshot"])
def test_failure_between_two_rounds_is_told_and_nothing_is_begun_anew(
    aws: FaultProxy, volume: str, snapshot: dict[str, Any], action: str
) -> None:
    task = failing_tasks(volume, snapshot)[action]
    # What is copied is looked at first, and is complete.
    skip = 1 if action == "CopySnapshot" else 0
    before = aws.calls.count(action)
    aws.rewrite("DescribeSnapshots", becomes(b"pending"), skip=skip)
    with pytest.raises(AirflowRescheduleException):
        task.execute(CONTEXT)
    aws.heal()
    ended = b"<status>error</status><statusMessage>KMS says no</statusMessage>"
    aws.rewrite("DescribeSnapshots", lambda body: body.replace(COMPLETED, ended), skip=skip)
    with pytest.raises(AirflowFailException, match=r"SnapshotFailed.*KMS says no"):
        task.execute(CONTEXT)
    assert aws.calls.count(action) == before + 1
    aws.heal()
    assert task.execute(CONTEXT), "the cleared task begins another"
    assert aws.calls.count(action) == before + 2


def test_failure_that_the_triggerer_has_seen_is_marked_as_well(
    aws: FaultProxy, volume: str, snapshot: dict[str, Any]
) -> None:
    task = operator(volume)
    first = task.execute(CONTEXT)
    ended = b"<status>error</status><statusMessage>KMS says no</statusMessage>"
    aws.rewrite("DescribeSnapshots", lambda body: body.replace(COMPLETED, ended))
    with pytest.raises(AirflowFailException, match="KMS says no"):
        task.resume(CONTEXT, event_of(trigger_for(snapshot | {"SnapshotId": first})))
    aws.heal()
    assert task.execute(CONTEXT) != first


@pytest.mark.parametrize("is_deferred", [False, True])
def test_failure_is_told_though_its_mark_is_refused(
    aws: FaultProxy, volume: str, snapshot: dict[str, Any], is_deferred: bool
) -> None:
    task = operator(volume)
    first = task.execute(CONTEXT)
    aws.answer("CreateTags", status=403, code="UnauthorizedOperation", times=9)
    ended = b"<status>error</status><statusMessage>KMS says no</statusMessage>"
    aws.rewrite("DescribeSnapshots", lambda body: body.replace(COMPLETED, ended))
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=r"SnapshotFailed.*KMS says no.*delete that"):
            if is_deferred:
                task.resume(CONTEXT, event_of(trigger_for(snapshot | {"SnapshotId": first})))
            else:
                task.execute(CONTEXT)
    assert aws.calls.count("CreateSnapshot") == 1


def test_tag_that_somebody_changes_meanwhile_makes_no_second_snapshot(
    ec2: Any, aws: FaultProxy, volume: str
) -> None:
    task = operator(volume)
    task.tags = {"team": "vision"}
    first = task.execute(CONTEXT)
    ec2.create_tags(Resources=[first], Tags=[{"Key": "team", "Value": "speech"}])
    assert task.execute(CONTEXT) == first
    assert aws.calls.count("CreateSnapshot") == 1


def test_deadline_counts_from_when_aws_began(aws: FaultProxy, snapshot: dict[str, Any]) -> None:
    aws.rewrite("DescribeSnapshots", becomes(b"pending"))
    snapshot["StartTime"] -= timedelta(hours=2)
    event = event_of(trigger_for(snapshot, deadline_s=3600.0))
    assert event["status"] == "failed"
    assert "within 1.0 h" in str(event["error"]["expected"])


def test_trigger_bears_a_few_lost_answers(aws: FaultProxy, snapshot: dict[str, Any]) -> None:
    times = trigger_module.MAX_UNANSWERED - 1
    aws.answer("DescribeSnapshots", status=503, code="RequestLimitExceeded", times=times)
    assert event_of(trigger_for(snapshot)) == {"status": "done"}


def test_trigger_hands_back_when_aws_stays_silent(
    aws: FaultProxy, volume: str, snapshot: dict[str, Any]
) -> None:
    aws.drop_request("DescribeSnapshots", times=1000)
    event = event_of(trigger_for(snapshot))
    with pytest.raises(AirflowException, match="CloudUnavailable") as caught:
        operator(volume).resume(CONTEXT, event)
    assert not isinstance(caught.value, AirflowFailException), "a retry may help"


def test_trigger_needs_no_aiobotocore(aws: FaultProxy, snapshot: dict[str, Any]) -> None:
    import sys

    assert event_of(trigger_for(snapshot)) == {"status": "done"}
    assert "aiobotocore" not in sys.modules


def test_limit_that_lasts_makes_way_for_as_long(
    aws: FaultProxy, volume: str, moto: MotoServer
) -> None:
    from airflow.sdk import timezone

    aws.answer("CreateSnapshot", status=400, code="ConcurrentSnapshotLimitExceeded")
    for deferrable in (False, True):
        aws.heal()
        aws.answer("CreateSnapshot", status=400, code="ConcurrentSnapshotLimitExceeded")
        with pytest.raises(AirflowRescheduleException) as caught:
            operator(volume, deferrable=deferrable, poll_interval=timedelta(0)).execute(CONTEXT)
        assert caught.value.reschedule_date > timezone.utcnow() + timedelta(seconds=60)
    assert (
        moto.client("ec2").describe_snapshots(Filters=[{"Name": "volume-id", "Values": [volume]}])[
            "Snapshots"
        ]
        == []
    )


@pytest.mark.parametrize("rescheduled", [False, True])
def test_limit_that_never_passes_is_given_up_by_name(
    aws: FaultProxy, volume: str, rescheduled: bool
) -> None:
    aws.answer("CreateSnapshot", status=400, code="ConcurrentSnapshotLimitExceeded")
    late = context_of(timedelta(hours=25), rescheduled)
    with pytest.raises(AirflowFailException, match=r"CloudError: .*an end within 1 day"):
        operator(volume).execute(late)


def test_look_without_an_answer_costs_no_try(aws: FaultProxy, volume: str) -> None:
    assert operator(volume).execute(CONTEXT).startswith("snap-")
    aws.answer("DescribeSnapshots", status=503, code="RequestLimitExceeded", skip=1)
    with pytest.raises(AirflowRescheduleException):
        operator(volume).execute(CONTEXT)
    aws.heal()
    aws.answer("DescribeSnapshots", status=503, code="RequestLimitExceeded", skip=1)
    with pytest.raises(AirflowException, match="CloudUnavailable"):
        operator(volume, deadline=timedelta(days=-1)).execute(CONTEXT)


def test_sensor_bears_silence_for_its_deadline(aws: FaultProxy, snapshot: dict[str, Any]) -> None:
    sensor = EbsSnapshotSensor(
        task_id="task", snapshot_id=snapshot["SnapshotId"], deadline=timedelta(hours=1)
    )
    aws.drop_request("DescribeSnapshots")
    assert not sensor.poke(CONTEXT)
    assert sensor.poke(CONTEXT)
    assert 3600 < sensor.timeout < 2 * 3600


def test_sensors_say_whether_it_is_there(
    aws: FaultProxy, moto: MotoServer, volume: str, snapshot: dict[str, Any]
) -> None:
    sensor = EbsSnapshotSensor(task_id="task", snapshot_id=snapshot["SnapshotId"])
    assert sensor.mode == "reschedule"
    assert sensor.poke(CONTEXT)
    aws.rewrite("DescribeSnapshots", becomes(b"pending"))
    assert not sensor.poke(CONTEXT)
    assert EbsVolumeSensor(task_id="task", volume_id=volume).poke(CONTEXT)
    ec2 = moto.client("ec2")
    reply = ec2.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1)
    attached = {"volume_id": volume, "instance_id": reply["Instances"][0]["InstanceId"]}
    sensor = EbsAttachmentSensor(task_id="task", **attached)
    assert not sensor.poke(CONTEXT)
    ec2.attach_volume(VolumeId=volume, InstanceId=attached["instance_id"], Device="/dev/sdf")
    assert sensor.poke(CONTEXT)


def test_sensor_may_be_deferred(aws: FaultProxy, snapshot: dict[str, Any]) -> None:
    sensor = EbsSnapshotSensor(
        task_id="task", snapshot_id=snapshot["SnapshotId"], deferrable=True, poke_interval=0.01
    )
    aws.rewrite("DescribeSnapshots", becomes(b"pending"), times=3)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(CONTEXT)
    assert sensor.resume(CONTEXT, event_of(deferred.value.trigger)) is None


def test_sensor_fails_for_what_is_overdue(aws: FaultProxy, snapshot: dict[str, Any]) -> None:
    aws.rewrite("DescribeSnapshots", becomes(b"pending"))
    sensor = EbsSnapshotSensor(
        task_id="task", snapshot_id=snapshot["SnapshotId"], deadline=timedelta(0)
    )
    with pytest.raises(AirflowFailException, match="did not end in time"):
        sensor.poke(CONTEXT)
