"""Let fetched archives go once they were used; what they were stays noted."""

from __future__ import annotations

import logging
from dataclasses import replace

from imagenet_etl import leases
from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.download.asked import Asked, asked_for
from imagenet_etl.download.fetched import lock_key, part_of
from imagenet_etl.download.notes import note_key_of, read_note, write_note
from imagenet_etl.download.part import remove_leftovers
from imagenet_etl.errors import AlreadyRunning
from imagenet_etl.storage import Storage

log = logging.getLogger(__name__)


def release_archive(build: Build, facts: ArchiveFacts, source: str | None = None) -> int:
    """Delete a fetched archive and return how many bytes that freed.

    Its note stays, marked as released. What is used in place, or was put among the archives by
    hand, is nobody's to delete, and while another run holds the archive nothing happens.

    Raises:
        ConfigError: There is no source that can be used.
        LeaseLost: Another run took the archive over in the meantime.
    """
    asked = asked_for(build, facts, source)
    if asked.path is not None:
        return 0
    try:
        lease = leases.acquire(build.storage, lock_key(build, facts.name), build.owner)
    except AlreadyRunning as error:
        log.info("%s is kept: another run is at it, %s", facts.name, error.found)
        return 0
    try:
        with leases.kept_alive(build.storage, lease):
            return _release(build, asked, lease)
    finally:
        lease.release()


def is_released(storage: Storage, ref: ArchiveRef, sha256: str) -> bool:
    """Return whether this archive was verified and then let go.

    Its time does not matter: other settings may have fetched the same bytes again meanwhile.
    """
    if ref.location.startswith("/") or storage.stat(ref.location) is not None:
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
    lease.check()
    # Marked first: whoever finds the file gone must learn from the note that this was meant.
    write_note(storage, asked.note_key, replace(note, released=True))
    storage.delete(asked.key)
    if (path := storage.local_path(asked.key)) is not None:
        remove_leftovers(part_of(path))
    log.info("%s was let go: %s bytes are free again", asked.key, f"{note.archive.size:,}")
    return note.archive.size
