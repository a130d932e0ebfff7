"""Stage ``snapshot_ebs``: one snapshot of the data volume for one published version.

CreateSnapshot takes no idempotency token, so a snapshot is found again by its tags: whoever repeats
the call after a lost reply finds the first one. Source: Amazon EC2 API reference, CreateSnapshot.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.build import Build
from imagenet_etl.errors import NothingToDo, SnapshotFailed, StillPending
from imagenet_etl.receipts import Receipt
from imagenet_etl.stage import Place, Result

log = logging.getLogger(__name__)
DEADLINE_S = 24 * 3600.0
"""A first snapshot of a terabyte takes hours; after a day something is wrong."""

_TAG = "imagenet-etl"


def snapshot_ebs(place: Place) -> Result:
    """Find or create the snapshot; done when it is completed.

    The facts of the receipt hold ``snapshot_id`` and ``volume_id``.

    Raises:
        NothingToDo: No volume id is set.
        StillPending: It is under way; call again later.
        SnapshotFailed: It ended in an error, or is older than ``DEADLINE_S`` and still pending.
        CloudNotFound, AccessDenied: The volume cannot be used.
    """
    build, verified = place.build, place.done["verify"]
    volume = build.settings.ebs_volume_id
    if not volume:
        raise NothingToDo("no EBS volume id is set, so no snapshot is taken")
    ec2 = build.client("ec2")
    snapshot = _find(ec2, volume, verified)
    if snapshot is None:
        # A snapshot holds what was written to the volume, not what is still in memory.
        build.storage.flush(build.published)
        snapshot = _create(ec2, volume, build, verified)
        log.info("created snapshot %s of %s", snapshot["SnapshotId"], volume)
    _check_completed(snapshot, volume)
    return Result(
        counts={"volume_gib": snapshot["VolumeSize"]},
        outputs=(),
        facts={"snapshot_id": snapshot["SnapshotId"], "volume_id": volume},
    )


def snapshot_is_there(build: Build, receipt: Receipt) -> bool:
    """Return whether the noted snapshot still exists and is complete; changes nothing."""
    if not build.settings.ebs_volume_id:
        return False
    identifier = receipt.facts["snapshot_id"]
    with typed_aws_errors("DescribeSnapshots", identifier):
        # A filter, unlike SnapshotIds, answers a missing snapshot with an empty list.
        reply = build.client("ec2").describe_snapshots(
            OwnerIds=["self"],
            Filters=[{"Name": "snapshot-id", "Values": [identifier]}],
        )
    return any(item["State"] == "completed" for item in reply["Snapshots"])


def _find(ec2: Any, volume: str, verified: Receipt) -> dict[str, Any] | None:
    """Return the newest snapshot that bears the version's tags, preferring one that is not lost."""
    pages = ec2.get_paginator("describe_snapshots").paginate(
        OwnerIds=["self"],
        Filters=[
            {"Name": "volume-id", "Values": [volume]},
            {"Name": f"tag:{_TAG}:manifest", "Values": [verified.facts["manifest_sha256"]]},
        ],
    )
    with typed_aws_errors("DescribeSnapshots", volume):
        found = [item for page in pages for item in page["Snapshots"]]
    found.sort(key=lambda item: (item["State"] != "error", item["StartTime"]))
    return found[-1] if found else None


def _create(ec2: Any, volume: str, build: Build, verified: Receipt) -> dict[str, Any]:
    name = f"{build.facts.name}/{verified.facts['version']}"
    tags = {
        "Name": f"{_TAG} {name}",
        f"{_TAG}:dataset": build.facts.name,
        f"{_TAG}:version": verified.facts["version"],
        f"{_TAG}:manifest": verified.facts["manifest_sha256"],
    }
    with typed_aws_errors("CreateSnapshot", volume):
        snapshot: dict[str, Any] = ec2.create_snapshot(
            VolumeId=volume,
            Description=f"{build.facts.title}, version {verified.facts['version']}",
            TagSpecifications=[
                {
                    "ResourceType": "snapshot",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ],
        )
    return snapshot


def _check_completed(snapshot: dict[str, Any], volume: str) -> None:
    state, identifier = snapshot["State"], snapshot["SnapshotId"]
    if state == "completed":
        return
    age_s = (datetime.now(UTC) - snapshot["StartTime"]).total_seconds()
    if state == "error" or age_s > DEADLINE_S:
        raise SnapshotFailed(
            f"snapshot {identifier} of {volume} did not complete",
            expected=f"state completed within {DEADLINE_S / 3600:.0f} h",
            found=f"{state} after {age_s / 3600:.1f} h {snapshot.get('StateMessage', '')}".strip(),
            remedy="Delete that snapshot and run again",
        )
    raise StillPending(
        f"snapshot {identifier} of {volume} is {state}", found=snapshot.get("Progress", "")
    )
