"""Copies of a snapshot in other regions, each made once.

A copy takes no idempotency token either; the tag ``COPY_OF`` tells it. The volume id of a copy is
arbitrary. Sources: Amazon EC2 API Reference, CopySnapshot; Amazon EBS User Guide, "Copy an Amazon
EBS snapshot" (twenty copies at once into a region, which answers ResourceLimitExceeded beyond).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagenet_etl.aws.ebs.snapshot_state import best_or_failed, best_snapshot, check_unmarked
from imagenet_etl.aws.ebs.snapshots import find_snapshots, make_copy
from imagenet_etl.aws.ebs.tags import COPY_KEY, COPY_OF, tag_specification, tags_of
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
        SnapshotFailed: The source ended in an error or is marked unusable; or the copy that was
            there ended in an error, which is told once.
        StillPending: The source is not complete, or EC2 copies no more at once.
        AccessDenied, CloudError: EC2 refuses, for example to use the key.
        CloudUnavailable: EC2 fails; the next try finds the copy by its tags.
    """
    progress = progress_of_snapshot(source)
    if not progress.done:
        raise StillPending(f"{progress}, and cannot be copied yet", retry_after_s=30.0)
    check_unmarked(source)

    def there() -> list[dict[str, Any]]:
        return find_copies(ec2_target, source["SnapshotId"], kms_key, encrypted=encrypted)

    if found := best_or_failed(ec2_target, there()):
        return found
    key = _key_told(kms_key, encrypted)
    own = {COPY_OF: source["SnapshotId"]} | ({COPY_KEY: key} if key else {})
    request: dict[str, Any] = {
        "SourceSnapshotId": source["SnapshotId"],
        "SourceRegion": source_region,
        "Description": source.get("Description", ""),
        "TagSpecifications": tag_specification("snapshot", dict(tags) | own),
    }
    if kms_key or encrypted:
        request["Encrypted"] = True
    if kms_key:
        request["KmsKeyId"] = kms_key
    return make_copy(ec2_target, request, lambda: best_snapshot(there()))


def find_copies(
    ec2: Any, snapshot_id: str, kms_key: str = "", *, encrypted: bool = False
) -> list[dict[str, Any]]:
    """Return the copies of a snapshot under a key, in whatever state, the newest last.

    Args:
        ec2: The client of the region to look in.
        snapshot_id: The source.
        kms_key: As ``copy_snapshot`` was given it.
        encrypted: The same.

    Raises:
        AccessDenied, CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    key = _key_told(kms_key, encrypted)
    found = find_snapshots(ec2, {COPY_OF: snapshot_id})
    return [item for item in found if tags_of(item).get(COPY_KEY, "") == key]


def _key_told(kms_key: str, encrypted: bool) -> str:
    return kms_key or ("default" if encrypted else "")
