"""Objects in a bucket as archives: ranged GET, pinned to the ETag of the first look.

Source: Amazon S3 API Reference, GetObject (Range, If-Match) and HeadObject.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import Any

from botocore.exceptions import ClientError, FlexibleChecksumError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_codes import TAKEN
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.build import Build
from imagenet_etl.download.answers import check_magic, check_size
from imagenet_etl.download.journal import RemoteFile
from imagenet_etl.download.partial import Partial
from imagenet_etl.download.retry import TransientAnswer
from imagenet_etl.download.source import Answer, Span, StartOver
from imagenet_etl.download.transfer import Job, Transfer
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import BadArchive, CloudUnavailable, EtlError
from imagenet_etl.progress import Meter

_BLOCK_BYTES = 1 << 20


def fetch(build: Build, job: Job, meter: Meter) -> None:
    """Complete the partial file from the object.

    Raises:
        CloudNotFound, AccessDenied, CloudError: It cannot be had.
        ChecksumMismatch, SourceError: It is not the archive.
        SourceChanged: It was replaced twice while it was downloaded.
        SourceUnavailable: Nothing new arrived within the patience's budget, or in a slice.
        StillPending: The slice is over.
    """
    source = _S3Source(build.client("s3"), job.wanted, job.part)
    Transfer(source, job, meter).complete()


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


@contextmanager
def _damage_is_transient() -> Iterator[None]:
    """Let a body that S3's own checksum denies be asked for again.

    What of it was written is caught, if it is wrong, by the digest of the whole.
    """
    try:
        yield
    except FlexibleChecksumError as error:
        raise TransientAnswer(str(error)) from None


class _S3Source:
    """An object in a bucket."""

    def __init__(self, client: Any, wanted: Wanted, part: Partial) -> None:
        self._client = client
        self._wanted = wanted
        self._part = part

    def begin(self) -> None:
        """Look what is there, and begin with it unless it is what was begun before."""
        try:
            remote = _head(self._client, self._wanted)
        except CloudUnavailable as error:
            raise TransientAnswer(str(error), answered=False) from None
        check_size(self._wanted, remote.total)
        if not remote.total:
            expected = f"the archive {self._wanted.name}"
            raise BadArchive(f"{self._wanted.shown} is empty", expected=expected)
        known = self._part.remote
        if known == remote:
            return
        if self._part.size and known and known.url == remote.url:
            raise StartOver(f"its ETag went from {known.validator} to {remote.validator}")
        self._part.start(remote)

    @contextmanager
    def ask(self, span: Span | None) -> Iterator[Answer]:
        """Ask for a range of the version that was begun."""
        remote = self._part.remote
        assert remote is not None
        span = span or Span(0, None)
        bucket, key = parse_s3_uri(self._wanted.url)
        pinned = {"Range": span.header, "IfMatch": remote.validator}
        try:
            with typed_aws_errors("GetObject", self._wanted.shown, passing=TAKEN):
                body = self._client.get_object(Bucket=bucket, Key=key, **pinned)["Body"]
                with closing(body), _damage_is_transient():
                    yield Answer(self._blocks(body, span), span.end or remote.total)
        except CloudUnavailable as error:
            raise TransientAnswer(str(error), answered=False) from None
        except ClientError as error:
            raise StartOver(f"its ETag is no longer {remote.validator}") from error

    def _blocks(self, body: Any, span: Span) -> Iterator[bytes]:
        for number, block in enumerate(body.iter_chunks(_BLOCK_BYTES)):
            if not (number or span.at):
                check_magic(self._wanted, block)
            yield block
