"""Bring archives back from the backup to where a run would look for them, with their notes."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.aws.s3_marks import ArchiveMark, read_mark
from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.download.asked import Asked, asked_for
from imagenet_etl.download.fetched import fetched
from imagenet_etl.download.notes import Note
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.tar_from_backup import tar_from_backup
from imagenet_etl.errors import CloudNotFound


def restore_archive(build: Build, name: str, patience: Patience | None = None) -> tuple[Note, int]:
    """Bring one archive back; return its note and how many bytes were fetched for it.

    The published one goes to its own place; any other to that of its source, as when it was
    fetched. The publisher is never asked.

    Raises:
        ConfigError: The dataset has no such archive.
        CloudNotFound: The backup does not hold it.
        ChecksumMismatch: What it holds is not what its mark says.
        CloudError, CloudUnavailable, SourceUnavailable: It cannot be had.
    """
    build.facts.archive(name)  # refuses a name that is none
    place = backup_place(build.settings.s3_uri, build.facts.name)
    mark = read_mark(build.client("s3"), place, name)
    if mark is None:
        raise CloudNotFound(
            f"{name} is not backed up",
            expected=place.uri(place.archive_mark(name)),
            found="no such mark",
        )
    build, asked = _as_it_was(build, place, mark)
    patience = patience or Patience()
    return tar_from_backup(build, asked, patience) or fetched(build, asked, patience)


def _as_it_was(build: Build, place: BackupPlace, mark: ArchiveMark) -> tuple[Build, Asked]:
    """Return the build and the request that the mark's archive answers."""
    facts = build.facts.archive(mark.name)
    if _is_published(facts, mark):
        source, expect = facts.url, "published"
    else:
        url = urlsplit(mark.source)
        is_told = url.scheme in ("http", "https", "s3") and not url.query
        key = place.archive(mark.name, mark.sha256)
        source = mark.source if is_told else f"{place.uri(key)}#sha256={mark.sha256}"
        expect = "any"
    build = replace(build, settings=replace(build.settings, expect=expect))
    return build, replace(asked_for(build, facts, source), only_backup=True)


def _is_published(facts: ArchiveFacts, mark: ArchiveMark) -> bool:
    """Return whether nothing that is published speaks against it."""
    md5 = mark.digests.get("packed_md5") or mark.digests.get("md5", "")
    return (
        facts.size in (None, mark.size)
        and (not facts.md5 or facts.md5 == md5)
        and (not facts.sha256 or facts.sha256 == mark.sha256)
    )
