"""Multipart uploads that were begun: ours are gone on with, abandoned ones are aborted.

An upload that this data folder noted is ours to go on with, since locks let one run at a time send
a file. Any other below the dataset's prefix may be that of a live backup, of another version or on
another machine. It counts as abandoned when no part has come for a day. A live one may be silent
for hours: a resume reads a terabyte anew, and sends nothing while S3 holds the parts; and a limit
of 1 MiB a second lets 64 connections finish their parts two hours after they began. No try takes
more than the twelve hours that the DAGs allow it. What is left over costs a day of storage.
Source: Amazon S3 API Reference, ListMultipartUploads and ListParts.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_bucket import Bucket
from imagenet_etl.aws.s3_codes import NO_UPLOAD
from imagenet_etl.errors import EtlError
from imagenet_etl.files import digest_of, pretty_json
from imagenet_etl.storage import Storage

log = logging.getLogger(__name__)

IDLE_S = 24 * 3600.0


@dataclass(frozen=True)
class Part:
    """A part that S3 holds: number, bytes, ETag with its quotes, CRC32 in base 64 if S3 tells."""

    number: int
    size: int
    etag: str
    crc32: str = ""


class Noted:
    """The uploads that this data folder has begun, one small file each."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self._folder = folder

    def _key(self, uri: str) -> str:
        return f"{self._folder}/{digest_of(uri)[:24]}.json"

    def get(self, uri: str) -> str:
        """Return the id of the upload that was begun for an object; empty for none."""
        return self._read(uri).get("upload", "")

    def content(self, uri: str) -> str:
        """Return what the upload that was begun is of, as ``put`` was told."""
        return self._read(uri).get("content", "")

    def put(self, uri: str, upload: str, content: str) -> None:
        """Note an upload before its first part is sent, and a digest of what it is of."""
        fields = {"uri": uri, "upload": upload, "content": content}
        self._storage.put(self._key(uri), pretty_json(fields))

    def forget(self, uri: str) -> None:
        """Forget an upload that was completed or aborted."""
        self._storage.remove(self._key(uri))

    def _read(self, uri: str) -> dict[str, str]:
        try:
            fields = json.loads(self._storage.read(self._key(uri)) or b"{}")
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}


def unfinished(bucket: Bucket, prefix: str) -> Iterator[tuple[str, str, float]]:
    """Yield key, id and seconds since the epoch of each upload that was begun below a prefix."""
    pages = bucket.client.get_paginator("list_multipart_uploads")
    try:
        with typed_aws_errors("ListMultipartUploads", bucket.uri, passing=NO_UPLOAD):
            for page in pages.paginate(Bucket=bucket.name, Prefix=prefix):
                for item in page.get("Uploads", ()):
                    yield item["Key"], item["UploadId"], item["Initiated"].timestamp()
    except ClientError:
        return  # rclone's way to say that a bucket has none


def parts_of(bucket: Bucket, key: str, upload: str) -> tuple[dict[int, Part], float]:
    """Return the parts that S3 holds, by number, and when the last of them came; 0 for never."""
    parts: dict[int, Part] = {}
    last = 0.0
    pages = bucket.client.get_paginator("list_parts")
    try:
        with typed_aws_errors("ListParts", bucket.uri, passing=NO_UPLOAD):
            for page in pages.paginate(Bucket=bucket.name, Key=key, UploadId=upload):
                for item in page.get("Parts", ()):
                    part = Part(
                        item["PartNumber"], item["Size"], item["ETag"],
                        item.get("ChecksumCRC32", ""),
                    )  # fmt: skip
                    parts[part.number] = part
                    last = max(last, item["LastModified"].timestamp())
    except ClientError:
        return {}, 0.0
    return parts, last


def abort(bucket: Bucket, key: str, upload: str) -> bool:
    """Abort an upload; return whether it is gone.

    That it cannot be aborted is only told: what the caller does next, or raises, counts more.
    """
    request: dict[str, Any] = {"Bucket": bucket.name, "Key": key, "UploadId": upload}
    try:
        with typed_aws_errors("AbortMultipartUpload", bucket.uri, passing=NO_UPLOAD):
            bucket.client.abort_multipart_upload(**request)
    except ClientError:
        return True
    except EtlError as error:
        log.warning("%s/%s: an unfinished upload stays: %s", bucket.uri, key, error)
        return False
    return True


def abort_abandoned(
    bucket: Bucket,
    prefix: str,
    noted: Noted,
    wanted: Callable[[str], bool],
    now: Callable[[], float] = time.time,
) -> int:
    """Abort what nobody goes on with below a prefix; return how many there were.

    Args:
        bucket: The bucket.
        prefix: The dataset's prefix, with a slash at its end.
        noted: The uploads of this data folder.
        wanted: Whether a key is about to be uploaded: then its upload is gone on with.
        now: The time, in seconds since the epoch.
    """
    aborted = 0
    for key, upload, begun in list(unfinished(bucket, prefix)):
        uri = f"{bucket.uri}/{key}"
        is_ours = noted.get(uri) == upload
        if is_ours and wanted(key):
            continue
        if now() - max(begun, parts_of(bucket, key, upload)[1]) < IDLE_S:
            continue
        aborted += abort(bucket, key, upload)
        if is_ours:
            noted.forget(uri)
    return aborted
