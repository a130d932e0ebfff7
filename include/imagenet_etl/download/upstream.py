"""Whether the server still has what was fetched from it."""

from __future__ import annotations

import logging

from imagenet_etl.build import Build
from imagenet_etl.download.asked import Asked, wanted_from
from imagenet_etl.download.notes import LENGTH_ALONE, Note
from imagenet_etl.errors import EtlError

log = logging.getLogger(__name__)
_TIMEOUT_S = 10.0


def has_changed(build: Build, asked: Asked, note: Note) -> bool:
    """Ask upstream, once, whether it has another archive now.

    Where it does not tell, the verified archive is kept, and a warning says why. What only the
    backup has has no upstream: an archive that is here is never replaced by another from there.
    """
    if asked.expected.is_proof or asked.only_backup:
        return False
    from imagenet_etl.download import http, s3  # noqa: PLC0415 - slow to import

    try:
        wanted = wanted_from(build, asked)
        now = s3.look(build, wanted, _TIMEOUT_S) if wanted.is_s3 else http.look(wanted, _TIMEOUT_S)
    except EtlError as error:
        _kept(note, str(error))
        return False
    # Some servers answer a HEAD with a length of 0, which no archive has.
    if note.validator == LENGTH_ALONE:
        if now.total in (None, 0, note.archive.size):
            return False
    elif not _are_comparable(note.validator, now.validator) or not now.total:
        _kept(note, "its server tells no validator and length to compare")
        return False
    if (now.validator, now.total) == (note.validator, note.archive.size):
        return False
    log.info("download %s: %s has changed upstream", note.archive.name, asked.shown)
    return True


def _are_comparable(one: str, other: str) -> bool:
    """Return whether both are ETags or both are dates."""
    return bool(one and other) and one.startswith('"') == other.startswith('"')


def _kept(note: Note, why: str) -> None:
    log.warning(
        "download %s: whether %s has changed cannot be told, so what was verified stays: %s",
        note.archive.name,
        note.source,
        why,
    )
