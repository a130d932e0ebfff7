"""Stage ``snapshot_ebs``: one snapshot of the data volume for one published version.

It looks by tag for what is there before it makes anything, so a lost reply, a lost receipt and a
second run all end with one snapshot.
"""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Any

from imagenet_etl.aws.ebs.device import Underlying, check_volume
from imagenet_etl.aws.ebs.freeze import frozen
from imagenet_etl.aws.ebs.once import looks
from imagenet_etl.aws.ebs.patience import asking_at_most
from imagenet_etl.aws.ebs.snapshot_state import (
    best_or_failed,
    check_completed,
    is_usable,
    mark_usable,
)
from imagenet_etl.aws.ebs.snapshots import create_snapshot, find_snapshots
from imagenet_etl.aws.ebs.tags import MANIFEST, PATH, UNUSABLE, DatasetTags, tags_of
from imagenet_etl.aws.ebs.waits import SNAPSHOT_DEADLINE_S
from imagenet_etl.build import Build
from imagenet_etl.config import Settings
from imagenet_etl.errors import CloudUnavailable
from imagenet_etl.receipts import Receipt
from imagenet_etl.stage import Place, Result

log = logging.getLogger(__name__)

_MAX_TAG = 256


def why_no_snapshot(settings: Settings) -> str:
    """Return why no snapshot is taken; nothing when one was asked for."""
    return "" if settings.ebs_volume_id else "no EBS volume id is set, so no snapshot is taken"


def snapshot_ebs(place: Place) -> Result:
    """Find or create the snapshot of the data volume; done when it is completed.

    The facts of the receipt hold ``snapshot_id``, ``volume_id``, ``region`` and ``path``, the
    version's folder relative to the root of the volume.

    Raises:
        WrongVolume: The data folder does not lie on the volume.
        StillPending: It is under way; call again later.
        SnapshotFailed: It ended in an error, or its deadline is over.
        FreezeFailed: The file system could not be frozen, or not for long enough.
        CloudNotFound, AccessDenied: The volume cannot be used.
    """
    build, verified = place.build, place.done["verify"]
    volume = build.settings.ebs_volume_id
    ec2 = build.client("ec2")
    folder = Path(verified.facts["path"])
    under = check_volume(folder, volume)
    tags = DatasetTags(
        build.facts.name,
        verified.facts["version"],
        verified.facts["manifest_sha256"],
        _tag_value(under.path_on_volume(folder)),
    )
    with asking_at_most(place, SNAPSHOT_DEADLINE_S):
        found = find_snapshots(ec2, {MANIFEST: tags.manifest_sha256}, volume_id=volume)
        snapshot = best_or_failed(ec2, found) or _begun(build, ec2, under, tags)
        check_completed(snapshot)
    return Result(
        counts={"volume_gib": snapshot["VolumeSize"]},
        outputs=(),
        facts={
            "snapshot_id": snapshot["SnapshotId"],
            "volume_id": volume,
            "region": ec2.meta.region_name,
            # One that is found may be older than the folder's last move.
            "path": tags_of(snapshot).get(PATH, tags.path),
        },
        identity=snapshot["SnapshotId"],
    )


def snapshot_is_there(build: Build, receipt: Receipt) -> bool:
    """Return whether the noted snapshot still exists and is complete; changes nothing."""
    if why_no_snapshot(build.settings):
        return False
    return is_usable(build.client("ec2"), receipt.facts["snapshot_id"])


def _begun(build: Build, ec2: Any, under: Underlying, tags: DatasetTags) -> dict[str, Any]:
    """Flush, freeze if asked to, and begin the snapshot."""
    volume = build.settings.ebs_volume_id
    description = tags.description()
    # A snapshot holds what was written to the volume, not what is still in memory.
    build.storage.flush(build.published)
    if not build.settings.freeze:
        return create_snapshot(ec2, volume, description=description, tags=tags.to_dict())
    # Whoever dies while it is frozen leaves a snapshot that nobody vouches for.
    unsure = {UNUSABLE: f"not seen to have begun while frozen {uuid.uuid4().hex[:8]}"}
    snapshot = create_snapshot(
        ec2,
        volume,
        description=description,
        tags=tags.to_dict() | unsure,
        held=frozen(Path(under.mount_point)),
    )
    _vouch_for(ec2, snapshot["SnapshotId"])
    return snapshot


def _vouch_for(ec2: Any, snapshot_id: str) -> None:
    """Take the mark off a snapshot that has begun while frozen.

    Raises:
        CloudUnavailable: EC2 does not answer, for a while now; the next try takes another one.
    """
    for _ in looks():
        try:
            return mark_usable(ec2, snapshot_id)
        except CloudUnavailable as error:
            silence = error
    raise CloudUnavailable(
        f"snapshot {snapshot_id} is good, but the mark {UNUSABLE} cannot be taken off it",
        found=str(silence),
        remedy="Delete it: the next try takes another one",
    ) from silence


def _tag_value(path: str) -> str:
    """Return a path as a tag can hold it; empty when it is too long."""
    if len(path) <= _MAX_TAG:
        return path
    log.warning("path %s is too long for a tag: whoever mounts the snapshot has to know it", path)
    return ""
