"""One archive: fetched and verified, or verified and used where it lies."""

from __future__ import annotations

from imagenet_etl.archives.kinds import GZIP
from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.download.asked import asked_for
from imagenet_etl.download.fetched import fetched, noted_fetched
from imagenet_etl.download.in_bucket import noted_in_bucket, verified_in_bucket
from imagenet_etl.download.in_place import noted_in_place, verified_in_place
from imagenet_etl.download.notes import Note
from imagenet_etl.download.relay import relayed
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.tar_from_backup import tar_from_backup
from imagenet_etl.download.unpacked import is_repacked, noted_unpacked, tar_alone
from imagenet_etl.download.unpacking import unpacked
from imagenet_etl.download.upstream import has_changed


def verified_archive(
    build: Build,
    facts: ArchiveFacts,
    patience: Patience | None = None,
    *,
    source: str | None = None,
) -> tuple[Note, int]:
    """Return a verified archive's note and how many bytes were fetched for it.

    Of a gzipped tar that no memory holds, it is the note of the tar that it was unpacked to.

    Args:
        build: The run.
        facts: The archive.
        patience: How long to try.
        source: Path or URL, in place of the one in the settings and of the publisher's.

    Raises:
        ConfigError: There is no source that can be used.
        SourceError, CloudError: The archive cannot be had from it.
        SourceUnavailable, SourceBusy: Not now.
        BadArchive: It is none, or cannot be unpacked.
        NotEnoughSpace: There is no room to unpack it.
    """
    asked = asked_for(build, facts, source)
    patience = patience or Patience()
    if asked.path is not None:
        note, count = verified_in_place(build, asked, asked.path), 0
    elif asked.in_bucket:
        return verified_in_bucket(build, asked), 0
    elif not build.storage.on_disk:
        return relayed(build, asked, patience)
    elif (tar := tar_from_backup(build, asked, patience)) is not None:
        return tar
    else:
        note, count = fetched(build, asked, patience)
    return (unpacked(build, asked, note) if note.archive.kind == GZIP else note), count


def noted(
    build: Build, facts: ArchiveFacts, source: str | None = None, *, released_ok: bool = False
) -> Note | None:
    """Return the valid note of an archive that was verified before, or None.

    Nothing is asked for over a network and no content is hashed; a folder's files are listed.

    Args:
        build: The run.
        facts: The archive.
        source: As in ``verified_archive``.
        released_ok: Whether an archive that was deleted after use counts as well.

    Raises:
        ConfigError: There is no source that can be used.
    """
    asked = asked_for(build, facts, source)
    if asked.path is not None:
        note = noted_in_place(build, asked, asked.path)
    elif asked.in_bucket:
        return noted_in_bucket(build, asked)
    else:
        note = noted_fetched(build, asked, released_ok=released_ok)
    if note is None:
        return tar_alone(build, asked, released_ok=released_ok)
    if note.archive.kind != GZIP:
        return note
    return noted_unpacked(build, asked, note, released_ok=released_ok)


def upstream_changed(build: Build, facts: ArchiveFacts, source: str | None = None) -> bool:
    """Return whether upstream has another archive than the verified one; nothing is changed.

    It is asked only where no digest proves the content. Where it does not tell, the answer is no.
    Of what is given by path, only a file that was unpacked is looked at here, since its tar is what
    receipts vouch for.

    Raises:
        ConfigError: There is no source that can be used.
    """
    asked = asked_for(build, facts, source)
    if asked.path is not None:
        return is_repacked(build, asked)
    if asked.in_bucket:
        return False  # its ETag tells, and is looked at as a file's time is
    if asked.expected.is_proof:
        return False
    note = noted_fetched(build, asked, released_ok=True)
    return note is not None and has_changed(build, asked, note)
