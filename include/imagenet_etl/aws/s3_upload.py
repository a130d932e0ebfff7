"""Upload files to S3, create-only and checked by S3 itself.

s3transfer's manager cannot pass ``If-None-Match`` on, nor resume, so the calls are made here, with
its bandwidth limiter and its reader of file chunks.
Source: Amazon S3 API Reference, PutObject; Amazon S3 User Guide, "Checking object integrity".
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from s3transfer.bandwidth import BandwidthLimiter, LeakyBucket
from s3transfer.futures import TransferCoordinator
from s3transfer.utils import ReadFileChunk

from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.aws.s3_bucket import Bucket, LocalFile
from imagenet_etl.aws.s3_codes import CONFLICT, MISMATCH, TAKEN
from imagenet_etl.errors import CloudUnavailable, DatasetDamaged, KeyExists
from imagenet_etl.files import hash_file

MIB = 1 << 20
TRIES = 3
"""So many times a body is sent that arrives damaged."""
_IN_MEMORY = MIB
_CONFLICT_WAITS_S = (0.1, 0.5, 2.0)


@dataclass(frozen=True)
class Sending:
    """How files are sent.

    Attributes:
        connections: Requests under way at once.
        mib_per_s: Most MiB a second, of all of them together; 0 for as many as go.
        multipart_above: Larger files go up in parts, in bytes.
        part_bytes: Size of a part, but no less than 10,000 of them need.
        options: Further fields of the request that creates an object.
        sent: Told how many bytes have arrived.
    """

    connections: int = 10
    mib_per_s: float = 0
    multipart_above: int = 64 * MIB
    part_bytes: int = 32 * MIB
    options: Mapping[str, Any] = field(default_factory=dict)
    sent: Callable[[int], object] = lambda _size: None


class Bodies:
    """Makes the bodies of requests, which share one limit of bandwidth."""

    def __init__(self, mib_per_s: float) -> None:
        self._coordinator = TransferCoordinator()
        bucket = LeakyBucket(mib_per_s * MIB) if mib_per_s else None
        self._limiter = None if bucket is None else BandwidthLimiter(bucket)

    def of(self, path: Path, start: int, size: int) -> Any:
        """Return a file's span, to be closed: bytes in memory if it is small, else read as sent."""
        file = path.open("rb")
        if self._limiter is None and size <= _IN_MEMORY:
            return _read(file, start, size)
        limited = file
        if self._limiter is not None:
            limited = self._limiter.get_bandwith_limited_stream(
                file, self._coordinator, enabled=False
            )
        limited.seek(start)
        return ReadFileChunk(limited, size, start + size)

    def stop(self, error: BaseException) -> None:
        """Let nobody wait for bandwidth any more, nor begin another part."""
        self._coordinator.set_exception(error)

    def check(self) -> None:
        """Raise if what is sent beside this has failed.

        Raises:
            CloudUnavailable: It has.
        """
        if self._coordinator.exception is not None:
            raise CloudUnavailable("the backup is being ended, since another file has failed")


def _read(file: Any, start: int, size: int) -> bytes:
    with file:
        file.seek(start)
        data: bytes = file.read(size)
    return data


def put_file(bucket: Bucket, file: LocalFile, sending: Sending, bodies: Bodies) -> str:
    """Upload a file by one request under a key that must be free; return its ETag.

    S3 has checked the content; that the object is there, the caller has to see by itself.

    Raises:
        KeyExists: The key is taken; nothing was changed.
        DatasetDamaged: The file is no longer what its digest says; S3 has not taken it.
        CloudError, CloudUnavailable: S3 refuses or fails, or the body arrives damaged every time.
    """
    if file.path.stat().st_size != file.size:
        raise changed(file)
    for _ in range(TRIES):
        try:
            etag = _put_past_conflicts(bucket, file, sending, bodies)
        except ClientError as error:
            if code_of(error) in TAKEN:
                raise KeyExists(f"{bucket.uri}/{file.key} exists already") from error
            # Either the file is damaged or its body was, on its way: the file itself tells.
            if hash_file(file.path, "sha256")["sha256"] != file.sha256:
                raise changed(file) from error
            continue
        sending.sent(file.size)
        return etag
    raise CloudUnavailable(
        f"PutObject on {bucket.uri}: {file.key} arrives damaged, {TRIES} times",
        expected=f"sha256 {file.sha256}, which {file.path} still has",
        remedy="Run again; if it stays so, look for what damages data on the way to the bucket",
    )


def _put_past_conflicts(bucket: Bucket, file: LocalFile, sending: Sending, bodies: Bodies) -> str:
    """Put a file, again after a conflict; codes of ``TAKEN`` and ``MISMATCH`` are the caller's."""
    for wait_s in (*_CONFLICT_WAITS_S, None):
        # A conflict is another writer's request under way: S3 asks to try again.
        passing = TAKEN | MISMATCH | (CONFLICT if wait_s is not None else set())
        try:
            with typed_aws_errors("PutObject", bucket.uri, passing=passing):
                return _put(bucket, file, sending, bodies)
        except ClientError as error:
            if code_of(error) not in CONFLICT:
                raise
            time.sleep(wait_s or 0)
    raise AssertionError("the last try either returns or raises")


def _put(bucket: Bucket, file: LocalFile, sending: Sending, bodies: Bodies) -> str:
    body = bodies.of(file.path, 0, file.size)
    try:
        reply = bucket.client.put_object(
            Bucket=bucket.name,
            Key=file.key,
            Body=body,
            ChecksumSHA256=base64.b64encode(bytes.fromhex(file.sha256)).decode(),
            Metadata={"sha256": file.sha256},
            IfNoneMatch="*",
            **sending.options,
        )
    finally:
        if not isinstance(body, bytes):
            body.close()
    etag: str = reply["ETag"]
    return etag


def changed(file: LocalFile) -> DatasetDamaged:
    """Return the error for a file that is not what it was when its digest was taken."""
    return DatasetDamaged(
        f"{file.path} is not what it was when its digest was taken",
        expected=f"{file.size:,} bytes, sha256 {file.sha256}",
        remedy="It is damaged or was changed; nothing of it was backed up",
    )
