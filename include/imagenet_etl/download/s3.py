"""Objects in a bucket as archives: ranged GET, pinned to the ETag of the first look.

Source: Amazon S3 API Reference, GetObject (Range, If-Match) and HeadObject.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.build import Build
from imagenet_etl.download.answers import StartOver, check_magic, check_size, until_complete
from imagenet_etl.download.part import PartFile, RemoteFile
from imagenet_etl.download.retry import Patience, TransientAnswer
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import BadArchive, CloudUnavailable, EtlError
from imagenet_etl.files import check_space
from imagenet_etl.progress import Meter

log = logging.getLogger(__name__)
_REPLACED = {"412", "PreconditionFailed"}
_BLOCK_BYTES = 1 << 20


def fetch(build: Build, wanted: Wanted, part: PartFile, meter: Meter, patience: Patience) -> None:
    """Complete ``part`` from the object.

    Raises:
        CloudNotFound, AccessDenied, CloudError: It cannot be had.
        ChecksumMismatch, SourceError: It is not the archive.
        SourceChanged: It was replaced twice while it was downloaded.
        SourceUnavailable: Nothing new arrived within the patience's budget.
    """
    client = build.client("s3")

    def attempt() -> None:
        try:
            _attempt(client, wanted, part, meter, patience)
        except CloudUnavailable as error:
            raise TransientAnswer(str(error), answered=False) from None

    until_complete(attempt, wanted, part, patience)


def look(build: Build, wanted: Wanted, timeout_s: float = 10.0) -> RemoteFile:
    """Return the object's ETag and size as they are now.

    Raises:
        CloudNotFound, AccessDenied, CloudError, CloudUnavailable: They cannot be had.
    """
    client = build.client("s3")
    answer: Future[RemoteFile] = Future()

    def ask() -> None:
        try:
            answer.set_result(_head(client, wanted))
        except EtlError as error:
            answer.set_exception(error)

    # The client's own timeouts and retries are those of an upload: they may take minutes.
    threading.Thread(target=ask, name="look", daemon=True).start()
    try:
        return answer.result(timeout_s)
    except TimeoutError:
        raise CloudUnavailable(f"{wanted.shown}: no answer within {timeout_s:g} s") from None


def _head(client: Any, wanted: Wanted) -> RemoteFile:
    bucket, key = parse_s3_uri(wanted.url)
    with typed_aws_errors("HeadObject", wanted.shown):
        head = client.head_object(Bucket=bucket, Key=key)
    return RemoteFile(wanted.shown, head["ETag"], head["ContentLength"])


def _attempt(client: Any, wanted: Wanted, part: PartFile, meter: Meter, patience: Patience) -> None:
    remote = _head(client, wanted)
    total = remote.total or 0
    check_size(wanted, total)
    if not total:
        raise BadArchive(f"{wanted.shown} is empty", expected=f"the archive {wanted.name}")
    if part.remote != remote:
        if part.size and part.remote and part.remote.url == remote.url:
            raise StartOver(f"its ETag went from {part.remote.validator} to {remote.validator}")
        part.start(remote)
    check_space(part.path.parent, total - part.size)
    meter.restart(part.size)
    if part.size == total:
        return
    bucket, key = parse_s3_uri(wanted.url)
    span = {"Range": f"bytes={part.size}-", "IfMatch": remote.validator}
    try:
        with typed_aws_errors("GetObject", wanted.shown, passing=_REPLACED):
            body = client.get_object(Bucket=bucket, Key=key, **span)["Body"]
            for block in body.iter_chunks(_BLOCK_BYTES):
                if not part.size:
                    check_magic(wanted, block)
                part.write(block)
                meter.add(len(block), len(block))
                patience.progressed(part.size)
    except ClientError as error:
        raise StartOver(f"its ETag is no longer {remote.validator}") from error
