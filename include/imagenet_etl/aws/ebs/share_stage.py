"""Stage ``share_snapshot``: other accounts may use the version's snapshot and its copies."""

from __future__ import annotations

from typing import Any

from imagenet_etl.aws.ebs.copies import find_copies
from imagenet_etl.aws.ebs.copy_stage import copy_regions
from imagenet_etl.aws.ebs.sharing import check_sharing, share_snapshot, shared_with
from imagenet_etl.aws.ebs.snapshot_state import (
    best_snapshot,
    check_completed,
    described_snapshot,
    is_usable,
)
from imagenet_etl.build import Build
from imagenet_etl.config import Settings
from imagenet_etl.errors import StageNotDone
from imagenet_etl.receipts import Receipt
from imagenet_etl.stage import Place, Result


def why_not_shared(settings: Settings) -> str:
    """Return why no snapshot is shared; nothing when it was asked for."""
    if not settings.ebs_volume_id:
        return "no EBS volume id is set, so there is no snapshot to share"
    return "" if settings.share_with else "no account is named, so nothing is shared"


def share_snapshot_stage(place: Place) -> Result:
    """Share the snapshot and its copies with the accounts that are named.

    Where its own region has a copy under a key, that is shared in the snapshot's place.

    The facts of the receipt hold ``shared``, the snapshot ids by region, and ``accounts``.

    Raises:
        SharingRefused: One of them must not, or cannot, be shared; then none was.
        StageNotDone: A region lacks its copy.
        StillPending: A copy is under way.
        AccessDenied, CloudError: EC2 or KMS refuses.
    """
    build, taken = place.build, place.done["snapshot_ebs"]
    settings, home = build.settings, taken.facts["region"]
    chosen = {home: described_snapshot(build.client("ec2", home), taken.facts["snapshot_id"])}
    for region in copy_regions(settings, home):
        chosen[region] = _copy_in(build, region, taken.facts["snapshot_id"])
    clients = {region: (build.client("ec2", region), build.client("kms", region))
               for region in chosen}  # fmt: skip
    for region, snapshot in chosen.items():
        check_sharing(
            *clients[region],
            snapshot,
            settings.share_with,
            accept_licence=settings.accept_licence,
        )
    added = [
        f"{region} {account}"
        for region, snapshot in chosen.items()
        for account in share_snapshot(
            *clients[region],
            snapshot,
            settings.share_with,
            accept_licence=settings.accept_licence,
        )
    ]
    shared = {region: snapshot["SnapshotId"] for region, snapshot in chosen.items()}
    return Result(
        counts={"snapshots": len(shared), "accounts": len(settings.share_with)},
        outputs=(),
        facts={"shared": shared, "accounts": list(settings.share_with), "added": added},
        identity=" ".join(shared.values()),
    )


def shares_are_there(build: Build, receipt: Receipt) -> bool:
    """Return whether the accounts may still use every noted snapshot; changes nothing."""
    if why_not_shared(build.settings):
        return False
    for region, identifier in receipt.facts["shared"].items():
        ec2 = build.client("ec2", region)
        if not is_usable(ec2, identifier):
            return False
        owner = described_snapshot(ec2, identifier).get("OwnerId")
        if not set(receipt.facts["accounts"]) - {owner} <= shared_with(ec2, identifier):
            return False
    return True


def _copy_in(build: Build, region: str, source: str) -> dict[str, Any]:
    ec2 = build.client("ec2", region)
    copy = best_snapshot(find_copies(ec2, source, build.settings.snapshot_kms_key))
    if copy is None:
        raise StageNotDone(
            f"snapshot {source} has no copy in {region} that could be shared",
            remedy="Run copy_snapshot first",
        )
    check_completed(copy)
    return copy
