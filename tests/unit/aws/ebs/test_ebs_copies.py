"""One copy of a snapshot in each region and under each key."""

from typing import Any

import pytest
from tests.support.moto_server import REGION, MotoServer
from tests.unit.aws.ebs.conftest import OTHER_REGION, TAGS

from imagenet_etl.aws.ebs.copies import copy_snapshot, find_copies
from imagenet_etl.aws.ebs.snapshot_state import mark_unusable
from imagenet_etl.aws.ebs.snapshots import create_snapshot, find_snapshots
from imagenet_etl.aws.ebs.tags import COPY_OF, UNUSABLE, tags_of
from imagenet_etl.errors import SnapshotFailed, StillPending


@pytest.fixture
def source(ec2: Any, volume: str) -> dict[str, Any]:
    return create_snapshot(ec2, volume, description="for a test", tags=TAGS)


@pytest.fixture
def target(moto: MotoServer) -> Any:
    return moto.client("ec2", region_name=OTHER_REGION)


def test_copy_bears_the_tags_and_its_source(source: dict[str, Any], target: Any) -> None:
    copy = copy_snapshot(source, REGION, target, tags=TAGS)
    assert copy["SnapshotId"] != source["SnapshotId"]
    assert tags_of(copy) == TAGS | {COPY_OF: source["SnapshotId"]}
    assert copy["State"] == "completed"


def test_second_call_finds_the_first_copy(source: dict[str, Any], target: Any) -> None:
    copies = [copy_snapshot(source, REGION, target, tags=TAGS) for _ in range(2)]
    assert copies[0]["SnapshotId"] == copies[1]["SnapshotId"]


def test_another_key_makes_another_copy(
    source: dict[str, Any], target: Any, moto: MotoServer
) -> None:
    key = moto.client("kms", region_name=OTHER_REGION).create_key()["KeyMetadata"]["Arn"]
    asked = [{"kms_key": key}, {}, {"kms_key": key}, {}]
    copies = [
        copy_snapshot(source, REGION, target, tags=TAGS, **more)["SnapshotId"] for more in asked
    ]
    assert copies[:2] == copies[2:]
    assert copies[0] != copies[1]
    assert len(find_copies(target, source["SnapshotId"], key)) == 1


def test_copy_under_another_key_is_not_one_under_the_default_key(
    source: dict[str, Any], target: Any, moto: MotoServer
) -> None:
    key = moto.client("kms", region_name=OTHER_REGION).create_key()["KeyMetadata"]["Arn"]
    keyed = copy_snapshot(source, REGION, target, tags=TAGS, kms_key=key)
    sealed = copy_snapshot(source, REGION, target, tags=TAGS, encrypted=True)
    assert sealed["SnapshotId"] != keyed["SnapshotId"]


def test_plain_copy_does_when_none_is_asked_to_be_encrypted(
    source: dict[str, Any], target: Any
) -> None:
    plain = copy_snapshot(source, REGION, target, tags=TAGS)
    sealed = copy_snapshot(source, REGION, target, tags=TAGS, encrypted=True)
    assert plain["SnapshotId"] != sealed["SnapshotId"]


def test_source_has_to_be_complete(source: dict[str, Any], target: Any) -> None:
    with pytest.raises(StillPending, match="cannot be copied yet"):
        copy_snapshot(source | {"State": "pending"}, REGION, target, tags=TAGS)
    with pytest.raises(SnapshotFailed, match="error no key"):
        copy_snapshot(
            source | {"State": "error", "StateMessage": "no key"}, REGION, target, tags=TAGS
        )
    assert find_snapshots(target, TAGS) == []


def test_mark_of_the_source_is_not_lost_by_copying(
    source: dict[str, Any], ec2: Any, target: Any
) -> None:
    mark_unusable(ec2, source["SnapshotId"], "thawed too early")
    (marked,) = find_snapshots(ec2, TAGS | {UNUSABLE: "thawed too early"})
    with pytest.raises(SnapshotFailed, match="marked unusable: found thawed too early"):
        copy_snapshot(marked, REGION, target, tags=TAGS)
    assert find_snapshots(target, TAGS) == []
