"""One dataset's part of the datastore: the data folder, and the bucket where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagenet_etl.aws.s3_bucket import Bucket, encryption_options
from imagenet_etl.aws.s3_catalog import catalogs_below, read_catalog
from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.build import Build
from imagenet_etl.datasets import DATASETS
from imagenet_etl.datastore.catalog import Catalog, Entry, backups_of, with_backups
from imagenet_etl.datastore.disk import REGISTRY, read_registry, registry_key
from imagenet_etl.leases import Owner
from imagenet_etl.manifest import MANIFEST
from imagenet_etl.storage import Storage

Client = Callable[..., Any]
"""Makes a boto3 client of a service and, if it is given, of a region."""


@dataclass(frozen=True)
class Datastore:
    """Where the versions of a dataset are entered and kept.

    Attributes:
        dataset: The dataset's name.
        storage: The data folder.
        owner: Who holds the leases.
        client: Makes AWS clients.
        s3_uri: The backup's URI; empty for none.
        options: Further fields of requests that write the bucket's catalog.
    """

    dataset: str
    storage: Storage
    owner: Owner
    client: Client
    s3_uri: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def catalog(self) -> Catalog:
        """Return what disk and bucket know together.

        Raises:
            DatasetDamaged, SchemaTooNew: One of them cannot be read.
            CloudError, CloudUnavailable: S3 refuses or fails.
        """
        known = read_registry(self.storage, self.dataset)
        if not self.s3_uri:
            return known
        place = backup_place(self.s3_uri, self.dataset)
        # What lies on this disk counts where the two tell of other content.
        return read_catalog(self.client("s3"), place, self.dataset).merged_with(known)

    def folder(self, version: str) -> str:
        """Return the key of a version's own folder."""
        return f"datasets/{self.dataset}/{version}"


def datastore_of(build: Build) -> Datastore:
    """Return the datastore that a run publishes to."""
    settings = build.settings
    return Datastore(
        build.facts.name, build.storage, build.owner, build.client, settings.s3_uri,
        encryption_options(settings),
    )  # fmt: skip


def known_catalogs(
    storage: Storage | None, client: Client | None = None, s3_uri: str = ""
) -> dict[str, Catalog]:
    """Return the catalogs of all datasets in a data folder, a bucket or both, by name.

    Of what is in the bucket, the bucket's own catalog is believed, not the registry.

    Raises:
        DatasetDamaged, SchemaTooNew: One cannot be read.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    found: dict[str, Catalog] = {}
    if client is not None and s3_uri:
        found = {catalog.dataset: catalog for catalog in catalogs_below(client("s3"), s3_uri)}
    for name in _registered(storage) if storage is not None else ():
        assert storage is not None
        here, there = read_registry(storage, name), found.get(name, Catalog(name))
        if client is not None and s3_uri:
            place = backup_place(s3_uri, name)
            here = _still_there(here, there, place, client("s3"))
            here = _without_removed(storage, here, there, place)
        found[name] = there.merged_with(here)
    return {name: found[name] for name in sorted(found)}


def _still_there(here: Catalog, there: Catalog, place: BackupPlace, client: Any) -> Catalog:
    """Return a registry less the backups that are gone from a bucket, or are of other content.

    A backup that was never published is in no catalog, and may be whole all the same: what the
    bucket's does not know is there while its manifest is.

    Args:
        here: The registry.
        there: The bucket's catalog, which has just been read.
        place: The dataset's part of that bucket.
        client: A boto3 S3 client.
    """
    told: dict[str, Entry] = {}
    for version, entry in here.versions.items():
        uris, mine = set(backups_of(entry)), place.uri(place.version(version))
        if mine in uris:
            if (known := there.versions.get(version)) is not None:
                is_there = known["manifest_sha256"] == entry["manifest_sha256"]
            else:
                key = f"{place.version(version)}/{MANIFEST}"
                is_there = Bucket(client, place.bucket).head(key) is not None
            uris -= set() if is_there else {mine}
        told[version] = with_backups(entry, uris)
    return Catalog(here.dataset, told)


def _without_removed(
    storage: Storage, here: Catalog, there: Catalog, place: BackupPlace
) -> Catalog:
    """Return a registry less the backups that a bucket's catalog says are being removed.

    Another machine may be at it: this disk's registry learns nothing of that.

    Args:
        storage: The data folder.
        here: Its registry.
        there: The bucket's catalog, which has just been read.
        place: The dataset's part of that bucket.
    """
    told: dict[str, Entry] = {}
    for version, entry in here.versions.items():
        known, uris = there.versions.get(version, {}), set(backups_of(entry))
        is_same = known.get("manifest_sha256") == entry["manifest_sha256"]
        is_removing = is_same and bool(known.get("removing"))
        if is_removing:  # prune marks it first, and then removes all the backups that it knows
            uris -= {place.uri(place.version(version)), *backups_of(known)}
        told[version] = with_backups(entry, uris)
        if is_removing and not uris and place_of(storage, entry) is None:
            told[version]["removing"] = True
    return Catalog(here.dataset, told)


def _registered(storage: Storage) -> list[str]:
    """Return the datasets that have a registry; their versions' million files are not listed."""
    root = storage.local_path("datasets")
    if root is None:  # a bucket holds what was built there, and adopts no tree
        return [name for name in DATASETS if storage.stat(registry_key(name)) is not None]
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if Path(entry.path, REGISTRY).is_file())


def place_of(storage: Storage | None, entry: Entry) -> str | None:
    """Return where a whole version is in the data folder, or None when it is not there.

    That is a path, or an ``s3://`` URI where the data folder is in a bucket.
    """
    if entry.get("adopted"):
        return entry["path"] if Path(entry["path"]).is_dir() else None
    if storage is None or storage.stat(f"{entry['path']}/{MANIFEST}") is None:
        return None
    return f"{storage.url}/{entry['path']}"
