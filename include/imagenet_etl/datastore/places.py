"""The buckets in which a version is entered, and what their catalogs know of its copies.

This machine's registry may know less: another one may have made a snapshot or a backup since. What
is taken off a catalog has to be removed with all that stands there, or nobody knows of it any more.
"""

from __future__ import annotations

from collections.abc import Callable

from imagenet_etl.aws.s3_catalog import read_catalog
from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.datastore.catalog import Catalog, Entry, backups_of, with_copies_of
from imagenet_etl.datastore.copies import backup_of
from imagenet_etl.datastore.store import Datastore
from imagenet_etl.errors import CloudNotFound

Look = Callable[[BackupPlace], Catalog]
"""Returns the catalog of a bucket; raises ``CloudNotFound`` where the whole bucket is gone."""


def known_everywhere(
    store: Datastore, version: str, entry: Entry, look: Look | None = None
) -> tuple[Entry, list[BackupPlace]]:
    """Return an entry with the copies that all places it leads to know of, and these places.

    Entries of other content under this name add nothing.

    Args:
        store: The dataset's part of the datastore.
        version: The version.
        entry: What is known of it here.
        look: Reads a catalog; None for only that.

    Raises:
        DatasetDamaged, SchemaTooNew: A catalog cannot be read.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    look = look or (lambda place: read_catalog(store.client("s3"), place, store.dataset))
    places: list[BackupPlace] = []
    while new := [place for place in _places(store, version, entry) if place not in places]:
        places.append(new[0])
        try:
            known = look(new[0]).versions.get(version, {})
        except CloudNotFound:  # and the backup with it
            continue
        if known.get("manifest_sha256") == entry["manifest_sha256"]:
            entry = with_copies_of(entry, known)
    return entry, places


def _places(store: Datastore, version: str, entry: Entry) -> list[BackupPlace]:
    """Return the buckets' parts whose catalog may hold the version."""
    places = [backup_of(store, version, uri) for uri in backups_of(entry)]
    return [*places, backup_place(store.s3_uri, store.dataset)] if store.s3_uri else places
