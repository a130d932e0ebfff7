"""Snapshots are found by their tags, or made."""

from typing import Any

import pytest
from tests.unit.aws.ebs.conftest import TAGS

from imagenet_etl.aws.ebs.snapshot_state import (
    best_or_failed,
    is_usable,
    mark_unusable,
    mark_usable,
)
from imagenet_etl.aws.ebs.snapshots import create_snapshot, find_snapshots
from imagenet_etl.aws.ebs.tags import UNUSABLE, VERSION, tags_of
from imagenet_etl.errors import CloudNotFound, ConfigError, SnapshotFailed


def made(ec2: Any, volume: str, **changes: str) -> dict[str, Any]:
    return create_snapshot(ec2, volume, description="for a test", tags=TAGS | changes)


def test_one_is_made_with_its_tags(ec2: Any, volume: str) -> None:
    snapshot = made(ec2, volume)
    assert snapshot["State"] == "completed"
    assert tags_of(snapshot) == TAGS


def test_second_call_finds_the_first_snapshot(ec2: Any, volume: str) -> None:
    assert made(ec2, volume)["SnapshotId"] == made(ec2, volume)["SnapshotId"]


def test_name_that_somebody_changed_does_not_matter(ec2: Any, volume: str) -> None:
    first = made(ec2, volume)["SnapshotId"]
    ec2.create_tags(Resources=[first], Tags=[{"Key": "Name", "Value": "keep this one"}])
    assert made(ec2, volume)["SnapshotId"] == first


def test_other_tags_and_other_volumes_get_their_own(ec2: Any, volume: str) -> None:
    another = ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    snapshots = [made(ec2, volume), made(ec2, another), made(ec2, volume, **{VERSION: "v2"})]
    assert len({item["SnapshotId"] for item in snapshots}) == 3


def test_nothing_is_made_without_a_tag_to_find_it_by(ec2: Any, volume: str) -> None:
    with pytest.raises(ConfigError, match="one tag at least"):
        create_snapshot(ec2, volume, description="", tags={"Name": "mine"})


def test_wildcards_in_a_tag_stand_for_themselves(ec2: Any, volume: str) -> None:
    made(ec2, volume, **{VERSION: "v10"})
    assert find_snapshots(ec2, {VERSION: "v1*"}) == []


def test_unusable_ones_are_not_found_until_the_mark_is_gone(ec2: Any, volume: str) -> None:
    identifier = made(ec2, volume)["SnapshotId"]
    mark_unusable(ec2, identifier, "thawed too early")
    assert find_snapshots(ec2, TAGS) == []
    assert not is_usable(ec2, identifier)
    assert len(find_snapshots(ec2, TAGS | {UNUSABLE: "thawed too early"})) == 1
    mark_usable(ec2, identifier)
    assert is_usable(ec2, identifier)


def test_missing_volume_is_named(ec2: Any) -> None:
    with pytest.raises(CloudNotFound, match="vol-0123456789abcdef0 does not exist"):
        made(ec2, "vol-0123456789abcdef0")


def test_failure_is_told_once_and_then_left_alone(ec2: Any, volume: str) -> None:
    snapshot = made(ec2, volume) | {"State": "error", "StateMessage": "KMS key is disabled"}
    with pytest.raises(SnapshotFailed, match="error KMS key is disabled"):
        best_or_failed(ec2, [snapshot])
    assert best_or_failed(ec2, find_snapshots(ec2, TAGS)) is None
    assert tags_of(ec2.describe_snapshots(SnapshotIds=[snapshot["SnapshotId"]])["Snapshots"][0])[
        UNUSABLE
    ].startswith("error KMS")
