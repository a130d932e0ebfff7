"""The tar that a large gzipped archive was unpacked to, from the backup or without its archive.

What is backed up of such an archive is the tar, since that is what the stages read. On a fresh
machine the tar comes back alone; its mark, and then its note, hold the digests of the archive.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from imagenet_etl.archives.kinds import TAR_GZ
from imagenet_etl.build import Build
from imagenet_etl.download.alone import alone_at
from imagenet_etl.download.arrived import Arrived, fetch_verified
from imagenet_etl.download.asked import Asked
from imagenet_etl.download.backup import else_publisher, find_in_backup
from imagenet_etl.download.fetched import part_of
from imagenet_etl.download.in_place import looked_at
from imagenet_etl.download.notes import Note, note_key_of, write_note
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.slices import Pace, Slice
from imagenet_etl.download.transfer import Job
from imagenet_etl.download.unpacked import tar_alone, tar_key

log = logging.getLogger(__name__)


def tar_from_backup(build: Build, asked: Asked, patience: Patience) -> tuple[Note, int] | None:
    """Return the note of a tar that is here or in the backup, and how many bytes were fetched.

    None where the archive itself is here or has begun to come, and where the backup has no such tar
    or none that can be had: the archive is seen to then.

    Raises:
        StillPending: The time of this slice is used up; what has arrived is kept.
        SourceUnavailable: Not now, and what has arrived is to be gone on with.
        EtlError: The tar cannot be had, and nobody else has the archive.
    """
    path = build.storage.local_path(tar_key(build, asked))
    packed_path = build.storage.local_path(asked.key) if asked.key else None
    if not asked.facts.name.endswith(f".{TAR_GZ}") or path is None or packed_path is None:
        return None
    if packed_path.exists() or (part_of(packed_path).exists() and not asked.only_backup):
        return None
    with alone_at(build, asked.facts.name) as (lease, heartbeat):
        note = tar_alone(build, asked)
        if note is not None:
            return note, 0
        if path.exists():
            return None
        with PartFile(part_of(path), heartbeat.check) as part:
            arrived = _arrived(build, asked, part, patience)
            if arrived is None:
                part.forget()
                return None
            lease.check()
            return _published(build, asked, part, arrived), arrived.count


def _arrived(build: Build, asked: Asked, part: PartFile, patience: Patience) -> Arrived | None:
    """Complete the partial file; None where it has to be done without."""
    with else_publisher(build, asked, part):
        found = find_in_backup(build, asked)
        if found is None or not found.packed:
            return None
        log.info("download %s: its tar comes from the backup", asked.facts.name)
        pace = Pace(build.settings.connections, Slice(build.slice_s))
        arrived = fetch_verified(build, Job(found.wanted, part, patience, pace), found.expected)
        packed = {f"packed_{name}": digest for name, digest in found.packed.items()}
        return replace(arrived, digests={"sha256": arrived.digests["sha256"]} | packed)
    return None


def _published(build: Build, asked: Asked, part: PartFile, arrived: Arrived) -> Note:
    key = tar_key(build, asked)
    ref = looked_at(asked.facts.name, key, part.path)
    note = Note(ref, asked.shown, arrived.digests, mark=asked.mark, fetched=True)
    # The note comes first: it vouches for nothing until a file of that time bears the name.
    write_note(build.storage, note_key_of(key), note)
    build.storage.publish(key, part.path)
    part.forget()
    return note
