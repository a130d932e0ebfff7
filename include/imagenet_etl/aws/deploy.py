"""Put a published version under an instance: what a deployment is, and what it leaves at AWS.

A deployment is named by the version, the instance and the mount point. Its volume bears that name
as a tag, so whoever comes again finds it, whatever was lost meanwhile. The tag ``READY`` is set
last: a volume without it is half made, and may be taken away again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from imagenet_etl.aws.ebs.attachments import detach_volume
from imagenet_etl.aws.ebs.snapshots import find_snapshots, newest_snapshot
from imagenet_etl.aws.ebs.tags import DATASET, DEPLOYMENT, PREFIX, DatasetTags, tag_filters, tags_of
from imagenet_etl.aws.ebs.volumes import VolumeRequest, delete_volume, find_volume
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import CloudError, CloudNotFound, ConfigError, StillPending, VolumeFailed

log = logging.getLogger(__name__)

READY = f"{PREFIX}:ready"
"""When a volume was mounted and verified; what bears it is never taken away by a clean-up."""

VERIFY = ("fast", "full", "none")
DEFAULT_MOUNT = "/data"
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")
_MOUNT = re.compile(r"/[A-Za-z0-9._/-]{1,63}")
_GONE = {"terminated", "shutting-down"}


@dataclass(frozen=True)
class Wanted:
    """What a deployment's form asks for.

    Attributes:
        dataset: The dataset's name.
        version: A published version; empty for the newest snapshot's.
        availability_zone: Where the volumes are made; empty for the instance's own zone.
        mount_point: Absolute path on the instance.
        read_only: Whether the volume is mounted read-only.
        verify: One of ``VERIFY``. ``full`` reads every byte, which also loads the volume.
        volume_type: EBS volume type.
        iops: I/O operations a second; 0 for the type's own.
        throughput_mib_s: MiB a second; 0 for the type's own.
        initialization_mib_s: Rate at which EBS loads the snapshot; 0 for as it is read.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    dataset: str
    version: str = ""
    availability_zone: str = ""
    mount_point: str = DEFAULT_MOUNT
    read_only: bool = True
    verify: str = VERIFY[0]
    volume_type: str = "gp3"
    iops: int = 0
    throughput_mib_s: int = 0
    initialization_mib_s: int = 0

    def __post_init__(self) -> None:
        mount = self.mount_point
        if not _MOUNT.fullmatch(mount) or ".." in PurePosixPath(mount).parts or mount[-1] == "/":
            raise ConfigError(
                f"mount point {mount!r}",
                expected="an absolute path of letters, digits, dot, dash and underscore",
            )
        if self.verify not in VERIFY:
            raise ConfigError(f"verify {self.verify!r}", expected=" or ".join(VERIFY))


@dataclass(frozen=True)
class Deployment:
    """One version for one instance; of plain values, so that it crosses from task to task.

    Attributes:
        region: Where instance, snapshot and volume are.
        instance_id: The instance.
        availability_zone: The instance's zone; a volume of another one cannot be attached.
        snapshot_id: What the volume is made from.
        manifest_sha256: SHA-256 of the version's ``manifest.json``, in hex.
        path: The version's folder, relative to the root of the volume.
        dataset, version, mount_point, read_only, verify: As in ``Wanted``.
        volume_type, iops, throughput_mib_s, initialization_mib_s: As in ``Wanted``.
    """

    region: str
    instance_id: str
    availability_zone: str
    snapshot_id: str
    dataset: str
    version: str
    manifest_sha256: str
    path: str
    mount_point: str
    read_only: bool
    verify: str
    volume_type: str
    iops: int
    throughput_mib_s: int
    initialization_mib_s: int

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Deployment:
        """Rebuild what ``to_dict`` gave."""
        return Deployment(**{item.name: values[item.name] for item in fields(Deployment)})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @property
    def name(self) -> str:
        """What its volume is found by: at most 256 characters, the bound of a tag's value."""
        return f"{self.dataset}/{self.version}@{self.instance_id}:{self.mount_point}"

    @property
    def folder(self) -> str:
        """The version's folder on the instance."""
        return str(PurePosixPath(self.mount_point) / self.path)

    def volume_request(self) -> VolumeRequest:
        """Return the volume it wants."""
        told = DatasetTags(self.dataset, self.version, self.manifest_sha256, self.path).to_dict()
        return VolumeRequest(
            availability_zone=self.availability_zone,
            snapshot_id=self.snapshot_id,
            volume_type=self.volume_type,
            iops=self.iops,
            throughput_mib_s=self.throughput_mib_s,
            initialization_mib_s=self.initialization_mib_s,
            tags=told | {DEPLOYMENT: self.name},
        )


def resolve(ec2: Any, wanted: Wanted, instance_ids: list[str]) -> list[Deployment]:
    """Return the deployment of each instance, in the order given, each instance once.

    Raises:
        ConfigError: No instance is given, or an id is malformed.
        CloudNotFound: No completed snapshot of that version is in the region, or an instance is
            not.
        CloudError: An instance is in another zone than the one asked for, or is being terminated.
    """
    instances = list(dict.fromkeys(instance_ids))
    for instance_id in instances:
        if not _INSTANCE.fullmatch(instance_id):
            raise ConfigError(f"instance {instance_id!r}", expected="i- and hex digits")
    if not instances:
        raise ConfigError("no instance is given", remedy="Fill in the ids of the instances")
    snapshot = _snapshot(ec2, wanted)
    told = DatasetTags.of(snapshot)
    zones = _zones(ec2, instances, wanted.availability_zone)
    values = asdict(replace(wanted, version=told.version))
    return [
        Deployment(
            **values | {"availability_zone": zones[instance_id]},
            region=ec2.meta.region_name,
            instance_id=instance_id,
            snapshot_id=snapshot["SnapshotId"],
            manifest_sha256=told.manifest_sha256,
            path=told.path,
        )
        for instance_id in instances
    ]


def _snapshot(ec2: Any, wanted: Wanted) -> dict[str, Any]:
    try:
        snapshot = newest_snapshot(ec2, wanted.dataset, wanted.version)
    except CloudNotFound as missing:
        there = find_snapshots(ec2, {DATASET: wanted.dataset})
        versions = sorted({DatasetTags.of(item).version for item in there})
        raise CloudNotFound(
            missing.what,
            expected=missing.expected,
            found=f"{missing.found}; versions with a snapshot: {', '.join(versions) or 'none'}",
            remedy=missing.remedy,
        ) from None
    told = DatasetTags.of(snapshot)
    if wanted.verify != "none" and not (told.manifest_sha256 and told.path):
        raise CloudError(
            f"snapshot {snapshot['SnapshotId']} does not say what to verify",
            expected="the tags imagenet-etl:manifest and imagenet-etl:path",
            remedy="Deploy it without verification, or take a new snapshot",
        )
    return snapshot


def _zones(ec2: Any, instances: list[str], asked: str) -> dict[str, str]:
    """Return the zone of each instance, all of which can take a volume of the asked zone."""
    pages = ec2.get_paginator("describe_instances").paginate(
        # A filter, unlike InstanceIds, tells by what is left out which of them is missing.
        Filters=[{"Name": "instance-id", "Values": instances}]
    )
    with typed_aws_errors("DescribeInstances", ", ".join(instances)):
        found = {
            item["InstanceId"]: item
            for page in pages
            for group in page["Reservations"]
            for item in group["Instances"]
        }
    region = ec2.meta.region_name
    for instance_id in instances:
        if instance_id not in found or found[instance_id]["State"]["Name"] in _GONE:
            raise CloudNotFound(
                f"instance {instance_id} is not in {region}",
                remedy="Check its id and the region of the deployment",
            )
        zone = found[instance_id]["Placement"]["AvailabilityZone"]
        if asked and zone != asked:
            raise CloudError(
                f"instance {instance_id} is in another availability zone",
                expected=asked,
                found=zone,
                remedy="Leave the zone empty: a volume can only be attached in its own",
            )
    return {name: found[name]["Placement"]["AvailabilityZone"] for name in instances}


def volume_of(ec2: Any, deployment: Deployment) -> dict[str, Any]:
    """Return a deployment's volume as EC2 describes it.

    Raises:
        CloudNotFound: There is none.
    """
    volume = find_volume(ec2, deployment.name)
    if volume is None:
        raise CloudNotFound(
            f"deployment {deployment.name} has no volume in {deployment.region}",
            remedy="Clear the task that creates it, or start the deployment again",
        )
    return volume


def mark_ready(ec2: Any, volume_id: str) -> None:
    """Say that a volume is complete; from now on no clean-up takes it away.

    Raises:
        AccessDenied, CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    with typed_aws_errors("CreateTags", volume_id):
        ec2.create_tags(Resources=[volume_id], Tags=[{"Key": READY, "Value": when}])


def half_made(ec2: Any, deployment: Deployment) -> list[dict[str, Any]]:
    """Return the deployment's volumes that were never ready; more than one after an accident."""
    pages = ec2.get_paginator("describe_volumes").paginate(
        Filters=tag_filters({DEPLOYMENT: deployment.name})
    )
    with typed_aws_errors("DescribeVolumes", deployment.name):
        found = [item for page in pages for item in page["Volumes"]]
    return [
        item
        for item in found
        # A filter takes * and ? for wildcards, which a tag's value may hold.
        if tags_of(item).get(DEPLOYMENT) == deployment.name
        and item["State"] not in ("deleting", "deleted")
        and READY not in tags_of(item)
    ]


def take_away(ec2: Any, deployment: Deployment) -> list[str]:
    """Detach the half-made volumes; delete those that are off. Call it until none is left.

    Returns:
        Those that are still being detached.

    Raises:
        AccessDenied, CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    left = []
    for volume in half_made(ec2, deployment):
        if volume["Attachments"]:
            detach_volume(ec2, volume["VolumeId"])
        try:
            delete_volume(ec2, volume["VolumeId"])
        except (StillPending, VolumeFailed) as attached:
            log.info("%s", attached)
            left.append(volume["VolumeId"])
    return left
