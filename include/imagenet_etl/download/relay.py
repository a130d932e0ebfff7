"""Archives from elsewhere where the data folder is in a bucket: fetched straight into it.

What the backup holds is used where it lies there. What comes from a publisher goes in parts into an
object beside the archive's key, is checked, and only then gets that key. No disk is written.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from imagenet_etl.archives.kinds import TAR_GZ
from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.archives.tar_gz import MAX_PACKED_BYTES
from imagenet_etl.build import Build
from imagenet_etl.download.alone import alone_at, remove_replaced
from imagenet_etl.download.arrived import Arrived, fetch_verified
from imagenet_etl.download.asked import Asked, wanted_from
from imagenet_etl.download.backup import else_publisher, find_in_backup
from imagenet_etl.download.fetched import is_mostly_there, kept
from imagenet_etl.download.in_bucket import readable_kind, too_large_to_unpack, verified_object
from imagenet_etl.download.journal import RemoteFile
from imagenet_etl.download.notes import (
    LENGTH_ALONE,
    Expected,
    Note,
    note_key_of,
    read_note,
    write_note,
)
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.slices import Pace, Slice
from imagenet_etl.download.transfer import Job
from imagenet_etl.download.unpacked import tar_alone, tar_key
from imagenet_etl.download.upstream import has_changed
from imagenet_etl.errors import BadArchive, CloudNotFound, ConfigError
from imagenet_etl.leases import Lease

if TYPE_CHECKING:  # boto3 is slow to import
    from imagenet_etl.download.part_object import PartObject

log = logging.getLogger(__name__)


def relayed(build: Build, asked: Asked, patience: Patience) -> tuple[Note, int]:
    """Return the note of an archive in a bucket and how many bytes were fetched for it.

    What is in the data folder and verified comes first, then the backup, then the publisher.

    Raises:
        SourceError, CloudError: It cannot be had.
        SourceUnavailable, SourceBusy: Not now.
        StillPending: The time of this slice is used up; what has arrived is kept.
        BadArchive: It is none, or one that would have to be unpacked to a disk.
    """
    from imagenet_etl.download.part_object import PartObject  # noqa: PLC0415 - slow to import

    name = asked.facts.name

    def accept(remote: RemoteFile) -> None:
        if name.endswith(f".{TAR_GZ}") and (remote.total or 0) > MAX_PACKED_BYTES:
            raise too_large_to_unpack(name, remote.url, remote.total or 0)

    with alone_at(build, name) as (lease, heartbeat):
        client = build.client("s3")
        with PartObject(build.storage, client, asked.key, heartbeat.check, accept) as part:
            note, old = _there(build, asked, part)
            if note is None and old is None:
                note = _in_backup(build, asked, part)
            if note is not None:
                part.forget()
                return note, 0
            pace = Pace(build.settings.connections, Slice(build.slice_s))
            job = Job(wanted_from(build, asked), part, patience, pace)
            arrived = fetch_verified(build, job, asked.expected)
            lease.check()
            return _published(build, asked, part, arrived, old, lease), arrived.count


def _there(build: Build, asked: Asked, part: PartObject) -> tuple[Note | None, Note | None]:
    """Return the valid note of what is there; or, second, that of what upstream has replaced.

    Raises:
        ConfigError: What bears the archive's key is not known to be it, and not ours to replace.
        ChecksumMismatch: It is another archive.
    """
    tar = tar_alone(build, asked)
    if tar is not None:
        return tar, None
    note = read_note(build.storage, asked.note_key)
    if note is not None and asked.is_met_by(note) and note.archive.is_unchanged(build.storage):
        if has_changed(build, asked, note):
            return None, note
        return kept(build, asked, note), None
    if build.storage.stat(asked.key) is not None:
        return _adopted(build, asked, note, part), None
    return None, None


def _adopted(build: Build, asked: Asked, note: Note | None, part: PartObject) -> Note:
    """Take over an object that bears the archive's key, if it is proven to be it."""
    expected = asked.expected
    if (done := part.published()) is not None:
        stat, noted = done
        validator = noted.remote.validator if noted.remote else ""
        now = Note(_ref(build, asked), asked.shown, noted.digests, validator, mark=asked.mark,
                   fetched=True)  # fmt: skip
        if now.archive.tag == stat.tag and noted.url == asked.shown and asked.is_met_by(now):
            write_note(build.storage, asked.note_key, now)
            return now
    validator = ""
    if note is not None and asked.is_met_by(note) and not expected.is_proof:
        expected, validator = Expected(sha256=note.digests["sha256"]), note.validator
    uri = f"{build.storage.url}/{asked.key}"
    if not expected.is_proof:
        raise ConfigError(
            f"{uri} is there already, and nothing proves that it came from {asked.shown}",
            remedy=f"Use it with --source {asked.facts.name}={uri}, or remove it to fetch anew",
        )
    ref, digests = verified_object(build, asked.facts.name, uri, expected)
    ref = replace(ref, location=asked.key)
    found = Note(ref, asked.shown, digests, validator, mark=asked.mark, fetched=False)
    write_note(build.storage, asked.note_key, found)
    return found


def _in_backup(build: Build, asked: Asked, part: PartObject) -> Note | None:
    """Use the archive that the backup holds, or the tar from inside it, where it lies there.

    None for what has to be asked of its publisher.

    Raises:
        EtlError: It cannot be had from there, and nobody else has it.
    """
    if is_mostly_there(asked, part):
        return None
    with else_publisher(build, asked, part):
        found = find_in_backup(build, asked)
        if found is None:
            return None
        ref, digests = verified_object(build, asked.facts.name, found.wanted.url, found.expected)
        packed = {f"packed_{name}": digest for name, digest in found.packed.items()}
        note = Note(ref, asked.shown, digests | packed, LENGTH_ALONE, mark=asked.mark,
                    fetched=False)  # fmt: skip
        key = note_key_of(tar_key(build, asked)) if packed else asked.note_key
        write_note(build.storage, key, note)
        return note
    return None


def _published(
    build: Build, asked: Asked, part: PartObject, arrived: Arrived, old: Note | None, lease: Lease
) -> Note:
    """Give what was checked the archive's key, and return its note.

    Args:
        build: The run.
        asked: The archive.
        part: What arrived.
        arrived: What is in it.
        old: The note of the archive that it replaces.
        lease: The archive's.
    """
    digests, validator = arrived.digests, arrived.validator
    if old is not None and old.sha256 == digests["sha256"]:
        # Only its date or ETag is new: what was built on the archive stays valid.
        note = replace(old, validator=validator, released=False)
        write_note(build.storage, asked.note_key, note)
        part.forget()
        return note
    try:
        with build.storage.open(part.key) as file:
            kind = readable_kind(file, asked.facts.name, asked.shown)
    except BadArchive:
        part.forget()
        raise
    if old is not None and old.archive.location == asked.key:
        remove_replaced(build.storage, lease, asked.key, old.archive.verified)
    part.publish(digests["sha256"])
    now = build.storage.stat(asked.key)
    if now is None:
        raise CloudNotFound(f"{build.storage.url}/{asked.key} vanished after it was copied there")
    ref = ArchiveRef(asked.facts.name, asked.key, now.size, now.tag, kind)
    note = Note(ref, asked.shown, digests, validator, mark=asked.mark, fetched=True)
    write_note(build.storage, asked.note_key, note)
    part.forget()
    return note


def _ref(build: Build, asked: Asked) -> ArchiveRef:
    """Describe what bears the archive's key now."""
    name = asked.facts.name
    with build.storage.open(asked.key) as file:
        kind = readable_kind(file, name, asked.shown)
        return ArchiveRef(name, asked.key, file.stat.size, file.stat.tag, kind)
