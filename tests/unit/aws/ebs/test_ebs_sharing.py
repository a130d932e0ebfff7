"""Who may use a snapshot, and what is refused before anything is changed."""

from typing import Any

import pytest
from botocore.stub import Stubber
from tests.support.moto_server import ACCOUNT_ID, MotoServer
from tests.unit.aws.ebs.conftest import TAGS

from imagenet_etl.aws.ebs.sharing import check_sharing, share_snapshot, shared_with
from imagenet_etl.aws.ebs.snapshots import create_snapshot
from imagenet_etl.aws.ebs.tags import UNUSABLE
from imagenet_etl.errors import SharingRefused

FRIENDS = ("111122223333", "444455556666")


@pytest.fixture
def snapshot(ec2: Any, volume: str) -> dict[str, Any]:
    return create_snapshot(ec2, volume, description="for a test", tags=TAGS)


@pytest.fixture
def kms(moto: MotoServer) -> Any:
    return moto.client("kms")


def share(ec2: Any, kms: Any, snapshot: dict[str, Any], *accounts: str) -> list[str]:
    return share_snapshot(ec2, kms, snapshot, accounts, accept_licence=True)


def test_only_those_who_lack_it_are_added(ec2: Any, kms: Any, snapshot: dict[str, Any]) -> None:
    assert share(ec2, kms, snapshot, FRIENDS[0]) == [FRIENDS[0]]
    assert share(ec2, kms, snapshot, *FRIENDS) == [FRIENDS[1]]
    assert share(ec2, kms, snapshot, *FRIENDS) == []
    assert shared_with(ec2, snapshot["SnapshotId"]) == set(FRIENDS)


def test_owner_needs_no_permission(ec2: Any, kms: Any, snapshot: dict[str, Any]) -> None:
    assert snapshot["OwnerId"] == ACCOUNT_ID
    assert share(ec2, kms, snapshot, ACCOUNT_ID, FRIENDS[0]) == [FRIENDS[0]]


@pytest.mark.parametrize(
    "account", ["all", "", "12345678901", "1111-2222-3333", "\uff1111122223333"]
)
def test_everybody_and_malformed_accounts_are_refused(
    ec2: Any, kms: Any, snapshot: dict[str, Any], account: str
) -> None:
    with pytest.raises(SharingRefused, match="account ids of 12 digits"):
        share(ec2, kms, snapshot, FRIENDS[0], account)
    assert shared_with(ec2, snapshot["SnapshotId"]) == set()


def test_licence_has_to_be_accepted(ec2: Any, kms: Any, snapshot: dict[str, Any]) -> None:
    with pytest.raises(SharingRefused, match="nobody says that the licence allows it"):
        share_snapshot(ec2, kms, snapshot, FRIENDS, accept_licence=False)
    assert shared_with(ec2, snapshot["SnapshotId"]) == set()


def test_unusable_snapshot_is_refused(ec2: Any, kms: Any, snapshot: dict[str, Any]) -> None:
    marked = snapshot | {"Tags": [{"Key": UNUSABLE, "Value": "thawed too early"}]}
    with pytest.raises(SharingRefused, match="unusable: found thawed too early"):
        share(ec2, kms, marked, *FRIENDS)


def test_public_snapshot_is_not_taken_for_a_private_one(
    ec2: Any, kms: Any, snapshot: dict[str, Any]
) -> None:
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot["SnapshotId"], Attribute="createVolumePermission",
        OperationType="add", GroupNames=["all"],
    )  # fmt: skip
    with pytest.raises(SharingRefused, match="is public"):
        share(ec2, kms, snapshot, *FRIENDS)


def under_key(kms: Any, snapshot: dict[str, Any], **metadata: str) -> dict[str, Any]:
    """Return the snapshot as if a key encrypted it of which KMS says this."""
    stubber = Stubber(kms)
    described = {"KeyId": "key-1", "KeyManager": "CUSTOMER", "KeyState": "Enabled"} | metadata
    stubber.add_response("describe_key", {"KeyMetadata": described}, {"KeyId": "key-1"})
    stubber.activate()
    return snapshot | {"Encrypted": True, "KmsKeyId": "key-1"}


def test_default_key_is_refused(ec2: Any, kms: Any, snapshot: dict[str, Any]) -> None:
    sealed = under_key(kms, snapshot, KeyManager="AWS")
    with pytest.raises(SharingRefused, match="the account's default key"):
        check_sharing(ec2, kms, sealed, FRIENDS, accept_licence=True)


def test_disabled_key_is_refused(ec2: Any, kms: Any, snapshot: dict[str, Any]) -> None:
    sealed = under_key(kms, snapshot, KeyState="PendingDeletion")
    with pytest.raises(SharingRefused, match="key-1 PendingDeletion"):
        check_sharing(ec2, kms, sealed, FRIENDS, accept_licence=True)


def test_key_that_is_not_told_is_refused(ec2: Any, kms: Any, snapshot: dict[str, Any]) -> None:
    with pytest.raises(SharingRefused, match="does not tell its key"):
        share(ec2, kms, snapshot | {"Encrypted": True, "KmsKeyId": ""}, *FRIENDS)


def test_key_of_ones_own_may_be_shared(ec2: Any, kms: Any, snapshot: dict[str, Any]) -> None:
    assert share(ec2, kms, under_key(kms, snapshot), FRIENDS[0]) == [FRIENDS[0]]
