"""A bucket prefix as storage: conditional PUT to publish, ranged GET to read.

Create-only writes use ``If-None-Match: *``, which S3 answers with 412 when the key exists.
Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes".
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.errors import ArchiveChanged, CloudUnavailable, KeyExists
from imagenet_etl.storage.base import Stat, checked_key, checked_prefix
from imagenet_etl.storage.staging import Staging

_MISSING = {"404", "NoSuchKey", "NotFound"}
_TAKEN = {"412", "PreconditionFailed"}
_CONFLICT = {"409", "ConditionalRequestConflict"}
_WRITER = "imagenet-etl-writer"
_TRIES = 5
_PAUSE_S = 0.2
_BLOCK_BYTES = 4 << 20


class S3Object:
    """An object that is read by ranged GET, pinned to the ETag it had when it was opened."""

    seek_bytes = 1 << 20

    def __init__(self, storage: S3Storage, key: str, stat: Stat) -> None:
        self._storage = storage
        self._key = key
        self.stat = stat

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end.

        Raises:
            ArchiveChanged: The object was replaced since it was opened.
        """
        size = min(size, self.stat.size - offset)
        if size <= 0:
            return b""
        span = f"bytes={offset}-{offset + size - 1}"
        try:
            return self._storage.get(
                self._key, _TAKEN | _MISSING, Range=span, IfMatch=self.stat.tag
            )
        except ClientError as error:
            raise ArchiveChanged(
                f"{self._storage.url}/{self._key} was replaced or removed while it was read",
                expected=f"ETag {self.stat.tag}",
                remedy="Run again to index it anew",
            ) from error

    def blocks(self) -> Iterator[memoryview]:
        """Yield the whole content in order, one request a block."""
        for at in range(0, self.stat.size, _BLOCK_BYTES):
            yield memoryview(self.read_at(at, _BLOCK_BYTES))

    def will_need(self, spans: Sequence[tuple[int, int]]) -> None:
        """Do nothing yet."""

    def current_stat(self) -> Stat | None:
        """Return what the key holds now."""
        return self._storage.stat(self._key)


class S3Storage:
    """Storage below one prefix of a bucket, through a boto3 client made by the caller."""

    on_disk = False

    def __init__(self, client: Any, uri: str) -> None:
        self._client = client
        self._bucket, self._prefix = parse_s3_uri(uri)
        self.url = uri.rstrip("/")
        self._staging = Staging(Path(tempfile.gettempdir()), ".imagenet-etl-staging-")

    def at(self, url: str) -> S3Storage:
        """Return the storage of another prefix or bucket, through the same client.

        Raises:
            ConfigError: It is no ``s3://`` URI.
        """
        return S3Storage(self._client, url)

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{checked_key(key)}" if self._prefix else checked_key(key)

    def get(self, key: str, passing: set[str], **request: Any) -> bytes:
        """Return the body of a GET.

        Args:
            key: What to get.
            passing: Error codes whose ``ClientError`` the caller answers itself.
            request: Further fields of the request, such as ``Range``.
        """
        with typed_aws_errors("GetObject", self.url, passing=passing):
            reply = self._client.get_object(Bucket=self._bucket, Key=self._key(key), **request)
            body: bytes = reply["Body"].read()
            return body

    def stat(self, key: str) -> Stat | None:
        """Return the object's size and ETag, or None."""
        head = self._head(key)
        return Stat(head["ContentLength"], head["ETag"]) if head else None

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        """Yield every key below the prefix in sorted order."""
        cut = len(self._prefix) + 1 if self._prefix else 0
        below = "/".join(part for part in (self._prefix, checked_prefix(prefix)) if part)
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{below}/" if below else ""
        )
        with typed_aws_errors("ListObjectsV2", self.url):
            for page in pages:
                for item in page.get("Contents", ()):
                    yield item["Key"][cut:], Stat(item["Size"], item["ETag"])

    @contextmanager
    def open(self, key: str) -> Iterator[S3Object]:
        """Open an object for reading by position."""
        stat = self.stat(key)
        if stat is None:
            raise FileNotFoundError(f"{self.url}/{key}")
        yield S3Object(self, key, stat)

    def digest(self, key: str) -> tuple[int, str] | None:
        """Return an object's size and SHA-256, or None."""
        state = hashlib.sha256()
        try:
            with self.open(key) as opened:
                for block in opened.blocks():
                    state.update(block)
                return opened.stat.size, state.hexdigest()
        except FileNotFoundError:
            return None

    def read(self, key: str) -> bytes | None:
        """Return a whole small object, or None."""
        try:
            return self.get(key, _MISSING)
        except ClientError:
            return None

    def create(self, key: str, data: bytes) -> bool:
        """Store a small object if the key is free."""
        return self._put_if_absent(key, io.BytesIO(data))

    def put(self, key: str, data: bytes) -> None:
        """Replace a small state object."""
        with typed_aws_errors("PutObject", self.url):
            self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=data)

    def _put_if_absent(self, key: str, body: IO[bytes]) -> bool:
        writer = uuid.uuid4().hex
        request = {"Bucket": self._bucket, "Key": self._key(key), "Metadata": {_WRITER: writer}}
        for _ in range(_TRIES):
            body.seek(0)
            try:
                with typed_aws_errors("PutObject", self.url, passing=_TAKEN | _CONFLICT):
                    self._client.put_object(**request, Body=body, IfNoneMatch="*")
                return True
            except ClientError as error:
                if _code(error) in _TAKEN:
                    return self._wrote(key, writer)
            # 409 says only that another write or delete of the key was under way.
            time.sleep(_PAUSE_S)
        raise CloudUnavailable(
            f"{self.url}/{key} is being written by others all the time", remedy="Run again"
        )

    def _wrote(self, key: str, writer: str) -> bool:
        """Tell a taken key from one's own write, whose reply was lost and which was repeated."""
        head = self._head(key)
        return head is not None and head["Metadata"].get(_WRITER) == writer

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            with typed_aws_errors("HeadObject", self.url, passing=_MISSING):
                head: dict[str, Any] = self._client.head_object(
                    Bucket=self._bucket, Key=self._key(key)
                )
        except ClientError:
            return None
        return head

    def publish(self, key: str, path: Path) -> Stat:
        """Upload a finished file create-only and remove the local one."""
        with path.open("rb") as body:
            created = self._put_if_absent(key, body)
        if not created:
            raise KeyExists(f"{self.url}/{key} exists already")
        path.unlink()
        stat = self.stat(key)
        if stat is None:
            raise FileNotFoundError(f"{self.url}/{key} vanished after its upload")
        return stat

    def place(self, key: str, path: Path) -> None:
        """Upload a file, replacing what is there, and remove the local one."""
        self.put(key, path.read_bytes())
        path.unlink()

    def publish_tree(self, source: str, target: str, mark: str) -> None:
        """Copy every object inside the bucket, ``mark`` last, then remove the sources."""
        last = self.read(f"{source}/{mark}")
        if last is None:
            raise FileNotFoundError(f"{self.url}/{source}/{mark}")
        if self.stat(f"{target}/{mark}") is not None or self.stat(target) is not None:
            raise KeyExists(f"{self.url}/{target} exists already")
        self.delete(target)
        for key, _ in self.list(source):
            if key == checked_key(f"{source}/{mark}"):
                continue
            origin = {"Bucket": self._bucket, "Key": self._key(key)}
            below = key[len(checked_key(source)) + 1 :]
            with typed_aws_errors("CopyObject", self.url):
                self._client.copy(origin, self._bucket, self._key(f"{target}/{below}"))
        if not self.create(f"{target}/{mark}", last):
            raise KeyExists(f"{self.url}/{target} was published by another run meanwhile")
        self.delete(source)

    def flush(self, prefix: str) -> None:
        """Do nothing: S3 answers a write only when it is stored."""

    def delete(self, prefix: str) -> None:
        """Remove a key and everything below it."""
        keys = [self._key(key) for key, _ in self.list(prefix)] + [self._key(prefix)]
        for key in keys:
            with typed_aws_errors("DeleteObject", self.url):
                self._client.delete_object(Bucket=self._bucket, Key=key)

    def staging(self) -> Path:
        """Return a scratch folder on local disk."""
        return self._staging.folder()

    def keep_staging_alive(self) -> None:
        """Touch the scratch folder."""
        self._staging.keep_alive()

    def sweep_staging(self) -> int:
        """Remove the scratch folders that this user's dead processes left on this host."""
        return self._staging.sweep()

    def close_staging(self) -> None:
        """Remove the scratch folder."""
        self._staging.close()

    def check_space(self, needed_bytes: int, needed_files: int) -> None:
        """Accept: a bucket has no limit to check."""

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002
        """Return None: objects have no path."""
        return None


def _code(error: ClientError) -> str:
    code: str = error.response.get("Error", {}).get("Code", "")
    return code
