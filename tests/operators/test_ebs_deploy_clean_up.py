"""What a failed deployment takes away again, and what it leaves alone."""

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from tests.support.deploy_steps import (
    IMAGE,
    ZONE,
    clean_up,
    context,
    deployed,
    mount,
    says,
    sent,
    step,
    verify,
)
from tests.support.fault_proxy import FaultProxy
from tests.support.moto_server import MotoServer

from imagenet_etl.aws.deploy import READY
from imagenet_etl.aws.ebs.tags import tags_of
from imagenet_operators import deploy

pytestmark = pytest.mark.airflow


def test_half_made_volume_is_unmounted_detached_and_deleted(
    ec2: Any, moto: MotoServer, attached: dict[str, Any]
) -> None:
    mount(attached)
    assert len(clean_up(attached)) == 1
    assert deployed(ec2) == []
    assert [command["Comment"].split()[1] for command in sent(moto, attached)] == [
        "mount",
        "unmount",
    ]
    with pytest.raises(AirflowSkipException, match="nothing half made"):
        clean_up(attached)


def test_no_volume_but_the_half_made_one_is_unmounted(
    ec2: Any, moto: MotoServer, attached: dict[str, Any]
) -> None:
    (volume,) = deployed(ec2)
    clean_up(attached)
    (command,) = sent(moto, attached)
    assert volume["VolumeId"] in command["Parameters"]["commands"][0]
    assert deployed(ec2) == []


def test_volume_in_use_on_the_instance_is_not_detached(
    aws: FaultProxy, ec2: Any, attached: dict[str, Any]
) -> None:
    words = "cannot unmount /data; stop what uses it"
    change = says("Failed", ResponseCode=1, StandardErrorContent=words)
    aws.rewrite("GetCommandInvocation", change)
    with pytest.raises(AirflowFailException, match=r"VolumeFailed.*cannot unmount.*fuser -vm"):
        clean_up(attached)
    assert "DetachVolume" not in aws.calls
    (volume,) = deployed(ec2)
    assert volume["Attachments"]


@pytest.mark.parametrize("details", ["Undeliverable", "Delivery Timed Out"])
def test_unmount_that_never_arrived_does_not_keep_the_volume(
    aws: FaultProxy, ec2: Any, attached: dict[str, Any], details: str
) -> None:
    aws.rewrite("GetCommandInvocation", says("TimedOut", StatusDetails=details, ResponseCode=-1))
    clean_up(attached)
    assert deployed(ec2) == []


def test_volume_that_was_moved_to_another_instance_is_left_there(
    aws: FaultProxy, ec2: Any, attached: dict[str, Any]
) -> None:
    (volume,) = deployed(ec2)
    reply = ec2.run_instances(
        ImageId=IMAGE, MinCount=1, MaxCount=1, Placement={"AvailabilityZone": ZONE}
    )
    other = reply["Instances"][0]["InstanceId"]
    ec2.detach_volume(VolumeId=volume["VolumeId"], InstanceId=attached["instance_id"])
    ec2.attach_volume(VolumeId=volume["VolumeId"], InstanceId=other, Device="/dev/sdf")
    with pytest.raises(AirflowFailException, match=rf"VolumeFailed.*attached to {other}"):
        clean_up(attached)
    (left,) = deployed(ec2)
    assert left["Attachments"][0]["InstanceId"] == other


def test_unmount_is_waited_for(aws: FaultProxy, ec2: Any, attached: dict[str, Any]) -> None:
    aws.rewrite("GetCommandInvocation", says("InProgress"))
    with pytest.raises(AirflowRescheduleException):
        clean_up(attached)
    assert "DetachVolume" not in aws.calls
    late = context()
    late["ti"].start_date -= timedelta(hours=1)
    with pytest.raises(AirflowFailException, match=r"is InProgress.*an end within 0:30"):
        step(deploy.DeployCleanUpOperator, attached).execute(late)


def test_silent_instance_does_not_keep_the_volume(
    aws: FaultProxy, ec2: Any, attached: dict[str, Any]
) -> None:
    mount(attached)
    aws.answer("SendCommand", status=400, code="InvalidInstanceId")
    clean_up(attached)
    assert deployed(ec2) == []


def test_volume_that_was_ready_outlives_a_later_failure(ec2: Any, attached: dict[str, Any]) -> None:
    verify(attached)
    report = step(deploy.DeployReportOperator, attached).execute(context())
    for word in (
        "sudo umount /data",
        "/etc/fstab",
        report["volume_id"],
        "/data/datasets/tiny_imagenet/v1",
    ):
        assert word in report["text"]
    (volume,) = deployed(ec2)
    assert READY in tags_of(volume)
    with pytest.raises(AirflowSkipException, match="nothing half made"):
        clean_up(attached)
    assert deployed(ec2) == [volume]


def test_detachment_that_takes_long_makes_way(
    aws: FaultProxy, ec2: Any, attached: dict[str, Any]
) -> None:
    aws.answer("DetachVolume", status=400, code="IncorrectState")
    with pytest.raises(AirflowRescheduleException):
        clean_up(attached)
    assert len(deployed(ec2)) == 1
    clean_up(attached)
    assert deployed(ec2) == []


def test_detachment_that_never_ends_is_given_up_by_name(
    aws: FaultProxy, attached: dict[str, Any]
) -> None:
    aws.answer("DetachVolume", status=400, code="IncorrectState", times=100)
    late = context()
    late["ti"].start_date -= timedelta(hours=1)
    with pytest.raises(
        AirflowFailException, match=r"CloudError: volume vol-.*cannot be deleted.*Unmount /data"
    ):
        step(deploy.DeployCleanUpOperator, attached).execute(late)
