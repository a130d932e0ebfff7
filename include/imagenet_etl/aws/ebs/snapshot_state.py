"""What a snapshot that was found is good for.

A snapshot is unusable when it ended in an error, lies in the recycle bin, or bears the tag
``UNUSABLE``, which tells why.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from imagenet_etl.aws.ebs.tags import UNUSABLE, tags_of
from imagenet_etl.aws.ebs.waits import (
    FAILED_SNAPSHOT,
    SNAPSHOT_DEADLINE_S,
    check_deadline,
    progress_of_snapshot,
)
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import CloudNotFound, EtlError, SnapshotFailed, StillPending

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 30.0
_MAX_TAG = 256


def best_snapshot(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the best of the snapshots: a completed one, else the newest that is under way.

    Args:
        found: As ``find_snapshots`` gives them, the newest last.
    """
    good = [item for item in found if item["State"] not in FAILED_SNAPSHOT]
    good.sort(key=lambda item: item["State"] == "completed")
    return good[-1] if good else None


def best_or_failed(ec2: Any, found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the best of the snapshots, or None when there is none at all.

    Raises:
        SnapshotFailed: All of them ended in an error, which is told once: they are marked, so the
            next run, before which somebody has mended the cause, begins anew. Where the mark is
            refused they have to be deleted first.
    """
    best = best_snapshot(found)
    if best is not None or not found:
        return best
    for failed in found:
        told = f"{failed['State']} {failed.get('StateMessage', '')}".strip()
        try:
            mark_unusable(ec2, failed["SnapshotId"], told)
        except EtlError as error:
            log.warning("%s is not marked: %s", failed["SnapshotId"], error)
    progress_of_snapshot(found[-1])
    return None


def check_completed(snapshot: dict[str, Any]) -> None:
    """Return if a described snapshot is complete.

    Raises:
        StillPending: It is under way.
        SnapshotFailed: It ended in an error, or is under way beyond its deadline.
    """
    progress = progress_of_snapshot(snapshot)
    begun = snapshot.get("StartTime")
    if isinstance(begun, datetime):
        check_deadline(progress, begun, SNAPSHOT_DEADLINE_S, SnapshotFailed)
    if not progress.done:
        raise StillPending(str(progress), retry_after_s=_ASK_AGAIN_S)


def check_unmarked(snapshot: dict[str, Any]) -> None:
    """Return if a described snapshot does not bear the mark ``UNUSABLE``.

    Raises:
        SnapshotFailed: It does.
    """
    if reason := tags_of(snapshot).get(UNUSABLE):
        raise SnapshotFailed(
            f"snapshot {snapshot['SnapshotId']} is marked unusable",
            found=reason,
            remedy="Take another one, and delete this",
        )


def described_snapshot(ec2: Any, snapshot_id: str) -> dict[str, Any]:
    """Return a snapshot of this account as EC2 describes it.

    Raises:
        CloudNotFound: There is none of that id in the client's region.
    """
    found = _by_id(ec2, snapshot_id)
    if found is None:
        raise CloudNotFound(
            f"snapshot {snapshot_id} does not exist in {ec2.meta.region_name}",
            remedy="Run snapshot_ebs again",
        )
    return found


def is_usable(ec2: Any, snapshot_id: str) -> bool:
    """Return whether a snapshot of this account is complete and not marked; changes nothing."""
    found = _by_id(ec2, snapshot_id)
    return found is not None and found["State"] == "completed" and UNUSABLE not in tags_of(found)


def _by_id(ec2: Any, snapshot_id: str) -> dict[str, Any] | None:
    with typed_aws_errors("DescribeSnapshots", snapshot_id):
        # A filter, unlike SnapshotIds, answers a missing snapshot with an empty list.
        reply = ec2.describe_snapshots(
            OwnerIds=["self"], Filters=[{"Name": "snapshot-id", "Values": [snapshot_id]}]
        )
    return next(iter(reply["Snapshots"]), None)


def mark_unusable(ec2: Any, snapshot_id: str, reason: str) -> None:
    """Tag a snapshot so that nobody takes it for a good one.

    Raises:
        CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    with typed_aws_errors("CreateTags", snapshot_id):
        ec2.create_tags(
            Resources=[snapshot_id], Tags=[{"Key": UNUSABLE, "Value": reason[:_MAX_TAG]}]
        )


def mark_usable(ec2: Any, snapshot_id: str) -> None:
    """Take the mark of ``mark_unusable`` off again.

    Raises:
        CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    with typed_aws_errors("DeleteTags", snapshot_id):
        ec2.delete_tags(Resources=[snapshot_id], Tags=[{"Key": UNUSABLE}])
