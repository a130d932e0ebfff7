"""Stage ``back_up_to_s3``: a published version, the archives it was made from, or both.

Objects are create-only and carry their SHA-256 as metadata. What tells that a part of the backup is
complete goes last: ``manifest.json`` of a version, ``<digest>.backup.json`` of an archive and
``receipt.json`` of an image index. See ``s3_layout`` for where everything is.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from imagenet_etl.aws.s3_bucket import Bucket, object_options
from imagenet_etl.aws.s3_catalog import check_not_removing
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.aws.s3_plan import INDEX, INDEXED, SAME, SEEN, BackupPlan, ledger_of, plan_backup
from imagenet_etl.aws.s3_send import Sender, Sent
from imagenet_etl.aws.s3_upload import Sending
from imagenet_etl.aws.s3_watch import Watch, watched
from imagenet_etl.aws.s3_whole import all_there
from imagenet_etl.build import Build
from imagenet_etl.config import Settings
from imagenet_etl.errors import CloudUnavailable, NothingToDo
from imagenet_etl.manifest import MANIFEST
from imagenet_etl.progress import metered
from imagenet_etl.receipts import Receipt
from imagenet_etl.stage import Place, Result

log = logging.getLogger(__name__)

BACKUP_SETTINGS = ("s3_uri", "back_up")
"""What decides the result; storage class, key and tags only bear on what has yet to be sent."""

_SENT_SCHEMA = 2


def why_no_backup(settings: Settings) -> str:
    """Return why there is nothing to back up; nothing when there is."""
    if not settings.s3_uri:
        return "no S3 URI is set, so nothing is backed up"
    if settings.is_in_bucket:
        return f"{settings.data_dir} is in a bucket already; versioning or replication guard that"
    return "" if settings.back_up else "neither the dataset nor its archives are to be backed up"


def back_up_to_s3(place: Place, sending: Sending | None = None) -> Result:
    """Upload what the bucket does not hold yet.

    The facts of the receipt hold ``uri``, where the version is or would be; ``manifest_etag``, if
    it was asked for; ``marks``, the ETag of each commit mark by key; ``uploaded`` and ``skipped``,
    in files; ``noted``, how many of each group are in the ledger; and ``report``, with what else
    there is to tell, retries among it.

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
        StillPending: This go's time is up; the next one sends the other files.
    """
    build = place.build
    if reason := why_no_backup(build.settings):
        raise NothingToDo(reason)
    where = backup_place(build.settings.s3_uri, build.facts.name)
    bucket = Bucket(build.client("s3"), where.bucket)
    name = place.done["verify"].facts["version"]
    check = partial(check_not_removing, bucket.client, where, name)
    with watched(bucket.client) as watch:
        # What prune deletes after the listing would be missing in the end.
        wanted = partial(check, check())
        plan = plan_backup(place, bucket)
        with metered("back_up_to_s3", plan.bytes_to_send, "B") as meter:
            how = sending or sending_of(build.settings, meter.add)
            sender = Sender(build, bucket, plan, how, wanted)
            with _in_goes(place, sender, watch) as earlier:
                sender.run()
                marks = _marks(bucket, plan)
    report = _report(plan, sender.sent, earlier)
    return _result(plan, where.version(name), marks, report)


@contextmanager
def _in_goes(place: Place, sender: Sender, watch: Watch) -> Iterator[Sent]:
    """Let a sender count on from what earlier goes have sent, which is yielded.

    A go that ends in any error, short of a kill, notes what it has sent for the next one.
    """
    build, key = place.build, f"{place.base}/sent.json"
    noted = json.loads(build.storage.read(key) or b"{}") if build.slice_s is not None else {}
    ours = {"schema_version": _SENT_SCHEMA, "run": build.owner.run}
    is_ours = noted.items() >= ours.items()
    earlier = Sent(**noted["sent"]) if is_ours else Sent()
    sender.sent = replace(earlier)
    try:
        yield earlier
    except BaseException:
        if build.slice_s is not None:
            sender.sent.retries += watch.retries
            build.storage.put(key, json.dumps(ours | {"sent": asdict(sender.sent)}).encode())
        raise
    sender.sent.retries += watch.retries
    if build.slice_s is not None:
        build.storage.remove(key)


def _result(
    plan: BackupPlan, version: str, marks: dict[str, str], report: dict[str, Any]
) -> Result:
    return Result(
        counts={
            "files": sum(work.files for work in plan.groups),
            "bytes": sum(work.bytes for work in plan.groups),
        },
        outputs=(),
        facts={
            "uri": plan.contents.place.uri(version),
            "manifest_etag": marks.get(f"{version}/{MANIFEST}", ""),
            "marks": marks,
            "uploaded": report["sent_files"],
            "skipped": sum(report["skipped"].values()),
            "noted": {work.group.name: work.ledger.count() for work in plan.groups},
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
    marks = receipt.facts["marks"]
    if not build.settings.s3_uri or not marks:
        return False
    where = backup_place(build.settings.s3_uri, build.facts.name)
    bucket = Bucket(build.client("s3"), where.bucket)
    for key, etag in marks.items():
        stored = bucket.head(key)
        if stored is None or stored.etag != etag:
            return False
    return True


def backup_is_whole(build: Build, receipt: Receipt) -> bool:
    """Return whether a listing shows every object that was noted, by size and ETag.

    It costs a request for each thousand objects.
    """
    where = backup_place(build.settings.s3_uri, build.facts.name)
    bucket, uri = Bucket(build.client("s3"), where.bucket), receipt.facts["uri"]
    version = uri.removeprefix(where.uri(""))
    for group, count in receipt.facts["noted"].items():
        prefix = f"{version}/" if group == "version" else where.archives
        if not all_there(bucket, prefix, ledger_of(build, uri, group), count):
            return False
    return True


def _marks(bucket: Bucket, plan: BackupPlan) -> dict[str, str]:
    place, left_out = plan.contents.place, plan.contents.left_out
    keys = [place.archive_mark(mark.name, mark.sha256) for mark in plan.contents.archives]
    keys += [
        work.group.mark.key
        for work in plan.groups
        if work.group.mark is not None and not (work.group.name == "index" and INDEX in left_out)
    ]
    marks = {}
    for key in keys:
        stored = bucket.head(key)
        if stored is None:
            raise CloudUnavailable(
                f"{place.uri(key)} was listed or written, but is not there",
                remedy="Run again; is something removing objects from this prefix?",
            )
        marks[key] = stored.etag
    return marks


def _skipped(plan: BackupPlan, sent: Sent, earlier: Sent) -> Counter[str]:
    """Count what no go had to send: to this plan, what earlier ones sent was there before."""
    skipped = Counter(plan.skipped)
    left = earlier.files + earlier.taken
    for why in (SEEN, INDEXED, SAME):
        known = min(left, skipped[why])
        skipped[why] -= known
        left -= known
    return +(skipped + Counter({SAME: sent.taken}))


def _report(plan: BackupPlan, sent: Sent, earlier: Sent) -> dict[str, Any]:
    for name, why in plan.contents.left_out.items():
        log.warning("back_up_to_s3: %s is left out: %s", name, why)
    skipped = _skipped(plan, sent, earlier)
    for why, count in skipped.items():
        log.info("back_up_to_s3: %s files skipped: %s", f"{count:,}", why)
    log.info(
        "back_up_to_s3: %s files sent, %s bytes, %s retries",
        f"{sent.files:,}", f"{sent.bytes:,}", f"{sent.retries:,}",
    )  # fmt: skip
    return {
        "sent_files": sent.files,
        "sent_bytes": sent.bytes,
        "sent_marks": sent.marks,
        "skipped": dict(skipped),
        "left_out": plan.contents.left_out,
        "retries": sent.retries,
        "resumed_parts": sent.resumed_parts,
        "aborted_uploads": sent.aborted_uploads,
    }
