"""A large object is copied in parts, so that no single request takes long.

Source: Amazon S3 API Reference, UploadPartCopy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.aws.s3_codes import MISSING, TAKEN
from imagenet_etl.aws.s3_spans import part_size
from imagenet_etl.errors import CloudUnavailable
from imagenet_etl.storage.base import Stat
from imagenet_etl.storage.s3_object import head_of
from imagenet_etl.storage.s3_writing import Name, Writer

COPY_PART_BYTES = 128 << 20


@contextmanager
def copying(action: str, name: Name) -> Iterator[None]:
    """Raise typed errors for a request that copies from an object of a known ETag.

    Raises:
        CloudUnavailable: The object is gone or another one, or S3 fails for now.
        CloudError: S3 refuses.
    """
    uri = f"s3://{name['Bucket']}/{name['Key']}"
    try:
        with typed_aws_errors(action, uri, passing=MISSING | TAKEN):
            yield
    except ClientError as error:
        raise _vanished(uri, code_of(error)) from error


def _vanished(uri: str, found: str) -> CloudUnavailable:
    return CloudUnavailable(
        f"{uri} vanished or was replaced while it was copied",
        found=found,
        remedy="Run again; is another run removing it?",
    )


class PartCopy:
    """The copy of one object: its parts are made in any order, the last one made joins them.

    Args:
        client: The boto3 client.
        writer: Begins the upload and joins its parts.
        name: What is copied.
        stat: Its size and ETag.
        to: Where the copy goes; what is there is replaced.
    """

    def __init__(self, client: Any, writer: Writer, name: Name, stat: Stat, to: Name) -> None:
        self._client, self._writer = client, writer
        self._name, self._stat, self._to = name, stat, to
        self._step = part_size(stat.size, COPY_PART_BYTES)
        self._parts: dict[int, dict[str, Any]] = {}
        self._guard = threading.Lock()
        self._metadata: dict[str, str] = {}
        self._upload: Name = {}
        self._is_under_way = False

    def begin(self) -> list[Callable[[], None]]:
        """Begin the upload; return a call for each of its parts, good in any thread.

        Raises:
            CloudUnavailable: The object is gone, or S3 fails for now.
            CloudError: S3 refuses.
        """
        uri = f"s3://{self._name['Bucket']}/{self._name['Key']}"
        head = head_of(self._client, self._name, uri)
        if head is None:
            raise _vanished(uri, "404")
        self._metadata = head["Metadata"]
        self._upload = self._writer.begin(self._to, {"Metadata": self._metadata})
        self._is_under_way = True
        starts = range(0, self._stat.size, self._step)
        return [partial(self._copy, n, start, len(starts)) for n, start in enumerate(starts, 1)]

    def _copy(self, number: int, start: int, count: int) -> None:
        last = min(start + self._step, self._stat.size) - 1
        with copying("UploadPartCopy", self._name):
            reply = self._client.upload_part_copy(
                **self._upload, PartNumber=number, CopySource=self._name,
                CopySourceIfMatch=self._stat.tag, CopySourceRange=f"bytes={start}-{last}",
            )  # fmt: skip
        with self._guard:
            etag = reply["CopyPartResult"]["ETag"]
            self._parts[number] = {"PartNumber": number, "ETag": etag}
            if len(self._parts) < count:
                return
        self._writer.complete(self._upload, self._parts, {}, self._metadata)
        self._is_under_way = False

    def abort(self) -> None:
        """Remove the parts of a copy that failed; no part may be under way."""
        if self._is_under_way:
            self._writer.abort(self._upload)
