"""Snapshots by their tags: find them, or make the one that is missing.

CreateSnapshot takes no idempotency token, so a snapshot is found again by its tags. Source: Amazon
EC2 API Reference, CreateSnapshot and "Error codes" (one snapshot of a volume every 15 seconds).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.ebs.once import found_soon, never_repeated
from imagenet_etl.aws.ebs.snapshot_state import best_or_failed, best_snapshot
from imagenet_etl.aws.ebs.tags import TOKEN, UNUSABLE, tag_filters, tag_specification, tags_of
from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.errors import CloudUnavailable, ConfigError, StillPending

log = logging.getLogger(__name__)

LIMITS_S: dict[str, float] = {
    "SnapshotCreationPerVolumeRateExceeded": 30.0,
    "ConcurrentSnapshotLimitExceeded": 300.0,
    "ResourceLimitExceeded": 300.0,
}
"""For how long to leave EC2 alone after each of the limits that end by themselves."""

_NOT_HELD: AbstractContextManager[None] = nullcontext()

Look = Callable[[], dict[str, Any] | None]
"""Returns what a creating call has made, or None when nothing can be seen of it."""

_FREE_TAGS = ("Name",)
"""Tags that people change in the console; nothing is recognised by them."""


def find_snapshots(ec2: Any, tags: Mapping[str, str], volume_id: str = "") -> list[dict[str, Any]]:
    """Return this account's snapshots with all of these tags, in whatever state, newest last.

    Those tagged as unusable are left out, unless that very tag is asked for.

    Args:
        ec2: The client of the region to look in.
        tags: At least one.
        volume_id: The volume they were taken of; empty for any.

    Raises:
        AccessDenied, CloudError: The credentials do not allow it.
        CloudUnavailable: EC2 fails beyond the client's retries.
    """
    wanted = {key: value for key, value in tags.items() if key not in _FREE_TAGS}
    if not wanted:
        raise ConfigError("snapshots are looked for without a tag", expected="one tag at least")
    filters = tag_filters(wanted)
    if volume_id:
        filters.append({"Name": "volume-id", "Values": [volume_id]})
    pages = ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=filters)
    with typed_aws_errors("DescribeSnapshots", volume_id or "snapshots"):
        found = [item for page in pages for item in page["Snapshots"]]
    # A filter's * and ? are wildcards; a tag's are not.
    found = [item for item in found if _bears(item, wanted)]
    return sorted(found, key=lambda item: (item["StartTime"], item["SnapshotId"]))


def create_snapshot(
    ec2: Any,
    volume_id: str,
    *,
    description: str,
    tags: Mapping[str, str],
    held: AbstractContextManager[None] = _NOT_HELD,
) -> dict[str, Any]:
    """Return the snapshot of a volume that bears these tags, which is begun if there is none.

    The answer may be pending still. One that ended in an error is told once, and marked: whoever
    asks in rounds is not to begin another one in each of them.

    Args:
        ec2: The client of the volume's region.
        volume_id: The volume.
        description: Shown in the console.
        tags: What it is found by: ``TOKEN`` if it is among them, else all but the name.
        held: Holds the file system still while the snapshot begins.

    Raises:
        SnapshotFailed: The one that was there ended in an error; the next call begins anew.
        StillPending: EC2 takes no further snapshot now; ask again later.
        CloudNotFound, AccessDenied, CloudError: The volume cannot be used.
        CloudUnavailable: EC2 fails; the next try finds the snapshot by its tags.
    """
    known = {TOKEN: tags[TOKEN]} if TOKEN in tags else tags

    def look() -> dict[str, Any] | None:
        return best_snapshot(find_snapshots(ec2, known, volume_id=volume_id))

    if there := best_or_failed(ec2, find_snapshots(ec2, known, volume_id=volume_id)):
        return there
    request = {
        "VolumeId": volume_id,
        "Description": description,
        "TagSpecifications": tag_specification("snapshot", tags),
    }
    with held:
        made = _sent(ec2, "CreateSnapshot", request, look)
    return found_soon(look) or made


def make_copy(ec2: Any, request: dict[str, Any], look: Look) -> dict[str, Any]:
    """Send one CopySnapshot, and return what ``look`` then finds; see ``create_snapshot``.

    Raises:
        StillPending: EC2 does not show it yet, and its answer tells no more than an id.
    """
    made = _sent(ec2, "CopySnapshot", request, look)
    if (found := found_soon(look)) is None:
        raise StillPending(f"copy {made['SnapshotId']} was begun, and EC2 does not show it yet")
    return found


def _sent(ec2: Any, action: str, request: dict[str, Any], look: Look) -> dict[str, Any]:
    """Send a creating call once; return its answer or, when that was lost, what it has made.

    Raises:
        StillPending: A limit that ends by itself was met.
        CloudUnavailable: No reply came, and nothing that was made can be seen yet.
        CloudError: EC2 refuses.
    """
    client = never_repeated(ec2)
    call = client.create_snapshot if action == "CreateSnapshot" else client.copy_snapshot
    thing = request.get("VolumeId") or request["SourceSnapshotId"]
    try:
        with typed_aws_errors(action, thing, passing=LIMITS_S):
            made = call(**request)
    except ClientError as error:
        code = code_of(error)
        raise StillPending(
            f"{action} on {thing} has to wait",
            found=code,
            remedy="Other snapshots have to end first",
            retry_after_s=LIMITS_S[code],
        ) from error
    except CloudUnavailable as lost:
        # The call may have been heard: what it made bears the tags, and what is seen has begun.
        found = found_soon(look)
        if found is None:
            raise
        log.warning("%s; it was heard all the same: %s", lost, found["SnapshotId"])
        return found
    log.info("%s on %s made %s", action, thing, made["SnapshotId"])
    return dict(made)


def _bears(snapshot: dict[str, Any], wanted: Mapping[str, str]) -> bool:
    there = tags_of(snapshot)
    if UNUSABLE in there and UNUSABLE not in wanted:
        return False
    return all(there.get(key) == value for key, value in wanted.items())
