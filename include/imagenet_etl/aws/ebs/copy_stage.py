"""Stage ``copy_snapshot``: a copy of the version's snapshot in every region that is asked for."""

from __future__ import annotations

from typing import Any

from imagenet_etl.aws.ebs.copies import copy_snapshot
from imagenet_etl.aws.ebs.patience import asking_at_most
from imagenet_etl.aws.ebs.snapshot_state import check_completed, described_snapshot, is_usable
from imagenet_etl.aws.ebs.tags import DatasetTags
from imagenet_etl.aws.ebs.waits import SNAPSHOT_DEADLINE_S
from imagenet_etl.build import Build
from imagenet_etl.config import Settings
from imagenet_etl.errors import StillPending
from imagenet_etl.receipts import Receipt
from imagenet_etl.stage import Place, Result


def why_no_copy(settings: Settings) -> str:
    """Return why no snapshot is copied; nothing when it was asked for."""
    if not settings.ebs_volume_id:
        return "no EBS volume id is set, so there is no snapshot to copy"
    return "" if settings.snapshot_regions else "no snapshot region is set, so nothing is copied"


def copy_snapshot_stage(place: Place) -> Result:
    """Copy the snapshot to every region that is asked for; done when all are completed.

    The facts of the receipt hold ``copies``, the snapshot ids by region.

    Raises:
        StillPending: Copies are under way; call again later.
        SnapshotFailed: One ended in an error, or its deadline is over.
        AccessDenied, CloudError: A region or a key cannot be used.
    """
    build, taken = place.build, place.done["snapshot_ebs"]
    home = taken.facts["region"]
    source = described_snapshot(build.client("ec2"), taken.facts["snapshot_id"])
    regions = copy_regions(build.settings, home)
    with asking_at_most(place, SNAPSHOT_DEADLINE_S):
        made = _all_copied(build, source, home, regions)
    return Result(
        counts={"copies": len(made)},
        outputs=(),
        facts={"copies": made},
        identity=" ".join(made.values()),
    )


def copies_are_there(build: Build, receipt: Receipt) -> bool:
    """Return whether every noted copy still exists and is complete; changes nothing."""
    if why_no_copy(build.settings):
        return False
    copies = receipt.facts["copies"].items()
    return all(is_usable(build.client("ec2", region), copy) for region, copy in copies)


def copy_regions(settings: Settings, home: str) -> list[str]:
    """Return the regions that get a copy: the snapshot's own only when that is under a key.

    Such a copy may be shared where the snapshot, under the account's default key, may not.
    """
    regions = settings.snapshot_regions
    return [region for region in regions if region != home or settings.snapshot_kms_key]


def _all_copied(
    build: Build, source: dict[str, Any], home: str, regions: list[str]
) -> dict[str, str]:
    """Return the ids of the completed copies by region; all are begun before any is waited for.

    Raises:
        StillPending: Some are under way.
        SnapshotFailed: One ended in an error, or its deadline is over.
    """
    made: dict[str, str] = {}
    waiting: list[StillPending] = []
    for region in regions:
        try:
            made[region] = _copied(source, home, build.client("ec2", region), build.settings)
        except StillPending as pending:
            waiting.append(pending)
    if waiting:
        raise StillPending(
            f"{len(waiting)} of {len(regions)} copies of {source['SnapshotId']} are under way",
            found="; ".join(map(str, waiting)),
            retry_after_s=max(pending.retry_after_s for pending in waiting),
        )
    return made


def _copied(source: dict[str, Any], home: str, ec2: Any, settings: Settings) -> str:
    """Return the id of the completed copy in the client's region; begin it if there is none.

    Raises:
        StillPending: It is under way.
        SnapshotFailed: It ended in an error, or its deadline is over.
    """
    snapshot = copy_snapshot(
        source,
        home,
        ec2,
        tags=DatasetTags.of(source).to_dict(),
        kms_key=settings.snapshot_kms_key,
    )
    check_completed(snapshot)
    return str(snapshot["SnapshotId"])
