"""A version's snapshot goes to other regions and to other accounts."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer
from tests.unit.aws.conftest import with_settings
from tests.unit.aws.ebs.conftest import OTHER_REGION

from imagenet_etl.aws.ebs.sharing import shared_with
from imagenet_etl.aws.ebs.tags import COPY_OF, MANIFEST, tags_of
from imagenet_etl.build import Build
from imagenet_etl.errors import NothingToDo, SharingRefused, StageNotDone, StillPending
from imagenet_etl.pipeline import run_stage

HOME, THIRD = "us-east-1", "ap-southeast-2"
FRIEND = "111122223333"


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    with fault_proxy(moto.url) as running:
        yield running


@pytest.fixture
def build(packed: Build, proxy: FaultProxy, volume: str) -> Iterator[Build]:
    """A version whose snapshot is taken, to be copied and shared."""
    settings: dict[str, Any] = {
        "ebs_volume_id": volume, "snapshot_regions": (HOME, OTHER_REGION, THIRD),
        "share_with": (FRIEND,), "accept_licence": True,
    }  # fmt: skip
    build = with_settings(packed, proxy.client, **settings)
    run_stage(build, "snapshot_ebs")
    yield build
    for stage in ("snapshot_ebs", "copy_snapshot", "share_snapshot"):
        packed.storage.delete(f"{packed.work}/{stage}")


def all_snapshots(moto: MotoServer, region: str) -> list[dict[str, Any]]:
    ec2 = moto.client("ec2", region_name=region)
    found = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    return [item for item in found if tags_of(item).get(MANIFEST)]


def source_of(build: Build) -> str:
    return str(run_stage(build, "snapshot_ebs").receipt.facts["snapshot_id"])


def test_every_other_region_gets_a_copy(build: Build, moto: MotoServer) -> None:
    receipt = run_stage(build, "copy_snapshot").receipt
    assert receipt.facts["copies"].keys() == {OTHER_REGION, THIRD}
    for region, identifier in receipt.facts["copies"].items():
        (copy,) = all_snapshots(moto, region)
        assert copy["SnapshotId"] == identifier
        assert tags_of(copy)[COPY_OF] == source_of(build)
    assert len(all_snapshots(moto, HOME)) == 1


def test_second_run_and_lost_receipt_copy_nothing(build: Build, moto: MotoServer) -> None:
    first = run_stage(build, "copy_snapshot").receipt.facts
    assert run_stage(build, "copy_snapshot").reused
    build.storage.delete(f"{build.work}/copy_snapshot")
    assert run_stage(build, "copy_snapshot").receipt.facts == first


def test_deleted_copy_is_made_anew(build: Build, moto: MotoServer) -> None:
    copies = run_stage(build, "copy_snapshot").receipt.facts["copies"]
    moto.client("ec2", region_name=THIRD).delete_snapshot(SnapshotId=copies[THIRD])
    again = run_stage(build, "copy_snapshot").receipt.facts["copies"]
    assert again[OTHER_REGION] == copies[OTHER_REGION]
    assert again[THIRD] != copies[THIRD]


def test_all_copies_are_begun_before_one_is_waited_for(
    build: Build, proxy: FaultProxy, moto: MotoServer
) -> None:
    proxy.rewrite(
        "DescribeSnapshots",
        lambda body: (
            body.replace(b"<status>completed", b"<status>pending")
            if COPY_OF.encode() in body
            else body
        ),
    )
    for _ in range(2):
        with pytest.raises(StillPending, match="2 of 2 copies") as raised:
            run_stage(build, "copy_snapshot")
        assert raised.value.retry_after_s > 0
    assert proxy.calls.count("CopySnapshot") == 2


def test_home_gets_a_copy_only_under_a_key(build: Build, moto: MotoServer) -> None:
    for region in (HOME, OTHER_REGION, THIRD):
        kms = moto.client("kms", region_name=region)
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/datasets", TargetKeyId=key)
    build = with_settings(build, build.aws, snapshot_kms_key="alias/datasets")
    copies = run_stage(build, "copy_snapshot").receipt.facts["copies"]
    assert copies.keys() == {HOME, OTHER_REGION, THIRD}
    assert copies[HOME] != source_of(build)
    shared = run_stage(build, "share_snapshot").receipt.facts["shared"]
    assert shared == copies


def test_snapshot_and_copies_are_shared(build: Build, moto: MotoServer) -> None:
    copies = run_stage(build, "copy_snapshot").receipt.facts["copies"]
    facts = run_stage(build, "share_snapshot").receipt.facts
    assert facts["shared"] == {HOME: source_of(build)} | copies
    assert facts["accounts"] == [FRIEND]
    for region, identifier in facts["shared"].items():
        assert shared_with(moto.client("ec2", region_name=region), identifier) == {FRIEND}
    assert run_stage(build, "share_snapshot").reused


def test_share_that_was_taken_back_is_given_again(build: Build, moto: MotoServer) -> None:
    build = with_settings(build, build.aws, snapshot_regions=())
    run_stage(build, "share_snapshot")
    moto.client("ec2").modify_snapshot_attribute(
        SnapshotId=source_of(build), Attribute="createVolumePermission",
        OperationType="remove", UserIds=[FRIEND],
    )  # fmt: skip
    again = run_stage(build, "share_snapshot")
    assert not again.reused
    assert again.receipt.facts["added"] == [f"{HOME} {FRIEND}"]


def test_missing_copy_is_told_before_anything_is_shared(build: Build, proxy: FaultProxy) -> None:
    with pytest.raises(StageNotDone, match=f"no copy in {OTHER_REGION}|no copy in {THIRD}"):
        run_stage(build, "share_snapshot")
    assert "ModifySnapshotAttribute" not in proxy.calls


def test_licence_is_asked_for(build: Build, proxy: FaultProxy) -> None:
    build = with_settings(build, build.aws, accept_licence=False, snapshot_regions=())
    with pytest.raises(SharingRefused, match="licence"):
        run_stage(build, "share_snapshot")
    assert "ModifySnapshotAttribute" not in proxy.calls


@pytest.mark.parametrize("stage", ["copy_snapshot", "share_snapshot"])
@pytest.mark.parametrize(
    "settings", [{"ebs_volume_id": ""}, {"snapshot_regions": (), "share_with": ()}]
)
def test_nothing_is_done_that_was_not_asked_for(
    build: Build, stage: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(NothingToDo, match=r"no EBS volume id|no snapshot region|no account"):
        run_stage(with_settings(build, build.aws, **settings), stage)
