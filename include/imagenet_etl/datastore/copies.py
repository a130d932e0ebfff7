"""The copies of a version: found and measured.

A name may have been given to other content meanwhile, on this disk or in the bucket. So a copy is
one of the entry's only if its manifest has the digest that the entry has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
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
from imagenet_etl.aws.s3_catalog import read_catalog
from imagenet_etl.aws.s3_codes import MISSING
from imagenet_etl.aws.s3_layout import BackupPlace
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.costs import s3_usd_a_month, snapshot_usd_a_month
from imagenet_etl.datastore.adopted import ADOPTED, FILES
from imagenet_etl.datastore.catalog import Entry, backups_of
from imagenet_etl.datastore.disk import read_registry
from imagenet_etl.datastore.store import Datastore
from imagenet_etl.errors import CloudError, CloudNotFound
from imagenet_etl.manifest import MANIFEST as MANIFEST_FILE

FOLDER, BACKUP, SNAPSHOT = "folder", "backup", "snapshot"


@dataclass(frozen=True)
class Copy:
    """One place that a version is kept in.

    Attributes:
        version: The version.
        kind: ``folder``, ``backup`` or ``snapshot``.
        name: Its path, URI or id.
        size: Bytes; of a snapshot the version's. It may hold more, such as archives, and less of
            its own, since others share its blocks; where nobody noted that size, the volume's.
        usd_a_month: What that costs, at list prices.
        region: That of a snapshot; empty for the connection's.
        bound: ``about`` or ``at most``, where the size is not known exactly.
    """

    version: str
    kind: str
    name: str
    size: int
    usd_a_month: float = 0.0
    region: str = ""
    bound: str = ""


def copies_of(store: Datastore, version: str, entry: Entry) -> Iterator[Copy]:
    """Yield the copies of a version that are there.

    Raises:
        CloudError, CloudUnavailable: AWS refuses or fails.
    """
    if size := _folder_size(store, version, entry):
        yield Copy(version, FOLDER, f"{store.storage.url}/{store.folder(version)}", size)
    for uri in backups_of(entry):
        place = backup_of(store, version, uri)
        digest = backup_digest(store, place, version)
        if digest == entry["manifest_sha256"] or (
            not digest and is_removing(store, place, version, entry)
        ):
            size, usd = _backup_size(store.client("s3"), place, version)
            if size:
                yield Copy(version, BACKUP, uri, size, usd)
    for region in entry.get("snapshots", {}):
        for snapshot in snapshots_of(store.client("ec2", region), store.dataset, version, entry):
            noted, whole = entry.get("bytes"), snapshot["VolumeSize"] << 30
            size, bound = (noted, "about") if noted else (whole, "at most")
            usd = snapshot_usd_a_month(size)
            yield Copy(version, SNAPSHOT, snapshot["SnapshotId"], size, usd, region, bound)


def is_there(store: Datastore, version: str, entry: Entry) -> bool:
    """Return whether a whole copy is left: on disk, in the bucket, or as a snapshot.

    Of an adopted tree the manifest alone is none. An empty folder is taken for one that no volume
    is mounted on.

    Raises:
        CloudError, CloudUnavailable: AWS refuses or fails.
    """
    wanted = entry["manifest_sha256"]
    if folder_digest(store, version, entry) == wanted and _has_tree(entry):
        return True
    for uri in backups_of(entry):
        place = backup_of(store, version, uri)
        is_whole = backup_digest(store, place, version) == wanted
        if is_whole and not is_removing(store, place, version, entry):
            return True
    return any(
        snapshot["State"] == "completed" and UNUSABLE not in tags_of(snapshot)
        for region in entry.get("snapshots", {})
        for snapshot in snapshots_of(store.client("ec2", region), store.dataset, version, entry)
    )


def _has_tree(entry: Entry) -> bool:
    """Return whether an adopted tree is still where it was; what is not adopted lacks none."""
    if not entry.get("adopted"):
        return True
    try:
        return any(Path(entry["path"]).iterdir())
    except OSError:  # not there, or on a server that is not
        return False


def folder_digest(store: Datastore, version: str, entry: Entry) -> str:
    """Return the digest that the version's folder on this disk has; empty without a whole one.

    It is that of ``manifest.json``, and of an adopted tree the one that stands in its manifest.
    """
    folder = store.folder(version)
    found = None
    if not entry.get("adopted"):  # a tree that lies in the folder may hold a file of that name
        found = store.storage.digest(f"{folder}/{MANIFEST_FILE}")
    if found is not None:
        return found[1]
    adopted = store.storage.read(f"{folder}/{ADOPTED}")
    return "" if adopted is None else str(json.loads(adopted)["tree_sha256"])


def is_rest(store: Datastore, version: str, entry: Entry) -> bool:
    """Return whether a folder without its manifest is what an earlier removal left of this one."""
    known = read_registry(store.storage, store.dataset).versions.get(version, {})
    same = known.get("manifest_sha256") == entry["manifest_sha256"]
    return same and bool(known.get("removing"))


def is_removing(store: Datastore, place: BackupPlace, version: str, entry: Entry) -> bool:
    """Return whether the bucket's catalog says that this very content is being removed.

    Raises:
        DatasetDamaged, SchemaTooNew: It cannot be read.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    try:
        catalog = read_catalog(store.client("s3"), place, store.dataset)
    except CloudNotFound:
        return False
    known = catalog.versions.get(version, {})
    same = known.get("manifest_sha256") == entry["manifest_sha256"]
    return same and bool(known.get("removing"))


def backup_of(store: Datastore, version: str, uri: str) -> BackupPlace:
    """Return the dataset's part of the bucket that a backup's URI names.

    Raises:
        CloudError: The URI is not that of this version, so nothing there may be touched.
    """
    bucket, prefix = parse_s3_uri(uri)
    root, _, last = prefix.rpartition("/")
    if last != version or root.rpartition("/")[2] != store.dataset:
        raise CloudError(
            f"{uri} is not where {store.dataset}@{version} is backed up",
            expected=f"s3://bucket/prefix/{store.dataset}/{version}",
            remedy="Correct the entry in the registry, or remove it by hand",
        )
    return BackupPlace(bucket, root)


def backup_digest(store: Datastore, place: BackupPlace, version: str) -> str:
    """Return the SHA-256 of the manifest in the bucket; empty when there is none.

    Raises:
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    key = f"{place.version(version)}/{MANIFEST_FILE}"
    digest = hashlib.sha256()
    try:
        with typed_aws_errors("GetObject", place.uri(key), passing=MISSING):
            reply = store.client("s3").get_object(Bucket=place.bucket, Key=key)
            for block in reply["Body"].iter_chunks(1 << 20):
                digest.update(block)
    except (ClientError, CloudNotFound):
        return ""
    return digest.hexdigest()


def snapshots_of(ec2: Any, dataset: str, version: str, entry: Entry) -> list[dict[str, Any]]:
    """Return the snapshots in a region that bear the version's tags, its digest among them."""
    tags = {DATASET: dataset, VERSION: version, MANIFEST: entry["manifest_sha256"]}
    pages = ec2.get_paginator("describe_snapshots").paginate(
        OwnerIds=["self"], Filters=tag_filters(tags)
    )
    with typed_aws_errors("DescribeSnapshots", f"{dataset}@{version}"):
        return [snapshot for page in pages for snapshot in page["Snapshots"]]


def objects_of(client: Any, place: BackupPlace, version: str) -> Iterator[dict[str, Any]]:
    """Yield what a listing tells of each object below a version."""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=place.bucket, Prefix=f"{place.version(version)}/"
    )
    with typed_aws_errors("ListObjectsV2", f"s3://{place.bucket}"):
        for page in pages:
            yield from page.get("Contents", ())


def _folder_size(store: Datastore, version: str, entry: Entry) -> int:
    digest = folder_digest(store, version, entry)
    if digest != entry["manifest_sha256"] and (digest or not is_rest(store, version, entry)):
        return 0
    if digest and entry.get("bytes") and not entry.get("adopted"):
        return int(entry["bytes"])  # a million files need not be looked at
    folder = store.folder(version)
    if entry.get("adopted"):  # what else may lie there is not ours
        stats = [store.storage.stat(f"{folder}/{name}") for name in (ADOPTED, FILES)]
        return sum(stat.size for stat in stats if stat is not None)
    return sum(stat.size for _, stat in store.storage.list(folder))


def _backup_size(client: Any, place: BackupPlace, version: str) -> tuple[int, float]:
    """Return the bytes of a backup and what they cost a month, by each object's class."""
    size, usd = 0, 0.0
    for item in objects_of(client, place, version):
        size += item["Size"]
        usd += s3_usd_a_month(item["Size"], item.get("StorageClass", "STANDARD"))
    return size, usd
