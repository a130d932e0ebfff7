"""One object of a backup as a file: read, checked against its digest, and only then kept.

A small one is read in one go. A large one comes in ranges, several at a time, into a partial file
with a journal, as an archive does, so that a restore that was killed goes on in the middle of it.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, FlexibleChecksumError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_codes import MISSING
from imagenet_etl.build import Build
from imagenet_etl.download import s3
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience, TransientAnswer
from imagenet_etl.download.slices import Pace
from imagenet_etl.download.transfer import Job
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import (
    BackupIncomplete,
    ChecksumMismatch,
    CloudNotFound,
    CloudUnavailable,
)
from imagenet_etl.files import digest_of
from imagenet_etl.manifest import ManifestFile
from imagenet_etl.progress import Meter

log = logging.getLogger(__name__)

IN_RANGES_ABOVE = 8 << 20
"""Up to this size an object is read in one go; memory is that much a connection."""

_TRIES = 2


@dataclass(frozen=True)
class Restorer:
    """Brings objects below one prefix to a folder on this machine.

    Attributes:
        build: The run; only its S3 client is used.
        client: That client.
        bucket: The bucket.
        prefix: Key prefix of the objects.
        parts: Folder for what is not complete, on the file system of the files.
        connections: Ranges of a large object that are asked for at once.
        patience: Makes the patience with which an object is asked for.
        in_ranges_above: Larger objects come in ranges.
    """

    build: Build
    client: Any
    bucket: str
    prefix: str
    parts: Path
    connections: int = 4
    patience: Callable[[], Patience] = Patience
    in_ranges_above: int = IN_RANGES_ABOVE

    def uri(self, name: str) -> str:
        """Return the URI of an object."""
        return f"s3://{self.bucket}/{self.prefix}/{name}"

    def restore(self, file: ManifestFile, path: Path) -> int:
        """Bring one object to ``path``, which it replaces; return the bytes that were fetched.

        Raises:
            BackupIncomplete: It is not in the bucket.
            ChecksumMismatch: It is not the file, and was not at the second try.
            SourceChanged: It was replaced twice while it was read.
            CloudError, CloudUnavailable, SourceUnavailable: It cannot be had.
        """
        try:
            if file.size > self.in_ranges_above:
                return self._in_ranges(file, path)
            return self._in_one_go(file, path)
        except CloudNotFound as error:
            raise BackupIncomplete(
                f"{self.uri(file.name)} is not there, though the manifest names it",
                expected=f"{file.size:,} bytes, sha256 {file.sha256}",
                found="no object",
                remedy="Restore from another copy, or build the version again",
            ) from error

    def _in_one_go(self, file: ManifestFile, path: Path) -> int:
        for left in reversed(range(_TRIES)):
            data = self._content(file)
            found = hashlib.sha256(data).hexdigest()
            if (len(data), found) == (file.size, file.sha256):
                break
            self._mismatch(file, len(data), found, is_last=not left)
        part = self.parts / uuid.uuid4().hex
        part.write_bytes(data)
        part.replace(path)
        return len(data)

    def _content(self, file: ManifestFile) -> bytes:
        uri, key = self.uri(file.name), f"{self.prefix}/{file.name}"
        patience = self.patience()
        while True:
            try:
                with typed_aws_errors("GetObject", uri):
                    body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
                    # One byte more than there should be tells an object that is too long.
                    with closing(body):
                        return _read(body, file.size + 1)
            except CloudUnavailable as error:
                patience.wait(uri, TransientAnswer(str(error), answered=False))

    def _in_ranges(self, file: ManifestFile, path: Path) -> int:
        wanted = Wanted(file.name, self.uri(file.name), "", file.size)
        meter = Meter(file.name, file.size, "B")
        for left in reversed(range(_TRIES)):
            # Its digest, too: a part of what the name once stood for is no part of this.
            part_path = self.parts / f"{digest_of([file.name, file.sha256])[:24]}.part"
            with PartFile(part_path) as part:
                s3.fetch(
                    self.build, Job(wanted, part, self.patience(), Pace(self.connections)), meter
                )
                found = part.digests(("sha256",))["sha256"]
                if found == file.sha256:
                    part_path.replace(path)
                    part.forget()
                    return meter.bytes
                part.discard()
            self._mismatch(file, file.size, found, is_last=not left)
        raise AssertionError("the last try either returns or raises")

    def _mismatch(self, file: ManifestFile, size: int, sha256: str, *, is_last: bool) -> None:
        error = ChecksumMismatch(
            f"{self.uri(file.name)} is not the file that the manifest names",
            expected=f"{file.size:,} bytes, sha256 {file.sha256}",
            found=f"{size:,} bytes, sha256 {sha256}",
            remedy="The object was replaced or damaged: restore from another copy, or build the "
            "version again",
        )
        if is_last:
            raise error
        log.warning("%s; once more", error)


def _read(body: Any, most: int) -> bytes:
    try:
        data: bytes = body.read(most)
        return data
    except FlexibleChecksumError:
        return b""  # it was damaged on its way: no file has this digest, so it is asked for again


@dataclass(frozen=True)
class SmallObject:
    """The content of an object, and when it was written in seconds since the epoch."""

    data: bytes
    modified: float


def read_small(client: Any, bucket: str, key: str) -> SmallObject | None:
    """Return a small object, such as a commit mark, or None when there is none.

    Raises:
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    uri = f"s3://{bucket}/{key}"
    try:
        with typed_aws_errors("GetObject", uri, passing=MISSING):
            reply = client.get_object(Bucket=bucket, Key=key)
            return SmallObject(reply["Body"].read(), reply["LastModified"].timestamp())
    except ClientError:
        return None
