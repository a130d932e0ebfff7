"""A volume is attached once, under a name that is free, and never taken by force."""

from typing import Any

import pytest

from imagenet_etl.aws.ebs.attachments import (
    DEVICES,
    attach_volume,
    described_instance,
    detach_volume,
    set_delete_on_termination,
)
from imagenet_etl.aws.ebs.waits import (
    attachment_progress,
    detachment_progress,
    volume_progress,
)
from imagenet_etl.errors import CloudNotFound, StillPending, VolumeFailed


def another_volume(ec2: Any, zone: str = "us-east-1a") -> str:
    return str(ec2.create_volume(AvailabilityZone=zone, Size=8)["VolumeId"])


def test_volume_is_attached_once(ec2: Any, volume: str, instance: str) -> None:
    assert attach_volume(ec2, volume, instance) == "/dev/sdf"
    assert attach_volume(ec2, volume, instance) == "/dev/sdf"
    assert attachment_progress(ec2, volume, instance).done
    assert volume_progress(ec2, volume).state == "in-use"


def test_next_free_name_is_chosen(ec2: Any, volume: str, instance: str) -> None:
    attach_volume(ec2, another_volume(ec2), instance, "/dev/xvdf")
    assert attach_volume(ec2, volume, instance) == "/dev/sdg"


def test_name_that_is_asked_for_is_used(ec2: Any, volume: str, instance: str) -> None:
    assert attach_volume(ec2, volume, instance, "/dev/sdp") == "/dev/sdp"


def test_full_instance_is_told(ec2: Any, volume: str, instance: str) -> None:
    for name in DEVICES:
        attach_volume(ec2, another_volume(ec2), instance, name)
    with pytest.raises(VolumeFailed, match="expected a free device name"):
        attach_volume(ec2, volume, instance)


def test_volume_of_another_instance_is_left_there(ec2: Any, volume: str, instance: str) -> None:
    image = "ami-12c6146b"
    other = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    attach_volume(ec2, volume, instance)
    with pytest.raises(VolumeFailed, match=f"expected {other}, found {instance}"):
        attach_volume(ec2, volume, other)
    with pytest.raises(VolumeFailed, match=f"found attached to {instance}"):
        attachment_progress(ec2, volume, other)


def test_other_zone_is_told_before_the_call(ec2: Any, instance: str) -> None:
    far = another_volume(ec2, "us-east-1b")
    with pytest.raises(VolumeFailed, match="expected us-east-1a, found us-east-1b"):
        attach_volume(ec2, far, instance)


def test_instance_that_ends_gets_no_volume(ec2: Any, volume: str, instance: str) -> None:
    ec2.terminate_instances(InstanceIds=[instance])
    with pytest.raises(VolumeFailed, match="found terminated"):
        attach_volume(ec2, volume, instance)


def test_volume_is_told_to_end_with_its_instance(ec2: Any, volume: str, instance: str) -> None:
    with pytest.raises(StillPending, match="not attached"):
        set_delete_on_termination(ec2, instance, volume)
    attach_volume(ec2, volume, instance)
    for _ in range(2):
        set_delete_on_termination(ec2, instance, volume)
    mapped = described_instance(ec2, instance)["BlockDeviceMappings"]
    ends = {item["Ebs"]["VolumeId"]: item["Ebs"]["DeleteOnTermination"] for item in mapped}
    assert ends[volume] is True


def test_missing_volume_is_named(ec2: Any, instance: str) -> None:
    with pytest.raises(CloudNotFound, match="vol-0123456789abcdef0 does not exist"):
        attach_volume(ec2, "vol-0123456789abcdef0", instance)


def test_detached_volume_is_free_again(ec2: Any, volume: str, instance: str) -> None:
    attach_volume(ec2, volume, instance)
    assert not detachment_progress(ec2, volume).done
    detach_volume(ec2, volume)
    detach_volume(ec2, volume)
    progress = detachment_progress(ec2, volume)
    assert (progress.done, progress.state) == (True, "available")


def test_missing_volume_is_detached_already(ec2: Any) -> None:
    detach_volume(ec2, "vol-0123456789abcdef0")
