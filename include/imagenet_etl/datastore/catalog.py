"""What is known of a dataset's versions: one schema and one merge for the disk and for the bucket.

On disk it is ``datasets/<dataset>/registry.json``, in a bucket ``<prefix>/<dataset>/catalog.json``.
An entry of a version holds::

    path             its folder, below the data folder; absolute for an adopted tree
    formats          by format, the folder below ``path``
    manifest_sha256  what tells its content from any other
    counts, bytes    images and the like; size on disk
    published_at     seconds since the epoch when it was verified; 0 where nobody noted it
    s3_uri           where its backup is; of several, the last one that a run made or found
    other_s3_uris    where further backups are
    archives_backed_up   whether the bucket has the archives as well
    snapshots        by region, the id of an EBS snapshot; an empty region is the connection's own
    shared_with      accounts that may use the snapshots
    adopted          a tree that somebody else made and that stays where it is
    removing         it is being removed; what is left of it is not to be used

What disk and bucket know together may hold one field more, which is never written::

    elsewhere        the bucket's entry, where that has other content under this name
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagenet_etl.errors import DatasetDamaged
from imagenet_etl.files import check_schema, pretty_json

REGISTRY_SCHEMA = 2

Entry = dict[str, Any]


@dataclass(frozen=True)
class Catalog:
    """The versions of one dataset, in the order in which they were entered.

    Attributes:
        dataset: The dataset's name.
        versions: An entry for each version, by name.
    """

    dataset: str
    versions: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def newest_first(self) -> list[str]:
        """The versions by the time they were published; of equal times the later entered first."""
        order = list(self.versions)[::-1]
        return sorted(order, key=lambda name: -self.versions[name]["published_at"])

    @property
    def latest(self) -> str:
        """The newest version that is not being removed; empty when there is none."""
        whole = (name for name in self.newest_first if not self.versions[name].get("removing"))
        return next(whole, "")

    def with_entry(self, version: str, entry: Entry) -> Catalog:
        """Return the catalog with an entry merged into what it has of that version."""
        merged = merge_entry(self.versions.get(version, {}), entry)
        return Catalog(self.dataset, {**self.versions, version: merged})

    def without(self, version: str) -> Catalog:
        """Return the catalog without a version."""
        kept = {name: entry for name, entry in self.versions.items() if name != version}
        return Catalog(self.dataset, kept)

    def merged_with(self, other: Catalog) -> Catalog:
        """Return what both know; of other content under one name that of ``other``.

        The one that steps back stands in the entry as ``elsewhere``, and its backups are no copies
        of the other.
        """
        merged = self
        for version, entry in other.versions.items():
            known = self.versions.get(version)
            if known is not None and known["manifest_sha256"] != entry["manifest_sha256"]:
                apart = with_backups(entry, set(backups_of(entry)) - set(backups_of(known)))
                merged = merged.with_entry(version, apart | {"elsewhere": known})
            else:
                merged = merged.with_entry(version, entry)
        return merged

    def to_json(self) -> bytes:
        """Encode for ``parse_catalog``."""
        return pretty_json(
            {
                "schema_version": REGISTRY_SCHEMA,
                "dataset": self.dataset,
                "latest": self.latest,
                "versions": dict(self.versions),
            }
        )


def merge_entry(known: Entry, new: Entry) -> Entry:
    """Return what two entries of a version know together; merging again changes nothing.

    Copies of other content that once bore this name are no copies of this one, and those of a
    version that was being removed may be gone.
    """
    if known.get("manifest_sha256") != new["manifest_sha256"] or known.get("removing"):
        return dict(new)
    merged = known | new
    merged["published_at"] = min(known["published_at"], new["published_at"])
    merged["formats"] = known["formats"] | new["formats"]
    merged = with_backups(merged, {*backups_of(known), *backups_of(new)})
    for name, value in (
        ("snapshots", _snapshots_of(known, new)),
        ("shared_with", sorted({*known.get("shared_with", ()), *new.get("shared_with", ())})),
    ):
        if value:
            merged[name] = value
    return merged


def with_copies_of(entry: Entry, other: Entry) -> Entry:
    """Return an entry with the backups and snapshots that another of the same content names."""
    merged = with_backups(entry, {*backups_of(entry), *backups_of(other)})
    snapshots = _snapshots_of(other, entry)
    return merged | ({"snapshots": snapshots} if snapshots else {})


def _snapshots_of(known: Entry, new: Entry) -> dict[str, str]:
    snapshots: dict[str, str] = known.get("snapshots", {}) | new.get("snapshots", {})
    named = {snapshot for region, snapshot in snapshots.items() if region}
    if snapshots.get("") in named:  # its region was not known when it was entered
        del snapshots[""]
    return snapshots


def backups_of(entry: Entry) -> list[str]:
    """Return the URIs of a version's backups, that which is to be used first."""
    first = [entry["s3_uri"]] if "s3_uri" in entry else []
    return [*first, *entry.get("other_s3_uris", ())]


def with_backups(entry: Entry, uris: set[str]) -> Entry:
    """Return an entry with these backups; the one that is to be used stays so."""
    changed = {k: v for k, v in entry.items() if k not in ("s3_uri", "other_s3_uris")}
    if uris:
        first = entry["s3_uri"] if entry.get("s3_uri") in uris else min(uris)
        others = sorted(uris - {first})
        changed |= {"s3_uri": first} | ({"other_s3_uris": others} if others else {})
    return changed


def parse_catalog(data: bytes | None, name: str, dataset: str) -> Catalog:
    """Decode a catalog, of an older schema too; nothing gives an empty one.

    Args:
        data: What ``to_json`` gave, None when there is no such file.
        name: The file's name, for errors.
        dataset: The dataset's name.

    Raises:
        DatasetDamaged: It is no catalog.
        SchemaTooNew: A newer version of this project wrote it.
    """
    if data is None:
        return Catalog(dataset)
    try:
        fields = json.loads(data)
        schema = fields["schema_version"]
        check_schema(name, schema, REGISTRY_SCHEMA)
        versions = dict(fields["versions"])
        if schema == 1:
            versions = _from_first_schema(versions, fields["latest"])
        for entry in versions.values():
            entry["published_at"], entry["manifest_sha256"], entry["formats"], entry["path"]
        return Catalog(dataset, versions)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetDamaged(
            f"{name} is damaged",
            found=repr(error),
            remedy="Put an earlier copy of it in its place. Without one, move it away: a version "
            "is entered again only when it is published or restored again",
        ) from error


def _from_first_schema(versions: dict[str, Entry], latest: str) -> dict[str, Entry]:
    """Give entries without times the order that makes the latest one the newest again."""
    order = sorted(versions, key=lambda version: version == latest)
    converted = {}
    for version in order:
        entry = versions[version]
        snapshot = entry.pop("snapshot_id", "")
        converted[version] = entry | {
            # The first schema held absolute paths, which are wrong wherever else it is mounted.
            "formats": {name: name for name in entry["formats"]},
            "bytes": 0,
            "published_at": 0.0,
        } | ({"snapshots": {"": snapshot}} if snapshot else {})  # fmt: skip
    return converted


def images_of(entry: Entry) -> int:
    """Return how many images a version has."""
    counts = entry.get("counts", {})
    return int(counts.get("packed", counts.get("images", 0)))
