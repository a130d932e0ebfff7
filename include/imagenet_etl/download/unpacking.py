"""Unpack gzipped tars that no memory holds.

A deflate stream has no place to resume from, so unpacking that is interrupted starts over, and what
it had written is removed. It ends with the check of gzip's own CRC and length. While it runs, the
archive's lease is held, so that no other run does the same or lets the archive go.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from imagenet_etl import leases
from imagenet_etl.archives.gunzip import FEED_BYTES, Gunzip
from imagenet_etl.archives.kinds import TAR
from imagenet_etl.build import Build
from imagenet_etl.download.alone import alone_at
from imagenet_etl.download.asked import Asked
from imagenet_etl.download.in_place import looked_at
from imagenet_etl.download.notes import Note, note_key_of, read_note, write_note
from imagenet_etl.download.unpacked import digests_of, leftovers, note_of_tar, tar_key
from imagenet_etl.errors import (
    ArchiveChanged,
    BadArchive,
    ConfigError,
    SourceBusy,
    UnsafeMember,
)
from imagenet_etl.files import check_space, fsync_file, fsync_folder, hash_file, make_folders
from imagenet_etl.progress import metered
from imagenet_etl.storage import Stat, open_local
from imagenet_etl.streams import HashedFile

log = logging.getLogger(__name__)
MAX_RATIO = 100
"""A tar of images does not shrink to a hundredth; what unpacks to more would fill the disk."""


def unpacked(build: Build, asked: Asked, packed: Note) -> Note:
    """Return the note of the tar that an archive holds, unpacking it if that is not there.

    Args:
        build: The run.
        asked: The archive.
        packed: Its own note, just verified.

    Raises:
        BadArchive: The archive is truncated or damaged, or holds no tar.
        UnsafeMember: It unpacks to more than ``MAX_RATIO`` times its size.
        NotEnoughSpace: There is no room for the tar.
        ConfigError: A file that may be the user's own bears the tar's name; it is left alone.
        SourceBusy: Another run is unpacking it, or let the archive go in this moment.
    """
    key = tar_key(build, asked)
    path = build.storage.local_path(key)
    if path is None:
        raise ConfigError("unpacking needs a data folder on this machine")
    with alone_at(build, asked.facts.name) as (lease, heartbeat):
        note = _there(build, asked, packed, path)
        if note is None:
            _make_room(build, packed, path)
            part = path.with_name(f"{path.name}.{lease.fence}.part")
            note = _unpack(build, asked, packed, part, heartbeat)
            lease.check()
            # The note comes first, since it vouches for nothing until a file of that size and
            # time bears the name: so a crash never leaves a tar that nothing vouches for.
            write_note(build.storage, note_key_of(key), note)
            build.storage.publish(key, part)
        for left in leftovers(path):
            left.unlink(missing_ok=True)
    return note


def _there(build: Build, asked: Asked, packed: Note, path: Path) -> Note | None:
    """Return the note of the tar if it is there; one that was made of another archive is removed.

    Raises:
        ConfigError: What bears its name was never unpacked here, or is not what was.
    """
    storage, key = build.storage, tar_key(build, asked)
    note = note_of_tar(build, asked, packed)
    now = storage.stat(key)
    if now is None:
        return None if note is None else _named_now(build, note, path)
    noted = read_note(storage, note_key_of(key))
    if noted is None or not _is_as_noted(noted, now, path):
        raise _unproven(asked, path)
    # What was let go is gone: another file of that content has since been put here.
    is_ours = noted.is_ours and (noted.archive.tag == now.tag or not noted.released)
    if note is not None:
        ref = replace(note.archive, tag=now.tag)
        kept = replace(note, released=False, archive=ref, fetched=is_ours)
        if kept != note:
            write_note(storage, note_key_of(key), kept)
        return kept
    if not is_ours:
        raise _unproven(asked, path)
    log.info("download %s: %s was unpacked from another file, so it is removed", key, path)
    storage.delete(key)
    return None


def _named_now(build: Build, note: Note, path: Path) -> Note | None:
    """Give a finished tar its name, where a crash came between that and its note."""
    if note.released:
        return None
    for part in leftovers(path):
        if replace(note.archive, location=str(part)).is_unchanged(build.storage):
            build.storage.publish(note.archive.location, part)
            return note
    return None


def _is_as_noted(note: Note, now: Stat, path: Path) -> bool:
    """Return whether a tar is the one that was noted; one whose time is new is hashed."""
    if note.archive.size != now.size:
        return False
    return note.archive.tag == now.tag or hash_file(path, "sha256")["sha256"] == note.sha256


def _unproven(asked: Asked, path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is there already, and nothing proves that it was unpacked from {asked.shown}",
        remedy=f"Use it with --source {asked.facts.name}={path}, or remove it",
    )


def _make_room(build: Build, packed: Note, path: Path) -> None:
    """Remove what an interrupted run left, and see whether the disk can take the tar.

    A gzip file tells its length modulo 4 GiB alone. Images hardly shrink, so its own is as good.
    """
    if not packed.archive.is_unchanged(build.storage):
        raise SourceBusy(
            f"{packed.archive.location} was let go or changed before it could be unpacked",
            remedy="Run again",
        )
    make_folders(path.parent)
    for left in leftovers(path):
        left.unlink(missing_ok=True)
    check_space(path.parent, packed.archive.size)


def _unpack(
    build: Build, asked: Asked, packed: Note, part: Path, heartbeat: leases.Heartbeat
) -> Note:
    """Write the tar and return its note; nothing is left of one that cannot be completed.

    Raises:
        BadArchive: The archive is truncated or damaged, or holds no tar.
    """
    log.info("download %s: unpacking it to %s", packed.archive.name, part)
    file = HashedFile(part, large=True)
    try:
        for piece in _pieces(build, packed):
            heartbeat.check()
            file.write(piece)
            if file.size > MAX_RATIO * packed.archive.size:
                raise UnsafeMember(
                    f"{packed.archive.name} unpacks to too much",
                    expected=f"at most {MAX_RATIO} times its {packed.archive.size:,} bytes",
                )
        digests = digests_of(file.close().sha256, packed)
        ref = looked_at(packed.archive.name, tar_key(build, asked), part)
        if ref.kind != TAR:
            raise BadArchive(f"{ref.name} does not hold a tar", expected=TAR, found=ref.kind)
        fsync_file(part)
        fsync_folder(part.parent)
    except BaseException:
        file.discard()
        raise
    return Note(ref, packed.source, digests, mark=packed.mark, fetched=True)


def _pieces(build: Build, packed: Note) -> Iterator[bytes]:
    """Yield what the archive unpacks to.

    Raises:
        ArchiveChanged: Somebody writes to it.
    """
    ref = packed.archive
    path = build.storage.local_path(ref.location) if ref.location[0] != "/" else Path(ref.location)
    assert path is not None
    gunzip = Gunzip(ref.name)
    with open_local(path) as file, metered(f"unpack {ref.name}", ref.size, "B") as meter:
        for block in file.blocks():
            for at in range(0, len(block), FEED_BYTES):
                yield from gunzip.feed(bytes(block[at : at + FEED_BYTES]))
            meter.add(len(block), len(block))
        gunzip.finish()
        if file.current_stat() != ref.verified:
            raise ArchiveChanged(
                f"{path} changed while it was unpacked", remedy="Run again when it is at rest"
            )
