"""Objects are written create-only, small ones by one request, large ones in parts.

``If-None-Match: *`` makes S3 answer 412 when the key exists. An SDK that repeats a request whose
answer was lost then finds its own object: each write has a name of its own in the metadata, by
which it is told from another's. S3 checks each body: by its SHA-256, or in parts by the CRC32 of
each part and of the whole. A part is read from its file as it is sent.
Sources: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes",
"Checking object integrity" and "Multipart upload limits".
"""

from __future__ import annotations

import base64
import io
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.aws.s3_bucket import LocalFile
from imagenet_etl.aws.s3_codes import CONFLICT, MISMATCH, MISSING, NO_UPLOAD, TAKEN
from imagenet_etl.aws.s3_spans import Digests, Span, part_size
from imagenet_etl.aws.s3_upload import Bodies
from imagenet_etl.errors import CloudUnavailable, EtlError
from imagenet_etl.files import hash_file
from imagenet_etl.storage.s3_object import head_of
from imagenet_etl.storage.s3_session import Session, tag_of

log = logging.getLogger(__name__)

MULTIPART_ABOVE = 64 << 20
PART_BYTES = 16 << 20
_WRITER = "imagenet-etl-writer"
_TRIES = 5
_PAUSE_S = 0.2
_AGAIN = CONFLICT | MISMATCH
_ABSENT = {"IfNoneMatch": "*"}
# A key that is to have some ETag and does not exist gives 404, and so does a bucket.
_UNMET = TAKEN | MISSING

Name = dict[str, str]
"""Bucket and key, as boto3 wants them."""


def new_writer() -> dict[str, str]:
    """Return the metadata that tells one write from all others."""
    return {_WRITER: uuid.uuid4().hex}


def writer_of(head: dict[str, Any] | None) -> str:
    """Return by which write an object was made; empty if by none of ours."""
    # S3 gives names of metadata in lower case, other servers as they like.
    metadata = {
        name.lower(): value for name, value in (head or {"Metadata": {}})["Metadata"].items()
    }
    writer: str = metadata.get(_WRITER, "")
    return writer


def _is_by(writer: dict[str, str], head: dict[str, Any] | None) -> bool:
    """Tell one's own write, whose reply was lost and which was repeated, from another's."""
    wrote = writer_of(head)
    return bool(wrote) and wrote == writer.get(_WRITER)


class Writer:
    """Writes to one bucket.

    Args:
        session: The way to S3.
        url: What errors call the place.
    """

    def __init__(self, session: Session, url: str) -> None:
        self._session = session
        self._client = session.client
        self._url = url

    def put(self, name: Name, data: bytes) -> None:
        """Write a small object over what is there."""
        with typed_aws_errors("PutObject", self._url):
            self._client.put_object(**name, Body=data, Metadata=new_writer())

    def put_file(self, name: Name, path: Path) -> None:
        """Write a file of any size over what is there."""
        if path.stat().st_size > MULTIPART_ABOVE:
            self._in_parts(name, path, {})
            return
        with path.open("rb") as body, typed_aws_errors("PutObject", self._url):
            self._client.put_object(**name, Body=body, Metadata=new_writer())

    def create(self, name: Name, data: bytes) -> bool:
        """Write a small object if the key is free; return whether it was."""
        return self._put_if(_ABSENT, name, io.BytesIO(data), {}) is not None

    def swap(self, name: Name, data: bytes, tag: str) -> bool:
        """Write a small object if the key has this ETag, or is free; return whether it had."""
        condition = {"IfMatch": tag} if tag else _ABSENT
        return self._put_if(condition, name, io.BytesIO(data), {}) is not None

    def create_file(self, name: Name, path: Path) -> str | None:
        """Write a file of any size if the key is free; return its ETag, or None if it was not.

        Raises:
            FileNotFoundError: Others have removed it already.
        """
        if path.stat().st_size > MULTIPART_ABOVE:
            # A refusal after the last part would have cost all of them.
            taken = head_of(self._client, name, self._url) is not None
            is_ours = not taken and self._in_parts(name, path, {"IfNoneMatch": "*"})
            return self._tag_at(name) if is_ours else None
        sha256 = bytes.fromhex(hash_file(path, "sha256")["sha256"])
        with path.open("rb") as body:
            checksum = {"ChecksumSHA256": base64.b64encode(sha256).decode()}
            told = self._put_if(_ABSENT, name, body, checksum)
        if told is None or self._session.put_tells_tag:
            return told
        # Servers like S3 may tell another ETag than a HEAD and a listing will; S3 does not.
        tag = self._tag_at(name)
        if self._session.put_tells_tag is None:
            self._session.put_tells_tag = tag == told
        return tag

    def _tag_at(self, name: Name) -> str:
        head = head_of(self._client, name, self._url)
        if head is None:
            raise FileNotFoundError(f"{self._url}/{name['Key']} vanished after its upload")
        return tag_of(head["ETag"])

    def _put_if(
        self, condition: dict[str, str], name: Name, body: IO[bytes], checksum: dict[str, str]
    ) -> str | None:
        """Write an object under a condition; return its ETag, or None where that was not met."""
        writer, code = new_writer(), ""
        for _ in range(_TRIES):
            body.seek(0)
            try:
                with typed_aws_errors("PutObject", self._url, passing=_UNMET | _AGAIN):
                    reply = self._client.put_object(
                        **name, **checksum, **condition, Metadata=writer, Body=body
                    )
                return tag_of(reply.get("ETag", ""))
            except ClientError as error:
                code = code_of(error)
            if code in _UNMET:
                head = head_of(self._client, name, self._url)
                return tag_of(head["ETag"]) if head and _is_by(writer, head) else None
            # 409 says only that another write or delete of the key was under way.
            time.sleep(_PAUSE_S)
        raise self._is_damaged(name) if code in MISMATCH else self._is_busy(name)

    def _is_busy(self, name: Name) -> CloudUnavailable:
        return CloudUnavailable(
            f"s3://{name['Bucket']}/{name['Key']} is being written by others all the time",
            remedy="Run again",
        )

    def _is_damaged(self, name: Name) -> CloudUnavailable:
        return CloudUnavailable(
            f"what is written to s3://{name['Bucket']}/{name['Key']} arrives damaged",
            expected="the digest that was sent with it",
            remedy="Run again; check memory, scratch disk and network of this machine",
        )

    def _in_parts(self, name: Name, path: Path, condition: dict[str, str]) -> bool:
        """Write a large file; return False if the key was taken when all parts were there."""
        file = LocalFile(name["Key"], path, path.stat().st_size, "")
        writer = new_writer()
        begin = {"Metadata": writer, "ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        with self._multipart(name, begin) as upload:
            digests = Digests()
            parts: dict[int, dict[str, Any]] = {}

            def send(span: Span) -> None:
                parts[span.number] = self._send(upload, path, span)

            spans = digests.spans(file, part_size(file.size, PART_BYTES), with_md5=False)
            self._session.each(spans, send)
            end = {"ChecksumCRC32": digests.crc32, "ChecksumType": "FULL_OBJECT",
                   "MpuObjectSize": file.size, **condition}  # fmt: skip
            return self.complete(upload, parts, end, writer)

    def _send(self, upload: Name, path: Path, span: Span) -> dict[str, Any]:
        for _ in range(_TRIES):
            body = Bodies(0).of(path, span.start, span.size)
            try:
                with typed_aws_errors("UploadPart", self._url, passing=MISMATCH):
                    reply = self._client.upload_part(
                        **upload, PartNumber=span.number, Body=body, ChecksumCRC32=span.crc32
                    )
            except ClientError:
                continue
            finally:
                if not isinstance(body, bytes):
                    body.close()
            return {"PartNumber": span.number, "ETag": reply["ETag"], "ChecksumCRC32": span.crc32}
        raise self._is_damaged(upload)

    @contextmanager
    def _multipart(self, name: Name, begin: dict[str, Any]) -> Iterator[Name]:
        """Begin an upload in parts, and abort it if the block fails: parts cost until then.

        What a killed process leaves is aborted by the bucket's lifecycle rule alone.
        """
        upload = self.begin(name, begin)
        try:
            yield upload
        except BaseException:
            self.abort(upload)
            raise

    def begin(self, name: Name, begin: dict[str, Any]) -> Name:
        """Begin an upload in parts, which the caller completes or aborts; return its name."""
        with typed_aws_errors("CreateMultipartUpload", self._url):
            reply = self._client.create_multipart_upload(**name, **begin)
        return {**name, "UploadId": reply["UploadId"]}

    def abort(self, upload: Name) -> None:
        """Remove the parts of an upload; if that fails, the log says so."""
        try:
            with typed_aws_errors("AbortMultipartUpload", self._url, passing=NO_UPLOAD):
                self._client.abort_multipart_upload(**upload)
        except (ClientError, EtlError) as error:
            log.warning("%s keeps parts of %s: %s", self._url, upload["Key"], error)

    def complete(
        self, upload: Name, parts: dict[int, dict[str, Any]], end: dict[str, Any],
        writer: dict[str, str],
    ) -> bool:  # fmt: skip
        """Make the object of its parts; return False if its key was taken meanwhile."""
        name = {"Bucket": upload["Bucket"], "Key": upload["Key"]}
        ordered = {"Parts": [parts[number] for number in sorted(parts)]}
        passing = TAKEN | CONFLICT | NO_UPLOAD
        try:
            with typed_aws_errors("CompleteMultipartUpload", self._url, passing=passing):
                self._client.complete_multipart_upload(**upload, **end, MultipartUpload=ordered)
        except ClientError as error:
            # The upload is gone when a call whose reply was lost is repeated.
            if _is_by(writer, head_of(self._client, name, self._url)):
                return True
            if code_of(error) in TAKEN:
                self.abort(upload)
                return False
            raise self._is_busy(name) from error
        return True
