"""Snapshots of versions: our own are told by tags, another account's by what describes them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.moto_server import MotoServer
from tests.unit.aws.ebs.conftest import OTHER_REGION, TAGS

from imagenet_etl.aws.ebs.published import newest_snapshot, published_snapshots
from imagenet_etl.aws.ebs.snapshots import create_snapshot
from imagenet_etl.aws.ebs.tags import VERSION, DatasetTags
from imagenet_etl.errors import CloudNotFound

OURS = "123456789012"  # moto's account
TOLD = DatasetTags("tiny_imagenet", "v1", "ab" * 32, "datasets/tiny_imagenet/v1")
NAME = st.text("abcXYZ019._-", min_size=1, max_size=40)


def made(ec2: Any, volume: str, **changes: str) -> str:
    snapshot = create_snapshot(ec2, volume, description="for a test", tags=TAGS | changes)
    return str(snapshot["SnapshotId"])


def shared(ec2: Any, volume: str, description: str) -> str:
    """Make a snapshot as it looks in an account that it is shared with."""
    return str(ec2.create_snapshot(VolumeId=volume, Description=description)["SnapshotId"])


def test_newest_stands_last_and_is_chosen(ec2: Any, volume: str) -> None:
    identifiers = [made(ec2, volume, **{VERSION: name}) for name in ("v1", "v2")]
    found = [item["SnapshotId"] for item in published_snapshots(ec2, "tiny_imagenet")]
    assert sorted(found) == sorted(identifiers)
    assert newest_snapshot(ec2, "tiny_imagenet")["SnapshotId"] == found[-1]
    assert newest_snapshot(ec2, "tiny_imagenet", "v1")["SnapshotId"] == identifiers[0]


def test_missing_one_is_named_with_its_region(moto: MotoServer) -> None:
    ec2 = moto.client("ec2", region_name=OTHER_REGION)
    with pytest.raises(CloudNotFound, match=f"of ilsvrc2012, version v9, in {OTHER_REGION}"):
        newest_snapshot(ec2, "ilsvrc2012", "v9")


def test_shared_one_tells_by_its_description_what_its_tags_would(ec2: Any, volume: str) -> None:
    identifier = shared(ec2, volume, TOLD.description())
    found = newest_snapshot(ec2, "tiny_imagenet", owner=OURS)
    assert found["SnapshotId"] == identifier
    assert DatasetTags.of(found) == TOLD


@pytest.mark.parametrize(
    "description",
    [
        "",
        "Created by CreateImage(i-0123456789abcdef0)",
        "imagenet-etl tiny_imagenet/v1",
        TOLD.description().replace("tiny_imagenet/", "tiny_imagenet2/"),
        TOLD.description().replace("ab", "zz"),
    ],
)
def test_other_descriptions_are_not_taken(ec2: Any, volume: str, description: str) -> None:
    shared(ec2, volume, description)
    assert published_snapshots(ec2, "tiny_imagenet", owner=OURS) == []


def test_version_of_a_shared_one_can_be_named(ec2: Any, volume: str) -> None:
    for version in ("v1", "v10"):
        shared(ec2, volume, DatasetTags("tiny_imagenet", version, "ab" * 32, "x").description())
    (found,) = published_snapshots(ec2, "tiny_imagenet", "v1", OURS)
    assert DatasetTags.of(found).version == "v1"


def test_nobody_but_the_named_account_is_believed(ec2: Any, volume: str) -> None:
    shared(ec2, volume, TOLD.description())
    with pytest.raises(CloudNotFound, match="expected one that account 111122223333 shares"):
        newest_snapshot(ec2, "tiny_imagenet", owner="111122223333")


def test_shared_ones_are_not_ours_by_description_alone(ec2: Any, volume: str) -> None:
    shared(ec2, volume, TOLD.description())
    assert published_snapshots(ec2, "tiny_imagenet") == []


@given(NAME, NAME, st.text(st.characters(codec="ascii", min_codepoint=32), min_size=1, max_size=60))
def test_a_description_tells_what_it_was_made_of(dataset: str, version: str, path: str) -> None:
    told = DatasetTags(dataset, version, "0f" * 32, path)
    assert DatasetTags.told_by({"Description": told.description()}) == told


@pytest.mark.parametrize("path", ["", "x" * 160, "Bilder/für/v1"])
def test_a_path_that_does_not_fit_is_not_told_by_half(path: str) -> None:
    told = DatasetTags("tiny_imagenet", "v1", "ab" * 32, path).description()
    assert told == "imagenet-etl tiny_imagenet/v1"
