"""HTTP download that resumes, restarts when it must, and never mixes two files.

Source: RFC 9110 (Range, If-Range, Content-Range, Retry-After, validators).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain

import httpx

from imagenet_etl.download.answers import (
    HEAD_BYTES,
    StartOver,
    check_first_answer,
    check_range,
    check_status,
    check_type,
    is_complete,
    remote_file,
    until_complete,
)
from imagenet_etl.download.exchange import AS_IT_IS, answer_to, new_client
from imagenet_etl.download.part import PartFile, RemoteFile
from imagenet_etl.download.retry import Patience, TransientAnswer
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import SourceUnavailable
from imagenet_etl.files import check_space
from imagenet_etl.progress import Meter

__all__ = ["Wanted", "fetch", "look"]

log = logging.getLogger(__name__)


def fetch(
    wanted: Wanted, part: PartFile, meter: Meter, patience: Patience, timeout_s: float = 60.0
) -> None:
    """Complete ``part`` from the URL.

    Raises:
        AuthenticationRequired, SourceNotFound, SourceChanged, RedirectRefused, ChecksumMismatch,
        SourceError: The answer cannot be used.
        ConfigError: The URL or a header cannot be sent.
        SourceUnavailable: Nothing new arrived within the patience's budget.
    """
    with new_client(timeout_s) as client:

        def attempt() -> None:
            try:
                _attempt(client, wanted, part, meter, patience)
            except httpx.TransportError as error:
                text = str(error) or type(error).__name__
                raise TransientAnswer(text, answered=False) from None

        until_complete(attempt, wanted, part, patience)


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


def _attempt(
    client: httpx.Client, wanted: Wanted, part: PartFile, meter: Meter, patience: Patience
) -> None:
    with answer_to(client, "GET", wanted, _headers(wanted, part)) as response:
        check_status(wanted, response)
        blocks = _blocks(response)
        if response.status_code == 416:
            if not is_complete(response, part):
                raise StartOver("the server refuses the range that is missing")
            blocks = iter(())
        elif response.status_code == 206:
            check_range(response, part)
        else:
            head = next(blocks, b"")
            check_first_answer(wanted, response, part, head)
            part.start(remote_file(wanted, response))
            blocks = chain([head], blocks)
        assert part.remote is not None
        if part.remote.total is not None:
            check_space(part.path.parent, part.remote.total - part.size)
        meter.restart(part.size)
        limit = wanted.size if part.remote.total is None else part.remote.total
        for block in blocks:
            if limit is not None and part.size + len(block) > limit:
                raise StartOver(f"it sends more than {limit:,} bytes")
            part.write(block)
            meter.add(len(block), len(block))
            patience.progressed(part.size)
    if part.remote.total is not None and part.size != part.remote.total:
        raise TransientAnswer(f"connection ended at byte {part.size:,} of {part.remote.total:,}")


def _headers(wanted: Wanted, part: PartFile) -> dict[str, str]:
    headers = AS_IT_IS | wanted.headers
    known = part.remote
    if part.size and known and known.validator and known.url == wanted.shown:
        return headers | {"Range": f"bytes={part.size}-", "If-Range": known.validator}
    if part.size:
        part.discard()
    return headers


def _blocks(response: httpx.Response) -> Iterator[bytes]:
    """Yield the body as it arrives; the first block is long enough to know an archive by.

    Small blocks, since what is held back is lost when the connection breaks.
    """
    head = b""
    for block in response.iter_raw():
        if len(head) >= HEAD_BYTES:
            yield block
        else:
            head += block
            if len(head) >= HEAD_BYTES:
                yield head
    if 0 < len(head) < HEAD_BYTES:
        yield head
