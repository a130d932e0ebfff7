"""Attach a volume to an instance under a device name that is free, and detach it.

On Nitro instances the name is only a label: the guest finds the volume by its id, which is the
serial of the NVMe device. Sources: Amazon EC2 User Guide, "Device names for volumes on Amazon EC2
instances" (/dev/sd[f-p] recommended); Amazon EC2 API Reference, AttachVolume.
"""

from __future__ import annotations

import logging
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.ebs.once import found_soon
from imagenet_etl.aws.ebs.waits import DETACHED, attachment_of, described_volume
from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.errors import CloudNotFound, StillPending, VolumeFailed

log = logging.getLogger(__name__)

DEVICES = tuple(f"/dev/sd{letter}" for letter in "fghijklmnop")

_TAKEN = ("InvalidParameterValue", "InvalidDevice.InUse")
"""EC2's codes for a device name that is in use."""

_IN_USE, _STATE = "VolumeInUse", ("IncorrectState", "IncorrectInstanceState")
_ENDING = ("shutting-down", "terminated")


def attach_volume(ec2: Any, volume_id: str, instance_id: str, device: str = "") -> str:
    """Attach a volume, unless it is attached to this instance already; return its device name.

    Args:
        ec2: The client of their region.
        volume_id: The volume; available.
        instance_id: The instance; in the same zone.
        device: A name such as ``/dev/sdf``; empty for one that is free.

    Raises:
        VolumeFailed: It is attached elsewhere or lies in another zone, no name is free, or the
            instance is being terminated.
        StillPending: The volume is not made yet, or the instance not ready.
        CloudNotFound, AccessDenied, CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    if there := _attached_as(ec2, volume_id, instance_id):
        return there
    instance = described_instance(ec2, instance_id)
    _check_alive(instance)
    _check_zone(described_volume(ec2, volume_id), instance)
    used = {_letters(item["DeviceName"]) for item in instance.get("BlockDeviceMappings", ())}
    free = [device] if device else [name for name in DEVICES if _letters(name) not in used]
    for name in free:
        try:
            with typed_aws_errors("AttachVolume", volume_id, passing=(*_TAKEN, _IN_USE, *_STATE)):
                ec2.attach_volume(VolumeId=volume_id, InstanceId=instance_id, Device=name)
        except ClientError as error:
            if _answer(ec2, volume_id, instance_id, error):
                log.info("%s of %s was taken meanwhile", name, instance_id)
                continue
        return _attached_as(ec2, volume_id, instance_id) or name
    raise VolumeFailed(
        f"volume {volume_id} cannot be attached to {instance_id}",
        expected="a free device name" if not device else f"{device} to be free",
        found=", ".join(sorted(item["DeviceName"] for item in _mappings(ec2, instance_id))),
        remedy="Detach a volume that is not needed, or name another device",
    )


def detach_volume(ec2: Any, volume_id: str) -> None:
    """Ask for a volume's detachment; a missing or free one is fine. Nothing is forced.

    Unmount it on the instance first. Ask ``detachment_progress`` for the end.

    Raises:
        AccessDenied, CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    try:
        volume = described_volume(ec2, volume_id)
        for item in volume.get("Attachments", ()):
            if item["State"] in ("detaching", DETACHED):
                continue
            # IncorrectState: somebody else, or the lost first try, has begun it.
            with typed_aws_errors("DetachVolume", volume_id, passing=_STATE):
                ec2.detach_volume(VolumeId=volume_id, InstanceId=item["InstanceId"])
    except CloudNotFound:
        log.info("volume %s is gone already", volume_id)
    except ClientError as error:
        log.info("volume %s: %s", volume_id, error)


def set_delete_on_termination(ec2: Any, instance_id: str, volume_id: str) -> None:
    """Let an attached volume be deleted with its instance; said twice, it does no harm.

    Raises:
        StillPending: EC2 does not show the attachment yet.
        CloudNotFound, AccessDenied, CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    there = attachment_of(described_volume(ec2, volume_id), instance_id)
    if not there:
        raise StillPending(f"volume {volume_id} is not attached to {instance_id} yet")
    if there.get("DeleteOnTermination"):
        return
    mapping = {"DeviceName": there["Device"], "Ebs": {"DeleteOnTermination": True}}
    with typed_aws_errors("ModifyInstanceAttribute", instance_id):
        ec2.modify_instance_attribute(InstanceId=instance_id, BlockDeviceMappings=[mapping])


def described_instance(ec2: Any, instance_id: str) -> dict[str, Any]:
    """Return an instance as EC2 describes it.

    Raises:
        CloudNotFound: There is none of that id in the client's region.
    """
    with typed_aws_errors("DescribeInstances", instance_id):
        reply = ec2.describe_instances(InstanceIds=[instance_id])
    found = [item for group in reply["Reservations"] for item in group["Instances"]]
    if not found:
        raise CloudNotFound(f"{instance_id} does not exist", remedy="Check its id and its region")
    return dict(found[0])


def _mappings(ec2: Any, instance_id: str) -> list[dict[str, Any]]:
    return list(described_instance(ec2, instance_id).get("BlockDeviceMappings", ()))


def _answer(ec2: Any, volume_id: str, instance_id: str, error: ClientError) -> bool:
    """Return whether another name may do; False when the volume is attached after all.

    Raises:
        VolumeFailed: It went to another instance, or EC2 refuses for another reason.
        StillPending: Volume or instance are in a state that passes.
    """
    code = code_of(error)
    told = error.response["Error"].get("Message", "")
    # The call may have been heard before, and its reply lost; what it did may show late.
    if _attached_as(ec2, volume_id, instance_id):
        return False
    if code == _IN_USE and found_soon(lambda: bool(_attached_as(ec2, volume_id, instance_id))):
        return False
    if code in _TAKEN and "in use" in told:
        return True
    if code in _STATE:
        raise StillPending(
            f"volume {volume_id} cannot be attached to {instance_id} yet",
            found=told or code,
            retry_after_s=10.0,
        ) from error
    raise VolumeFailed(
        f"volume {volume_id} cannot be attached to {instance_id}", found=f"{code} {told}".strip()
    ) from error


def _attached_as(ec2: Any, volume_id: str, instance_id: str) -> str:
    """Return the device name of the attachment to this instance; empty without one.

    Raises:
        VolumeFailed: It is attached to another instance.
    """
    volume = described_volume(ec2, volume_id)
    there = attachment_of(volume, instance_id)
    if there and there["State"] != "detaching":
        return str(there["Device"])
    for item in volume.get("Attachments", ()):
        if item["State"] == "detaching":
            raise StillPending(f"volume {volume_id} is detaching", retry_after_s=5.0)
        if item["State"] != DETACHED:
            raise VolumeFailed(
                f"volume {volume_id} is attached to another instance",
                expected=instance_id,
                found=item["InstanceId"],
                remedy="Make another volume from the snapshot for this instance",
            )
    return ""


def _check_alive(instance: dict[str, Any]) -> None:
    state = instance.get("State", {}).get("Name", "")
    if state in _ENDING:
        raise VolumeFailed(
            f"no volume can be attached to {instance['InstanceId']}",
            expected="an instance that lives",
            found=state,
            remedy="Name another instance",
        )


def _check_zone(volume: dict[str, Any], instance: dict[str, Any]) -> None:
    zone = instance.get("Placement", {}).get("AvailabilityZone", "")
    if zone and zone != volume["AvailabilityZone"]:
        raise VolumeFailed(
            f"volume {volume['VolumeId']} is in another zone than {instance['InstanceId']}",
            expected=zone,
            found=volume["AvailabilityZone"],
            remedy="Make the volume in the instance's zone",
        )


def _letters(device: str) -> str:
    """Return what tells a device name: /dev/sdf and /dev/xvdf are one."""
    return device.removeprefix("/dev/").removeprefix("xvd").removeprefix("sd")
