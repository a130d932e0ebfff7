"""HTTP download that resumes, restarts when it must, and never mixes two files.

Source: RFC 9110 (Range, If-Range, Content-Range, Retry-After, validators).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain

import httpx

from imagenet_etl.download.logs import keep_secrets_out_of_logs
from imagenet_etl.download.part import PartFile, RemoteFile
from imagenet_etl.download.retry import Patience, TransientAnswer, retry_after_s
from imagenet_etl.download.urls import mask_url, redirect_target, same_origin
from imagenet_etl.errors import (
    AuthenticationRequired,
    ChecksumMismatch,
    ConfigError,
    RedirectRefused,
    SourceChanged,
    SourceError,
    SourceNotFound,
)
from imagenet_etl.files import check_space
from imagenet_etl.progress import Meter

log = logging.getLogger(__name__)
_HEAD_BYTES = 512
_MAX_REDIRECTS = 5
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MAGIC = {"zip": ((0, b"PK"),), "tar": ((257, b"ustar"),)}


@dataclass(frozen=True)
class Wanted:
    """What is to be downloaded.

    Attributes:
        name: The archive's name.
        url: Where it is.
        kind: ``zip`` or ``tar``, to recognise its first bytes.
        size: Its published size in bytes, None when any will do.
        headers: Extra request headers; never sent to another origin.
    """

    name: str
    url: str = field(repr=False)
    kind: str
    size: int | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """The URL as it may appear in a log or a receipt."""
        return mask_url(self.url)


class _StartOver(Exception):
    """The answer cannot continue the partial file."""


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
    restarts = 0
    keep_secrets_out_of_logs()
    patience.begin()
    timeout = httpx.Timeout(timeout_s, connect=min(30.0, timeout_s))
    hooks = {"response": [_refuse_bad_redirect]}
    with httpx.Client(timeout=timeout, event_hooks=hooks) as client:
        while True:
            try:
                _attempt(client, wanted, part, meter, patience)
                return
            except _StartOver as reason:
                part.discard()
                patience.begin()
                restarts += 1
                if restarts > 1:
                    raise SourceChanged(
                        f"{wanted.shown} changes while it is downloaded",
                        found=str(reason),
                        remedy="Run again when the server serves one file",
                    ) from None
                log.warning("%s: %s; starting over", wanted.shown, reason)
            except TransientAnswer as failure:
                patience.wait(wanted.shown, failure)
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL,
                    UnicodeError):  # fmt: skip
                # Their text quotes what cannot be sent, which may be the secret itself.
                raise ConfigError(
                    f"{wanted.shown}: this URL or a header for it cannot be sent",
                    remedy="Look for line breaks and for characters that are not ASCII",
                ) from None
            except httpx.TransportError as error:
                text = str(error) or type(error).__name__
                patience.wait(wanted.shown, TransientAnswer(text, answered=False))


def _attempt(
    client: httpx.Client, wanted: Wanted, part: PartFile, meter: Meter, patience: Patience
) -> None:
    with _request(client, wanted, _headers(wanted, part)) as response:
        _check_status(wanted, response)
        blocks = _blocks(response)
        if response.status_code == 416:
            if not _is_complete(response, part):
                raise _StartOver("the server refuses the range that is missing")
            blocks = iter(())
        elif response.status_code == 206:
            _check_range(response, part)
        else:
            head = next(blocks, b"")
            _check_first_answer(wanted, response, part, head)
            part.start(_remote(wanted, response))
            blocks = chain([head], blocks)
        assert part.remote is not None
        if part.remote.total is not None:
            check_space(part.path.parent, part.remote.total - part.size)
        meter.restart(part.size)
        limit = wanted.size if part.remote.total is None else part.remote.total
        for block in blocks:
            if limit is not None and part.size + len(block) > limit:
                raise _StartOver(f"it sends more than {limit:,} bytes")
            part.write(block)
            meter.add(len(block), len(block))
            patience.progressed(part.size)
    if part.remote.total is not None and part.size != part.remote.total:
        raise TransientAnswer(f"connection ended at byte {part.size:,} of {part.remote.total:,}")


def _headers(wanted: Wanted, part: PartFile) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"} | wanted.headers
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
        if len(head) >= _HEAD_BYTES:
            yield block
        else:
            head += block
            if len(head) >= _HEAD_BYTES:
                yield head
    if 0 < len(head) < _HEAD_BYTES:
        yield head


def _refuse_bad_redirect(response: httpx.Response) -> None:
    """Look at a redirect before httpx does, which quotes the Location in its own errors."""
    if response.has_redirect_location:
        redirect_target(response.request.url, response.headers["location"])


@contextmanager
def _request(
    client: httpx.Client, wanted: Wanted, headers: dict[str, str]
) -> Iterator[httpx.Response]:
    url = httpx.URL(wanted.url)
    for _ in range(_MAX_REDIRECTS + 1):
        with client.stream("GET", url, headers=headers) as response:
            if not response.has_redirect_location:
                yield response
                return
            target = redirect_target(url, response.headers["location"])
        if same_origin(url, target):
            target = target.copy_with(userinfo=target.userinfo or url.userinfo)
        else:
            allowed = set(headers) - set(wanted.headers)
            headers = {k: v for k, v in headers.items() if k in allowed}
            client.cookies.clear()
            target = target.copy_with(userinfo=b"")
        url = target
    raise RedirectRefused(f"{wanted.shown} redirects more than {_MAX_REDIRECTS} times")


def _check_status(wanted: Wanted, response: httpx.Response) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    found = f"HTTP {status} {response.reason_phrase}"
    if status in _TRANSIENT:
        raise TransientAnswer(found, retry_after_s(response.headers.get("retry-after", "")))
    if status in (401, 403, 407):
        raise _login_needed(wanted, found)
    if status in (404, 410):
        raise SourceNotFound(
            f"{wanted.shown} does not exist", found=found, remedy="Check the URL or give a mirror"
        )
    raise SourceError(f"{wanted.shown}", expected="HTTP 200 or 206", found=found)


def _login_needed(wanted: Wanted, found: str) -> AuthenticationRequired:
    return AuthenticationRequired(
        f"{wanted.shown} wants a login",
        expected=f"the archive {wanted.name}",
        found=found,
        remedy="Log in and download it by hand, then pass it with --source",
    )


def _remote(wanted: Wanted, response: httpx.Response) -> RemoteFile:
    etag = response.headers.get("etag", "")
    strong = "" if etag.startswith("W/") else etag
    length = response.headers.get("content-length", "")
    return RemoteFile(
        url=wanted.shown,
        validator=strong or response.headers.get("last-modified", ""),
        total=int(length) if length.isdigit() else None,
    )


def _is_complete(response: httpx.Response, part: PartFile) -> bool:
    """Return whether a 416 says that nothing is missing.

    With If-Range it is sent only while the validator still matches (RFC 9110, section 13.1.5).
    """
    found = response.headers.get("content-range", "")
    return part.size > 0 and found == f"bytes */{part.size}"


def _check_range(response: httpx.Response, part: PartFile) -> None:
    known, found = part.remote, response.headers.get("content-range", "")
    match = _RANGE.fullmatch(found)
    if known is None or not match or int(match[1]) != part.size:
        raise _StartOver(f"Content-Range {found!r} does not continue at byte {part.size}")
    total = int(match[3])
    if known.total not in (None, total):
        raise _StartOver(f"its size went from {known.total:,} to {total:,} bytes")
    header = "etag" if known.validator.startswith('"') else "last-modified"
    validator = response.headers.get(header, known.validator)
    if validator != known.validator:
        raise _StartOver(f"its {header} went from {known.validator} to {validator}")
    part.remote = replace(known, total=total)


def _check_first_answer(
    wanted: Wanted, response: httpx.Response, part: PartFile, head: bytes
) -> None:
    """Check a whole file's first block before anything that was fetched is given up for it."""
    _check_content(wanted, response, head)
    remote, known = _remote(wanted, response), part.remote
    if part.size and known is not None and known != remote:
        raise _StartOver(
            f"it went from {known.validator}, {known.total} bytes, "
            f"to {remote.validator}, {remote.total} bytes"
        )
    if wanted.size is not None and remote.total not in (None, wanted.size):
        raise ChecksumMismatch(
            f"{wanted.shown} has another size than the published {wanted.name}",
            expected=f"{wanted.size:,} bytes",
            found=f"{remote.total:,} bytes",
            remedy="Check the URL; for a sample, run with --expect any",
        )


def _check_content(wanted: Wanted, response: httpx.Response, block: bytes) -> None:
    """Recognise a page in the archive's place by its type or by its first bytes."""
    html = "html" in response.headers.get("content-type", "").lower()
    start = block[:_HEAD_BYTES].lstrip().lower()
    if html or start.startswith((b"<!doctype html", b"<html")):
        raise _login_needed(wanted, "an HTML page")
    if not block:
        raise TransientAnswer("an empty answer")
    for offset, magic in _MAGIC[wanted.kind]:
        if len(block) >= offset + len(magic) and block[offset : offset + len(magic)] != magic:
            raise SourceError(
                f"{wanted.shown} is no {wanted.kind} archive",
                found=f"it starts with {block[:16]!r}",
                remedy="Check the URL",
            )
