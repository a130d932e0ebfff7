"""Keep the newest versions of a dataset and remove the older ones with all of their copies.

A version is marked in the registry before anything of it goes, and leaves the registry when nothing
of it is left: a run that died in between is finished by the next, whatever that one keeps.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from imagenet_etl import leases
from imagenet_etl.aws.s3_catalog import update_catalog
from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.datastore.catalog import Catalog, Entry
from imagenet_etl.datastore.copies import (
    SNAPSHOT,
    Copy,
    backup_of,
    copies_of,
    is_there,
    remove_backup,
    remove_folder,
    remove_snapshots,
)
from imagenet_etl.datastore.disk import update_registry
from imagenet_etl.datastore.listing import size_in_words
from imagenet_etl.datastore.store import Datastore
from imagenet_etl.errors import AlreadyRunning, CloudError, ConfigError
from imagenet_etl.lease_files import Owner, look_at
from imagenet_etl.lease_state import read_holders
from imagenet_etl.storage import Storage

log = logging.getLogger(__name__)
_BY_DIGEST = re.compile(r"[0-9a-f]{8}")
"""How a version is called that the user gave no name: what a lock by settings may be about."""

_NAMED, _UNNAMED = "version-", "settings-"  # how Build.lock_key begins


@dataclass(frozen=True)
class PruneReport:
    """What was removed, or would be.

    Attributes:
        really: Whether it was; otherwise nothing was changed.
        versions: The versions that go, newest first.
        copies: Their copies.
        kept: Why each of the others stays, by version.
        troubles: What could not be removed; the next run tries again.
    """

    really: bool
    versions: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    troubles: tuple[CloudError, ...] = ()

    @property
    def usd_a_month(self) -> float:
        """What they cost a month, at most."""
        return sum(copy.usd_a_month for copy in self.copies)

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        verb = "removed" if self.really else "would remove"
        for copy in self.copies:
            most = "at most " if copy.kind == SNAPSHOT else ""
            price = f", {copy.usd_a_month:,.2f} USD a month" if copy.usd_a_month else ""
            where = f" in {copy.region}" if copy.region else ""
            yield (
                f"{verb} {copy.version}: {copy.kind} {copy.name}{where}, "
                f"{most}{size_in_words(copy.size)}{price}"
            )
        for version, reason in self.kept.items():
            yield f"keeps {version}: {reason}"
        for trouble in self.troubles:
            yield f"left: {trouble}"
        size = size_in_words(sum(copy.size for copy in self.copies))
        yield (
            f"{verb} {len(self.versions):,} versions, at most {size}, which saves at most "
            f"{self.usd_a_month:,.2f} USD a month at list prices"
        )


def prune_versions(
    store: Datastore, keep: int, *, really: bool = False, spare: str = ""
) -> PruneReport:
    """Remove all but the newest versions; without ``really`` only tell what would go.

    Never removed are the latest version, the only one, one that a live run holds, and the files of
    an adopted tree, of which only the entry goes.

    Args:
        store: The dataset's part of the datastore.
        keep: How many versions of which a whole copy is left are kept, at least 1.
        really: Whether anything is removed.
        spare: A version that stays, such as that of the calling run.

    Raises:
        ConfigError: ``keep`` is below 1.
        DatasetDamaged, SchemaTooNew: The registry or the catalog cannot be read.
        SourceBusy: Another run has been holding the registry for half a minute.
        CloudError, CloudUnavailable: AWS refuses or fails; the next run goes on.
    """
    if keep < 1:
        raise ConfigError("keep_versions", expected="1 or more", found=keep)
    catalog = store.catalog()
    kept = _kept(store, catalog, keep, spare)
    gone: list[str] = []
    copies: list[Copy] = []
    troubles: list[CloudError] = []
    for version in catalog.newest_first:
        if version in kept:
            continue
        entry = catalog.versions[version]
        if holder := _holder(store, version):
            kept[version] = f"run {holder!r} is at work on it"
            continue
        found = list(copies_of(store, version, entry))
        if really:
            try:
                troubles += _remove(store, version, entry)
            except AlreadyRunning:
                kept[version] = "a run has just begun to work on it"
                continue
        gone.append(version)
        copies += found
    return PruneReport(really, tuple(gone), tuple(copies), kept, tuple(troubles))


def _kept(store: Datastore, catalog: Catalog, keep: int, spare: str) -> dict[str, str]:
    """Return the versions that stay however old they are, and why."""
    kept: dict[str, str] = {}
    whole = 0
    for version in catalog.newest_first:
        entry = catalog.versions[version]
        if version == spare:
            kept[version] = "it is this run's"
        elif entry.get("removing"):
            continue
        elif whole < keep:
            kept[version] = "it is the latest" if version == catalog.latest else "it is new enough"
        else:
            continue
        whole += is_there(store, version, entry)
    return kept


def _holder(store: Datastore, version: str) -> str:
    """Return another run that works on a version, or may do; nothing when there is none."""
    for lock in _locks(store.storage, store.dataset):
        may_be = lock.startswith(_UNNAMED) and _BY_DIGEST.fullmatch(version)
        if lock == f"{_NAMED}{version}" or may_be:
            run = _live_run(store.storage, f"work/{store.dataset}/locks/{lock}")
            if run not in ("", store.owner.run):
                return run
    return ""


def _locks(storage: Storage, dataset: str) -> list[str]:
    prefix = f"work/{dataset}/locks"
    return sorted({key[len(prefix) + 1 :].partition("/")[0] for key, _ in storage.list(prefix)})


def _live_run(storage: Storage, key: str) -> str:
    while (look := look_at(storage, key)).latest:
        holders = read_holders(storage, look)
        if holders is not None:
            return holders.owner.run if holders.live() is not None else ""
    return ""


def _remove(store: Datastore, version: str, entry: Entry) -> list[CloudError]:
    """Remove a version with all of its copies, while no run can begin to work on it.

    Raises:
        AlreadyRunning: One has begun.
    """
    owner = Owner(store.owner.run, f"prune {version}", store.owner.attempt)
    key = f"work/{store.dataset}/locks/{_NAMED}{version}"
    lease = leases.acquire(store.storage, key, owner)
    try:
        with leases.kept_alive(store.storage, lease):
            log.info("prune: removing %s@%s", store.dataset, version)
            _mark(store, version, entry)
            remove_folder(store, version, entry)
            if "s3_uri" in entry:
                remove_backup(store, version, entry)
            troubles = remove_snapshots(store, version, entry)
            if not troubles:
                _forget(store, version, entry)
    finally:
        lease.release()
    return troubles


def _mark(store: Datastore, version: str, entry: Entry) -> None:
    """Note that the version is being removed, wherever it is entered."""

    def mark(catalog: Catalog) -> Catalog:
        known = catalog.versions.get(version)
        if known is None or known["manifest_sha256"] != entry["manifest_sha256"]:
            return catalog
        marked = {**catalog.versions, version: known | {"removing": True}}
        return Catalog(catalog.dataset, marked)

    update_registry(store.storage, store.dataset, store.owner, mark)
    for place in _places(store, version, entry):
        update_catalog(store.client("s3"), place, store.dataset, mark)


def _forget(store: Datastore, version: str, entry: Entry) -> None:
    """Take the version off the catalogs; one that was published again meanwhile stays."""

    def forget(catalog: Catalog) -> Catalog:
        removing = catalog.versions.get(version, {}).get("removing")
        return catalog.without(version) if removing else catalog

    for place in _places(store, version, entry):
        update_catalog(store.client("s3"), place, store.dataset, forget)
    update_registry(store.storage, store.dataset, store.owner, forget)


def _places(store: Datastore, version: str, entry: Entry) -> list[BackupPlace]:
    """Return the buckets' parts whose catalog may hold the version."""
    places = [backup_of(store, version, entry)] if "s3_uri" in entry else []
    given = backup_place(store.s3_uri, store.dataset) if store.s3_uri else None
    return places if given is None or given in places else [*places, given]
