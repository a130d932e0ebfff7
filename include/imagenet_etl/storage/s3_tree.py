"""Whole trees inside a bucket: copied, gone on with after a crash, and removed.

Source: Amazon S3 API Reference, CopyObject and DeleteObjects (up to 1,000 keys).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import CloudError, CloudUnavailable
from imagenet_etl.storage.base import Stat
from imagenet_etl.storage.s3_object import head_of
from imagenet_etl.storage.s3_part_copy import PartCopy, copying
from imagenet_etl.storage.s3_session import Session
from imagenet_etl.storage.s3_writing import Name, Writer, writer_of

COPY_IN_PARTS_ABOVE = 256 << 20
"""S3 copies more than that at once too, but may take longer than a request waits for its answer."""
_WORTH_ASKING = 8 << 20
"""Whether a larger object is a copy already is asked by two HEADs; a smaller one is copied."""
_BATCH = 1000
_BATCHES_AT_ONCE = 4
_PAUSES_S = (0.2, 1.0, 3.0)
_NO_BATCHES = {"NotImplemented", "MethodNotAllowed", "501", "405"}
_BUSY = {"SlowDown", "InternalError", "ServiceUnavailable"}


Listing = Iterator[tuple[str, Stat]]
"""Names below a prefix, in the order of their text, each with what lies there."""


class Trees:
    """Copies and removes objects of one bucket, many at once.

    Args:
        session: The way to S3.
        writer: Joins the parts of what is too large for one request.
        bucket: The bucket's name.
        url: What errors call the place.
    """

    def __init__(self, session: Session, writer: Writer, bucket: str, url: str) -> None:
        self._session, self._writer, self._url = session, writer, url
        self._client = session.client
        self._bucket = bucket

    def make_alike(
        self, source: str, wanted: Listing, target: str, there: Listing, still: Callable[[], None]
    ) -> None:
        """Copy what the target lacks, and remove what it should not have.

        Both listings are read side by side: memory grows with what is to be removed and with the
        copies in parts, not with the tree.

        Args:
            source: Prefix of what is copied, with a slash at its end.
            wanted: What of it is copied.
            target: Prefix of the copies.
            there: What an earlier try has left at the target.
            still: Raises if another run has published or removed either tree. It is asked when
                ``wanted`` is at its end: only then is that listing known to be of a whole tree,
                and what it lacks may be removed from the target.
        """
        in_parts: list[PartCopy] = []

        def steps() -> Iterator[Callable[[], None]]:
            strays: list[str] = []
            for name, stat, copy in side_by_side(wanted, there):
                if stat is None:
                    strays.append(target + name)
                elif stat == copy:
                    continue
                elif stat.size <= COPY_IN_PARTS_ABOVE:
                    yield partial(self._copy_unless_there, source + name, stat, target + name, copy)
                elif not self._is_copied(source + name, stat, target + name, copy):
                    in_parts.append(self._part_copy(source + name, stat, target + name))
                    yield from in_parts[-1].begin()
            for batch in _batches(iter(strays)):
                still()
                yield partial(self._delete_batch, batch)

        try:
            self._session.each(steps(), lambda step: step())
        except BaseException:
            for copy in in_parts:
                copy.abort()
            raise

    def _part_copy(self, key: str, stat: Stat, to: str) -> PartCopy:
        return PartCopy(self._client, self._writer, self._name(key), stat, self._name(to))

    def _copy_unless_there(self, key: str, stat: Stat, to: str, there: Stat | None) -> None:
        if self._is_copied(key, stat, to, there):
            return
        with copying("CopyObject", self._name(key)):
            self._client.copy_object(
                **self._name(to), CopySource=self._name(key), CopySourceIfMatch=stat.tag
            )

    def _is_copied(self, key: str, stat: Stat, to: str, there: Stat | None) -> bool:
        """Tell whether an object of another ETag is a copy: parts and encryption change ETags."""
        if there is None or there.size != stat.size or stat.size < _WORTH_ASKING:
            return False
        writers = {writer_of(head_of(self._client, self._name(k), self._url)) for k in (key, to)}
        return len(writers) == 1 and "" not in writers

    def _name(self, key: str) -> Name:
        return {"Bucket": self._bucket, "Key": key}

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; missing ones are no error.

        Raises:
            CloudError, CloudUnavailable: Some could not be removed.
        """
        self._session.each(_batches(iter(keys)), self._delete_batch, _BATCHES_AT_ONCE)

    def remove(self, key: str) -> None:
        """Remove an object by one request; a missing one is no error."""
        with typed_aws_errors("DeleteObject", self._url):
            self._client.delete_object(**self._name(key))

    def _delete_batch(self, keys: list[str]) -> None:
        for pause_s in (*_PAUSES_S, None):
            failed = self._left_of(keys) if len(keys) > 1 else self._delete_each(keys)
            if not failed:
                return
            keys = [key for key, _ in failed]
            why = {why for _, why in failed}
            if pause_s is None or not why <= _BUSY:
                raise (CloudUnavailable if why <= _BUSY else CloudError)(
                    f"DeleteObjects on {self._url} left {len(keys)} objects, {keys[0]} among them",
                    found=", ".join(sorted(why)),
                    remedy="Run again" if why <= _BUSY else "Check the role's IAM policy",
                )
            time.sleep(pause_s)

    def _left_of(self, keys: list[str]) -> list[tuple[str, str]]:
        """Remove objects by one request; return those that are left, each with S3's reason."""
        listed = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        try:
            with typed_aws_errors("DeleteObjects", self._url, passing=_NO_BATCHES):
                reply = self._client.delete_objects(Bucket=self._bucket, Delete=listed)
        except ClientError:
            return self._delete_each(keys)
        return [(error["Key"], error.get("Code", "")) for error in reply.get("Errors", ())]

    def _delete_each(self, keys: list[str]) -> list[tuple[str, str]]:
        for key in keys:
            self.remove(key)
        return []


def side_by_side(wanted: Listing, there: Listing) -> Iterator[tuple[str, Stat | None, Stat | None]]:
    """Yield each name of two sorted listings with what either has of it."""
    ours, theirs = next(wanted, None), next(there, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and ours[0] < theirs[0]):
            assert ours is not None
            yield ours[0], ours[1], None
            ours = next(wanted, None)
        elif ours is None or theirs[0] < ours[0]:
            yield theirs[0], None, theirs[1]
            theirs = next(there, None)
        else:
            yield ours[0], ours[1], theirs[1]
            ours, theirs = next(wanted, None), next(there, None)


def _batches(keys: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(keys, _BATCH)):
        yield batch
