"""The end of a run: the version is announced, and archives that are no longer wanted are let go."""

from __future__ import annotations

import logging

from imagenet_etl.build import Build
from imagenet_etl.download.held import others_at_work
from imagenet_etl.download.release import release_archive
from imagenet_etl.download.sources import sources_of
from imagenet_etl.pipeline import find_receipt, receipts_up_to
from imagenet_etl.registry import Announcement, publish

log = logging.getLogger(__name__)


def publish_version(build: Build, *, announce: bool = False) -> Announcement:
    """Enter the verified version into the registry, then let archives go as the settings say.

    Args:
        build: The run's view of the dataset.
        announce: Whether the caller emits an event for a new version.

    Raises:
        StageNotDone: The version is not verified.
        SourceBusy: Another run has been holding the registry for half a minute.
    """
    verified = receipts_up_to(build, "verify")["verify"]
    backup = find_receipt(build, "back_up_to_s3")
    announced = publish(
        build, verified, backup, find_receipt(build, "snapshot_ebs"), announce=announce
    )
    keep = build.settings.keep_archives
    if keep == "never" or (keep == "after_backup" and backup is not None):
        _let_go(build)
    elif keep == "after_backup":
        log.info("publish: archives are kept, since the version is not backed up")
    return announced


def _let_go(build: Build) -> None:
    for source in sources_of(build).archives:
        # Looked at before each: a run may begin while a terabyte is being deleted.
        if others := others_at_work(build):
            log.info(
                "publish: archives are kept for now, since %s may read them; the next run with "
                "these settings lets them go",
                " and ".join(f"run {run!r}" for run in others),
            )
            return
        freed = release_archive(build, source.archive, source=source.place)
        if freed:
            log.info("publish: %s is let go, %s bytes", source.archive.name, f"{freed:,}")
