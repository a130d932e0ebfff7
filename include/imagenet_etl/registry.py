"""Enter a verified version into the registry beside the data and the catalog in the bucket."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from imagenet_etl.aws.s3_bucket import encryption_options
from imagenet_etl.aws.s3_catalog import check_entry_stays, update_catalog
from imagenet_etl.aws.s3_layout import MARK, backup_place
from imagenet_etl.build import Build
from imagenet_etl.check.loose import total_bytes
from imagenet_etl.check.tree import Tree
from imagenet_etl.datastore.catalog import Catalog, Entry
from imagenet_etl.datastore.disk import read_registry, update_registry
from imagenet_etl.receipts import Receipt
from imagenet_etl.records.formats import LOOSE_FORMATS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Copies:
    """The receipts of what was made of a version elsewhere; None for what was not.

    Attributes:
        backup: Of ``back_up_to_s3``.
        snapshot: Of ``snapshot_ebs``.
        copied: Of ``copy_snapshot``.
        shared: Of ``share_snapshot``.
    """

    backup: Receipt | None = None
    snapshot: Receipt | None = None
    copied: Receipt | None = None
    shared: Receipt | None = None


NO_COPIES = Copies()


@dataclass(frozen=True)
class Announcement:
    """What ``publish`` did.

    Attributes:
        entry: The version's entry with its name as ``version``, that of its ``dataset``, and the
            absolute paths of its ``formats``; ``snapshot_id`` is the snapshot of the volume itself.
        is_new: The version was not announced yet, or only by an earlier try of this very run.
        changed: Anything in the entry changed, for example a backup was added.
    """

    entry: dict[str, Any]
    is_new: bool
    changed: bool


def publish(
    build: Build, verified: Receipt, copies: Copies = NO_COPIES, *, announce: bool = False
) -> Announcement:
    """Enter the version into the registry; equal content changes nothing.

    The bucket comes first: whoever finds the version on disk finds it there as well, and a run that
    died between the two is completed by the next, which looks at both.

    Args:
        build: The run's view of the dataset.
        verified: The receipt of ``verify``.
        copies: What else was made of it.
        announce: Whether the caller emits an event for a new version. Who announced it is noted,
            so that a try that died before its event is followed by one that emits it.

    Raises:
        SourceBusy: Another run has been holding the registry for half a minute.
        CloudError, CloudUnavailable: The version is backed up, and the bucket refuses or fails, or
            another machine is removing it from there.
    """
    version, name = verified.facts["version"], build.facts.name
    before = read_registry(build.storage, name).versions.get(version, {})
    entry = _entry(build, verified, copies, before)
    if build.settings.s3_uri and "s3_uri" in entry:
        entry = _enter_in_bucket(build, version, entry)
    known: Entry = {}
    is_new = False

    def change(registry: Catalog) -> Catalog:
        nonlocal known, is_new
        known = registry.versions.get(version, {})
        changed = registry.with_entry(version, entry)
        merged = changed.versions[version]
        is_new = merged.get("announced_by", build.owner.run) == build.owner.run
        if announce and is_new:
            merged["announced_by"] = build.owner.run
        return changed

    registry = update_registry(build.storage, name, build.owner, change)
    merged = registry.versions[version]
    if is_new and registry.latest != version:
        log.warning(
            "publish: %s is new, but %s stays the latest, which was verified later by the clock of "
            "the machine that built it", version, registry.latest,
        )  # fmt: skip
    named = {"dataset": name, "version": version} | merged
    named["formats"] = {
        output: f"{verified.facts['path']}/{folder}" for output, folder in merged["formats"].items()
    }
    if copies.snapshot is not None:
        named["snapshot_id"] = copies.snapshot.facts["snapshot_id"]
    return Announcement(named, is_new, merged != known)


def _entry(build: Build, verified: Receipt, copies: Copies, before: Entry) -> Entry:
    """Return what this run knows of the version."""
    version, manifest = verified.facts["version"], verified.facts["manifest_sha256"]
    is_same = before.get("manifest_sha256") == manifest
    entry: Entry = {
        "path": f"{build.published}/{version}",
        "formats": {name: name for name in build.settings.outputs},
        "manifest_sha256": manifest,
        "counts": verified.counts,
        # Read off a table of a million rows, so only once.
        "bytes": (is_same and before.get("bytes")) or _bytes(build, verified),
        "published_at": verified.finished_at,
    }
    backup, snapshot = copies.backup, copies.snapshot
    if backup is not None and "dataset" in build.settings.back_up:
        entry["s3_uri"] = backup.facts["uri"]
    if backup is not None and _has_archives(build, backup):
        entry["archives_backed_up"] = True
    if snapshot is not None:
        entry["snapshots"] = {snapshot.facts["region"]: snapshot.facts["snapshot_id"]}
        if copies.copied is not None:
            entry["snapshots"] |= copies.copied.facts["copies"]
        if copies.shared is not None:
            entry["shared_with"] = sorted(copies.shared.facts["accounts"])
    return entry


def _has_archives(build: Build, backup: Receipt) -> bool:
    """Return whether the backup holds every archive that the version was made from."""
    left_out = {archive.name for archive in build.facts.archives} & {
        *backup.facts["report"]["left_out"]
    }
    return not left_out and any(key.endswith(MARK) for key in backup.facts["marks"])


def _bytes(build: Build, verified: Receipt) -> int:
    """Return the size of the version on disk."""
    tree = Tree(build.storage, verified.base)
    loose = sorted(LOOSE_FORMATS & set(build.settings.outputs))
    return sum(file.size for file in verified.outputs) + sum(
        total_bytes(tree, name) for name in loose
    )


def _enter_in_bucket(build: Build, version: str, entry: Entry) -> Entry:
    """Enter the version into the bucket's catalog; return what that knows of it now."""
    name = build.facts.name

    def change(catalog: Catalog) -> Catalog:
        check_entry_stays(entry["s3_uri"], catalog.versions.get(version, {}))
        return catalog.with_entry(version, entry)

    place, options = backup_place(build.settings.s3_uri, name), encryption_options(build.settings)
    catalog = update_catalog(build.client("s3"), place, name, change, options)
    return dict(catalog.versions[version])
