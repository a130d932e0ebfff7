"""HTTP download that resumes, restarts when it must, and never mixes two files.

Source: RFC 9110 (Range, If-Range, Content-Range, Retry-After, validators).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import httpx

from imagenet_etl.download.answers import (
    HEAD_BYTES,
    check_first_answer,
    check_range,
    check_status,
    check_type,
    is_complete,
    remote_file,
)
from imagenet_etl.download.exchange import AS_IT_IS, answer_to, new_client
from imagenet_etl.download.journal import RemoteFile
from imagenet_etl.download.retry import TransientAnswer
from imagenet_etl.download.source import Answer, RangeRefused, Span, StartOver
from imagenet_etl.download.transfer import Job, Transfer
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import SourceUnavailable
from imagenet_etl.progress import Meter

__all__ = ["Wanted", "fetch", "look"]


def fetch(job: Job, meter: Meter, timeout_s: float = 60.0) -> None:
    """Complete the partial file from the URL.

    Raises:
        AuthenticationRequired, SourceNotFound, SourceChanged, RedirectRefused, ChecksumMismatch,
        SourceError: The answer cannot be used.
        ConfigError: The URL or a header cannot be sent.
        SourceUnavailable: Nothing new arrived within the patience's budget, or in a slice.
        StillPending: The slice is over.
    """
    with new_client(timeout_s) as client:
        Transfer(_HttpSource(client, job, timeout_s), job, meter).complete()


def look(wanted: Wanted, timeout_s: float = 10.0) -> RemoteFile:
    """Ask once, by HEAD, what the URL leads to now.

    Raises:
        SourceUnavailable: There is no answer, or not now.
        AuthenticationRequired, SourceNotFound, RedirectRefused, SourceError, ConfigError: It does
            not lead to an archive.
    """
    try:
        with (
            new_client(timeout_s) as client,
            answer_to(client, "HEAD", wanted, AS_IT_IS | wanted.headers) as response,
        ):
            check_status(wanted, response)
            check_type(wanted, response)
            return remote_file(wanted, response)
    except (TransientAnswer, httpx.TransportError) as failure:
        raise SourceUnavailable(
            f"{wanted.shown} is not available", found=str(failure) or type(failure).__name__
        ) from None


class _HttpSource:
    """A file behind a URL."""

    def __init__(self, client: httpx.Client, job: Job, timeout_s: float) -> None:
        self._client = client
        self._wanted = job.wanted
        self._part = job.part
        self._timeout_s = timeout_s

    def begin(self) -> None:
        """Give up what cannot be gone on with, for want of a validator."""
        known = self._part.remote
        if not (known is not None and known.validator and self._part.size):
            self._part.empty()

    @contextmanager
    def ask(self, span: Span | None) -> Iterator[Answer]:
        """Ask by GET, for a range by If-Range as well."""
        headers = AS_IT_IS | self._wanted.headers
        known = self._part.remote if span else None
        if span and known:
            headers |= {"Range": span.header, "If-Range": known.validator}
        try:
            with answer_to(self._client, "GET", self._wanted, headers) as response:
                check_status(self._wanted, response)
                yield self._answer(response, known, span)
        except httpx.TransportError as error:
            text = str(error) or type(error).__name__
            raise TransientAnswer(text, answered=False) from None

    def _answer(
        self, response: httpx.Response, known: RemoteFile | None, span: Span | None
    ) -> Answer:
        if response.status_code == 416:
            if span is None or not is_complete(response, span.at):
                raise RangeRefused("the server refuses the range that is missing")
            return Answer(iter(()), span.at, total=span.at)
        if response.status_code == 206:
            if span is None or known is None:
                raise StartOver("it sends a range that was not asked for")
            end, total = check_range(response, known, span)
            return Answer(response.iter_raw(), end, total=total)
        blocks = _blocks(response, self._timeout_s)
        head = next(blocks, b"")
        remote = check_first_answer(self._wanted, response, known, head)
        limit = self._wanted.size if remote.total is None else remote.total
        return Answer(chain([head], blocks), limit, whole=remote)


def _blocks(response: httpx.Response, timeout_s: float) -> Iterator[bytes]:
    """Yield the body as it arrives; the first block is long enough to know an archive by.

    Small blocks, since what is held back is lost when the connection breaks.

    Raises:
        TransientAnswer: The first block took longer than the timeout. Single bytes, each in time,
            must not hold up a slice, which looks at its clock block by block.
    """
    head, deadline = b"", time.monotonic() + timeout_s
    for block in response.iter_raw():
        if len(head) >= HEAD_BYTES:
            yield block
        else:
            head += block
            if len(head) >= HEAD_BYTES:
                yield head
            elif time.monotonic() >= deadline:
                raise TransientAnswer(f"{len(head)} bytes in {timeout_s:g} s")
    if 0 < len(head) < HEAD_BYTES:
        yield head
