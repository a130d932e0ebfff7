"""EC2 leads a token to what it has made for a day, even if that was deleted meanwhile."""

from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from imagenet_etl.aws.ebs.snapshots import create_snapshot
from imagenet_etl.aws.ebs.volumes import VolumeRequest, create_volume, delete_volume
from imagenet_etl.errors import StillPending, VolumeFailed

ZONE = "us-east-1a"
EMPTY = VolumeRequest(ZONE, size_gib=10)


class Honouring:
    """EC2 with the tokens that the server below does not look at."""

    def __init__(self, ec2: Any) -> None:
        self._ec2 = ec2
        self.made: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.mismatches = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ec2, name)

    def create_volume(self, **asked: Any) -> dict[str, Any]:
        before, reply = self.made.get(asked["ClientToken"], (None, {}))
        if self.mismatches or before not in (None, asked):
            self.mismatches -= 1
            error = {"Error": {"Code": "IdempotentParameterMismatch", "Message": ""}}
            raise ClientError(error, "CreateVolume")
        if before is None:
            reply = self._ec2.create_volume(**asked)
            self.made[asked["ClientToken"]] = (asked, reply)
        return reply

    def grow_old(self) -> None:
        for _, reply in self.made.values():
            reply["CreateTime"] -= timedelta(minutes=10)


@pytest.fixture
def tokens(ec2: Any) -> Honouring:
    return Honouring(ec2)


def test_next_run_is_not_led_to_what_was_cleaned_up(tokens: Honouring) -> None:
    first = create_volume(tokens, EMPTY, "deploy", "run 1")
    delete_volume(tokens, first)
    assert create_volume(tokens, EMPTY, "deploy", "run 2") != first


def test_same_run_asks_again_as_often_as_it_has_cleaned_up(tokens: Honouring) -> None:
    made = set()
    for _ in range(6):
        volume = create_volume(tokens, EMPTY, "deploy", "run 1")
        made.add(volume)
        delete_volume(tokens, volume)
        tokens.grow_old()
    assert len(made) == 6


def test_volume_that_does_not_show_yet_is_not_made_twice(tokens: Honouring) -> None:
    delete_volume(tokens, create_volume(tokens, EMPTY, "deploy"))
    with pytest.raises(StillPending, match="does not show it yet"):
        create_volume(tokens, EMPTY, "deploy")
    assert len(tokens.made) == 1


def test_other_request_takes_another_token(tokens: Honouring) -> None:
    delete_volume(tokens, create_volume(tokens, EMPTY, "deploy"))
    create_volume(tokens, VolumeRequest(ZONE, size_gib=10, iops=4000), "deploy")
    assert len(tokens.made) == 2


def test_token_of_another_request_is_passed_over(tokens: Honouring) -> None:
    tokens.mismatches = 4
    assert create_volume(tokens, EMPTY, "deploy").startswith("vol-")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"size_gib": 11}, "expected .*Size 11, found .*Size 10"),
        ({"availability_zone": "us-east-1b"}, "expected AvailabilityZone us-east-1b"),
        ({"snapshot_id": "snap-1", "size_gib": 0}, "SnapshotId snap-1.*SnapshotId none"),
    ],
)
def test_volume_of_the_same_name_that_is_another_is_refused(
    ec2: Any, asked: dict[str, Any], told: str
) -> None:
    create_volume(ec2, EMPTY, "deploy")
    request = VolumeRequest(**{"availability_zone": ZONE, "size_gib": 10} | asked)
    with pytest.raises(VolumeFailed, match=told):
        create_volume(ec2, request, "deploy")


def test_volume_of_a_snapshot_is_found_again(ec2: Any, volume: str) -> None:
    snapshot = create_snapshot(ec2, volume, description="", tags={"a": "b"})["SnapshotId"]
    request = VolumeRequest(ZONE, snapshot)
    assert create_volume(ec2, request, "deploy") == create_volume(ec2, request, "deploy")
