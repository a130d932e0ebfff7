"""An object of a bucket that is read by position, ahead of its reader and many requests at once.

All GETs are pinned by ``If-Match`` to the ETag that the object had when it was opened; the ETag of
the answer is compared too, since not all servers know that header. A range is read by a presigned
URL, see ``s3_signed``; a whole object, and whatever fails there, by boto3, which checks a whole
object against its checksum. botocore repeats a request that is refused or not answered, but not one
whose body breaks off: that is done here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_codes import MISSING, TAKEN
from imagenet_etl.errors import ArchiveChanged, CloudUnavailable
from imagenet_etl.storage.base import Stat
from imagenet_etl.storage.s3_ahead import ReadAhead
from imagenet_etl.storage.s3_counts import Counted, Reads
from imagenet_etl.storage.s3_session import Session, tag_of
from imagenet_etl.storage.s3_signed import SignedUrl

_BLOCK_BYTES = 4 << 20
_BLOCKS_AHEAD = 6
_PAUSES_S = (0.1, 0.5, 2.0)


class S3Object:
    """An open object, safe to share between threads.

    Memory: what ``will_need`` asked for, in the room that all objects share, and 28 MiB for each
    ``blocks()`` under way.

    Args:
        session: The way to S3.
        bucket: The bucket's name.
        key: The object's key in it.
        stat: Its size and the ETag that it must keep.
    """

    def __init__(self, session: Session, bucket: str, key: str, stat: Stat) -> None:
        self.stat = stat
        self._session = session
        self._name = {"Bucket": bucket, "Key": key}
        self._uri = f"s3://{bucket}/{key}"
        self._reads = Reads(session.reads)
        self._ahead = ReadAhead(self._get, stat.size, session.room)
        self._signed: SignedUrl | None = None

    @property
    def seek_bytes(self) -> int:
        """Bytes that one stream brings in the time of another request, as measured by reading."""
        return self._session.pace.seek_bytes

    @property
    def counted(self) -> Counted:
        """Requests and bytes that reading this object has cost so far."""
        return self._reads.counted

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end.

        Raises:
            ArchiveChanged: The object was replaced since it was opened.
            CloudUnavailable: Its bytes do not come, several times.
        """
        size = min(size, self.stat.size - offset)
        return self._ahead.take(offset, size) if size > 0 else b""

    def will_need(self, spans: Sequence[tuple[int, int]]) -> None:
        """Begin to fetch the spans, neighbours together."""
        self._ahead.ask(spans)

    def blocks(self) -> Iterator[memoryview]:
        """Yield the whole content in order, more blocks ahead the longer it goes on."""
        starts = iter(range(0, self.stat.size, _BLOCK_BYTES))
        coming: deque[Future[bytes]] = deque()
        if self.stat.size <= _BLOCK_BYTES:
            yield memoryview(self.read_at(0, self.stat.size))
            return
        ahead = 2
        try:
            while True:
                while len(coming) < ahead and (start := next(starts, None)) is not None:
                    size = min(_BLOCK_BYTES, self.stat.size - start)
                    coming.append(self._session.pool().submit(self._get, start, size))
                if not coming:
                    return
                ahead = min(2 * ahead, _BLOCKS_AHEAD)
                yield memoryview(coming.popleft().result())
        finally:
            for block in coming:
                block.cancel()

    def current_stat(self) -> Stat | None:
        """Return what the key holds now."""
        head = head_of(self._session.client, self._name, self._uri)
        return stat_of(head)

    def close(self) -> None:
        """Forget what was asked for and not read."""
        self._ahead.close()

    def _get(self, offset: int, size: int) -> bytes:
        """Return bytes that are there, by a request of their own."""
        if size < self.stat.size and (url := self._url()) is not None:
            answer = self._session.signed.get(url, offset, size)
            if answer is not None:
                self._session.pace.note(answer.latency_s, answer.body_s, size)
                self._reads.add(size)
                return answer.data
            if self._signed is url:
                self._signed = None
        for pause_s in (*_PAUSES_S, None):
            began = time.monotonic()
            reply = self._reply(offset, size)
            answered = time.monotonic()
            try:
                data = self._body(reply["Body"], size)
            except CloudUnavailable:
                if pause_s is None:
                    raise
                self._reads.add(0)
                time.sleep(pause_s)
                continue
            self._session.pace.note(answered - began, time.monotonic() - answered, size)
            self._reads.add(size)
            return data
        raise AssertionError("the last try returns or raises")

    def _url(self) -> SignedUrl | None:
        url = self._signed
        if url is None or url.good_until < time.monotonic():
            name = self._name
            url = self._session.signed.url(name["Bucket"], name["Key"], self.stat.tag)
            self._signed = url
        return url

    def _reply(self, offset: int, size: int) -> dict[str, Any]:
        span = {"Range": f"bytes={offset}-{offset + size - 1}"} if size < self.stat.size else {}
        try:
            with typed_aws_errors("GetObject", self._uri, passing=TAKEN | MISSING):
                reply: dict[str, Any] = self._session.client.get_object(
                    **self._name, **span, IfMatch=self.stat.tag
                )
        except ClientError as error:
            raise self._changed() from error
        if tag_of(reply["ETag"]) != self.stat.tag:
            reply["Body"].close()
            raise self._changed(reply["ETag"])
        return reply

    def _body(self, body: Any, size: int) -> bytes:
        with typed_aws_errors("GetObject", self._uri):
            # The checksum that some servers send with a range is the whole object's: botocore
            # compares it when it is asked to read on to the end.
            data: bytes = body.read(size) if size < self.stat.size else body.read()
        if len(data) != size:
            raise CloudUnavailable(
                f"GetObject on {self._uri} broke off",
                expected=f"{size:,} bytes",
                found=f"{len(data):,}",
                remedy="Check the network",
            )
        return data

    def _changed(self, found: str = "") -> ArchiveChanged:
        return ArchiveChanged(
            f"{self._uri} was replaced or removed while it was read",
            expected=f"ETag {self.stat.tag}",
            found=found,
            remedy="Run again to index it anew",
        )


def head_of(client: Any, name: dict[str, str], thing: str) -> dict[str, Any] | None:
    """Return what a HEAD tells of an object, or None when there is no such key."""
    try:
        with typed_aws_errors("HeadObject", thing, passing=MISSING):
            head: dict[str, Any] = client.head_object(**name)
    except ClientError:
        return None
    return head


def stat_of(head: dict[str, Any] | None) -> Stat | None:
    """Return size and tag of an object as a HEAD tells them."""
    return Stat(head["ContentLength"], tag_of(head["ETag"])) if head else None
