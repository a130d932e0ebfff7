"""The transfer of one archive to its partial file, and the check of what arrived."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from imagenet_etl.build import Build
from imagenet_etl.download.notes import Expected
from imagenet_etl.download.transfer import Job
from imagenet_etl.errors import ChecksumMismatch, StillPending
from imagenet_etl.progress import Meter, metered

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrived:
    """What is in a partial file that is complete and checked.

    Attributes:
        digests: Of its content.
        count: How many bytes were fetched for it.
        validator: What upstream is asked about later. A backup's ETags are not its publisher's.
    """

    digests: dict[str, str]
    count: int
    validator: str


def fetch_verified(build: Build, job: Job, expected: Expected) -> Arrived:
    """Complete the partial file and check it; one clean retry is given to wrong content."""
    wanted, part = job.wanted, job.part
    count = part.fetched_of(wanted.shown)
    while True:
        with metered(f"download {wanted.name}", wanted.size or 0, "B") as meter:
            _transfer(build, job, meter)
            count += meter.bytes
        digests = _digests(job, expected)
        try:
            expected.check(wanted.shown, part.size, digests)
        except ChecksumMismatch as error:
            aside = part.set_aside()
            if part.past.mismatches > 1:
                part.discard()  # the next run may try as often
                if aside is not None:
                    error.remedy = f"What arrived is kept as {aside}. {error.remedy}"
                raise
            kept = "" if aside is None else f"until it is right, this is kept as {aside}; "
            log.warning("%s; %sonce more", error, kept)
        else:
            validator = part.remote.validator if part.remote else ""
            return Arrived(digests, count, validator)


def _transfer(build: Build, job: Job, meter: Meter) -> None:
    """Complete the partial file from wherever it comes."""
    from imagenet_etl.download import http, s3  # noqa: PLC0415 - slow to import

    if job.wanted.is_s3:
        s3.fetch(build, job, meter)
    else:
        http.fetch(job, meter)


def _digests(job: Job, expected: Expected) -> dict[str, str]:
    """Return the digests of a complete partial file.

    Raises:
        StillPending: To read it back may take longer than is left of the slice.
    """
    part, name = job.part, job.wanted.name
    if not part.must_be_read_back:
        return part.digests(expected.algorithms)
    if not job.pace.slice.has_time_to_read(part.size):
        raise StillPending(
            f"download {name}: all {part.size:,} bytes are there; the next slice checks them"
        )
    with metered(f"check {name}", part.size, "B") as meter:
        return part.digests(expected.algorithms, lambda count: meter.add(count, count))
