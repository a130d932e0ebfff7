"""Upload a large file in parts, several at once, and go on after a crash where it stopped.

The file is read once in order for its digests, while parts that were read are sent from the page
cache. S3 checks each part's CRC32 and at the end that of the whole object; the SHA-256 must be the
known one, or the upload is aborted. Whatever else fails, what was sent is kept for the next try:
parts are kept if S3's checksum of them is that of the file. Memory does not grow with the file:
bodies are read as sent.
Source: Amazon S3 User Guide, "Checking object integrity" (full object checksums of multipart
uploads are CRCs) and "Multipart upload limits".
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.aws.s3_bucket import Bucket, LocalFile, Stored
from imagenet_etl.aws.s3_codes import CONFLICT, MISMATCH, NO_UPLOAD, TAKEN
from imagenet_etl.aws.s3_spans import Digests, Span, part_size
from imagenet_etl.aws.s3_unfinished import Noted, Part, abort, parts_of
from imagenet_etl.aws.s3_upload import TRIES, Bodies, Sending, changed
from imagenet_etl.errors import CloudUnavailable, DatasetDamaged, KeyExists
from imagenet_etl.files import digest_of

_LOST = (MISMATCH - {"XAmzContentSHA256Mismatch"}) | {
    "InvalidPart", "InvalidPartOrder", "EntityTooSmall"
}  # fmt: skip
"""What a completion answers when the parts are not the object; the hash of its own body is not."""


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

        What was sent is kept for the next try, unless it can never become this object.

        Raises:
            KeyExists: The key is taken; nothing was changed.
            DatasetDamaged: The file is no longer what its digest says; no object was made.
            BackupConflict, CloudError, CloudUnavailable: S3 refuses or fails.
        """
        # The plan may be hours old, and a refusal after the last part costs a terabyte.
        if self._bucket.head(self._file.key) is not None:
            self._give_up(self._noted.get(self._uri))
            raise KeyExists(f"{self._uri} exists already")
        upload, held = self._begin()
        try:
            crc32 = self._send_and_complete(upload, held)
        except (DatasetDamaged, KeyExists, _PartsLost):
            self._give_up(upload)
            raise
        self._noted.forget(self._uri)
        return self._bucket.check(self._file, {"ChecksumCRC32": crc32})

    def _give_up(self, upload: str) -> None:
        if upload:
            abort(self._bucket, self._file.key, upload)
        self._noted.forget(self._uri)

    def _begin(self) -> tuple[str, dict[int, Part]]:
        """Return the id of the upload to go on with and the parts it has, or of a new one.

        An upload keeps what it was begun with: another content, part size, key or class needs
        another upload.
        """
        part_bytes = part_size(self._file.size, self._sending.part_bytes)
        content = digest_of(
            [self._file.sha256, self._file.size, part_bytes, dict(self._sending.options)]
        )
        if upload := self._noted.get(self._uri):
            is_same = self._noted.content(self._uri) == content
            held = parts_of(self._bucket, self._file.key, upload)[0] if is_same else {}
            if held:
                return upload, held
            self._give_up(upload)
        with typed_aws_errors("CreateMultipartUpload", self._bucket.uri):
            reply = self._bucket.client.create_multipart_upload(
                **self._target,
                Metadata={"sha256": self._file.sha256},
                ChecksumAlgorithm="CRC32",
                ChecksumType="FULL_OBJECT",
                **self._sending.options,
            )
        self._noted.put(self._uri, reply["UploadId"], content)
        return reply["UploadId"], {}

    def _send_and_complete(self, upload: str, held: dict[int, Part]) -> str:
        digests, parts = Digests(), {}
        size = part_size(self._file.size, self._sending.part_bytes)
        with_md5 = any(not part.crc32 for part in held.values())
        for span, etag in self._sent(upload, held, digests, size, with_md5):
            parts[span.number] = {
                "PartNumber": span.number, "ETag": etag, "ChecksumCRC32": span.crc32
            }  # fmt: skip
        if digests.sha256.hexdigest() != self._file.sha256:
            raise changed(self._file)
        request = {
            **self._target,
            "UploadId": upload,
            "MultipartUpload": {"Parts": [parts[number] for number in sorted(parts)]},
            "ChecksumCRC32": digests.crc32,
            "ChecksumType": "FULL_OBJECT",
            "MpuObjectSize": self._file.size,
            "IfNoneMatch": "*",
        }
        self._complete(request)
        return digests.crc32

    def _complete(self, request: dict[str, Any]) -> None:
        try:
            with typed_aws_errors(
                "CompleteMultipartUpload", self._bucket.uri,
                passing=TAKEN | CONFLICT | _LOST | NO_UPLOAD,
            ):  # fmt: skip
                self._bucket.client.complete_multipart_upload(**request)
        except ClientError as error:
            if code_of(error) in _LOST:
                raise _PartsLost(
                    f"S3 cannot make {self._uri} of the parts that it was sent",
                    found=code_of(error),
                    remedy="Run again: all of it will be sent anew",
                ) from error
            # A repeated call whose first reply was lost finds the key taken, or the upload gone.
            if self._bucket.head(self._file.key) is None:
                raise self._refused(code_of(error)) from error
            raise KeyExists(f"{self._uri} exists already") from error

    def _refused(self, code: str) -> CloudUnavailable:
        """Return the error for a completion that was refused though the key is free."""
        what = f"CompleteMultipartUpload on {self._bucket.uri}"
        if code in TAKEN:
            return CloudUnavailable(
                f"{what}: {self._file.key} was taken, and is free again",
                found=code,
                remedy="Run again: its parts are kept; who else writes or removes this key?",
            )
        # After a conflict S3 wants a new upload.
        return _PartsLost(
            f"{what}: the upload of {self._file.key} is gone or met another writer, and there is "
            "no object",
            found=code,
            remedy="Run again: all of it is sent anew; does a lifecycle rule or another backup "
            "abort uploads, or write this key?",
        )

    def _sent(
        self, upload: str, held: dict[int, Part], digests: Digests, size: int, with_md5: bool
    ) -> Iterator[tuple[Span, str]]:
        """Send every span that S3 does not hold; yield each with its ETag."""
        # Reading runs ahead of sending by one part for each connection, not by the whole file.
        room = threading.Semaphore(2 * self._sending.connections)
        running: list[tuple[Span, Future[str]]] = []
        with ThreadPoolExecutor(self._sending.connections) as pool:
            try:
                for span in digests.spans(self._file, size, with_md5=with_md5):
                    self._bodies.check()
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
        """Send one part, again if it was damaged on its way; return its ETag."""
        for _ in range(TRIES):
            body = self._bodies.of(self._file.path, span.start, span.size)
            try:
                passing = MISMATCH | NO_UPLOAD
                with typed_aws_errors("UploadPart", self._bucket.uri, passing=passing):
                    reply = self._bucket.client.upload_part(
                        **self._target,
                        UploadId=upload,
                        PartNumber=span.number,
                        Body=body,
                        ChecksumCRC32=span.crc32,
                    )
            except ClientError as error:
                if code_of(error) in NO_UPLOAD:
                    raise self._is_gone() from error
                continue
            finally:
                if not isinstance(body, bytes):
                    body.close()
            self._sending.sent(span.size)
            etag: str = reply["ETag"]
            return etag
        raise CloudUnavailable(
            f"UploadPart on {self._bucket.uri}: part {span.number} of {self._file.key} arrives "
            f"damaged, {TRIES} times",
            remedy="Run again; a file that was changed meanwhile is found then",
        )

    def _is_gone(self) -> CloudUnavailable:
        """Return the error for an upload that somebody aborted; it can be begun anew."""
        self._noted.forget(self._uri)
        return CloudUnavailable(
            f"UploadPart on {self._bucket.uri}: the upload of {self._file.key} is gone",
            remedy="Run again; does a lifecycle rule or another backup abort uploads?",
        )


class _PartsLost(CloudUnavailable):
    """S3 does not have the parts that it acknowledged, or makes nothing of them any more."""
