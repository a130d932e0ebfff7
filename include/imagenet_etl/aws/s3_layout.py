"""Where everything is below ``s3://bucket/prefix``.

::

    <dataset>/<version>/...                           a version; manifest.json is its commit mark
    <dataset>/archives/<name>/<digest>/<name>         an archive as it was fetched
    <dataset>/archives/<name>/<digest>.backup.json    its commit mark: size, digests, source
    <dataset>/archives/index/<digest>/...             an image index; receipt.json is its mark
    <dataset>/catalog.json                            the versions, the latest, and their copies

Only the catalog is ever written anew. No archive is called ``index``.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagenet_etl.aws.s3_uri import parse_s3_uri

CATALOG = "catalog.json"
MARK = ".backup.json"


@dataclass(frozen=True)
class BackupPlace:
    """One dataset's part of a backup.

    Attributes:
        bucket: The bucket.
        root: Key prefix of the dataset, without a slash at its end.
    """

    bucket: str
    root: str

    def version(self, version: str) -> str:
        """Return the key prefix of a published version."""
        return f"{self.root}/{version}"

    @property
    def archives(self) -> str:
        """Key prefix of all archives and indexes, with a slash at its end."""
        return f"{self.root}/archives/"

    def archive_marks(self, name: str) -> str:
        """Key prefix below which are all that an archive has ever been, and their marks."""
        return f"{self.archives}{name}/"

    def archive(self, name: str, sha256: str) -> str:
        """Return the key of an archive; one that changed upstream gets another."""
        return f"{self.archive_marks(name)}{sha256[:16]}/{name}"

    def archive_mark(self, name: str, sha256: str) -> str:
        """Return the key of an archive's commit mark."""
        return f"{self.archive_marks(name)}{sha256[:16]}{MARK}"

    def index(self, digest: str) -> str:
        """Return the key prefix of the image index that the ``untar`` stage digest names."""
        return f"{self.archives}index/{digest}"

    @property
    def catalog(self) -> str:
        """Key of the catalog."""
        return f"{self.root}/{CATALOG}"

    def uri(self, key: str) -> str:
        """Return the URI of a key."""
        return f"s3://{self.bucket}/{key}"


def backup_place(s3_uri: str, dataset: str) -> BackupPlace:
    """Return where a dataset is below the backup's URI.

    Raises:
        ConfigError: It is no S3 URI.
    """
    bucket, prefix = parse_s3_uri(s3_uri)
    return BackupPlace(bucket, f"{prefix}/{dataset}" if prefix else dataset)
