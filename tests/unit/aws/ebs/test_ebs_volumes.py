"""Volumes are made once and only ours are deleted; wrong requests are told before the call."""

from typing import Any

import pytest
from tests.unit.aws.ebs.conftest import TAGS

from imagenet_etl.aws.ebs.attachments import attach_volume
from imagenet_etl.aws.ebs.snapshots import create_snapshot
from imagenet_etl.aws.ebs.tags import DEPLOYMENT, TOKEN, tags_of
from imagenet_etl.aws.ebs.volumes import VolumeRequest, create_volume, delete_volume
from imagenet_etl.aws.ebs.waits import described_volume, volume_progress
from imagenet_etl.errors import CloudNotFound, ConfigError, VolumeFailed, WrongVolume

ZONE = "us-east-1a"
EMPTY = VolumeRequest(ZONE, size_gib=10)


def test_volume_of_a_snapshot_has_its_size_and_tags(ec2: Any, volume: str) -> None:
    snapshot = create_snapshot(ec2, volume, description="", tags=TAGS)["SnapshotId"]
    request = VolumeRequest(ZONE, snapshot, iops=4000, throughput_mib_s=500, tags=TAGS)
    made = described_volume(ec2, create_volume(ec2, request, "deploy-1"))
    assert (made["Size"], made["SnapshotId"], made["VolumeType"]) == (8, snapshot, "gp3")
    assert (made["Iops"], made["Throughput"]) == (4000, 500)
    assert tags_of(made) == TAGS | {DEPLOYMENT: "deploy-1", TOKEN: "deploy-1"}


def test_same_token_gives_the_same_volume(ec2: Any) -> None:
    first = create_volume(ec2, EMPTY, "deploy-1")
    assert create_volume(ec2, EMPTY, "deploy-1") == first
    assert create_volume(ec2, EMPTY, "deploy-2") != first


def test_one_deployment_may_have_several_volumes(ec2: Any) -> None:
    request = VolumeRequest(ZONE, size_gib=10, tags={DEPLOYMENT: "run-1"})
    made = [create_volume(ec2, request, f"run-1/{number}") for number in range(2)]
    assert len(set(made)) == 2
    assert all(tags_of(described_volume(ec2, item))[DEPLOYMENT] == "run-1" for item in made)


def test_deleted_volume_is_made_anew(ec2: Any) -> None:
    first = create_volume(ec2, EMPTY, "deploy-1")
    delete_volume(ec2, first)
    assert create_volume(ec2, EMPTY, "deploy-1") != first


def test_key_asks_for_encryption() -> None:
    parameters = VolumeRequest(ZONE, "snap-1", kms_key="alias/data").parameters()
    assert parameters == {
        "AvailabilityZone": ZONE, "SnapshotId": "snap-1", "VolumeType": "gp3",
        "KmsKeyId": "alias/data", "Encrypted": True,
    }  # fmt: skip


def test_missing_snapshot_is_named(ec2: Any) -> None:
    with pytest.raises(CloudNotFound, match="snap-0123456789abcdef0 does not exist"):
        create_volume(ec2, VolumeRequest(ZONE, "snap-0123456789abcdef0"), "deploy-1")


def test_missing_volume_is_deleted_already(ec2: Any) -> None:
    delete_volume(ec2, "vol-0123456789abcdef0")


def test_volume_of_somebody_else_is_not_deleted(ec2: Any, volume: str) -> None:
    with pytest.raises(WrongVolume, match="was not made by a deployment"):
        delete_volume(ec2, volume)
    assert volume_progress(ec2, volume).done


def test_attached_volume_is_not_deleted(ec2: Any, instance: str) -> None:
    made = create_volume(ec2, EMPTY, "deploy-1")
    attach_volume(ec2, made, instance)
    with pytest.raises(VolumeFailed, match=f"since it is attached: found attached to {instance}"):
        delete_volume(ec2, made)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "a size, or a snapshot"),
        ({"size_gib": 10, "volume_type": "gp9"}, "gp3 or gp2"),
        ({"size_gib": 70_000}, "1 to 65,536"),
        ({"size_gib": 100, "volume_type": "st1"}, "125 to 16,384"),
        ({"size_gib": 1000, "iops": 2999}, "3,000 to 80,000"),
        ({"size_gib": 1000, "iops": 80_001}, "3,000 to 80,000"),
        ({"size_gib": 10, "iops": 6000}, "at most 5000 with 10 GiB"),
        ({"size_gib": 10, "volume_type": "gp2", "iops": 3000}, "gp2 takes none"),
        ({"size_gib": 10, "volume_type": "io2"}, "a number, which io2 needs"),
        ({"size_gib": 10, "throughput_mib_s": 124}, "125 to 2,000"),
        ({"size_gib": 10, "throughput_mib_s": 1000}, "at most 750 with 3000 IOPS"),
        ({"size_gib": 10, "volume_type": "io1", "iops": 100, "throughput_mib_s": 200}, "for gp3"),
        ({"size_gib": 10, "initialization_mib_s": 200}, "a snapshot to fetch"),
        ({"snapshot_id": "snap-1", "initialization_mib_s": 301}, "100 to 300"),
        ({"size_gib": 1, "availability_zone": ""}, "a zone such as us-east-1a"),
    ],
)
def test_wrong_request_is_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        VolumeRequest(**{"availability_zone": ZONE} | wrong)


@pytest.mark.parametrize(
    "right",
    [
        {"size_gib": 1, "iops": 3000},
        {"size_gib": 65_536, "iops": 80_000, "throughput_mib_s": 2000},
        {"snapshot_id": "snap-1", "iops": 16_000, "initialization_mib_s": 300},
        {"size_gib": 16_384, "volume_type": "io1", "iops": 64_000},
        {"size_gib": 125, "volume_type": "sc1"},
    ],
)
def test_limits_themselves_are_allowed(right: dict[str, Any]) -> None:
    assert VolumeRequest(ZONE, **right).parameters()["AvailabilityZone"] == ZONE
