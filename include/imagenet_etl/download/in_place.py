"""Archives on this machine: verified where they lie, never copied."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from imagenet_etl.archives.folder import folder_state
from imagenet_etl.archives.kinds import FOLDER, TAR_GZ, kind_of
from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.build import Build
from imagenet_etl.download.asked import Asked
from imagenet_etl.download.notes import Expected, Note, is_valid, read_note, write_note
from imagenet_etl.errors import ArchiveChanged, EtlError, SourceNotFound
from imagenet_etl.files import hash_file
from imagenet_etl.storage import open_local

log = logging.getLogger(__name__)


def verified_in_place(build: Build, asked: Asked, path: Path) -> Note:
    """Verify an archive or a folder where it lies; nothing is written beside it.

    Raises:
        SourceNotFound: There is no such file.
        ChecksumMismatch: It is another one.
    """
    if path.is_dir():
        return _folder(build, asked, path)
    note = noted_in_place(build, asked, path)
    if note is not None:
        return note
    if not path.is_file():
        raise SourceNotFound(
            f"{path} is not a file", remedy=f"Pass --source {asked.facts.name}=PATH_OR_URL"
        )
    note = Note(looked_at(asked.facts.name, str(path), path), str(path), {})
    return verified(build, note, path, asked.expected, asked.note_key)


def noted_in_place(build: Build, asked: Asked, path: Path) -> Note | None:
    """Return what is known of an archive, or may be seen of a folder; None for nothing valid."""
    if path.is_dir():
        try:
            return _folder_note(asked, path)
        except EtlError:
            return None
    note = read_note(build.storage, asked.note_key)
    if note is not None and is_valid(build.storage, note, str(path), asked.expected):
        return note
    return None


def _folder(build: Build, asked: Asked, path: Path) -> Note:
    """Use an unpacked archive where it lies; a demanded digest is that of its listing."""
    note = _folder_note(asked, path)
    name, size = asked.facts.name, f"{note.archive.size:,}"
    log.info("download %s: %s is a folder of %s bytes, used in place", name, path, size)
    if build.settings.expect == "published":
        log.warning(
            "download %s: size and digest are published for the packed file only; of a folder, "
            "the numbers of images and classes are checked",
            name,
        )
    return note


def _folder_note(asked: Asked, path: Path) -> Note:
    state = folder_state(path, asked.facts.name)
    asked.expected.check(str(path), state.size, {"sha256": state.listing_sha256})
    ref = ArchiveRef(asked.facts.name, str(path), state.size, state.tag, FOLDER)
    return Note(ref, str(path), {"listing_sha256": state.listing_sha256})


def looked_at(name: str, location: str, path: Path) -> ArchiveRef:
    """Describe an archive as it is now.

    Raises:
        BadArchive: It is of no kind that can be read in place, nor one that is unpacked first.
    """
    # Archives are named as the publisher names them. What he offers as a plain tar or a zip is not
    # unpacked for anybody who has compressed it.
    with open_local(path) as file:
        kind = kind_of(file, name, may_unpack=name.endswith(f".{TAR_GZ}"))
        log.info("download %s: %s is a %s of %s bytes", name, path, kind, f"{file.stat.size:,}")
        return ArchiveRef(name, location, file.stat.size, file.stat.tag, kind)


def verified(build: Build, note: Note, path: Path, expected: Expected, key: str) -> Note:
    """Hash an archive, compare, and write its note.

    Raises:
        ChecksumMismatch: It is not what is expected.
        ArchiveChanged: Somebody writes to it.
    """
    expected.check_size(str(path), note.archive.size)
    note = replace(note, digests=hash_file(path, *expected.algorithms))
    if not note.archive.is_unchanged(build.storage):
        raise ArchiveChanged(
            f"{path} changed while it was verified", remedy="Run again when it is at rest"
        )
    expected.check(str(path), note.archive.size, note.digests)
    write_note(build.storage, key, note)
    return note
