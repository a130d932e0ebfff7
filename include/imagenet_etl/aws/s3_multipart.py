"""Upload a large file in parts, several at once, and go on after a crash where it stopped.

The file is read once in order for its digests, while parts that were read are sent from the page
cache. S3 checks each part's CRC32 and at the end that of the whole object; the SHA-256 must be the
known one, or the upload is aborted. Parts that an earlier process has sent are kept if S3's
checksum of them is that of the file. Memory does not grow with the file: bodies are read as sent.
Source: Amazon S3 User Guide, "Checking object integrity" (full object checksums of multipart
uploads are CRCs) and "Multipart upload limits".
"""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_bucket import Bucket, LocalFile, Stored
from imagenet_etl.aws.s3_unfinished import Noted, Part, abort, parts_of
from imagenet_etl.aws.s3_upload import MIB, TAKEN, Bodies, Sending, changed
from imagenet_etl.errors import CloudUnavailable, KeyExists, TerminalError

_MAX_PARTS = 10_000
_GONE = "NoSuchUpload"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Span:
    """One part of the file: its number from 1, where it begins, its bytes and its digests."""

    number: int
    start: int
    size: int
    crc32: str
    md5: str

    def is_held_as(self, part: Part | None) -> bool:
        """Return whether S3 holds just these bytes, by its CRC32 or, if it has none, its MD5."""
        if part is None or part.size != self.size:
            return False
        return part.crc32 == self.crc32 if part.crc32 else part.etag.strip('"') == self.md5


class _Digests:
    """SHA-256 and CRC32 over the whole file, taken as its spans are read."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self._crc = 0

    @property
    def crc32(self) -> str:
        return _base64(self._crc)

    def spans(self, file: LocalFile, part_bytes: int, *, with_md5: bool) -> Iterator[Span]:
        """Yield the parts of a file in order.

        Raises:
            DatasetDamaged: It has another size than it had.
        """
        with file.path.open("rb", buffering=0) as source:
            for number, start in enumerate(range(0, file.size, part_bytes), 1):
                size = min(part_bytes, file.size - start)
                crc, md5, left = 0, hashlib.md5(usedforsecurity=False), size
                while left:
                    block = source.read(min(_BLOCK_BYTES, left))
                    if not block:
                        raise changed(file)
                    self.sha256.update(block)
                    self._crc = zlib.crc32(block, self._crc)
                    crc = zlib.crc32(block, crc)
                    if with_md5:
                        md5.update(block)
                    left -= len(block)
                yield Span(number, start, size, _base64(crc), md5.hexdigest() if with_md5 else "")
            if source.read(1):
                raise changed(file)


def part_size(size: int, least: int) -> int:
    """Return the bytes of a part: ``least``, or more MiB where 10,000 parts would not do."""
    needed = -(-size // _MAX_PARTS)
    return least if needed <= least else -(-needed // MIB) * MIB


class MultipartUpload:
    """One large file on its way; ``run`` sends it.

    Attributes:
        resumed: How many parts an earlier process had sent.
    """

    def __init__(
        self, bucket: Bucket, file: LocalFile, sending: Sending, bodies: Bodies, noted: Noted
    ) -> None:
        self.resumed = 0
        self._bucket, self._file, self._sending = bucket, file, sending
        self._bodies, self._noted = bodies, noted
        self._target = {"Bucket": bucket.name, "Key": file.key}
        self._uri = f"{bucket.uri}/{file.key}"

    def run(self) -> Stored:
        """Send what is missing, complete the upload, and return what S3 then has.

        What can be gone on with stays when this fails for the moment; else it is aborted.

        Raises:
            KeyExists: The key is taken; nothing was changed.
            DatasetDamaged: The file is no longer what its digest says; no object was made.
            BackupConflict, CloudError, CloudUnavailable: S3 refuses or fails.
        """
        upload, held = self._begin()
        try:
            crc32 = self._send_and_complete(upload, held)
        except (TerminalError, ClientError) as error:
            abort(self._bucket, self._file.key, upload)
            self._noted.forget(self._uri)
            if isinstance(error, ClientError):
                raise KeyExists(f"{self._uri} exists already") from error
            raise
        self._noted.forget(self._uri)
        return self._bucket.check(self._file, {"ChecksumCRC32": crc32})

    def _begin(self) -> tuple[str, dict[int, Part]]:
        """Return the id of the upload to go on with and the parts it has, or of a new one."""
        upload = self._noted.get(self._uri)
        held = parts_of(self._bucket, self._file.key, upload)[0] if upload else {}
        if held:
            return upload, held
        if upload:
            abort(self._bucket, self._file.key, upload)
        with typed_aws_errors("CreateMultipartUpload", self._bucket.uri):
            reply = self._bucket.client.create_multipart_upload(
                **self._target,
                Metadata={"sha256": self._file.sha256},
                ChecksumAlgorithm="CRC32",
                ChecksumType="FULL_OBJECT",
                **self._sending.options,
            )
        self._noted.put(self._uri, reply["UploadId"])
        return reply["UploadId"], {}

    def _send_and_complete(self, upload: str, held: dict[int, Part]) -> str:
        digests, parts = _Digests(), {}
        size = part_size(self._file.size, self._sending.part_bytes)
        with_md5 = any(not part.crc32 for part in held.values())
        for span, etag in self._sent(upload, held, digests, size, with_md5):
            parts[span.number] = {
                "PartNumber": span.number, "ETag": etag, "ChecksumCRC32": span.crc32
            }  # fmt: skip
        if digests.sha256.hexdigest() != self._file.sha256:
            raise changed(self._file)
        # A repeated call whose first reply was lost finds the key taken, or the upload gone.
        with self._typed("CompleteMultipartUpload", passing=(*TAKEN, _GONE)):
            self._bucket.client.complete_multipart_upload(
                **self._target,
                UploadId=upload,
                MultipartUpload={"Parts": [parts[number] for number in sorted(parts)]},
                ChecksumCRC32=digests.crc32,
                ChecksumType="FULL_OBJECT",
                MpuObjectSize=self._file.size,
                IfNoneMatch="*",
            )
        return digests.crc32

    def _sent(
        self, upload: str, held: dict[int, Part], digests: _Digests, size: int, with_md5: bool
    ) -> Iterator[tuple[Span, str]]:
        """Send every span that S3 does not hold; yield each with its ETag."""
        # Reading runs ahead of sending by one part for each connection, not by the whole file.
        room = threading.Semaphore(2 * self._sending.connections)
        running: list[tuple[Span, Future[str]]] = []
        with ThreadPoolExecutor(self._sending.connections) as pool:
            try:
                for span in digests.spans(self._file, size, with_md5=with_md5):
                    part = held.get(span.number)
                    if part is not None and span.is_held_as(part):
                        self.resumed += 1
                        self._sending.sent(span.size)
                        yield span, part.etag
                        continue
                    room.acquire()
                    future = pool.submit(self._send, upload, span)
                    future.add_done_callback(lambda _: room.release())
                    running.append((span, future))
                    while running and running[0][1].done():
                        first, done = running.pop(0)
                        yield first, done.result()
                for span, future in running:
                    yield span, future.result()
            except BaseException as error:
                self._bodies.stop(error)
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(self, upload: str, span: Span) -> str:
        body = self._bodies.of(self._file.path, span.start, span.size)
        try:
            with self._typed("UploadPart"):
                reply = self._bucket.client.upload_part(
                    **self._target,
                    UploadId=upload,
                    PartNumber=span.number,
                    Body=body,
                    ChecksumCRC32=span.crc32,
                )
        finally:
            if not isinstance(body, bytes):
                body.close()
        self._sending.sent(span.size)
        etag: str = reply["ETag"]
        return etag

    @contextmanager
    def _typed(self, action: str, passing: tuple[str, ...] = ()) -> Iterator[None]:
        """Type errors; an upload that somebody aborted can be begun anew."""
        try:
            with typed_aws_errors(action, self._bucket.uri, passing=(*passing, _GONE)):
                yield
        except ClientError as error:
            if error.response["Error"]["Code"] in passing:
                raise
            self._noted.forget(self._uri)
            raise CloudUnavailable(
                f"{action} on {self._bucket.uri}: the upload of {self._file.key} is gone",
                remedy="Run again; does a lifecycle rule or another backup abort uploads?",
            ) from error


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()
