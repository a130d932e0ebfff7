"""Let fetched archives go once they were used; what they were stays noted."""

from __future__ import annotations

import logging
from dataclasses import replace

from imagenet_etl import leases
from imagenet_etl.archives.kinds import GZIP
from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.download.alone import lock_key
from imagenet_etl.download.asked import Asked, asked_for
from imagenet_etl.download.fetched import part_of
from imagenet_etl.download.notes import Note, note_key_of, read_note, write_note
from imagenet_etl.download.part import remove_leftovers
from imagenet_etl.download.unpacked import leftovers, note_of_tar, tar_alone
from imagenet_etl.errors import AlreadyRunning
from imagenet_etl.storage import Storage

log = logging.getLogger(__name__)


def release_archive(build: Build, facts: ArchiveFacts, source: str | None = None) -> int:
    """Delete a fetched archive, and the tar that it was unpacked to; return the freed bytes.

    Their notes stay, marked as released. What is used in place, or was put among the archives by
    hand, is nobody's to delete, but a tar that was made from it is. While another run holds the
    archive nothing happens.

    Raises:
        ConfigError: There is no source that can be used.
        LeaseLost: Another run took the archive over in the meantime.
    """
    asked = asked_for(build, facts, source)
    if asked.in_bucket:
        return 0
    if asked.path is not None and _tar_of(build, asked) is None:
        return 0
    try:
        lease = leases.acquire(build.storage, lock_key(build, facts.name), build.owner)
    except AlreadyRunning as error:
        log.info("%s is kept: another run is at it, %s", facts.name, error.found)
        return 0
    try:
        with leases.kept_alive(build.storage, lease):
            # The tar goes first: what tells whose it is must be the last to go.
            freed = _release_tar(build, asked, lease)
            return freed + (_release(build, asked, lease) if asked.path is None else 0)
    finally:
        lease.release()


def is_released(storage: Storage, ref: ArchiveRef, sha256: str) -> bool:
    """Return whether this archive was verified and then let go.

    Its time does not matter: other settings may have fetched the same bytes again meanwhile.
    """
    if ref.location.startswith(("/", "s3://")) or storage.stat(ref.location) is not None:
        return False
    note = read_note(storage, note_key_of(ref.location))
    if note is None or not note.released:
        return False
    gone = note.archive
    return (gone.name, gone.size, note.sha256) == (ref.name, ref.size, sha256)


def _release(build: Build, asked: Asked, lease: leases.Lease) -> int:
    storage = build.storage
    note = read_note(storage, asked.note_key)
    if note is None or not note.archive.is_unchanged(storage):
        return 0
    if not asked.is_met_by(note):
        log.info("%s is kept: it is not what this run asks for", asked.key)
        return 0
    if not note.is_ours:
        log.info("%s is kept: it was found there, not fetched", asked.key)
        return 0
    freed = _delete(build, asked.note_key, note, lease)
    if (path := storage.local_path(asked.key)) is not None:
        remove_leftovers(part_of(path))
    return freed


def _release_tar(build: Build, asked: Asked, lease: leases.Lease) -> int:
    note = _tar_of(build, asked)
    if note is None or not note.archive.is_unchanged(build.storage) or not note.is_ours:
        return 0
    key = note.archive.location
    freed = _delete(build, note_key_of(key), note, lease)
    # A copy that kept the tar's time may come back: without that time it is not taken for ours.
    gone = replace(note, released=True, archive=replace(note.archive, tag=""))
    write_note(build.storage, note_key_of(key), gone)
    if (path := build.storage.local_path(key)) is not None:
        for left in leftovers(path):
            left.unlink(missing_ok=True)
    return freed


def _tar_of(build: Build, asked: Asked) -> Note | None:
    """Return the note of the tar that was made from the archive that this run asks for."""
    packed = read_note(build.storage, asked.note_key)
    if packed is None:
        return tar_alone(build, asked)
    if packed.archive.kind != GZIP or not asked.is_met_by(packed):
        return None
    return note_of_tar(build, asked, packed)


def _delete(build: Build, note_key: str, note: Note, lease: leases.Lease) -> int:
    lease.check()
    # Marked first: whoever finds the file gone must learn from the note that this was meant.
    write_note(build.storage, note_key, replace(note, released=True))
    build.storage.delete(note.archive.location)
    key, size = note.archive.location, note.archive.size
    log.info("%s was let go: %s bytes are free again", key, f"{size:,}")
    return size
