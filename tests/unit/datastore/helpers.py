"""Entries, versions on disk and in a bucket, and class-folder trees."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tests.support.moto_server import MotoServer

from imagenet_etl.aws.ebs.tags import DatasetTags, tag_specification
from imagenet_etl.aws.s3_catalog import update_catalog
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.datastore.catalog import Catalog, Entry
from imagenet_etl.datastore.disk import read_registry, update_registry
from imagenet_etl.datastore.store import Datastore
from imagenet_etl.leases import Owner
from imagenet_etl.storage import LocalStorage

NAME = "tiny_imagenet"
URI = "s3://backups/x"


def entry(content: str = "aa", at: float = 1.0, version: str = "v1", **more: Any) -> Entry:
    """Return a version's entry."""
    return {
        "path": f"datasets/{NAME}/{version}",
        "formats": {"recordio": "recordio"},
        "manifest_sha256": content,
        "counts": {"packed": 3},
        "bytes": 2_000_000,
        "published_at": at,
    } | more


def manifest_of(version: str) -> bytes:
    """Return what stands for a version's manifest."""
    return f'{{"version": "{version}"}}'.encode()


def digest_of(version: str) -> str:
    """Return the digest of that."""
    return hashlib.sha256(manifest_of(version)).hexdigest()


def class_tree(root: Path, files: dict[str, bytes] | None = None) -> Path:
    """Write a small tree of class folders with splits."""
    if files is None:
        files = {
            f"{split}/{wnid}/{n}.jpg": f"{split}{wnid}{n}".encode()
            for split in ("train", "val")
            for wnid in ("n01", "n02")
            for n in range(3)
        }
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


class Site:
    """A data folder and a bucket with versions that were never packed, but look as if."""

    def __init__(self, folder: Path, moto: MotoServer | None = None, s3_uri: str = "") -> None:
        self.moto = moto
        self.storage = LocalStorage(folder)
        self.store = Datastore(
            NAME, self.storage, Owner("cli-1", "x"), self.client, s3_uri, {"Tagging": "team=vision"}
        )

    def client(self, service: str, region: str = "") -> Any:
        assert self.moto is not None, f"asked for {service}"
        return self.moto.client(service, **({"region_name": region} if region else {}))

    def on_disk(self, version: str, at: float, **more: Any) -> Entry:
        """Make a version on disk and enter it."""
        folder = f"datasets/{NAME}/{version}"
        self.storage.put(f"{folder}/manifest.json", manifest_of(version))
        self.storage.put(f"{folder}/recordio/train/a.rec", version.encode() * 100)
        return self.enter(version, at, **more)

    def enter(self, version: str, at: float, **more: Any) -> Entry:
        made = entry(at=at, version=version, **{"content": digest_of(version)} | more)
        update_registry(
            self.storage, NAME, self.store.owner, lambda known: known.with_entry(version, made)
        )
        return made

    def in_bucket(self, version: str, at: float, **more: Any) -> Entry:
        """Make a version on disk and in the bucket and enter it in both."""
        uri = f"{URI}/{NAME}/{version}"
        made = self.on_disk(version, at, s3_uri=uri, **more)
        self.put_object(f"x/{NAME}/{version}/recordio/train/a.rec")
        self.put_object(f"x/{NAME}/{version}/manifest.json", manifest_of(version))
        update_catalog(
            self.client("s3"), self.place, NAME, lambda known: known.with_entry(version, made)
        )
        return made

    @property
    def place(self) -> Any:
        return backup_place(URI, NAME)

    def put_object(self, key: str, body: bytes = b"x" * 1000) -> None:
        self.client("s3").put_object(Bucket="backups", Key=key, Body=body)

    def objects(self) -> list[str]:
        reply = self.client("s3").list_objects_v2(Bucket="backups")
        return [item["Key"] for item in reply.get("Contents", ())]

    def snapshot(self, version: str, region: str = "us-east-1") -> str:
        """Take a snapshot that bears a version's tags."""
        ec2 = self.client("ec2", region)
        volume = ec2.create_volume(AvailabilityZone=f"{region}a", Size=8)["VolumeId"]
        tags = DatasetTags(NAME, version, digest_of(version), "").to_dict()
        reply = ec2.create_snapshot(
            VolumeId=volume, TagSpecifications=tag_specification("snapshot", tags)
        )
        return str(reply["SnapshotId"])

    def snapshots(self, region: str = "us-east-1") -> set[str]:
        reply = self.client("ec2", region).describe_snapshots(OwnerIds=["self"])
        return {item["SnapshotId"] for item in reply["Snapshots"]}

    def registered(self) -> Catalog:
        return read_registry(self.storage, NAME)

    def versions(self) -> list[str]:
        """Return the versions' folders on disk."""
        return sorted(path.parent.name for path in self.storage.root.glob("datasets/*/*/*.json"))
