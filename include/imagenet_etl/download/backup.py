"""The S3 backup as the place that an archive is fetched from, before its publisher is asked.

It is asked only for what has to be fetched. What it holds is taken where the archive's commit mark
proves that it is what the run asks for: a digest that is published or given decides whatever the
source; where there is none, the mark must have come from the same source. A source with query
values is never known to be the same, since no mark holds them. An archive that has no source at
all, such as one that nobody offers any more, is taken as the mark describes it.

So a backup may hold an older archive than its publisher where no digest is known. It is taken all
the same, for a fresh machine must not depend on the publisher; but what was taken is compared with
upstream by the next run, as any download is, and an archive that has changed is then fetched from
the publisher alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from imagenet_etl.build import Build
from imagenet_etl.download.asked import Asked, backup_url
from imagenet_etl.download.notes import Expected
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import (
    ArchiveError,
    ChecksumMismatch,
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    EtlError,
    SchemaTooNew,
    SourceError,
    SourceUnavailable,
)

log = logging.getLogger(__name__)

NOT_FROM_BACKUP = (CloudError, CloudUnavailable, SourceError, SourceUnavailable, ArchiveError,
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
        CloudNotFound, ChecksumMismatch: It has no such archive, or another one, and nobody else
            has it.
        BackupIncomplete, SchemaTooNew: The mark cannot be read.
        CloudError, CloudUnavailable: The bucket cannot be asked.
    """
    marked = backup_url(build, asked.facts.name)
    if not marked:
        return None
    from imagenet_etl.aws.s3_layout import backup_place  # noqa: PLC0415 - slow to import
    from imagenet_etl.aws.s3_marks import read_mark  # noqa: PLC0415 - slow to import

    place = backup_place(build.settings.s3_uri, build.facts.name)
    mark = read_mark(build.client("s3"), place, asked.facts.name)
    if mark is None:
        if asked.only_backup:
            raise _nobody_has(build, asked, marked)
        log.info(
            "download %s: %s is not there, so its publisher is asked", asked.facts.name, marked
        )
        return None
    url = place.uri(place.archive(mark.name, mark.sha256))
    packed = {name: mark.digests[f"packed_{name}"] for name in ("md5", "sha256")
              if f"packed_{name}" in mark.digests}  # fmt: skip
    known = packed or mark.digests
    if asked.expected.is_proof:
        _check_known(asked, url, None if packed else mark.size, known)
    elif not asked.only_backup and (asked.mark or mark.source != asked.shown):
        log.info("download %s: %s came from another source", asked.facts.name, url)
        return None
    md5 = "" if packed else asked.expected.md5
    # Any kind will do, since a digest of all of it decides.
    wanted = Wanted(asked.facts.name, url, "", mark.size)
    return BackedUp(wanted, Expected(mark.size, md5, mark.sha256), packed)


def tell_why_not(build: Build, asked: Asked, error: EtlError) -> None:
    """Warn that the publisher is asked, and why.

    Raises:
        EtlError: The error, where there is no publisher to go on with.
    """
    if asked.only_backup:
        raise error
    log.warning(
        "download %s: it cannot be had from the backup %s, so %s is asked: %s",
        asked.facts.name,
        build.settings.s3_uri,
        asked.shown,
        error,
    )


def _check_known(asked: Asked, url: str, size: int | None, digests: dict[str, str]) -> None:
    """Compare a mark with what the run demands, as far as the mark tells.

    Raises:
        ChecksumMismatch: It is another archive.
    """
    demanded = asked.expected
    if size is not None:
        demanded.check_size(url, size)
    for name in ("md5", "sha256"):
        wanted, found = getattr(demanded, name), digests.get(name)
        if wanted and found and wanted != found:
            raise ChecksumMismatch(
                f"{url} is another archive than the one that is asked for",
                expected=f"{name} {wanted}",
                found=found,
                remedy="Use another backup URI for it, or --no-from-backup",
            )


def _nobody_has(build: Build, asked: Asked, marked: str) -> CloudNotFound:
    return CloudNotFound(
        f"{asked.facts.name} sits behind a login, and the backup does not hold it",
        expected=marked,
        found="no such mark",
        remedy=f"Log in at {build.facts.terms_url}, download it, and pass "
        f"--source {asked.facts.name}=PATH",
    )
