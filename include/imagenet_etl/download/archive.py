"""One archive: fetched and verified, or verified and used where it lies."""

from __future__ import annotations

from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.download.asked import asked_for
from imagenet_etl.download.fetched import fetched, noted_fetched
from imagenet_etl.download.in_place import noted_in_place, verified_in_place
from imagenet_etl.download.notes import Note
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.upstream import has_changed


def verified_archive(
    build: Build,
    facts: ArchiveFacts,
    patience: Patience | None = None,
    *,
    source: str | None = None,
) -> tuple[Note, int]:
    """Return a verified archive's note and how many bytes were fetched for it.

    Args:
        build: The run.
        facts: The archive.
        patience: How long to try.
        source: Path or URL, in place of the one in the settings and of the publisher's.

    Raises:
        ConfigError: There is no source that can be used.
        SourceError, CloudError: The archive cannot be had from it.
        SourceUnavailable, SourceBusy: Not now.
    """
    asked = asked_for(build, facts, source)
    if asked.path is not None:
        return verified_in_place(build, asked, asked.path), 0
    return fetched(build, asked, patience or Patience())


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
        return noted_in_place(build, asked, asked.path)
    return noted_fetched(build, asked, released_ok=released_ok)


def upstream_changed(build: Build, facts: ArchiveFacts, source: str | None = None) -> bool:
    """Return whether upstream has another archive than the verified one; nothing is changed.

    It is asked only where no digest proves the content. Where it does not tell, the answer is no.

    Raises:
        ConfigError: There is no source that can be used.
    """
    asked = asked_for(build, facts, source)
    if asked.path is not None or asked.expected.is_proof:
        return False
    note = noted_fetched(build, asked, released_ok=True)
    return note is not None and has_changed(build, asked, note)
