"""Bring archives back from the backup to where a run would look for them, with their notes."""

from __future__ import annotations

import logging
from dataclasses import replace
from urllib.parse import urlsplit

from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.aws.s3_marks import ArchiveMark, read_marks
from imagenet_etl.build import Build
from imagenet_etl.download.asked import Asked, asked_for
from imagenet_etl.download.backup import packed_digests, proven_by
from imagenet_etl.download.fetched import fetched
from imagenet_etl.download.notes import Expected, Note, note_key_of, read_note
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.tar_from_backup import tar_from_backup
from imagenet_etl.download.unpacked import tar_key
from imagenet_etl.errors import CloudNotFound

log = logging.getLogger(__name__)


def newest_mark(build: Build, name: str) -> ArchiveMark:
    """Return the mark of the newest archive of a name.

    Raises:
        ConfigError: The dataset has no such archive.
        CloudNotFound: The backup does not hold it.
        BackupIncomplete, SchemaTooNew: Its marks cannot be read.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    build.facts.archive(name)  # refuses a name that is none
    place = backup_place(build.settings.s3_uri, build.facts.name)
    marks = read_marks(build.client("s3"), place, name)
    if not marks:
        raise CloudNotFound(
            f"{name} is not backed up",
            expected=f"a mark below {place.uri(place.archive_marks(name))}",
            found="none",
        )
    if len(marks) > 1:
        log.info("restore %s: %d older ones stay in the backup", name, len(marks) - 1)
    return marks[0]


def restore_archive(
    build: Build, mark: ArchiveMark, patience: Patience | None = None
) -> tuple[Note, int]:
    """Bring one archive back; return its note and how many bytes were fetched for it.

    The published one goes to its own place; any other to that of its source, as when it was
    fetched. The publisher is never asked. A verified archive that is there is never replaced.

    Raises:
        ChecksumMismatch: What the backup holds is not what its mark says, or another file, which
            nothing vouches for, is in its place.
        CloudError, CloudUnavailable, SourceUnavailable: It cannot be had.
    """
    place = backup_place(build.settings.s3_uri, build.facts.name)
    build, asked = _as_it_was(build, place, mark)
    note = _verified_here(build, asked)
    if note is not None:
        other = "" if note.sha256 == mark.sha256 else "; the one in the backup is another"
        log.info("restore %s: it is there and verified, so it stays%s", mark.name, other)
        return note, 0
    patience = patience or Patience()
    return tar_from_backup(build, asked, patience) or fetched(build, asked, patience)


def _verified_here(build: Build, asked: Asked) -> Note | None:
    """Return the note of the archive that is there, wherever it came from, or of its tar."""
    for key in dict.fromkeys((tar_key(build, asked), asked.key)):
        note = read_note(build.storage, note_key_of(key))
        if note is not None and note.archive.is_unchanged(build.storage):
            return note
    return None


def _as_it_was(build: Build, place: BackupPlace, mark: ArchiveMark) -> tuple[Build, Asked]:
    """Return the build and the request that the mark's archive answers."""
    facts = build.facts.archive(mark.name)
    published = Expected(facts.size, facts.md5, facts.sha256)
    proven = proven_by(mark, published)
    if proven or (proven is None and not published.is_proof):
        source, expect = facts.url, "published"
    else:
        url = urlsplit(mark.source)
        is_told = url.scheme in ("http", "https", "s3") and not url.query
        key = place.archive(mark.name, mark.sha256)
        source = mark.source if is_told else f"{place.uri(key)}#sha256={mark.sha256}"
        expect = "any"
    build = replace(build, settings=replace(build.settings, expect=expect))
    asked = asked_for(build, facts, source)
    # Its digest, so that it is this very one, whatever the backup gets meanwhile.
    sha256 = (packed_digests(mark) or mark.digests).get("sha256", "")
    expected = replace(asked.expected, sha256=sha256)
    return build, replace(asked, expected=expected, only_backup=True)
