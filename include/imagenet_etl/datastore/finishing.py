"""The end of a removal, also of one that died elsewhere: the version leaves the catalogs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from imagenet_etl.aws.s3_catalog import read_catalog, update_catalog
from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.datastore.catalog import Catalog, Entry, backups_of, with_copies_of
from imagenet_etl.datastore.copies import snapshots_of
from imagenet_etl.datastore.disk import read_registry, update_registry
from imagenet_etl.datastore.removal import remove_backup, remove_snapshots
from imagenet_etl.datastore.store import Datastore
from imagenet_etl.errors import CloudNotFound


def finish_in_bucket(store: Datastore, *, really: bool) -> Iterator[str]:
    """Finish removals of a bucket's versions that this disk has again, by whatever content.

    Such a removal died, here or elsewhere, and until it is finished nobody can back the name up.

    Args:
        store: The dataset's part of the datastore.
        really: Whether anything is removed.

    Yields:
        What was done, or would be.

    Raises:
        CloudError, CloudUnavailable: AWS refuses or fails.
    """
    if not store.s3_uri:
        return
    place = backup_place(store.s3_uri, store.dataset)
    here = read_registry(store.storage, store.dataset)
    for version, entry in read_catalog(store.client("s3"), place, store.dataset).versions.items():
        mine = here.versions.get(version)
        if mine is None or not entry.get("removing"):
            continue
        is_same = mine["manifest_sha256"] == entry["manifest_sha256"]
        if is_same and mine.get("removing"):
            continue
        if really:
            for uri in backups_of(entry):
                remove_backup(store, version, entry, uri)
            # Of the same content there may be new ones, which bear the same tags.
            if is_same:
                _keep_snapshots(store, version, mine, entry)
            elif remove_snapshots(store, version, entry):
                continue
            forget_in_bucket(store, place, version, entry)
        verb = "finished" if really else "would finish"
        yield f"{verb} the removal of {place.uri(place.version(version))}, which had been begun"


def _keep_snapshots(store: Datastore, version: str, mine: Entry, entry: Entry) -> None:
    """Enter into the registry the snapshots that only the bucket knows, which forgets them now."""
    left = {
        region: name
        for region, name in entry.get("snapshots", {}).items()
        if region not in mine.get("snapshots", {})
        and snapshots_of(store.client("ec2", region), store.dataset, version, entry)
    }

    def enter(registry: Catalog) -> Catalog:
        known = registry.versions.get(version)
        if known is None or known["manifest_sha256"] != entry["manifest_sha256"]:
            return registry
        more = with_copies_of(known, {"snapshots": left})
        return Catalog(registry.dataset, {**registry.versions, version: more})

    if left:
        update_registry(store.storage, store.dataset, store.owner, enter)


def forget_in_bucket(store: Datastore, place: BackupPlace, version: str, entry: Entry) -> None:
    """Take a version off the bucket's catalog; what was entered anew meanwhile stays."""
    with suppress(CloudNotFound):  # the whole bucket is gone, and the backup with it
        update_catalog(
            store.client("s3"), place, store.dataset, forgetting(version, entry), store.options
        )


def forgetting(version: str, entry: Entry) -> Callable[[Catalog], Catalog]:
    """Return the change that takes a removed version off a catalog, if it is that very one."""

    def forget(catalog: Catalog) -> Catalog:
        known = catalog.versions.get(version, {})
        is_same = known.get("manifest_sha256") == entry["manifest_sha256"]
        return catalog.without(version) if is_same and known.get("removing") else catalog

    return forget
