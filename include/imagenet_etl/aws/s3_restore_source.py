"""A version as the bucket has it: its commit mark, which tells everything else of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.aws.s3_restore_file import read_small
from imagenet_etl.build import Build
from imagenet_etl.check.tree import Tree
from imagenet_etl.errors import BackupIncomplete
from imagenet_etl.manifest import MANIFEST, Manifest, ManifestFile, parse_manifest
from imagenet_etl.records.formats import LOOSE_FORMATS, loose_table
from imagenet_etl.storage.base import checked_key
from imagenet_etl.tables import open_parquet


@dataclass(frozen=True)
class BackedUpVersion:
    """A version as the bucket has it.

    Attributes:
        place: The dataset's part of the backup.
        manifest: Its manifest.
        encoded: The very bytes of that.
        modified: When they were written, in seconds since the epoch.
    """

    place: BackupPlace
    manifest: Manifest
    encoded: bytes
    modified: float

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.place.uri(self.place.version(self.manifest.version))

    @property
    def sha256(self) -> str:
        """The manifest's digest, which stands for all of its content."""
        return hashlib.sha256(self.encoded).hexdigest()

    @property
    def loose(self) -> list[str]:
        """Its formats of one file an image."""
        return [name for name in self.manifest.settings["outputs"] if name in LOOSE_FORMATS]


def read_backed_up(build: Build, version: str) -> BackedUpVersion:
    """Read the commit mark of a version in the bucket.

    Raises:
        BackupIncomplete: There is none, or it is of something else.
        DatasetDamaged, SchemaTooNew: It cannot be read.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    place = backup_place(build.settings.s3_uri, build.facts.name)
    key = f"{place.version(version)}/{MANIFEST}"
    found = read_small(build.client("s3"), place.bucket, key)
    if found is None:
        raise BackupIncomplete(
            f"{place.uri(place.version(version))} is no complete backup of a version",
            expected=f"{MANIFEST}, which is written last",
            found="none",
            remedy="Check URI, dataset and version, or let the backup end",
        )
    manifest = parse_manifest(found.data, place.uri(key))
    if (manifest.dataset, manifest.version) != (build.facts.name, version):
        raise BackupIncomplete(
            f"{place.uri(key)} is the manifest of another version",
            expected=f"{build.facts.name} {version}",
            found=f"{manifest.dataset} {manifest.version}",
        )
    for file in manifest.files:
        checked_key(file.name)
    return BackedUpVersion(place, manifest, found.data, found.modified)


def loose_files(tree: Tree, formats: Iterable[str]) -> Iterator[ManifestFile]:
    """Yield the files that the tables of loose formats list, with the format before their names."""
    for name in formats:
        with open_parquet(tree.storage, tree.key(loose_table(name))) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    file = checked_key(f"{name}/{row['name']}")
                    yield ManifestFile(file, row["size"], row["sha256"])
