"""A bucket prefix as storage: conditional PUT to publish, ranged GET to read.

Requests run side by side in the threads of one ``Session``, which all storages share that come from
one by ``at``. Reading is told in ``s3_object``, writing in ``s3_writing``, trees in ``s3_tree``.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_codes import MISSING
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.errors import CloudError, KeyExists, LeaseLost
from imagenet_etl.storage.base import Stat, checked_key, checked_prefix
from imagenet_etl.storage.s3_counts import Counted
from imagenet_etl.storage.s3_object import S3Object, head_of, stat_of
from imagenet_etl.storage.s3_placing import Placing
from imagenet_etl.storage.s3_session import Session, tag_of
from imagenet_etl.storage.s3_tree import Trees
from imagenet_etl.storage.s3_writing import Name, Writer
from imagenet_etl.storage.staging import Staging


class S3Storage:
    """Storage below one prefix of a bucket, through a boto3 client made by the caller.

    Args:
        client: The boto3 client, or what another storage shares.
        uri: The ``s3://`` URI of the bucket or prefix.
        within: See ``Staging``.
    """

    on_disk = False

    def __init__(self, client: Any, uri: str, within: Path | None = None) -> None:
        self._session = client if isinstance(client, Session) else Session(client)
        self._client = self._session.client
        self._bucket, self._prefix = parse_s3_uri(uri)
        self.url = uri.rstrip("/")
        scratch = Path(tempfile.gettempdir())
        self._staging = Staging(scratch, ".imagenet-etl-staging-", within, is_fence=False)
        self._writer = Writer(self._session, self.url)
        self._placing = Placing(self._session, self._writer, self.staging)
        self._trees = Trees(self._session, self._writer, self._bucket, self.url)

    @property
    def counted(self) -> Counted:
        """What reading objects has cost so far, here and in all storages that ``at`` has led to."""
        return self._session.reads.counted

    def at(self, url: str) -> S3Storage:
        """Return the storage of another prefix or bucket, through the same client.

        Raises:
            ConfigError: It is no ``s3://`` URI.
        """
        return S3Storage(self._session, url)

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{checked_key(key)}" if self._prefix else checked_key(key)

    def _name(self, key: str) -> Name:
        return {"Bucket": self._bucket, "Key": self._key(key)}

    def stat(self, key: str) -> Stat | None:
        """Return the object's size and ETag, or None."""
        return stat_of(head_of(self._client, self._name(key), self.url))

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        """Yield every key below the prefix in sorted order.

        Raises:
            CloudError: The server lists keys in no order.
        """
        cut = len(self._prefix) + 1 if self._prefix else 0
        below = "/".join(part for part in (self._prefix, checked_prefix(prefix)) if part)
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{below}/" if below else ""
        )
        last = ""
        with typed_aws_errors("ListObjectsV2", self.url):
            for page in pages:
                for item in page.get("Contents", ()):
                    if item["Key"] <= last:
                        raise CloudError(
                            f"{self.url} lists {item['Key']} behind {last}",
                            expected="keys in the order of their bytes",
                            remedy="Use a general purpose bucket, not a directory bucket",
                        )
                    last = item["Key"]
                    yield item["Key"][cut:], Stat(item["Size"], tag_of(item["ETag"]))

    @contextmanager
    def open(self, key: str) -> Iterator[S3Object]:
        """Open an object for reading by position."""
        stat = self.stat(key)
        if stat is None:
            raise FileNotFoundError(f"{self.url}/{key}")
        opened = S3Object(self._session, self._bucket, self._key(key), stat)
        try:
            yield opened
        finally:
            opened.close()

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
            with typed_aws_errors("GetObject", self.url, passing=MISSING):
                data: bytes = self._client.get_object(**self._name(key))["Body"].read()
        except ClientError:
            return None
        self._session.reads.add(len(data))
        return data

    def create(self, key: str, data: bytes) -> bool:
        """Store a small object if the key is free."""
        return self._writer.create(self._name(key), data)

    def put(self, key: str, data: bytes) -> None:
        """Replace a small state object."""
        self._writer.put(self._name(key), data)

    def swap(self, key: str, data: bytes, seen: Stat | None) -> bool:
        """Store a small state object if its key has what was seen."""
        return self._writer.swap(self._name(key), data, seen.tag if seen else "")

    def publish(self, key: str, path: Path) -> Stat:
        """Upload a finished file create-only and remove the local one."""
        tag = self._writer.create_file(self._name(key), path)
        if tag is None:
            raise KeyExists(f"{self.url}/{key} exists already")
        size = path.stat().st_size
        path.unlink()
        return Stat(size, tag)

    def place(self, key: str, path: Path) -> None:
        """Take a file, to upload it beside others and replace what is there."""
        self._placing.add(self._name(key), path)

    def flush(self, prefix: str) -> None:  # noqa: ARG002
        """Wait until all that was placed is stored: S3 answers a write only then.

        Raises:
            CloudError, CloudUnavailable: Some of it could not be.
        """
        self._placing.finish()

    def publish_tree(self, source: str, target: str, mark: str) -> None:
        """Copy every object inside the bucket, ``mark`` last, then remove the sources.

        What an earlier try has copied already stays, what else it left is removed.
        """
        last = self.read(f"{source}/{mark}")
        if last is None:
            raise FileNotFoundError(f"{self.url}/{source}/{mark}")
        if self.stat(target) is not None:
            raise KeyExists(f"{self.url}/{target} exists already")

        def still() -> None:
            self._check_unpublished(source, target, mark)

        still()
        self._trees.make_alike(
            f"{self._key(source)}/", self._below(source, mark),
            f"{self._key(target)}/", self._below(target, mark), still,
        )  # fmt: skip
        still()
        if not self.create(f"{target}/{mark}", last):
            raise KeyExists(f"{self.url}/{target} was published by another run meanwhile")
        self.delete(source)

    def _check_unpublished(self, source: str, target: str, mark: str) -> None:
        """Raise unless a tree still waits to be moved.

        Whoever moves it gives the target its mark before removing anything of the source. So
        while the target has none, and the source has its own, the source is whole.
        """
        # The source first: it may vanish between the two only after the target got its mark.
        waits = self.stat(f"{source}/{mark}") is not None
        if self.stat(f"{target}/{mark}") is not None:
            raise KeyExists(f"{self.url}/{target} exists already")
        if not waits:
            raise LeaseLost(
                f"{self.url}/{source} was moved or removed by another run meanwhile",
                expected=f"{mark} in it",
                remedy="Run again: it goes on from what is there",
            )

    def _below(self, folder: str, mark: str) -> Iterator[tuple[str, Stat]]:
        """Yield what lies below a folder but its mark, by the names there."""
        cut, mark = len(checked_key(folder)) + 1, checked_key(mark)
        return ((key[cut:], stat) for key, stat in self.list(folder) if key[cut:] != mark)

    def delete(self, prefix: str) -> None:
        """Remove a key and everything below it."""
        own = self._key(prefix)
        self._trees.delete(chain((self._key(key) for key, _ in self.list(prefix)), (own,)))

    def remove(self, key: str) -> None:
        """Remove a key, by one request."""
        self._trees.remove(self._key(key))

    def staging(self) -> Path:
        """Return a scratch folder on local disk."""
        return self._staging.folder()

    def staging_name(self) -> str:
        """Return nothing: a request that is under way cannot be called back."""
        return ""

    def revoke(self, stagings: Iterable[str]) -> None:
        """Do nothing."""

    def keep_staging_alive(self) -> None:
        """Touch the scratch folder."""
        self._staging.keep_alive()

    def sweep_staging(self) -> int:
        """Remove the scratch folders that this user's dead processes left on this host."""
        return self._staging.sweep()

    def clear_staging(self) -> None:
        """Empty this process's staging folder."""
        self._staging.clear()

    def close_staging(self) -> None:
        """Remove the scratch folder."""
        self._staging.close()

    def check_space(self, needed_bytes: int, needed_files: int) -> None:
        """Accept: a bucket has no limit to check."""

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002
        """Return None: objects have no path."""
        return None
