"""The S3 backup as the place that an archive is fetched from, before its publisher is asked.

It is asked only for what has to be fetched. It may hold several archives of one name, each with a
commit mark; the first that proves to be what the run asks for is taken, the newest before the
others, and the rest are passed over. A digest that is published or given decides whatever the
source; where there is none, the mark must have come from the same source. A source with query
values is never known to be the same, since no mark holds them. Of an archive that has no source at
all, such as one that nobody offers any more, the newest is taken.

So a backup may hold an older archive than its publisher where no digest is known. It is taken all
the same, for a fresh machine must not depend on the publisher; but what was taken is compared with
upstream by the next run, as any download is, and an archive that has changed is then fetched from
the publisher alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagenet_etl.build import Build
from imagenet_etl.download.asked import Asked, backup_url
from imagenet_etl.download.notes import Expected
from imagenet_etl.download.partial import Partial
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import (
    ArchiveError,
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    SchemaTooNew,
    SourceError,
    SourceUnavailable,
    TransientError,
)

if TYPE_CHECKING:  # boto3 is slow to import
    from imagenet_etl.aws.s3_marks import ArchiveMark

log = logging.getLogger(__name__)

_NOT_FROM_BACKUP = (CloudError, CloudUnavailable, SourceError, SourceUnavailable, ArchiveError,
                    SchemaTooNew)  # fmt: skip
"""What makes a run go on to the publisher."""


@dataclass(frozen=True)
class BackedUp:
    """An archive in the backup.

    Attributes:
        wanted: The request for it.
        expected: What it must be: all that is known of it, from the mark and from the run.
        packed: Digests of the gzipped archive, by algorithm, where this is the tar from inside it.
    """

    wanted: Wanted
    expected: Expected
    packed: dict[str, str]


def find_in_backup(build: Build, asked: Asked) -> BackedUp | None:
    """Return the archive in the backup, or None if that is not to be used or has no such archive.

    Raises:
        CloudNotFound: It has no such archive, and nobody else has it.
        BackupIncomplete, SchemaTooNew: No mark can be read.
        CloudError, CloudUnavailable: The bucket cannot be asked.
    """
    marked = backup_url(build, asked.facts.name)
    if not marked:
        return None
    from imagenet_etl.aws.s3_layout import backup_place  # noqa: PLC0415 - slow to import
    from imagenet_etl.aws.s3_marks import read_marks  # noqa: PLC0415 - slow to import

    place = backup_place(build.settings.s3_uri, build.facts.name)
    marks = read_marks(build.client("s3"), place, asked.facts.name)
    mark = _chosen(asked, marks)
    passed = len(marks) if mark is None else marks.index(mark)
    if passed:
        log.info(
            "download %s: %d in %s passed over, of another digest or source than is asked for",
            asked.facts.name, passed, marked,
        )  # fmt: skip
    if mark is None:
        if asked.only_backup:
            raise _nobody_has(build, asked, marked, passed)
        log.info(
            "download %s: it is not in %s, so its publisher is asked", asked.facts.name, marked
        )
        return None
    packed = packed_digests(mark)
    md5 = "" if packed else asked.expected.md5
    # Any kind will do, since a digest of all of it decides.
    wanted = Wanted(mark.name, place.uri(place.archive(mark.name, mark.sha256)), "", mark.size)
    return BackedUp(wanted, Expected(mark.size, md5, mark.sha256), packed)


def packed_digests(mark: ArchiveMark) -> dict[str, str]:
    """Return the digests of the gzipped archive that the mark's tar is from; none of any other."""
    prefix = "packed_"
    return {
        name.removeprefix(prefix): digest
        for name, digest in mark.digests.items()
        if name.startswith(prefix)
    }


def _chosen(asked: Asked, marks: list[ArchiveMark]) -> ArchiveMark | None:
    """Return the mark of what is asked for, of marks that begin with the newest."""
    able = [mark for mark in marks if proven_by(mark, asked.expected) is not False]
    if asked.expected.is_proof:
        able.sort(key=lambda mark: not proven_by(mark, asked.expected))
    elif not asked.only_backup:
        able = [mark for mark in able if not asked.mark and mark.source == asked.shown]
    return able[0] if able else None


def proven_by(mark: ArchiveMark, demanded: Expected) -> bool | None:
    """Return whether a mark is that of the archive that is demanded; None where it does not tell.

    Size and digests that are demanded are those of the archive, not of the tar from inside it, of
    which nothing but its mark can prove what it was made from.
    """
    packed = packed_digests(mark)
    found = packed or mark.digests
    pairs = {"md5": demanded.md5, "sha256": demanded.sha256}
    wanted = {name: digest for name, digest in pairs.items() if digest}
    told = wanted.keys() & found.keys()
    if any(found[name] != wanted[name] for name in told):
        return False
    if packed and told != wanted.keys():
        return False
    if not packed and demanded.size not in (None, mark.size):
        return False
    return True if told else None


@contextmanager
def else_publisher(build: Build, asked: Asked, part: Partial) -> Iterator[None]:
    """End the block with a warning where its archive cannot be had from the backup.

    Raises:
        EtlError: There is no publisher to go on with, or what has arrived is to be gone on with.
    """
    try:
        yield
    except _NOT_FROM_BACKUP as error:
        if isinstance(error, TransientError) and part.proven_bytes:
            raise  # to ask the publisher would drop it
        if asked.only_backup:
            raise
        log.warning(
            "download %s: it cannot be had from the backup %s, so %s is asked: %s",
            asked.facts.name,
            build.settings.s3_uri,
            asked.shown,
            error,
        )


def _nobody_has(build: Build, asked: Asked, marked: str, others: int) -> CloudNotFound:
    return CloudNotFound(
        f"{asked.facts.name} has no publisher that serves it, and the backup does not hold it",
        expected=marked,
        found=f"the marks of {others} other archives" if others else "no mark of it",
        remedy=f"Log in at {build.facts.terms_url}, download it, and pass "
        f"--source {asked.facts.name}=PATH",
    )
