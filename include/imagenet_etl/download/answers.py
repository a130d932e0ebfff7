"""What a server's answer says, and whether it is the archive at all.

Source: RFC 9110 (status codes, Content-Range, validators).
"""

from __future__ import annotations

import re

import httpx

from imagenet_etl.download.journal import RemoteFile
from imagenet_etl.download.login import BY_HAND
from imagenet_etl.download.redirects import same_origin
from imagenet_etl.download.retry import TransientAnswer, retry_after_s
from imagenet_etl.download.source import Span, StartOver
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import (
    AuthenticationRequired,
    ChecksumMismatch,
    SourceError,
    SourceNotFound,
)

HEAD_BYTES = 512
"""How much of an archive tells what it is."""

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MAGIC = {"zip": ((0, b"PK"),), "tar": ((257, b"ustar"),), "tar.gz": ((0, b"\x1f\x8b"),)}


def check_status(wanted: Wanted, response: httpx.Response) -> None:
    """Accept a status that comes with the archive, or with a part of it.

    Raises:
        TransientAnswer: Asking again may help.
        AuthenticationRequired, SourceNotFound, SourceError: It will not.
    """
    status = response.status_code
    if status in (200, 206, 416):
        return
    found = f"HTTP {status} {response.reason_phrase}"
    if status in _TRANSIENT:
        raise TransientAnswer(found, retry_after_s(response.headers.get("retry-after", "")))
    if status in (401, 403, 407):
        raise _login_needed(wanted, response, found)
    if status in (404, 410):
        raise SourceNotFound(
            f"{wanted.shown} does not exist", found=found, remedy="Check the URL or give a mirror"
        )
    raise SourceError(f"{wanted.shown}", expected="HTTP 200 or 206", found=found)


def _login_needed(wanted: Wanted, response: httpx.Response, found: str) -> AuthenticationRequired:
    remedy = wanted.remedy
    asked, answered = httpx.URL(wanted.url), response.url
    if (wanted.headers or wanted.query) and not same_origin(asked, answered):
        remedy = (
            f"The request was redirected to {answered.host}, and the login is sent to "
            f"{asked.host} only: give the archive's final URL, {BY_HAND}"
        )
    return AuthenticationRequired(
        f"{wanted.shown} wants a login",
        expected=f"the archive {wanted.name}",
        found=found,
        remedy=remedy,
    )


def remote_file(wanted: Wanted, response: httpx.Response) -> RemoteFile:
    """Return what an answer with the whole file tells about it."""
    etag = response.headers.get("etag", "")
    strong = "" if etag.startswith("W/") else etag
    length = response.headers.get("content-length", "")
    return RemoteFile(
        url=wanted.shown,
        validator=strong or response.headers.get("last-modified", ""),
        total=int(length) if length.isdigit() else None,
    )


def is_complete(response: httpx.Response, at: int) -> bool:
    """Return whether a 416 says that nothing is missing behind the first ``at`` bytes.

    With If-Range it is sent only while the validator still matches (RFC 9110, section 13.1.5).
    """
    return at > 0 and response.headers.get("content-range", "") == f"bytes */{at}"


def check_range(response: httpx.Response, known: RemoteFile, span: Span) -> tuple[int, int]:
    """Require the bytes that were asked for, of the file that was begun; fewer will do.

    Returns:
        The byte behind the last one that is announced, and the file's length.

    Raises:
        StartOver: They are others.
    """
    found = response.headers.get("content-range", "")
    match = _RANGE.fullmatch(found)
    if not match or int(match[1]) != span.at:
        raise StartOver(f"Content-Range {found!r} does not continue at byte {span.at}")
    end, total = int(match[2]) + 1, int(match[3])
    if known.total not in (None, total):
        raise StartOver(f"its size went from {known.total:,} to {total:,} bytes")
    if not span.at < end <= total:
        raise StartOver(f"Content-Range {found!r} contradicts itself")
    header = "etag" if known.validator.startswith('"') else "last-modified"
    validator = response.headers.get(header, known.validator)
    if validator != known.validator:
        raise StartOver(f"its {header} went from {known.validator} to {validator}")
    return end, total


def check_first_answer(
    wanted: Wanted, response: httpx.Response, known: RemoteFile | None, head: bytes
) -> RemoteFile:
    """Check a whole file's first block before anything that was fetched is given up for it.

    Args:
        wanted: What is fetched.
        response: The answer with the whole file.
        known: The file that something was fetched of before, if any was.
        head: The first block.

    Returns:
        What the file is.

    Raises:
        StartOver: It is another file than before.
    """
    _check_content(wanted, response, head)
    remote = remote_file(wanted, response)
    if known is not None and not _are_same(known, remote):
        raise StartOver(
            f"it went from {known.validator}, {known.total} bytes, "
            f"to {remote.validator}, {remote.total} bytes"
        )
    check_size(wanted, remote.total)
    return remote


def _are_same(known: RemoteFile, now: RemoteFile) -> bool:
    """Return whether nothing speaks against it that both are one file; a length may be missing."""
    totals = {known.total, now.total} - {None}
    return known.validator == now.validator and len(totals) <= 1


def check_size(wanted: Wanted, total: int | None) -> None:
    """Compare the length that a source tells with the published one.

    Raises:
        ChecksumMismatch: They differ.
    """
    if wanted.size is not None and total not in (None, wanted.size):
        raise ChecksumMismatch(
            f"{wanted.shown} has another size than the published {wanted.name}",
            expected=f"{wanted.size:,} bytes",
            found=f"{total:,} bytes",
            remedy="Check the URL; for a sample, run with --expect any",
        )


def check_type(wanted: Wanted, response: httpx.Response) -> None:
    """Recognise a page by its type alone.

    Raises:
        AuthenticationRequired: It is one: sites send their login page with status 200.
    """
    if "html" in response.headers.get("content-type", "").lower():
        raise _login_needed(wanted, response, "an HTML page")


def _check_content(wanted: Wanted, response: httpx.Response, block: bytes) -> None:
    """Recognise a page in the archive's place by its type or by its first bytes."""
    check_type(wanted, response)
    start = block[:HEAD_BYTES].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise _login_needed(wanted, response, "an HTML page")
    if not block:
        raise TransientAnswer("an empty answer")
    check_magic(wanted, block)


def check_magic(wanted: Wanted, block: bytes) -> None:
    """Look at an archive's first bytes before the rest is fetched.

    Raises:
        SourceError: They are those of something else.
    """
    for offset, magic in _MAGIC.get(wanted.kind, ()):
        if len(block) >= offset + len(magic) and block[offset : offset + len(magic)] != magic:
            raise SourceError(
                f"{wanted.shown} is no {wanted.kind} archive",
                found=f"it starts with {block[:16]!r}",
                remedy="Check the URL",
            )
