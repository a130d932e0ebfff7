"""The copies of a version: found, measured and removed, each so that a crash leaves no half of one.

A folder is renamed out of the way and then deleted; a backup loses its commit mark first. Removing
what is gone already does nothing, so a run that died is finished by the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.ebs.tags import (
    DATASET,
    MANIFEST,
    UNUSABLE,
    VERSION,
    tag_filters,
    tags_of,
)
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_layout import BackupPlace
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.costs import s3_usd_a_month, snapshot_usd_a_month
from imagenet_etl.datastore.catalog import Entry
from imagenet_etl.datastore.store import Datastore, mark_of
from imagenet_etl.errors import CloudError
from imagenet_etl.manifest import MANIFEST as MANIFEST_FILE

_BATCH = 1000  # Amazon S3 API Reference, DeleteObjects
FOLDER, BACKUP, SNAPSHOT = "folder", "backup", "snapshot"
_IN_USE, _GONE = "InvalidSnapshot.InUse", "InvalidSnapshot.NotFound"


@dataclass(frozen=True)
class Copy:
    """One place that a version is kept in.

    Attributes:
        version: The version.
        kind: ``folder``, ``backup`` or ``snapshot``.
        name: Its path, URI or id.
        size: Bytes; of a snapshot at most, since blocks that another one holds are not its own.
        usd_a_month: What it costs, at list prices; at most.
        region: That of a snapshot; empty for the connection's.
    """

    version: str
    kind: str
    name: str
    size: int
    usd_a_month: float = 0.0
    region: str = ""


def copies_of(store: Datastore, version: str, entry: Entry) -> Iterator[Copy]:
    """Yield the copies of a version that are there.

    Raises:
        CloudError, CloudUnavailable: AWS refuses or fails.
    """
    if size := _folder_size(store, version, entry):
        yield Copy(version, FOLDER, f"{store.storage.url}/{store.folder(version)}", size)
    if "s3_uri" in entry:
        place = backup_of(store, version, entry)
        size, usd = _backup_size(store.client("s3"), place, version)
        if size:
            yield Copy(version, BACKUP, entry["s3_uri"], size, usd)
    for region in entry.get("snapshots", {}):
        for snapshot in _snapshots(store.client("ec2", region), store.dataset, version, entry):
            size = entry.get("bytes") or snapshot["VolumeSize"] << 30
            usd = snapshot_usd_a_month(size)
            yield Copy(version, SNAPSHOT, snapshot["SnapshotId"], size, usd, region)


def is_there(store: Datastore, version: str, entry: Entry) -> bool:
    """Return whether a whole copy is left: on disk, in the bucket, or as a snapshot.

    Raises:
        CloudError, CloudUnavailable: AWS refuses or fails.
    """
    if store.storage.stat(f"{store.folder(version)}/{mark_of(entry)}") is not None:
        return True
    if "s3_uri" in entry:
        place = backup_of(store, version, entry)
        key = f"{place.version(version)}/{MANIFEST_FILE}"
        try:
            with typed_aws_errors("HeadObject", place.uri(key), passing=("404", "NoSuchKey")):
                store.client("s3").head_object(Bucket=place.bucket, Key=key)
            return True
        except ClientError:
            pass  # only that copy is missing
    return any(
        snapshot["State"] == "completed" and UNUSABLE not in tags_of(snapshot)
        for region in entry.get("snapshots", {})
        for snapshot in _snapshots(store.client("ec2", region), store.dataset, version, entry)
    )


def backup_of(store: Datastore, version: str, entry: Entry) -> BackupPlace:
    """Return the dataset's part of the bucket that an entry names.

    Raises:
        CloudError: The URI is not that of this version, so nothing there may be touched.
    """
    bucket, prefix = parse_s3_uri(entry["s3_uri"])
    root, _, last = prefix.rpartition("/")
    if last != version or root.rpartition("/")[2] != store.dataset:
        raise CloudError(
            f"{entry['s3_uri']} is not where {store.dataset}@{version} is backed up",
            expected=f"s3://bucket/prefix/{store.dataset}/{version}",
            remedy="Correct the entry in the registry, or remove it by hand",
        )
    return BackupPlace(bucket, root)


def remove_folder(store: Datastore, version: str, entry: Entry) -> None:
    """Remove a version's own folder; an adopted tree stays where it is."""
    storage, folder = store.storage, store.folder(version)
    aside = f"work/{store.dataset}/removed/{version}"
    storage.delete(aside)
    try:
        storage.publish_tree(folder, aside, mark_of(entry))
    except FileNotFoundError:
        storage.delete(folder)  # without its mark it counts as absent already
    storage.delete(aside)


def remove_backup(store: Datastore, version: str, entry: Entry) -> None:
    """Remove a version from the bucket: its commit mark first, then the rest in batches.

    Raises:
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    place, client = backup_of(store, version, entry), store.client("s3")
    below = place.version(version)
    with typed_aws_errors("DeleteObject", place.uri(below)):
        client.delete_object(Bucket=place.bucket, Key=f"{below}/{MANIFEST_FILE}")
    keys = (item["Key"] for item in _objects(client, place, version))
    while batch := list(islice(keys, _BATCH)):
        with typed_aws_errors("DeleteObjects", place.uri(below)):
            reply = client.delete_objects(
                Bucket=place.bucket,
                Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
            )
        if errors := reply.get("Errors"):
            raise CloudError(
                f"{len(errors):,} objects below {place.uri(below)} could not be deleted",
                found=f"{errors[0].get('Code')} for {errors[0].get('Key')}",
                remedy="Check the role's IAM policy and the bucket's object lock, then run again",
            )


def remove_snapshots(store: Datastore, version: str, entry: Entry) -> list[CloudError]:
    """Remove the snapshots that bear the version's tags, in every region that the entry names.

    Returns:
        An error for each that is in use, by an AMI or a share; the others are gone.

    Raises:
        CloudError, CloudUnavailable: EC2 refuses otherwise, or fails.
    """
    troubles = []
    for region in entry.get("snapshots", {}):
        ec2 = store.client("ec2", region)
        for snapshot in _snapshots(ec2, store.dataset, version, entry):
            name = snapshot["SnapshotId"]
            try:
                with typed_aws_errors("DeleteSnapshot", name, passing=(_IN_USE, _GONE)):
                    ec2.delete_snapshot(SnapshotId=name)
            except ClientError as error:
                if error.response["Error"]["Code"] == _IN_USE:
                    troubles.append(_in_use(name, error))
    return troubles


def _in_use(snapshot: str, error: ClientError) -> CloudError:
    return CloudError(
        f"snapshot {snapshot} is in use and stays",
        found=error.response["Error"].get("Message", ""),
        remedy="Deregister the image that is made of it; the next prune tries again",
    )


def _snapshots(ec2: Any, dataset: str, version: str, entry: Entry) -> list[dict[str, Any]]:
    tags = {DATASET: dataset, VERSION: version, MANIFEST: entry["manifest_sha256"]}
    pages = ec2.get_paginator("describe_snapshots").paginate(
        OwnerIds=["self"], Filters=tag_filters(tags)
    )
    with typed_aws_errors("DescribeSnapshots", f"{dataset}@{version}"):
        return [snapshot for page in pages for snapshot in page["Snapshots"]]


def _objects(client: Any, place: BackupPlace, version: str) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=place.bucket, Prefix=f"{place.version(version)}/"
    )
    with typed_aws_errors("ListObjectsV2", f"s3://{place.bucket}"):
        for page in pages:
            yield from page.get("Contents", ())


def _folder_size(store: Datastore, version: str, entry: Entry) -> int:
    folder = store.folder(version)
    is_whole = store.storage.stat(f"{folder}/{mark_of(entry)}") is not None
    if is_whole and entry.get("bytes") and not entry.get("adopted"):
        return int(entry["bytes"])  # a million files need not be looked at
    return sum(stat.size for _, stat in store.storage.list(folder))


def _backup_size(client: Any, place: BackupPlace, version: str) -> tuple[int, float]:
    """Return the bytes of a backup and what they cost a month, by each object's class."""
    size, usd = 0, 0.0
    for item in _objects(client, place, version):
        size += item["Size"]
        usd += s3_usd_a_month(item["Size"], item.get("StorageClass", "STANDARD"))
    return size, usd
