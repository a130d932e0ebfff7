"""``registry.json``: the versions of a dataset, the latest of them, and where copies are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from imagenet_etl import leases
from imagenet_etl.build import Build
from imagenet_etl.errors import AlreadyRunning, DatasetDamaged, SourceBusy
from imagenet_etl.files import check_schema, pretty_json
from imagenet_etl.receipts import Receipt

REGISTRY_SCHEMA = 1
_WAIT_S = 30.0
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Announcement:
    """What ``publish`` did.

    Attributes:
        entry: The version's entry, with its name as ``version`` and that of its ``dataset``.
        is_new: The version was not announced yet, or only by an earlier try of this very run.
        changed: Anything in the entry changed, for example a backup was added.
    """

    entry: dict[str, Any]
    is_new: bool
    changed: bool


def publish(
    build: Build,
    verified: Receipt,
    backup: Receipt | None,
    snapshot: Receipt | None,
    *,
    announce: bool = False,
) -> Announcement:
    """Enter the version into the registry; equal content changes nothing.

    Args:
        build: The run's view of the dataset.
        verified: The receipt of ``verify``.
        backup: The receipt of ``back_up_to_s3``, None when there is none.
        snapshot: The receipt of ``snapshot_ebs``, None when there is none.
        announce: Whether the caller emits an event for a new version. Who announced it is noted,
            so that a try that died before its event is followed by one that emits it.

    Raises:
        SourceBusy: Another run has been holding the registry for half a minute.
    """
    version = verified.facts["version"]
    entry = {
        "path": f"{build.published}/{version}",
        "formats": {name: f"{verified.facts['path']}/{name}" for name in build.settings.outputs},
        "manifest_sha256": verified.facts["manifest_sha256"],
        "counts": verified.counts,
    }
    if backup is not None:
        entry["s3_uri"] = backup.facts["uri"]
    if snapshot is not None:
        entry["snapshot_id"] = snapshot.facts["snapshot_id"]
    key = f"{build.published}/registry.json"
    lease = _only_writer(build)
    try:
        registry = _read(build, key)
        known = registry["versions"].get(version, {})
        is_other = known.get("manifest_sha256") != entry["manifest_sha256"]
        # Copies of other content that once bore this name are no copies of this one.
        merged = entry if is_other else known | entry
        is_new = merged.get("announced_by", build.owner.run) == build.owner.run
        if announce and is_new:
            merged = merged | {"announced_by": build.owner.run}
        if merged != known:
            registry["versions"][version] = merged
            registry["latest"] = version if is_other else registry["latest"]
            build.storage.put(key, pretty_json(registry))
    finally:
        lease.release()
    named = {"dataset": build.facts.name, "version": version} | merged
    return Announcement(named, is_new, merged != known)


def _read(build: Build, key: str) -> dict[str, Any]:
    data = build.storage.read(key)
    if data is None:
        return {
            "schema_version": REGISTRY_SCHEMA, "dataset": build.facts.name, "latest": "",
            "versions": {},
        }  # fmt: skip
    try:
        registry: dict[str, Any] = json.loads(data)
        check_schema(key, registry["schema_version"], REGISTRY_SCHEMA)
        registry["versions"], registry["latest"]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetDamaged(
            f"{build.storage.url}/{key} is damaged",
            found=repr(error),
            remedy="Remove it: the next runs enter their versions again",
        ) from error
    return registry


def _only_writer(build: Build) -> leases.Lease:
    # Beside the folder of the versions' locks, where a version could be called like it.
    key = f"{build.work}/registry-lock"
    try:
        return leases.acquire_patiently(
            build.storage, key, build.owner, wait_s=_WAIT_S, pause_s=_PAUSE_S
        )
    except AlreadyRunning as error:
        raise SourceBusy("the registry is being written by another run") from error
