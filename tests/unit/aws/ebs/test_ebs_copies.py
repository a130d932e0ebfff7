"""One copy of a snapshot in each region and under each key."""

from typing import Any

import pytest
from tests.support.moto_server import REGION, MotoServer
from tests.unit.aws.ebs.conftest import OTHER_REGION, TAGS

from imagenet_etl.aws.ebs.copies import copy_snapshot, copy_tags
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
    copy = copy_snapshot(source, REGION, target, tags=TAGS | {UNUSABLE: "not for copies"})
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
    plain = copy_snapshot(source, REGION, target, tags=TAGS)
    keyed = copy_snapshot(source, REGION, target, tags=TAGS, kms_key=key)
    assert plain["SnapshotId"] != keyed["SnapshotId"]
    again = copy_snapshot(source, REGION, target, tags=TAGS, kms_key=key)
    assert again["SnapshotId"] == keyed["SnapshotId"]
    assert len(find_snapshots(target, copy_tags(source["SnapshotId"], key))) == 1


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
