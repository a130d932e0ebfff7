"""EBS sensors: they say whether it is there, bear silence, and do not wait for ever."""

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from tests.support.deploy_steps import IMAGE
from tests.support.ebs_waits import CONTEXT, becomes, event_of
from tests.support.fault_proxy import FaultProxy
from tests.support.moto_server import MotoServer

from imagenet_operators.ebs import EbsAttachmentSensor, EbsSnapshotSensor, EbsVolumeSensor

pytestmark = pytest.mark.airflow


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
