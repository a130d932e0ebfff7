"""One dataset's part of the datastore: the data folder, and the bucket where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagenet_etl.aws.s3_bucket import encryption_options
from imagenet_etl.aws.s3_catalog import catalogs_below, read_catalog
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.build import Build
from imagenet_etl.datasets import DATASETS
from imagenet_etl.datastore.catalog import Catalog, Entry
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

    Raises:
        DatasetDamaged, SchemaTooNew: One cannot be read.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    found: dict[str, Catalog] = {}
    if client is not None and s3_uri:
        found = {catalog.dataset: catalog for catalog in catalogs_below(client("s3"), s3_uri)}
    for name in _registered(storage) if storage is not None else ():
        assert storage is not None
        catalog = read_registry(storage, name)
        found[name] = found.get(name, Catalog(name)).merged_with(catalog)
    return {name: found[name] for name in sorted(found)}


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
