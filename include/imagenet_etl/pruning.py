"""Keep the newest versions of a dataset and remove the older ones with all of their copies.

A version is marked in the registry before anything of it goes, and leaves the registry when nothing
of it is left: a run that died in between is finished by the next, whatever that one keeps.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from imagenet_etl import leases
from imagenet_etl.aws.s3_catalog import update_catalog
from imagenet_etl.aws.s3_layout import BackupPlace
from imagenet_etl.claims import NAMED, UNNAMED, live_run, named_lock
from imagenet_etl.datastore.catalog import Catalog, Entry, backups_of
from imagenet_etl.datastore.copies import Copy, backup_digest, copies_of, is_there
from imagenet_etl.datastore.disk import update_registry
from imagenet_etl.datastore.finishing import finish_in_bucket, forget_in_bucket, forgetting
from imagenet_etl.datastore.leftovers import leftovers
from imagenet_etl.datastore.places import known_everywhere
from imagenet_etl.datastore.prune_report import PruneReport
from imagenet_etl.datastore.removal import remove_backup, remove_folder, remove_snapshots
from imagenet_etl.datastore.store import Datastore
from imagenet_etl.errors import AlreadyRunning, CloudError, ConfigError
from imagenet_etl.lease_files import Owner
from imagenet_etl.storage import Storage

log = logging.getLogger(__name__)
_BY_DIGEST = re.compile(r"[0-9a-f]{8}")
"""How a version is called that the user gave no name: what a lock by settings may be about."""

_CLOCKS_DIFFER_S = 86_400.0


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
    notes = list(finish_in_bucket(store, really=really))
    catalog = store.catalog()
    kept = _kept(store, catalog, keep, spare)
    gone: list[str] = []
    copies: list[Copy] = []
    troubles: list[CloudError] = []
    for version in catalog.newest_first:
        entry = catalog.versions[version]
        for uri in backups_of(entry.get("elsewhere", {})):
            notes.append(f"{uri} is other content than {version} on this disk")
        if version in kept:
            continue
        removal = _Removal(store, version, entry)
        try:
            copies += removal.run() if really else removal.told()
        except AlreadyRunning as error:
            kept[version] = str(error)
            continue
        troubles += removal.troubles
        notes += removal.notes
        if removal.troubles:
            kept[version] = "what is left of it is in use; the next prune tries again"
        else:
            gone.append(version)
    notes += leftovers(store, set(catalog.versions))
    return PruneReport(really, tuple(gone), tuple(copies), kept, tuple(troubles), tuple(notes))


def _kept(store: Datastore, catalog: Catalog, keep: int, spare: str) -> dict[str, str]:
    """Return the versions that stay however old they are, and why."""
    kept: dict[str, str] = {}
    whole = 0
    for version in catalog.newest_first:
        entry = catalog.versions[version]
        at = entry["published_at"]
        if version == spare:
            kept[version] = "it is this run's"
        elif at > time.time() + _CLOCKS_DIFFER_S:
            # By such a time it would pass for the newest until then, and others would go for it.
            day = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
            kept[version] = f"it was built by a wrong clock, that said {day}; it does not count"
            continue
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
        may_be = lock.startswith(UNNAMED) and _BY_DIGEST.fullmatch(version)
        if lock == f"{NAMED}{version}" or may_be:
            run = live_run(store.storage, f"work/{store.dataset}/locks/{lock}")
            if run not in ("", store.owner.run):
                return run
    return ""


def _at_work(run: str) -> str:
    return f"run {run!r} is at work on it"


def _locks(storage: Storage, dataset: str) -> list[str]:
    prefix = f"work/{dataset}/locks"
    return sorted({key[len(prefix) + 1 :].partition("/")[0] for key, _ in storage.list(prefix)})


class _Removal:
    """One version on its way out."""

    def __init__(self, store: Datastore, version: str, entry: Entry) -> None:
        self.troubles: list[CloudError] = []
        self.notes: list[str] = []
        self._store, self._version, self._entry = store, version, entry
        self._places: list[BackupPlace] = []

    def told(self) -> list[Copy]:
        """Return the copies that would be removed.

        Raises:
            AlreadyRunning: A run works on the version.
        """
        store, version = self._store, self._version
        if holder := _holder(store, version):
            raise AlreadyRunning(_at_work(holder))
        entry, _ = known_everywhere(store, version, self._entry)
        return list(copies_of(store, version, entry))

    def run(self) -> list[Copy]:
        """Remove all copies, while no run can begin to work on the version; return what went.

        Raises:
            AlreadyRunning: One has begun, or has entered the version anew.
        """
        store, version = self._store, self._version
        found = self.told()
        owner = Owner(store.owner.run, f"prune {version}", store.owner.attempt)
        lease = leases.acquire(store.storage, named_lock(store.dataset, version), owner)
        try:
            with leases.kept_alive(store.storage, lease):
                self._check_alone()
                log.info("prune: removing %s@%s", store.dataset, version)
                self._mark()
                in_use = self._remove()
                if not in_use:
                    self._forget()
        finally:
            lease.release()
        self.troubles += in_use.values()
        return [copy for copy in found if copy.name not in in_use]

    def _check_alone(self) -> None:
        """Look once more now that the lease is held: see ``claims.check_unclaimed``."""
        if holder := _holder(self._store, self._version):
            raise AlreadyRunning(_at_work(holder))
        entry = self._store.catalog().versions.get(self._version)
        if entry != self._entry:
            raise AlreadyRunning("its entry has just changed")

    def _remove(self) -> dict[str, CloudError]:
        store, version, entry = self._store, self._version, self._entry
        self._note(remove_folder(store, version, entry))
        for uri in backups_of(entry):
            self._note(remove_backup(store, version, entry, uri))
        return remove_snapshots(store, version, entry)

    def _note(self, why: str) -> None:
        if why:
            self.notes.append(f"{self._version}: {why}")

    def _is_same(self, known: Entry | None) -> bool:
        return known is not None and known["manifest_sha256"] == self._entry["manifest_sha256"]

    def _mark(self) -> None:
        """Note that the version is being removed, wherever it is entered.

        From then on nobody enters a copy of it there. So what a place knows by then is all that it
        will, and goes as well.
        """
        self._update_registry(self._marked)
        self._entry, self._places = known_everywhere(
            self._store, self._version, self._entry, self._mark_in_bucket
        )

    def _marked(self, catalog: Catalog) -> Catalog:
        known = catalog.versions.get(self._version)
        if known is None or not self._is_same(known):
            return catalog
        marked = {**catalog.versions, self._version: known | {"removing": True}}
        return Catalog(catalog.dataset, marked)

    def _mark_in_bucket(self, place: BackupPlace) -> Catalog:
        store, version = self._store, self._version

        def enter_and_mark(catalog: Catalog) -> Catalog:
            marked = self._marked(catalog)
            if version in marked.versions:
                return marked
            # A backup that the catalog does not know: others have to learn that it goes.
            entry = {k: v for k, v in self._entry.items() if k != "elsewhere"}
            return marked.with_entry(version, entry | {"removing": True})

        is_ours = backup_digest(store, place, version) == self._entry["manifest_sha256"]
        change = enter_and_mark if is_ours else self._marked
        return update_catalog(store.client("s3"), place, store.dataset, change, store.options)

    def _forget(self) -> None:
        """Take the version off the catalogs."""
        for place in self._places:
            forget_in_bucket(self._store, place, self._version, self._entry)
        self._update_registry(forgetting(self._version, self._entry))

    def _update_registry(self, change: Callable[[Catalog], Catalog]) -> None:
        store = self._store
        update_registry(store.storage, store.dataset, store.owner, change)
