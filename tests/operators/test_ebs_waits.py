"""How EBS operators wait: without a worker slot, and not for ever."""

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    TaskDeferred,
)
from tests.support.ebs_waits import (
    CONTEXT,
    becomes,
    context_of,
    event_of,
    failed,
    operator,
    trigger_for,
)
from tests.support.fault_proxy import FaultProxy
from tests.support.moto_server import MotoServer

from imagenet_etl.errors import SnapshotFailed
from imagenet_operators.ebs import EbsCopySnapshotOperator, EbsVolumeSensor
from imagenet_operators.ebs import trigger as trigger_module
from imagenet_operators.ebs.base import EbsOperator

pytestmark = pytest.mark.airflow


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
    aws.rewrite("DescribeSnapshots", failed)
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
    aws.rewrite("DescribeSnapshots", failed, skip=skip)
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
    aws.rewrite("DescribeSnapshots", failed)
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
    aws.rewrite("DescribeSnapshots", failed)
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
