"""The tar that a large gzipped archive was unpacked to: where it is and what vouches for it.

What is inside a gzip file cannot be read in place, so it is unpacked, once, to a tar that the later
stages read: ``winter21_whole.tar`` beside a fetched ``winter21_whole.tar.gz``, or below
``archives/<dataset>/unpacked-<digest of the path>`` for one that is given by path. The tar's note
has both digests: ``sha256`` is the tar's own, which goes with its size, and ``packed_md5`` and
``packed_sha256`` are those of the file that the publisher names. All of them are in the manifest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imagenet_etl.archives.kinds import GZIP, TAR_GZ
from imagenet_etl.build import Build
from imagenet_etl.download.asked import Asked
from imagenet_etl.download.notes import Note, note_key_of, read_note
from imagenet_etl.files import digest_of

_PACKED = "packed_"


def tar_key(build: Build, asked: Asked) -> str:
    """Return the key of the tar that an archive is unpacked to."""
    if asked.path is None:
        return asked.key.removesuffix(".gz")
    folder = f"archives/{build.facts.name}/unpacked-{digest_of(str(asked.path))[:12]}"
    return f"{folder}/{asked.facts.name.removesuffix('.gz')}"


def leftovers(path: Path) -> list[Path]:
    """Return the unfinished files of a tar that is, or was, being unpacked."""
    return sorted(path.parent.glob(f"{path.name}.[0-9]*.part"))


def noted_unpacked(
    build: Build, asked: Asked, packed: Note, *, released_ok: bool = False
) -> Note | None:
    """Return the valid note of the tar that was made from an archive, or None.

    Args:
        build: The run.
        asked: The archive.
        packed: Its own note.
        released_ok: Whether a tar that was deleted after use counts as well.
    """
    key = tar_key(build, asked)
    note = note_of_tar(build, asked, packed)
    if note is None:
        return None
    if note.archive.is_unchanged(build.storage):
        return replace(note, released=False)
    is_gone = note.released and build.storage.stat(key) is None
    return note if is_gone and released_ok else None


def note_of_tar(build: Build, asked: Asked, packed: Note) -> Note | None:
    """Return the note of the tar, wherever that is now, if it was made from this very archive."""
    note = read_note(build.storage, note_key_of(tar_key(build, asked)))
    if note is None or note.digests.get(f"{_PACKED}sha256") != packed.sha256:
        return None
    return replace(note, digests=digests_of(note.sha256, packed))


def digests_of(tar_sha256: str, packed: Note) -> dict[str, str]:
    """Return the digests of a tar: its own, and those of the archive that it was made from."""
    published = {f"{_PACKED}{name}": digest for name, digest in packed.digests.items()}
    return {"sha256": tar_sha256} | published


def is_repacked(build: Build, asked: Asked) -> bool:
    """Return whether an archive that is given by path is another one than was unpacked.

    It need not be there any more: its tar is what is read.
    """
    note = read_note(build.storage, asked.note_key)
    if note is None or note.archive.kind != GZIP:
        return False
    now = note.archive.stat(build.storage)
    return now is not None and now != note.archive.verified


def tar_alone(build: Build, asked: Asked, *, released_ok: bool = False) -> Note | None:
    """Return the valid note of a tar whose archive never was here, such as one from a backup.

    Its note proves what it was made from: by the digests that the archive had, or, where none is
    demanded, by its source.

    Args:
        build: The run.
        asked: The archive.
        released_ok: Whether a tar that was deleted after use counts as well.
    """
    if not asked.key or not asked.facts.name.endswith(f".{TAR_GZ}"):
        return None
    key = tar_key(build, asked)
    note = read_note(build.storage, note_key_of(key))
    if note is None or f"{_PACKED}sha256" not in note.digests or not _is_demanded(note, asked):
        return None
    if note.archive.is_unchanged(build.storage):
        return replace(note, released=False)
    is_gone = note.released and build.storage.stat(key) is None
    return note if is_gone and released_ok else None


def _is_demanded(note: Note, asked: Asked) -> bool:
    expected = asked.expected
    if not expected.is_proof:
        return (note.source, note.mark) == (asked.shown, asked.mark)
    return all(
        note.digests.get(f"{_PACKED}{name}") == wanted
        for name, wanted in (("md5", expected.md5), ("sha256", expected.sha256))
        if wanted
    )
