"""``registry.json``: the versions of a dataset, the latest of them, and where copies are."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from imagenet_etl import leases
from imagenet_etl.build import Build
from imagenet_etl.errors import AlreadyRunning, SourceBusy
from imagenet_etl.files import check_schema, pretty_json
from imagenet_etl.receipts import Receipt

REGISTRY_SCHEMA = 1
_WAIT_S = 30.0
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Announcement:
    """What ``publish`` did.

    Attributes:
        entry: The version's entry, with its name as ``version``.
        is_new: The version was not in the registry, or had other content.
        changed: Anything in the entry changed, for example a backup was added.
    """

    entry: dict[str, Any]
    is_new: bool
    changed: bool


def publish(
    build: Build, verified: Receipt, backup: Receipt | None, snapshot: Receipt | None
) -> Announcement:
    """Enter the version into the registry; equal content changes nothing.

    Raises:
        SourceBusy: Another run has been holding the registry for half a minute.
    """
    version = verified.facts["version"]
    entry = {
        "path": f"{build.published}/{version}",
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
        is_new = known.get("manifest_sha256") != entry["manifest_sha256"]
        # Copies of other content that once bore this name are no copies of this one.
        merged = entry if is_new else known | entry
        if merged != known:
            registry["versions"][version] = merged
            registry["latest"] = version if is_new else registry["latest"]
            build.storage.put(key, pretty_json(registry))
    finally:
        lease.release()
    return Announcement({"version": version} | merged, is_new, merged != known)


def _read(build: Build, key: str) -> dict[str, Any]:
    data = build.storage.read(key)
    if data is None:
        return {
            "schema_version": REGISTRY_SCHEMA, "dataset": build.facts.name, "latest": "",
            "versions": {},
        }  # fmt: skip
    registry: dict[str, Any] = json.loads(data)
    check_schema(key, registry["schema_version"], REGISTRY_SCHEMA)
    return registry


def _only_writer(build: Build) -> leases.Lease:
    # Beside the folder of the versions' locks, where a version could be called like it.
    key = f"{build.work}/registry-lock"
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return leases.acquire(build.storage, key, build.owner)
        except AlreadyRunning as error:
            if time.monotonic() > deadline:
                raise SourceBusy("the registry is being written by another run") from error
            time.sleep(_PAUSE_S)
