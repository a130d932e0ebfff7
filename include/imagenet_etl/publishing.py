"""The end of a run: the version is announced, and archives that are no longer wanted are let go."""

from __future__ import annotations

import logging

from imagenet_etl.build import Build
from imagenet_etl.claims import check_unclaimed
from imagenet_etl.costs import left_behind
from imagenet_etl.datastore.prune_report import PruneReport
from imagenet_etl.datastore.store import datastore_of
from imagenet_etl.download.held import others_at_work
from imagenet_etl.download.release import release_archive
from imagenet_etl.download.sources import sources_of
from imagenet_etl.errors import NothingToDo
from imagenet_etl.pipeline import find_receipt, receipts_up_to
from imagenet_etl.preflight.on_volume import archives_found
from imagenet_etl.pruning import prune_versions
from imagenet_etl.receipts import Receipt
from imagenet_etl.registry import Announcement, Copies, publish

log = logging.getLogger(__name__)


def publish_version(build: Build, *, announce: bool = False) -> Announcement:
    """Enter the verified version into the registry, then let archives go as the settings say.

    Args:
        build: The run's view of the dataset.
        announce: Whether the caller emits an event for a new version.

    Raises:
        StageNotDone: The version is not verified.
        AlreadyRunning: Another run holds the version by its name, to remove it or to build it.
        SourceBusy: Another run has been holding the registry for half a minute.
        CloudError, CloudUnavailable: The bucket's catalog cannot be written.
    """
    verified = receipts_up_to(build, "verify")["verify"]
    check_unclaimed(build, verified.facts["version"])
    # What prune may have removed until then is no longer done.
    done = receipts_up_to(build, "verify")
    snapshot = find_receipt(build, "snapshot_ebs", done)
    made = done if snapshot is None else done | {"snapshot_ebs": snapshot}
    copies = Copies(
        backup=find_receipt(build, "back_up_to_s3", made),
        snapshot=snapshot,
        copied=find_receipt(build, "copy_snapshot", made),
        shared=find_receipt(build, "share_snapshot", made),
    )
    announced = publish(build, done["verify"], copies, announce=announce)
    _tell_costs(build, announced.entry["bytes"], done["download"])
    keep = build.settings.keep_archives
    why = _not_backed_up(build, copies) if keep == "after_backup" else ""
    if why:
        log.info("publish: archives are kept, since %s", why)
    elif keep != "always":
        _let_go(build)
    return announced


def prune_old_versions(build: Build) -> PruneReport:
    """Remove versions that are older than the newest ones, or tell which, as the settings say.

    Args:
        build: The run's view of the dataset; its own version stays.

    Raises:
        NothingToDo: All versions are to be kept.
        CloudError, CloudUnavailable: AWS refuses or fails; the next run goes on.
    """
    settings, verified = build.settings, find_receipt(build, "verify")
    if not settings.keep_versions:
        raise NothingToDo("keep_versions is 0, so all versions are kept")
    return prune_versions(
        datastore_of(build),
        settings.keep_versions,
        really=settings.prune,
        spare=verified.facts["version"] if verified is not None else "",
    )


def _tell_costs(build: Build, size: int, downloaded: Receipt) -> None:
    archive_bytes, on_volume = downloaded.counts["archive_bytes"], 0
    if build.settings.ebs_volume_id:
        on_volume = archives_found(build, downloaded)
    for line in left_behind(size, build.settings, archive_bytes, on_volume):
        log.info("publish: %s", line)


def _not_backed_up(build: Build, copies: Copies) -> str:
    """Return why the archives count as not backed up; nothing when they are.

    A receipt of a backup tells nothing of them unless they were asked for.
    """
    if "archives" not in build.settings.back_up:
        return (
            "the backup is not of them; back them up as well "
            "(--back-up dataset --back-up archives), or let them go without (--keep-archives never)"
        )
    return "" if copies.backup is not None else "they are not backed up"


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
