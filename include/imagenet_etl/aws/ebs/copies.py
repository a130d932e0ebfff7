"""Copies of a snapshot in other regions, each made once.

A copy takes no idempotency token either; the tag ``COPY_OF`` tells it. The volume id of a copy is
arbitrary. Sources: Amazon EC2 API Reference, CopySnapshot; Amazon EBS User Guide, "Copy an Amazon
EBS snapshot" (twenty copies at once into a region, which answers ResourceLimitExceeded beyond).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagenet_etl.aws.ebs.snapshot_state import best_snapshot
from imagenet_etl.aws.ebs.snapshots import find_snapshots, make_copy
from imagenet_etl.aws.ebs.tags import COPY_KEY, COPY_OF, UNUSABLE, tag_specification
from imagenet_etl.aws.ebs.waits import progress_of_snapshot
from imagenet_etl.errors import StillPending


def copy_snapshot(
    source: dict[str, Any],
    source_region: str,
    ec2_target: Any,
    *,
    tags: Mapping[str, str],
    kms_key: str = "",
    encrypted: bool = False,
) -> dict[str, Any]:
    """Return the copy of a snapshot in the client's region, which is begun if there is none.

    Args:
        source: The snapshot as EC2 describes it; completed.
        source_region: Where it is.
        ec2_target: The client of the region that gets the copy.
        tags: The copy's tags; that of its source is added.
        kms_key: Key, or alias, of the target region that encrypts the copy; empty for the
            encryption of the source, whose own key is of no use in another region.
        encrypted: Whether a plain snapshot's copy is encrypted, under the account's default key.

    Raises:
        SnapshotFailed: The source ended in an error.
        StillPending: The source is not complete, or EC2 copies no more at once.
        AccessDenied, CloudError: EC2 refuses, for example to use the key.
        CloudUnavailable: EC2 fails; the next try finds the copy by its tags.
    """
    progress = progress_of_snapshot(source)
    if not progress.done:
        raise StillPending(f"{progress}, and cannot be copied yet", retry_after_s=30.0)
    wanted = copy_tags(source["SnapshotId"], kms_key)

    def look() -> dict[str, Any] | None:
        found = find_snapshots(ec2_target, wanted)
        return best_snapshot([item for item in found if item["Encrypted"] or not encrypted])

    if there := look():
        return there
    kept = {key: value for key, value in tags.items() if key != UNUSABLE}
    request: dict[str, Any] = {
        "SourceSnapshotId": source["SnapshotId"],
        "SourceRegion": source_region,
        "Description": source.get("Description", ""),
        "TagSpecifications": tag_specification("snapshot", kept | wanted),
    }
    if kms_key or encrypted:
        request["Encrypted"] = True
    if kms_key:
        request["KmsKeyId"] = kms_key
    return make_copy(ec2_target, request, look)


def copy_tags(snapshot_id: str, kms_key: str = "") -> dict[str, str]:
    """Return the tags by which the copy of a snapshot under a key is found."""
    return {COPY_OF: snapshot_id} | ({COPY_KEY: kms_key} if kms_key else {})
