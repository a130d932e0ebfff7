"""Archives from elsewhere: fetched to a partial file, checked, and only then given their name."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from imagenet_etl.build import Build
from imagenet_etl.download.alone import alone_at, remove_replaced
from imagenet_etl.download.arrived import Arrived, fetch_verified
from imagenet_etl.download.asked import Asked, wanted_from
from imagenet_etl.download.backup import else_publisher, find_in_backup
from imagenet_etl.download.in_place import looked_at, verified
from imagenet_etl.download.leftovers import remove_leftovers
from imagenet_etl.download.notes import (
    LENGTH_ALONE,
    Expected,
    Note,
    read_note,
    write_note,
)
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.partial import Partial
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.slices import Pace, Slice
from imagenet_etl.download.transfer import Job
from imagenet_etl.download.upstream import has_changed
from imagenet_etl.errors import (
    CloudNotFound,
    ConfigError,
)
from imagenet_etl.leases import Lease

log = logging.getLogger(__name__)


def fetched(build: Build, asked: Asked, patience: Patience) -> tuple[Note, int]:
    """Return the note of an archive and how many bytes were fetched for it, in all slices.

    What is here and verified comes first, then the backup, then the publisher.

    Raises:
        SourceError, CloudError: It cannot be had.
        SourceUnavailable, SourceBusy: Not now.
        StillPending: The time of this slice is used up; what has arrived is kept.
    """
    pace = Pace(build.settings.connections, Slice(build.slice_s))
    path, staged = _places(build, asked)
    with alone_at(build, asked.facts.name) as (lease, heartbeat):
        note = _finished(build, asked, lease, staged)
        old = None
        if note is not None and asked.is_met_by(note) and note.archive.is_unchanged(build.storage):
            if not has_changed(build, asked, note):
                return kept(build, asked, note), 0
            old = note
        elif build.storage.stat(asked.key) is not None:
            note = _adopted(build, asked, note, path)
            remove_leftovers(staged)
            return note, 0
        if staged.exists() and path.exists() and staged.samefile(path):
            staged.unlink()  # a crash left the published archive under both of its names
        with PartFile(staged, heartbeat.check) as part:
            arrived = None
            if old is None:
                arrived = _from_backup(build, asked, part, patience, pace)
            if arrived is None:
                job = Job(wanted_from(build, asked), part, patience, pace)
                arrived = fetch_verified(build, job, asked.expected)
            lease.check()
            return _published(build, asked, part, arrived, old, lease), arrived.count


def _from_backup(
    build: Build, asked: Asked, part: PartFile, patience: Patience, pace: Pace
) -> Arrived | None:
    """Fetch an archive from the backup; None for what has to be asked of its publisher.

    What the publisher has sent the greater part of comes from there to its end: a bucket that
    answers only now and then would else have it begun anew each time.

    Raises:
        EtlError: It cannot be had from there, and nobody else has it.
        SourceUnavailable: Not now, and what has arrived is to be gone on with.
    """
    if is_mostly_there(asked, part):
        return None
    with else_publisher(build, asked, part):
        found = find_in_backup(build, asked)
        if found is not None and found.packed and asked.only_backup:
            raise CloudNotFound(
                f"the backup has {asked.facts.name} as a tar, and beside {part.path} is one that "
                "nothing vouches for",
                remedy="Move that tar away, and it is fetched",
            )
        if found is None or found.packed:
            return None
        log.info("download %s: from the backup, %s", asked.facts.name, found.wanted.shown)
        job = Job(found.wanted, part, patience, pace)
        return replace(fetch_verified(build, job, found.expected), validator=LENGTH_ALONE)
    return None


def is_mostly_there(asked: Asked, part: Partial) -> bool:
    """Return whether the greater part of the publisher's archive has come."""
    remote = part.remote
    if asked.only_backup or remote is None or remote.url != asked.shown:
        return False
    return 2 * part.proven_bytes > (remote.total or 0)


def _published(
    build: Build, asked: Asked, part: PartFile, arrived: Arrived, old: Note | None, lease: Lease
) -> Note:
    """Give a checked partial file its name, and return its note.

    Args:
        build: The run.
        asked: The archive.
        part: The partial file.
        arrived: What is in it.
        old: The note of the archive that it replaces.
        lease: The archive's.
    """
    digests, validator = arrived.digests, arrived.validator
    if old is not None and old.sha256 == digests["sha256"]:
        # Only its date or ETag is new: what was built on the archive stays valid.
        note = replace(old, validator=validator, released=False, fetched=old.is_ours)
        write_note(build.storage, asked.note_key, note)
        remove_leftovers(part.path)
        return note
    ref = looked_at(asked.facts.name, asked.key, part.path)
    note = Note(ref, asked.shown, digests, validator, mark=asked.mark, fetched=True)
    # The note comes first, since it vouches for nothing until a file of that size and
    # time bears the name: so a crash never leaves an archive that nothing vouches for.
    write_note(build.storage, asked.note_key, note)
    if old is not None:
        remove_replaced(build.storage, lease, asked.key, old.archive.verified)
    build.storage.publish(asked.key, part.path)
    part.forget()
    return note


def noted_fetched(build: Build, asked: Asked, *, released_ok: bool = False) -> Note | None:
    """Return the valid note of a fetched archive; of one that was let go only if that will do."""
    note = read_note(build.storage, asked.note_key)
    if note is None or not asked.is_met_by(note):
        return None
    if note.archive.is_unchanged(build.storage):
        return replace(note, released=False)
    is_gone = note.released and build.storage.stat(asked.key) is None
    return note if is_gone and released_ok else None


def part_of(path: Path) -> Path:
    """Return where an archive is written until it is complete and checked."""
    return path.with_name(path.name + ".part")


def _places(build: Build, asked: Asked) -> tuple[Path, Path]:
    """Return where the archive goes, and its partial file beside it."""
    path = build.storage.local_path(asked.key)
    if path is None:
        raise ConfigError("downloads need a data folder on this machine")
    return path, part_of(path)


def _finished(build: Build, asked: Asked, lease: Lease, staged: Path) -> Note | None:
    """Give a checked partial file its name, where a crash came between that and its note."""
    note = read_note(build.storage, asked.note_key)
    if note is None or note.released or not asked.is_met_by(note):
        return note
    there = build.storage.stat(asked.key)
    if note.archive.is_unchanged(build.storage):
        return note
    if replace(note.archive, location=str(staged)).is_unchanged(build.storage):
        remove_replaced(build.storage, lease, asked.key, there)  # upstream no longer has it
        build.storage.publish(asked.key, staged)
        remove_leftovers(staged)
    return note


def kept(build: Build, asked: Asked, note: Note) -> Note:
    """Return the note of an archive that is there, though it may have been about to be let go."""
    if note.released:
        note = replace(note, released=False)
        write_note(build.storage, asked.note_key, note)
    return note


def _adopted(build: Build, asked: Asked, note: Note | None, path: Path) -> Note:
    """Take over a file that bears the archive's name, if a digest can prove that it is it.

    Raises:
        ConfigError: Nothing can prove it, and it is not ours to replace.
        ChecksumMismatch: It is another file.
    """
    expected, validator = asked.expected, ""
    if note is not None and asked.is_met_by(note) and not expected.is_proof:
        expected, validator = Expected(sha256=note.digests["sha256"]), note.validator
    if not expected.is_proof:
        raise ConfigError(
            f"{path} is there already, and nothing proves that it came from {asked.shown}",
            remedy=f"Use it with --source {asked.facts.name}={path}, or remove it to fetch anew",
        )
    ref = looked_at(asked.facts.name, asked.key, path)
    found = Note(ref, asked.shown, {}, validator, mark=asked.mark, fetched=False)
    return verified(build, found, path, expected, asked.note_key)
