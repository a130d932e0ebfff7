"""One snapshot a version, found again by its tags."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from tests.support.moto_server import MotoServer
from tests.unit.aws.conftest import with_settings

from imagenet_etl.build import Build
from imagenet_etl.errors import CloudNotFound, NothingToDo, SnapshotFailed, StillPending
from imagenet_etl.pipeline import run_stage

VOLUME = "vol-0123456789abcdef0"


@pytest.fixture
def volume(packed: Build, moto: MotoServer) -> Iterator[str]:
    ec2 = moto.client("ec2")
    yield ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    packed.storage.delete(f"{packed.work}/snapshot_ebs")


def snapshots(moto: MotoServer, volume: str) -> list[dict[str, Any]]:
    filters = [{"Name": "volume-id", "Values": [volume]}]
    return list(moto.client("ec2").describe_snapshots(Filters=filters)["Snapshots"])


def test_snapshot_is_created_and_tagged(packed: Build, moto: MotoServer, volume: str) -> None:
    build = with_settings(packed, moto.client, ebs_volume_id=volume)
    receipt = run_stage(build, "snapshot_ebs").receipt
    (snapshot,) = snapshots(moto, volume)
    assert receipt.facts == {"snapshot_id": snapshot["SnapshotId"], "volume_id": volume}
    tags = {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]}
    assert tags["imagenet-etl:dataset"] == "tiny_imagenet"
    assert tags["imagenet-etl:version"] == "v1"


def test_second_run_and_lost_receipt_find_the_one_that_is_there(
    packed: Build, moto: MotoServer, volume: str
) -> None:
    build = with_settings(packed, moto.client, ebs_volume_id=volume)
    run_stage(build, "snapshot_ebs")
    assert run_stage(build, "snapshot_ebs").reused
    packed.storage.delete(f"{packed.work}/snapshot_ebs")
    run_stage(build, "snapshot_ebs")
    assert len(snapshots(moto, volume)) == 1


def test_deleted_snapshot_is_taken_anew(packed: Build, moto: MotoServer, volume: str) -> None:
    build = with_settings(packed, moto.client, ebs_volume_id=volume)
    first = run_stage(build, "snapshot_ebs").receipt.facts["snapshot_id"]
    moto.client("ec2").delete_snapshot(SnapshotId=first)
    assert not run_stage(build, "snapshot_ebs").reused
    assert len(snapshots(moto, volume)) == 1


def test_missing_volume_is_named(packed: Build, moto: MotoServer) -> None:
    build = with_settings(packed, moto.client, ebs_volume_id=VOLUME)
    with pytest.raises(CloudNotFound, match=f"{VOLUME} does not exist"):
        run_stage(build, "snapshot_ebs")


def test_nothing_is_done_without_a_volume(packed: Build) -> None:
    with pytest.raises(NothingToDo, match="no EBS volume id"):
        run_stage(packed, "snapshot_ebs")


def found(packed: Build, moto: MotoServer, **fields: Any) -> Build:
    """Return a build whose account holds one snapshot of the volume, in some state."""
    ec2 = moto.client("ec2")
    stubber = Stubber(ec2)
    snapshot = {
        "SnapshotId": "snap-1", "VolumeSize": 8, "Progress": "40%",
        "StartTime": datetime.now(UTC), **fields,
    }  # fmt: skip
    expected = {"OwnerIds": ["self"], "Filters": ANY}
    stubber.add_response("describe_snapshots", {"Snapshots": [snapshot]}, expected)
    stubber.activate()
    return with_settings(packed, lambda _: ec2, ebs_volume_id=VOLUME)


def test_pending_snapshot_is_waited_for_and_not_created_again(
    packed: Build, moto: MotoServer
) -> None:
    with pytest.raises(StillPending, match=r"snap-1 of vol-\w+ is pending: found 40%"):
        run_stage(found(packed, moto, State="pending"), "snapshot_ebs")


def test_snapshot_in_error_tells_the_reason(packed: Build, moto: MotoServer) -> None:
    build = found(packed, moto, State="error", StateMessage="KMS key is disabled")
    with pytest.raises(SnapshotFailed, match="KMS key is disabled"):
        run_stage(build, "snapshot_ebs")


def test_snapshot_that_never_ends_meets_its_deadline(packed: Build, moto: MotoServer) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=25)
    with pytest.raises(SnapshotFailed, match=r"pending after 25\.0 h"):
        run_stage(found(packed, moto, State="pending", StartTime=long_ago), "snapshot_ebs")
