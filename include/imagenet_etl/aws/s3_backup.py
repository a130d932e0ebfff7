"""Stage ``back_up_to_s3``: a published version, the archives it was made from, or both.

Objects are create-only and carry their SHA-256 as metadata. What tells that a part of the backup is
complete goes last: ``manifest.json`` of a version, ``<name>.backup.json`` of an archive and
``receipt.json`` of an image index. See ``s3_layout`` for where everything is.
"""

from __future__ import annotations

import logging
from typing import Any

from imagenet_etl.aws.s3_bucket import Bucket, object_options
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.aws.s3_plan import BackupPlan, plan_backup
from imagenet_etl.aws.s3_send import Sender, Sent
from imagenet_etl.aws.s3_upload import Sending
from imagenet_etl.aws.s3_watch import watched
from imagenet_etl.build import Build
from imagenet_etl.config import Settings
from imagenet_etl.errors import NothingToDo
from imagenet_etl.manifest import MANIFEST
from imagenet_etl.progress import metered
from imagenet_etl.receipts import Receipt
from imagenet_etl.stage import Place, Result

log = logging.getLogger(__name__)

BACKUP_SETTINGS = ("s3_uri", "back_up")
"""What decides the result; storage class, key and tags only bear on what has yet to be sent."""


def why_no_backup(settings: Settings) -> str:
    """Return why there is nothing to back up; nothing when there is."""
    if not settings.s3_uri:
        return "no S3 URI is set, so nothing is backed up"
    return "" if settings.back_up else "neither the dataset nor its archives are to be backed up"


def back_up_to_s3(place: Place, sending: Sending | None = None) -> Result:
    """Upload what the bucket does not hold yet.

    The facts of the receipt hold ``uri``, where the version is or would be; ``manifest_etag``, if
    it was asked for; ``marks``, the ETag of each commit mark by key; ``uploaded`` and ``skipped``,
    in files; and ``report``, with what else there is to tell, retries among it.

    Args:
        place: The stage's place.
        sending: How files are sent, in place of what the settings say.

    Raises:
        NothingToDo: No S3 URI is set.
        CloudNotFound, AccessDenied, ClockSkewed: The bucket cannot be used.
        BackupConflict: A key holds something else; nothing was overwritten.
        BackupIncomplete: An archive is neither on this machine nor in the bucket.
        DatasetDamaged: A file is not what its digest says.
        CloudUnavailable: S3 fails beyond the client's retries; the next run goes on.
    """
    build = place.build
    if reason := why_no_backup(build.settings):
        raise NothingToDo(reason)
    where = backup_place(build.settings.s3_uri, build.facts.name)
    bucket = Bucket(build.client("s3"), where.bucket)
    with watched(bucket.client) as watch:
        plan = plan_backup(place, bucket)
        with metered("back_up_to_s3", plan.bytes_to_send, "B") as meter:
            sender = Sender(build, bucket, plan, sending or sending_of(build.settings, meter.add))
            sender.run()
        marks = _marks(bucket, plan)
    report = _report(plan, sender.sent, watch.retries)
    version = where.version(place.done["verify"].facts["version"])
    return Result(
        counts={"files": len(plan.files), "bytes": sum(file.size for file in plan.files)},
        outputs=(),
        facts={
            "uri": where.uri(version),
            "manifest_etag": marks.get(f"{version}/{MANIFEST}", ""),
            "marks": marks,
            "uploaded": sender.sent.files,
            "skipped": sum(plan.skipped.values()),
            "report": report,
        },
    )


def sending_of(settings: Settings, sent: Any = lambda _size: None) -> Sending:
    """Return how the settings ask files to be sent; ``sent`` is told the bytes that arrive."""
    return Sending(
        connections=settings.s3_connections,
        mib_per_s=settings.s3_mib_per_s,
        options=object_options(settings),
        sent=sent,
    )


def backup_is_there(build: Build, receipt: Receipt) -> bool:
    """Return whether the commit marks are still those that were written; a HEAD for each."""
    if not build.settings.s3_uri:
        return False
    where = backup_place(build.settings.s3_uri, build.facts.name)
    bucket = Bucket(build.client("s3"), where.bucket)
    for key, etag in receipt.facts["marks"].items():
        stored = bucket.head(key)
        if stored is None or stored.etag != etag:
            return False
    return True


def _marks(bucket: Bucket, plan: BackupPlan) -> dict[str, str]:
    place = plan.contents.place
    keys = [place.archive_mark(mark.name) for _, mark in plan.contents.archives]
    keys += [file.key for file in plan.files if file.is_mark]
    heads = {key: bucket.head(key) for key in keys}
    return {key: head.etag for key, head in heads.items() if head is not None}


def _report(plan: BackupPlan, sent: Sent, retries: int) -> dict[str, Any]:
    for name, why in plan.contents.left_out.items():
        log.warning("back_up_to_s3: %s is left out: %s", name, why)
    for why, count in plan.skipped.items():
        log.info("back_up_to_s3: %s files skipped: %s", f"{count:,}", why)
    log.info(
        "back_up_to_s3: %s files sent, %s bytes, %s retries",
        f"{sent.files:,}", f"{sent.bytes:,}", f"{retries:,}",
    )  # fmt: skip
    return {
        "sent_files": sent.files,
        "sent_bytes": sent.bytes,
        "sent_marks": [mark.name for mark in plan.marks],
        "skipped": plan.skipped,
        "left_out": plan.contents.left_out,
        "retries": retries,
        "resumed_parts": sent.resumed_parts,
        "aborted_uploads": sent.aborted_uploads,
    }
