"""Put a published version under instances: whether it can be, and what it leaves at AWS.

The tag ``READY`` is set last: a volume without it is half made, and may be taken away again.
"""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from imagenet_etl.aws.deployment import Deployment, Wanted
from imagenet_etl.aws.ebs.attachments import detach_volume
from imagenet_etl.aws.ebs.published import newest_snapshot
from imagenet_etl.aws.ebs.tags import DEPLOYMENT, PREFIX, DatasetTags, tag_filters, tags_of
from imagenet_etl.aws.ebs.volumes import delete_volume, find_volume
from imagenet_etl.aws.ebs.waits import DETACHED
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.scripts import verify_script
from imagenet_etl.errors import CloudError, CloudNotFound, ConfigError, StillPending, VolumeFailed

__all__ = [
    "READY", "Deployment", "Wanted", "half_made", "mark_ready", "resolve", "take_away", "volume_of",
]  # fmt: skip

log = logging.getLogger(__name__)

READY = f"{PREFIX}:ready"
"""When a volume was mounted and verified; what bears it is never taken away by a clean-up."""

_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")
_GONE = {"terminated", "shutting-down"}
_RUNS = {"pending", "running"}
_FILTER_VALUES = 200
"""How many values EC2 takes in one filter. Source: Amazon EC2 API Reference, DescribeInstances."""


def resolve(ec2: Any, wanted: Wanted, instance_ids: list[str]) -> list[Deployment]:
    """Return the deployment of each instance, in the order given, each instance once.

    Raises:
        ConfigError: No instance is given, or an id is malformed.
        CloudNotFound: No completed snapshot of that version is in the region, or an instance is
            not.
        CloudError: An instance does not run, or is in another zone than the one asked for; the
            snapshot does not say what to verify.
    """
    instances = list(dict.fromkeys(instance_ids))
    for instance_id in instances:
        if not _INSTANCE.fullmatch(instance_id):
            raise ConfigError(f"instance {instance_id!r}", expected="i- and hex digits")
    if not instances:
        raise ConfigError("no instance is given", remedy="Fill in the ids of the instances")
    snapshot = newest_snapshot(ec2, wanted.dataset, wanted.version, wanted.shared_by)
    told = DatasetTags.of(snapshot)
    if wanted.verify != "none":
        _check_verifiable(snapshot["SnapshotId"], told)
    zones = _zones(ec2, instances, wanted.availability_zone)
    values = asdict(replace(wanted, version=told.version))
    del values["shared_by"]  # the volume is ours
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


def _check_verifiable(snapshot_id: str, told: DatasetTags) -> None:
    try:
        # Told here, and not by the instance's script when there is a volume already.
        verify_script(folder=f"/{told.path}", manifest_sha256=told.manifest_sha256, full=False)
    except ConfigError as error:
        raise CloudError(
            f"snapshot {snapshot_id} does not say what to verify",
            expected="the tags imagenet-etl:manifest, a SHA-256, and imagenet-etl:path, of "
            "letters, digits, dot, dash and underscore",
            found=f"{told.manifest_sha256!r} and {told.path!r}",
            remedy="Deploy it without verification, or take a new snapshot",
        ) from error


def _zones(ec2: Any, instances: list[str], asked: str) -> dict[str, str]:
    """Return the zone of each instance, all of which can take a volume of the asked zone."""
    found: dict[str, dict[str, Any]] = {}
    for begin in range(0, len(instances), _FILTER_VALUES):
        found |= _described(ec2, instances[begin : begin + _FILTER_VALUES])
    region = ec2.meta.region_name
    for instance_id in instances:
        if instance_id not in found or found[instance_id]["State"]["Name"] in _GONE:
            raise CloudNotFound(
                f"instance {instance_id} is not in {region}",
                remedy="Check its id and the region of the deployment",
            )
        if (state := found[instance_id]["State"]["Name"]) not in _RUNS:
            raise CloudError(
                f"instance {instance_id} does not run",
                expected=" or ".join(sorted(_RUNS)),
                found=state,
                remedy="Start it, or leave it out",
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


def _described(ec2: Any, instances: list[str]) -> dict[str, dict[str, Any]]:
    pages = ec2.get_paginator("describe_instances").paginate(
        # A filter, unlike InstanceIds, tells by what is left out which of them is missing.
        Filters=[{"Name": "instance-id", "Values": instances}]
    )
    with typed_aws_errors("DescribeInstances", ", ".join(instances)):
        return {
            item["InstanceId"]: item
            for page in pages
            for group in page["Reservations"]
            for item in group["Instances"]
        }


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
    """Detach the half-made volumes; delete those that are off.

    Returns:
        Those that are still there: call it again.

    Raises:
        VolumeFailed: One is attached to another instance, where nobody has unmounted it.
        AccessDenied, CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    left = []
    for volume in half_made(ec2, deployment):
        _check_not_elsewhere(volume, deployment)
        if volume["Attachments"]:
            detach_volume(ec2, volume["VolumeId"])
        try:
            delete_volume(ec2, volume["VolumeId"])
        except (StillPending, VolumeFailed) as attached:
            log.info("%s", attached)
            left.append(volume["VolumeId"])
    return left


def _check_not_elsewhere(volume: dict[str, Any], deployment: Deployment) -> None:
    holders = {item["InstanceId"] for item in volume["Attachments"] if item["State"] != DETACHED}
    if others := holders - {deployment.instance_id}:
        raise VolumeFailed(
            f"volume {volume['VolumeId']} of {deployment.name} is not taken away",
            expected=f"free, or attached to {deployment.instance_id}",
            found=f"attached to {', '.join(sorted(others))}, by somebody else",
            remedy=f"Detach it there and clear this task; or give it the tag {READY} if it is used",
        )
