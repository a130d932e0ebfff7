"""A bucket as a backup sees it: what is listed, what a HEAD tells, and whether it is the file.

Source: Amazon S3 API Reference, HeadObject and ListObjectsV2.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_codes import MISSING
from imagenet_etl.config import Settings
from imagenet_etl.errors import BackupConflict, CloudError, CloudUnavailable


@dataclass(frozen=True)
class LocalFile:
    """A file that is to be in the bucket.

    Attributes:
        key: The object's key.
        path: Where the file is.
        size: Bytes.
        sha256: Hex digest.
    """

    key: str
    path: Path
    size: int
    sha256: str


class Listed(NamedTuple):
    """What a listing tells of an object: bytes and ETag, without its quotes."""

    size: int
    etag: str


@dataclass(frozen=True)
class Stored:
    """What a HEAD tells of an object.

    Attributes:
        size: Bytes.
        etag: As S3 gives it, quotes included.
        digest: SHA-256 of the content: as stored with it, else as S3 took it; empty for neither.
        checksums: What S3 itself found over the whole object, by name.
    """

    size: int
    etag: str
    digest: str
    checksums: Mapping[str, str]


class Bucket:
    """A bucket, through a boto3 client made by the caller; errors are typed and name it."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name
        self.uri = f"s3://{name}"

    def listing(self, prefix: str, after: str = "") -> Iterator[tuple[str, Listed]]:
        """Yield what lies below a prefix, in the order of the keys, those after ``after``.

        Raises:
            CloudError: The server lists keys in no order.
        """
        pages = self.client.get_paginator("list_objects_v2")
        start = {"StartAfter": after} if after else {}
        last = after
        with typed_aws_errors("ListObjectsV2", self.uri):
            for page in pages.paginate(Bucket=self.name, Prefix=prefix, **start):
                for item in page.get("Contents", ()):
                    key = item["Key"]
                    if key <= last:
                        raise CloudError(
                            f"{self.uri} lists {key} behind {last}",
                            expected="keys in the order of their bytes",
                            remedy="Use a general purpose bucket, not a directory bucket",
                        )
                    last = key
                    yield key, Listed(item["Size"], item["ETag"].strip('"'))

    def head(self, key: str) -> Stored | None:
        """Return what a key holds, or None."""
        try:
            with typed_aws_errors("HeadObject", self.uri, passing=MISSING):
                reply = self.client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED")
        except ClientError:
            return None
        # Composite checksums are of the parts, not of the object.
        whole = reply.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        names = [name for name in reply if name.startswith("Checksum") and name != "ChecksumType"]
        checksums = {name: reply[name] for name in names if whole}
        # S3 gives names of metadata in lower case, other servers as they like.
        metadata = {name.lower(): value for name, value in reply["Metadata"].items()}
        digest = metadata.get("sha256") or _hex(checksums.get("ChecksumSHA256", ""))
        return Stored(reply["ContentLength"], reply["ETag"], digest, checksums)

    def check(self, file: LocalFile, checksums: Mapping[str, str] | None = None) -> Stored:
        """Return what the key holds, which must be the file.

        Args:
            file: The file.
            checksums: What S3 must have found, where it tells.

        Raises:
            BackupConflict: It is something else.
            CloudUnavailable: It is not there.
        """
        stored = self.head(file.key)
        if stored is None:
            raise CloudUnavailable(
                f"{self.uri}/{file.key} was listed or written, but is not there",
                remedy="Run again; is something removing objects from this prefix?",
            )
        wanted = {"ChecksumSHA256": base64.b64encode(bytes.fromhex(file.sha256)).decode()}
        wanted |= checksums or {}
        other = any(value != wanted.get(name, value) for name, value in stored.checksums.items())
        if other or (stored.size, stored.digest) != (file.size, file.sha256):
            raise BackupConflict(
                f"{self.uri}/{file.key} holds something else",
                expected=f"{file.size:,} bytes, sha256 {file.sha256}",
                found=f"{stored.size:,} bytes, sha256 {stored.digest or 'unknown'}"
                + (f", {dict(stored.checksums)}" if other else ""),
                remedy="Nothing was overwritten; use another prefix or version name",
            )
        return stored


def object_options(settings: Settings) -> dict[str, Any]:
    """Return what the settings add to the request that creates an object."""
    options = encryption_options(settings)
    if settings.s3_storage_class != "STANDARD":
        options["StorageClass"] = settings.s3_storage_class
    return options


def encryption_options(settings: Settings) -> dict[str, Any]:
    """Return what the settings add for a small object that is read at any time."""
    options: dict[str, Any] = {}
    if settings.s3_kms_key:
        options |= {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": settings.s3_kms_key,
            "BucketKeyEnabled": True,  # else each object costs a call of KMS
        }
    if settings.s3_tags:
        options["Tagging"] = urlencode(sorted(settings.s3_tags.items()))
    return options


def _hex(checksum: str) -> str:
    return base64.b64decode(checksum).hex() if checksum else ""
